"""What a deploy did and what it cost its visitors: told at its end, and kept as the environment's history."""

from __future__ import annotations

import json
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from postdo_host import when
from postdo_host.files import write_whole
from postdo_host.stopwatch import Stopwatch

from .environment import Environment
from .front import Seen
from .releases import Release

_KEPT = 200


class Account:
    """One deploy or rollback, written down step by step so that a killed one can be told from a finished one."""

    def __init__(self, environment: Environment, operation: str, by: str, began: float = 0) -> None:
        self._environment = environment
        self.begun = time.time()
        # False where something is left to do: the next run then does not take all for well.
        self.settled = True
        self._written = False
        self._watch = Stopwatch()
        if began:
            self._watch.steps["prepare"] = round(self.begun - began, 2)
        self.entry: dict = {
            "operation": operation,
            "by": by,
            "at": self.begun,
            "steps": self._watch.steps,
        }

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure a step, and say while it lasts that it is under way."""
        self._write_underway(name)
        with self._watch.step(name):
            yield

    def about(self, release: Release, before: Release | None) -> None:
        """Say which release this is about, and which one served before."""
        self.entry |= {
            "release": release.name,
            "revision": release.revision,
            "before": before.name if before else "",
        }

    def _write_underway(self, step: str) -> None:
        write_whole(self._environment.underway, json.dumps({**self.entry, "step": step}))
        self._written = True

    def close(self, problem: str = "") -> None:
        """Add this to the history, the oldest entries going, and say no longer that it is under way.

        What an earlier run left is for one that does something to settle.
        """
        self.entry |= {"problem": problem.splitlines()[0] if problem else "", "ended": time.time()}
        history = self._environment.history
        lines = history.read_text().splitlines() if history.exists() else []
        kept = [*lines[1 - _KEPT :], json.dumps(self.entry)]
        write_whole(history, "".join(f"{line}\n" for line in kept))
        if self.settled and self._written:
            self._environment.underway.unlink(missing_ok=True)

    def saw(self, seen: Seen | None) -> None:
        """Take over what the visitor met; None where there was no site to visit."""
        self.entry["visitors"] = seen and {
            "sent": seen.sent,
            "failed": len(seen.failed),
            "how": dict(Counter(seen.failed)),
            "gap": seen.gap,
            "asked": seen.paths,
        }

    def describe(self) -> str:
        """Return the account for people."""
        entry = self.entry
        steps = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in entry["steps"].items())
        before = f", in the place of {entry['before']}" if entry["before"] else ""
        lines = [
            f"  release     {entry['release']}{before}",
            f"  revision    {entry['revision'] or 'not under version control'}; by {entry['by']}",
            f"  steps       {steps or 'none'}",
            f"  visitors    {describe_visitors(entry)}",
        ]
        if visitors := entry.get("visitors"):
            lines.append(f"  asked for   {', '.join(visitors['asked'])}")
        if entry.get("migrations"):
            names = ", ".join(entry["migrations"])
            lines.append(
                textwrap.fill(
                    names,
                    width=110,
                    initial_indent="  migrations  ",
                    subsequent_indent=" " * 14,
                    break_on_hyphens=False,
                )
            )
        return "\n".join(lines)

    def describe_failure(self) -> str:
        """Return what stands after a failure, for people."""
        entry = self.entry
        applied = entry.get("migrations", [])
        link = self._environment.releases / "current"
        serves = str(link.readlink()) if link.is_symlink() else "nothing"
        as_before = ", as before" if serves == entry.get("before") != entry.get("release") else ""
        lines = [f"What serves is {serves}{as_before}; visitors: {describe_visitors(entry)}."]
        if applied:
            lines.append(f"Applied before it failed, and kept: {', '.join(applied)}.")
        return "\n".join(lines)


def describe_visitors(entry: dict) -> str:
    """Return in words what an entry's visitors met."""
    if "visitors" not in entry:
        return "not asked: it ended before anything was switched"
    visitors = entry["visitors"]
    if visitors is None:
        return "not asked: the site was not to be reached before"
    how = f" ({', '.join(f'{n} {what}' for what, n in visitors['how'].items())})"
    return (
        f"{visitors['sent']} requests sent during the switch, {visitors['failed']} failed"
        f"{how if visitors['failed'] else ''}, longest gap {visitors['gap'] * 1000:.0f} ms"
    )


def interrupted(environment: Environment) -> list[str]:
    """Return a sentence about a deploy that was cut off; none where the last one ended."""
    try:
        entry = json.loads(environment.underway.read_text())
        begun = f"that {entry['by']} began at {when(entry['at'])}"
        return [f"The {entry['operation']} {begun} was cut off in its step {entry['step']}."]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError):
        return ["A deploy was cut off."]


def history(environment: Environment, count: int = 20) -> list[dict]:
    """Return the newest entries, oldest first."""
    if not environment.history.exists():
        return []
    lines = environment.history.read_text().splitlines()[-count:]
    return [json.loads(line) for line in lines]
