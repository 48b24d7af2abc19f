"""Processes for tests: simulators, an edge before them, and the certificates it serves with.

Needs nothing but Python's standard library, the `openssl` command and a built `forebay`.
"""

import contextlib
import json
import os
import pathlib
import random
import re
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]

# What clients of the edge send as their key. It opens nothing but the edge that a test starts.
KEY = "sk-test"


def binary():
    """The `forebay` under test: $FOREBAY_BIN, or the debug build."""
    path = pathlib.Path(os.environ.get("FOREBAY_BIN") or REPOSITORY / "target/debug/forebay").resolve()
    if not path.is_file():
        raise SystemExit(f"{path} is missing: run `cargo build`, or set FOREBAY_BIN")
    return path


class Process:
    """A child process with a log file. Leaving the context ends it, and nothing else."""

    def __init__(self, name, command, folder, **options):
        self.name = name
        self.log = pathlib.Path(folder) / f"{name}.log"
        with self.log.open("wb") as log:
            self.child = subprocess.Popen(
                [str(part) for part in command], stdout=subprocess.PIPE, stderr=log, **options
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self, patience=10):
        """SIGTERM, and SIGKILL for a process that has not heeded it in time. Returns the exit status."""
        if self.child.poll() is None:
            self.child.terminate()
        try:
            status = self.child.wait(patience)
        except subprocess.TimeoutExpired:
            self.child.kill()
            status = self.child.wait()
        self.child.stdout.close()
        return status

    def line(self, pattern, patience=30):
        """The first line of its output that matches. Later output is read and dropped, so that it never blocks."""
        found = []
        arrived = threading.Event()

        def read():
            with contextlib.suppress(ValueError):
                for line in self.child.stdout:
                    match = re.search(pattern, line.decode(errors="replace"))
                    if match and not found:
                        found.append(match)
                        arrived.set()
            arrived.set()

        threading.Thread(target=read, daemon=True).start()
        arrived.wait(patience)
        if not found:
            raise RuntimeError(f"{self.name} did not print /{pattern}/ in time:\n{self.tail()}")
        return found[0]

    def tail(self, length=4000):
        """The end of what it wrote to standard error."""
        return self.log.read_text(errors="replace")[-length:]


def start_sim(name, folder, *options, config=None):
    """A simulator on a free port. Returns its process and its base URL."""
    command = [binary(), "sim", "--listen", "127.0.0.1:0", *options]
    if config is not None:
        path = pathlib.Path(folder) / f"{name}.json"
        path.write_text(json.dumps(config))
        command += ["--config", path]
    process = Process(name, command, folder)
    try:
        return process, process.line(r"http://[0-9.:]+")[0]
    except BaseException:
        process.stop()
        raise


def start_edge(name, folder, config, admin, environment=None):
    """An edge with that configuration (JSON is YAML). Returns its process once it is ready."""
    path = pathlib.Path(folder) / f"{name}.yaml"
    path.write_text(json.dumps(config, indent=2))
    settings = {key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")}
    settings |= {"FOREBAY_TEST_KEY": KEY, **(environment or {})}
    process = Process(name, [binary(), "run", "--config", path], folder, env=settings)
    try:
        wait_until(lambda: get_status(f"http://{admin}/health/ready") == 200, 30, process)
    except BaseException:
        process.stop()
        raise
    threading.Thread(target=drain, args=(process.child.stdout,), daemon=True).start()
    return process


def drain(pipe):
    """Reads a pipe to its end."""
    with contextlib.suppress(ValueError):
        while pipe.read(65536):
            pass


def get_status(url):
    """The status of a GET; nothing while there is no answer."""
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return reply.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def get_json(url):
    """The JSON at a URL."""
    with urllib.request.urlopen(url, timeout=5) as reply:
        return json.load(reply)


def wait_until(reached, patience, process=None):
    """Polls until `reached()` is true and returns what it returned; fails after `patience` seconds."""
    deadline = time.monotonic() + patience
    while not (value := reached()):
        if process is not None and process.child.poll() is not None:
            raise RuntimeError(f"{process.name} ended with {process.child.returncode}:\n{process.tail()}")
        if time.monotonic() > deadline:
            log = f":\n{process.tail()}" if process is not None else ""
            raise TimeoutError(f"not reached in {patience} s{log}")
        time.sleep(0.005)
    return value


def free_port():
    """A port that nothing listens on, below those that the system gives to outgoing connections."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def make_certificates(folder):
    """A throw-away authority, and a certificate of it for localhost. Returns the paths of both and of the key."""
    folder = pathlib.Path(folder)
    ca, ca_key, cert, key, request, names = (
        folder / name for name in ("ca.pem", "ca.key", "server.pem", "server.key", "server.csr", "names.cnf")
    )
    names.write_text(
        "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n"
        "keyUsage=critical,digitalSignature\nbasicConstraints=critical,CA:FALSE\n"
        "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
    )
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl(
        "req", "-x509", *new_key, "-keyout", ca_key, "-out", ca, "-days", "2", "-subj", "/CN=Forebay test CA",
        "-addext", "keyUsage=critical,keyCertSign",
    )  # fmt: skip
    openssl("req", *new_key, "-keyout", key, "-out", request, "-subj", "/CN=localhost")
    openssl(
        "x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-out", cert, "-days", "2",
        "-extfile", names,
    )  # fmt: skip
    return ca, cert, key


def openssl(*arguments):
    """Runs openssl; its own words are shown only if it fails."""
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {arguments[0]} failed:\n{done.stderr}")
