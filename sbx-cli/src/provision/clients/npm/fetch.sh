# Downloads packages. Each line of npm-packages is a NAME@VERSION and the sha512 of its archive in hexadecimal digits, which
# names the file.
set -eu
if ! command -v npm >/dev/null; then
    # shellcheck disable=SC2016
    echo 'sbx: the image has no npm; add `apt "npm"` to `packages`, or take an image with Node.js' >&2
    exit 69
fi
cache=$(mktemp -d)
set --
while read -r package hash; do
    set -- "$@" "$package"
done </run/sbx/in/npm-packages
# npm keeps what it downloaded under its hash: the first two digits, the next two, and the others.
file() {
    rest=${1#??}
    printf %s "$cache/_cacache/content-v2/sha512/${1%"$rest"}/${rest%"${rest#??}"}/${rest#??}"
}
npm cache add --cache="$cache" --no-audit --no-fund --no-update-notifier --loglevel=error "$@" >"$cache/errors" 2>&1 || {
    # What has arrived is not fetched again.
    while read -r package hash; do
        mv "$(file "$hash")" "/run/sbx/out/$hash.tgz" 2>/dev/null || :
    done </run/sbx/in/npm-packages
    cat "$cache/errors" >&2
    sed -n 's/^npm .*No matching version found for \(@\{0,1\}[^@ ]*\)@\([^ ]*\)\.$/sbx-vanished\t\1\t\2/p' "$cache/errors"
    exit 1
}
while read -r package hash; do
    if ! [ -f "$(file "$hash")" ]; then
        echo "sbx: what the registry has as $package is not what was pinned" >&2
        exit 65
    fi
    mv "$(file "$hash")" "/run/sbx/out/$hash.tgz"
done </run/sbx/in/npm-packages
