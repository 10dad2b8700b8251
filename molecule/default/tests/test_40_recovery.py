"""What comes back by itself: after a crash, with the engine, after a reboot."""

import json
import uuid

import pytest
from hosts import PAGES, PRODUCTION, wait_until

SETTINGS = "/etc/docker/daemon.json"
FULL = pytest.mark.full(
    seen_by="molecule/default/tests/test_40_recovery.py::test_a_program_that_ends_comes_back"
)


@pytest.mark.parametrize("signal", [pytest.param("TERM", marks=FULL), "KILL"])
@pytest.mark.parametrize("container", PRODUCTION)
def test_a_program_that_ends_comes_back(host, container, signal):
    """gunicorn or PostgreSQL is gone; the engine starts it again, and the page is there."""
    before = host.containers(container)[container]["State"]["StartedAt"]
    host.kill(container, signal)
    started = lambda: host.containers(container)[container]["State"]["StartedAt"]
    wait_until(lambda: started() != before, f"{container} was started again", 120)
    host.wait_for(*PRODUCTION)
    host.wait_for_page("prod")


def test_containers_outlive_a_restart_of_the_engine(host):
    """With live-restore the same processes serve on, and neighbours still reach nothing."""
    before = host.state()["containers"]
    host.run("systemctl restart docker")
    assert host.state()["containers"] == before
    for url in PAGES.values():
        host.page(url)
    assert host.seen_by_neighbour(*host.targets()) == []


@pytest.mark.full(
    seen_by="molecule/default/tests/test_40_recovery.py::test_a_reboot_brings_production_back_without_ansible"
)
def test_containers_come_back_after_a_restart_of_an_engine_without_live_restore(host):
    """The engine ends its containers and starts them again, behind the same wall."""
    before = host.run(f"cat {SETTINGS}")
    without = json.dumps(json.loads(before) | {"live-restore": False})
    host.run(f"cat > {SETTINGS} && systemctl reload docker", input=without)
    try:
        started = running(host)
        host.run("systemctl restart docker", timeout=300)
        assert not started & running(host)
        host.wait_for()
        for environment in PAGES:
            host.wait_for_page(environment)
        assert host.seen_by_neighbour(*host.targets()) == []
    finally:
        host.run(f"cat > {SETTINGS} && systemctl reload docker", input=before + "\n")


def test_the_unit_stops_and_starts_its_environment_and_no_other(host):
    """`systemctl stop` and `start` do for production what a person expects."""
    host.run("systemctl stop postdo-prod", timeout=300)
    states = {name: item["State"]["Running"] for name, item in host.containers().items()}
    assert states == {name: not name.startswith("postdo-prod-") for name in states}
    assert not host.answers(PAGES["prod"])
    host.run("systemctl start postdo-prod", timeout=300)
    # The unit waits for health itself: nothing is waited for here.
    host.page(PAGES["prod"])


def test_a_reboot_brings_production_back_without_ansible(host):
    """Enabled production serves its entries again; development, not enabled, stays down."""
    text = f"before the reboot {uuid.uuid4()}"
    assert text in host.page(PAGES["prod"], entry=text)
    targets = host.targets()
    host.restart()
    # Boot was over when production was healthy.
    assert text in host.page(PAGES["prod"])
    assert host.seen_by_neighbour(*targets, *host.targets()) == []
    assert {name for name, _ in running(host)} == set(PRODUCTION)
    host.run("systemctl start postdo-dev")
    host.page(PAGES["dev"])


@pytest.mark.full(
    seen_by="molecule/default/tests/test_40_recovery.py::test_the_unit_stops_and_starts_its_environment_and_no_other"
)
def test_a_stopped_and_disabled_environment_stays_down_over_a_reboot(host):
    """What an operator has switched off is not switched on by the engine."""
    host.run("systemctl disable --now postdo-prod", timeout=300)
    host.restart()
    assert host.run("systemctl is-active docker") == "active"
    assert running(host) == set()
    host.run("systemctl enable --now postdo-prod postdo-dev && systemctl disable postdo-dev")
    for url in PAGES.values():
        host.page(url)


def running(host):
    """Return the containers that run, each with the moment it was started."""
    states = {name: item["State"] for name, item in host.containers().items()}
    return {(name, state["StartedAt"]) for name, state in states.items() if state["Running"]}
