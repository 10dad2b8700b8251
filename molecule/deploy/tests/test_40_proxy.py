"""What the proxy does for every application: TLS, limits, uploads, websockets, its log."""

import hashlib
import json
import re
import uuid

import pytest
from hosts import TOOLS, WEB, wait_until
from sites import RELEASES

# Another one in each run: the certificate of an earlier one would still be good.
NAME = f"site-{uuid.uuid4().hex[:6]}.test"
# The hash of what ask.py sends.
UPLOADED = hashlib.sha256(b"x" * 90 * 2**20).hexdigest()
MEDIA = "/var/lib/docker/volumes/postdo-prod-media/_data"


def test_what_is_uploaded_is_served_and_cannot_act_in_the_sites_name(distant):
    """Images are shown, anything that a browser could run is handed over, hidden files are not there."""
    distant.run(
        f"cd {MEDIA} && mkdir -p a && echo '<script>' > a/page.html && echo GIF89a > a/picture.gif && "
        "echo no > a/.hidden && ln -sf /etc/caddy/Caddyfile a/link.txt && chown -R 18000:18000 ."
    )
    page, picture = distant.get("/media/a/page.html"), distant.get("/media/a/picture.gif")
    assert (page.status, picture.status) == (200, 200)
    assert page.headers["Content-Disposition"] == "attachment"
    assert "Content-Disposition" not in picture.headers
    for answer in (page, picture):
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for path in (
        "/media/a/.hidden",
        "/media/a/",
        "/media/",
        "/media/none",
        "/media/%2e%2e/%2e%2e/etc/passwd",
    ):
        assert distant.get(path).status == 404, path


def test_a_request_may_not_be_larger_than_allowed(distant):
    """One of 90 MiB is taken, one of 110 is refused."""
    sent = ["--method", "POST", "--send"]
    assert distant.get("/trial/upload", *sent, str(90 * 2**20)).status == 200
    assert distant.get("/trial/upload", *sent, str(110 * 2**20)).status == 413


@pytest.mark.parametrize("told", [(), ("--chunked",)])
def test_the_application_takes_what_the_proxy_lets_in(distant, told):
    """A form with 90 MiB, whether or not its length is told: on disk, where the proxy can't look, and gone afterwards."""
    sent = ["--method", "POST", "--send", str(90 * 2**20), "--form", *told]
    answer = distant.get("/trial/form", *sent)
    assert (answer.status, answer.body.decode()) == (200, UPLOADED)
    mounted = distant.containers(WEB)[WEB]["Mounts"]
    assert [one["Type"] for one in mounted if one["Destination"] == "/tmp"] == ["bind"]
    left = lambda: distant.run(f"ls -A {RELEASES}/current/tmp/web")
    wait_until(lambda: not left(), "nothing left of it", 10)
    tried = distant.attempt("docker exec postdo-prod-proxy ls /run/web/current/tmp")
    assert "Permission denied" in tried.said


def test_a_request_may_have_the_head_that_is_promised(distant):
    """In its first line, and in one header: tokens are long."""
    assert distant.get(f"/trial/page?{'x' * 20_000}").status == 200
    assert distant.get("/trial/page", "--header", f"Authorization: {'x' * 30_000}").status == 200


def test_the_application_knows_its_visitor_and_believes_no_forgery(distant):
    """The address is the one that the proxy saw, the scheme the proxy's."""
    forged = ["--header", "X-Forwarded-For: 192.0.2.66", "--header", "X-Forwarded-Proto: https"]
    seen = json.loads(distant.get("/trial/request", *forged).body)
    gateway = distant.run(
        "docker network inspect postdo-prod-edge --format '{{(index .IPAM.Config 0).Gateway}}'"
    )
    assert seen == {"address": gateway, "secure": False, "host": "127.0.0.1:8080"}


def test_pages_are_compressed(distant):
    """For whoever says that he understands it."""
    assert (
        distant.get("/", "--header", "Accept-Encoding: gzip").headers["Content-Encoding"] == "gzip"
    )
    assert "Content-Encoding" not in distant.get("/").headers


def test_the_access_log_is_json_without_secrets(distant):
    """A line for each request; a cookie's content is not in it, nor what the engine's look at the health asks."""
    marked = "/trial/page?seen-in-the-log"
    distant.get(marked, "--header", "Cookie: sessionid=secretcookie")
    lines = distant.run("docker logs --tail 50 postdo-prod-proxy 2>&1").splitlines()
    found = [json.loads(line) for line in lines if "seen-in-the-log" in line]
    assert [(line["request"]["uri"], line["status"]) for line in found] == [(marked, 200)]
    assert "secretcookie" not in "".join(lines)
    asked = r'"method":"GET","host":"(localhost|127.0.0.1):20\d\d"'
    assert not re.search(asked, "".join(lines)), "the look at the health is in the log"


def test_a_visitor_waits_while_the_application_starts_again(distant):
    """gunicorn dies; whoever comes meanwhile gets the page, a little later."""
    with distant.visited() as met:
        distant.kill(WEB, "KILL")
        wait_until(lambda: distant.healthy(WEB), "healthy again", 60)
        fresh = distant.get("/trial/page")
    assert fresh.status == 200
    # Requests that the dead process had in hand can't be saved; new ones can.
    assert met["NewPage"]["sent"] > sum(met["NewPage"]["failed"].values())


@pytest.mark.full(
    seen_by="molecule/deploy/tests/test_30_distance.py::test_a_release_and_back_over_ssh"
)
def test_websockets_pass(distant):
    """A release whose web process speaks nothing but websockets; a frame goes there and comes back."""
    echo = (TOOLS / "echo.py").read_text()
    distant.deployed(
        django_web_processes=[{"name": "web", "command": ["python", "-c", echo]}],
        django_web_health_path="/",
    )
    try:
        said = distant.run("python3 -", input=(TOOLS / "websocket.py").read_text())
        assert said == "hello through the proxy"
    finally:
        distant.deployed()
    assert distant.page() == distant.release


@pytest.fixture(scope="module")
def pebble(distant):
    """Run an ACME authority on the host; return what makes the proxy use it."""
    distant.run(
        "apt-get update && apt-get install --yes --no-install-recommends pebble openssl",
        timeout=300,
    )
    distant.run(
        "mkdir -p /root/acme && cd /root/acme && openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=acme.test "
        f"-addext subjectAltName=IP:{distant.address} -keyout key.pem -out ca.pem 2>/dev/null"
    )
    config = {
        "pebble": {
            "listenAddress": "0.0.0.0:14000",
            "managementListenAddress": "127.0.0.1:15000",
            "certificate": "/root/acme/ca.pem",
            "privateKey": "/root/acme/key.pem",
            "httpPort": 80,
            "tlsPort": 443,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
        }
    }
    distant.run("cat > /root/acme/pebble.json", input=json.dumps(config))
    # The site's name leads to this host.
    distant.run(f"grep -q {NAME} /etc/hosts || echo {distant.address} {NAME} >> /etc/hosts")
    distant.run(
        "systemd-run --unit=pebble --setenv=PEBBLE_VA_NOSLEEP=1 --setenv=PEBBLE_WFE_NONCEREJECT=0 "
        "pebble -config /root/acme/pebble.json"
    )
    ca = distant.directory / "acme.pem"
    ca.write_text(distant.run("cat /root/acme/ca.pem") + "\n")
    yield {
        "proxy_domain": NAME,
        "proxy_acme_directory": f"https://{distant.address}:14000/dir",
        "proxy_acme_ca_bundle": str(ca),
    }
    distant.run("systemctl stop pebble")
    distant.converge("prod")


def test_a_certificate_is_obtained_by_itself(distant, pebble):
    """From a real ACME authority; HTTP is sent on to HTTPS, whose answers say that it stays so."""
    distant.converge("prod", "-e", json.dumps(pebble))
    get = lambda path, *more: distant.get(path, "--port", "443", "--name", NAME, *more)
    roots = distant.run(
        "python3 -c \"import ssl, urllib.request as u; print(u.urlopen('https://127.0.0.1:15000/roots/0', "
        'context=ssl._create_unverified_context()).read().decode())"'
    )
    distant.run("cat > /root/acme/roots.pem", input=roots)
    trusted = lambda: distant.attempt_get(
        "/trial/page", "--port", "443", "--name", NAME, "--trust", "/root/acme/roots.pem"
    )
    answer = wait_until(trusted, "a certificate that the authority vouches for", 60)
    assert answer.status == 200
    assert re.match(r"max-age=\d{8}", get("/trial/page").headers["Strict-Transport-Security"])
    assert "max-age" in get("/media/none").headers["Strict-Transport-Security"]
    plain = distant.get("/some?where", "--port", "80", "--header", f"Host: {NAME}")
    assert (plain.status, plain.headers["Location"]) == (308, f"https://{NAME}/some?where")
    assert json.loads(get("/trial/request").body)["secure"] is True
    spoken = distant.run(
        f"openssl s_client -connect 127.0.0.1:443 -servername {NAME} -alpn h2,http/1.1 </dev/null 2>/dev/null "
        "| grep -a ALPN"
    )
    assert "ALPN protocol: h2" in spoken


@pytest.mark.full(
    seen_by="molecule/deploy/tests/test_30_distance.py::test_a_release_and_back_over_ssh"
)
def test_a_release_changes_behind_tls(distant, pebble):
    """The account's own visitors come over HTTPS."""
    said = distant.deployed(**pebble, django_web_log_level="WARNING")
    assert re.search(r"visitors +\d\d+ requests sent during the switch, 0 failed", said)


@pytest.mark.full(
    seen_by="molecule/deploy/tests/test_40_proxy.py::test_a_certificate_is_obtained_by_itself"
)
@pytest.mark.parametrize("kind", ["own", "self_signed"])
def test_other_certificates(distant, pebble, kind):
    """The operator's own, exchanged for a newer one without a new container; or one that nobody vouches for."""
    variables = {"proxy_domain": NAME, "proxy_tls": kind}
    make = (
        "cd /root/acme && openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=own "
        f"-addext subjectAltName=DNS:{NAME} -keyout own.key -out own.pem 2>/dev/null"
    )
    trust = ["--trust", "/root/acme/own.pem"] if kind == "own" else []
    for _ in range(2 if kind == "own" else 1):
        if kind == "own":
            distant.run(make)
            key, certificate = (distant.run(f"cat /root/acme/own.{end}") for end in ("key", "pem"))
            variables |= {"proxy_certificate": certificate, "proxy_certificate_key": key}
        said = distant.converge("prod", "-e", json.dumps(variables))
        assert "PRIVATE KEY" not in said
        assert distant.get("/trial/page", "--port", "443", "--name", NAME, *trust).status == 200
    status = distant.operate("status", "-e", json.dumps(variables))
    assert re.search("certificate +until .* GMT, by ", status.out)
    # One's own that is good for two days more is a problem already.
    assert (status.code == 0) == (kind != "own"), status.said
    assert ("ends soon" in status.said) == (kind == "own")
    if kind == "own":
        refused = distant.ansible(
            "prod", "-e", json.dumps(variables | {"proxy_certificate_key": ""})
        )
        assert refused.code != 0
        assert "proxy_certificate_key" in refused.said
        distant.run(make)
        other = distant.run("cat /root/acme/own.key")
        refused = distant.ansible(
            "prod", "-e", json.dumps(variables | {"proxy_certificate_key": other})
        )
        assert refused.code != 0
        assert "do not belong together" in refused.said
        assert "PRIVATE KEY" not in refused.said
