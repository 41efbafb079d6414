# Makes the directory for the workspace. Arguments: the directory, its owner.
set -eu
mkdir -p "$1"
chown "$2" "$1"
