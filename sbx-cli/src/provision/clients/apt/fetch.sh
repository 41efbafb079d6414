# Downloads packages, and installs none. Arguments: NAME=VERSION of each.
set -eu
# The lists are there if this machine has just resolved.
if [ ! -e /run/sbx-apt-updated ]; then
    apt-get -q update >&2
fi
for pin in "$@"; do
    name=${pin%%=*}
    version=${pin#*=}
    if ! apt-cache show "$pin" >/dev/null 2>&1; then
        printf 'sbx-vanished\t%s\t%s\n' "${name%%:*}" "$version"
        gone=1
    fi
done
if [ -n "${gone-}" ]; then
    exit 1
fi
cd /run/sbx/out
# As root: nobody else may write here.
apt-get -q -o APT::Sandbox::User=root -o Acquire::Retries=3 download "$@"
