"""The command line: `python -m django_rehearsal OPERATION`, in the project's directory with its environment.

Every answer is a line of JSON on the standard output, after the line `ANSWERS`. The exit status is 0, 1 where a
migration failed (which was told), 2 where the project or its database can't be examined (said on the standard error),
or 75 where somebody else migrates the database.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from django.db import Error

from . import entry

try:
    from . import (
        catalog,
        contents,
        exercise,
        failures,
        findings,
        fit,
        health,
        history,
        live,
        policy,
        project,
        relations,
        replay,
        report,
        rewind,
        trial,
        verdict,
        wording,
    )
except (ImportError, ImproperlyConfigured) as error:
    # With Python's own status this would be a migration that failed.
    print(entry.DRIVER if entry.lacks_driver(error) else error, file=sys.stderr)
    sys.exit(2)


def main() -> int:
    """Run one operation and return the exit status."""
    parser = argparse.ArgumentParser(prog="django_rehearsal", description=__doc__.splitlines()[0])
    operations = parser.add_subparsers(required=True, metavar="OPERATION")

    def operation(
        function: Callable[[argparse.Namespace, Callable], int],
    ) -> argparse.ArgumentParser:
        name = function.__name__.strip("_")
        one = operations.add_parser(name, help=function.__doc__)
        one.set_defaults(function=function)
        return one

    operation(_look)
    operation(_replay).add_argument("--database", required=True)
    operation(_rewind)
    rehearse = operation(_rehearse)
    rehearse.add_argument("--interrupted", default="")
    rehearse.add_argument("--pause", action="store_true")
    operation(_judge)
    operation(_exercise).add_argument("--requests", type=json.loads, default=[])
    operation(_apply)
    lint = operation(_lint)
    lint.add_argument("--squawk", default="squawk", metavar="PROGRAM")
    lint.add_argument("files", nargs="*", type=Path, metavar="FILE")
    asked = parser.parse_args()
    channel = project.answers()
    try:
        return asked.function(asked, partial(project.say, channel))
    except live.Busy:
        return 75
    except trial.Stopped:
        return 1
    except policy.Unusable as error:
        print(error, file=sys.stderr)
        return 2
    except (Error, ImproperlyConfigured, ImportError, OSError) as error:
        print(failures.words(error), file=sys.stderr)
        return 2
    except SystemExit as end:
        print(f"the project's own code ends the program: {end.code}", file=sys.stderr)
        return 2
    except Exception:  # noqa: BLE001 - the project's code may raise anything, and Python's own status means another thing
        traceback.print_exc()
        return 2


def _look(asked: argparse.Namespace, say: Callable[[object], None]) -> int:
    """say what the database lacks, what is wrong with it, and what its schema is; change nothing"""
    connection = project.set_up(read_only=True)
    policy.read(entry.HERE)
    found = history.read(connection)
    say(
        {
            **asdict(found),
            "catalog": catalog.read(connection),
            "ailments": [asdict(one) for one in health.examine(connection)],
            "invalid_indexes": relations.invalid_indexes(connection),
            "unseen": contents.unseen(connection),
            "unfit": fit.reasons(connection),
        }
    )
    return 0


def _replay(asked: argparse.Namespace, say: Callable[[object], None]) -> int:
    """apply to another, empty database what standard input names as recorded, and say its schema"""
    connection = project.set_up(asked.database)
    try:
        say({"catalog": replay.replay(connection, json.load(sys.stdin))})
    except replay.Unplayable as error:
        say({"migration": error.migration, "error": str(error)})
        return 1
    return 0


def _rewind(asked: argparse.Namespace, say: Callable[[object], None]) -> int:
    """take back what the database has applied and standard input does not name"""
    connection = project.set_up()
    try:
        say({"rewound": rewind.rewind(connection, json.load(sys.stdin))})
    except rewind.Irreversible as error:
        say({"error": str(error)})
        return 1
    return 0


def _rehearse(asked: argparse.Namespace, say: Callable[[object], None]) -> int:
    """apply what the database lacks, a line for each migration; with --pause begin and go on at each line of input"""

    def wait() -> None:
        if asked.pause and not sys.stdin.readline():
            raise trial.Stopped

    def tell(found: dict) -> None:
        say(found)
        wait()

    connection = project.set_up()
    # A copy is read as a whole, which is no visitor's query; on the live database there are limits of our own.
    project.lift_limits()
    rehearsed = trial.Trial(connection, tell, asked.interrupted)
    wait()
    schema = rehearsed.run()
    # Whatever a migration has set in its session is not the application's.
    connection.close()
    say({"catalog": schema, "exercise": asdict(exercise.exercise([]))})
    return 0


def _judge(asked: argparse.Namespace, say: Callable[[object], None]) -> int:
    """say what the facts on standard input mean by this project's policy, for a terminal and as a page"""
    facts, ruled = findings.Facts(**json.load(sys.stdin)), policy.read(entry.HERE)
    found = verdict.judge(facts, ruled)
    say(
        {
            "go": not any(one.stops for one in found),
            "why": wording.brief(found),
            "lines": wording.describe(facts, found) + verdict.unused(facts, ruled, found),
            "limits": verdict.limits(facts),
            "page": report.page(facts, ruled, found),
        }
    )
    return 0


def _exercise(asked: argparse.Namespace, say: Callable[[object], None]) -> int:
    """use every model and make the requests, and say what could be done; again for each line of input"""
    connection = project.set_up()
    again = True
    while again:
        done = exercise.exercise(asked.requests)
        # What was undone is counted by the server too, and is not to be counted later as the next migration's.
        relations.flush(connection)
        # As requests do, each time with a connection of its own.
        connection.close()
        say(asdict(done))
        again = bool(sys.stdin.readline())
    return 0


def _apply(asked: argparse.Namespace, say: Callable[[object], None]) -> int:
    """apply what the live database lacks, a line before and after each migration, within the limits on standard input"""
    told = json.load(sys.stdin)
    limits = live.Limits(**told.get("limits", {}))
    connection = project.set_up()
    live.Live(connection, say, limits, told.get("interrupted", "")).run()
    return 0


def _lint(asked: argparse.Namespace, say: Callable[[object], None]) -> int:
    """say what Django and two linters, which must be installed, find in the models and the named migrations' files"""
    from . import lint

    connection = project.set_up(read_only=True)
    found = lint.lint(connection, asked.files, policy.read(entry.HERE), asked.squawk)
    lines, stop = [str(one) for one in found], any(one.stops for one in found)
    if stop:
        lines.append(lint.REMEDY)
    say({"lines": lines, "stop": stop})
    return 0


if __name__ == "__main__":
    sys.exit(main())
