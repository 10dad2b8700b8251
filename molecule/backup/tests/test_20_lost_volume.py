"""The volume of the data is gone: what the repository holds comes back, all but the last minute at most."""

import re
import time

import pytest
from machines import DATABASE, VOLUME

RECOVERY_POINT = 60
# For the last segment's way into the repository.
PUSH = 15


@pytest.fixture(scope="module")
def lost(host):
    """Destroy containers and data while clients write; return the ledger and when that was."""
    # What a backup does not hold is nothing that a copy lacks: rows without a log, and a session's own tables.
    host.sql("DROP TABLE IF EXISTS unlogged; CREATE UNLOGGED TABLE unlogged AS SELECT 1 AS n")
    own = "-c 'CREATE TEMP TABLE own AS SELECT 1 AS n' -c 'SELECT pg_sleep(3600)'"
    host.run(f"docker exec --detach {DATABASE} psql -XqU postgres -d app {own}")
    made = "SELECT count(*) FROM pg_class WHERE relname = 'own'"
    host.until(lambda: host.sql(made) == "1", "the session has its table")
    host.do("backup --type=full")
    with host.writing("lost") as ledger:
        time.sleep(RECOVERY_POINT + PUSH)
        destroyed = host.now()
        host.run(f"docker rm --force {host.serving()} {DATABASE} && docker volume rm {VOLUME}")
    return ledger, destroyed


def test_a_plain_run_puts_no_empty_database_in_the_place(host, lost):
    """It refuses, and names the command that restores."""
    result = host.ansible("prod")
    assert result.code != 0
    assert "belongs to another database" in result.said
    assert "./run.sh prod restore -e restore_to=latest" in result.said


def test_the_named_command_brings_the_data_back(host, lost, account):
    """A lost commit is younger than the recovery point, and others after the backup are there."""
    ledger, destroyed = lost
    host.restore("latest")
    host.wait_for(DATABASE)
    verdict = host.verdict(ledger)
    account("volume destroyed, restored to latest", verdict)
    assert verdict["lost"] < verdict["acknowledged"]
    assert destroyed - (verdict["first"] or destroyed) < RECOVERY_POINT + PUSH


def test_the_next_run_makes_only_what_is_still_missing(host, lost):
    """That is the application's container; then the page is there."""
    said = host.converge("prod")
    changed = re.findall(r"^  changed +(.*?)(?:[ -]\w{12})?  ", said, re.MULTILINE)
    # Deploys of other tests may have been told of other times.
    assert [task for task in changed if not task.startswith("Tell about")] == [
        "Run postdo-prod-web",
        "Put in service release",
    ]
    host.well()
