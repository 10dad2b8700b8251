"""What an interrupted migration that is no transaction left behind, and Django would stumble over."""

from __future__ import annotations

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration

from .executor import steps_of

_FOUND = """
SELECT i.indexrelid::regclass::text, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relname = %s AND pg_table_is_visible(c.oid)
"""


def clear(migration: Migration, connection: BaseDatabaseWrapper, *, interrupted: bool) -> list[str]:
    """Drop the indexes that a concurrent build of this migration left unfinished; return their names.

    With `interrupted` it is known that the migration was cut off: then what it had finished is dropped too,
    because it is going to be built again.
    """
    dropped = []
    for operation in steps_of(migration):
        if not isinstance(operation, AddIndexConcurrently):
            continue
        with connection.cursor() as cursor:
            cursor.execute(_FOUND, [operation.index.name])
            for name, valid in cursor.fetchall():
                if interrupted or not valid:
                    cursor.execute(f"DROP INDEX CONCURRENTLY {name}")
                    dropped.append(name)
    return dropped
