# Installs packages from the files that the host has checked, without a network; apk checks their signatures once more.
# /run/sbx/in/apk-files: their names. Arguments: the wanted packages.
set -eu
files=
while read -r file; do
    files="$files /run/sbx/in/$file"
done </run/sbx/in/apk-files
world=$(cat /etc/apk/world)
# The list holds no blanks but those between its words: the host has written it.
# shellcheck disable=SC2086
apk --no-progress --no-network add $files
# apk has noted each file; what is to be noted is what was wanted.
printf '%s\n' $world "$@" | sort -u >/etc/apk/world
