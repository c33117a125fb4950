#!/bin/sh
# Builds the program of the image: static, and the same to the byte wherever it is built
# from the same sources by the same compiler. The Dockerfile runs this, and so does
# image/check.sh, so that what is proven is what is shipped.
#
#   image/build.sh dependencies   only what Cargo.lock names, with nothing in src
#   image/build.sh                the program, into $CARGO_TARGET_DIR/usher
#
# REVISION and SOURCE_DATE_EPOCH say which source it is where there is no git. BUILD_TARGET is
# another target than this machine's.
set -eu

cd "$(dirname "$0")/.."
target=${BUILD_TARGET:-$(rustc -vV | sed -n 's/^host: //p')}
CARGO_HOME=${CARGO_HOME:-$HOME/.cargo}
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/image}
# No path of this machine in the program: neither from Rust nor from C (jemalloc, ring).
maps="$PWD=/usher $CARGO_HOME=/cargo $CARGO_TARGET_DIR=/target"
RUSTFLAGS="-C target-feature=+crt-static"
CFLAGS="-g0"
for map in $maps; do
    RUSTFLAGS="$RUSTFLAGS --remap-path-prefix=$map"
    CFLAGS="$CFLAGS -ffile-prefix-map=$map"
done
export CARGO_TARGET_DIR RUSTFLAGS CFLAGS
# Machines of ARM have pages of 4, 16 or 64 KiB, and jemalloc refuses larger ones than it was built
# for: this fits all.
case $target in
aarch64-*) export JEMALLOC_SYS_WITH_LG_PAGE=16 ;;
esac
export CARGO_INCREMENTAL=0
export LC_ALL=C TZ=UTC

# A static program says nothing of what is in it. This writes a list of its crates into it, which
# scanners of images read (trivy, grype, `cargo audit bin`).
tools=$CARGO_TARGET_DIR/tools
if ! "$tools/bin/cargo-auditable" auditable --version >/dev/null 2>&1; then
    RUSTFLAGS='' CFLAGS='' cargo install --quiet --locked --root "$tools" --target-dir "$tools/target" \
        --version '^0.7' cargo-auditable
fi
PATH=$tools/bin:$PATH

if [ "${1-}" = dependencies ]; then
    mkdir -p src
    [ -e src/lib.rs ] || : >src/lib.rs
    [ -e src/main.rs ] || echo 'fn main() {}' >src/main.rs
fi
# With --target, the flags are for the program alone, not for what builds it.
cargo auditable build --release --locked --target "$target" --bin usher
cp "$CARGO_TARGET_DIR/$target/release/usher" "$CARGO_TARGET_DIR/usher"
