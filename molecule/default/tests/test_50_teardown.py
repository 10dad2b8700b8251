"""`teardown` removes what can be made again, and data only when it is told so twice."""

import uuid

from hosts import PAGES

TEARDOWN = "playbooks/teardown.yml"


def test_an_entry_survives_teardown_and_the_next_run(host):
    """Containers and networks of production go; the volumes stay and development is untouched."""
    text = f"before teardown {uuid.uuid4()}"
    host.page(PAGES["prod"], entry=text)
    before = host.state()
    result = host.ansible("prod", book=TEARDOWN)
    assert result.code == 0, result.said
    after = host.state()
    assert after["volumes"] == before["volumes"]
    assert after["containers"] == [
        c for c in before["containers"] if not c.startswith("postdo-prod-")
    ]
    assert len(after["networks"]) == len(before["networks"]) - 2
    host.converge("prod")
    assert text in host.page(PAGES["prod"])
    assert host.run("systemctl is-enabled postdo-prod") == "enabled"


def test_teardown_refuses_to_remove_the_data_of_production(host):
    """Without the confirmation nothing is removed, and the confirmation is named."""
    before = host.state()
    result = host.ansible("prod", "-e", "teardown_data=true", book=TEARDOWN)
    assert result.code != 0
    assert "teardown_confirm=postdo-prod" in result.said
    assert host.state() == before


def test_teardown_removes_the_data_of_development_when_told(host):
    """The next run starts from an empty database; production keeps its own."""
    host.page(PAGES["dev"], entry="to be removed")
    images = host.run("docker image ls --format '{{.Repository}}'").split()
    everything = ("-e", "teardown_data=true", "-e", "teardown_backups=true")
    result = host.ansible("dev", *everything, book=TEARDOWN)
    assert result.code == 0, result.said
    volumes = host.run("docker volume ls --quiet").split()
    assert "postdo-prod-db-data" in volumes
    assert [name for name in volumes if name.startswith("postdo-dev-")] == []
    # Nor is anything else of it left but what production has too, and the run says so.
    places = "/etc /usr/local /var/lib/postdo /var/lib/postdo-build"
    named = host.attempt(f"find {places} -name 'postdo-dev*' -o -path '*/postdo/dev*'").out
    assert named.split() == []
    assert {*host.run("docker image ls --format '{{.Repository}}'").split()} == {*images} - {
        "postdo/pgadmin"
    }
    assert "postdo/postgres" in result.said.partition("What stays:")[2]
    again = host.ansible("dev", *everything, book=TEARDOWN).out.splitlines()
    changes = [line.strip() for line in again if line.startswith("  changed ")]
    # The other host has an environment of the same name, for which the same machine packs.
    assert [one for one in changes if "what was packed for it here" not in one] == []
    assert again[-1].startswith(host.name)
    host.converge("dev")
    assert "Nothing here yet." in host.page(PAGES["dev"])
