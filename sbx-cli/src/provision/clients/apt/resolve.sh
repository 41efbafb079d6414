# Prints what apt would install: its simulation, then what it knows about each of those packages.
# Arguments: the wanted packages.
set -eu
if [ -s /run/sbx/in/apt-held ]; then
    mkdir -p /etc/apt/preferences.d
    cp /run/sbx/in/apt-held /etc/apt/preferences.d/00sbx-held
fi
apt-get -q update >&2
: >/run/sbx-apt-updated
plan=$(apt-get -q --simulate --no-install-recommends -o APT::Install-Suggests=false \
    -o APT::Get::Show-User-Simulation-Note=false install -- "$@") || {
    printf '%s\n' "$plan" >&2
    exit 1
}
printf '%s\n' 'sbx-plan' "$plan" 'sbx-records'
# "Inst NAME [OLD] (VERSION ARCHIVE [ARCHITECTURE])"
printf '%s\n' "$plan" |
    sed -n 's/^Inst \([^ ]*\) \(\[[^]]*\] \)\{0,1\}(\([^ ]*\) .*\[\([^]]*\)\]).*$/\1 \3 \4/p' |
    while read -r name version architecture; do
        printf '%s\n' "sbx-record $name $version $architecture"
        apt-cache --no-all-versions show "$name=$version" || apt-cache show "$name=$version"
    done
printf '%s\n' 'sbx-end'
