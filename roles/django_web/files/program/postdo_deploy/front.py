"""A visitor who calls at the site again and again while a release takes another's place."""

from __future__ import annotations

import http.client
import itertools
import ssl
import threading
import time
from dataclasses import dataclass, field

from .environment import Front

_INTERVAL = 0.05
# Whether the certificate is good is not the question here.
_TRUSTING = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_TRUSTING.check_hostname = False
_TRUSTING.verify_mode = ssl.CERT_NONE


@dataclass
class Seen:
    """What the visitor met; times in seconds."""

    sent: int = 0
    failed: list[str] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)

    @property
    def gap(self) -> float:
        """Return the longest time between two answers."""
        return max((b - a for a, b in itertools.pairwise(sorted(self.answered))), default=0.0)


class Visitor:
    """Two visitors, in fact: one keeps its connection, the other opens a new one each time."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._call_again, args=(keep,), daemon=True)
            for keep in (True, False)
        ]
        self.seen = Seen()

    def __enter__(self) -> Seen:
        for thread in self._threads:
            thread.start()
        return self.seen

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(timeout=15)

    def _call_again(self, keep: bool) -> None:
        connection = None
        while not self._ended.is_set():
            connection = connection or _connect(self._front)
            problem = _ask(connection, self._front, keep=keep)
            with self._lock:
                self.seen.sent += 1
                if problem:
                    self.seen.failed.append(problem)
                else:
                    self.seen.answered.append(time.monotonic())
            if problem or not keep:
                connection.close()
                connection = None
            self._ended.wait(_INTERVAL)
        if connection:
            connection.close()


def answers(front: Front) -> bool:
    """Say whether the site answers a visitor now."""
    connection = _connect(front)
    try:
        return not _ask(connection, front, keep=False)
    finally:
        connection.close()


def _connect(front: Front) -> http.client.HTTPConnection:
    if not front.tls:
        return http.client.HTTPConnection(front.address, front.port, timeout=10)
    return _NamedConnection(front)


class _NamedConnection(http.client.HTTPSConnection):
    """Asks this host for the site by its name."""

    def __init__(self, front: Front) -> None:
        self._name = front.name
        super().__init__(front.address, front.port, timeout=10, context=_TRUSTING)

    def connect(self) -> None:
        """Connect, and tell the proxy which site is meant."""
        http.client.HTTPConnection.connect(self)
        self.sock = _TRUSTING.wrap_socket(self.sock, server_hostname=self._name)


def _ask(connection: http.client.HTTPConnection, front: Front, *, keep: bool) -> str:
    """Return what was wrong with one answer; empty if nothing was."""
    headers = {"Host": front.name, "User-Agent": "postdo-deploy"}
    if not keep:
        headers["Connection"] = "close"
    try:
        connection.request("GET", front.path, headers=headers)
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    return "" if response.status < 400 else f"status {response.status}"
