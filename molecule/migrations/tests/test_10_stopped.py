"""Each is stopped before it touches the live database; once it is mended, the next run is well.

What is found at once is made at once. Where the mend is to take a migration away, a later test's run is that next run.
"""

import re

import pytest
from hosts import wait_until

ADD = 'migrations.AddField("item", "{}", models.IntegerField(null=True))'
NOTHING = "migrations.RunPython(migrations.RunPython.noop, migrations.RunPython.noop)"
RUN = "migrations.RunPython(forward, migrations.RunPython.noop)"
FORWARD = """
def forward(apps, schema_editor):
    items = apps.get_model("stock", "Item").objects.order_by("pk")
    {}
"""


def after(said, finding):
    """Return the repair that is proposed for a finding."""
    return re.search(r"Repair: (.+?);?\n", said[said.index(finding) :])[1]


def test_a_database_that_is_not_as_it_was_left(first):
    """A ghost, a column and an index altered by hand, an edited file, a faked migration, a sequence behind."""
    first.as_app("ALTER TABLE stock_item ADD COLUMN elsewhere integer")
    first.sql(
        "INSERT INTO django_migrations (app, name, applied) VALUES ('stock', '0002_elsewhere', now())"
    )
    first.as_app("CREATE INDEX by_hand ON stock_item (name)")
    first.as_app("ALTER TABLE stock_item ALTER COLUMN note TYPE varchar(200)")
    initial = "stock/migrations/0001_initial.py"
    for path in (initial, "stock/models.py"):
        first.edit(path, lambda text: text.replace("max_length=9", "max_length=12"))
    first.model("    kind = ", "    faked = models.IntegerField(null=True)\n    kind = ")
    faked = first.migration("faked", ADD.format("faked"))
    first.sql(
        f"INSERT INTO django_migrations (app, name, applied) VALUES ('stock', '{faked}', now())"
    )
    first.sql("INSERT INTO stock_kind (id, code) VALUES (5000, 'late')")
    said = first.stops(
        "stop ghost: stock.0002_elsewhere",
        "stop drift: column stock_item.elsewhere",
        "stop drift: index by_hand",
        "stop drift: column stock_item.note",
        "stop drift: column stock_kind.code",
        "the file of stock.0001_initial was edited",
        "stop drift: column stock_item.faked is missing",
        "stop sequence",
        "stock_kind.id goes up to 5000",
    ).said
    # What is proposed mends; the index stays, in writing.
    first.sql(after(said, "stop drift: column stock_item.elsewhere"))
    first.sql(after(said, "stop drift: column stock_item.note"))
    first.sql(re.search(r"SELECT setval\(.+\);", said)[0])
    definition = re.search(r"object = 'index by_hand'\n\s*(definition = .+)\n", said)[1]
    first.allow(
        f"[[adopt]]\nobject = 'index by_hand'\n{definition}\nreason = 'for the yearly report'\n"
    )
    for path in (initial, "stock/models.py"):
        first.edit(path, lambda text: text.replace("max_length=12", "max_length=9"))
    first.sql(f"DELETE FROM django_migrations WHERE name IN ('0002_elsewhere', '{faked}')")
    # From here on the project asks for its database by a name of its own, which the copies answer to.
    first.edit(
        "config/settings.py",
        lambda text: text.replace('env.text("DATABASE_HOST")', '"postdo-prod-db"'),
    )
    assert f"go    stock.{faked}" in first.goes()


@pytest.mark.full(
    seen_by="molecule/default/tests/test_60_migrations.py::test_production_refuses_models_without_a_migration"
)
def test_a_field_renamed_without_a_file(first):
    """Nobody guesses whether the column is to be renamed or lost."""
    line = "    note = models.TextField(null=True)\n"
    first.model(line, '    remark = models.TextField(default="none")\n')
    first.stops("The models of stock have changed, but no migration says how")
    first.model('    remark = models.TextField(default="none")\n', line)


@pytest.mark.full(seen_by="tests/rehearsal/test_trial.py::test_duplicates_are_named_by_their_keys")
def test_uniqueness_that_rows_violate(first):
    """Examples of the rows are named."""
    old, new = "price = models.IntegerField(default=0)", "price = models.IntegerField(unique=True)"
    first.model(old, new)
    name = first.migration(
        "unique", 'migrations.AlterField("item", "price", models.IntegerField(unique=True))'
    )
    first.stops(f"STOP  stock.{name}", "stop failure", "price = '0' in 25 rows")
    first.remove(name)
    first.model(new, old)


@pytest.mark.full(
    seen_by="tests/rehearsal/test_trial.py::test_code_that_is_no_transaction_and_fails_midway_tells_what_it_leaves"
)
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


@pytest.mark.full(
    seen_by="tests/rehearsal/test_trial.py::test_an_extension_that_can_not_be_made_is_told"
)
def test_an_extension_that_is_not_permitted(first):
    """The rehearsal is done as the role that will have to do it."""
    name = first.migration("extension", 'postgres.CreateExtension("file_fdw")')
    first.stops("stop failure: permission denied to create extension")
    first.remove(name)


@pytest.mark.full(seen_by="tests/rehearsal/test_look.py::test_two_last_migrations_are_a_conflict")
def test_two_last_migrations(first):
    """Nobody knows their order."""
    before = max(path.stem for path in (first.source / "stock/migrations").glob("0*.py"))
    one = first.migration("one", NOTHING)
    other = first.migration("other", NOTHING, after=before)
    first.stops("Nobody knows what to migrate: Conflicting migrations", one, other)
    first.remove(other)


def test_a_disk_without_room_for_a_copy(first):
    """Nothing is begun that could fill it."""
    first.migration("room", NOTHING)
    volumes = "/var/lib/docker/volumes"
    # A small file system in the place of the real one, with what is there.
    first.run(
        f"mkdir -p /narrow && mount -t tmpfs -o size=40m narrow /narrow && cd {volumes} && "
        "for one in */; do mkdir /narrow/$one && mount --bind $one /narrow/$one || exit; done && "
        f"mount --rbind /narrow {volumes}"
    )
    try:
        first.stops("A copy needs", f"are free in {volumes}. Free some room.")
    finally:
        first.run(f"umount --recursive --lazy {volumes} && umount --recursive --lazy /narrow")


@pytest.mark.full(
    seen_by="tests/rehearsal/test_trial.py::test_mail_and_calls_are_noted_and_not_done"
)
def test_what_only_many_rows_show(first):
    """Values that go, a table rewritten, time that grows with the rows; and mail, which no copy sends."""
    first.sql(
        "INSERT INTO stock_item (name, price) SELECT 'more ' || n, n FROM generate_series(1, 100000) n"
    )
    limits = "[limits]\ntable_mb = 5\nlock_seconds = 0.05\n"
    first.allow(f"{limits}migration_seconds = 3\n")
    empties = first.migration(
        "empties", RUN, code=FORWARD.format('items.filter(price__lt=10).update(note="")')
    )
    wider = "models.BigIntegerField(default=0)"
    first.model("price = models.IntegerField(default=0)", f"price = {wider}")
    wide = first.migration("wide", f'migrations.AlterField("item", "price", {wider})')
    # Whoever is on this host or its networks: the live database, the gateways, and a listener on every address.
    networks = first.containers("postdo-prod-db")["postdo-prod-db"]["NetworkSettings"]["Networks"]
    live = next(one["IPAddress"] for one in networks.values() if one["IPAddress"])
    first.background("python3 -m http.server 8099 --directory /srv", "")
    addresses = first.run("hostname --all-ip-addresses").split()
    knock = """python3 -c 'import socket; socket.create_connection(("127.0.0.1", 8099))'"""
    wait_until(lambda: first.attempt(knock).code == 0, "a listener")
    places = [
        ("192.0.2.1", 80),
        (live, 5432),
        *((one, 8099) for one in addresses if ":" not in one),
    ]
    # Secrets that are real, but the database's password: the copy has the same, and there is no way to take it anywhere.
    real = first.run(
        "find /etc/postdo -type f ! -name postgres_password -exec sha256sum {} + | cut -c 1-64"
    ).split()
    code = f"""import hashlib, pathlib, socket
    from django.core.mail import send_mail
    send_mail("hello", "there", "shop@example.org", ["customer@example.org"])
    known = [one for one in pathlib.Path("/run/secrets").iterdir() if one.is_file()]
    assert known and not set({real}) & {{hashlib.sha256(one.read_bytes()).hexdigest() for one in known}}
    for place in {places}:
        try:
            socket.create_connection(place, timeout=1)
        except OSError:
            continue
        raise AssertionError(place)"""
    mail = first.migration("mail", RUN, code=FORWARD.format(code))
    code = "import time\n    for _ in items.iterator():\n        time.sleep(0.00002)"
    slow = first.migration("slow", RUN, code=FORWARD.format(code))
    first.stops(
        f"STOP  stock.{empties}",
        "stop data-loss: 250 values of stock_item.note become empty",
        f"STOP  stock.{wide}",
        "stop rewrite: it rewrites stock_item",
        f"STOP  stock.{mail}",
        f"stop outside: it sends 1 mail and calls 192.0.2.1:80, {live}:5432, {addresses[0]}:8099",
        f"STOP  stock.{slow}",
        "stop slow: it takes",
    )
    first.remove(slow)
    first.remove(mail)
    first.allow(
        f"{limits}[[override]]\nmigration = 'stock.{empties}'\nfindings = ['data-loss']\n"
        f"reason = 'they are old'\n[[override]]\nmigration = 'stock.{wide}'\n"
        "findings = ['rewrite', 'lock']\nreason = 'nobody is awake'\n"
    )
    said = first.goes()
    assert "they are old" in said and "nobody is awake" in said
