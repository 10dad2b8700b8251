"""The live database: what waits is bounded, what fails leaves the rest, and two never migrate at once."""

import json
import time

import pytest
import yaml
from project import SETTINGS

ADD = "migrations.AddField('item', 'size', models.IntegerField(null=True))"
INDEX = "postgres.AddIndexConcurrently('item', models.Index(fields=['price'], name='by_price'))"


def apply(shop, interrupted="", code=0, **limits):
    """Return what was told while the migrations were applied within limits."""
    told = {"limits": limits, "interrupted": interrupted}
    return shop.ask("apply", told=json.dumps(told), code=code)


def begin(shop, **limits):
    """Begin to apply the migrations, and return the process."""
    process = shop.asking("apply")
    process.stdin.write(json.dumps({"limits": limits}))
    process.stdin.close()
    return process


def test_what_is_applied_is_told_before_and_after(shop):
    names = [shop.migration("0002_size", ADD), shop.migration("0003_nothing")]
    told = apply(shop)
    assert [one.get("begin") or one["applied"] for one in told] == [
        name for name in names for _ in range(2)
    ]
    assert shop.look()["pending"] == []
    assert apply(shop) == []


def test_it_gives_up_for_a_lock_again_and_again_and_nobody_waits_long(shop):
    shop.migration("0002_size", ADD)
    idle = shop.idle("SELECT count(*) FROM shop_item", 30)
    try:
        with begin(shop, lock=0.3, patience=4) as process:
            while process.poll() is None:
                # Fails if it has to wait for the table longer than this.
                shop.sql("SET lock_timeout = '1.5s'; SELECT count(*) FROM shop_item")
            *_, last = [json.loads(line) for line in process.stdout]
        assert process.returncode == 1
        assert last["failed"] == "shop.0002_size" and last["attempts"] > 2
        assert "lock timeout" in last["why"]
        assert "idle in transaction" in last["blockers"][0]
        assert shop.look()["pending"] == ["shop.0002_size"]
    finally:
        idle.kill()
        shop.server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state LIKE 'idle in%'"
        )
    assert apply(shop)[-1]["applied"] == "shop.0002_size"


@pytest.mark.parametrize("signal", ["pre_migrate", "post_migrate"])
def test_receivers_keep_nobody_waiting_either(shop, signal):
    free = "SET lock_timeout = 0; " if signal == "post_migrate" else ""
    shop.receives(signal, f"{free}ALTER TABLE shop_item ALTER price SET DEFAULT 0")
    shop.migration("0002_kind", ADD.replace("item", "kind"))
    idle = shop.idle("SELECT count(*) FROM shop_item", 30)
    try:
        with begin(shop, lock=0.3, patience=4) as process:
            while process.poll() is None:
                shop.sql("SET lock_timeout = '1.5s'; SELECT count(*) FROM shop_item")
            told, said = process.stdout.read(), process.stderr.read()
        assert ("s behind it for a lock" if free else "lock timeout") in told + said
        assert process.returncode == (1 if free else 2)
    finally:
        idle.kill()
        shop.server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state LIKE 'idle in%'"
        )
    if free:
        last = json.loads(told.splitlines()[-1])
        assert last["failed"] == "post_migrate" and last["attempts"] > 1
        assert "idle in transaction" in last["blockers"][0]
    apply(shop)
    assert shop.look()["pending"] == []


def test_it_goes_on_once_the_lock_is_free(shop):
    shop.migration("0002_size", ADD)
    idle = shop.idle("SELECT count(*) FROM shop_item", 2)
    found = apply(shop, lock=0.2, patience=20)[1]
    idle.wait()
    assert found["applied"] == "shop.0002_size" and found["attempts"] > 1
    assert found["seconds"] < 2


def test_a_vacuum_that_nobody_asked_for_gives_way(shop, repository):
    settings = yaml.safe_load((repository / "roles/postgres/vars/main.yml").read_text())
    timeout, database = (
        settings["__postgres_settings"]["deadlock_timeout"],
        shop.env["TEST_DATABASE"],
    )
    shop.sql(f"ALTER DATABASE {database} SET deadlock_timeout = '{timeout}'")
    shop.migration("0002_size", ADD)
    # Left alone it would take minutes, for it pauses at each page.
    shop.sql(
        "ALTER TABLE shop_item SET (autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_cost_delay = 100, "
        "autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0)"
    )
    shop.sql("INSERT INTO shop_item (name, price) SELECT 'item', 0 FROM generate_series(1, 20000)")
    shop.sql("UPDATE shop_item SET price = 1")
    shop.server.sql("ALTER SYSTEM SET autovacuum_naptime = 1")
    try:
        shop.server.sql("SELECT pg_reload_conf()")
        until_there(shop, "SELECT heap_blks_scanned FROM pg_stat_progress_vacuum")
        assert apply(shop, patience=15)[-1]["applied"] == "shop.0002_size"
    finally:
        shop.server.sql("ALTER SYSTEM RESET autovacuum_naptime")
        shop.server.sql("SELECT pg_reload_conf()")


def test_a_statement_that_takes_too_long_is_ended(shop):
    shop.migration("0002_long", "migrations.RunSQL('SELECT pg_sleep(20)', '')")
    told = apply(shop, statements={"shop.0002_long": 0.5}, code=1)
    assert told[-1]["failed"] == "shop.0002_long" and "statement timeout" in told[-1]["why"]


def test_a_limit_is_its_own_migrations_only(shop):
    shop.migration("0002_size", ADD)
    shop.migration("0003_long", "migrations.RunSQL('SELECT pg_sleep(1)', '')")
    apply(shop, statements={"shop.0002_size": 0.5})
    assert shop.look()["pending"] == []


def test_a_failure_leaves_what_was_before_it(shop):
    shop.migration("0002_size", ADD)
    shop.migration(
        "0003_unique", "migrations.AlterField('item', 'price', models.IntegerField(unique=True))"
    )
    shop.migration("0004_never")
    told = apply(shop, code=1)
    assert told[-1]["failed"] == "shop.0003_unique" and told[-1]["culprits"]
    assert shop.look()["pending"] == ["shop.0003_unique", "shop.0004_never"]


@pytest.mark.parametrize("session", ["pass", "editor.connection.close()"], ids=["kept", "closed"])
def test_two_at_once_are_one(shop, session):
    """Whatever the migration does with its own session."""
    code = f"""
import pathlib, time

def forward(apps, editor):
    {session}
    while not pathlib.Path("go-on").exists():
        time.sleep(0.05)
"""
    run = "migrations.RunPython(forward, migrations.RunPython.noop)"
    shop.migration("0002_waits", run, code=code, atomic=False)
    with begin(shop) as first:
        assert json.loads(first.stdout.readline()) == {"begin": "shop.0002_waits"}
        time.sleep(0.5)
        try:
            assert apply(shop, code=75) == []
        finally:
            shop.write("go-on", "")
        first.wait()
    assert first.returncode == 0


def test_an_index_whose_build_was_killed_is_built_again(shop):
    name = shop.migration("0002_index", INDEX, atomic=False)
    idle = shop.idle("INSERT INTO shop_item (name, price) VALUES ('x', 1)", 60)
    with begin(shop) as process:
        process.stdout.readline()
        until_there(shop, "SELECT count(*) FROM pg_index WHERE NOT indisvalid")
        process.kill()
    # The build goes first: once nobody holds the table, the server would finish it for nobody.
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {}"
    shop.server.sql(end.format("query LIKE 'CREATE INDEX%'"))
    until_there(shop, "SELECT count(*) = 0 FROM pg_stat_progress_create_index")
    idle.kill()
    shop.server.sql(end.format("datname <> 'postgres' AND pid <> pg_backend_pid()"))
    assert shop.look()["invalid_indexes"] == ["by_price"]
    # What holds the table now is not waited for without an end.
    idle = shop.idle("SELECT count(*) FROM shop_item", 60)
    *_, last = apply(shop, name, code=1, patience=2)
    assert last["failed"] == name and "statement timeout" in last["why"]
    assert "idle in transaction" in last["blockers"][0]
    idle.kill()
    shop.server.sql(end.format("state LIKE 'idle in%'"))
    found = apply(shop, name)[1]
    assert found["leftovers"] == ["by_price"] and found["applied"] == name
    assert shop.look()["invalid_indexes"] == []


def until_there(shop, query):
    """Wait until a query answers neither nothing, 0 nor false."""
    deadline = time.monotonic() + 20
    while shop.sql(query) in ("", "0", "f"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_statements_of_no_transaction_wait_each_for_its_lock(shop):
    shop.migration("0002_steps", ADD, INDEX, atomic=False)
    idle = shop.idle("SELECT count(*) FROM shop_item", 2)
    found = apply(shop, lock=0.2, patience=20)[1]
    idle.wait()
    assert found["applied"] == "shop.0002_steps"
    assert shop.look()["invalid_indexes"] == []


def test_batches_of_no_transaction_wait_for_a_row(shop):
    code = """
from django.db import transaction

def forward(apps, editor):
    items = apps.get_model('shop', 'Item').objects.order_by('pk')
    for first in range(0, 1000, 500):
        with transaction.atomic():
            items.filter(pk__in=items[first:first + 500].values('pk')).update(note='seen')
"""
    run = "migrations.RunPython(forward, migrations.RunPython.noop)"
    shop.migration("0002_batches", run, code=code, atomic=False)
    idle = shop.idle("UPDATE shop_item SET price = price WHERE id = 700", 2)
    assert apply(shop, lock=0.2, patience=20)[1]["applied"] == "shop.0002_batches"
    idle.wait()
    assert shop.sql("SELECT count(*) FROM shop_item WHERE note = 'seen'") == "1000"


@pytest.mark.parametrize(
    "first", ["-- No need for CONCURRENTLY.", "SET CONSTRAINTS ALL IMMEDIATE;", "SELECT 1;"]
)
def test_what_a_statement_begins_with_makes_nobody_wait(shop, first):
    sql = f"{first}\nALTER TABLE shop_item ADD COLUMN extra int"
    shop.migration("0002_statement", f"migrations.RunSQL({sql!r}, '')", atomic=False)
    idle = shop.idle("SELECT count(*) FROM shop_item", 8)
    with begin(shop, lock=0.2, patience=20) as process:
        while process.poll() is None:
            shop.sql("SET lock_timeout = '1.5s'; SELECT count(*) FROM shop_item")
    idle.wait()
    assert process.returncode == 0


ALTERING = "CREATE FUNCTION altering() RETURNS void LANGUAGE sql AS 'ALTER TABLE shop_item ADD COLUMN extra int'"


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize(
    "sql",
    [
        "SET lock_timeout = 0; SET statement_timeout = 0; ALTER TABLE shop_item ADD COLUMN extra int",
        "SELECT altering()",
    ],
)
def test_a_migration_lifts_no_limit_for_those_who_wait_behind_it(shop, sql, atomic):
    shop.as_app(ALTERING)
    shop.migration("0002_limits", f"migrations.RunSQL({sql!r}, '')", atomic=atomic)
    idle = shop.idle("SELECT count(*) FROM shop_item", 6)
    with begin(shop, lock=0.3, patience=20) as process:
        while process.poll() is None:
            shop.sql("SET lock_timeout = '1.5s'; SELECT count(*) FROM shop_item")
        told = [json.loads(line) for line in process.stdout]
    idle.wait()
    assert process.returncode == 0 and told[-1]["applied"] == "shop.0002_limits"


def test_who_keeps_others_waiting_for_good_is_told_so(shop):
    sql = "SET lock_timeout = 0; ALTER TABLE shop_item ADD COLUMN extra int"
    shop.migration("0002_limits", f"migrations.RunSQL({sql!r}, '')")
    idle = shop.idle("SELECT count(*) FROM shop_item", 30)
    try:
        with begin(shop, lock=0.3, patience=3) as process:
            while process.poll() is None:
                shop.sql("SET lock_timeout = '1.5s'; SELECT count(*) FROM shop_item")
            *_, last = [json.loads(line) for line in process.stdout]
        assert process.returncode == 1 and last["attempts"] > 1
        assert "behind it for a lock" in last["why"]
        assert "idle in transaction" in last["blockers"][0]
    finally:
        idle.kill()
        shop.server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state LIKE 'idle in%'"
        )
    assert shop.look()["pending"] == ["shop.0002_limits"]


LASTING = {
    "a statement": ("sql", "SET statement_timeout = 0; SELECT pg_sleep(60)", "longer than 1 s"),
    "a pause": (
        "code",
        "time.sleep(4); apps.get_model('shop', 'Item').objects.count()",
        "did nothing",
    ),
}


@pytest.mark.parametrize("case", LASTING)
def test_a_migration_lifts_no_limit_for_itself(shop, case):
    kind, text, why = LASTING[case]
    code = f"import time\n\ndef forward(apps, editor):\n    editor.execute('LOCK shop_item')\n    {text}\n"
    operation = f"RunSQL({text!r}, '')" if kind == "sql" else "RunPython(forward)"
    shop.migration("0002_long", f"migrations.{operation}", code=code * (kind == "code"))
    told = apply(shop, statements={"shop.0002_long": 1}, code=1)
    assert why in told[-1]["why"]


def test_why_sql_with_a_transaction_of_its_own_fails_is_told(shop):
    sql = "BEGIN; ALTER TABLE shop_item ADD COLUMN name int; COMMIT"
    shop.migration("0002_own", f"migrations.RunSQL({sql!r}, '')", atomic=False)
    assert "already exists" in apply(shop, code=1)[-1]["why"]


def test_what_a_migration_sets_in_its_session_is_not_the_next_ones(shop):
    sql = "CREATE SCHEMA audit; SET search_path TO audit, public"
    shop.migration("0002_path", f"migrations.RunSQL({sql!r}, '')")
    shop.migration(
        "0003_other",
        "migrations.CreateModel('Other', [('id', models.BigAutoField(primary_key=True))])",
    )
    apply(shop)
    assert "table shop_other" in shop.look()["catalog"]


def test_a_projects_pool_is_not_used(shop):
    """Django refuses one with this driver, so whoever took a connection from it would fail."""
    shop.write("settings.py", f"{SETTINGS}DATABASES['default']['OPTIONS'] = {{'pool': True}}\n")
    name = shop.migration("0002_size", ADD)
    assert apply(shop)[-1]["applied"] == name
    assert shop.look()["pending"] == []


def test_an_interrupted_run_ends_in_the_same_schema(shop, filled):
    shop.migration("0002_size", ADD)
    shop.migration(
        "0003_index", "migrations.AddIndex('item', models.Index(fields=['price'], name='p'))"
    )
    shop.migration("0004_long", "migrations.RunSQL('SELECT pg_sleep(2)', '')")
    shop.migration("0005_more", "migrations.AddField('item', 'more', models.TextField(default=''))")
    with begin(shop) as process:
        while "0004" not in process.stdout.readline():
            pass
        process.kill()
    until_there(
        shop,
        "SELECT count(*) = 0 FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()",
    )
    assert shop.look()["pending"] == ["shop.0004_long", "shop.0005_more"]
    apply(shop, "shop.0004_long")
    assert shop.look()["pending"] == []
    interrupted, half = shop.look()["catalog"], shop.env["TEST_DATABASE"]
    shop.own_database(filled.env["TEST_DATABASE"])
    apply(shop)
    assert shop.look()["catalog"] == interrupted
    shop.server.sql(f"DROP DATABASE {half}")
