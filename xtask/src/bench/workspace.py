# Runs in the guest, in the directory that is measured: python3 workspace.py DIRECTORY. Prints `figure NAME SECONDS`.
import os, subprocess, sys, time

RUNS = 2
LARGE = 256  # MiB
SMALL = 5000
directory = sys.argv[1]


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
    place = os.path.join(directory, "small")
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
    tree = os.path.join(directory, "tree")
    git = ["git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-C", tree, "status", "--porcelain"]
    subprocess.run(git, check=True, stdout=subprocess.DEVNULL)


# The index holds what the host's stat(2) said of the files; the first status writes what the guest's says.
status()
times = {"write": [], "read": [], "small": [], "status": []}
for _ in range(RUNS):
    for name, run in (("write", write), ("read", read), ("small", small), ("status", status)):
        forget()
        begin = time.monotonic()
        run()
        times[name].append(time.monotonic() - begin)
os.unlink(os.path.join(directory, "large"))
for name, values in times.items():
    print(f"figure {name} {min(values):.4f}", flush=True)
