"""The project that is examined: set up as its own commands are, and kept from writing into our answers."""

from __future__ import annotations

import json
import os
import sys
from typing import TextIO

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from . import ANSWERS, entry


def answers() -> TextIO:
    """Return where answers are written; what the project prints goes to the standard error from now on."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    sys.stdout.flush()
    os.dup2(2, 1)
    channel.write(f"{ANSWERS}\n")
    return channel


def say(channel: TextIO, answer: object) -> None:
    """Write one answer as a line of JSON."""
    channel.write(f"{json.dumps(answer)}\n")
    channel.flush()


def set_up(database: str = "", *, read_only: bool = False) -> BaseDatabaseWrapper:
    """Enter the project in the present directory, and return its database connection.

    `database` is another database's name on the same server; with `read_only` the server refuses every
    change. No connection comes from a pool: it would keep what one has set, and have none left for a second. Raises
    what Django raises where settings or applications can't be loaded.
    """
    entry.enter()
    connection = connections[DEFAULT_DB_ALIAS]
    # The project may have asked something already, in a session without what follows.
    connection.close()
    if database:
        connection.settings_dict["NAME"] = database
    connection.settings_dict["OPTIONS"].pop("pool", None)
    if read_only:
        # By the session itself: what the settings say of a connection (which servers, through what) stays true.
        _at_each_connection("SET default_transaction_read_only = on")
    return connection


def lift_limits() -> None:
    """Let statements and pauses take their time, whatever project and server say of that; call it before the first one.

    A lock gets a minute, because on a copy only the migration's own second session can hold it, and for ever.
    """
    # Not every server knows each of them.
    lifted = "SELECT set_config(name, '0', false) FROM pg_settings WHERE name ~ '^(statement|transaction|idle_.*)_timeout$'"
    _at_each_connection(f"{lifted}; SET lock_timeout = '1min'")


def _at_each_connection(statements: str) -> None:
    """Run statements at the beginning of each session with the project's database."""

    def run(connection: BaseDatabaseWrapper, **_: object) -> None:
        if connection.alias == DEFAULT_DB_ALIAS:
            with connection.cursor() as cursor:
                cursor.execute(statements)

    connection_created.connect(run, weak=False)
