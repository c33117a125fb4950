# The judge of helm test. Its arguments say where the gateways are; the program is the
# other container's, which waits for it and is told to end.
set -eu
user=helm-test-judge-$$
work=${USHER_TEST_WORK:-/work}
pid=
usher=

end() {
  status=$?
  [ -z "${listener:-}" ] || kill "$listener" 2>/dev/null || true
  [ -z "$pid" ] || kill -INT "$pid" 2>/dev/null || true
  exit "$status"
}
trap end EXIT

# Tries "$@" for half a minute.
within() {
  what=$1
  shift
  tries=0
  until "$@"; do
    tries=$((tries + 1))
    if [ "$tries" -gt "${USHER_TEST_TRIES:-60}" ]; then
      echo "FAILED: $what"
      cat "$work/said" "$work/frames" 2>/dev/null || true
      exit 1
    fi
    sleep 0.5
  done
  echo "ok: $what"
}

find_program() {
  for folder in /proc/${USHER_TEST_PID:-[0-9]*}; do
    case "$({ tr '\0' ' ' <"$folder/cmdline"; } 2>/dev/null)" in
    */usher\ listen\ --user\ helm-test\ * | usher\ listen\ --user\ helm-test\ *)
      pid=${folder#/proc/}
      usher=$folder/root${USHER_TEST_PROGRAM:-/usher}
      [ -x "$usher" ] && return
      ;;
    esac
  done
  return 1
}
mint() { ticket=$("$usher" ticket "$user" "$@" 2>"$work/said") && [ -n "$ticket" ]; }
has() { grep -q "$1" "$work/frames"; }
push() { "$usher" push "$user" '{"helm":"test"}' --event helm.test --receipt "$@" 2>"$work/said" | grep -q '"queued"'; }

cd "$work"
: >frames
: >said
within "the program is there" find_program
within "a gateway mints a ticket" mint "$@"
"$usher" listen --ticket "$ticket" "$@" >frames 2>>said &
listener=$!
within "the ticket opens a session" has '"welcome"'
within "a push is queued to it" push "$@"
within "the message arrives" has '"helm":"test"'
echo "ok: minted, connected, received"
