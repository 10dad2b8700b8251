"""The proxy's real configuration before a small application: whose body a request gets, and who waits for whom.

Needs Docker and the images of `./run.sh test`.
"""

import http.client
import json
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from server import docker, until

# Says whether the body is the one that belongs to the request's token.
APPLICATION = """
import http.server, os, socketserver
class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.say(b"mine" if body == self.headers["X-Token"].encode() * 100 else b"another's")
    def do_GET(self):
        self.say(b"page")
    def say(self, words):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(words)
    def address_string(self):
        return "a visitor"
class Server(socketserver.ThreadingUnixStreamServer):
    request_queue_size, daemon_threads = 200, True
if os.path.exists("/run/web/http.sock"):
    os.unlink("/run/web/http.sock")
Server("/run/web/http.sock", Answer).serve_forever()
"""


class Proxy:
    """The proxy's image with the role's configuration, and an application that can be stopped."""

    def __init__(self, image, application, place):
        self.name = f"proxytest-{uuid.uuid4().hex[:8]}"
        own = place / "release/run"
        own.mkdir(parents=True)
        own.chmod(0o777)
        (place / "current").symlink_to("release")
        label = ("--label", f"test={self.name}", "--user=0", "--detach")
        docker(
            *(
                "run",
                *label,
                f"--name={self.name}-web",
                "--network=none",
                f"--volume={own}:/run/web",
            ),
            *("--entrypoint=python3", application, "-c", APPLICATION),
        )
        docker(
            *("run", *label, f"--name={self.name}", "--publish=127.0.0.1::8080"),
            *(
                f"--volume={place}:/run/web:ro",
                f"--volume={place}/Caddyfile:/etc/caddy/Caddyfile:ro",
            ),
            image,
        )
        self.port = int(docker("port", self.name, "8080").stdout.rsplit(":", 1)[1])
        until(lambda: docker("exec", self.name, "healthcheck", check=False).returncode == 0)
        until(lambda: self.ask("GET") == "page")

    def stop(self):
        """Let the application die."""
        docker("kill", f"{self.name}-web")

    def start(self):
        """Let it start again."""
        docker("start", f"{self.name}-web")

    def remove(self):
        """Remove both."""
        docker("rm", "--force", "--volumes", self.name, f"{self.name}-web")

    def ask(self, method):
        """Send a request with a body of its own if it is a POST; return the answer's body, or its status."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        token = uuid.uuid4().hex
        words = {"body": token * 100, "headers": {"X-Token": token}} if method == "POST" else {}
        try:
            connection.request(method, "/", **words)
            answer = connection.getresponse()
            body = answer.read().decode()
        finally:
            connection.close()
        return body if answer.status == 200 else answer.status


@pytest.fixture(scope="module")
def proxy(repository, run, images, tmp_path_factory):
    """Run the proxy as the role configures it, in plain HTTP."""
    place = tmp_path_factory.mktemp("proxy")
    role = repository / "roles/proxy"
    variables = {"stack_prefix": "proxytest", "stack_public_url": "http://127.0.0.1"}
    made = run(
        *("ansible", "localhost", "-m", "ansible.builtin.template"),
        *("-a", f"src={role}/templates/Caddyfile.j2 dest={place}/Caddyfile mode=0644"),
        *("-e", f"@{role}/defaults/main.yml", "-e", f"@{role}/vars/main.yml"),
        *("-e", json.dumps(variables)),
    )
    assert made.returncode == 0, made.stdout + made.stderr
    image = json.loads((repository / ".cache/prod-images.json").read_text())["proxy"]
    one = Proxy(image, images["runtime"], place)
    yield one
    one.remove()


def test_pages_wait_for_the_application_and_forms_are_told(proxy):
    """A page comes once the application is back; a body is sent only once, so its sender is told."""
    proxy.stop()
    with ThreadPoolExecutor() as several:
        pages = [several.submit(proxy.ask, "GET") for _ in range(4)]
        assert proxy.ask("POST") == 502
        proxy.start()
        assert [page.result() for page in pages] == ["page"] * 4
    assert proxy.ask("POST") == "mine"


def test_no_body_comes_in_anothers_name(proxy):
    """Forms that were sent while the application was away leave nothing to those that come afterwards."""
    proxy.stop()
    with ThreadPoolExecutor(max_workers=40) as several:
        away = [several.submit(proxy.ask, "POST") for _ in range(40)]
        time.sleep(1)
        proxy.start()
        assert {one.result() for one in away} <= {502, "mine"}
        until(lambda: proxy.ask("POST") == "mine")
        met = Counter(several.map(lambda _: proxy.ask("POST"), range(2000)))
    assert met == {"mine": 2000}
