# Prints what npm would install for npm-wanted.json, as one line of JSON: the lock file, and the platform that it is for.
# Argument: the oldest version of node that will do; without it, what the image has. npm-held.json: versions to keep.
set -eu
if ! command -v npm >/dev/null || ! command -v node >/dev/null; then
    # shellcheck disable=SC2016
    echo 'sbx: the image has no npm; add `apt "npm"` to `packages`, or take an image with Node.js' >&2
    exit 69
fi
wanted=npm-wanted.json
if [ $# -gt 0 ]; then
    # A node that is here only for asking will not be there when the packages are.
    case " ${SBX_LENT:-} " in
    *' node '*) wanted=npm-wanted-with-node.json ;;
    *) node /run/sbx/in/npm-lock.js is-at-least "$1" || wanted=npm-wanted-with-node.json ;;
    esac
fi
work=$(mktemp -d)
cp "/run/sbx/in/$wanted" "$work/package.json"
if [ -e /run/sbx/in/npm-held.json ]; then
    cp /run/sbx/in/npm-held.json "$work/package-lock.json"
fi
cd "$work"
npm install --package-lock-only --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error >errors 2>&1 || {
    cat errors >&2
    # "notarget No matching version found for NAME@VERSION."
    sed -n 's/^npm .*No matching version found for \(@\{0,1\}[^@ ]*\)@\([^ ]*\)\.$/sbx-vanished\t\1\t\2/p' errors
    exit 1
}
# Before version 10 npm does not know of C libraries, and would take the packages for all of them. It takes long to say its version,
# which most packages make no difference to.
set --
ambiguous=$(node /run/sbx/in/npm-lock.js ambiguous)
if [ -n "$ambiguous" ] && [ "$(npm --version | cut -d. -f1)" -lt 10 ]; then
    for package in $ambiguous; do
        set -- "$@" "$package" "$(npm view --json "$package" libc)"
    done
fi
node /run/sbx/in/npm-lock.js print "$@"
