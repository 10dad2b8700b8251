"""What a container could do if somebody took it over: as little as its work allows."""

import re

import pytest
from hosts import SERVICES, WEB

TRY = "import socket; socket.create_connection(('{address}', 1), timeout=5)"


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_no_privileges_and_writes_only_where_it_must(host, name):
    """Seen from inside: no capability, none to be gained, a root that is read-only."""
    real = host.serving() if name == WEB else name
    status = dict(
        line.split(":\t", 1)
        for line in host.run(f"docker exec {real} cat /proc/1/status").splitlines()
        if ":\t" in line
    )
    assert {int(status[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0}
    assert status["NoNewPrivs"] == "1"
    tried = host.attempt(f"docker exec --user 0 {real} touch /usr/bin/new")
    assert "Read-only file system" in tried.said
    # Development's application is its source's owner, who may be root where the tests run.
    if name != "postdo-dev-web":
        assert status["Uid"].split()[0] != "0"


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_cannot_take_the_whole_machine(host, name):
    """Memory without swap, processes and logs are bounded; none sees the engine."""
    found = host.containers(name)[name]
    assert [m["Source"] for m in found["Mounts"] if "docker.sock" in m["Source"]] == []
    settings = found["HostConfig"]
    assert 0 < settings["Memory"] == settings["MemorySwap"]
    assert 0 < settings["PidsLimit"] < 1000
    assert settings["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}


def test_uploads_can_be_stored_from_the_first_run_on(host):
    """Their volume is the application's, though the proxy's container, which comes later, mounts it too."""
    host.run(f"docker exec {host.serving()} sh -c 'echo x > /srv/media/new && rm /srv/media/new'")


def test_productions_database_has_no_way_out(host):
    """Its network ends at the host; development's, which publishes a port, shows that the try works."""
    beyond = host.address.rsplit(".", 1)[0] + ".1"  # the machine on which the hosts are
    said = {
        environment: host.attempt(
            f'docker exec postdo-{environment}-db python3 -c "{TRY.format(address=beyond)}"'
        ).said
        for environment in ("dev", "prod")
    }
    assert "Connection refused" in said["dev"]
    assert re.search("Network is unreachable|timed out", said["prod"])
