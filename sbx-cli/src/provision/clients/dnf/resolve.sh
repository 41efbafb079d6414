# Prints what dnf would install. dnf's test of a transaction downloads the packages, checks them against the hashes in the metadata
# and against the signatures that the configuration wants, and installs nothing. The files stay for fetch.sh.
# /run/sbx/in/dnf-wanted: the wanted packages as they are held. /run/sbx/in/dnf-held: for each held package a line
# "NAME.ARCHITECTURE VERSION PACKAGE". Arguments: the wanted packages.
set -eu
cache=/var/cache/sbx-dnf
files=$cache/files
mkdir -p $files

# `cachedir` is dnf 4's, `system_cachedir` is root's in dnf 5. `--downloadonly` would not do: dnf 5 checks no signatures then.
attempt() {
    rm -rf $cache/*/packages
    dnf --assumeyes --setopt=cachedir=$cache --setopt=system_cachedir=$cache --setopt=keepcache=1 \
        --setopt=tsflags=test --setopt=install_weak_deps=False install "$@" >&2
}

# Of each downloaded package a line "NAME VERSION ARCHITECTURE FILE".
downloaded() {
    for file in $cache/*/packages/*.rpm; do
        if [ -e "$file" ]; then
            rpm --query --package --queryformat '%{NAME} %{EPOCHNUM}:%{VERSION}-%{RELEASE} %{ARCH} ' "$file" |
                sed 's/ 0:/ /'
            printf '%s\n' "$file"
        fi
    done
}

wanted=$(cat /run/sbx/in/dnf-wanted)
# The lists hold no blanks but those between their words: the host has written them.
# shellcheck disable=SC2086
if [ "$wanted" = "$*" ] || ! attempt $wanted; then
    wanted=$*
    attempt "$@"
fi
# What the wanted packages depend on is newer than what is held: once more, with what is held, if that is possible.
if [ -s /run/sbx/in/dnf-held ]; then
    downloaded | sed 's/^\([^ ]*\) \([^ ]*\) \([^ ]*\) .*$/\1.\3 \2/' | LC_ALL=C sort >$cache/planned
    moved=$(LC_ALL=C join $cache/planned /run/sbx/in/dnf-held | while read -r _ planned held package; do
        [ "$planned" = "$held" ] || printf ' %s' "$package"
    done)
    # shellcheck disable=SC2086
    [ -z "$moved" ] || attempt $wanted $moved || attempt $wanted
fi
printf '%s\n' 'sbx-packages'
downloaded | while read -r name version architecture file; do
    hash=$(sha256sum "$file")
    printf '%s\n' "sbx-package $name $version $architecture ${hash%% *}"
    mv "$file" "$files/$name-$version.$architecture.rpm"
done
printf '%s\n' 'sbx-end'
