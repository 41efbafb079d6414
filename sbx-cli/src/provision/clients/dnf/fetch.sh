# Downloads packages, and installs none.
# /run/sbx/in/dnf-pins: for each a line "NAME VERSION ARCHITECTURE FILE", the version with its epoch.
set -eu
cache=/var/cache/sbx-dnf
files=$cache/files
mkdir -p $files $cache/new

client() {
    dnf --assumeyes --setopt=cachedir=$cache --setopt=system_cachedir=$cache --setopt=keepcache=1 "$@"
}

# What is here goes out; what is not is noted.
hand_over() {
    missing=
    while read -r name version architecture file; do
        if [ -e "$files/$file" ]; then
            cp "$files/$file" "/run/sbx/out/$file"
        elif [ ! -e "/run/sbx/out/$file" ]; then
            missing="$missing $name-$version.$architecture"
        fi
    done </run/sbx/in/dnf-pins
}

# They are here if this machine has just resolved.
hand_over
if [ -z "$missing" ]; then
    exit 0
fi
# The list holds no blanks but those between its words: the host has written it.
# shellcheck disable=SC2086
available=$(client --quiet repoquery --available \
    --queryformat '%{name}-%{epoch}:%{version}-%{release}.%{arch}\n' $missing)
for package in $missing; do
    if ! printf '%s\n' "$available" | grep -Fqx "$package"; then
        while read -r name version architecture _; do
            if [ "$name-$version.$architecture" = "$package" ]; then
                printf 'sbx-vanished\t%s\t%s\n' "$name" "${version#0:}"
            fi
        done </run/sbx/in/dnf-pins
        gone=1
    fi
done
if [ -n "${gone-}" ]; then
    exit 1
fi
# dnf 4 has `download` in a plugin, and may not have it. What came before a failure goes out, too.
failed=
if client download --help >/dev/null 2>&1; then
    # shellcheck disable=SC2086
    client download --destdir=$cache/new $missing >&2 || failed=$?
else
    # shellcheck disable=SC2086
    client install --downloadonly $missing >&2 || failed=$?
fi
for file in $cache/new/*.rpm $cache/*/packages/*.rpm; do
    if [ -e "$file" ]; then
        package=$(rpm --query --package --queryformat '%{NAME}-%{EPOCHNUM}:%{VERSION}-%{RELEASE}.%{ARCH}' "$file")
        printf '%s\n' "$package" | sed 's/-0:\([^-]*-[^-]*\)$/-\1/' | { read -r name && mv "$file" "$files/$name.rpm"; }
    fi
done
hand_over
if [ -n "$failed" ]; then
    exit "$failed"
fi
