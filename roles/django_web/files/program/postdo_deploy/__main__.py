"""The command line: what playbooks call on the environment's host."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from postdo_host import Failure, exit_status, when
from postdo_host.files import write_whole

from . import deploy, releases
from .account import Account, describe_visitors, history
from .environment import Environment


def main() -> int:
    """Run one operation; its exit status is 0, 1 for a failure, or 75 where somebody is at work."""
    parser = argparse.ArgumentParser(prog="postdo-deploy", allow_abbrev=False)
    parser.add_argument("--environment", type=Path, required=True, metavar="FILE")
    operations = parser.add_subparsers(required=True, metavar="OPERATION")

    def operation(function: Callable, *options: tuple[str, dict]) -> None:
        name = function.__name__.strip("_").replace("_", "-")
        one = operations.add_parser(name, help=function.__doc__, allow_abbrev=False)
        for flag, settings in options:
            one.add_argument(flag, **settings)
        one.set_defaults(function=function)

    by = ("--by", {"default": "somebody on this host"})
    operation(_deploy, ("release", {}), by, ("--began", {"type": float, "default": 0.0}))
    operation(_rollback, ("--to", {"default": ""}), by)
    like = {"default": "", "metavar": "CONTAINER"}
    operation(_rehearse, ("release", {}), by, ("--web", like), ("--before", like))
    operation(_releases)
    operation(_maintenance, ("state", {"choices": ["on", "off"]}), by)
    operation(_history, ("--json", {"action": "store_true"}))
    asked = parser.parse_args()
    # To be ended is to go back.
    for kind in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(kind, _ended)

    def operate() -> None:
        environment = Environment(asked.environment)
        if not environment.releases.is_dir() and not getattr(asked, "web", ""):
            raise Failure(f"Nothing was deployed here yet. Deploy it: {environment.call}")
        asked.function(environment, asked)

    return exit_status(operate)


def _ended(number: int, _: object) -> None:
    """Raise Failure where somebody ends the program."""
    raise Failure(f"Ended by {signal.Signals(number).name}.")


def _deploy(environment: Environment, asked: argparse.Namespace) -> None:
    """let a release that was made here serve, if it proves itself"""
    account = Account(environment, "deploy", asked.by, asked.began)
    _account(environment, account, lambda: deploy.deploy(environment, asked.release, account))


def _rollback(environment: Environment, asked: argparse.Namespace) -> None:
    """let an earlier release serve again"""
    account = Account(environment, "rollback", asked.by)
    _account(environment, account, lambda: deploy.roll_back(environment, asked.to, account))


def _rehearse(environment: Environment, asked: argparse.Namespace) -> None:
    """try a release's migrations on a copy of the database, and leave everything as it is"""
    with environment.lock(asked.by):
        if asked.web:
            said = deploy.rehearse_tree(environment, asked.release, asked.web, asked.before)
        else:
            said = deploy.rehearse(environment, asked.release)
    print("\n".join(said))


def _account(environment: Environment, account: Account, work: Callable[[], list[str]]) -> None:
    """Do the work alone, tell what it did, and keep that."""
    with environment.lock(account.entry["by"]):
        try:
            said = work()
        except BaseException as problem:
            account.settled = not getattr(problem, "__notes__", [])
            # Where the disk is full, that is what is to be told.
            with contextlib.suppress(OSError):
                account.close(str(problem) or type(problem).__name__)
            if isinstance(problem, Failure) and account.entry.get("release"):
                words = [
                    str(problem),
                    *getattr(problem, "__notes__", []),
                    account.describe_failure(),
                ]
                raise Failure("\n".join(words)) from None
            raise
        account.close()
    print("\n".join([*said, account.describe()]))


def _releases(environment: Environment, asked: argparse.Namespace) -> None:
    """list the releases that can serve again"""
    known = releases.kept(environment)
    print("\n".join(releases.table(known, releases.current(environment))) or "none yet")


def _maintenance(environment: Environment, asked: argparse.Namespace) -> None:
    """show visitors a page that says so, or the site again"""
    flag, there = environment.maintenance, environment.maintenance.exists()
    if asked.state == "on" and not there:
        # An empty one, as a full disk would leave it, would keep visitors from the site.
        write_whole(flag, f"{when(time.time())} by {asked.by}\n")
    elif asked.state == "off":
        flag.unlink(missing_ok=True)
    since = f" since {flag.read_text().strip()}" if flag.exists() else ""
    changed = "" if there == (asked.state == "on") else "now "
    print(f"Maintenance is {changed}{asked.state}{since}.")


def _history(environment: Environment, asked: argparse.Namespace) -> None:
    """tell what was deployed, and what it cost"""
    entries = history(environment)
    if asked.json:
        print(json.dumps(entries))
        return
    for entry in entries:
        took = entry["ended"] - entry["at"]
        print(
            f"{when(entry['at'])}  {entry['operation']:<8}  {entry.get('release', '-'):<12}  "
            f"{entry.get('revision') or '-'}  {took:.1f} s  {entry['by']}\n"
            f"    {entry['problem'] or describe_visitors(entry)}"
        )
    if not entries:
        print("Nothing was deployed here yet.")


if __name__ == "__main__":
    sys.exit(main())
