"""Nothing is offered to other machines, whatever route they take."""

import pytest


def test_only_loopback_is_listened_on(host):
    """Every socket of the host, the published ports among them, is bound to loopback."""
    sockets = [line.split()[4] for line in host.run("ss --listening --tcp --udp -nH").splitlines()]
    # The published ports are there, so the list is not empty for another reason.
    assert {f"127.0.0.1:{port}" for port in (5050, 5433, 8000, 8080)} <= set(sockets)
    assert [s for s in sockets if not s.startswith(("127.", "[::1]", "[::ffff:127."))] == []


def test_a_neighbour_reaches_what_nobody_protects(host, unprotected):
    """The probe of the next test can succeed in both of its ways."""
    assert host.seen_by_neighbour(*unprotected) == unprotected


def test_a_neighbour_with_a_route_reaches_no_container(host):
    """Neither the containers' own addresses nor the published ports on the host's answer."""
    targets = host.targets()
    assert len(targets) >= 10
    assert host.seen_by_neighbour(*targets) == []


@pytest.fixture
def unprotected(host):
    """Return two ways, ADDRESS:PORT, to a container in a network that is none of ours.

    One is its own address, the other a port that is published for everybody.
    """
    image = host.containers("postdo-prod-web")["postdo-prod-web"]["Image"]
    host.run("docker network create unprotected")
    host.run(
        "docker run --detach --name unprotected --network unprotected --entrypoint python3"
        " --publish 9998:8000"
        f" {image} -m http.server --directory /srv/static 8000"
    )
    try:
        host.run(
            "until docker exec unprotected python3 -c '"
            'import socket; socket.create_connection(("127.0.0.1", 8000))'
            "'; do sleep 0.1; done",
            timeout=20,
        )
        found = host.containers("unprotected")["unprotected"]
        address = found["NetworkSettings"]["Networks"]["unprotected"]["IPAddress"]
        yield [f"{address}:8000", f"{host.address}:9998"]
    finally:
        host.run("docker rm --force unprotected && docker network rm unprotected")
