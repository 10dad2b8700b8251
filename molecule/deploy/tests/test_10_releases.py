"""A new release in the place of the old one, and back: under load, and nobody notices."""

import json
import re

import pytest
from hosts import wait_until
from sites import RELEASES

WORKER = (
    "import signal, sys, time\n"
    "def end(*_):\n"
    "    print('ending', time.time(), flush=True); time.sleep(2)\n"
    "    print('ended', time.time(), flush=True); sys.exit(0)\n"
    "signal.signal(signal.SIGTERM, end)\n"
    "print('begun', time.time(), flush=True)\n"
    "while True: time.sleep(0.1)\n"
)


def processes(*names):
    """Return a list of processes: web, and workers that need two seconds to end."""
    return [{"name": "web"}, *({"name": n, "command": ["python", "-c", WORKER]} for n in names)]


def test_a_release_takes_the_place_of_another_unnoticed(host, account):
    """Every kind of visitor, before, during and after: no request fails, and the account says the same."""
    before = host.release
    host.new_page("another release")
    with host.visited() as met:
        said = host.deployed()
    account("a new release", met)
    host.unharmed(met)
    assert host.page() == host.release != before
    assert re.search(
        r"visitors +\d+ requests sent during the switch, 0 failed, longest gap \d+ ms", said
    )
    assert re.search(r"asked for +/healthz/ready, /, /static/\S+\.[0-9a-f]{12}\.\w+\n", said)
    entry = host.history()[-1]
    assert (entry["release"], entry["before"]) == (host.release, before)
    assert entry["visitors"]["sent"] > 10
    assert {"start", "pages", "watch", "switch", "drain"} <= set(entry["steps"])
    assert host.left_over() == []
    assert "changed=0" in host.deployed()


def test_going_back_is_as_careful(host, account):
    """The release of before serves again; asked once more for a release that is not there, all are listed."""
    serving = host.release
    earlier = host.history()[-1]["before"]
    with host.visited() as met:
        result = host.operate("rollback")
    assert result.code == 0, result.said
    account("back to the release of before", met)
    host.unharmed(met)
    assert host.page() == host.release == earlier
    assert host.left_over() == []
    refused = host.operate("rollback", "-e", "rollback_to=nonsense")
    assert refused.code != 0
    assert serving in refused.said
    assert earlier in refused.said
    assert host.release == earlier
    host.deployed()
    assert host.page() == host.release == serving


@pytest.mark.full(
    seen_by="tests/test_deploy.py::test_an_older_release_that_the_schema_has_left_behind_is_not_deployed_again"
)
def test_going_back_is_refused_where_the_schema_has_moved_on(host):
    """A column that the earlier release reads is gone: it is named, and the later release serves on."""
    serving, earlier = host.release, host.history()[-1]["before"]
    host.sql("ALTER TABLE core_entry RENAME author TO writer")
    try:
        refused = host.operate("rollback", "-e", f"rollback_to={earlier}")
    finally:
        host.sql("ALTER TABLE core_entry RENAME writer TO author")
    assert refused.code != 0
    assert "the column core_entry.author is missing" in refused.said
    assert host.page() == host.release == serving
    assert host.left_over() == []


@pytest.mark.full(
    seen_by="tests/test_deploy.py::test_what_could_not_be_drained_is_healed_by_the_next_run"
)
def test_workers_end_their_work_before_others_begin(host, account):
    """Never are two of a kind at work at once, and what is no longer declared stops."""
    host.deployed(django_web_processes=processes("worker"))
    first = f"postdo-prod-worker-{host.release}"
    with host.visited() as met:
        host.deployed(
            django_web_processes=processes("worker", "scheduler"), django_web_log_level="WARNING"
        )
    account("a new release with workers", met)
    host.unharmed(met)
    ended = dict(line.split() for line in host.run(f"docker logs {first}").splitlines())
    for name in ("worker", "scheduler"):
        log = host.run(f"docker logs postdo-prod-{name}-{host.release}")
        begun = dict(line.split() for line in log.splitlines())
        assert float(ended["ending"]) < float(ended["ended"]) < float(begun["begun"])
    assert host.left_over() == []
    host.deployed()
    running = [n for n, item in host.containers().items() if item["State"]["Running"]]
    assert [name for name in running if "worker" in name or "scheduler" in name] == []
    assert host.left_over() == []


@pytest.mark.full(
    seen_by="tests/test_deploy.py::test_as_many_releases_are_kept_as_asked_for_in_the_order_they_were_deployed_in"
)
def test_the_last_releases_are_kept_and_older_images_go(host):
    """Two are asked for; their images are here, those of the others are not."""
    made = []
    for number in range(2):
        host.new_page(f"number {number}")
        host.deployed(django_web_keep_releases=2)
        made.append(host.release)
    assert set(host.kept()) == set(made)
    images = host.run(
        "docker images --format '{{.Repository}}:{{.Tag}}' --filter reference='postdo/django'"
    )
    manifests = [json.loads(host.run(f"cat {RELEASES}/{one}/release.json")) for one in made]
    assert set(images.split()) == {manifest["images"][0] for manifest in manifests}
    assert host.left_over() == []


@pytest.mark.full(seen_by="tests/test_deploy.py::test_two_at_once")
def test_two_deploys_at_once(host, account):
    """The second is refused with the name of the first and the time it began; the first goes on."""
    refused = []
    host.new_page("two at once")
    with host.visited() as met:
        release = host.release
        result = host.during(
            "watch",
            lambda: refused.append(host.program(f"deploy {release} --by=somebody")),
            django_web_watch_time=4,
        )
    account("two deploys at once", met)
    host.unharmed(met)
    assert result.code == 0, result.said
    assert refused[0].code == 75
    assert re.search(
        r"Another deploy is at work: process \d+ of \S+@\S+, since 20\d\d-", refused[0].said
    )
    assert host.release != release
    assert host.left_over() == []


# Every other point is in tests/test_deploy.py.
@pytest.mark.full(seen_by="tests/test_deploy.py::test_a_deploy_that_is_killed_at_any_point")
@pytest.mark.parametrize("step", ["watch", "drain"])
def test_a_deploy_that_is_killed_is_healed_by_the_next(host, account, step):
    """Visitors notice nothing, and the next run ends in one release and nothing else."""
    changed = {"django_web_environment": {"KILLED": step}, "django_web_watch_time": 2}
    with host.visited() as met:
        result = host.during(step, host.kill_program, **changed)
        assert result.code != 0
        said = host.deployed(**changed)
    account(f"killed in its step {step}, and run again", met)
    host.unharmed(met)
    assert f"was cut off in its step {step}" in said
    assert host.page() == host.release
    assert host.left_over() == []


@pytest.mark.full(seen_by="tests/test_deploy.py::test_a_deploy_that_is_killed_at_any_point")
def test_after_a_kill_the_old_release_can_be_had_again(host):
    """The operator changes his mind: a run with what served before removes what the killed one made."""
    host.deployed()
    before = host.release
    host.during("watch", host.kill_program, django_web_log_level="DEBUG", django_web_watch_time=3)
    assert host.left_over() != []
    host.deployed()
    assert host.page() == host.release == before
    assert host.left_over() == []


@pytest.mark.full(seen_by="tests/test_deploy.py::test_a_deploy_that_is_killed_at_any_point")
def test_a_reboot_in_the_middle(host):
    """What served before the reboot serves after it; the next run deploys."""
    before = host.release
    host.during("watch", host.restart, django_web_log_level="DEBUG", django_web_watch_time=5)
    host.well()
    assert host.page() == host.release == before
    host.deployed(django_web_log_level="DEBUG")
    assert host.page() == host.release != before
    assert host.left_over() == []
    host.deployed()


@pytest.mark.full(
    seen_by="tests/test_deploy.py::test_removed_containers_are_no_releases_to_go_back_to"
)
def test_a_container_that_was_removed_by_hand_is_made_again(host):
    """The next run sees it, though its release is called the serving one."""
    release = host.release
    host.run(f"docker rm --force postdo-prod-web-{release}")
    host.deployed()
    wait_until(lambda: host.page() == release, "the page is there", 30)
    assert host.left_over() == []
