# Installs the packages of npm-plan.json below ROOT. The other arguments are there where the image has no node for them: the
# archive of the npm package with one, and the directory for it.
set -eu
umask 022
rm -rf "$1"
mkdir -p "$1"
node=node
if [ $# -gt 1 ]; then
    # Of its 2,700 files only these: the others are for building against it.
    mkdir -p "$3"
    tar -xf "/run/sbx/in/$2" -C "$3" --strip-components=1 --no-same-owner package/package.json package/LICENSE package/bin/node
    chmod -R a+rX,go-w "$3"
    node=$3/bin/node
fi
if ! command -v "$node" >/dev/null; then
    # shellcheck disable=SC2016
    echo 'sbx: the image has no node; add `apt "npm"` to `packages`, or take an image with Node.js' >&2
    exit 69
fi
exec "$node" /run/sbx/in/npm-install.js
