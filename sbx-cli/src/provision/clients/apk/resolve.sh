# Prints what apk would install: the architecture, then its simulation.
# /run/sbx/in/apk-held: for each wanted package that is to keep its version a line "NAME VERSION".
# Arguments: the wanted packages.
set -eu
apk --no-progress update >&2
if [ -s /run/sbx/in/apk-held ]; then
    # An error if one of the arguments is not a name alone, or not there.
    apk search --exact --all -- "$@" >/run/sbx-apk-there || :
    for wanted in "$@"; do
        shift
        while read -r name version; do
            # A repository has a version until it has the next.
            if [ "$name" = "$wanted" ] && grep -Fqx -e "$name-$version" /run/sbx-apk-there; then
                wanted=$name=$version
            fi
        done </run/sbx/in/apk-held
        set -- "$@" "$wanted"
    done
fi
plan=$(apk --no-progress add --simulate -- "$@") || {
    printf '%s\n' "$plan" >&2
    exit 1
}
printf '%s\n' "sbx-architecture $(apk --print-arch)" "$plan" 'sbx-end'
