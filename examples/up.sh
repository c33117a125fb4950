#!/usr/bin/env bash
# The real thing on one machine: nats-server with JetStream, redis-server, and two
# gateways. Each line of output says whose it is; Ctrl-C stops all of them, the
# gateways by a drain. `make up` builds what this runs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usher=${1:?the usher program to run}
tests/servers.sh >/dev/null
store=$(mktemp -d)
declare -a pids=()

# start NAME COMMAND...: in the background, its output behind its name. Without a
# process group's Ctrl-C, so that the order of stopping is ours.
start() {
    local name=$1
    shift
    setsid "$@" > >(sed -u "s/^/$(printf '%-8s' "$name")| /") 2>&1 &
    pids+=($!)
}

stop() {
    trap '' INT TERM
    printf '\nup      | stopping\n'
    # The last started first: gateways say goodbye while NATS is still there.
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        kill -TERM "${pids[i]}" 2>/dev/null || true
        wait "${pids[i]}" 2>/dev/null || true
    done
    rm -rf "$store"
    exit 0
}
trap stop INT TERM

gateway() {
    local name=$1 public=$2 grpc=$3 ops=$4
    start "$name" env \
        USHER_PUBLIC__LISTEN="127.0.0.1:$public" \
        USHER_GRPC__LISTEN="127.0.0.1:$grpc" \
        USHER_OPS__LISTEN="127.0.0.1:$ops" \
        USHER_LOG__FORMAT=text USHER_DRAIN__DELAY=0s USHER_DRAIN__WINDOW=1s \
        "$usher" serve --demo
}

start nats .servers/bin/nats-server -a 127.0.0.1 -p 4222 -js -sd "$store/nats"
start redis .servers/bin/redis-server --bind 127.0.0.1 --port 6379 --save '' --dir "$store"
gateway usher-1 8080 9090 9100
gateway usher-2 8081 9091 9101

cat <<TXT
up      | gateways on http://127.0.0.1:8080 and http://127.0.0.1:8081, NATS on 4222, Redis on 6379
up      | follow a user on the one:   $usher listen --user 42 --grpc 127.0.0.1:9091 --public http://127.0.0.1:8081
up      | publish from anywhere:      nats pub usher.user.42 '{"order":123}'
up      | or push through the other:  $usher push 42 '{"order":123}' --receipt
up      | Ctrl-C stops all
TXT

# Whoever ends first ends the rest: half of this is of no use.
wait -n "${pids[@]}" || true
printf 'up      | one of them has ended; see above for why (is another already running?)\n'
stop
