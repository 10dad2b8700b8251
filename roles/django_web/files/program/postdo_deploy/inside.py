"""The package `django_rehearsal` at work in containers like a release's own, on the live database or on a copy."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Self
from urllib.parse import quote

from django_rehearsal import ANSWERS
from postdo_host import Failure, attempt, inspect, last_words, run
from postdo_host.containers import contained

from .environment import Environment

# Installed beside this program; it needs Django, so it is never imported here.
_PACKAGE = Path(find_spec("django_rehearsal").origin).parent
# Where the stand-ins for an environment's secrets are, while there is a copy.
SECRETS = "rehearsal-secrets"
_SECRETS = "/run/secrets"
_MEDIA = "/srv/media"


class Unanswered(Failure):
    """The package could not do its work; says why."""


class Late(Unanswered):
    """It did not end its work in the time it has."""


@dataclass(frozen=True)
class Copy:
    """A copy of the database: its container, and secrets that are nobody's."""

    container: str
    secrets: Path


@contextmanager
def stand_ins(environment: Environment, container: str) -> Iterator[Copy]:
    """Give the containers on a copy secrets like the real ones.

    Those with the database's password in them are the real ones: the copy has that password, however the project
    reads it, and where it is used there is no network.
    """
    web = environment.state / SECRETS
    shutil.rmtree(web, ignore_errors=True)
    web.mkdir(mode=0o700)
    try:
        real = {
            one.name: one.read_bytes() for one in environment.secrets.iterdir() if one.is_file()
        }
        password = real["postgres_password"].strip()
        forms = (password, quote(password, safe="").encode())
        for name, content in real.items():
            kept = any(one in content for one in forms)
            (web / name).write_bytes(content if kept else secrets.token_urlsafe(48).encode())
        for path in (web, *web.iterdir()):
            os.chown(path, environment.secrets.stat().st_uid, -1)
        yield Copy(container, web)
    finally:
        shutil.rmtree(web, ignore_errors=True)


class Inside:
    """One run of the package in a container like that of a release's web process; use it with `with`.

    Without a copy it is the live database, in the release's own networks. What takes longer than a step may is ended.
    """

    def __init__(
        self,
        environment: Environment,
        like: str,
        name: str,
        operation: list[str],
        copy: Copy | None = None,
        *,
        labels: tuple[str, ...] = (),
    ) -> None:
        self.container = f"{environment.prefix}-{name}"
        # On the live database there is more to wait for.
        self._timeout = environment.step_timeout * (1 if copy else 2)
        self._create(environment, like, operation, copy, labels)

    def _create(
        self,
        environment: Environment,
        like: str,
        operation: list[str],
        copy: Copy | None,
        labels: tuple[str, ...],
    ) -> None:
        """Make the container."""
        web = inspect("container", like)
        if web is None:
            raise Unanswered(f"{like} is gone; somebody removed it")
        config, limits = web["Config"], web["HostConfig"]
        # The project may have a path of its own.
        own = [one.partition("=")[2] for one in config["Env"] if one.startswith("PYTHONPATH=")]
        told = [*config["Env"], f"PYTHONPATH={':'.join(['/opt/rehearsal', *own])}"]
        networks = list(web["NetworkSettings"]["Networks"])
        if copy:
            # There the copy has the live server's name and port, and nothing else is to be reached.
            networks = [f"container:{copy.container}"]
        words = [
            *contained("create", "--interactive", memory=limits["Memory"], tmp_mib=256),
            *("--name", self.container, "--log-driver", "json-file"),
            *("--user", config["User"], "--network", networks[0]),
            *("--volume", f"{_PACKAGE}:/opt/rehearsal/django_rehearsal:ro"),
        ]
        for label in (f"postdo.stack={environment.prefix}", *labels):
            words += ["--label", label]
        for setting in told:
            words += ["--env", setting]
        for source, target in _mounts(web):
            if target == _SECRETS and copy:
                words += ["--volume", f"{copy.secrets}:{_SECRETS}:ro"]
            elif target in (_SECRETS, _MEDIA, "/app"):
                # What is rehearsed may read the uploads, and change nothing.
                readonly = ":ro" if copy or target == _SECRETS else ""
                words += ["--volume", f"{source}:{target}{readonly}"]
        attempt("docker", "rm", "--force", self.container)
        command = ["python", "-m", "django_rehearsal", *operation]
        run(*words, web["Image"], *command, doing=f"Making {self.container}")
        for network in networks[1:]:
            words = ["network", "connect", network, self.container]
            run("docker", *words, doing=f"Connecting {self.container}")

    def __enter__(self) -> Self:
        # Whatever the project prints comes this way, and nobody reads it meanwhile.
        self._begun = self._answered = False
        self._said = tempfile.TemporaryFile("w+", errors="replace")
        self._process = subprocess.Popen(
            ["docker", "start", "--attach", "--interactive", self.container],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        # It goes first: whoever only listens to it ends with it.
        attempt("docker", "rm", "--force", self.container)
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._said):
            if stream:
                with suppress(BrokenPipeError):
                    stream.close()

    def say(self, text: str = "") -> None:
        """Give it a line of input."""
        # One that has ended takes no more; its status says why.
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{text}\n")
            self._process.stdin.flush()

    def close(self) -> None:
        """Give it no more input."""
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def answer(self) -> dict | None:
        """Return its next answer; None once it has ended. Raises Late."""
        with self._in_time():
            line = self._process.stdout.readline()
            while line and not self._begun:
                self._begun = line == f"{ANSWERS}\n"
                line = self._process.stdout.readline()
        self._answered = self._answered or bool(line)
        return json.loads(line) if line else None

    def end(self) -> int:
        """Wait for its end and return its exit status; raises Unanswered where it could not do its work, also Late."""
        with self._in_time():
            status = self._process.wait()
        # A 1 without an answer is Python's own.
        if status not in (0, 1, 75) or (status == 1 and not self._answered):
            self._said.seek(0)
            done = subprocess.CompletedProcess([], status, "", self._said.read())
            raise Unanswered(last_words(done))
        return status

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """End it where something takes longer than a step may, and raise Late."""
        late = threading.Event()

        def expire() -> None:
            late.set()
            attempt("docker", "kill", self.container)
            self._process.kill()

        timer = threading.Timer(self._timeout, expire)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
        if late.is_set():
            raise Late(
                f"it did not end within {self._timeout:.0f} s (django_web_rehearsal_step_timeout), and was ended"
            )


def ask(
    environment: Environment,
    like: str,
    operation: list[str],
    copy: Copy | None = None,
    told: str = "",
) -> dict:
    """Return the one answer of an operation that needs `told`, if anything; raises Unanswered."""
    with Inside(environment, like, "rehearsal-asks", operation, copy) as inside:
        if told:
            inside.say(told)
        inside.close()
        found = inside.answer()
        inside.end()
    if found is None:
        raise Unanswered(f"django_rehearsal {operation[0]} said nothing.")
    return found


def _mounts(web: dict) -> list[tuple[str, str]]:
    """Return what a container has mounted: a volume's name or a path, and where."""
    return [
        (one["Name"] if one["Type"] == "volume" else one["Source"], one["Destination"])
        for one in web["Mounts"]
    ]
