"""The processes of a run: how each is started, what it has used, how it is ended."""

import contextlib
import getpass
import http.client
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
PROXY_CORE, LOAD_CORE = 0, 1
READY_SECONDS = 15
# A request that every proxy can pass on and the upstream knows.
ASK = b'{"model":"bench","messages":[],"user":"bench-00000000-00000000"}'


class Failed(Exception):
    """Something that the run cannot go on without."""


class Process:
    """A process pinned to a core, with whatever processes it starts."""

    def __init__(self, command, core, directory, env=None, nice=0):
        def before():
            os.sched_setaffinity(0, {core})
            if nice:
                os.nice(nice)

        self.log = directory / f"{pathlib.Path(command[0]).name}.log"
        with open(self.log, "ab") as log:
            self.popen = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=directory, env={**os.environ, **(env or {})}, preexec_fn=before)

    def pids(self):
        """Its id and those of its children, nginx's worker among them."""
        found = [self.popen.pid]
        for parent in found:
            for children in pathlib.Path(f"/proc/{parent}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    found += [int(pid) for pid in children.read_text().split()]
        return found

    def cpu(self):
        """Seconds of CPU time, user and system, all threads."""
        return sum(cpu_seconds(pid) for pid in self.pids())

    def rss(self):
        """Resident memory, KiB."""
        return sum(rss_kib(pid) for pid in self.pids())

    def stop(self):
        """Asks it to end, and sees that it does."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            self.popen.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(5)
                return

    def tail(self):
        """The end of what it wrote."""
        return self.log.read_text(errors="replace")[-2000:]


def cpu_seconds(pid):
    """The sum of utime and stime of /proc/PID/stat, from the process's CPU clock, which counts in nanoseconds."""
    try:
        return time.clock_gettime_ns((~pid << 3) | 2) / 1e9
    except OSError:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_kib(pid):
    """Resident memory as the page tables have it; `VmRSS` may lag by some pages for each core."""
    for name, key in (("smaps_rollup", "Rss:"), ("status", "VmRSS:")):
        with contextlib.suppress(OSError):
            for line in pathlib.Path(f"/proc/{pid}/{name}").read_text().splitlines():
                if line.startswith(key):
                    return int(line.split()[1])
    raise Failed(f"the memory of process {pid} cannot be read")


def free_address():
    """An address on the loopback where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def filled(template, directory, **values):
    """Writes a template with its @NAMES@ filled in, and says where."""
    text = (HERE / template).read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    path = directory / pathlib.Path(template).name.removesuffix(".in")
    path.write_text(text)
    return path


def nginx(binaries, directory, listen, upstream, nice):
    conf = filled("peers/nginx.conf.in", directory, LISTEN=listen, UPSTREAM=upstream, DIR=directory,
                  USER=getpass.getuser())
    return Process([binaries.nginx, "-p", directory, "-e", directory / "error.log", "-c", conf],
                   PROXY_CORE, directory, nice=nice)


def bare(binaries, directory, listen, upstream, nice):
    return Process([binaries.bare], PROXY_CORE, directory, {"LISTEN": listen, "UPSTREAM": upstream}, nice)


def forebay(binaries, directory, listen, upstream, nice):
    conf = filled("forebay.yaml.in", directory, LISTEN=listen, UPSTREAM=upstream, ADMIN=free_address())
    return Process([binaries.forebay, "run", "--config", conf], PROXY_CORE, directory, nice=nice)


class Binaries:
    """Where the programs are."""

    def __init__(self, directory):
        self.forebay = directory / "forebay"
        self.load = directory / "examples" / "load"
        self.bare = directory / "examples" / "bare"
        path = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin"
        self.nginx = shutil.which("nginx", path=path)

    def check(self, names):
        """Sees that what a run needs is there."""
        for name in names:
            path = getattr(self, name)
            if path is None or not os.access(path, os.X_OK):
                help = "apt-get install nginx-light" if name == "nginx" else "leave out --no-build"
                raise Failed(f"{name} is not there ({path}): {help}")


@contextlib.contextmanager
def upstream(binaries, directory, nice):
    """The upstream, and the address it listens on."""
    process = Process([binaries.load, "upstream"], LOAD_CORE, directory, nice=nice)
    try:
        deadline = time.monotonic() + READY_SECONDS
        while "listening" not in process.log.read_text():
            if process.popen.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"the upstream did not start:\n{process.tail()}")
            time.sleep(0.02)
        yield process, process.log.read_text().split()[-1]
    finally:
        process.stop()


@contextlib.contextmanager
def running(start, binaries, directory, address, nice, key=None):
    """A proxy, once it answers whoever has that key, and the address it listens on."""
    directory.mkdir(parents=True, exist_ok=True)
    listen = free_address()
    process = start(binaries, directory, listen, address, nice)
    try:
        await_answer(process, listen, key)
        yield process, listen
    finally:
        process.stop()


def await_answer(process, address, key):
    fields = {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})}
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            client = http.client.HTTPConnection(address, timeout=2)
            client.request("POST", "/v1/chat/completions", ASK, fields)
            reply = client.getresponse()
            if reply.status == 200 and reply.read():
                return
            problem = f"it answers with status {reply.status}: {reply.read()[:300]}"
        except OSError as error:
            problem = str(error)
        finally:
            client.close()
        if process.popen.poll() is not None or time.monotonic() > deadline:
            raise Failed(f"{process.popen.args[0]} does not serve: {problem}\n{process.tail()}")
        time.sleep(0.05)
