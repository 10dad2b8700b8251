"""Crashes, each while clients write: no commit that was acknowledged is lost, and service comes back by itself."""

import pytest
from hosts import SHORT, call
from machines import DATABASE


def test_a_fresh_production_takes_an_upload(host):
    """Its first release, and before anything restarts."""
    host.upload("first.txt", "picture")


def test_a_killed_server_is_started_again(host, account):
    """PostgreSQL's first process is killed, in the full form six times; each time the engine starts it again."""
    # Nothing of what follows could tell: the machine's own memory survives it.
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        assert host.sql(f"SHOW {setting}") == "on"
    seconds = []
    with host.writing("server") as ledger:
        for _ in range(2 if SHORT else 6):
            killed = host.kill_server()
            seconds.append(host.first_commit(ledger, killed))
    verdict = host.verdict(ledger)
    account("PostgreSQL killed", verdict, *seconds)
    assert verdict["lost"] == 0
    assert max(seconds) < 60


@pytest.mark.full(
    seen_by="molecule/backup/tests/test_10_crashes.py::test_a_killed_server_is_started_again"
)
def test_a_killed_backend_takes_no_other_commit_with_it(host, account):
    """The server ends all its sessions and recovers, in the container that is there."""
    started = host.containers(DATABASE)[DATABASE]["State"]["StartedAt"]
    with host.writing("backend") as ledger:
        pid = host.sql(
            "SELECT pid FROM pg_stat_activity WHERE query LIKE 'INSERT INTO ledger%' LIMIT 1"
        )
        killed = host.now()
        host.run(f"docker exec {DATABASE} sh -c 'kill -s KILL {pid}'")
        seconds = host.first_commit(ledger, killed)
    verdict = host.verdict(ledger)
    account("one of its sessions killed", verdict, seconds)
    assert verdict["lost"] == 0
    assert host.containers(DATABASE)[DATABASE]["State"]["StartedAt"] == started


@pytest.mark.full(
    seen_by="molecule/backup/tests/test_20_lost_volume.py::test_the_next_run_makes_only_what_is_still_missing"
)
def test_a_removed_container_is_made_again(host, account):
    """`docker rm -f` takes no data along, and the next run of site.yml makes the container."""
    with host.writing("removed") as ledger:
        removed = host.now()
        host.run(f"docker rm --force {DATABASE}")
        host.converge("prod")
        seconds = host.first_commit(ledger, removed)
    verdict = host.verdict(ledger)
    account("container removed, site.yml run", verdict, seconds)
    assert verdict["lost"] == 0
    host.well()


@pytest.mark.full(
    seen_by="molecule/default/tests/test_40_recovery.py::test_containers_outlive_a_restart_of_the_engine"
)
def test_the_engine_is_restarted(host, account):
    """The clients lose their connections through the engine, and no commit."""
    with host.writing("engine") as ledger:
        restarted = host.now()
        host.run("systemctl restart docker")
        seconds = host.first_commit(ledger, restarted)
    verdict = host.verdict(ledger)
    account("engine restarted", verdict, seconds)
    assert verdict["lost"] == 0


@pytest.mark.full(
    seen_by="molecule/default/tests/test_40_recovery.py::test_a_reboot_brings_production_back_without_ansible"
)
@pytest.mark.parametrize("how", ["rebooted", "killed"])
def test_the_host_goes_down(host, account, how):
    """After a reboot, or without any farewell, boot brings everything back; the clients go on."""
    with host.writing(how) as ledger:
        down = host.now()
        if how == "killed":
            for action in ("kill", "start"):
                assert call(["docker", action, host.machine]).code == 0
            host.wait_for_boot()
        else:
            host.restart()
    with host.writing_on(ledger):
        seconds = host.first_commit(ledger, down)
    verdict = host.verdict(ledger)
    account(f"host {how}", verdict, seconds)
    assert verdict["lost"] == 0
    host.well()
