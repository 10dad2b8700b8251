"""File systems that are full or read-only, of the data and of the repository."""

import time

import pytest
from hosts import PAGES
from machines import CONFIRMED, DATABASE


def fill(host, directory):
    """Leave no room on a file system."""
    host.run(
        f"fallocate -l $(df --output=avail -B1 {directory} | tail -n 1) {directory}/filler;"
        f" cat /dev/zero >> {directory}/filler 2> /dev/null; df {directory} | grep -q ' 100% '"
    )


def test_a_volume_with_options_of_its_own_is_not_exchanged(small):
    """A restore in its place is refused before anything has changed."""
    before = small.state()
    result = small.play("restore", "-e", "restore_to=latest", *CONFIRMED)
    assert result.code != 0
    assert "has a driver or options of its own" in result.said
    assert small.state() == before


def test_the_data_has_no_room(small, account):
    """Commits fail, none that was acknowledged is lost; with room again, the database comes back by itself."""
    with small.writing("full-data") as ledger:
        began = small.now()
        fill(small, "/small/data")
        for _ in range(4):
            time.sleep(1)
            # The log needs a new file too: the server ends, and can't start.
            small.attempt(f"docker exec {DATABASE} psql -U postgres -c 'SELECT pg_switch_wal()'")
        said = small.run(f"docker logs --since {began:.0f} {DATABASE} 2>&1")
        assert "No space left on device" in said
        freed = small.now()
        small.run("rm /small/data/filler")
        seconds = small.first_commit(ledger, freed, within=120)
    verdict = small.verdict(ledger)
    account("data full, then freed", verdict, seconds)
    assert verdict["lost"] == 0
    small.well()
    small.do("drill")


def harm_full(host):
    fill(host, "/small/backup")


def mend_full(host):
    host.run("rm /small/backup/filler")


def harm_read_only(host):
    remount = "mount -o remount,ro /small/backup"
    host.until(lambda: host.attempt(remount).code == 0, "read-only")


def mend_read_only(host):
    host.run("mount -o remount,rw /small/backup")


@pytest.mark.parametrize(
    ("harm", "mend", "reason"),
    [
        (harm_full, mend_full, "No space left on device"),
        pytest.param(
            *(harm_read_only, mend_read_only, "Read-only file system"),
            marks=pytest.mark.full(
                seen_by="tests/test_backup.py::test_a_repository_of_the_uploads_that_takes_no_files_is_told_at_once"
            ),
        ),
    ],
    ids=["full", "read-only"],
)
def test_the_repository_takes_no_more(small, account, harm, mend, reason):
    """The site serves on and clients write; check, status and unit tell; mended, all catches up."""
    small.do("backup")
    before = small.backups()
    with small.writing(f"repository-{harm.__name__}") as ledger:
        harm(small)
        try:
            small.sql("SELECT pg_switch_wal()")
            late = "the log does not reach the repository"
            small.until(lambda: late in small.tool("check").error, "check fails", 90)
            assert small.attempt("systemctl start postdo-prod-backup").code != 0
            said = small.run("journalctl --no-pager --lines 20 --unit postdo-prod-backup")
            assert reason in said or "was not archived" in said
            status = small.play("status")
            assert status.code != 0
            assert late in status.said
            assert small.backups() == before
            small.page(PAGES["prod"], entry="the repository takes no more")
            assert small.healthy(DATABASE)
            written = int(small.run(f"wc -l < {ledger}"))
            small.until(lambda: int(small.run(f"wc -l < {ledger}")) > written, "commits go on", 10)
        finally:
            mend(small)
        small.do("backup")
        small.do("check")
        assert len(small.backups()) == len(before) + 1
    verdict = small.verdict(ledger)
    account(f"repository {harm.__name__.removeprefix('harm_')}", verdict)
    assert verdict["lost"] == 0
    small.do("drill")


@pytest.mark.full(seen_by="tests/test_backup.py::test_a_gap_in_the_log")
def test_a_log_that_waited_for_too_long_has_a_gap(small):
    """More of it than may wait is dropped: check says so, no drill passes, and a backup leads past it."""
    limit = "sed -i.kept 's/^archive-push-queue-max=.*/archive-push-queue-max=16MiB/'"
    settings = "/etc/postdo/prod/secrets/backup/pgbackrest.conf"
    since = small.now()
    small.run(f"{limit} {settings}")
    try:
        harm_read_only(small)
        try:
            small.sql("CREATE TABLE much AS SELECT md5(n::text) FROM generate_series(1, 1000000) n")
            log = f"docker logs --since {since:.0f} {DATABASE} 2>&1"
            small.until(lambda: "dropped WAL file" in small.run(log), "log is dropped", 150)
        finally:
            mend_read_only(small)
        # What comes next arrives: nothing is late any more.
        small.do("mark after-the-gap")
        assert "the log has a gap from" in small.refusal("check")
        assert "The archived log is not whole" in small.refusal("drill")
        small.sql("DROP TABLE much")
        small.do("backup")
        small.do("drill")
        small.well()
    finally:
        small.run(f"mv {settings}.kept {settings}")
