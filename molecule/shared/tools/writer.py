"""Clients that write to a database and keep a ledger of what it acknowledged; and a look at what of that is there.

Runs on the host of the database and needs nothing but Python and docker. Give it as a file, or on standard input:

  writer.py write CONTAINER LEDGER [--writers 4] [--pause 0.01] [--seconds 600] [--stop-file FILE]
      Each writer sends rows of its own table, one a transaction, through a psql in the container. A row goes into the
      ledger, synced to disk, only after psql has said that its commit was acknowledged. After a break a writer connects
      again and goes on with the next row. Ends after --seconds, or when the file LEDGER.stop (or FILE) is there; a
      file of that name from before is removed first. The ledger is continued if it exists.
  writer.py wait CONTAINER LEDGER --since T [--seconds 60]
      Waits for a commit over a connection made after T (seconds since the epoch), prints how long after T it was
      acknowledged, in seconds; ends with status 1 if there is none within --seconds.
  writer.py verify CONTAINER LEDGER
      Compares ledger and table, and prints as JSON: how many commits were acknowledged, how many of them are lost, and
      the moment when the first of the lost was acknowledged.

A line of the ledger is: writer, number of the row, when the connection was made, when the commit was acknowledged.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

# The longest that anything may take before the connection counts as broken.
PATIENCE = 10
TABLE = "CREATE TABLE IF NOT EXISTS ledger (writer int, n bigint, PRIMARY KEY (writer, n));"
BEGUN = (
    "SELECT extract(epoch FROM backend_start) FROM pg_stat_activity WHERE pid = pg_backend_pid();"
)


class Broken(Exception):
    """The connection is gone, or the row was refused."""


class Session:
    """One psql in the container."""

    def __init__(self, container: str) -> None:
        """Connect, and raise Broken if that fails."""
        words = ["docker", "exec", "-i", container, "psql", "-XqAt", "-v", "ON_ERROR_STOP=1"]
        self.process = subprocess.Popen(
            [*words, "-U", "postgres", "-d", "app"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            self.opened = float(self.ask(f"{TABLE} {BEGUN}"))
        except (Broken, ValueError):
            # Docker prints some of its errors where the answer was to be.
            self.close()
            raise Broken from None

    def ask(self, statement: str) -> str:
        """Return the line that a statement gives; psql prints it after the commit's acknowledgement."""
        try:
            self.process.stdin.write(statement.encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            raise Broken from None
        line = b""
        deadline = time.monotonic() + PATIENCE
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], deadline - time.monotonic())
            part = os.read(self.process.stdout.fileno(), 4096) if ready else b""
            if not part:
                raise Broken
            line += part
        return line.decode().strip()

    def close(self) -> None:
        """End it, whatever it is doing."""
        self.process.kill()
        self.process.stdout.close()
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.wait()


class Ledger:
    """The file of what was acknowledged; a line that is there outlives the machine."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("a")
        self.lock = threading.Lock()

    def enter(self, *values: object) -> None:
        """Write a line and wait until it is on the disk."""
        with self.lock:
            print(*values, file=self.file, flush=True)
            os.fsync(self.file.fileno())


def write(asked: argparse.Namespace) -> int:
    """Write until the end is due."""
    stop = asked.stop_file or asked.ledger.with_name(f"{asked.ledger.name}.stop")
    stop.unlink(missing_ok=True)
    ledger = Ledger(asked.ledger)
    deadline = time.monotonic() + asked.seconds
    # By the clock, so that a writer that was started again never meets a row of its own.
    first = time.time_ns() // 1000

    def writer(number: int) -> None:
        row, session = first, None
        while time.monotonic() < deadline and not stop.exists():
            row += 1
            try:
                if session is None:
                    session = Session(asked.container)
                answer = session.ask(f"INSERT INTO ledger VALUES ({number}, {row}) RETURNING n;")
                if answer != str(row):
                    raise Broken
                ledger.enter(number, row, f"{session.opened:.6f}", f"{time.time():.6f}")
                time.sleep(asked.pause)
            except Broken:
                if session is not None:
                    session.close()
                    session = None
                time.sleep(0.1)
        if session is not None:
            session.close()

    threads = [threading.Thread(target=writer, args=[n]) for n in range(asked.writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0


def lines(path: Path) -> list[list[str]]:
    """Return the whole lines of the ledger; one that is being written ends without a newline."""
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
    return [line.split() for line in whole.splitlines()]


def wait(asked: argparse.Namespace) -> int:
    """Wait for the first commit after a break."""
    deadline = time.monotonic() + asked.seconds
    while time.monotonic() < deadline:
        after = [float(line[3]) for line in lines(asked.ledger) if float(line[2]) > asked.since]
        if after:
            print(f"{min(after) - asked.since:.2f}")
            return 0
        time.sleep(0.05)
    print(f"no commit within {asked.seconds:.0f} s", file=sys.stderr)
    return 1


def verify(asked: argparse.Namespace) -> int:
    """Compare the ledger with the table."""
    words = ["docker", "exec", asked.container, "psql", "-XqAt", "-F", " ", "-U", "postgres"]
    table = "SELECT writer, n FROM ledger"
    done = subprocess.run(
        [*words, "-d", "app", "-c", table], check=True, capture_output=True, text=True
    )
    there = {tuple(line.split()) for line in done.stdout.splitlines()}
    entries = lines(asked.ledger)
    lost = [float(entry[3]) for entry in entries if (entry[0], entry[1]) not in there]
    print(
        json.dumps(
            {"acknowledged": len(entries), "lost": len(lost), "first": min(lost, default=None)}
        )
    )
    return 0


def main() -> int:
    """Do one of the three."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    operations = parser.add_subparsers(required=True)
    for function in (write, wait, verify):
        one = operations.add_parser(function.__name__, allow_abbrev=False)
        one.set_defaults(function=function)
        one.add_argument("container")
        one.add_argument("ledger", type=Path)
        if function is write:
            one.add_argument("--writers", type=int, default=4)
            one.add_argument("--pause", type=float, default=0.01)
            one.add_argument("--stop-file", type=Path)
        if function is wait:
            one.add_argument("--since", type=float, required=True)
        if function is not verify:
            one.add_argument("--seconds", type=float, default=600 if function is write else 60)
    asked = parser.parse_args()
    return asked.function(asked)


if __name__ == "__main__":
    sys.exit(main())
