"""A release at work on a database, without leaving a trace: does its code still get along with the schema?

Every model is read. Of each a row is inserted that is like one that is there, one that has only what it must have,
and one with the longest values that its fields allow; a row is updated, with its own values and with others, which must
be kept, and looked for by its values; and the database is asked whether it keeps unique what the model says is unique.
Requests that the operator lists are made.
Each answer is to be compared with one from before the schema changed, because a made-up row may fail in any case (it may
break a rule that only the application knows, for example).
"""

from __future__ import annotations

import datetime
import decimal
import io
import ipaddress
import random
import uuid
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlencode

from django.apps import apps
from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.core.wsgi import get_wsgi_application
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections, models, router, transaction
from django.test import Client
from django.utils import timezone

from . import failures

_LONGEST = 10_000  # characters of a text, though its field may allow more
# The rules of a database: that one of them refuses a made-up value need not say anything about the code.
_NO_SUCH_ROW, _TWICE, _CHECK, _EXCLUDED = "23503", "23505", "23514", "23P01"
_RULES = {_NO_SUCH_ROW, _TWICE, _CHECK, _EXCLUDED}
_TEXTS = (models.CharField, models.TextField)
_UNMATCHED, _NOT_KEPT = "42P10", "nothing in the database keeps that unique"
_SEQUENCES = """
SELECT seqrelid::regclass::text FROM pg_sequence
WHERE has_sequence_privilege(seqrelid, 'SELECT') AND has_sequence_privilege(seqrelid, 'UPDATE')
  AND has_schema_privilege((SELECT relnamespace FROM pg_class WHERE oid = seqrelid), 'USAGE')
"""
# The columns of a unique index.
_INDEXED = """
SELECT a.attname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
WHERE n.nspname = %s AND c.relname = %s
"""


@dataclass
class Exercised:
    """What a release could do: an empty text, or why not.

    `checks` is what Django's checks say; `models` maps "app.Model" to what became of `read`, `insert`, `bare insert`,
    `full insert`, `update`, `changing update`, `filter` (these two for each column too, if all at once fail) and `unique
    COLUMNS`; an unmanaged model has `read` alone. `untried` maps it to what failed only because made-up values may break
    a rule, and why; `requests` maps "GET /path" to the answer's status.
    """

    checks: str = ""
    models: dict[str, dict[str, str]] = field(default_factory=dict)
    untried: dict[str, dict[str, str]] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)


def exercise(requests: Iterable[dict]) -> Exercised:
    """Try everything once. A request has a `path`, and may have a `method` and `data` for a form.

    Raises django.db.Error where the database can't be reached.
    """
    connections[DEFAULT_DB_ALIAS].ensure_connection()
    # What was answered before the migration may be kept here, and is not what this is about.
    for cache in caches.all(initialized_only=True):
        if isinstance(cache, LocMemCache):
            cache.clear()
    with _numbers_kept():
        return _exercised(requests)


def _exercised(requests: Iterable[dict]) -> Exercised:
    done = Exercised(checks=_checks())
    for model in apps.get_models(include_auto_created=True):
        if not model._meta.swapped and not model._meta.proxy and _is_here(model):
            tried = _model(model)
            label = model._meta.label
            refused = {action: str(why) for action, why in tried.items() if why.by_rule}
            done.models[label] = {
                action: "" if action in refused else str(why) for action, why in tried.items()
            }
            if refused:
                done.untried[label] = refused
    if requests:
        settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
        # Loaded as a server loads it, with its middleware.
        get_wsgi_application()
        for request in requests:
            method = request.get("method", "GET").upper()
            done.requests[f"{method} {request['path']}"] = _request(method, request)
    return done


@contextmanager
def _numbers_kept() -> Iterator[None]:
    """Put the sequences back afterwards: rows that are undone keep their numbers, and would hide that one is behind."""
    before = _numbers()
    try:
        yield
    finally:
        with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
            for sequence, number in _numbers().items():
                if number != before.get(sequence, number):
                    cursor.execute(
                        "SELECT setval(%s::regclass, %s, %s)", [sequence, *before[sequence]]
                    )


def _numbers() -> dict[str, tuple[int, bool]]:
    """Return of each sequence that may be set its last number, and whether that was given."""
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(_SEQUENCES)
        names = [name for (name,) in cursor.fetchall()]
        found = {}
        for name in names:
            cursor.execute(f"SELECT last_value, is_called FROM {name}")
            found[name] = cursor.fetchone()
    return found


def _is_here(model: type[models.Model]) -> bool:
    return router.db_for_write(model) == DEFAULT_DB_ALIAS


def _checks() -> str:
    """Return what Django's own checks object to, those of the database with them."""
    try:
        call_command(
            "check", databases=[DEFAULT_DB_ALIAS], stdout=io.StringIO(), stderr=io.StringIO()
        )
    except SystemCheckError as error:
        return str(error).strip()
    return ""


class _Why(str):
    """Why something did not work, beginning with PostgreSQL's code; empty if it did.

    `by_rule` says that a rule refused it which a made-up value may break, so that it was not tried.
    """

    by_rule = False


def _tried(
    action: Callable[[], object], *, rules: Container[str] = (), made_up: Container[str] = ()
) -> _Why:
    """Do something, all the way to what a COMMIT would check, and undo it; return why it did not work.

    `made_up` names the columns whose values are made up, and `rules` the codes of what these may break.
    """
    connection = connections[DEFAULT_DB_ALIAS]
    try:
        with transaction.atomic():
            action()
            with connection.cursor() as cursor:
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            transaction.set_rollback(True)
    except Exception as error:  # noqa: BLE001 - the project's own code may raise anything, and that is the answer
        why = _Why(f"{failures.sqlstate(error)} {failures.words(error)}".strip())
        code = failures.sqlstate(error)
        why.by_rule = code in rules and (code != _TWICE or _is_double(error, made_up))
        return why
    return _Why()


def _is_double(error: Exception, made_up: Container[str]) -> bool:
    """Return whether made-up values are what would be there twice.

    Not so for a number that the database gives; nor where no index is named, because then a trigger objects, which may
    object to every row.
    """
    diagnosis = error.__cause__.diag
    if not diagnosis.constraint_name:
        return False
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(_INDEXED, [diagnosis.schema_name, diagnosis.constraint_name])
        columns = [name for (name,) in cursor.fetchall()]
    return not columns or any(name in made_up for name in columns)


def _model(model: type[models.Model]) -> dict[str, _Why]:
    """Read, insert and update a row of a model, each on its own."""
    found: list[models.Model] = []
    # The same row each time, as long as it is there. What Django does not manage may have no index for an order.
    order = [one.attname for one in getattr(model._meta, "pk_fields", [model._meta.pk])]
    rows = _rows(model).order_by(*order) if model._meta.managed else _rows(model)
    done = {"read": _tried(lambda: found.extend(rows[:1]))}
    if not model._meta.managed:
        return done
    row = next(iter(found), None)
    made_up = {one.column for one in _columns(model) if not isinstance(one, models.AutoField)}
    kinds = {
        # Foreign keys must hold.
        "insert": (_value, _RULES - {_NO_SUCH_ROW}),
        # Checks must hold too: code may leave a column empty that is filled in every row that is there.
        "bare insert": (_bare, _RULES - {_NO_SUCH_ROW, _CHECK}),
        # Only the columns' lengths and ranges must hold: every row that is there may be shorter than code allows.
        "full insert": (_widest, _RULES),
    }
    for action, (value, rules) in kinds.items():
        why = _tried(
            lambda value=value: _insert(model, lambda one: value(one, row)),
            rules=_RULES if row is None else rules,
            made_up=made_up,
        )
        # Where there is no row that it could refer to, nobody can insert one.
        done[action] = _Why() if row is None and why.startswith(_NO_SUCH_ROW) else why
    done["update"] = _tried(lambda: _update(model, row, _same(model, row)))
    if row is not None:
        done |= _each("changing update", _others(model, row), lambda to: _change(model, row, to))
        done |= _each("filter", _same(model, row), lambda by: _filter(model, row, by))
    for columns, condition in _unique(model):
        done[f"unique {', '.join(columns)}"] = _is_kept(model, columns, condition)
    return done


def _each(
    action: str, values: dict[str, object], do: Callable[[dict[str, object]], None]
) -> dict[str, _Why]:
    """Try something with all columns at once, and where that fails with each alone."""
    # None of these columns refers to a row, as far as the code knows.
    rules = _RULES - {_NO_SUCH_ROW}
    done = {action: _tried(lambda: do(values), rules=rules, made_up=values)}
    if done[action]:
        for name, value in values.items():
            one = {name: value}
            done[f"{action} of {name}"] = _tried(lambda one=one: do(one), rules=rules, made_up=one)
    return done


def _rows(model: type[models.Model]) -> models.QuerySet:
    return model._base_manager.using(DEFAULT_DB_ALIAS).order_by()


def _columns(model: type[models.Model]) -> list[models.Field]:
    """Return the fields with a column in the model's own table that may be written."""
    local = model._meta.local_concrete_fields
    return [one for one in local if not getattr(one, "generated", False)]


def _insert(model: type[models.Model], value: Callable[[models.Field], object]) -> None:
    """Insert a row with these values."""
    fields = [one for one in _columns(model) if not isinstance(one, models.AutoField)]
    new = model()
    for one in fields:
        setattr(new, one.attname, value(one))
    # Without signals: they are the application's deeds, and this is about its tables.
    told = {"returning_fields": _columns(model)[:1], "using": DEFAULT_DB_ALIAS, "raw": True}
    # Of a row that was not kept some releases of Django return nothing, others None.
    if not any(_rows(model)._insert([new], fields=fields, **told)):
        raise DatabaseError("the row was taken, and the database has not kept it")


def _update(model: type[models.Model], row: models.Model | None, values: dict[str, object]) -> None:
    """Write these columns of a row; where there is no row, of none."""
    if values:
        # Without a row PostgreSQL is asked all the same, for none().update() would not ask it.
        none = {"where": ["false"]}
        chosen = _rows(model).extra(**none) if row is None else _rows(model).filter(pk=row.pk)
        if chosen.update(**values) == 0 and row is not None:
            raise DatabaseError("the change was taken, and the database has not kept it")


def _change(model: type[models.Model], row: models.Model, values: dict[str, object]) -> None:
    """Give columns of a row other values, which the database must keep."""
    _update(model, row, values)
    kept = _rows(model).filter(pk=row.pk).values(*values).first() if values else {}
    for name, value in values.items():
        now = bytes(kept[name]) if isinstance(value, bytes) else kept[name]
        if now != value:
            raise DatabaseError(f"{name} was changed, and the database keeps another value")


def _filter(model: type[models.Model], row: models.Model, values: dict[str, object]) -> None:
    """Look for a row by the values of columns, and by a part of texts."""
    looked = {name: value for name, value in values.items() if value is not None}
    looked |= {
        f"{name}__contains": value[:1]
        for name, value in looked.items()
        if isinstance(value, str) and isinstance(model._meta.get_field(name), _TEXTS)
    }
    list(_rows(model).filter(pk=row.pk, **looked))


def _same(model: type[models.Model], row: models.Model | None) -> dict[str, object]:
    """Return the values that a row has, by column; made-up ones where there is no row."""
    return {
        one.attname: _value(one, None) if row is None else getattr(row, one.attname)
        for one in _columns(model)
        if not one.primary_key
    }


def _others(model: type[models.Model], row: models.Model) -> dict[str, object]:
    """Return other values than a row has, by column, where any will do: a trigger may look only at what changes."""
    found = {}
    for one in _columns(model):
        if one.primary_key or one.is_relation or one.choices or _apart(one, row) is not None:
            continue
        now, value = getattr(row, one.attname), _made_up(one)
        if isinstance(now, bool):
            value = not now
        # Whether two arrays of numbers are the same may have no single answer.
        with suppress(ValueError, TypeError):
            if value != now:
                found[one.attname] = value
    return found


def _unique(model: type[models.Model]) -> Iterator[tuple[list[str], str]]:
    """Yield what a model says is unique: the columns, and the SQL of the condition under which they are."""
    options, connection = model._meta, connections[DEFAULT_DB_ALIAS]
    local = options.local_concrete_fields
    groups = [([one.name], "") for one in local if one.unique]
    groups += [(list(names), "") for names in options.unique_together]
    for rule in options.constraints:
        plain = isinstance(rule, models.UniqueConstraint) and rule.fields and not rule.deferrable
        if plain:
            editor = connection.schema_editor(collect_sql=True)
            groups.append((list(rule.fields), rule._get_condition_sql(model, editor) or ""))
    for names, condition in groups:
        fields = [options.get_field(name) for name in names]
        if set(fields) <= set(local):
            yield sorted(one.column for one in fields), condition


def _is_kept(model: type[models.Model], columns: list[str], condition: str) -> _Why:
    """Return why the database does not keep these unique: code that counts on it makes doubles, or fails."""
    quote = connections[DEFAULT_DB_ALIAS].ops.quote_name
    where = f"WHERE {condition}" if condition else ""
    conflict = f"ON CONFLICT ({', '.join(map(quote, columns))}) {where} DO NOTHING"

    def ask() -> None:
        with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
            table = quote(model._meta.db_table)
            cursor.execute(f"EXPLAIN INSERT INTO {table} DEFAULT VALUES {conflict}")

    why = _tried(ask)
    return _Why(f"{_UNMATCHED} {_NOT_KEPT}") if why.startswith(_UNMATCHED) else why


def _value(one: models.Field, like: models.Model | None) -> object:
    """Return a value for a new row's column: that of a row which is there, if there can be two of it."""
    if like is None or _apart(one, like) is not None:
        return _bare(one, like)
    return getattr(like, one.attname)


def _free(one: models.Field, like: models.Model | None, others: list[models.Field]) -> list[object]:
    """Return a list of one key, or none: one that no row has yet beside the others' values in `like`."""
    target = one.target_field
    rows = _rows(target.model)
    if like is not None:
        same = {other.attname: getattr(like, other.attname) for other in others}
        taken = _rows(one.model).filter(**same, **{one.attname: models.OuterRef(target.attname)})
        rows = rows.filter(~models.Exists(taken))
    return list(rows.values_list(target.attname, flat=True)[:1])


def _bare(one: models.Field, like: models.Model | None) -> object:
    """Return the least that a new row's column may have; what must be there and can't be empty is taken from a row."""
    apart = _apart(one, like)
    if one.has_default() and apart is None:
        default = one.get_default()
        # Some write that of a field which must be given: no value is no value for it.
        if default is not None or one.null:
            return default
    if one.null and not one.primary_key:
        return None
    if like is not None and apart is None:
        return getattr(like, one.attname)
    if one.choices and apart is None:
        return next((value for value, _ in one.flatchoices if value is not None), None)
    if one.is_relation and (free := _free(one, like, apart or [])):
        return free[0]
    target = one
    while target.is_relation:
        target = target.target_field
    return _made_up(target)


def _widest(one: models.Field, like: models.Model | None) -> object:
    """Return the longest or largest value that a field allows, where such a limit can be told."""
    if one.is_relation:
        return _value(one, like)
    kind = one.get_internal_type()
    if one.choices and kind == "CharField":
        return max((str(value) for value, _ in one.flatchoices), key=len)
    if one.choices:
        return _value(one, like)
    if kind in ("CharField", "SlugField", "TextField", "FileField", "FilePathField"):
        return "x" * min(one.max_length or _LONGEST, _LONGEST)
    if any(getattr(other, "generated", False) for other in one.model._meta.local_fields):
        # What the database derives from it may be larger than its own column.
        return _value(one, like)
    if kind == "DecimalField" and one.max_digits:
        return decimal.Decimal((0, (9,) * one.max_digits, -one.decimal_places))
    if kind.endswith("IntegerField"):
        return connections[DEFAULT_DB_ALIAS].ops.integer_field_range(kind)[1]
    return _value(one, like)


def _apart(one: models.Field, like: models.Model | None) -> list[models.Field] | None:
    """Return the fields that this one is unique together with, if it is the one to get another value; else None.

    Of several that are unique together, that is the first that is no relation, because it can have any value; or the
    first with a free row to refer to.
    """
    if one.unique:
        return []
    options = one.model._meta
    together = [tuple(names) for names in options.unique_together]
    together += [tuple(rule.fields) for rule in options.constraints if hasattr(rule, "fields")]
    together.append(tuple(part.name for part in getattr(options, "pk_fields", ())))
    for group in [[options.get_field(name) for name in names] for names in together]:
        rest = {field: [other for other in group if other != field] for field in group}
        able = [field for field in group if not field.is_relation]
        able = able or [
            field for field in group if one in group and _free(field, like, rest[field])
        ]
        if one in (able or group)[:1]:
            return rest[one]
    return None


def _made_up(one: models.Field) -> object:
    """Return a value that rows hardly have, the same each time but for times: chance would look like a change."""
    now = datetime.datetime.now(datetime.UTC)
    kind = one.get_internal_type()
    chance = random.Random(f"{one.model._meta.label}.{one.name}")
    number = chance.randrange(10**6, 2 * 10**9)
    if kind.startswith(("Small", "PositiveSmall")):
        number = chance.randrange(32000)
    simple: dict[str, object] = {
        "BooleanField": False,
        "DateField": now.date() - datetime.timedelta(days=number % 300000),
        "DateTimeField": timezone.now(),
        "TimeField": now.time(),
        "DurationField": datetime.timedelta(seconds=number),
        # With all the places that it may have: fewer would be rounded.
        "DecimalField": decimal.Decimal(1).scaleb(-(getattr(one, "decimal_places", 0) or 0)),
        "FloatField": number + 0.5,
        "UUIDField": uuid.UUID(int=chance.getrandbits(128)),
        "JSONField": {"rehearsal": number},
        "BinaryField": b"rehearsal",
        "GenericIPAddressField": str(ipaddress.IPv4Address(number)),
        "ArrayField": [],
        "HStoreField": {},
    }
    if kind in simple:
        return simple[kind]
    if kind.endswith(("IntegerField", "AutoField")):
        return number
    text = f"rehearsal-{chance.getrandbits(128):032x}"
    length = getattr(one, "max_length", None) or len(text)
    return text[-length:]


def _request(method: str, request: dict) -> int:
    """Make one request and return the status of the answer; what it wrote is undone."""
    hosts = [host.lstrip(".") for host in settings.ALLOWED_HOSTS if not host.startswith("*")]
    client = Client(raise_request_exception=False, headers={"host": (hosts or ["localhost"])[0]})
    status = 0

    def ask() -> None:
        nonlocal status
        answer = client.generic(
            method,
            request["path"],
            data=urlencode(request.get("data", {}), doseq=True),
            content_type="application/x-www-form-urlencoded",
            secure=settings.SECURE_SSL_REDIRECT,
        )
        status = answer.status_code

    connections[DEFAULT_DB_ALIAS].ensure_connection()
    why = _tried(ask)
    # What a COMMIT would refuse is an error too, whatever was answered before.
    return 500 if why else status
