"""What was found, in words: a number, a change, a verdict for a terminal."""

from __future__ import annotations

from dataclasses import replace

from .findings import Facts, Finding


def describe(facts: Facts, found: list[Finding]) -> list[str]:
    """Return the verdict for a terminal: a line for each migration, and below it what was found."""
    lines, names = [], told_of(facts)
    if facts.told and found:
        lines.append(
            "There is nothing to migrate, so a deploy would not be stopped by any of this:"
        )
    for name in ["", *names]:
        its = [one for one in found if (one.migration if one.migration in names else "") == name]
        rehearsed = next((one for one in facts.migrations if one["migration"] == name), None)
        if name:
            word = "STOP" if any(one.stops for one in its) else "go" if rehearsed else "?"
            lines.append(f"{word:<5} {name}{_costs(rehearsed)}")
        lines += [line for one in told_once(its) for line in _lines(one)]
    return lines


def told_of(facts: Facts) -> list[str]:
    """Return what a verdict has a line for: each migration, and what was done afterwards if anything was."""
    pending = facts.look["pending"]
    return [
        *pending,
        *(one["migration"] for one in facts.migrations if one["migration"] not in pending),
    ]


def brief(found: list[Finding]) -> str:
    """Return what stops a deploy in a few words, empty if nothing does: each migration with its kinds of findings."""
    kinds: dict[str, list[str]] = {}
    for one in found:
        if one.stops:
            kinds.setdefault(one.migration or "the database", []).append(one.kind)
    return "; ".join(f"{where}: {', '.join(dict.fromkeys(its))}" for where, its in kinds.items())


def told_once(found: list[Finding]) -> list[Finding]:
    """Return findings with a remedy that several have at the last of them only."""
    last = {one.remedy: one for one in found}
    return [one if last[one.remedy] is one else replace(one, remedy="") for one in found]


def _costs(one: dict | None) -> str:
    if one is None:
        return ": not rehearsed"
    if one.get("error"):
        return f": failed after {one['seconds']:.2f} s"
    parts = [f"{one['seconds']:.2f} s"]
    held = [lock for lock in one["locks"] if lock["blocks"]]
    if held:
        # Of those that last alike, the one that keeps most away.
        everybody = "reads and writes"
        longest = max(held, key=lambda one: (round(one["seconds"], 1), one["blocks"] == everybody))
        parts.append(f"{longest['blocks']} of {longest['table']} wait {longest['seconds']:.2f} s")
    parts += [f"rewrites {table['table']}" for table in one["rewritten"]]
    written = sum(table["written"] for table in one["tables"])
    if written:
        parts.append(f"{counted(written, 'row')} written")
    return f": {', '.join([*parts, describe_reversal(one['reversal'])])}"


def _lines(one: Finding) -> list[str]:
    if one.allowed:
        return [f"      allowed {one.kind}: {one.text} ({one.allowed})"]
    word = "stop" if one.stops else "warning"
    lines = [f"      {word} {one.kind}: {one.text}"]
    return lines + [f"          {line}" for line in one.remedy.splitlines() if line.strip()]


def describe_change(change: dict) -> str:
    """Return in words what became of a column's or table's contents."""
    where, count = change["where"], change["count"]
    return {
        "rows": f"{counted(count, 'row')} of {where} {'is' if count == 1 else 'are'} deleted",
        "left": f"{counted(count, 'row')} of {where} {'is' if count == 1 else 'are'} no longer in it",
        "unlogged": f"{where} is no longer in the log: a crash leaves it empty, and so does a backup",
        "hidden": f"{counted(count, 'row')} of {where} {'is' if count == 1 else 'are'} hidden from the application",
        "gone": f"{where} goes, with {counted(count, 'value')} in it",
        "table": f"{where} goes, with {counted(count, 'row')} in it",
        "emptied": f"{counted(count, 'value')} of {where} {'becomes' if count == 1 else 'become'} empty",
        "filled": f"{counted(count, 'empty value')} of {where} {'is' if count == 1 else 'are'} filled",
        "changed": f"values of {where} become others",
        "converted": f"values of {where} become others with its new type",
    }[change["kind"]]


def describe_reversal(reversal: dict) -> str:
    """Return in words what taking a migration back does."""
    word = reversal["class"]
    return word if word == "irreversible" else f"reversal {word}"


def counted(number: int, word: str) -> str:
    """Return so many of a thing in words."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def size(count: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
