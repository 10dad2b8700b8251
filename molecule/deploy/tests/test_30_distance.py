"""A host at a distance: everything over SSH, as an ordinary user with sudo, and the image is built there."""

import json

import pytest
from hosts import INVENTORIES


def test_the_host_is_reached_by_ssh_as_an_ordinary_user(distant):
    """Not by the connection that the other tests' hosts have."""
    log = distant.run("journalctl --no-pager --unit ssh")
    assert "Accepted publickey for deployer" in log
    inventory = (INVENTORIES / "prod/hosts.yml").read_text()
    assert "ansible_connection: ssh" in inventory


def test_a_release_and_back_over_ssh(distant, account):
    """The image of the new release is made on the host, of the source that is here; no request fails."""
    before = distant.release
    distant.new_page("over SSH")
    with distant.visited() as met:
        distant.deployed()
        assert distant.page() == distant.release != before
        result = distant.operate("rollback")
        assert result.code == 0, result.said
    account("a new release and back, over SSH", met)
    distant.unharmed(met)
    assert distant.page() == distant.release == before
    assert distant.left_over() == []
    told = distant.operate("history").out
    assert "rollback" in told
    assert before in told
    distant.deployed()


@pytest.mark.full(
    seen_by="molecule/deploy/tests/test_20_bad_releases.py::test_a_bad_release_never_arrives"
)
def test_a_bad_release_over_ssh(distant):
    """Its last words come from the host."""
    before = distant.release
    result = distant.deploy(django_web_wsgi="config.nowhere:application")
    assert result.code != 0
    assert "No module named 'config.nowhere'" in result.said
    assert distant.page() == distant.release == before
    assert distant.left_over() == []


@pytest.fixture
def maintained(distant):
    """Switch maintenance on, and off afterwards."""
    on = distant.operate("maintenance", "-e", "maintenance=on")
    assert on.code == 0, on.said
    yield distant
    off = distant.operate("maintenance", "-e", "maintenance=off")
    assert off.code == 0, off.said
    assert distant.get("/trial/page").status == 200


def test_maintenance(maintained):
    """Visitors meet a page with status 503 and Retry-After."""
    met = maintained.get("/trial/page")
    assert (met.status, met.headers["Retry-After"]) == (503, "300")
    assert b"We will be back soon" in met.body
    assert "maintenance" in maintained.operate("status").out
    # A deploy goes on meanwhile, and does not count what is not the release's doing.
    assert "visitors    not asked" in maintained.deployed(django_web_log_level="WARNING")


@pytest.mark.full(
    seen_by="tests/test_proxy.py::test_who_is_on_the_list_sees_the_site_under_maintenance"
)
def test_the_operators_own_page_and_who_sees_the_site_all_the_same(maintained):
    gateway = maintained.run(
        "docker network inspect postdo-prod-edge --format '{{(index .IPAM.Config 0).Gateway}}'"
    )
    own = maintained.directory / "maintenance.html"
    own.write_text("<p>The operator's own page.</p>\n")
    page = {"proxy_maintenance_page": str(own)}
    maintained.converge("prod", "-e", json.dumps(page))
    assert b"The operator's own page." in maintained.get("/trial/page").body
    maintained.converge("prod", "-e", json.dumps(page | {"proxy_maintenance_allow": [gateway]}))
    assert maintained.get("/trial/page").status == 200
    maintained.converge("prod")


def test_maintenance_is_on_or_off(distant):
    refused = distant.operate("maintenance", "-e", "maintenance=perhaps")
    assert refused.code != 0
    assert "maintenance=on or -e maintenance=off" in refused.said
