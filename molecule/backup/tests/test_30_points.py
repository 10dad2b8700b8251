"""Back to a moment: by time, by a backup's name, by a name given to it; and what was there before is kept."""

import time

import pytest
from machines import CONFIRMED, DATABASE, VOLUME

# As on a new host: what is known of earlier restores is what the newest backup bears.
FORGET = """
import json, pathlib
path = pathlib.Path("/var/lib/postdo/prod/record.json")
record = json.loads(path.read_text())
del record["restores"]
path.write_text(json.dumps(record))
"""


@pytest.fixture(autouse=True)
def known(host):
    """Begin with an empty table, and a backup that has it."""
    host.sql("DROP TABLE IF EXISTS known; CREATE TABLE known (name text)")
    host.do("backup")


def insert(host, name):
    host.sql(f"INSERT INTO known VALUES ('{name}')")


def rows(host, container=DATABASE):
    return host.sql("SELECT string_agg(name, ' ' ORDER BY name) FROM known", container)


def test_to_a_time_and_the_data_of_before_is_kept(host):
    """What came later is not in the database, but in the volume that was kept."""
    insert(host, "1st")
    time.sleep(1)
    moment = host.sql("SELECT clock_timestamp()")
    time.sleep(1)
    insert(host, "2nd")
    image = host.containers(DATABASE)[DATABASE]["Image"]
    host.restore(moment)
    assert rows(host) == "1st"
    kept = host.kept()[-1]
    host.run(
        f"docker run --detach --rm --name kept --network none --volume {kept}:/var/lib/postgresql/data"
        f" --tmpfs /run/postgresql:uid=15432,mode=0700 {image} -c archive_mode=off"
    )
    try:
        host.until(lambda: host.attempt("docker exec kept healthcheck").code == 0, "kept data")
        assert rows(host, "kept") == "1st 2nd"
    finally:
        host.run("docker stop kept")
    host.well()


@pytest.mark.full(seen_by="tests/test_backup.py::test_choose")
def test_to_a_backup(host):
    """By the name that status shows."""
    insert(host, "1st")
    host.do("backup")
    label = host.backups()[-1]["label"]
    insert(host, "2nd")
    host.restore(label)
    assert rows(host) == "1st"


@pytest.mark.full(seen_by="tests/test_backup.py::test_choose")
def test_to_a_named_moment(host):
    """By a name that was given to it."""
    insert(host, "1st")
    name = f"before-{time.time():.0f}"
    assert name in host.do(f"mark {name}")
    insert(host, "2nd")
    host.restore(name)
    assert rows(host) == "1st"


@pytest.mark.full(seen_by="tests/test_backup.py::test_a_restore_begins_a_branch")
def test_to_a_moment_that_an_earlier_restore_had_left_behind(host):
    """Who restored to too early a time may still go to a later one; on a host that knows of no restore too."""
    insert(host, "1st")
    time.sleep(1)
    early = host.sql("SELECT clock_timestamp()")
    time.sleep(1)
    insert(host, "2nd")
    host.do("backup")
    insert(host, "3rd")
    time.sleep(1)
    late = host.sql("SELECT clock_timestamp()")
    time.sleep(1)
    insert(host, "4th")
    host.restore(early)
    assert rows(host) == "1st"
    host.run(f"python3 -c '{FORGET}'")
    host.restore(late)
    assert rows(host) == "1st 2nd 3rd"


@pytest.mark.full(
    seen_by="molecule/backup/tests/test_30_points.py::test_to_a_time_and_the_data_of_before_is_kept"
)
def test_to_before_a_migration_only_if_it_is_accepted(host):
    """The release that serves would meet a database that it does not know."""
    host.sql("CREATE TABLE lacking AS SELECT * FROM django_migrations ORDER BY id DESC LIMIT 1")
    host.sql("DELETE FROM django_migrations WHERE id IN (SELECT id FROM lacking)")
    time.sleep(1)
    moment = host.sql("SELECT clock_timestamp()")
    time.sleep(1)
    back = "INSERT INTO django_migrations SELECT * FROM lacking"
    host.sql(back)
    before = host.state()
    result = host.play("restore", "-e", f"restore_to='{moment}'", *CONFIRMED)
    assert result.code != 0
    assert "needs migrations which the database did not have then: " in result.said
    assert host.state() == before
    host.restore(moment, "-e", "restore_unapplied=accept")
    assert host.sql("SELECT count(*) FROM django_migrations JOIN lacking USING (id)") == "0"
    host.sql(back)
    host.well()


def test_a_look_beside_the_database_changes_nothing(host):
    """The copy answers on its own, until it is ended."""
    insert(host, "1st")
    before = host.containers(DATABASE)[DATABASE]["State"]["StartedAt"]
    label = host.backups()[-1]["label"]
    arguments = ("-e", f"restore_to={label}", "-e", "restore_only=inspect")
    result = host.play("restore", *arguments)
    assert result.code == 0, result.said
    assert rows(host, "postdo-prod-inspect") == ""
    assert rows(host) == "1st"
    # It plans as the live server does, but has less memory.
    assert host.sql("SHOW random_page_cost", "postdo-prod-inspect") == "1.1"
    assert host.sql("SHOW shared_buffers") != host.sql("SHOW shared_buffers", "postdo-prod-inspect")
    result = host.play("restore", "-e", "restore_only=end")
    assert result.code == 0, result.said
    assert "postdo-prod-inspect" not in host.containers()
    assert host.containers(DATABASE)[DATABASE]["State"]["StartedAt"] == before


FULL = pytest.mark.full(seen_by="tests/test_backup.py::test_choose_refuses")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("restore_to=latest",), "restore_confirm=postdo-prod"),
        (("restore_to=",), "restore_to=latest"),
        pytest.param(('restore_to="2026-11-22 10:00:00"',), "and offset", marks=FULL),
        pytest.param(('restore_to="2001-01-01 00:00:00+00"',), "no backup leads there", marks=FULL),
        pytest.param(('restore_to="2101-01-01 00:00:00+00"',), "no backup leads there", marks=FULL),
        pytest.param(("restore_to=nobody-knows",), "neither latest, nor a backup", marks=FULL),
    ],
    ids=["unconfirmed", "empty", "no-offset", "too-early", "to-come", "unknown"],
)
def test_what_is_not_meant_or_not_there_is_refused(host, arguments, says):
    """The remedy is named and nothing has changed."""
    confirmed = () if says.startswith("restore_confirm") else CONFIRMED
    before = host.state()
    words = [word for argument in arguments for word in ("-e", argument)]
    result = host.play("restore", *words, *confirmed)
    assert result.code != 0
    assert says in result.said
    assert host.state() == before
    assert VOLUME in before["volumes"]
