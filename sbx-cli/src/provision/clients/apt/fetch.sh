# Downloads packages, and installs none. Arguments: NAME=VERSION of each.
set -eu
# The lists are there if this machine has just resolved.
if [ ! -e /run/sbx-apt-updated ]; then
    apt-get -q update >&2
fi
for pin in "$@"; do
    name=${pin%%=*}
    version=${pin#*=}
    # Asked for a version that it has not, apt-cache shows others, or nothing, and says that all is well.
    if ! apt-cache show "$name" 2>/dev/null | grep -Fqx "Version: $version"; then
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
