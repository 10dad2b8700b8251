"""Run checks one after the other or side by side, keep what they say, and end with their times and why any failed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

# Not part of what is checked: what the checks and the product make.
_MADE = {".git", ".venv", ".venv-app", ".cache", "secrets", "__pycache__"}
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# What a failure's lines look like in the output of pytest, Ansible and Molecule, and how many follow that belong to it.
_TOLD = re.compile(r"^(FAILED|ERROR) |(^|\W)E   |fatal: \[|^\s*(failed|refused) +\w")
_FATAL = re.compile(r"fatal: \[|^\s*(failed|refused) +\w")
_MOST = 60


@dataclass(frozen=True)
class Step:
    """One check: its commands run in their order until one fails. What comes after a `vital` one needs it."""

    name: str
    title: str
    commands: tuple[tuple[str, ...], ...]
    vital: bool = False


def run(steps: Iterable[Step | tuple[Step, ...]], logs: Path, *, resume: bool = False) -> int:
    """Run the steps; return 0, or 1 if one failed.

    Steps in a tuple run side by side. What the first of them says is shown at once, what the others say when all have
    ended. Each one's output is kept in `logs` (NAME.log). With `resume` a step that has passed before on the same files
    is not run again. At the end stand the seconds of each step and, last of all, why any failed.
    """
    logs.mkdir(parents=True, exist_ok=True)
    record = logs / "passed.json"
    tree = fingerprint(Path.cwd())
    passed = _read(record) if resume else {}
    begun, table, failed = time.monotonic(), [], []
    for group in steps:
        group = group if isinstance(group, tuple) else (group,)
        due = [step for step in group if passed.get(step.name) != tree]
        table += [(step.name, "passed before", 0.0) for step in group if step not in due]
        for step in due:
            print(f"\n== {step.title} ({time.monotonic() - begun:.0f} s)", flush=True)
        told = [logs / f"{step.name}.log" for step in due]
        with ThreadPoolExecutor(max_workers=len(group)) as pool:
            ended = [*pool.map(_run, due, told, [log is told[0] for log in told])]
        for step, log, (good, seconds) in zip(due, told, ended, strict=True):
            table.append((step.name, "passed" if good else "FAILED", seconds))
            if log is not told[0]:
                print(f"\n== {step.title}\n{log.read_text(errors='replace')}", flush=True)
            if good and resume:
                passed[step.name] = tree
                record.write_text(json.dumps(passed))
            if not good:
                failed.append(log)
        if any(step.vital for step, (good, _) in zip(due, ended, strict=True) if not good):
            break
    print("\n== Seconds by step")
    for name, how, seconds in table:
        print(f"{name:<12} {seconds:>6.0f}  {how}")
    print(f"{'all':<12} {time.monotonic() - begun:>6.0f}", flush=True)
    for log in failed:
        print(f"\n== Failed: {log}")
        print("\n".join(reason(log.read_text(errors="replace"))))
    return 1 if failed else 0


def _run(step: Step, log: Path, shown: bool) -> tuple[bool, float]:
    """Run a step's commands; return whether all succeeded, and the seconds that took."""
    started = time.monotonic()
    with log.open("wb") as file:
        for command in step.commands:
            # A terminal's lines, and a file's.
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            while piece := process.stdout.read1(65536):
                file.write(piece)
                if shown:
                    sys.stdout.buffer.write(piece)
                    sys.stdout.buffer.flush()
            if process.wait():
                return False, time.monotonic() - started
    return True, time.monotonic() - started


def reason(text: str) -> list[str]:
    """Return the lines of an output that say why it failed; its last ones where none says so."""
    lines = [_COLOURS.sub("", line).rstrip() for line in text.splitlines()]
    told: list[str] = []
    until = -1
    for number, line in enumerate(lines):
        if _FATAL.search(line):
            until = number + 20
        if number <= until and re.search(r"PLAY RECAP|^TASK |^\s*$", line):
            until = -1
        if number <= until or _TOLD.search(line):
            told.append(line)
    return told[-_MOST:] or [line for line in lines if line][-30:]


def fingerprint(directory: Path) -> str:
    """Return a hash of every file's path and content below a directory, but for what the checks themselves make."""
    digest = hashlib.sha256()
    for folder, folders, files in os.walk(directory):
        folders[:] = sorted(
            name for name in folders if name not in _MADE and not name.startswith(".")
        )
        for name in sorted(files):
            path = Path(folder, name)
            digest.update(f"{path.relative_to(directory)}\0".encode())
            digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


def _read(path: Path) -> dict[str, str]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
