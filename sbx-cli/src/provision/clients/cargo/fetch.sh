# Downloads archives. cargo-wanted: for each a line "NAME VERSION tool|crate".
set -eu
cache=${CARGO_HOME:-$HOME/.cargo}/registry/cache
one() {
    work=$(mktemp -d)
    cd "$work"
    mkdir src
    : >src/lib.rs
    printf '[package]\nname = "sbx"\nversion = "0.0.0"\n[dependencies]\n%s = "=%s"\n' "$1" "$2" >Cargo.toml
    cargo fetch --quiet 2>errors || gone "$1" "$2"
}
gone() {
    cat errors >&2
    if grep -q -e 'no matching package' -e 'failed to select a version' errors; then
        printf 'sbx-vanished\t%s\t%s\n' "$1" "$2"
    fi
    exit 1
}
# Whatever ends this, what has arrived is not fetched again.
keep() {
    while read -r name version kind; do
        cp "$cache"/*/"$name-$version.crate" /run/sbx/out 2>/dev/null || :
    done </run/sbx/in/cargo-wanted
}
trap keep EXIT
while read -r name version kind; do
    # The Cargo.lock of a tool has brought most of the others.
    if ! ls "$cache"/*/"$name-$version.crate" >/dev/null 2>&1; then
        one "$name" "$version"
    fi
    file=$(ls "$cache"/*/"$name-$version.crate")
    if [ "$kind" = tool ]; then
        work=$(mktemp -d)
        tar -xzf "$file" -C "$work"
        cargo fetch --quiet --locked --manifest-path "$work/$name-$version/Cargo.toml"
    fi
done </run/sbx/in/cargo-wanted
