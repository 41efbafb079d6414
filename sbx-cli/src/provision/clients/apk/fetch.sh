# Downloads packages, whose signatures apk checks, and installs none. Arguments: NAME=VERSION of each.
set -eu
apk --no-progress update >&2
printf '%s\n' "$@" >/run/sbx-apk-wanted
for pin in "$@"; do
    set -- "$@" "${pin%%=*}"
    shift
done
# Each version that any of the repositories has, as NAME-VERSION. It is an error if there is none of a name.
apk search --exact --all -- "$@" >/run/sbx-apk-there || :
while IFS='=' read -r name version; do
    if ! grep -Fqx -e "$name-$version" /run/sbx-apk-there; then
        printf 'sbx-vanished\t%s\t%s\n' "$name" "$version"
        gone=1
    fi
done </run/sbx-apk-wanted
if [ -n "${gone-}" ]; then
    exit 1
fi
# By its name apk fetches the newest of a package.
apk --no-progress fetch --output /run/sbx/out -- "$@"
while IFS='=' read -r name version; do
    if [ ! -e "/run/sbx/out/$name-$version.apk" ]; then
        printf '%s\n' "$name=$version"
    fi
done </run/sbx-apk-wanted >/run/sbx-apk-older
if [ -s /run/sbx-apk-older ]; then
    # Another version is fetched only for the world, with all that it needs. This machine is thrown away.
    cp /run/sbx-apk-older /etc/apk/world
    apk --no-progress fetch --world --output /run/sbx/out
fi
apk --no-progress verify /run/sbx/out/*.apk >&2
