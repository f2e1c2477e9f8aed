"""A process that has imported torch and pandas, and runs every `oodbench …` in a fork of itself.

Most of a short command is the import of what it stands on.  In the folder `Warm.bin` stands an
`oodbench` that hands its arguments, folder, environment and streams to a fork of the warm process,
which calls the entry point, and ends with its status; `page-python` runs blocks of Python likewise.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SERVER = """
import importlib, json, os, signal, socket, sys, traceback
for name in ("torch", "pandas", "pyarrow.parquet", "scipy.stats",
             "sklearn.neighbors", "matplotlib.pyplot", "PIL.Image",
             "rich.table", "oodbench.cli", "oodbench.flow.perform", "oodbench.api"):
    importlib.import_module(name)
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
print("ready", flush=True)

def told(connection):
    head, streams, _, _ = socket.recv_fds(connection, 4, 3)
    size, text = int.from_bytes(head, "big"), b""
    while len(text) < size:
        text += connection.recv(size - len(text))
    return json.loads(text), streams

def work(asked, streams):
    for here, given in enumerate(streams):
        os.dup2(given, here)
        os.close(given)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = asked["argv"]
    status = 1
    try:
        if os.path.basename(sys.argv[0]) == "oodbench":
            from oodbench.cli import main
            main()
        else:
            sys.path.insert(0, "")
            exec(sys.argv.pop(1), {"__name__": "__main__"})
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    connection, _ = server.accept()
    if os.fork():
        connection.close()
        continue
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    asked, streams = told(connection)
    child = os.fork()
    if not child:
        connection.close()
        server.close()
        work(asked, streams)
    for stream in streams:
        os.close(stream)
    _, status = os.waitpid(child, 0)
    connection.sendall(bytes([os.waitstatus_to_exitcode(status) & 0xFF]))
    os._exit(0)
"""
CLIENT = """#!{python} -SE
import json, os, socket, sys
asked = {{"argv": sys.argv, "cwd": os.getcwd(), "environment": dict(os.environ)}}
text = json.dumps(asked).encode()
there = socket.socket(socket.AF_UNIX)
there.connect({address!r})
socket.send_fds(there, [len(text).to_bytes(4, "big")], [0, 1, 2])
there.sendall(text)
answer = there.recv(1)
sys.exit(answer[0] if answer else 1)
"""


class Warm:
    """The warm process; use as a context manager.  `environment` is that of all that it runs."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="warm-"))
        self.bin = self.folder / "bin"
        self.bin.mkdir()
        address = str(self.folder / "socket")
        for name in ("oodbench", "page-python"):
            path = self.bin / name
            path.write_text(CLIENT.format(python=sys.executable, address=address), "utf-8")
            path.chmod(0o755)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", SERVER, address], env=environment, text=True,
            stdout=subprocess.PIPE, cwd=self.folder,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
