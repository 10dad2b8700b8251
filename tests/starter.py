"""A Python that has imported Django once, and starts programs as forks of itself: most of a short program is imports.

  python starter.py serve SOCKET             the one that forks, until its input ends
  python starter.py start SOCKET WORDS ...   what `python WORDS ...` would be; ends as the program ends

A program gets the starting process's input, outputs, environment, directory and SIGTERM, and ends with it.
"""

import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys

IMPORTS = (
    "django.contrib.auth.management.commands.createsuperuser",
    "django.contrib.postgres.operations",
    "django.core.management.commands.migrate",
    "django.core.wsgi",
    "django.db.backends.postgresql.schema",
    "django.test",
    "django.urls",
)


def start(path, words):
    """Let the program be started, and end as it does."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    told = json.dumps({"words": words, "cwd": os.getcwd(), "env": dict(os.environ)}).encode()
    socket.send_fds(connection, [len(told).to_bytes(4, "big")], [0, 1, 2])
    connection.sendall(told)
    signal.signal(signal.SIGTERM, lambda *_: connection.send(b"T"))
    status = int.from_bytes(connection.recv(4), "big", signed=True)
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


def serve(path):
    """Fork for each program; only the program's own process returns, with its words."""
    for name in IMPORTS:
        importlib.import_module(name)
    # Nobody waits for those that watch over a program.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"{path}~")
    server.listen(50)
    os.rename(f"{path}~", path)
    while True:
        ready, _, _ = select.select([server, 0], [], [])
        if 0 in ready:
            sys.exit()
        connection, _ = server.accept()
        if os.fork() == 0:
            server.close()
            return watch(connection)
        connection.close()


def watch(connection):
    """Fork the program; end when it ends, and kill it when its starter is gone. Return its words in the program."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, files, _, _ = socket.recv_fds(connection, 4, 3)
    told = connection.makefile("rb", buffering=0)
    text = b""
    while len(text) < int.from_bytes(size, "big"):
        text += told.read(int.from_bytes(size, "big") - len(text))
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    program = os.fork()
    if program == 0:
        told.close()
        connection.close()
        return enter(json.loads(text))
    for number in range(3):
        os.close(number)
    ended = os.pidfd_open(program)
    while ended not in (ready := select.select([ended, connection], [], [])[0]):
        said = connection.recv(1) if connection in ready else b""
        os.kill(program, signal.SIGTERM if said else signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
    connection.sendall(status.to_bytes(4, "big", signed=True))
    os._exit(0)


def enter(told):
    """Become as Python is when it begins with these words; return them."""
    os.chdir(told["cwd"])
    os.environ.clear()
    os.environ.update(told["env"])
    words = told["words"]
    first = told["cwd"] if words[0] == "-m" else os.path.dirname(os.path.abspath(words[0]))
    further = told["env"].get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = [first, *filter(None, further)]
    return words


if __name__ == "__main__":
    _, what, where, *rest = sys.argv
    if what == "start":
        start(where, rest)
    rest = serve(where)
    if rest[0] == "-m":
        sys.argv = rest[1:]
        runpy.run_module(rest[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = rest
        runpy.run_path(rest[0], run_name="__main__")
