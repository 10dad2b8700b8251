"""Migrations on a copy: what each costs, loses and locks, and whether it can be taken back."""

import json

import pytest

ADD = "migrations.AddField('item', 'size', models.IntegerField(null=True))"
RUN = """
def forward(apps, editor):
    Item = apps.get_model('shop', 'Item')
    {}

def back(apps, editor):
    pass
"""
BROKEN = RUN.format("pass").replace(
    "back(apps, editor):\n    pass", "back(apps, editor):\n    1 / 0"
)
FORWARD = "migrations.RunPython(forward, back)"


def only(shop, code=0):
    """Return what was told of the one migration there is."""
    return shop.ask("rehearse", code=code)[0]


def changes(found):
    """Return what became of contents, as texts."""
    return [f"{one['kind']} {one['where']} {one['count']}" for one in found["changes"]]


def test_an_added_field_is_told_with_its_lock_and_its_statement(shop):
    name = shop.migration("0002_size", ADD)
    (found,), catalog = shop.rehearse()
    assert found["migration"] == name and found["atomic"] and not found["runs_code"]
    assert catalog["column shop_item.size"] == "integer"
    assert [one["sql"] for one in found["statements"]][:1] == [
        'ALTER TABLE "shop_item" ADD COLUMN "size" integer NULL'
    ]
    held = {lock["table"]: lock for lock in found["locks"] if lock["blocks"]}
    assert held["shop_item"]["mode"] == "AccessExclusiveLock"
    assert held["shop_item"]["blocks"] == "reads and writes"
    assert found["reversal"] == {"class": "lossless", "why": ""}
    assert found["changes"] == found["rewritten"] == []
    assert shop.look()["pending"] == []


def test_each_migration_is_told_alone_and_taken_back_alone(shop):
    shop.migration("0002_size", ADD)
    shop.migration(
        "0003_kind",
        "migrations.CreateModel('Other', [('id', models.BigAutoField(primary_key=True))])",
    )
    shop.migration(
        "0004_index", "migrations.AddIndex('item', models.Index(fields=['price'], name='by_price'))"
    )
    found, catalog = shop.rehearse()
    assert [one["reversal"]["class"] for one in found] == ["lossless"] * 3
    assert {"column shop_item.size", "table shop_other", "index by_price"} <= catalog.keys()
    assert shop.look()["catalog"] == catalog


def test_a_removed_column_with_values_is_lost(shop):
    shop.migration("0002_drop", "migrations.RemoveField('item', 'note')")
    found = only(shop)
    assert changes(found) == ["gone shop_item.note 1000"]
    assert found["reversal"]["class"] == "lossy"
    assert "shop_item.note" in found["reversal"]["why"]


def test_a_removed_column_without_values_is_no_loss(shop):
    shop.as_app("UPDATE shop_item SET note = NULL")
    shop.migration("0002_drop", "migrations.RemoveField('item', 'note')")
    found = only(shop)
    assert found["changes"] == [] and found["reversal"]["class"] == "lossless"


def test_a_removed_table_with_rows_is_lost(shop):
    shop.migration(
        "0002_drop",
        "migrations.RemoveField('item', 'kind')",
        "migrations.DeleteModel('Kind')",
    )
    found = only(shop)
    assert changes(found) == ["gone shop_item.kind_id 1000", "table shop_kind 5"]


def test_renamed_columns_and_tables_lose_nothing(shop):
    shop.migration(
        "0002_rename",
        "migrations.RenameField('item', 'note', 'remark')",
        "migrations.RenameModel('Kind', 'Sort')",
    )
    found = only(shop)
    assert found["changes"] == [] and found["reversal"]["class"] == "lossless"


def test_a_rename_written_as_remove_and_add_loses_what_was_there(shop):
    shop.migration(
        "0002_rename",
        "migrations.RemoveField('item', 'note')",
        "migrations.AddField('item', 'remark', models.TextField(default='none'))",
    )
    assert changes(only(shop)) == ["gone shop_item.note 1000"]


def test_a_wider_number_is_rewritten_and_keeps_its_values(shop):
    shop.migration(
        "0002_wide", "migrations.AlterField('item', 'price', models.BigIntegerField(default=0))"
    )
    found = only(shop)
    assert [one["table"] for one in found["rewritten"]] == ["shop_item"]
    assert found["changes"] == [] and found["wal"] > 0
    assert found["reversal"]["class"] == "lossless"


def test_a_number_that_becomes_a_decimal_keeps_its_values(shop):
    field = "models.DecimalField(max_digits=12, decimal_places=3, default=0)"
    shop.migration("0002_decimal", f"migrations.AlterField('item', 'price', {field})")
    assert only(shop)["changes"] == []


def test_a_column_that_is_emptied_silently_is_seen(shop):
    code = RUN.format("Item.objects.filter(price__lt=10).update(note='')")
    shop.migration("0002_empty", FORWARD, code=code)
    found = only(shop)
    emptied = int(shop.sql("SELECT count(*) FROM shop_item WHERE price < 10"))
    assert found["runs_code"]
    assert changes(found) == [f"emptied shop_item.note {emptied}"]
    assert found["reversal"]["class"] == "lossy"
    (table,) = [one for one in found["tables"] if one["table"] == "shop_item"]
    assert table["rows"] == [1000, 1000] and table["written"] == emptied


def test_deleted_rows_are_seen(shop):
    shop.migration("0002_delete", FORWARD, code=RUN.format("Item.objects.filter(price=3).delete()"))
    assert changes(only(shop)) == ["rows shop_item 25"]


def test_deleted_rows_are_seen_though_others_come_in_their_place(shop):
    code = RUN.format("""
    Item.objects.filter(price=3).delete()
    Item.objects.bulk_create(Item(name='new', note='new') for _ in range(40))
""")
    shop.migration("0002_again", FORWARD, code=code)
    assert "rows shop_item 25" in changes(only(shop))


def test_empty_values_that_get_a_default_are_no_loss(shop):
    shop.as_app("UPDATE shop_item SET note = NULL WHERE price = 3")
    shop.migration("0002_size", ADD)
    shop.manage("migrate", "--verbosity=0")
    shop.as_app("UPDATE shop_item SET size = id WHERE price <> 3")
    shop.migration(
        "0003_filled",
        "migrations.AlterField('item', 'note', models.TextField(default=''))",
        "migrations.AlterField('item', 'size', models.IntegerField(default=7))",
    )
    found = only(shop)
    assert changes(found) == ["filled shop_item.size 25"]
    assert found["reversal"]["class"] == "lossless"


def test_a_value_changed_among_empty_ones_that_are_filled_is_seen(shop):
    shop.as_app("UPDATE shop_item SET note = NULL WHERE price = 3")
    sql = "UPDATE shop_item SET note = CASE WHEN note IS NULL OR id = 8 THEN 'none' ELSE note END"
    shop.migration("0002_fill", f"migrations.RunSQL({sql!r}, '')")
    assert changes(only(shop)) == ["changed shop_item.note 1000"]


def test_another_order_of_texts_changes_none_of_them(shop):
    shop.migration(
        "0002_order",
        "postgres.CreateCollation('ci', provider='icu', locale='und-u-ks-level2', deterministic=False)",
        "migrations.AlterField('item', 'name', models.CharField(max_length=50, db_collation='ci'))",
        "migrations.AlterField('item', 'price', models.BigIntegerField(default=0))",
    )
    assert only(shop)["changes"] == []


def test_a_lock_on_a_partitioned_table_is_one_on_all_of_it(shop):
    shop.as_app(
        "CREATE TABLE part (id int, size int) PARTITION BY RANGE (id);"
        "CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (5000);"
        "CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (5000) TO (10001);"
        "INSERT INTO part SELECT n, n FROM generate_series(1, 10000) n"
    )
    shop.migration("0002_part", "migrations.RunSQL('ALTER TABLE part ALTER size TYPE bigint', '')")
    size = {one["table"]: one["bytes"] for one in only(shop)["locks"] if one["blocks"]}
    assert size["part"] == size["part_1"] + size["part_2"] > 0


def test_limits_of_the_project_end_no_rehearsal(shop):
    shop.sql(
        "ALTER ROLE app IN DATABASE current SET statement_timeout = '50ms'".replace(
            "current", shop.env["TEST_DATABASE"]
        )
    )
    shop.migration("0002_sleep", "migrations.RunSQL('SELECT pg_sleep(0.3)', '')")
    assert "error" not in only(shop)


def test_changed_values_are_seen_and_a_true_reverse_is_lossless(shop):
    code = RUN.format("Item.objects.update(price=models.F('price') + 1)")
    code = code.replace(
        "pass", "apps.get_model('shop', 'Item').objects.update(price=models.F('price') - 1)"
    )
    shop.migration("0002_more", FORWARD, code=code)
    found = only(shop)
    assert changes(found) == ["changed shop_item.price 1000"]
    assert found["reversal"]["class"] == "lossless"


def test_code_without_a_reverse_is_irreversible(shop):
    shop.migration("0002_code", "migrations.RunPython(forward)", code=RUN.format("pass"))
    assert only(shop)["reversal"]["class"] == "irreversible"


def test_a_reverse_that_fails_is_told(shop):
    shop.migration(
        "0002_code",
        FORWARD,
        code=BROKEN,
    )
    found = only(shop)
    assert found["reversal"] == {"class": "failed", "why": "ZeroDivisionError: division by zero"}


def test_duplicates_are_named_by_their_keys(shop):
    shop.migration(
        "0002_unique", "migrations.AlterField('item', 'price', models.IntegerField(unique=True))"
    )
    found = only(shop, code=1)
    assert "could not create unique index" in found["error"]
    assert found["culprits"][0] == "price = '0' in 25 rows" and len(found["culprits"]) == 5
    assert found["left"] == []
    assert "unique" not in str(shop.look()["catalog"]["column shop_item.price"])


def test_empty_values_are_counted(shop):
    shop.as_app("UPDATE shop_item SET note = NULL WHERE price = 3")
    shop.migration(
        "0002_filled", "migrations.RunSQL('ALTER TABLE shop_item ALTER note SET NOT NULL', '')"
    )
    assert only(shop, code=1)["culprits"] == ["note is empty in 25 rows"]


def test_code_that_is_no_transaction_and_fails_midway_tells_what_it_leaves(shop):
    code = RUN.format("""
    for number, item in enumerate(Item.objects.order_by('pk')):
        if number == 100:
            raise ValueError('row 101 is odd')
        item.note = 'seen'
        item.save()
""")
    shop.migration("0002_midway", FORWARD, code=code, atomic=False)
    found = only(shop, code=1)
    assert found["error"] == "ValueError: row 101 is odd"
    assert found["left"] == ["shop_item"]


def test_a_failure_ends_the_rehearsal_at_its_migration(shop):
    shop.migration("0002_size", ADD)
    shop.migration("0003_bad", "migrations.RunSQL('SELECT nonsense')")
    shop.migration("0004_never")
    found = shop.ask("rehearse", code=1)
    assert [one["migration"] for one in found] == ["shop.0002_size", "shop.0003_bad"]
    assert shop.look()["pending"] == ["shop.0003_bad", "shop.0004_never"]


def test_mail_and_calls_are_noted_and_not_done(shop):
    code = "import socket\nfrom django.core.mail import send_mail\n" + RUN.format("""
    send_mail('hello', 'there', 'a@example.org', ['b@example.org'])
    try:
        socket.create_connection(('192.0.2.1', 80), timeout=0.2)
    except OSError:
        pass
""")
    shop.migration("0002_mail", FORWARD, code=code)
    found = only(shop)
    assert found["mails"] == 1 and found["calls"] == ["192.0.2.1:80"]


@pytest.mark.parametrize(
    ("name", "why"),
    [("file_fdw", "permission denied to create"), ("nowhere", '"nowhere" is not available')],
)
def test_an_extension_that_can_not_be_made_is_told(shop, name, why):
    shop.migration("0002_extension", f"postgres.CreateExtension('{name}')")
    assert why in only(shop, code=1)["error"]


def test_an_unfinished_index_of_the_migration_is_built_again(shop):
    shop.migration(
        "0002_index",
        "postgres.AddIndexConcurrently('item', models.Index(fields=['price'], name='by_price'))",
        atomic=False,
    )
    shop.server.run(
        *("psql", "-Xq", "-d", shop.env["TEST_DATABASE"], "-c"),
        "CREATE UNIQUE INDEX CONCURRENTLY by_price ON shop_item (price)",
        check=False,
    )
    assert shop.look()["invalid_indexes"] == ["by_price"]
    found = only(shop)
    assert found["leftovers"] == ["by_price"] and found["invalid_indexes"] == []
    assert found["reversal"]["class"] == "untried"
    assert "(invalid)" not in shop.look()["catalog"]["index by_price"]


def test_an_unfinished_index_that_sql_of_its_own_builds_is_built_again(shop):
    sql = 'CREATE UNIQUE INDEX CONCURRENTLY "By price" ON shop_item (price, id)'
    run = f"migrations.RunSQL({sql!r}, migrations.RunSQL.noop)"
    shop.migration("0002_index", run, atomic=False)
    shop.server.run(
        *("psql", "-Xq", "-d", shop.env["TEST_DATABASE"], "-c"),
        sql.replace(", id", ""),
        check=False,
    )
    assert shop.look()["invalid_indexes"] == ['"By price"']
    found = only(shop)
    assert found["leftovers"] == ['"By price"'] and found["resumable"]
    assert shop.look()["invalid_indexes"] == []


@pytest.mark.parametrize(
    "step", [FORWARD, "migrations.RunSQL('CREATE INDEX CONCURRENTLY ON shop_item (price)', '')"]
)
def test_code_of_no_transaction_can_not_be_resumed(shop, step):
    shop.migration("0002_own", step, code=RUN.format("pass"), atomic=False)
    assert not only(shop)["resumable"]


@pytest.mark.parametrize(
    ("sql", "atomic"),
    [
        ("-- in place of CREATE INDEX CONCURRENTLY by_price\nSELECT 1", False),
        ("CREATE INDEX CONCURRENTLY by_price ON shop_item (price)", True),
        ("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS once ON shop_item (id, price)", False),
    ],
)
def test_what_is_no_leftover_of_a_migration_stays(shop, sql, atomic):
    shop.as_app("CREATE INDEX by_price ON shop_item (price)")
    shop.as_app("ALTER TABLE shop_item ADD CONSTRAINT once UNIQUE (id, price)")
    name = shop.migration("0002_own", f"migrations.RunSQL({sql!r}, '')", atomic=atomic)
    # As after a first try that failed.
    found = shop.ask("rehearse", "--interrupted", name, code=int(atomic))[0]
    assert found["leftovers"] == []


def test_a_reverse_that_leaves_another_schema_and_all_values_is_inexact(shop):
    sql = "CREATE TABLE more (n int)"
    shop.migration("0002_more", f"migrations.RunSQL({sql!r}, migrations.RunSQL.noop)")
    found = only(shop)
    assert found["reversal"]["class"] == "inexact" and "table more" in found["reversal"]["why"]


def test_an_unfinished_index_of_another_migration_is_not_this_ones(shop):
    shop.server.run(
        *("psql", "-Xq", "-d", shop.env["TEST_DATABASE"], "-c"),
        "CREATE UNIQUE INDEX CONCURRENTLY by_price ON shop_item (price)",
        check=False,
    )
    shop.migration("0002_size", ADD)
    assert shop.look()["invalid_indexes"] == ["by_price"]
    assert only(shop)["invalid_indexes"] == []


def test_a_lock_is_measured_while_it_is_held(shop):
    sql = "LOCK TABLE shop_item; SELECT pg_sleep(0.6)"
    shop.migration("0002_lock", f"migrations.RunSQL({sql!r}, '')")
    (lock,) = [one for one in only(shop)["locks"] if one["blocks"]]
    assert lock["table"] == "shop_item" and lock["seconds"] > 0.5


def test_a_lock_that_comes_and_goes_is_as_long_as_its_longest_time(shop):
    sql = ["LOCK TABLE shop_item; SELECT pg_sleep(0.3)", "SELECT pg_sleep(2)"]
    steps = [f"migrations.RunSQL({one!r}, '')" for one in (sql[0], sql[1], sql[0])]
    shop.migration("0002_locks", *steps, atomic=False)
    (lock,) = [one for one in only(shop)["locks"] if one["blocks"]]
    assert 0.2 < lock["seconds"] < 2


def test_a_lock_is_seen_though_the_migration_opens_another_session(shop):
    code = RUN.format("""
    editor.connection.close()
    editor.execute('LOCK TABLE shop_item; SELECT pg_sleep(1)')
""")
    shop.migration("0002_session", FORWARD, code=code, atomic=False)
    (lock,) = [one for one in only(shop)["locks"] if one["blocks"]]
    assert lock["seconds"] > 0.5


def test_what_a_migration_sets_in_its_session_is_not_the_next_ones(shop):
    sql = "CREATE SCHEMA audit; SET search_path TO audit, public; CREATE TABLE own (n int)"
    shop.migration("0002_path", f"migrations.RunSQL({sql!r}, '')")
    shop.migration("0003_zone", "migrations.RunSQL(\"SET TIME ZONE 'Asia/Tokyo'\", '')")
    shop.migration(
        "0004_other",
        "migrations.CreateModel('Other', [('id', models.BigAutoField(primary_key=True))])",
    )
    _, catalog = shop.rehearse()
    assert {"table audit.own", "table shop_other"} <= catalog.keys()


def test_a_sequence_that_is_left_behind_is_told_with_its_mend(shop):
    code = RUN.format("apps.get_model('shop', 'Sort').objects.create(id=7)")
    sort = "migrations.CreateModel('Sort', [('id', models.BigAutoField(primary_key=True))])"
    name = shop.migration("0002_sort", sort, FORWARD, code=code)
    shop.migration("0003_size", ADD)
    (found, after), _ = shop.rehearse()
    (ailment,) = found["ailments"]
    assert found["migration"] == name and ailment["kind"] == "sequence"
    assert "shop_sort.id goes up to 7" in ailment["text"] and after["ailments"] == []
    shop.as_app(ailment["repair"])
    assert shop.look()["ailments"] == []


def test_a_text_cut_off_by_its_new_type_is_no_doing_of_code_beside_it(shop):
    note = "migrations.AlterField('item', 'note', models.CharField(max_length=6, null=True))"
    shop.migration("0002_short", note, FORWARD, code=RUN.format("pass"))
    found = only(shop)
    assert changes(found) == ["converted shop_item.note 1000"]
    assert found["reversal"]["class"] == "lossy"


def test_a_date_that_becomes_a_moment_loses_nothing(shop):
    shop.as_app("ALTER TABLE shop_item ADD COLUMN made date DEFAULT '2020-02-02'")
    alter = "ALTER TABLE shop_item ALTER made TYPE {}"
    words = [alter.format(kind) for kind in ("timestamp", "date")]
    shop.migration("0002_moment", f"migrations.RunSQL({words[0]!r}, {words[1]!r})")
    found = only(shop)
    assert changes(found) == ["converted shop_item.made 1000"]
    assert found["reversal"]["class"] == "lossless"


def test_a_view_that_goes_with_a_column_is_told(shop):
    shop.as_app("UPDATE shop_item SET note = NULL")
    shop.as_app("CREATE VIEW report AS SELECT note FROM shop_item")
    shop.migration("0002_drop", "migrations.RemoveField('item', 'note')")
    assert only(shop)["dropped"] == ["view report"]


VIEW = "CREATE VIEW report AS SELECT note FROM shop_item"
TRIGGER = (
    "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
    "CREATE TRIGGER touched BEFORE UPDATE ON shop_item FOR EACH ROW EXECUTE FUNCTION touch()"
)
CASCADES = {
    "a view with its column": (
        f"UPDATE shop_item SET note = NULL; {VIEW}",
        "ALTER TABLE shop_item DROP COLUMN note CASCADE",
        ["view report"],
    ),
    "a view that is named": (
        f"UPDATE shop_item SET note = NULL; {VIEW}",
        "DROP VIEW report; ALTER TABLE shop_item DROP COLUMN note CASCADE",
        [],
    ),
    "a view that is made again": (
        VIEW,
        f"ALTER TABLE shop_item ALTER price TYPE int; DROP VIEW report CASCADE; {VIEW}",
        [],
    ),
    "a trigger with its function": (
        TRIGGER,
        "DROP FUNCTION touch() CASCADE",
        ["trigger shop_item.touched"],
    ),
    "a trigger with a function of its name": (
        TRIGGER.replace("touched", "touch"),
        "DROP FUNCTION touch() CASCADE",
        ["trigger shop_item.touch"],
    ),
    "a trigger with points in its name": (
        TRIGGER.replace("touched", '"a.b"'),
        "DROP FUNCTION touch() CASCADE",
        ['trigger shop_item."a.b"'],
    ),
    "a check with its function": (
        (
            "CREATE FUNCTION fine(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';"
            "ALTER TABLE shop_item ADD CONSTRAINT told CHECK (fine(price))"
        ),
        "DROP FUNCTION fine(int) CASCADE",
        ["constraint shop_item.told"],
    ),
    "a check with its column": (
        "UPDATE shop_item SET note = NULL; ALTER TABLE shop_item ADD CONSTRAINT told CHECK (price > 0 OR note > '') NOT VALID",
        "ALTER TABLE shop_item DROP COLUMN note",
        [],
    ),
    "a foreign key with what it refers to": (
        "SELECT 1",
        "ALTER TABLE shop_kind DROP CONSTRAINT shop_kind_pkey CASCADE",
        ["constraint shop_item."],
    ),
    "a foreign key with its own column": (
        "UPDATE shop_item SET kind_id = NULL",
        "ALTER TABLE shop_item DROP COLUMN kind_id",
        [],
    ),
    "a table with all that is its own": (
        f"{TRIGGER}; TRUNCATE shop_item",
        "DROP TABLE shop_item",
        [],
    ),
    "another name for the table": (TRIGGER, "ALTER TABLE shop_item RENAME TO shop_thing", []),
}


@pytest.mark.parametrize("case", CASCADES)
def test_what_goes_by_a_cascade_is_told_if_no_statement_names_it(shop, case):
    before, sql, gone = CASCADES[case]
    shop.as_app(before)
    shop.migration("0002_cascade", f"migrations.RunSQL({sql!r}, '')")
    told = only(shop)["dropped"]
    assert len(told) == len(gone) and all(map(str.startswith, told, gone))


PARTS = (
    "CREATE TABLE part (id int, note text) PARTITION BY RANGE (id);"
    "CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (500);"
    "CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (500) TO (1001);"
    "INSERT INTO part SELECT n, 'note ' || n FROM generate_series(1, 1000) n"
)
MOVES = {
    "a partition that leaves": (
        PARTS,
        "ALTER TABLE part DETACH PARTITION part_1",
        ["left part 499"],
    ),
    "a partition whose rows go": (
        PARTS,
        "TRUNCATE part_1",
        ["rows part_1 499"],
    ),
    "a partition that goes": (PARTS, "DROP TABLE part_1", ["left part 499", "table part_1 499"]),
    "a partition that comes": (
        PARTS,
        "CREATE TABLE part_3 PARTITION OF part FOR VALUES FROM (1001) TO (2000)",
        [],
    ),
    "rows that are in another partition": (
        PARTS,
        (
            "CREATE TABLE aside AS SELECT * FROM part_1; DROP TABLE part_1;"
            "CREATE TABLE part_0 PARTITION OF part FOR VALUES FROM (0) TO (500);"
            "INSERT INTO part_0 SELECT * FROM aside; DROP TABLE aside"
        ),
        [],
    ),
    "a table that becomes one of partitions": (
        "CREATE TABLE part AS SELECT n AS id, 'note ' || n AS note FROM generate_series(1, 1000) n",
        (
            "ALTER TABLE part RENAME TO part_0; CREATE TABLE part (id int, note text) PARTITION BY RANGE (id);"
            "ALTER TABLE part ATTACH PARTITION part_0 FOR VALUES FROM (0) TO (1001)"
        ),
        [],
    ),
    "a child that leaves its parent": (
        "CREATE TABLE part (id int); CREATE TABLE part_0 () INHERITS (part); INSERT INTO part_0 VALUES (1)",
        "ALTER TABLE part_0 NO INHERIT part",
        ["left part 1"],
    ),
}


@pytest.mark.parametrize("case", MOVES)
def test_rows_are_those_that_are_read(shop, case):
    before, sql, told = MOVES[case]
    shop.as_app(before)
    shop.migration("0002_moves", f"migrations.RunSQL({sql!r}, '')")
    assert changes(only(shop)) == told


SECURE = (
    "ALTER TABLE shop_item ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
    "CREATE POLICY own ON shop_item USING ({})"
)
TENANT = "price = current_setting('app.tenant')::int"


@pytest.mark.parametrize("policy", ["price < 2", TENANT])
def test_what_row_security_hides_from_the_owner_is_seen_all_the_same(shop, policy):
    shop.as_app(SECURE.format(policy))
    look = shop.look()
    assert look["ailments"] == [] and look["unseen"] == []
    shop.migration("0002_drop", "migrations.RemoveField('item', 'note')")
    found = only(shop)
    assert changes(found) == ["gone shop_item.note 1000"]
    assert found["reversal"]["class"] == "lossy"


ELSEWHERE = """
import threading
from django.db import connections

kept = []

def work(apps):
    apps.get_model('shop', 'Item').objects.filter(price=3).delete()

def forward(apps, editor):
    {}

def back(apps, editor):
    pass
"""
OPEN = (
    "kept.append(connections.create_connection('default')); "
    "kept[0].cursor().execute('DELETE FROM shop_item WHERE price = 3')"
)


@pytest.mark.parametrize(
    "way", ["one = threading.Thread(target=work, args=[apps]); one.start(); one.join()", OPEN]
)
def test_rows_deleted_in_another_session_are_missed(shop, way):
    shop.migration("0002_elsewhere", FORWARD, code=ELSEWHERE.format(way))
    assert changes(only(shop)) == ["rows shop_item 25"]


SEED = "INSERT INTO shop_item (name, price) VALUES ('seed', 1)"


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        (
            f"UPDATE shop_item SET note = NULL WHERE price < 20; {SEED}",
            ["emptied shop_item.note 500"],
        ),
        (
            f"ALTER TABLE shop_item ALTER note TYPE varchar(6) USING note::varchar(6); {SEED}",
            ["converted shop_item.note 1000"],
        ),
        (f"{SEED}; INSERT INTO shop_kind (code) VALUES ('new')", []),
        (f"DELETE FROM shop_item WHERE price = 3; {SEED}", ["rows shop_item 25"]),
    ],
)
def test_rows_that_come_hide_nothing_of_those_that_were_there(shop, sql, told):
    shop.migration("0002_seed", f"migrations.RunSQL({sql!r}, '')")
    assert changes(only(shop)) == told


@pytest.mark.parametrize(
    ("view", "told"),
    [
        ("SELECT * FROM shop_all WHERE price > 0", ["hidden shop_item 25"]),
        ("SELECT * FROM shop_all", []),
    ],
)
def test_a_view_in_a_tables_place_shows_its_rows(shop, view, told):
    sql = f"ALTER TABLE shop_item RENAME TO shop_all; CREATE VIEW shop_item AS {view}"
    shop.migration("0002_view", f"migrations.RunSQL({sql!r}, '')")
    assert changes(only(shop)) == told


def test_a_table_that_a_crash_empties_is_told(shop):
    sql = "ALTER TABLE shop_item SET UNLOGGED"
    shop.migration("0002_unlogged", f"migrations.RunSQL({sql!r}, '')")
    assert changes(only(shop)) == ["unlogged shop_item 1000"]


def test_a_sequence_behind_a_column_that_row_security_hides_is_seen_on_the_copy(shop):
    shop.as_app(SECURE.format(TENANT))
    sql = "SELECT setval(pg_get_serial_sequence('shop_item', 'id'), 7)"
    shop.migration("0002_numbers", f"migrations.RunSQL({sql!r}, '')")
    (ailment,) = only(shop)["ailments"]
    assert ailment["where"] == "shop_item.id" and "goes up to 1000" in ailment["text"]


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        (SECURE.format("price < 2"), ["hidden shop_item 950"]),
        (SECURE.format(TENANT), ["hidden shop_item 1000"]),
        (SECURE.format("true"), []),
        (SECURE.format(TENANT).replace(", FORCE ROW LEVEL SECURITY", ""), []),
    ],
)
def test_rows_that_a_migration_hides_from_the_application_are_missed(shop, sql, told):
    shop.migration("0002_secure", f"migrations.RunSQL({sql!r}, '')")
    assert changes(only(shop)) == told


def test_a_table_of_another_role_that_hides_its_rows_is_named(shop):
    shop.sql(
        "CREATE TABLE theirs (id serial); INSERT INTO theirs VALUES (DEFAULT); GRANT ALL ON theirs TO app;"
        "GRANT ALL ON SEQUENCE theirs_id_seq TO app; ALTER TABLE theirs ENABLE ROW LEVEL SECURITY"
    )
    shop.migration("0002_size", ADD)
    assert only(shop)["changes"] == []
    assert shop.look()["unseen"] == ["theirs"]


@pytest.mark.parametrize(
    ("signal", "told"), [("pre_migrate", "shop.0002_size"), ("post_migrate", "post_migrate")]
)
def test_what_a_receiver_does_around_the_migrations_is_told(shop, signal, told):
    sql = "DELETE FROM shop_item WHERE price = 3"
    shop.receives(signal, sql)
    shop.migration("0002_size", ADD)
    found, _ = shop.rehearse()
    assert {one["migration"]: changes(one) for one in found if one["changes"]} == {
        told: ["rows shop_item 25"]
    }
    assert found[-1]["migration"] == told


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("ALTER TABLE shop_item ALTER note SET NOT NULL", ""),
        ("LOCK TABLE shop_item; SELECT pg_sleep(1.2)", ""),
        ("DROP TABLE nowhere", 'table "nowhere" does not exist'),
    ],
)
def test_receivers_are_measured_as_migrations_are(shop, sql, told):
    shop.receives("post_migrate", sql)
    shop.migration("0002_size", ADD)
    found = shop.ask("rehearse", code=1 if told else 0)[1]
    assert found["migration"] == "post_migrate" and told in found.get("error", "")
    if "LOCK" in sql:
        assert max(one["seconds"] for one in found["locks"] if one["table"] == "shop_item") > 1


@pytest.mark.parametrize("ending", ["raise SystemExit(0)", "raise KeyboardInterrupt"])
def test_a_migration_that_ends_the_program_fails(shop, ending):
    shop.migration("0002_ends", FORWARD, code=RUN.format(ending))
    found = only(shop, code=1)
    assert found["error"].startswith(("SystemExit", "KeyboardInterrupt")) and found["left"] == []


def test_what_harmless_receivers_do_is_no_migration(shop):
    shop.receives("post_migrate", "UPDATE shop_kind SET code = code")
    shop.migration("0002_size", ADD)
    assert [one["migration"] for one in shop.rehearse()[0]] == ["shop.0002_size"]


THREAD = """
import socket, threading, time

def call(port):
    while True:
        socket.socket().connect_ex(("127.0.0.2", port))
        time.sleep(0.01)

{}
"""


def test_only_what_the_migration_calls_counts(shop):
    background = "threading.Thread(target=call, args=(8126,), daemon=True).start()"
    shop.write("shop/__init__.py", THREAD.format(background))
    code = RUN.format(
        "import threading, socket, time\n"
        "    own = threading.Thread(target=lambda: socket.socket().connect_ex(('127.0.0.2', 8)))\n"
        "    own.start(); own.join(); time.sleep(0.1)\n"
        "    socket.socket().connect_ex(('127.0.0.2', 9))"
    )
    shop.migration("0002_calls", FORWARD, code=code)
    assert only(shop)["calls"] == ["127.0.0.2:8", "127.0.0.2:9"]


def test_a_reverse_that_never_ends_is_ended(shop):
    sql = "SELECT pg_sleep(10000)"
    shop.migration("0002_sleep", f"migrations.RunSQL('SELECT 1', {sql!r})")
    found = only(shop)
    assert found["reversal"]["class"] == "failed" and "timeout" in found["reversal"]["why"]


def test_rows_that_come_and_go_in_one_migration_are_no_loss(shop):
    code = RUN.format("Item.objects.filter(pk=Item.objects.create(name='x').pk).delete()")
    shop.migration("0002_passing", FORWARD, code=code)
    assert only(shop)["changes"] == []


def test_a_migration_that_ends_its_own_transaction_is_told_why_it_fails(shop):
    shop.migration("0002_commit", "migrations.RunSQL('BEGIN; SELECT 1; COMMIT;', '')")
    (culprit,) = only(shop, code=1)["culprits"]
    assert "COMMIT" in culprit and "atomic = False" in culprit


def test_a_row_that_fails_is_shown_by_nobodys_words(shop):
    code = RUN.format("""
    from django.db import connection
    try:
        connection.cursor().execute("INSERT INTO shop_item (name) VALUES ('bob@example.org')")
    except Exception as error:
        raise RuntimeError(f'could not: {error}')
""")
    shop.migration("0002_told", FORWARD, code=code)
    error = only(shop, code=1)["error"]
    assert error.startswith("RuntimeError: could not: null value in column") and "bob" not in error
    assert "violates not-null constraint" in error


def test_steps_that_have_no_way_back_are_told_though_they_can_not_be_tried(shop):
    step = "migrations.SeparateDatabaseAndState([migrations.RunSQL('SELECT 1')])"
    shop.migration("0002_apart", step, atomic=False)
    assert only(shop)["reversal"]["class"] == "irreversible"


def test_a_table_of_very_many_columns_is_read(shop):
    columns = ", ".join(f"c{n} int" for n in range(900))
    shop.as_app(f"CREATE TABLE wide ({columns}); INSERT INTO wide (c1, c899) VALUES (1, 2)")
    shop.migration(
        "0002_drop",
        "migrations.RunSQL('ALTER TABLE wide DROP COLUMN c899', migrations.RunSQL.noop)",
    )
    assert changes(only(shop)) == ["gone wide.c899 1"]


def test_a_reverse_that_fails_in_a_working_tree_is_named(shop):
    name = shop.migration("0002_broken", FORWARD, code=BROKEN.format("pass"))
    shop.manage("migrate", "--verbosity=0")
    (answer,) = shop.ask("rewind", told=json.dumps(["shop.0001_initial"]), code=1)
    assert answer["error"].startswith(f"{name}: ZeroDivisionError")


def test_it_waits_before_each_migration_where_told_to(shop):
    shop.migration("0002_size", ADD)
    shop.migration("0003_nothing")
    with shop.asking("rehearse", "--pause") as process:
        process.stdin.write("\n")
        process.stdin.flush()
        assert "0002_size" in process.stdout.readline()
        # Committed, so that another release can be tried on it.
        assert "column shop_item.size" in shop.look()["catalog"]
        assert shop.look()["pending"] == ["shop.0003_nothing"]
        process.stdin.write("\n")
        process.stdin.flush()
        assert "0003_nothing" in process.stdout.readline()
        process.stdin.close()
    assert process.returncode == 1


def test_nothing_is_applied_before_it_is_told_to_begin(shop):
    name = shop.migration("0002_size", ADD)
    with shop.asking("rehearse", "--pause") as process:
        process.stdin.close()
        assert process.stdout.read() == ""
    assert process.returncode == 1 and shop.look()["pending"] == [name]


def test_at_the_end_the_release_itself_is_tried_on_its_schema(shop):
    # The models forget a column that the table goes on to ask for.
    shop.migration(
        "0002_forget",
        "migrations.SeparateDatabaseAndState(state_operations=[migrations.RemoveField('item', 'price')])",
    )
    shop.models(("    price = models.IntegerField(default=0)\n", ""))
    tried = shop.ask("rehearse")[-1]["exercise"]["models"]["shop.Item"]
    assert tried["insert"].startswith("23502") and "price" in tried["insert"]
    assert tried["read"] == tried["update"] == ""
