# Installs the wheels of pip-pinned.txt, which has their hashes, from files, without a network.
set -eu
umask 022
if ! python3 -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("pip") is None)' 2>/dev/null; then
    # shellcheck disable=SC2016
    echo 'sbx: the image has no pip; add `apt "python3-pip"` to `packages`, or take an image with Python' >&2
    exit 69
fi
export PIP_BREAK_SYSTEM_PACKAGES=1
# What is compiled of the packages is checked by the hash of its source, not by a time: SOURCE_DATE_EPOCH is set (py_compile's
# documentation). Of pip itself nothing is compiled on the way.
PYTHONDONTWRITEBYTECODE=1 python3 -m pip install --no-index --find-links /run/sbx/in --no-deps --require-hashes \
    --only-binary :all: --no-input --no-cache-dir --disable-pip-version-check --root-user-action=ignore \
    --requirement /run/sbx/in/pip-pinned.txt
