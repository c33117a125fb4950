#!/usr/bin/env bash
# The real thing on one machine: nats-server with JetStream, redis-server, and two
# gateways. `make up` builds the program that this runs.
#
#   examples/up.sh USHER    runs them until Ctrl-C. Each line of output begins with the name
#                           of the process that it is of
#   examples/up.sh check    only looks whether the ports are free
#
# The ports, all on 127.0.0.1, are those of these variables:
#
#   UP_NATS_PORT    4222                    UP_REDIS_PORT     6379
#   UP_PUBLIC_PORT_1, UP_PUBLIC_PORT_2      8080 and 8081     browsers
#   UP_GRPC_PORT_1, UP_GRPC_PORT_2          9090 and 9091     the push API
#   UP_OPS_PORT_1, UP_OPS_PORT_2            9100 and 9101     operators
#
# Ctrl-C drains the gateways: clients get `goodbye`, and are closed with 1012. A second
# Ctrl-C kills what is left.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usher=${1:?the usher program to run}
usher=${usher#"$PWD/"}
gateways=(usher-1 usher-2)
declare -A port=(
    [UP_NATS_PORT]=${UP_NATS_PORT:-4222} [UP_REDIS_PORT]=${UP_REDIS_PORT:-6379}
    [UP_PUBLIC_PORT_1]=${UP_PUBLIC_PORT_1:-8080} [UP_PUBLIC_PORT_2]=${UP_PUBLIC_PORT_2:-8081}
    [UP_GRPC_PORT_1]=${UP_GRPC_PORT_1:-9090} [UP_GRPC_PORT_2]=${UP_GRPC_PORT_2:-9091}
    [UP_OPS_PORT_1]=${UP_OPS_PORT_1:-9100} [UP_OPS_PORT_2]=${UP_OPS_PORT_2:-9101}
)
variables=(UP_NATS_PORT UP_REDIS_PORT UP_PUBLIC_PORT_1 UP_PUBLIC_PORT_2
    UP_GRPC_PORT_1 UP_GRPC_PORT_2 UP_OPS_PORT_1 UP_OPS_PORT_2)

say() { printf '%-8s| %s\n' up "$*"; }

# Whether somebody listens on this port.
is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Who listens on a port, as far as this user may know: "NAME (pid NUMBER)".
holder() {
    local found=
    if command -v ss >/dev/null; then
        found=$(ss -Hltnp "sport = :$1" 2>/dev/null | sed -nE 's/.*users:\(\("([^"]*)",pid=([0-9]+).*/\1 (pid \2)/p' | head -n 1)
    fi
    if [ -z "$found" ] && command -v lsof >/dev/null; then
        found=$(lsof -nP -iTCP:"$1" -sTCP:LISTEN 2>/dev/null | awk 'NR == 2 { print $1 " (pid " $2 ")" }')
    fi
    printf '%s' "${found:-another process}"
}

check_ports() {
    local variable number other bad=
    for variable in "${variables[@]}"; do
        number=${port[$variable]}
        if ! [[ $number =~ ^[1-9][0-9]{0,4}$ ]] || ((number > 65535)); then
            say "$variable=$number is not a port: give a number from 1 to 65535"
            bad=yes
            continue
        fi
        for other in "${variables[@]}"; do
            [ "$other" != "$variable" ] || break
            if [ "${port[$other]}" = "$number" ]; then
                say "$variable and $other are both $number: give each a port of its own"
                bad=yes
            fi
        done
        if is_taken "$number"; then
            say "port $number is in use by $(holder "$number"): end that, or choose another port: $variable=PORT make up"
            bad=yes
        fi
    done
    [ -z "$bad" ] || exit 1
}

check_ports
if [ "$usher" = check ]; then exit; fi
tests/servers.sh up >/dev/null

store=$(mktemp -d)
declare -A pid=() # those that run, by name
declare -a prefixers=()

# start NAME COMMAND...: in the background, its output behind its name. A terminal's Ctrl-C
# goes to all processes of this one's group. `setsid` keeps the servers out of it, since they
# stop in our order; the prefixers ignore it, since they must show what a server says at the end.
start() {
    local name=$1 pipe=$store/$1.log
    shift
    rm -f "$pipe"
    mkfifo "$pipe"
    (
        trap '' INT TERM USR1
        exec sed -u "s/^/$(printf '%-8s' "$name")| /" <"$pipe"
    ) &
    prefixers+=($!)
    setsid "$@" >"$pipe" 2>&1 &
    pid[$name]=$!
}

gateway() {
    local name=$1 number=${1#usher-}
    start "$name" env \
        USHER_PUBLIC__LISTEN="127.0.0.1:${port[UP_PUBLIC_PORT_$number]}" \
        USHER_GRPC__LISTEN="127.0.0.1:${port[UP_GRPC_PORT_$number]}" \
        USHER_OPS__LISTEN="127.0.0.1:${port[UP_OPS_PORT_$number]}" \
        USHER_NATS__URL="nats://127.0.0.1:${port[UP_NATS_PORT]}" \
        USHER_REDIS__URL="redis://127.0.0.1:${port[UP_REDIS_PORT]}" \
        USHER_LOG__FORMAT=text USHER_DRAIN__DELAY=0s USHER_DRAIN__WINDOW=1s \
        "$usher" serve --demo
}

runs() { [ -n "${pid[$1]-}" ] && kill -0 "${pid[$1]}" 2>/dev/null; }

# ends NAME...: sends SIGTERM, and waits until they have ended.
ends() {
    local name
    for name in "$@"; do if runs "$name"; then kill -TERM "${pid[$name]}" || true; fi; done
    for name in "$@"; do
        # A second Ctrl-C interrupts the wait.
        while runs "$name"; do wait "${pid[$name]}" 2>/dev/null || true; done
    done
}

stop() {
    local status=$1
    trap '' TERM USR1
    trap 'kill -KILL "${pid[@]}" 2>/dev/null || true' INT
    say "stopping: the gateways say goodbye to their clients"
    # They need NATS and Redis until then.
    ends "${gateways[@]}"
    ends redis nats
    wait "${prefixers[@]}" 2>/dev/null || true
    rm -rf "$store"
    say "stopped"
    exit "$status"
}
trap 'stop 0' INT TERM

# What /readyz of a gateway says: "200", or something else.
readyz() {
    local status=
    { read -r _ status _ < <(
        exec 3<>"/dev/tcp/127.0.0.1/${port[UP_OPS_PORT_${1#usher-}]}" &&
            printf 'GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n' >&3 && cat <&3
    ); } 2>/dev/null || true
    printf '%s' "$status"
}

# ready NAME...: waits until these take sessions.
ready() {
    local name server
    for name in "$@"; do
        until [ "$(readyz "$name")" = 200 ]; do
            for server in nats redis "$name"; do
                if ! runs "$server"; then
                    say "$server has ended; its last lines say why"
                    stop 1
                fi
            done
            sleep 0.1
        done
    done
}

# The command that kills a gateway, and the one that starts it again.
commands() {
    printf '  # kill %s, and start it again\n' "$1"
    printf '  kill -KILL %s\n' "${pid[$1]}"
    printf '  kill -USR1 %s\n' "$$"
}

start_again() {
    local name
    for name in "${gateways[@]}"; do
        if ! runs "$name"; then
            gateway "$name"
            ready "$name"
            say "$name is back:"
            commands "$name"
        fi
    done
}
again=
trap 'again=yes' USR1

start nats .servers/bin/nats-server -a 127.0.0.1 -p "${port[UP_NATS_PORT]}" -js -sd "$store/nats"
start redis .servers/bin/redis-server --bind 127.0.0.1 --port "${port[UP_REDIS_PORT]}" --save '' --dir "$store"
for name in "${gateways[@]}"; do gateway "$name"; done
ready "${gateways[@]}"

nats_option=
if [ "${port[UP_NATS_PORT]}" != 4222 ]; then nats_option=" --server nats://127.0.0.1:${port[UP_NATS_PORT]}"; fi
say "NATS is on 127.0.0.1:${port[UP_NATS_PORT]}, Redis on 127.0.0.1:${port[UP_REDIS_PORT]}, and two gateways:"
for number in 1 2; do
    say "usher-$number: a page to try at http://127.0.0.1:${port[UP_PUBLIC_PORT_$number]}/, operators' at http://127.0.0.1:${port[UP_OPS_PORT_$number]}/"
done
say "In another terminal:"
cat <<TXT
  # follow a user on usher-2
  $usher listen --user 42 --grpc 127.0.0.1:${port[UP_GRPC_PORT_2]} --public http://127.0.0.1:${port[UP_PUBLIC_PORT_2]}
  # push through usher-1
  $usher push 42 '{"order":123}' --receipt --grpc 127.0.0.1:${port[UP_GRPC_PORT_1]}
  # publish by NATS, with its own command line
  nats pub usher.user.42 '{"order":123}'$nats_option
$(commands usher-1)
TXT
say "Ctrl-C stops all"

while :; do
    # It also ends when a signal comes.
    wait -n "${pid[@]}" 2>/dev/null || true
    for name in nats redis; do
        if ! runs "$name"; then
            say "$name has ended; its last lines say why"
            stop 1
        fi
    done
    for name in "${gateways[@]}"; do
        if [ -n "${pid[$name]-}" ] && ! runs "$name"; then
            unset "pid[$name]"
            say "$name has ended. To start it again: kill -USR1 $$"
        fi
    done
    if [ -n "$again" ]; then
        again=
        start_again
    fi
done
