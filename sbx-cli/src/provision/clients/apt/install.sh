# Installs packages from the files that the host has checked, without a network.
# /run/sbx/in/apt-packages: for each a line "FILE NAME manual|auto".
set -eu
files=
automatic=
while read -r file name mark; do
    files="$files /run/sbx/in/$file"
    if [ "$mark" = auto ]; then
        automatic="$automatic $name"
    fi
done </run/sbx/in/apt-packages
# Nothing is started here: what a package wants to have running it starts in the sandbox.
if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    policy=made
fi
# The list holds no blanks but those between its words: the host has written it.
# shellcheck disable=SC2086
apt-get -q -y --no-install-recommends --allow-downgrades \
    -o APT::Install-Suggests=false -o APT::Sandbox::User=root -o APT::Keep-Downloaded-Packages=false \
    -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
    -o Dpkg::Options::=--force-unsafe-io install $files
if [ -n "$automatic" ]; then
    # shellcheck disable=SC2086
    apt-mark auto $automatic >/dev/null
fi
if [ -n "${policy-}" ]; then
    rm /usr/sbin/policy-rc.d
fi
