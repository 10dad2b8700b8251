"""What a migration does beyond the database: mail, and connections to anything else.

Neither can be taken back, and a rehearsal must not do it: mail is kept in memory, and where the rehearsal runs
there is no way out. What was tried is noted; not what threads try that were there before, such as those that report
what a program does.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

from django.conf import settings
from django.core import mail


class Outside:
    """Notes what is sent and asked for, from its making on."""

    def __init__(self, database: str) -> None:
        """Watch the process; connections to the host `database` are not beyond it."""
        self._known = {database}
        self._calls: list[str] = []
        self._others = _threads()
        settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
        mail.outbox = []
        sys.addaudithook(self._hook())

    def _hook(self) -> Callable[[str, tuple], None]:
        def look(event: str, arguments: tuple) -> None:
            if event == "socket.getaddrinfo":
                self._note(arguments[0], arguments[1])
            elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
                self._note(*arguments[1][:2])

        return look

    def _note(self, host: object, port: object) -> None:
        host = host.decode() if isinstance(host, bytes) else host
        said = f"{host}:{port}"
        if threading.get_native_id() in self._others:
            return
        if host not in self._known and said not in self._calls:
            self._calls.append(said)

    def taken(self) -> tuple[int, list[str]]:
        """Return the number of mails and the addresses called since this was last asked, by this thread or newer ones."""
        mails, calls = len(mail.outbox), list(self._calls)
        mail.outbox.clear()
        self._calls.clear()
        self._others = _threads()
        return mails, calls


def _threads() -> set[int]:
    """Return the kernel's numbers of this process's other threads."""
    return {int(one) for one in os.listdir("/proc/self/task")} - {threading.get_native_id()}
