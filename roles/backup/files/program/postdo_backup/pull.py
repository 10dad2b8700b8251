"""Another environment's data in the place of this one's: production's in development, anonymised."""

from __future__ import annotations

import sys

from postdo_host import Failure
from postdo_host.database import psql

from . import copies, repository
from .copies import Copy
from .environment import Environment
from .switch import switch
from .targets import choose


def pull(environment: Environment, source: Environment, sql: str) -> str:
    """Put a copy of another environment's newest backup in the place of this one's data.

    The copy runs without a way in or out until the SQL has been applied. Returns what was done.
    """
    target, base, _ = choose(source, repository.contents(source, live=False), "latest")
    copies.room(environment, base.size)
    copies.make_volume(environment, environment.volume)
    copies.place(environment.volume)
    with Copy(environment, "pulling", source=source) as copy:
        copy.restore(target)
        copy.start()
        theirs, ours = source.database, environment.database
        for kind, key in (("DATABASE", "name"), ("ROLE", "user")):
            if theirs[key] != ours[key]:
                psql(copy.container, f'ALTER {kind} "{theirs[key]}" RENAME TO "{ours[key]}"')
        copy.prepare()
        # The SQL is about one database, and what a load has kept is full of people too.
        others = "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'"
        for name in psql(copy.container, others).splitlines():
            if name != ours["name"]:
                psql(copy.container, f'DROP DATABASE "{name}"')
        if sql:
            # What the SQL replaced goes from the planner's statistics, and only then from the files of all
            # tables: those of the statistics are among them.
            script = f"BEGIN;\n{sql}\n;\nCOMMIT;\nANALYZE;\nVACUUM FULL;\n"
            psql(copy.container, script, ours["name"])
        counted = copy.counts().values()
        copy.stop()
        if sql:
            copy.forget_log()
        (kept,) = switch(
            environment, {environment.volume: copy.volume}, f"the data of {source.prefix}"
        )
    return (
        f"{environment.prefix} has the data of {source.prefix}: {sum(rows.all for rows in counted)} rows in "
        f"{len(counted)} tables{', anonymised' if sql else ', NOT anonymised'}. The data of before is kept "
        f"in {kept}."
    )


def read_sql() -> str:
    """Return the SQL on the standard input; raises Failure if there is none."""
    text = sys.stdin.read()
    if not text.strip():
        raise Failure("The file of SQL is empty. Nothing was changed.")
    return text
