# For each of the arguments, NAME or NAME=VERSION, prints a line `sbx-tool NAME VERSION SHA256`, the Cargo.lock that it was published
# with, and a line `sbx-end`.
set -eu
if ! command -v cargo >/dev/null; then
    # shellcheck disable=SC2016
    echo 'sbx: the image has no cargo; add `apt "cargo"` to `packages`, or take an image with Rust' >&2
    exit 69
fi
cache=${CARGO_HOME:-$HOME/.cargo}/registry/cache
for wanted; do
    name=${wanted%%=*}
    version=${wanted#"$name"}
    version=${version#=}
    rm -rf "$cache"
    work=$(mktemp -d)
    cd "$work"
    # Only what something depends on is downloaded without being built (`cargo info` asks no mirror that replaces a registry).
    mkdir src
    : >src/lib.rs
    printf '[package]\nname = "sbx"\nversion = "0.0.0"\n[dependencies]\n%s = "%s"\n' "$name" "${version:+=}${version:-*}" >Cargo.toml
    cargo fetch --quiet
    crate=$(ls "$cache"/*/"$name"-[0-9]*.crate)
    identity=$(basename "$crate" .crate)
    tar -xzf "$crate" -C "$work"
    if ! [ -f "$work/$identity/Cargo.lock" ]; then
        echo "sbx: $name was published without a Cargo.lock, so that nothing says what it is built of" >&2
        exit 65
    fi
    echo "sbx-tool $name ${identity#"$name"-} $(sha256sum "$crate" | cut -d' ' -f1)"
    cat "$work/$identity/Cargo.lock"
    printf '\nsbx-end\n'
done
