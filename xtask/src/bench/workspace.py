# Runs in the guest: python3 workspace.py DIRECTORY TREE, the directory that is measured and the repository in it whose
# status is asked for. Prints `figure NAME SECONDS`.
import os, subprocess, sys, time

LARGE = 256  # MiB
SMALL = 5000
directory, tree = sys.argv[1], os.path.join(sys.argv[1], sys.argv[2])


def forget():
    """The guest's caches hold nothing any more; what is read comes through the file server."""
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3")


def write():
    block = os.urandom(1 << 20)
    with open(os.path.join(directory, "large"), "wb", buffering=0) as file:
        for _ in range(LARGE):
            file.write(block)
        os.fsync(file.fileno())


def read():
    with open(os.path.join(directory, "large"), "rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def small():
    # Another name each time, so that the host's file system puts it elsewhere.
    place = os.path.join(directory, "small", os.urandom(4).hex())
    os.mkdir(place)
    names = [os.path.join(place, f"{number:05}") for number in range(SMALL)]
    for name in names:
        with open(name, "wb", buffering=0) as file:
            file.write(b"x" * 100)
    for name in names:
        os.stat(name)
    for name in names:
        os.unlink(name)
    os.rmdir(place)


def status():
    git = ["git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-C", tree, "status", "--porcelain"]
    subprocess.run(git, check=True, stdout=subprocess.DEVNULL)


# The index holds what another stat(2) said of the files; the first status writes what this machine's says.
status()
for name, run in (("write", write), ("read", read), ("small", small), ("status", status)):
    forget()
    begin = time.monotonic()
    run()
    print(f"figure {name} {time.monotonic() - begin:.4f}", flush=True)
os.unlink(os.path.join(directory, "large"))
