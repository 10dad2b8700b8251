"""What stays and what goes, who may work at a time, and by which clock."""

import json

import pytest
from hosts import SHORT

TOOL = "/usr/local/sbin/postdo-prod-backup"


@pytest.mark.full(seen_by="tests/test_backup.py::test_a_second_backup_is_told_who_is_at_work")
def test_two_backups_at_once(host):
    """One is made; the other says who is at work, with a status of its own; the drills below pass."""
    one = f"({TOOL} backup --type=full 2>&1; echo status $?)"
    said = host.run(f"{one} > /root/one & {one} > /root/other; wait; cat /root/one /root/other")
    assert sorted(line for line in said.splitlines() if line.startswith("status")) == [
        "status 0",
        "status 75",
    ]
    assert "Another backup is at work: process" in said


def test_nothing_young_goes_and_of_the_old_all_but_the_newest(host):
    """One full backup and one day are kept here; a clock that runs ahead makes nothing old, another rule does."""
    facts, record = "/etc/postdo/prod/backup.json", "/var/lib/postdo/prod/record.json"
    for type_ in ("full", "full", "incr"):
        host.do(f"backup --type={type_}")
    before = host.backups()
    kept = host.run(f"cat {record}")
    host.do("drill", clock="+3 days")
    host.run(f"cat > {record}", input=kept)
    assert host.backups() == before
    host.run(f'sed -i.kept \'s/"keep_days": 1/"keep_days": 0/\' {facts}')
    try:
        host.do("drill")
    finally:
        host.run(f"mv {facts}.kept {facts}")
    newest = max(backup["label"] for backup in before if backup["type"] == "full")
    expected = [backup["label"] for backup in before if backup["label"].startswith(newest)]
    assert [backup["label"] for backup in host.backups()] == expected
    assert len(expected) > 1
    # What is left is enough; in the short form a restore of the tests that follow shows it.
    if not SHORT:
        host.do("drill")


@pytest.mark.full(seen_by="tests/test_backup.py::test_age")
def test_a_clock_that_is_wrong_is_noticed(host):
    """A day later the backup is overdue, a day earlier it is from the future."""
    host.do("check")
    assert "the last backup is overdue" in host.refusal("check", clock="+1 day")
    assert "from the future" in host.refusal("check", clock="-1 day")


def test_the_timers_go_and_come_with_the_environment(host):
    """What they start makes a backup, and one that does not run is told."""
    units = [f"postdo-prod-{name}.timer" for name in ("backup", "backup-check", "drill")]

    def waiting():
        listed = host.run("systemctl list-timers --no-pager --no-legend")
        return [unit for unit in units if unit in listed]

    assert waiting() == units
    host.run("systemctl stop postdo-prod", timeout=300)
    assert waiting() == []
    host.run("systemctl start postdo-prod", timeout=300)
    assert waiting() == units
    host.run(f"systemctl stop {units[2]}")
    assert json.loads(host.do("status"))["problems"] == [
        f"timers do not run, so nothing is done by itself: systemctl start {units[2]}"
    ]
    host.run(f"systemctl start {units[2]}")
    before = len(host.backups())
    host.run("systemctl start postdo-prod-backup.service", timeout=120)
    assert len(host.backups()) == before + 1
    assert json.loads(host.do("status"))["problems"] == []
