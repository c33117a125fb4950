"""Judges objects by Kubernetes's schemas: JSON on standard input, one a line.

Prints how many were Kubernetes's own, or what is wrong with which. Strict: a field that
is not known is wrong, as is a version of Kubernetes that does not know the kind.
"""

import functools
import json
import os
import re
import sys

try:
    import jsonschema
    import kubernetes_validate
    import referencing
except ImportError as error:
    sys.exit(f"{error}: run tests/servers.sh chart")

# The oldest that Chart.yaml allows, one between, and the newest that is known.
VERSIONS = ["1.29.0", "1.33.0", "1.37.0"]
OTHERS = re.compile(r"\.(networking\.k8s\.io|traefik\.io|istio\.io|coreos\.com)/|^traefik\.io/")
FOLDER = os.path.join(os.path.dirname(kubernetes_validate.__file__), "kubernetes-json-schema")


def load(version, name):
    with open(f"{FOLDER}/v{version}-local-strict/{name}.json", encoding="utf-8") as file:
        return referencing.Resource.from_contents(json.load(file))


definitions = functools.cache(lambda version: load(version, "_definitions"))


@functools.cache
def validator(version, kind, api_version):
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    schema = load(version, f"{kind.lower()}-{group}")
    registry = definitions(version) @ (schema @ referencing.Registry())
    return jsonschema.Draft202012Validator(schema.contents, registry=registry)


def main():
    count = 0
    wrong = []
    for line in sys.stdin:
        item = json.loads(line)
        if OTHERS.search(item["apiVersion"]) and item["apiVersion"] != "networking.k8s.io/v1":
            continue
        count += 1
        name = f"{item['kind']} {item['metadata']['name']}"
        for version in VERSIONS:
            try:
                errors = validator(version, item["kind"], item["apiVersion"]).iter_errors(item)
            except FileNotFoundError:
                wrong.append(f"{version} knows no {item['apiVersion']} {item['kind']}")
                continue
            wrong += [f"{version}: {name}: {error.json_path}: {error.message}" for error in errors]
    if wrong:
        sys.exit("\n".join(wrong[:20]))
    print(count)


main()
