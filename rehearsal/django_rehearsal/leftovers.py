"""What an interrupted migration that is no transaction left behind, and Django would stumble over."""

from __future__ import annotations

import re
from collections.abc import Iterator

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration, RunSQL
from django.db.migrations.operations.base import Operation

from .executor import is_code, steps_of
from .statements import without_comments

_BUILD = re.compile(
    r"CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?"
    r'(?:"(?P<quoted>(?:[^"]|"")+)"|(?!ON\b)(?P<plain>\w+))',
    re.IGNORECASE,
)
_FOUND = """
SELECT i.indexrelid::regclass::text, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relname = %s AND pg_table_is_visible(c.oid)
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = c.oid)
"""


def clear(migration: Migration, connection: BaseDatabaseWrapper, *, interrupted: bool) -> list[str]:
    """Drop the indexes that a concurrent build of this migration left unfinished; return their names.

    With `interrupted` it is known that the migration was cut off: then what it had finished is dropped too,
    because it is going to be built again.
    """
    dropped: list[str] = []
    # In a transaction nothing is built concurrently, and nothing is left.
    for operation in () if migration.atomic else steps_of(migration):
        for built in _built(operation):
            with connection.cursor() as cursor:
                cursor.execute(_FOUND, [built])
                for name, valid in cursor.fetchall():
                    if interrupted or not valid:
                        cursor.execute(f"DROP INDEX CONCURRENTLY {name}")
                        dropped.append(name)
    return dropped


def can_be_resumed(migration: Migration) -> bool:
    """Return whether all of a migration's own code is concurrent builds, whose leftovers `clear` drops."""
    return all(
        isinstance(operation, RunSQL)
        and all(_BUILD.match(statement) for statement in _statements(operation))
        for operation in steps_of(migration)
        if is_code(operation)
    )


def _built(operation: Operation) -> Iterator[str]:
    """Yield the names of the indexes that an operation builds concurrently."""
    if isinstance(operation, AddIndexConcurrently):
        yield operation.index.name
    elif isinstance(operation, RunSQL):
        for found in filter(None, map(_BUILD.match, _statements(operation))):
            quoted, plain = found["quoted"], found["plain"]
            yield quoted.replace('""', '"') if quoted else plain.lower()


def _statements(operation: RunSQL) -> list[str]:
    """Return an operation's statements, as many as it sends each on its own."""
    sql = operation.sql
    several = [sql] if isinstance(sql, str) else sql or ()
    return [without_comments(one if isinstance(one, str) else one[0]) for one in several]
