# Prints pip's report of what it would install for the arguments. pip-held.txt: versions to keep.
set -eu
if ! python3 -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("pip") is None)' 2>/dev/null; then
    # shellcheck disable=SC2016
    echo 'sbx: the image has no pip; add `apt "python3-pip"` to `packages`, or take an image with Python' >&2
    exit 69
fi
# PEP 668: the system's Python is the whole machine's here, and nobody else's. Before version 23.0.1 pip does not know the option, and
# overlooks the variable.
export PIP_BREAK_SYSTEM_PACKAGES=1
work=$(mktemp -d)
python3 -m pip install --dry-run --report "$work/report" --only-binary :all: --no-input --no-cache-dir --quiet \
    --disable-pip-version-check --constraint /run/sbx/in/pip-held.txt "$@" >"$work/errors" 2>&1 || {
    cat "$work/errors" >&2
    if grep -q '^ERROR: No matching distribution found' "$work/errors"; then
        # shellcheck disable=SC2016
        echo 'sbx: only wheels are taken, which run nothing while they are installed; for what is published as source alone write `setup "pip install …"`' >&2
    fi
    exit 1
}
cat "$work/errors" >&2
cat "$work/report"
