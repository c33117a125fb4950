// Judges objects that are not Kubernetes's own by their schemas: JSON on standard input, one
// a line. Prints how many there were, or what is wrong with which.
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const folder = resolve(process.argv[2]);
const packages = {
  "gateway.networking.k8s.io": "@kubernetes-models/gateway-api",
  "traefik.io": "@kubernetes-models/traefik",
  "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
  "networking.istio.io": "@kubernetes-models/istio",
};

// By path: some of the packages are modules of one sort, some of the other.
const models = async (group, version) => {
  const path = join(folder, packages[group], group, version, "index.js");
  const module = await import(pathToFileURL(path));
  return { ...module.default, ...module };
};

// The schemas let pass what they don't know, and a cluster drops it in silence. So each field
// must be in the declarations of its kind.
function declarations(file, known = new Set()) {
  if (known.has(file) || !existsSync(file)) return "";
  known.add(file);
  const text = readFileSync(file, "utf8");
  const imports = [...text.matchAll(/from "(\.[^"]+)"/g)];
  const others = imports.map(([, path]) => declarations(join(dirname(file), `${path.replace(/\.js$/, "")}.d.ts`), known));
  return text + others.join("");
}
const free = ["metadata", "labels", "annotations", "selector"];
function* fields(value) {
  if (Array.isArray(value)) for (const item of value) yield* fields(item);
  else if (value && typeof value === "object")
    for (const [key, inner] of Object.entries(value)) {
      yield key;
      if (!free.includes(key)) yield* fields(inner);
    }
}

const wrong = [];
let count = 0;
for (const line of readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  const object = JSON.parse(line);
  const [group, version] = object.apiVersion.split("/");
  if (!packages[group]) continue;
  count += 1;
  const name = `${object.kind} ${object.metadata.name}`;
  const Model = (await models(group, version))[object.kind];
  if (!Model) {
    wrong.push(`${packages[group]} knows no ${object.apiVersion} ${object.kind}`);
    continue;
  }
  try {
    const { apiVersion, kind, ...rest } = object;
    new Model(rest).validate();
    const known = declarations(join(folder, packages[group], group, version, `${object.kind}.d.ts`));
    for (const field of fields(rest)) {
      if (!new RegExp(`\\b${field}"?\\??:`).test(known)) wrong.push(`${name}: no field ${field}`);
    }
  } catch (error) {
    wrong.push(`${name}: ${error.message}`);
  }
}
if (wrong.length > 0) {
  console.log(wrong.slice(0, 20).join("\n"));
  process.exit(1);
}
console.log(count);
