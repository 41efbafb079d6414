# Unpacks a file. Arguments: the directory, the file in /run/sbx/in, what it is (tar.gz, zip or none), and pairs of a command and
# its path in the archive.
set -eu
umask 022
directory=$1
file=/run/sbx/in/$2
kind=$3
shift 3
rm -rf "$directory"
mkdir -p "$directory" /usr/local/bin
# What an archive holds stays in the directory.
outside() {
    grep -q -e '^/' -e '^\.\.$' -e '^\.\./' -e '/\.\./' -e '/\.\.$'
}
refuse() {
    echo 'sbx: the archive has files outside its own directory' >&2
    exit 65
}
case $kind in
tar.gz)
    if tar -tf "$file" | outside; then refuse; fi
    tar -xf "$file" -C "$directory" --no-same-owner
    ;;
zip)
    if command -v unzip >/dev/null; then
        if unzip -Z1 "$file" | outside; then refuse; fi
        unzip -q "$file" -d "$directory"
    elif command -v python3 >/dev/null; then
        # Its zipfile leaves out what would lead outside, and modes.
        python3 -m zipfile -e "$file" "$directory"
    else
        # shellcheck disable=SC2016
        echo 'sbx: the image has no unzip; add `apt "unzip"` to `packages`' >&2
        exit 69
    fi
    ;;
none)
    cp "$file" "$directory/$1"
    ;;
esac
chmod -R u+rwX,go+rX,go-w "$directory"
while [ $# -gt 0 ]; do
    program=$directory/$2
    real=$(readlink -f "$program" || true)
    case $real in
    "$directory"/*) ;;
    *)
        echo "sbx: there is no $2 in the archive" >&2
        exit 65
        ;;
    esac
    if ! [ -f "$real" ]; then
        echo "sbx: $2 in the archive is no file" >&2
        exit 65
    fi
    chmod 755 "$real"
    ln -sf "$program" "/usr/local/bin/$1"
    shift 2
done
