"""The command line: what timers and playbooks call on the environment's host."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from postdo_host import Busy, Failure, exit_status, running, size, when

from . import (
    drill,
    health,
    media,
    prepare,
    pull,
    record,
    rehearsal,
    repository,
    restore,
    targets,
    timelines,
    transfer,
)
from .environment import Environment


def main() -> int:
    """Run one operation; its exit status is 0, 1 for a failure, or 75 where somebody is at work."""
    parser = argparse.ArgumentParser(prog="postdo-backup", allow_abbrev=False)
    parser.add_argument("--environment", type=Path, required=True, metavar="FILE")
    operations = parser.add_subparsers(required=True, metavar="OPERATION")

    def operation(function, *options: tuple[str, dict]) -> None:
        name = function.__name__.strip("_").replace("_", "-")
        one = operations.add_parser(name, help=function.__doc__, allow_abbrev=False)
        for flag, settings in options:
            one.add_argument(flag, **settings)
        one.set_defaults(function=function)

    yes = {"action": "store_true"}
    operation(_prepare, ("--anew", yes))
    operation(_scheduled)
    operation(_backup, ("--type", {"choices": ["auto", "full", "diff", "incr"], "default": "auto"}))
    operation(_drill)
    operation(_check)
    operation(_status)
    operation(_mark, ("name", {}))
    operation(
        _restore, ("--to", {"required": True}), ("--uploads", yes), ("--accept-unapplied", yes)
    )
    operation(_restore_uploads, ("--to", {"required": True}))
    operation(_inspect, ("--to", {"required": True}))
    operation(_inspect_end)
    operation(_rehearsal, ("point", {}))
    operation(_rehearsal_end)
    operation(_pull, ("--source", {"type": Path, "required": True}), ("--sql", yes))
    operation(_dump, ("path", {"type": Path}))
    operation(_load, ("path", {"type": Path}), ("--sql", yes))
    asked = parser.parse_args()
    # To be ended is to clean up.
    for kind in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(kind, lambda number, _: sys.exit(128 + number))
    return exit_status(lambda: asked.function(Environment(asked.environment), asked))


def _prepare(environment: Environment, asked: argparse.Namespace) -> None:
    """make the repositories where there are none"""
    with environment.lock("backup", wait=600):
        print(json.dumps(prepare.prepare(environment, anew=asked.anew)))


def _scheduled(environment: Environment, asked: argparse.Namespace) -> None:
    """make the backup that is due now; where one is being made, that is enough"""
    asked.type = "auto"
    try:
        _backup(environment, asked)
    except Busy as busy:
        print(busy)


def _backup(environment: Environment, asked: argparse.Namespace) -> None:
    """make a backup now"""
    with environment.lock("backup"):
        print(_make(environment, asked.type))


def _make(environment: Environment, type_: str) -> str:
    """Make a backup of database and uploads, record it, and return what it cost."""
    _require(environment)
    begun, said, failures, label = time.monotonic(), [], [], ""
    with record.told(environment, "backup"):
        try:
            made = _make_database(environment, type_)
            label = made.label
            said.append(repository.describe(made))
        except Failure as failure:
            failures.append(str(failure))
        # They are backed up whatever is wrong with the database.
        try:
            said += _make_uploads(environment)
        except Failure as failure:
            failures.append(str(failure))
        if failures:
            raise Failure("\n".join(failures))
        seconds = round(time.monotonic() - begun, 2)
        record.result(environment, "backup", "", label=label, seconds=seconds)
    return "\n".join([*said, repository.reach(environment, repository.contents(environment))])


def _make_database(environment: Environment, type_: str) -> repository.Backup:
    """Make a backup of the database."""
    if not running(environment.container):
        raise Failure(f"{environment.container} does not run; start it: {environment.call}")
    held = repository.contents(environment)
    timelines.reconcile(environment, held)
    if type_ == "auto":
        type_ = repository.due(environment, held, time.time())
    try:
        made = repository.back_up(environment, type_, timelines.to_note(environment, held))
    except Failure as failure:
        # A backup waits for its log in vain where the stream is broken: that is the reason.
        with contextlib.suppress(Failure):
            failure = Failure("\n".join([str(failure), *health.stream(environment)]))
        raise failure from None
    if made.type == "full":
        system = repository.system(environment)
        record.write(environment, begun=prepare.identity(environment, system))
    return made


def _make_uploads(environment: Environment) -> list[str]:
    """Make a backup of the uploads, if there are any to keep; return what it cost."""
    if not media.kept(environment):
        return []
    made = media.back_up(environment)
    cost = f"{size(made['size'])}, {size(made['added'])} stored"
    return [f"uploads: {made['files']} files, {cost}"]


def _drill(environment: Environment, asked: argparse.Namespace) -> None:
    """restore the newest backup to scratch, examine it, measure it, destroy it"""
    _require(environment)
    with environment.lock("copy"), record.told(environment, "drill"):
        proven = drill.drill(environment)
        record.result(environment, "drill", "", **proven)
    steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in proven["steps"].items())
    print(
        f"Restored {proven['backup']} and the log since then, to {proven['restored_to']}, in "
        f"{proven['seconds']:.1f} s ({steps}).\n"
        f"{proven['rows']} rows in {proven['tables']} tables, {size(proven['size'])}; uploads: "
        f"{'not kept here' if proven['uploads'] is None else proven['uploads']}; Django: {proven['django']}.\n"
        f"Removed because of their age: {', '.join(proven['removed']) or 'nothing'}."
    )


def _check(environment: Environment, asked: argparse.Namespace) -> None:
    """fail, and tell the operator, if the environment could not be recovered now"""
    _require(environment)
    try:
        with _bounded(180):
            problems = health.examine(environment)["problems"]
    except (Failure, OSError, LookupError, TypeError, ValueError) as error:
        # An engine that hangs, a disk that is full: what keeps it from looking is to be told too.
        problems = [f"the state of the backups can't be seen: {error}"]
    if problems:
        text = "\n".join(problems)
        record.alert(environment, "check", text)
        raise Failure(text)
    record.well(environment, "check")
    print("Backups and drills are as they should be.")


@contextmanager
def _bounded(seconds: int) -> Iterator[None]:
    """Raise Failure if what happens inside takes longer."""

    def late(*_: object) -> None:
        raise Failure(f"no answer within {seconds} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


def _status(environment: Environment, asked: argparse.Namespace) -> None:
    """print the state of the backups as JSON"""
    print(json.dumps(health.examine(environment)))


def _mark(environment: Environment, asked: argparse.Namespace) -> None:
    """name this moment, so that it can be restored by name"""
    _require(environment)
    targets.require_name(asked.name)
    _, moment = timelines.mark(environment, asked.name)
    print(f"{asked.name} is {when(moment)}.")


def _rehearsal(environment: Environment, asked: argparse.Namespace) -> None:
    """make a copy of the database to rehearse on, and say as JSON where it is"""
    with environment.lock("copy", wait=600):
        print(json.dumps(rehearsal.make(environment, asked.point)))


def _rehearsal_end(environment: Environment, asked: argparse.Namespace) -> None:
    """remove what rehearsal made"""
    # Nobody else's: a deploy that ends need not wait for a drill.
    rehearsal.end(environment)


def _restore(environment: Environment, asked: argparse.Namespace) -> None:
    """restore aside, examine, and put it in the place of what runs"""
    _require(environment)
    with environment.lock("copy"), environment.lock("backup", wait=600):
        accepted = asked.accept_unapplied
        print(
            restore.restore(
                environment, asked.to, uploads=asked.uploads, unapplied_accepted=accepted
            )
        )
        if running(environment.container):
            print(_make(environment, "incr"))


def _restore_uploads(environment: Environment, asked: argparse.Namespace) -> None:
    """restore the uploads alone, and leave the database as it is"""
    _require(environment)
    with environment.lock("copy"), environment.lock("backup", wait=600):
        print(restore.restore_uploads(environment, asked.to))
        uploads = media.back_up(environment)
        print(f"A snapshot of them was taken: {size(uploads['added'])} stored.")


def _inspect(environment: Environment, asked: argparse.Namespace) -> None:
    """restore beside the database, to look inside"""
    _require(environment)
    with environment.lock("copy"):
        print(restore.look(environment, asked.to))


def _inspect_end(environment: Environment, asked: argparse.Namespace) -> None:
    """remove what inspect made"""
    with environment.lock("copy"):
        print(restore.end_look(environment))


def _pull(environment: Environment, asked: argparse.Namespace) -> None:
    """put another environment's newest backup in the place of this one's data"""
    sql = pull.read_sql() if asked.sql else ""
    if not asked.source.exists():
        raise Failure(
            f"pull_from names an environment that is not on this host ({asked.source} is missing). Dump it "
            "there and load the dump here: dump, load."
        )
    source = Environment(asked.source)
    with environment.lock("copy"):
        print(pull.pull(environment, source, sql))


def _dump(environment: Environment, asked: argparse.Namespace) -> None:
    """write the application's database to a file"""
    written = transfer.dump(environment, asked.path)
    print(f"{asked.path}: {size(written)}")


def _load(environment: Environment, asked: argparse.Namespace) -> None:
    """load a dump into a new database and put it in the place of the old one"""
    sql = pull.read_sql() if asked.sql else ""
    with environment.lock("copy"):
        old = transfer.load(environment, asked.path, sql)
    print(
        f"{asked.path} is loaded. The database of before is {old}; when you are sure: "
        f"docker exec {environment.container} dropdb -U postgres {old}"
    )


def _require(environment: Environment) -> None:
    """Raise Failure where the environment keeps no backups."""
    if not environment.enabled:
        raise Failure("backup_enabled is false here. Set it to true in the inventory, and run.")


if __name__ == "__main__":
    sys.exit(main())
