"""The report of a rehearsal: one page that needs nothing but a browser."""

from __future__ import annotations

from pathlib import Path

from django.template import Context, Engine, Library

from . import verdict, wording
from .findings import Facts, Finding
from .policy import Policy

# By the class of what waits: in a timeline's bars and in the words beside them.
_KINDS = {"reads and writes": "all", "writes": "writes"}

# Django's own filters for numbers write them as the project's visitors do, and need the project loaded.
_FILTERS = Library()


@_FILTERS.filter
def seconds(value: float, digits: int) -> str:
    """Return a duration with so many digits behind the point."""
    return f"{value:.{digits}f} s"


def page(facts: Facts, policy: Policy, found: list[Finding]) -> str:
    """Return the page as HTML."""
    engine = Engine(dirs=[str(Path(__file__).parent)])
    engine.template_builtins.append(_FILTERS)
    names = wording.told_of(facts)
    spent = sum(one["seconds"] for one in facts.migrations)
    total = spent or 1.0
    begun, migrations = 0.0, []
    rehearsed = {one["migration"]: one for one in facts.migrations}
    for name in names:
        its = wording.told_once([one for one in found if one.migration == name])
        one = rehearsed.get(name)
        row = {
            "name": name,
            "stops": any(finding.stops for finding in its),
            "findings": its,
            "rehearsed": bool(one),
        }
        if one:
            row |= one | _drawn(one, begun, total)
            begun += one["seconds"]
        migrations.append(row)
    context = {
        "go": not any(one.stops for one in found),
        "about": facts.about,
        "steps": facts.steps,
        "took": sum(facts.steps.values()),
        "spent": spent,
        "findings": [one for one in found if one.migration not in names],
        "migrations": migrations,
        "stopping": sum(row["stops"] for row in migrations),
        "drift": [
            {"one": one, "why": policy.adoption(one.object, one.found)}
            for one in verdict.surprises(facts)
            # The others are findings.
            if one.foreign or policy.adoption(one.object, one.found)
        ],
        "overrides": policy.overrides,
        "unused": verdict.unused(facts, policy, found),
        "digits": 2 if total > 0.2 else 3,
        "ticks": [{"at": 25 * n, "seconds": total * n / 4} for n in range(5)],
    }
    return engine.get_template("report.html").render(Context(context, use_l10n=False))


def _drawn(one: dict, begun: float, total: float) -> dict:
    """Return where a migration's bars lie, in percent of the whole, and its figures in words."""
    return {
        "left": _percent(begun, total),
        "width": _percent(one["seconds"], total),
        "bars": [
            lock
            | {
                "left": _percent(begun + lock["since"], total),
                "width": _percent(min(lock["seconds"], one["seconds"] - lock["since"]), total),
                "kind": _KINDS[lock["blocks"]],
            }
            for lock in one["locks"]
            if lock["blocks"]
        ],
        "wal_words": wording.size(one.get("wal", 0)),
        "back": wording.describe_reversal(one["reversal"]) if "reversal" in one else "",
        "changed": [wording.describe_change(change) for change in one.get("changes", ())]
        + [f"the {key} goes" for key in one.get("dropped", ())],
        "sizes": [
            table
            | {"before": wording.size(table["bytes"][0]), "after": wording.size(table["bytes"][1])}
            for table in one.get("tables", ())
        ],
    }


def _percent(part: float, whole: float) -> str:
    # As text: a browser reads no number in another language's writing.
    return f"{100 * part / whole:.3f}"
