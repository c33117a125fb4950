#!/usr/bin/env bash
# What a release consists of, into dist/: `make dist` runs this.
#
#   usher-VERSION-TARGET           the program, static, built as for the image
#   usher-VERSION.cdx.json         what it is made of (SBOM, CycloneDX), with licences
#   usher-VERSION.tgz              the chart
#   usher-client-VERSION.tgz       the npm package
#   SHA256SUMS                     of all these: `sha256sum --check SHA256SUMS`
#
# A target that Rust has no standard library of here is left out, and said so. Which source it
# is comes from git, else from REVISION and SOURCE_DATE_EPOCH.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

targets='x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu'
cyclonedx='^0.5'

say() { printf '%s\n' "$*"; }
die() {
    say "make dist: $*" >&2
    exit 1
}

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
for file in helm/Chart.yaml clients/js/package.json; do
    found=$(sed -nE 's/^ *"?version"?: *"?([^",]*)"?,?$/\1/p' "$file" | head -n 1)
    [ "$found" = "$version" ] || die "Cargo.toml has version $version, and $file has $found: make them the same"
done
grep -qE "^## $version( |\$)" CHANGELOG.md || die "CHANGELOG.md has no section ## $version"
if [ -n "$(git status --porcelain 2>/dev/null)" ]; then
    say "This folder has changes that are in no commit; the program will name the commit before them."
fi
# For the SBOM: the same source gives the same file.
if [ "$(git rev-parse --show-toplevel 2>/dev/null)" = "$PWD" ]; then
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
fi
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-0}

if ! cargo cyclonedx --version >/dev/null 2>&1; then
    say "cargo-cyclonedx is missing: installing it"
    (unset SOURCE_DATE_EPOCH && cargo install --locked --version "$cyclonedx" cargo-cyclonedx)
fi

rm -rf dist
mkdir dist

host=$(rustc -vV | sed -n 's/^host: //p')
for target in $targets; do
    if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
        say "$target: left out. To build for it: rustup target add $target"
        continue
    fi
    variables=(BUILD_TARGET="$target" CARGO_TARGET_DIR="$PWD/target/image")
    if [ "$target" != "$host" ]; then
        compiler=${target%%-*}-linux-gnu-gcc
        if ! command -v "$compiler" >/dev/null; then
            say "$target: left out. To build for it: apt-get install gcc-${target%%-*}-linux-gnu"
            continue
        fi
        linker=${target^^}
        variables+=("CARGO_TARGET_${linker//-/_}_LINKER=$compiler" "CC_${target//-/_}=$compiler")
    fi
    say "$target: building"
    env "${variables[@]}" image/build.sh
    install -m 0755 target/image/usher "dist/usher-$version-$target"
done
programs=(dist/usher-"$version"-*)
[ -e "${programs[0]}" ] || die "there is no target to build for: see above"

sbom=usher-$version.cdx
cargo cyclonedx --quiet --format json --spec-version 1.5 --no-build-deps --all \
    --target x86_64-unknown-linux-gnu --override-filename "$sbom"
# It names its own packages by their folder. No path of this machine goes out.
sed "s#path+file://$PWD#path+file:///usher#g" "$sbom.json" >"dist/$sbom.json"
rm "$sbom.json"
# The same of the macro that the program is built with.
rm -f source/"$sbom.json"

.servers/bin/helm package helm --destination dist
(cd clients/js && PATH=$OLDPWD/.servers/bin:$PATH npm pack --silent --pack-destination "$OLDPWD/dist")

(cd dist && sha256sum -- * >../dist.sums && mv ../dist.sums SHA256SUMS)
say
(cd dist && ls -l)
