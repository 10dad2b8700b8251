"""The hosts of this scenario: what `hosts` knows of a host, and what can be done to its releases."""

from __future__ import annotations

import base64
import json
import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from hosts import PRODUCTION, TOOLS, Host, Result, wait_until

VISITORS = (TOOLS / "visitors.py").read_text()
SITE = "http://127.0.0.1:8080"
RELEASES = "/var/lib/postdo/prod/releases"
# What a deploy of the application alone does not need.
ALONE = ("--skip-tags", "postgres,backup,proxy,boot,summary", "-e", "images_archive=")
QUICK = {"django_web_watch_time": 1}


class Answer(NamedTuple):
    """An answer of the site."""

    status: int
    headers: dict[str, str]
    body: bytes


class Site(Host):
    """One of the scenario's hosts."""

    # Seconds between a visitor's requests.
    pause = 0.1

    # -- operations ---------------------------------------------------------------------------

    def deploy(self, **variables) -> Result:
        """Run site.yml for the application alone, with these variables."""
        return self.ansible("prod", *ALONE, "-e", json.dumps(QUICK | variables))

    def deployed(self, **variables) -> str:
        """Return what a deploy said; fail the test if it failed."""
        result = self.deploy(**variables)
        assert result.code == 0, result.said
        return result.out

    def operate(self, book: str, *arguments: str) -> Result:
        """Run one of the operations as a person would."""
        return self.ansible("prod", *arguments, book=f"playbooks/{book}.yml")

    def program(self, words: str) -> Result:
        """Call the program that deploys on the host itself."""
        return self.attempt(f"/usr/local/sbin/postdo-prod-deploy {words}")

    # -- releases -----------------------------------------------------------------------------

    @property
    def release(self) -> str:
        """Return the release that serves."""
        return self.run(f"readlink {RELEASES}/current")

    def page(self, url: str = f"{SITE}/trial/page", entry: str = "") -> str:
        """Return a page; without an address, the name of the release that made it."""
        return super().page(url, entry)

    def history(self) -> list[dict]:
        """Return what was deployed, the newest last."""
        return json.loads(self.program("history --json").out)

    def kept(self) -> list[str]:
        """Return the releases that have served and are still here."""
        return (
            self.run(f"cd {RELEASES} && ls -d ????????????/served").replace("/served", "").split()
        )

    def left_over(self) -> list[str]:
        """Return what a finished deploy must not leave: containers, directories, notes."""
        kept = set(self.kept())
        found = []
        for name, item in self.containers().items():
            labels, state = item["Config"]["Labels"], item["State"]
            release = labels.get("postdo.release")
            if release is None:
                continue
            serves = release == self.release
            if release not in kept or state["Running"] != serves:
                found.append(f"{name}: {state['Status']}")
            wanted = "unless-stopped" if serves else None
            if wanted and item["HostConfig"]["RestartPolicy"]["Name"] != wanted:
                found.append(f"{name} does not start again by itself")
        listed = self.run(f"cd {RELEASES} && ls").split()
        return found + [name for name in listed if name not in kept | {"current"}]

    def edit(self, path: str, change: Callable[[str], str]) -> None:
        """Change a file of the application's source."""
        file = self.source / path
        file.write_text(change(file.read_text()))

    def new_page(self, words: str) -> None:
        """Change the source so that the next deploy is another release."""
        template = "core/templates/core/home.html"
        self.edit(template, lambda text: f"{text}<!-- {words} -->\n")

    @contextmanager
    def unchanged_source(self) -> Iterator[None]:
        """Undo whatever is done to the source meanwhile."""
        files = {path: path.read_bytes() for path in self.source.rglob("*") if path.is_file()}
        try:
            yield
        finally:
            for path in self.source.rglob("*"):
                if path.is_file() and path not in files:
                    path.unlink()
            for path, content in files.items():
                if not path.exists() or path.read_bytes() != content:
                    path.write_bytes(content)

    # -- the proxy ----------------------------------------------------------------------------

    def get(self, path: str, *options: str) -> Answer:
        """Return what the site answers on the host itself; see tools/ask.py for the options."""
        answer = self.attempt_get(path, *options)
        assert answer, f"{self.name}: {path} was not answered"
        return answer

    def attempt_get(self, path: str, *options: str) -> Answer | None:
        """Return what the site answers, or nothing if it doesn't."""
        words = " ".join(shlex.quote(word) for word in (path, *options))
        result = self.attempt(f"python3 - {words}", input=(TOOLS / "ask.py").read_text())
        if result.code:
            return None
        said = json.loads(result.out)
        return Answer(said["status"], said["headers"], base64.b64decode(said["body"]))

    # -- steps --------------------------------------------------------------------------------

    def step(self) -> str:
        """Return the step that a deploy is in; empty where none is under way."""
        text = self.attempt(f"cat {RELEASES}/underway.json").out
        return json.loads(text)["step"] if text else ""

    def during(self, step: str, act: Callable[[], object], **variables) -> Result:
        """Deploy, and do something as soon as a step has begun; return how the deploy ended."""
        ended: list[Result] = []
        deploying = threading.Thread(target=lambda: ended.append(self.deploy(**variables)))
        deploying.start()
        wait_until(lambda: self.step() == step or ended, f"{self.name}: {step}", 180)
        assert not ended, ended[0].said
        act()
        deploying.join(300)
        return ended[0]

    def kill_program(self) -> None:
        """Kill the program that deploys, past any chance to clean up."""
        self.run("pkill -KILL --full '[-]m postdo_deploy'")

    # -- visitors -----------------------------------------------------------------------------

    @contextmanager
    def visited(self, clients: int = 1) -> Iterator[dict]:
        """Let visitors call meanwhile; afterwards the dictionary says what each kind met."""
        ledger = "/root/visitors.ledger"
        self.run("rm -f /root/visitors.*")
        # What many of them meet is bench/deploy's to say; here they leave the two hosts some room.
        command = f"python3 - {SITE} {ledger} --clients {clients} --pause {self.pause}"
        process = self.background(command, VISITORS)
        met: dict = {}
        try:
            yield met
        finally:
            self.attempt("touch /root/visitors.stop")
            said = process.communicate(timeout=90)[0]
        met |= json.loads(said.splitlines()[-1])

    def lost_and_doubled(self) -> tuple[list[str], list[str]]:
        """Return the acknowledged keys that the database lacks, and those it has more than once."""
        acknowledged = self.run("cat /root/visitors.ledger").split()
        assert acknowledged
        query = "SELECT key, count(*) FROM trial_line GROUP BY key"
        rows = dict(line.split("|") for line in self.sql(query).split())
        lost = [key for key in acknowledged if key not in rows]
        return lost, [key for key in acknowledged if int(rows.get(key, 1)) > 1]

    def unharmed(self, met: dict) -> None:
        """Fail the test if one request failed, or an acknowledged entry is lost or doubled."""
        assert {kind: one["failed"] for kind, one in met.items() if one["failed"]} == {}
        assert all(one["sent"] > 0 for one in met.values()), met
        self.nothing_lost()

    def nothing_lost(self) -> None:
        """Fail the test if an acknowledged entry is lost or doubled."""
        assert self.lost_and_doubled() == ([], [])

    def sql(self, statement: str) -> str:
        """Return what a statement gives the superuser in the application's database."""
        psql = "docker exec -i postdo-prod-db psql -XqAt -v ON_ERROR_STOP=1 -U postgres -d app"
        return self.run(psql, input=f"{statement};\n")

    def well(self) -> None:
        """Wait until production serves its page again."""
        self.wait_for(*PRODUCTION)
        self.wait_for_page("prod")
