"""Each is stopped before it touches the live database; once it is mended, the next run is well.

Where the mend is to take the migration away, the next test's run is that next run.
"""

import re

ADD = 'migrations.AddField("item", "{}", models.IntegerField(null=True))'
NOTHING = "migrations.RunPython(migrations.RunPython.noop, migrations.RunPython.noop)"
RUN = "migrations.RunPython(forward, migrations.RunPython.noop)"
FORWARD = """
def forward(apps, schema_editor):
    items = apps.get_model("stock", "Item").objects.order_by("pk")
    {}
"""


def test_a_ghost_with_its_column(first):
    """Applied by a release whose file is gone: named, with what it left in the schema."""
    first.as_app("ALTER TABLE stock_item ADD COLUMN elsewhere integer")
    first.sql(
        "INSERT INTO django_migrations (app, name, applied) VALUES ('stock', '0002_elsewhere', now())"
    )
    first.new_page("a ghost")
    first.stops("stop ghost: stock.0002_elsewhere", "stop drift: column stock_item.elsewhere")
    first.sql("ALTER TABLE stock_item DROP COLUMN elsewhere")
    first.sql("DELETE FROM django_migrations WHERE name = '0002_elsewhere'")
    first.goes()


def test_a_field_renamed_without_a_file(first):
    """Nobody guesses whether the column is to be renamed or lost."""
    line = "    note = models.TextField(null=True)\n"
    first.model(line, '    remark = models.TextField(default="none")\n')
    first.stops("The models of stock have changed, but no migration says how")
    first.model('    remark = models.TextField(default="none")\n', line)


def test_uniqueness_that_rows_violate(first):
    """Examples of the rows are named."""
    first.model(
        "price = models.IntegerField(default=0)", "price = models.IntegerField(unique=True)"
    )
    name = first.migration(
        "unique", 'migrations.AlterField("item", "price", models.IntegerField(unique=True))'
    )
    first.stops(f"STOP  stock.{name}", "stop failure", "price = '0' in 25 rows")
    first.remove(name)
    field = "models.IntegerField(default=0, db_index=True)"
    first.model("price = models.IntegerField(unique=True)", f"price = {field}")
    first.migration("index", f'migrations.AlterField("item", "price", {field})')
    assert "go    stock.0002_index" in first.goes()


def test_a_column_and_an_index_altered_by_hand(first):
    """Both are named, and what is proposed to repair them does."""
    first.as_app("CREATE INDEX by_hand ON stock_item (name)")
    first.as_app("ALTER TABLE stock_item ALTER COLUMN name TYPE varchar(80)")
    first.new_page("drift")
    said = first.stops("stop drift: index by_hand", "stop drift: column stock_item.name").said
    repairs = re.findall(r"Repair: (.+;)", said)
    assert len(repairs) == 2
    for repair in repairs:
        first.sql(repair.rstrip(";"))
    first.goes()


def test_drift_that_is_adopted_in_writing(first):
    """It passes with its reason, and no longer once it is something else."""
    first.as_app("CREATE INDEX by_hand ON stock_item (name)")
    first.new_page("adopted drift")
    said = first.stops("stop drift: index by_hand").said
    lines = said[said.index("[[adopt]]") :].splitlines()[:4]
    first.allow("\n".join(line.strip() for line in lines).replace("...", "for the yearly report"))
    first.goes()
    first.sql("DROP INDEX by_hand")
    first.as_app("CREATE INDEX by_hand ON stock_item (name, price)")
    first.new_page("other drift")
    first.stops("stop drift: index by_hand")
    first.sql("DROP INDEX by_hand")
    first.allow("")
    first.goes()


def test_the_file_of_an_applied_migration_edited(first):
    """The schema is not what the files say any more; the edited file is named."""
    file = "stock/migrations/0001_initial.py"
    for path in (file, "stock/models.py"):
        first.edit(path, lambda text: text.replace("max_length=50", "max_length=70"))
    first.stops("stop drift: column stock_item.name", "the file of stock.0001_initial was edited")
    for path in (file, "stock/models.py"):
        first.edit(path, lambda text: text.replace("max_length=70", "max_length=50"))
    first.new_page("no file was edited")
    first.goes()


def test_a_migration_that_was_faked(first):
    """Recorded and never applied: its column is missing."""
    first.model("    kind = ", "    faked = models.IntegerField(null=True)\n    kind = ")
    name = first.migration("faked", ADD.format("faked"))
    first.sql(
        f"INSERT INTO django_migrations (app, name, applied) VALUES ('stock', '{name}', now())"
    )
    first.stops("stop drift: column stock_item.faked is missing")
    first.sql(f"DELETE FROM django_migrations WHERE name = '{name}'")
    first.goes()


def test_code_outside_of_a_transaction_that_fails_midway(first):
    """At row 101: that it would leave traces is told; there are none."""
    code = """for number, item in enumerate(items, 1):
        if number == 101:
            raise ValueError("row 101 is not as it should be")
        item.note = "seen"
        item.save()"""
    name = first.migration("midway", RUN, code=FORWARD.format(code), atomic=False)
    first.stops("ValueError: row 101 is not as it should be", "it leaves traces in stock_item")
    first.remove(name)


def test_a_wider_number_in_a_large_table(first):
    """The table is rewritten, and everybody waits."""
    first.sql(
        "INSERT INTO stock_item (name, price) SELECT 'more ' || n, n FROM generate_series(1, 200000) n"
    )
    first.allow("[limits]\ntable_mb = 5\nlock_seconds = 0.1\n")
    old = "models.IntegerField(default=0, db_index=True)"
    new = "models.BigIntegerField(default=0, db_index=True)"
    first.model(old, new)
    name = first.migration("wide", f'migrations.AlterField("item", "price", {new})')
    first.stops(
        f"STOP  stock.{name}", "stop rewrite: it rewrites the table and keeps reads and writes"
    )
    first.allow(
        f"[limits]\ntable_mb = 5\nlock_seconds = 0.1\n[[override]]\nmigration = 'stock.{name}'\n"
        "findings = ['rewrite', 'lock']\nreason = 'nobody is awake'\n"
    )
    assert "nobody is awake" in first.goes()
    first.allow("")
    first.sql("DELETE FROM stock_item WHERE name LIKE 'more %'")


def test_mail_and_calls(first):
    """Neither is done, both are told."""
    code = """import urllib.request
    from django.core.mail import send_mail
    send_mail("hello", "there", "shop@example.org", ["customer@example.org"])
    try:
        urllib.request.urlopen("http://192.0.2.1/", timeout=1)
    except OSError:
        pass"""
    name = first.migration("mail", RUN, code=FORWARD.format(code))
    first.stops("stop outside: it sends 1 mails and calls 192.0.2.1:80")
    first.remove(name)


def test_an_extension_that_is_not_permitted(first):
    """The rehearsal is done as the role that will have to do it."""
    name = first.migration("extension", 'postgres.CreateExtension("file_fdw")')
    first.stops("stop failure: permission denied to create extension")
    first.remove(name)
    name = first.migration("unknown", 'postgres.CreateExtension("nowhere")')
    first.stops('stop failure: extension "nowhere" is not available')
    first.remove(name)


def test_two_last_migrations(first):
    """Nobody knows their order."""
    before = max(path.stem for path in (first.source / "stock/migrations").glob("0*.py"))
    one = first.migration("one", NOTHING)
    other = first.migration("other", NOTHING, after=before)
    first.stops(one, other)
    first.remove(other)
    first.goes()


def test_a_data_migration_that_silently_empties_a_column(first):
    """What is lost is counted, and passes once that is said to be meant."""
    code = FORWARD.format('items.filter(price__lt=10).update(note="")')
    name = first.migration("empties", RUN, code=code)
    first.stops(f"STOP  stock.{name}", "stop data-loss: 250 values of stock_item.note become empty")
    first.allow(
        f"[[override]]\nmigration = 'stock.{name}'\nfindings = ['data-loss']\nreason = 'they are old'\n"
    )
    assert "they are old" in first.goes()


def test_a_sequence_behind_its_column(first):
    """Found before anything is applied; the statement that is proposed mends it."""
    first.sql("INSERT INTO stock_kind (id, code) VALUES (5000, 'late')")
    first.migration("next", NOTHING)
    said = first.stops("stop sequence", "stock_kind.id goes up to 5000").said
    first.sql(re.search(r"SELECT setval\(.+?\);", said)[0].rstrip(";"))
    first.goes()


def test_a_disk_without_room_for_a_copy(first):
    """Nothing is begun that could fill it."""
    volumes = "/var/lib/docker/volumes"
    first.migration("roomy", NOTHING)
    # A small file system in the place of the real one, with what is there.
    first.run(
        f"mkdir -p /small && mount -t tmpfs -o size=40m small /small && cd {volumes} && "
        "for one in */; do mkdir /small/$one && mount --bind $one /small/$one || exit; done && "
        f"mount --rbind /small {volumes}"
    )
    try:
        first.stops("A copy needs", f"are free in {volumes}. Free some room.")
    finally:
        first.run(f"umount --recursive --lazy {volumes} && umount --recursive --lazy /small")
    first.goes()


def test_what_is_quick_on_ten_rows_and_slow_on_many(first):
    """It is the rows that decide, and the copy has them all."""
    first.allow("[limits]\nmigration_seconds = 3\n")
    code = FORWARD.format("import time\n    for _ in items:\n        time.sleep(0.005)")
    name = first.migration("slow", RUN, code=code)
    first.stops(f"STOP  stock.{name}", "stop slow: it takes")
    first.remove(name)
    first.migration("quick", NOTHING)
    first.goes()
