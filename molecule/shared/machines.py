"""The hosts of this scenario: what `hosts` knows of a host, and what can be done to its data."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hosts import PRODUCTION, SHORT, TOOLS, Host, Result, wait_until

# Seconds between the commits of each writer.
PAUSE = 0.1 if SHORT else 0.02
WRITER = (TOOLS / "writer.py").read_text()
DATABASE = "postdo-prod-db"
VOLUME = "postdo-prod-db-data"
CONFIRMED = ("-e", "restore_confirm=postdo-prod")
# Where the engine keeps the repository that is a volume.
REPOSITORY = "/var/lib/docker/volumes/postdo-prod-backup/_data/database"
MEDIA = "/var/lib/docker/volumes/postdo-prod-backup/_data/media"
UPLOADS = "/var/lib/docker/volumes/postdo-prod-media/_data"


class Machine(Host):
    """One of the scenario's hosts."""

    # -- the program --------------------------------------------------------------------------

    def tool(self, words: str, *, clock: str = "") -> Result:
        """Call the program of the backups as the timers do, with a shifted clock if one is given."""
        shift = f"faketime '{clock}' " if clock else ""
        return self.attempt(f"{shift}/usr/local/sbin/postdo-prod-backup {words}", timeout=300)

    def do(self, words: str, **options) -> str:
        """Return what the program said; fail the test if it failed."""
        result = self.tool(words, **options)
        assert result.code == 0, f"{self.name}: {words}\n{result.said}"
        return result.out

    def refusal(self, words: str, **options) -> str:
        """Return what the program said; fail the test if it did not fail."""
        result = self.tool(words, **options)
        assert result.code == 1, f"{self.name}: {words}\n{result.said}"
        return result.error

    def play(self, book: str, *arguments: str) -> Result:
        """Run one of the operations as a person would."""
        return self.ansible("prod", *arguments, book=f"playbooks/{book}.yml")

    def restore(self, to: str, *arguments: str) -> str:
        """Restore as a person would; return what was said, fail the test if it failed."""
        result = self.play("restore", "-e", f"restore_to='{to}'", *CONFIRMED, *arguments)
        assert result.code == 0, result.said
        return result.out

    def backups(self) -> list[dict]:
        """Return the backups of the repository."""
        return json.loads(self.do("status"))["backups"]

    def kept(self) -> list[str]:
        """Return the volumes that keep the data of before a restore, the newest last."""
        return sorted(self.run(f"docker volume ls --quiet --filter name={VOLUME}-before").split())

    # -- the database -------------------------------------------------------------------------

    def sql(self, statement: str, container: str = DATABASE) -> str:
        """Return what a statement gives the superuser in the application's database."""
        psql = f"docker exec -i {container} psql -XqAt -v ON_ERROR_STOP=1 -U postgres -d app"
        return self.run(psql, input=f"{statement};\n")

    def now(self) -> float:
        """Return the host's clock."""
        return float(self.run("date +%s.%N"))

    # -- the uploads --------------------------------------------------------------------------

    def upload(self, name: str, content: str) -> None:
        """Write a file among the uploads as the application does; fail the test if it may not."""
        command = f"docker exec -i {self.serving()} sh -c 'cat > /srv/media/{name}'"
        self.run(command, input=f"{content}\n")

    # -- the writer ---------------------------------------------------------------------------

    @contextmanager
    def writing(self, name: str) -> Iterator[str]:
        """Let clients write meanwhile; gives the ledger's path on the host."""
        ledger = f"/root/ledgers/{name}"
        self.run(f"mkdir -p /root/ledgers && rm -f {ledger}*")
        with self.writing_on(ledger):
            yield ledger

    @contextmanager
    def writing_on(self, ledger: str) -> Iterator[None]:
        """Let clients write, and go on in a ledger that is there."""
        begun = self.now()
        process = self.background(f"python3 - write {DATABASE} {ledger} --pause {PAUSE}", WRITER)
        try:
            self.first_commit(ledger, begun, within=120)
            # The other clients have connected by then.
            time.sleep(1)
            yield
        finally:
            self.attempt(f"touch {ledger}.stop")
            process.wait(90)

    def first_commit(self, ledger: str, since: float, within: int = 60) -> float:
        """Return how many seconds after a moment the first new client had a commit acknowledged."""
        script = f"python3 - wait {DATABASE} {ledger} --since {since:.6f} --seconds {within}"
        result = self.attempt(script, timeout=within + 60, input=WRITER)
        if result.code:
            look = f"docker ps --all --filter name={DATABASE}; docker logs --timestamps --tail 40 {DATABASE}"
            pytest.fail(f"{result.said}\n{self.attempt(look).said}")
        return float(result.out)

    def verdict(self, ledger: str) -> dict:
        """Return what the verifier says of a ledger: acknowledged, lost, and when the first lost was."""
        said = json.loads(self.run(f"python3 - verify {DATABASE} {ledger}", input=WRITER))
        assert said["acknowledged"] > 0
        return said

    # -- harm ---------------------------------------------------------------------------------

    def kill_server(self) -> float:
        """Kill PostgreSQL's first process; return when."""
        command = "date +%s.%N; kill -s KILL $(head -n 1 $PGDATA/postmaster.pid)"
        return float(self.attempt(f"docker exec {DATABASE} sh -c '{command}'").out)

    def well(self) -> None:
        """Wait until production serves its page again."""
        self.wait_for(*PRODUCTION)
        self.wait_for_page("prod")

    def until(self, condition, what: str, timeout: float = 90) -> float:
        """Wait for a condition; return how many seconds it took."""
        begun = time.monotonic()
        wait_until(condition, f"{self.name}: {what}", timeout)
        return time.monotonic() - begun
