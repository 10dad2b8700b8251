"""Damage in the repository, of each kind and in each place: no drill passes, and no restore is made from it."""

import re
from contextlib import contextmanager

import pytest
from hosts import wait_until
from machines import DATABASE, MEDIA, REPOSITORY, UPLOADS, VOLUME

BUNDLE = REPOSITORY + "/backup/main/{label}/bundle/1"
MANIFESTS = REPOSITORY + "/backup/main/{label}/backup.manifest*"
INFORMATION = f"{REPOSITORY}/backup/main/backup.info*"

FLIP = """
import pathlib, sys
path = pathlib.Path(sys.argv[1])
content = bytearray(path.read_bytes())
content[int(float(sys.argv[2]) * (len(content) - 1))] ^= 1
path.write_bytes(content)
"""


def flipped(place):
    """Return the command that changes one bit at a place between 0 (first byte) and 1 (last)."""
    return f"python3 -c '{FLIP}' $file {place}"


CUT = "truncate --size=-100 $file"
GONE = "rm $file"


@pytest.fixture(scope="module")
def segment(host):
    """Make a full backup and some log after it; return the archive's file in the middle of that."""
    # Good drills don't mind what a backup does not hold.
    host.sql("DROP TABLE IF EXISTS unlogged; CREATE UNLOGGED TABLE unlogged AS SELECT 1 AS n")
    host.do("backup --type=full")
    names = []
    for _ in range(3):
        host.sql("CREATE TABLE IF NOT EXISTS sentinel (n int); INSERT INTO sentinel VALUES (1)")
        names.append(host.sql("SELECT pg_walfile_name(pg_switch_wal())"))
    find = f"find {REPOSITORY}/archive -name '{{}}-*'"
    wait_until(lambda: host.run(find.format(names[2])), "the log is archived")
    return host.run(find.format(names[1]))


@contextmanager
def damaged(host, files, harm):
    """Damage files, of the newest backup where they are a backup's, and put them back."""
    chosen = files.format(label=host.backups()[-1]["label"])
    each = f"for file in {chosen}; do {{}}; done"
    host.run(each.format("cp --preserve=all $file /root/aside-$(basename $file)"))
    host.run(each.format(harm))
    try:
        yield
    finally:
        host.run(each.format("cp --preserve=all /root/aside-$(basename $file) $file"))


def sentinel(host):
    return host.sql("SELECT count(*) FROM sentinel")


FULL = pytest.mark.full(
    seen_by="molecule/backup/tests/test_40_damage.py::test_damage_is_found_and_nothing_is_made_from_it"
)


@pytest.mark.parametrize(
    ("files", "harm"),
    [
        (BUNDLE, flipped(0.5)),
        pytest.param(BUNDLE, CUT, marks=FULL),
        pytest.param(MANIFESTS, flipped(0.5), marks=FULL),
        pytest.param(INFORMATION, flipped(0.5), marks=FULL),
        pytest.param("log", flipped(0), marks=FULL),
        pytest.param("log", flipped(0.5), marks=FULL),
        pytest.param("log", flipped(1), marks=FULL),
        pytest.param("log", CUT, marks=FULL),
        ("log", GONE),
    ],
    ids=[
        *("bundle-flipped", "bundle-cut", "manifest-flipped", "information-flipped"),
        *("log-flipped-first", "log-flipped-middle", "log-flipped-last", "log-cut", "log-gone"),
    ],
)
def test_damage_is_found_and_nothing_is_made_from_it(host, segment, files, harm):
    """Drill and restore fail and say so; the database runs on; no backup is removed."""
    before, there = host.state(), sentinel(host)
    stored = host.run(f"ls {REPOSITORY}/backup/main")
    with damaged(host, segment if files == "log" else files, harm):
        drilled = host.refusal("drill")
        refused = host.refusal("restore --to latest")
        assert host.state() == before
        assert sentinel(host) == there
        assert host.run(f"ls {REPOSITORY}/backup/main") == stored
    for said in (drilled, refused):
        assert re.search(
            "damaged|invalid|checksum|missing|could not be read|can't be read|failed|did not start",
            said,
        )


@pytest.fixture
def forgetful(host):
    """Keep one full backup, and no other for its age."""
    facts = "/etc/postdo/prod/backup.json"
    host.run(f'sed -i.kept \'s/"keep_days": 1/"keep_days": 0/\' {facts}')
    yield
    host.run(f"mv {facts}.kept {facts}")


@pytest.mark.full(seen_by="tests/test_backup.py::test_expire_keeps_by_count_and_by_age")
def test_the_old_stay_while_the_newest_is_broken(host, forgetful):
    """Only a newest one that was restored lets others go."""
    for _ in range(2):
        host.do("backup --type=full")
    before = host.backups()
    with damaged(host, BUNDLE, flipped(0.5)):
        host.refusal("drill")
        assert host.backups() == before
    host.do("drill")
    assert [backup["label"] for backup in host.backups()] == [before[-1]["label"]]


@pytest.mark.full(
    seen_by="molecule/backup/tests/test_40_damage.py::test_damage_is_found_and_nothing_is_made_from_it"
)
def test_damage_in_an_older_backup_is_found(host):
    """The drill reads the whole repository; the newest backup itself is good."""
    older = host.backups()[-1]["label"]
    host.do("backup --type=full")
    with damaged(host, BUNDLE.replace("{label}", older), flipped(0.5)):
        assert "in the repository: " in host.refusal("drill")
    host.do("drill")


@pytest.mark.full(
    seen_by="molecule/backup/tests/test_40_damage.py::test_damage_is_found_and_nothing_is_made_from_it"
)
def test_damage_in_the_uploads_is_found(host):
    """A snapshot that can't be restored fails the drill."""
    upload = f"{UPLOADS}/noise"
    host.run(f"head -c 300000 /dev/urandom > {upload} && chown 18000:18000 {upload}")
    host.do("backup")
    packs = f"{MEDIA}/data/*/*"
    largest = host.run(f"ls -S {packs} | head -n 1")
    with damaged(host, largest, flipped(0.5)):
        assert "Restoring the uploads failed" in host.refusal("drill")
    host.do("drill")


@pytest.mark.full(
    seen_by="molecule/backup/tests/test_40_damage.py::test_damage_is_found_and_nothing_is_made_from_it"
)
@pytest.mark.parametrize(
    ("index", "says"),
    [
        ("btree", "pg_amcheck found damage"),
        # Which pg_amcheck doesn't read.
        ("hash", "Pages of the restored database are damaged"),
    ],
)
def test_damage_in_the_database_itself_is_found(host, index, says):
    """By the next backup, and by the drill, which reads every page; here in an index that nobody uses."""
    host.sql("CREATE TABLE harmed AS SELECT g AS n FROM generate_series(1, 10000) g")
    host.sql(f"CREATE INDEX harmed_n ON harmed USING {index} (n); CHECKPOINT")
    file = host.sql("SELECT pg_relation_filepath('harmed_n')")
    path = f"/var/lib/docker/volumes/{VOLUME}/_data/pgdata/{file}"
    host.run(f"docker stop {DATABASE}")
    host.run(f"file={path}; {flipped(0.5)}")
    host.run(f"docker start {DATABASE}")
    host.wait_for(DATABASE)
    assert "found damaged pages" in host.refusal("backup --type=full")
    assert "found damaged pages" in host.refusal("check")
    assert says in host.refusal("drill")
    host.sql("DROP TABLE harmed")
    host.do("backup --type=full")
    host.do("drill")
    host.well()


def test_the_operator_is_told_and_afterwards_all_is_well(host, segment):
    """The drill's unit fails, status shows it and fails, the alert command is run; mended, all pass."""
    host.run("rm -f /var/log/alerts")
    with damaged(host, BUNDLE, flipped(0.5)):
        assert host.attempt("systemctl start postdo-prod-drill").code != 0
        assert host.attempt("systemctl is-failed postdo-prod-drill").out == "failed"
        assert "the drill failed" in host.run("cat /var/log/alerts")
        result = host.play("status")
        assert result.code != 0
        assert "the last drill failed" in result.said
        assert "the last drill failed" in host.refusal("check")
    host.run("systemctl start postdo-prod-drill", timeout=300)
    result = host.play("status")
    assert result.code == 0, result.said
    host.do("check")
    assert DATABASE in host.containers()
