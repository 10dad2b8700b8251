"""The proxy's real configuration before an application: what of a request reaches it, whose it is, and who waits.

Needs Docker and the images of `./run.sh test`.
"""

import gzip
import hashlib
import http.client
import json
import random
import socket
import ssl
import struct
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from server import docker, until

REPOSITORY = Path(__file__).resolve().parent.parent

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


NAME = "site.test"
CONTEXT = ssl.create_default_context()
CONTEXT.check_hostname, CONTEXT.verify_mode = False, ssl.CERT_NONE
MIB = 2**20


class Connection(http.client.HTTPConnection):
    """A visitor's connection to a port of this host, with TLS where it is asked for."""

    def __init__(self, port, tls=False):
        super().__init__("127.0.0.1", port, timeout=60)
        self.tls = tls

    def connect(self):
        """Connect, and ask for the site by its name."""
        super().connect()
        if self.tls:
            self.sock = CONTEXT.wrap_socket(self.sock, server_hostname=NAME)


class Proxy:
    """The proxy's image with the role's configuration, and an application that can be stopped.

    `application` is what `docker run` is told of it.
    """

    def __init__(self, configure, place, tls=False, **variables):
        self.name, self.place, self.tls = f"proxytest-{uuid.uuid4().hex[:8]}", place, tls
        self.socket, self.temporary = place / "release/run", place / "tmp"
        for directory in (self.socket, self.temporary):
            directory.mkdir(parents=True)
            directory.chmod(0o777)
        (place / "current").symlink_to("release")
        domain = {"proxy_domain": NAME, "proxy_tls": "self_signed"} if tls else {}
        configure(place / "Caddyfile", **domain, **variables)

    def start(self, application):
        """Start both."""
        inside = "8443" if self.tls else "8080"
        image = json.loads((REPOSITORY / ".cache/prod-images.json").read_text())["proxy"]
        self.run_application(application)
        docker(
            *("run", "--detach", "--user=0", f"--name={self.name}"),
            *(f"--publish=127.0.0.1::{inside}", f"--volume={self.place}:/run/web:ro"),
            f"--volume={self.place}/Caddyfile:/etc/caddy/Caddyfile:ro",
            image,
        )
        self.port = int(docker("port", self.name, inside).stdout.rsplit(":", 1)[1])
        until(lambda: docker("exec", self.name, "healthcheck", check=False).returncode == 0)

    def run_application(self, application):
        """Run an application, in the place of the one that runs."""
        docker("rm", "--force", "--volumes", f"{self.name}-web", check=False)
        words = (f"--name={self.name}-web", "--network=none", f"--volume={self.socket}:/run/web")
        docker("run", "--detach", *words, *application)

    def stop_application(self):
        """Let the application die."""
        docker("kill", f"{self.name}-web")

    def start_application(self):
        """Let it start again."""
        docker("start", f"{self.name}-web")

    def remove(self):
        """Remove both."""
        docker("rm", "--force", "--volumes", self.name, f"{self.name}-web")

    def connection(self):
        """Return a new connection of a visitor."""
        return Connection(self.port, self.tls)

    def ask(self, method, path="/", body=None, headers=None):
        """Return the status, the headers and the body of an answer; without a length, a body comes in chunks."""
        connection = self.connection()
        headers = {"Host": NAME, "Accept-Encoding": "identity", **(headers or {})}
        try:
            # The answer may come before everything was sent.
            with suppress(OSError):
                connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def send(self):
        """Send a body of one's own; return what the application says of it, or the status."""
        token = uuid.uuid4().hex
        status, _, body = self.ask("POST", "/", token * 100, {"X-Token": token})
        return body.decode() if status == 200 else status

    def page(self):
        """Return a page, or the status."""
        status, _, body = self.ask("GET")
        return body.decode() if status == 200 else status


@pytest.fixture(scope="module")
def proxy(configure, images, tmp_path_factory):
    """Run the proxy as the role configures it, in plain HTTP, before a small application."""
    stranger = {"proxy_maintenance_allow": ["203.0.113.0/24"]}
    one = Proxy(configure, tmp_path_factory.mktemp("proxy"), **stranger)
    one.start(["--user=0", "--entrypoint=python3", images["runtime"], "-c", APPLICATION])
    until(lambda: one.page() == "page")
    yield one
    one.remove()


def gunicorn(images, *words, memory):
    """Return what `docker run` is told of a Django project that is served as a release is."""
    return [
        *("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--init"),
        *(f"--memory={memory}m", f"--memory-swap={memory}m", "--pids-limit=256"),
        *("--env=GUNICORN_BIND=unix:/run/web/http.sock", "--env=GUNICORN_WORKERS=2"),
        *(f"--volume={REPOSITORY}/tests/trial.py:/app/trial.py:ro", *words, images["runtime"]),
        *("gunicorn", "--config", "/opt/postdo/gunicorn.conf.py", "trial:application"),
    ]


@pytest.fixture(scope="module")
def site(configure, images, tmp_path_factory):
    """Run the proxy as the role configures it, with TLS, before gunicorn as the role configures that."""
    gateway = "{{(index .IPAM.Config 0).Gateway}}"
    visitor = docker("network", "inspect", "bridge", "--format", gateway).stdout.strip()
    one = Proxy(
        configure, tmp_path_factory.mktemp("site"), tls=True, proxy_maintenance_allow=[visitor]
    )
    one.start(gunicorn(images, f"--volume={one.temporary}:/tmp", memory=256))
    until(lambda: one.ask("GET", "/page")[0] == 200)
    yield one
    one.remove()


@pytest.fixture(scope="module")
def narrow(configure, images, tmp_path_factory):
    """The same, where 18 MiB may be written before too little is free."""
    one = Proxy(configure, tmp_path_factory.mktemp("narrow"), tls=True)
    one.start(gunicorn(images, "--tmpfs=/tmp:mode=1777,size=530m", memory=1024))
    until(lambda: one.ask("GET", "/page")[0] == 200)
    yield one
    one.remove()


def test_pages_wait_for_the_application_and_forms_are_told(proxy):
    """A page comes once the application is back; a body is sent only once, so its sender is told."""
    proxy.stop_application()
    with ThreadPoolExecutor() as several:
        pages = [several.submit(proxy.page) for _ in range(4)]
        assert proxy.send() == 502
        proxy.start_application()
        assert [page.result() for page in pages] == ["page"] * 4
    assert proxy.send() == "mine"


def test_who_is_on_the_list_sees_the_site_under_maintenance(proxy, site):
    """The file is what the program that deploys makes and removes."""
    switches = [one.place / "maintenance" for one in (proxy, site)]
    for switch in switches:
        switch.touch()
    met, seen = proxy.ask("GET"), site.ask("GET", "/page")
    for switch in switches:
        switch.unlink()
    assert (met[0], met[1]["Retry-After"]) == (503, "300")
    assert seen[0] == 200
    assert proxy.page() == "page"


def test_no_body_comes_in_anothers_name(proxy):
    """Forms that were sent while the application was away leave nothing to those that come afterwards."""
    proxy.stop_application()
    with ThreadPoolExecutor(max_workers=40) as several:
        away = [several.submit(proxy.send) for _ in range(40)]
        time.sleep(1)
        proxy.start_application()
        assert {one.result() for one in away} <= {502, "mine"}
        until(lambda: proxy.send() == "mine")
        met = Counter(several.map(lambda _: proxy.send(), range(2000)))
    assert met == {"mine": 2000}


def in_chunks(data, size=50_000):
    """Yield what http.client then sends in chunks."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


def multipart(data, name="upload", fields=b""):
    """Return a form with a file, and its headers; no random bytes are its boundary."""
    head = b'--the-boundary\r\nContent-Disposition: form-data; name="%s"; filename="a.bin"\r\n\r\n'
    form = fields + head % name.encode() + data + b"\r\n--the-boundary--\r\n"
    return form, {"Content-Type": "multipart/form-data; boundary=the-boundary"}


def http2(site, path, pieces):
    """POST these pieces over HTTP/2, saying nothing of a length; return the answer's body."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    frame = lambda kind, flags, stream, data: (
        struct.pack(">I", len(data))[1:] + struct.pack(">BBI", kind, flags, stream) + data
    )
    plain = lambda word: bytes([len(word)]) + word.encode()
    head = {":method": "POST", ":scheme": "https", ":authority": NAME, ":path": path}
    block = b"".join(b"\0" + plain(key) + plain(value) for key, value in head.items())
    plainly = socket.create_connection(("127.0.0.1", site.port), timeout=60)
    with context.wrap_socket(plainly, server_hostname=NAME) as sock:
        assert sock.selected_alpn_protocol() == "h2"
        sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
        sock.sendall(frame(1, 4, 1, block))
        for number, piece in enumerate(pieces, 1):
            sock.sendall(frame(0, number == len(pieces), 1, piece))
        reader, answer = sock.makefile("rb"), b""
        while True:
            start = reader.read(9)
            length, kind, flags = int.from_bytes(start[:3]), start[3], start[4]
            data = reader.read(length)
            assert kind not in (3, 7), f"the stream was ended: {data}"
            answer += data if kind == 0 else b""
            if kind in (0, 1) and flags & 1:
                return answer.decode()


@pytest.mark.parametrize("size", [0, 1, 70_000, 3 * MIB])
def test_a_body_in_chunks_arrives_whole(site, size):
    """Whatever its size, in memory or on disk."""
    data = random.randbytes(size)
    status, _, answer = site.ask("POST", "/body", in_chunks(data))
    assert (status, answer.decode()) == (200, hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize(
    "pieces", [[b""], [b"a"], [b"a" * 16_000, b"b" * 16_000, b"c" * 16_000, b""]]
)
def test_a_body_of_http2_arrives_whole_without_a_length(site, pieces):
    """HTTP/2 has no chunks, and says a length only if it likes to."""
    assert http2(site, "/body", pieces) == hashlib.sha256(b"".join(pieces)).hexdigest()


def test_a_form_in_chunks_has_its_fields_and_files(site):
    """As one whose length is told."""
    field = b'--the-boundary\r\nContent-Disposition: form-data; name="word"\r\n\r\nsaid\r\n'
    data = random.randbytes(3 * MIB)
    form, headers = multipart(data, fields=field)
    digest = hashlib.sha256(data).hexdigest()
    for body in (form, in_chunks(form)):
        status, _, answer = site.ask("POST", "/form", body, headers)
        assert status == 200
        assert json.loads(answer) == {
            "fields": {"word": "said"},
            "files": {"upload": [digest, True]},
        }


@pytest.mark.parametrize("size", [1_000, 3 * MIB])
def test_a_body_that_is_cut_off_is_never_taken_for_whole(site, size):
    """Its visitor goes away in the middle: half of a form must not be stored."""
    name = uuid.uuid4().hex
    connection = site.connection()
    connection.putrequest("POST", f"/keep?name={name}", skip_host=True)
    connection.putheader("Host", NAME)
    connection.putheader("Content-Length", str(size))
    connection.endheaders(b"x" * (size // 2))
    connection.close()
    until(lambda: site.ask("GET", f"/kept?name={name}")[2])
    assert site.ask("GET", f"/kept?name={name}")[2] == b"cut off"
    assert site.ask("POST", f"/keep?name={name}", b"x" * size)[2] == f"{size} bytes".encode()


@pytest.mark.parametrize("size", [1, 1_000_000])
@pytest.mark.parametrize("sent", [500_000, 10 * MIB])
def test_an_answer_arrives_whole_that_reads_nothing_of_the_body(site, sent, size):
    """An upload that is refused for a missing token, for one."""
    for _ in range(15):
        status, _, answer = site.ask("POST", f"/refuse?size={size}", b"x" * sent)
        assert (status, len(answer)) == (403, 2 * size)


def test_a_request_without_a_body_passes(site):
    """Whether it says so or not."""
    nothing = hashlib.sha256(b"").hexdigest()
    assert site.ask("POST", "/body")[2].decode() == nothing
    assert site.ask("DELETE", "/body")[2].decode() == nothing


def test_a_body_in_chunks_is_measured_too(site):
    """What is longer than proxy_max_body_mib is refused, as one whose length is told."""
    pieces = (b"x" * MIB for _ in range(101))
    assert site.ask("POST", "/body", pieces)[0] == 413


def test_no_body_in_chunks_comes_in_anothers_name(site):
    """Of many visitors at once, some of whom go away in the middle; small bodies and large ones, with and without a length."""

    def visit(number):
        data = random.randbytes(random.choice([10, 5_000, 200_000, 2 * MIB]))
        if number % 7 == 0:
            connection = site.connection()
            connection.putrequest("POST", "/body", skip_host=True)
            connection.putheader("Host", NAME)
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders(b"%x\r\n" % (len(data) + 1) + data)
            connection.close()
            return "gone"
        body = data if number % 2 else in_chunks(data)
        status, _, answer = site.ask("POST", "/body", body)
        right = answer.decode() == hashlib.sha256(data).hexdigest()
        return ("mine" if right else "another's") if status == 200 else status

    with ThreadPoolExecutor(max_workers=12) as several:
        met = Counter(several.map(visit, range(280)))
    assert met == {"gone": 40, "mine": 240}


def uploads(site):
    """Return the uploads that lie in the application's temporary directory."""
    return [path.name for path in site.temporary.glob("*.upload*")]


def test_the_application_takes_what_the_proxy_lets_in(site):
    """Four slow uploads at once, which are more than the container's memory."""
    data = random.randbytes(MIB) * 70
    digest, together = hashlib.sha256(data).hexdigest(), threading.Barrier(4)
    form, headers = multipart(data)

    def slowly():
        yield form[:-MIB]
        together.wait(60)
        yield form[-MIB:]

    def send(number):
        told = {"Content-Length": str(len(form))} if number % 2 else {}
        status, _, answer = site.ask("POST", "/form", slowly(), headers | told)
        return status, json.loads(answer)["files"] if status == 200 else answer

    with ThreadPoolExecutor() as several:
        assert [*several.map(send, range(4))] == [(200, {"upload": [digest, True]})] * 4
    until(lambda: not uploads(site))


def test_uploads_of_a_killed_worker_go(site):
    """With the worker: the container goes on."""
    form, headers = multipart(random.randbytes(5 * MIB))
    assert site.ask("POST", "/die", form, headers)[0] == 502
    until(lambda: not uploads(site))


def test_a_container_begins_without_leftovers(site):
    """What was there when it was killed, of whatever kind, is gone once it serves again."""
    left = site.temporary / "of-the-last-time"
    left.mkdir(mode=0o777)
    left.chmod(0o777)
    (left / "file").touch()
    (site.temporary / ".hidden").touch()
    site.stop_application()
    site.start_application()
    until(lambda: site.ask("GET", "/page")[0] == 200)
    assert [*site.temporary.iterdir()] == []


@pytest.mark.parametrize("told", [True, False])
def test_what_the_disk_cant_take_is_refused(narrow, told):
    """With 413, and whatever is small goes on; so does what fits."""
    for size, wanted in ((25, 413), (8, 200), (25, 413)):
        form, headers = multipart(b"x" * size * MIB)
        body = form if told else in_chunks(form, MIB)
        assert narrow.ask("POST", "/form", body, headers)[0] == wanted, size
    assert narrow.ask("POST", "/body", b"small")[0] == 200


def test_two_uploads_dont_share_the_same_room(narrow):
    """One that has only begun has its room already; once it has ended, the other passes."""
    form, headers = multipart(b"x" * 10 * MIB)
    first = narrow.connection()
    first.putrequest("POST", "/form", skip_host=True)
    for name, value in {**headers, "Host": NAME, "Content-Length": str(len(form))}.items():
        first.putheader(name, value)
    first.endheaders(form[:MIB])
    until(lambda: narrow.ask("POST", "/form", form, headers)[0] == 413)
    first.send(form[MIB:])
    assert first.getresponse().status == 200
    first.close()
    assert narrow.ask("POST", "/form", form, headers)[0] == 200


@pytest.mark.parametrize("length", [4_200, 8_300, 30_000])
def test_a_request_may_have_the_head_that_is_promised(site, length):
    """In its line, in one header, or in many."""
    assert json.loads(site.ask("GET", "/head?" + "x" * length)[2])["line"] == length + 6
    for fields in ({"Authorization": "x" * length}, {f"X-{n}": "x" for n in range(length // 100)}):
        status, _, answer = site.ask("GET", "/head", None, fields)
        assert status == 200
        assert json.loads(answer)["fields"] >= sum(map(len, [*fields, *fields.values()]))


def test_a_head_that_is_too_large_is_refused(site):
    """By the proxy."""
    assert site.ask("GET", "/head", None, {"Authorization": "x" * 40_000})[0] == 431


@pytest.mark.parametrize("accepted", ["gzip", "zstd, gzip", "identity"])
@pytest.mark.parametrize("kind", ["text/event-stream", "text/html", "application/json"])
def test_a_stream_flows_as_it_comes(site, kind, accepted):
    """Its second part is made only once the first was read."""
    connection = site.connection()
    headers = {"Host": NAME, "Accept-Encoding": accepted}
    connection.request("GET", f"/stream?type={kind}", headers=headers)
    answer = connection.getresponse()
    assert answer.read(2056) == b"data: " + b"x" * 2048 + b"\n\n"
    site.ask("GET", "/go-on")
    assert answer.read() == b"the end"
    connection.close()


def test_whoever_waits_for_events_has_the_head_before_the_first(site):
    """So a browser knows that it is connected."""
    connection = site.connection()
    headers = {"Host": NAME, "Accept-Encoding": "gzip", "Accept": "text/event-stream"}
    connection.request("GET", "/stream?headed&type=text/event-stream", headers=headers)
    answer = connection.getresponse()
    site.ask("GET", "/go-on")
    assert answer.read() == b"the end"
    connection.close()


def test_pages_are_compressed(site):
    """For whoever takes it, and not for others."""
    plain = site.ask("GET", "/page")
    _, headers, body = site.ask("GET", "/page", None, {"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in plain[1]
    assert headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body) == plain[2]
    _, headers, _ = site.ask("GET", "/page", None, {"Accept-Encoding": "zstd, gzip"})
    assert headers["Content-Encoding"] == "zstd"


def test_a_part_of_a_file_is_never_compressed(site):
    """Its places are those of the plain bytes, so what is resumed fits."""
    text = "".join(f"line {number}\n" for number in range(3000))
    docker("exec", "--interactive", site.name, "sh", "-c", "cat > /srv/media/a.txt", input=text)
    whole = {"Accept-Encoding": "gzip"}
    assert site.ask("GET", "/media/a.txt", None, whole)[1]["Content-Encoding"] == "gzip"
    status, headers, body = site.ask("GET", "/media/a.txt", None, whole | {"Range": "bytes=1000-"})
    assert (status, headers["Content-Encoding"]) == (206, None)
    assert body.decode() == text[1000:]
