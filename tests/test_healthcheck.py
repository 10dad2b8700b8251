"""The health check of the application's image, before a small server at a socket: what is healthy, and what is said."""

import http.server
import socketserver
import sys
import threading
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parent.parent / "roles/django_web/files/runtime/healthcheck"


class Server(socketserver.ThreadingUnixStreamServer):
    """Notes what it is asked, and answers what the test says."""

    daemon_threads = True

    def __init__(self, place):
        self.place = str(place)
        self.answer = lambda headers: (200, {}, b"")
        self.asked = []
        super().__init__(self.place, Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        status, headers, body = self.server.answer(self.headers)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


@pytest.fixture
def server(tmp_path_factory):
    # A socket's path is short.
    one = Server(tmp_path_factory.mktemp("s") / "s")
    yield one
    one.shutdown()
    one.server_close()


@pytest.fixture
def check(run, server):
    """Return a function that checks the health of the server's site."""

    def call(url="http://127.0.0.1:8080", path="/ready", bind=""):
        env = {"GUNICORN_BIND": bind or f"unix:{server.place}", "HEALTH_PATH": path}
        return run(sys.executable, "-IS", PROGRAM, env=env | {"DJANGO_PUBLIC_URL": url})

    return call


@pytest.mark.parametrize("status", [200, 204])
def test_2xx_is_healthy(server, check, status):
    server.answer = lambda headers: (status, {}, b"")
    done = check()
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 404, 429, 500, 503])
def test_nothing_else_is_healthy_and_the_status_is_said(server, check, status):
    server.answer = lambda headers: (status, {"Content-Type": "text/html"}, b"<p>words\n</p>\n")
    done = check()
    assert done.returncode == 1
    assert f"/ready answered {status}, asked for http://127.0.0.1:8080 (only 2xx" in done.stderr
    assert done.stderr.count("\n") == 1 and done.stdout == ""


def test_where_a_redirect_leads_is_said(server, check):
    server.answer = lambda headers: (301, {"Location": "/ready/"}, b"")
    assert "and leads to /ready/" in check().stderr


def test_why_it_cannot_serve_is_said(server, check):
    said = b'{"migrations":\n "2 unapplied"}'
    server.answer = lambda headers: (503, {"Content-Type": "application/json"}, said)
    assert '{"migrations": "2 unapplied"}' in check().stderr


@pytest.mark.parametrize("url", ["https://shop.example", "https://shop.example:8443"])
def test_a_site_that_insists_on_https_and_on_its_name_is_asked_as_its_visitors_ask(
    server, check, url
):
    """Django's redirect to https, its check of the host, and what follows from the visitor's address."""
    host = url.removeprefix("https://")

    def answer(headers):
        if headers["X-Forwarded-Proto"] != "https":
            return 301, {"Location": f"{url}/ready"}, b""
        return (200 if headers["Host"] == host else 400), {}, b""

    server.answer = answer
    assert check(url).returncode == 0
    ((path, headers),) = server.asked
    assert path == "/ready"
    assert headers["X-Forwarded-Host"] == host
    assert headers["X-Forwarded-For"] == "127.0.0.1"
    assert check("http://shop.example").returncode == 1


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n"])
def test_what_is_no_answer_is_said_in_a_line(server, check, answer, monkeypatch):
    monkeypatch.setattr(Handler, "handle", lambda self: self.wfile.write(answer))
    done = check()
    assert done.returncode == 1
    assert done.stderr.startswith("No answer at /ready: ")
    assert done.stderr.count("\n") == 1


def test_nobody_who_listens_is_said(check, tmp_path):
    done = check(bind=f"unix:{tmp_path}/nobody")
    assert done.returncode == 1
    assert "No answer at /ready: " in done.stderr
