# Runs a setup command of the manifest. Argument: the command.
exec sh -c "$1"
