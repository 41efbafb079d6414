# Downloads ADDRESS into /run/sbx/out/NAME. Arguments: pairs of them.
set -eu
. /run/sbx/in/download-get.sh
while [ $# -gt 0 ]; do
    get "$1" "/run/sbx/out/$2"
    shift 2
done
