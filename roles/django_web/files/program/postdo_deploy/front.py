"""What the site answers: to visitors while a release takes another's place, and at a release's own socket."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from .environment import Environment, Front

_INTERVAL = 0.05
# Pages may cost more than a health check, and count who comes too often.
_PAGES_INTERVAL = 0.4
# Whoever waits longer has no answer.
_TIMEOUT = 10
# What is read of a page: it may be big, or a stream that never ends.
_MOST_BYTES = 1024 * 1024
_MOST_SECONDS = 2
# Whether the certificate is good is not the question here.
_TRUSTING = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_TRUSTING.check_hostname = False
_TRUSTING.verify_mode = ssl.CERT_NONE


@dataclass(frozen=True)
class Answer:
    """What came of a request: a status, or why there was none."""

    status: int = 0
    problem: str = ""

    @property
    def good(self) -> bool:
        """Return whether this is a sign of health."""
        return 200 <= self.status < 300

    @property
    def badness(self) -> int:
        """Return 0 for 2xx and 3xx, 1 for 4xx, 2 for all else; that we asked too often says nothing."""
        if 200 <= self.status < 400 or self.status == http.HTTPStatus.TOO_MANY_REQUESTS:
            return 0
        return 1 if 400 <= self.status < 500 else 2

    def __str__(self) -> str:
        return f"status {self.status}" if self.status else self.problem


# What a path's answers are measured by: what came before, where something did.
Before = dict[str, Answer | None]


def worse(answer: Answer, before: Answer | None) -> bool:
    """Return whether an answer is of a worse kind than the one before; where there was none, whether it is an error."""
    return answer.badness > (before.badness if before else 1)


@dataclass
class Seen:
    """What the visitors met; times in seconds."""

    sent: int = 0
    failed: list[str] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    @property
    def gap(self) -> float:
        """Return the longest time between two answers of the health path."""
        return max((b - a for a, b in itertools.pairwise(sorted(self.answered))), default=0.0)


class Visitors:
    """Three of them: two ask the health path, over a kept connection and over new ones, the third one page after another."""

    def __init__(self, environment: Environment, pages: Before) -> None:
        self._site = Site(environment.front, environment.url)
        self._health = environment.front.path
        # May grow while they are at work.
        self.pages = pages
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._ask_health, args=(True,), daemon=True),
            threading.Thread(target=self._ask_health, args=(False,), daemon=True),
            threading.Thread(target=self._ask_pages, daemon=True),
        ]
        self.seen = Seen(paths=[self._health])

    def __enter__(self) -> Seen:
        for thread in self._threads:
            thread.start()
        return self.seen

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(timeout=15)

    def _ask_health(self, keep: bool) -> None:
        """Call again and again, until the end."""
        connection = None
        while not self._ended.is_set():
            connection = connection or self._site.connect()
            answer = _ask(connection, self._site.url, self._health, keep=keep)
            with self._lock:
                self._note(self._health, answer, failed=not answer.good)
                if answer.good:
                    self.seen.answered.append(time.monotonic())
            if not (keep and answer.good):
                connection.close()
                connection = None
            self._ended.wait(_INTERVAL)
        if connection:
            connection.close()

    def _ask_pages(self) -> None:
        for path in self._in_turn():
            answer = self._site.ask(path)
            with self._lock:
                self._note(path, answer, failed=worse(answer, self.pages[path]))
            self._ended.wait(_PAGES_INTERVAL)

    def _in_turn(self) -> Iterator[str]:
        """Yield one page's path after the other, until the end."""
        while self.pages and not self._ended.is_set():
            for path in list(self.pages):
                if self._ended.is_set():
                    return
                yield path

    def _note(self, path: str, answer: Answer, *, failed: bool) -> None:
        self.seen.sent += 1
        if path not in self.seen.paths:
            self.seen.paths.append(path)
        if failed:
            self.seen.failed.append(f"{answer} at {path}")


class Site:
    """The site as a visitor on this host finds it, through the proxy."""

    def __init__(self, front: Front, url: str) -> None:
        self._front = front
        self.url = url

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection, to be opened by the first request."""
        if not self._front.tls:
            return http.client.HTTPConnection(
                self._front.address, self._front.port, timeout=_TIMEOUT
            )
        return _NamedConnection(self._front)

    def ask(self, path: str) -> Answer:
        """Return what comes of one request."""
        return _ask(self.connect(), self.url, path)


class OwnSocket:
    """A release at its own socket, asked as the proxy would."""

    def __init__(self, path: Path, url: str) -> None:
        self._path = path
        self._url = url

    def ask(self, path: str) -> Answer:
        """Return what comes of one request."""
        return _ask(_SocketConnection(self._path), self._url, path, forwarded=True)


def worse_pages(ask: Callable[[str], Answer], pages: Before) -> list[str]:
    """Return, a sentence each, which pages are answered worse than before; one that is has two more chances."""
    found = []
    for path, before in list(pages.items()):
        for pause in (0.5, 1, 0):
            answer = ask(path)
            # Who waited in vain once would only wait again.
            if not worse(answer, before) or not answer.status:
                break
            time.sleep(pause)
        if worse(answer, before):
            known = f", and {before} before" if before else ""
            found.append(f"{path} gives {answer}{known}")
    return found


class _NamedConnection(http.client.HTTPSConnection):
    """Asks this host for the site by its name."""

    def __init__(self, front: Front) -> None:
        self._name = front.name
        super().__init__(front.address, front.port, timeout=_TIMEOUT, context=_TRUSTING)

    def connect(self) -> None:
        """Connect, and tell the proxy which site is meant."""
        http.client.HTTPConnection.connect(self)
        self.sock = _TRUSTING.wrap_socket(self.sock, server_hostname=self._name)


class _SocketConnection(http.client.HTTPConnection):
    """Asks at a socket of the file system."""

    def __init__(self, path: Path) -> None:
        self._path = path
        super().__init__("127.0.0.1", timeout=_TIMEOUT)

    def connect(self) -> None:
        """Connect by way of its directory: a socket's path may have 108 bytes alone."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        directory = os.open(self._path.parent, os.O_PATH)
        try:
            self.sock.connect(f"/proc/self/fd/{directory}/{self._path.name}")
        finally:
            os.close(directory)


def _ask(
    connection: http.client.HTTPConnection,
    url: str,
    path: str,
    *,
    keep: bool = False,
    forwarded: bool = False,
) -> Answer:
    """Return what comes of one request; the connection is closed, unless it is to be kept."""
    site = urlsplit(url)
    headers = {"Host": site.netloc, "User-Agent": "postdo-deploy"}
    if not keep:
        headers["Connection"] = "close"
    if forwarded:
        headers |= {"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1"}
        headers |= {"X-Forwarded-Host": site.netloc, "X-Forwarded-Proto": site.scheme}
    response = None
    try:
        if connection.sock:
            connection.sock.settimeout(_TIMEOUT)
        connection.request("GET", path, headers=headers)
        stream = connection.sock
        response = connection.getresponse()
        stream.settimeout(_MOST_SECONDS)
        _read(response)
        return Answer(response.status)
    except (OSError, http.client.HTTPException) as error:
        return Answer(problem=f"no answer ({type(error).__name__})")
    finally:
        # What was not read to its end would be taken for the next answer.
        if not (keep and response and response.isclosed()):
            connection.close()


def _read(response: http.client.HTTPResponse) -> None:
    """Read an answer's body, or so much of it as is enough; raises IncompleteRead where it was cut."""
    deadline, left = time.monotonic() + _MOST_SECONDS, _MOST_BYTES
    # A stream may be silent for a while.
    with contextlib.suppress(TimeoutError):
        while left > 0 and time.monotonic() < deadline:
            if not (piece := response.read1(65536)):
                if response.length:
                    raise http.client.IncompleteRead(b"", response.length)
                return
            left -= len(piece)
