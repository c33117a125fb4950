#!/usr/bin/env bash
# Has Autobahn judge how our sessions keep RFC 6455: all its cases but those of a
# compression that we do not offer (12, 13).
#
#   tests/conformance/run.sh ECHO FOLDER    the echo to judge, and where the
#                                           report goes
set -euo pipefail

echo=$1 report=$2
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
suite=$root/.servers/autobahn
python=$root/.servers/bin/autobahn-python

rm -rf "$report"
mkdir -p "$report"
"$echo" >"$report/address" &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
until [ -s "$report/address" ]; do
    kill -0 "$server" 2>/dev/null || { echo "the echo ended" >&2; exit 1; }
    sleep 0.1
done
address=$(cat "$report/address")

if [ -d "$suite/autobahntestsuite" ]; then
    cat >"$report/spec.json" <<SPEC
{
    "outdir": "$report",
    "servers": [{ "agent": "usher", "url": "ws://$address" }],
    "cases": ["*"],
    "exclude-cases": ["12.*", "13.*"],
    "exclude-agent-cases": {}
}
SPEC
    driver=autobahntestsuite
    run=("$python" -W ignore -c "import site; site.addsitedir('$suite'); from autobahntestsuite import wstest; wstest.run()"
        -m fuzzingclient -s "$report/spec.json")
else
    driver=kosoku
    run=("$python" -c "import site; site.addsitedir('$suite'); from kosoku import _cli; _cli.main()"
        -x '12.*' -x '13.*' -o "$report" "$address")
fi
version=$(sed -n 's/^Version: //p' "$suite/$driver"-*.dist-info/METADATA)
echo "Autobahn: $driver $version on $("$python" --version 2>&1)"
if ! "${run[@]}" >"$report/log" 2>&1; then
    tail -n 20 "$report/log" >&2
fi
python3 "$root/tests/conformance/judge.py" "$report/index.json"
