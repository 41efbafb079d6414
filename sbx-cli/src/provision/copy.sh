# Copies the workspace. Arguments: from, to.
set -eu
cd "$1"
cp -R -P . "$2/"
