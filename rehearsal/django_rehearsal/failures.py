"""What PostgreSQL says of a statement that failed, with the rows that are to blame where it names none."""

from __future__ import annotations

import re

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

LOCK_NOT_AVAILABLE, DEADLOCK = "55P03", "40P01"
_UNIQUE, _NOT_NULL = "23505", "23502"
_NO_TRANSACTION, _NO_SAVEPOINT = "25P01", "3B001"
_SHOWN = 5  # rows that serve as examples
# A whole row may be somebody's address; that is nothing for a terminal or a report.
_ROW = re.compile(r"(?:DETAIL: *)?(?:Partition key of the )?failing row contains.*", re.IGNORECASE)


def sqlstate(error: BaseException) -> str:
    """Return PostgreSQL's code for an error, of whichever driver; empty if it is none of PostgreSQL's."""
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or ""


def words(error: BaseException) -> str:
    """Return an error in one paragraph, beginning with its kind where it is not PostgreSQL's."""
    diagnosis = getattr(error.__cause__, "diag", None)
    if diagnosis is not None and diagnosis.message_primary:
        detail = diagnosis.message_detail or ""
        detail = "" if _ROW.search(detail) else detail
        parts = (diagnosis.message_primary, detail, diagnosis.message_hint)
        return ". ".join(part.rstrip(".") for part in parts if part) + "."
    said = _ROW.sub("", " ".join(str(error).split()))
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def culprits(error: BaseException, connection: BaseDatabaseWrapper) -> list[str]:
    """Return examples of the rows that refuse a constraint, a line each; none where they can't be told.

    Called once the failed transaction has been rolled back.
    """
    diagnosis = getattr(error.__cause__, "diag", None)
    code = sqlstate(error)
    if code in (_NO_TRANSACTION, _NO_SAVEPOINT):
        return [
            "a statement of its own ends its transaction (COMMIT or ROLLBACK): take that out, or give it atomic = False"
        ]
    if diagnosis is None or not diagnosis.table_name:
        return []
    quote = connection.ops.quote_name
    table = f"{quote(diagnosis.schema_name)}.{quote(diagnosis.table_name)}"
    key = re.search(r"Key \((.+?)\)=\(", diagnosis.message_detail or "")
    try:
        with connection.cursor() as cursor:
            if code == _UNIQUE and key:
                cursor.execute(
                    f"SELECT concat_ws(', ', {key[1]}), count(*) FROM {table} "
                    f"GROUP BY {key[1]} HAVING count(*) > 1 ORDER BY 2 DESC, 1 LIMIT {_SHOWN}"
                )
                return [f"{key[1]} = {value!r} in {n} rows" for value, n in cursor.fetchall()]
            if code == _NOT_NULL and diagnosis.column_name:
                column = quote(diagnosis.column_name)
                cursor.execute(f"SELECT count(*) FROM {table} WHERE {column} IS NULL")
                (empty,) = cursor.fetchone()
                return [f"{diagnosis.column_name} is empty in {empty} rows"] if empty else []
    except Error:
        # What the failed migration itself had added is gone again.
        return []
    return []
