# Prints what apk would install: the architecture, then its simulation. Arguments: the wanted packages.
set -eu
apk --no-progress update >&2
plan=$(apk --no-progress add --simulate -- "$@") || {
    printf '%s\n' "$plan" >&2
    exit 1
}
printf '%s\n' "sbx-architecture $(apk --print-arch)" "$plan" 'sbx-end'
