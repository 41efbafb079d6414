# Installs packages from the files that the host has checked, without a network. It is rpm that installs: dnf's history would say when.
# /run/sbx/in/dnf-files: their names. /run/sbx/in/dnf-times.py: for an old rpm.
set -eu
set --
while read -r file; do
    set -- "$@" "/run/sbx/in/$file"
done </run/sbx/in/dnf-files
one=$1
# As the image's dnf would.
if grep -Eqs '^[[:space:]]*tsflags[[:space:]]*=.*nodocs' /etc/dnf/dnf.conf /etc/dnf/libdnf5.conf.d/*.conf \
    /usr/share/dnf5/libdnf.conf.d/*.conf; then
    set -- --excludedocs "$@"
fi
# rpm's keys were imported, if at all, where the packages were resolved, and signatures checked there: rpm 6 would want them here.
rpm --upgrade --verbose --oldpackage --replacepkgs --define '_pkgverify_level digest' "$@"
# rpm before 4.18 knows nothing of SOURCE_DATE_EPOCH. Where it has the database in SQLite there is a Python, which dnf 4 needs.
installed=$(rpm --query --package --queryformat '%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}' "$one")
if [ "$(rpm --query --queryformat '%{INSTALLTID}' "$installed")" != "$SOURCE_DATE_EPOCH" ]; then
    database=$(rpm --eval '%{_dbpath}')
    python=$(command -v python3 || echo /usr/libexec/platform-python)
    if [ -e "$database/rpmdb.sqlite" ] && [ -x "$python" ]; then
        "$python" /run/sbx/in/dnf-times.py "$database"
    else
        echo 'this rpm notes when it installed a package, so that the layer is another one every time' >&2
    fi
fi
# Whoever opens the database first writes the index of its journal anew, and the same one; readers who may not write need one.
rpm --query --all >/dev/null
