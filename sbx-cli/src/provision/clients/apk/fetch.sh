# Downloads packages, which apk checks against the signatures of its keys, and installs none.
# Arguments: NAME=VERSION of each.
set -eu
apk --no-progress update >&2
for pin in "$@"; do
    if [ -z "$(apk search --exact --quiet -- "${pin%%=*}")" ] ||
        ! apk --no-progress fetch --simulate -- "$pin" >/dev/null 2>&1; then
        printf 'sbx-vanished\t%s\t%s\n' "${pin%%=*}" "${pin#*=}"
        gone=1
    fi
done
if [ -n "${gone-}" ]; then
    exit 1
fi
apk --no-progress fetch --output /run/sbx/out -- "$@"
