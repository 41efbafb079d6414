# Downloads wheels. Arguments: lists of them in /run/sbx/in.
set -eu
work=$(mktemp -d)
for list in "$@"; do
    python3 -m pip download --dest "$work/wheels" --no-deps --only-binary :all: --no-input --no-cache-dir --quiet \
        --disable-pip-version-check --requirement "/run/sbx/in/$list" >"$work/errors" 2>&1 || {
        cat "$work/errors" >&2
        # "ERROR: No matching distribution found for NAME==VERSION"
        sed -n 's/^ERROR: No matching distribution found for \([^= ]*\)==\([^ ]*\).*$/sbx-vanished\t\1\t\2/p' "$work/errors"
        exit 1
    }
    # The name of a project can be written in several ways; here it is in small letters with underscores.
    for wheel in "$work"/wheels/*.whl; do
        file=${wheel##*/}
        name=$(printf %s "${file%%-*}" | tr 'A-Z.' 'a-z_' | tr -s _)
        mv "$wheel" "/run/sbx/out/$name-${file#*-}"
    done
done
