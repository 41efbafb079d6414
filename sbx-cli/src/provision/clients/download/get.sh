# get ADDRESS FILE: with whatever program of the image knows the way.
get() {
    if [ ! -e /etc/ssl/certs/ca-certificates.crt ] && [ ! -e /etc/pki/tls/certs/ca-bundle.crt ] && command -v apt-get >/dev/null; then
        # This machine is thrown away; the image stays as it is.
        apt-get -q update >&2
        apt-get -q -y --no-install-recommends install ca-certificates >&2
    fi
    if command -v curl >/dev/null; then
        curl --fail --silent --show-error --location --retry 3 --output "$2" "$1" >&2
    elif command -v wget >/dev/null; then
        wget -q -O "$2" "$1" >&2
    elif command -v python3 >/dev/null; then
        python3 -c 'import shutil, sys, urllib.request
with urllib.request.urlopen(sys.argv[1]) as answer, open(sys.argv[2], "wb") as file: shutil.copyfileobj(answer, file)' "$1" "$2" >&2
    elif [ -x /usr/lib/apt/apt-helper ]; then
        /usr/lib/apt/apt-helper -o APT::Sandbox::User=root download-file "$1" "$2" >&2
    else
        # shellcheck disable=SC2016
        echo 'sbx: the image has nothing to download with; add `apt "curl"` to `packages`' >&2
        exit 69
    fi
}
