#!/usr/bin/env bash
# What can be proven of the image where there is no container engine: follows the
# Dockerfile's steps in a folder that has no more than .dockerignore lets through, and runs
# what comes out as a cluster would: in an empty root that cannot be written, as a user
# without rights, with no file but those that are mounted into any pod. Needs root, for chroot.
#
#   image/check.sh            builds, and runs it
#   image/check.sh twice      builds it in another folder too: both must be the same
#   IMAGE_KEEP=FILE image/check.sh         keeps what was built
#   IMAGE_PROGRAM=FILE image/check.sh      runs one that is built already
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
project=$PWD
say() { printf '%s\n' "$*"; }
die() {
    say "image/check.sh: $*" >&2
    exit 1
}
[ "$(id -u)" = 0 ] || die "needs root, to run the program in a root of its own"

work=$(mktemp -d)
pids=()
end() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for mount in "$work"/rootfs/dev/* "$work/rootfs"; do umount "$mount" 2>/dev/null || true; done
    rm -rf --one-file-system "$work"
}
trap end EXIT

# The Dockerfile's steps, in the folder $1.
build() {
    local folder=$1 path
    mkdir -p "$folder/image"
    for path in Cargo.toml Cargo.lock build.rs .cargo proto source; do cp -r "$path" "$folder/"; done
    cp image/build.sh "$folder/image/"
    (cd "$folder" && CARGO_TARGET_DIR=$folder.target image/build.sh dependencies) || die "the dependencies do not build"
    cp -r src "$folder/"
    find "$folder/src" -type f -exec touch {} +
    (cd "$folder" && CARGO_TARGET_DIR=$folder.target image/build.sh) || die "the program does not build"
}
# Each step copies what .dockerignore lets through.
for path in $(sed -n 's/^COPY \(.*\) [^ ]*$/\1/p' Dockerfile | grep -v -- --from); do
    grep -qxF "!$path" .dockerignore || die ".dockerignore keeps $path out"
done

program=$work/one.target/usher
if [ -n "${IMAGE_PROGRAM-}" ]; then
    mkdir -p "$work/one.target"
    cp "$IMAGE_PROGRAM" "$program"
else
    start=$SECONDS
    build "$work/one"
    say "built in $((SECONDS - start)) s"
fi
say "$(stat -c %s "$program") bytes, sha256 $(sha256sum <"$program" | cut -c1-64)"
if [ "${1-}" = twice ]; then
    build "$work/another/folder"
    cmp "$program" "$work/another/folder.target/usher" || die "the same sources gave another program"
    say "built once more, in another folder: the same to the byte"
fi
if readelf -lW "$program" | grep -q INTERP; then die "the program asks for a loader"; fi
if readelf -dW "$program" | grep -q NEEDED; then die "the program asks for libraries"; fi
say "static: it asks for no loader and no library"
objcopy --dump-section ".dep-v0=$work/crates.zlib" "$program" "$work/copy" 2>/dev/null || die "the program does not say which crates are in it"
say "it says which crates are in it: $(python3 -c 'import json, sys, zlib; print(len(json.loads(zlib.decompress(open(sys.argv[1], "rb").read()))["packages"]))' "$work/crates.zlib")"
if grep -aqF -e "$work" -e "$HOME/" "$program"; then die "a path of this machine is in the program"; fi
say "no path of this machine is in it"
if [ -n "${IMAGE_KEEP-}" ]; then cp "$program" "$IMAGE_KEEP"; fi

# An empty root: the image's two files, and what is mounted into any pod.
mkdir "$work/rootfs"
mount -t tmpfs -o size=256m,mode=755 tmpfs "$work/rootfs"
mkdir -p "$work/rootfs/etc/usher" "$work/rootfs/etc/ssl/certs" "$work/rootfs/dev"
cp /etc/ssl/certs/ca-certificates.crt "$work/rootfs/etc/ssl/certs/"
install -m 0755 "$program" "$work/rootfs/usher"
printf '127.0.0.1 localhost\n' >"$work/rootfs/etc/hosts"
# As a cluster's, with its search list; who answers is below.
printf 'search push.svc.cluster.local svc.cluster.local cluster.local\nnameserver 127.0.0.99\noptions ndots:5 timeout:1 attempts:2\n' >"$work/rootfs/etc/resolv.conf"
python3 - >"$work/dns.log" 2>&1 <<'PYTHON' &
import socket

# Knows servers.push.svc.cluster.local, and nothing else.
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.99", 53))
while True:
    query, client = server.recvfrom(512)
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += query[at] + 1
    question, kind = query[12 : at + 5], query[at + 2]
    known = ".".join(labels) == "servers.push.svc.cluster.local"
    answers = known and kind == 1
    head = query[:2] + bytes([0x85, 0x80 if known else 0x83, 0, 1, 0, int(answers), 0, 0, 0, 0])
    record = b"\xc0\x0c\0\1\0\1\0\0\0\x05\0\4\x7f\0\0\1" if answers else b""
    server.sendto(head + question + record, client)
PYTHON
pids+=($!)
free() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
nats=$(free) redis=$(free) public=$(free) grpc=$(free) ops=$(free)
cat >"$work/rootfs/etc/usher/usher.toml" <<TOML
[public]
listen = "0.0.0.0:$public"
[grpc]
listen = "0.0.0.0:$grpc"
allow_anonymous = true
[ops]
listen = "0.0.0.0:$ops"
[nats]
url = "nats://servers:$nats"
[redis]
url = "redis://servers.push.svc:$redis"
[drain]
delay = "500ms"
window = "1s"
TOML
for device in null zero full random urandom; do # as every engine gives them
    : >"$work/rootfs/dev/$device"
    mount --bind "/dev/$device" "$work/rootfs/dev/$device"
done
mount -o remount,ro "$work/rootfs"
say "its root: $(cd "$work/rootfs" && find . -type f | sort | tr '\n' ' ')(nothing can be written)"
# With the user go all rights; what a container engine does besides, this does not.
in_it=(env -i SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt "$(type -P chroot)" --userspec=65532:65532 --groups= "$work/rootfs" /usher)

"$project/.servers/bin/nats-server" --addr 127.0.0.1 --port "$nats" >"$work/nats.log" 2>&1 &
pids+=($!)
"$project/.servers/bin/redis-server" --bind 127.0.0.1 --port "$redis" --save '' --dir "$work" >"$work/redis.log" 2>&1 &
pids+=($!)

"${in_it[@]}" --version
for _ in $(seq 50); do "${in_it[@]}" check --config /etc/usher/usher.toml >"$work/check" 2>&1 && break || sleep 0.1; done
cat "$work/check"
"${in_it[@]}" check --config /etc/usher/usher.toml >/dev/null || die "it does not reach servers by their names"
say "it finds NATS (by servers) and Redis (by servers.push.svc) through the DNS of its resolv.conf"

"${in_it[@]}" serve --config /etc/usher/usher.toml >"$work/usher.log" 2>&1 &
gateway=$!
pids+=("$gateway")
get() { python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).status)' "http://127.0.0.1:$ops/$1" 2>/dev/null || echo 0; }
for _ in $(seq 100); do [ "$(get readyz)" = 200 ] && break || sleep 0.1; done
[ "$(get readyz)" = 200 ] || { cat "$work/usher.log"; die "it does not become ready"; }
say "/healthz $(get healthz), /readyz $(get readyz), /metrics $(get metrics)"
# chroot becomes the program, so that this is the gateway itself.
say "$(grep -E '^(Uid|CapEff|CapPrm)' "/proc/$gateway/status" | tr '\n\t' '  ')"
grep -qE '^Uid:\s65532\s65532\s65532' "/proc/$gateway/status" || die "it runs as another user"
grep -qE '^CapEff:\s0+$' "/proc/$gateway/status" || die "it has rights"

"${in_it[@]}" listen --user 42 --config /etc/usher/usher.toml --public "http://127.0.0.1:$public" --grpc "127.0.0.1:$grpc" >"$work/frames" 2>"$work/listen.log" &
pids+=($!)
for _ in $(seq 100); do grep -q welcome "$work/frames" && break || sleep 0.1; done
"${in_it[@]}" push 42 '{"order":123}' --receipt --grpc "127.0.0.1:$grpc"
for _ in $(seq 100); do grep -q '"order":123' "$work/frames" && break || sleep 0.1; done
grep -q '"order":123' "$work/frames" || { cat "$work/listen.log"; die "the message does not arrive"; }
say "a ticket, a session, a push, a message: $(grep order "$work/frames")"

kill -TERM "$gateway"
status=0
wait "$gateway" || status=$?
[ "$status" = 0 ] || die "after SIGTERM it ended with $status"
say "SIGTERM: drained, exit 0"
