# Builds and installs the arguments, NAME-VERSION, from the archives of cargo-crates: lines of NAME-VERSION and its sha256.
set -eu
umask 022
# The same for everybody, since paths get into what is built.
build=/tmp/sbx-cargo
rm -rf "$build"
mkdir -p "$build/home" "$build/vendor"
while read -r crate checksum; do
    mkdir -p "$build/vendor/$crate"
    tar -xzf "/run/sbx/in/$crate.crate" -C "$build/vendor/$crate" --strip-components=1 --no-same-owner
    # A directory source ("Source Replacement" of cargo's documentation). The archive has been checked, so its files need not be.
    printf '{"files":{},"package":"%s"}' "$checksum" >"$build/vendor/$crate/.cargo-checksum.json"
done </run/sbx/in/cargo-crates
# What the image says of compilers and linkers counts; what cargo notes on the way does not get into the layer.
for file in config config.toml; do
    if [ -f "${CARGO_HOME:-$HOME/.cargo}/$file" ]; then
        cp "${CARGO_HOME:-$HOME/.cargo}/$file" "$build/home"
    fi
done
export CARGO_HOME="$build/home" CARGO_TARGET_DIR="$build/target" CARGO_INCREMENTAL=0
for tool; do
    cp -R "$build/vendor/$tool" "$build/$tool"
    cargo install --path "$build/$tool" --locked --offline --root /usr/local --no-track --force \
        --config 'source.crates-io.replace-with="sbx-vendor"' --config "source.sbx-vendor.directory=\"$build/vendor\""
done
rm -rf "$build"
