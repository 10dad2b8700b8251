"""What a rehearsal found out, and what a verdict says of it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Facts:
    """What was found out; all but the first may be absent where it did not come to that.

    `about` says in a few words each what was rehearsed, by name ("release": "1f3a…"), and `steps` how many seconds each
    step took. `look` is what `look` answered of the live database, and `last` what it answered after the last
    deploy (`files` and `catalog`). `expected` is the schema that the recorded migrations make, `unplayable` why they
    could not be replayed. `baseline` is what the serving release could do before, `unexercised` why that can't be told.
    `migrations` is what `rehearse` told of each, with what that release could do after it as its `exercise`, `unended`
    why the one after the last of them was ended, `new` what the new release can do after all of them. With `told` a
    deploy would judge nothing, so all findings are warnings. `point` names the moment to go
    back to, `catalog` is the schema at the rehearsal's end. `free` is the room on the database's disk in bytes.
    """

    look: dict
    last: dict = field(default_factory=dict)
    expected: dict | None = None
    unplayable: str = ""
    baseline: dict | None = None
    unexercised: str = ""
    unended: str = ""
    told: bool = False
    new: dict | None = None
    migrations: list[dict] = field(default_factory=list)
    free: int | None = None
    point: str = ""
    catalog: dict | None = None
    about: dict[str, str] = field(default_factory=dict)
    steps: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """One thing that was found: its kind, the migration it is about (or none), what it is and what to do.

    `level` is `stop` or `warn`, as the policy rules; `allowed` is the reason for which the project lets it pass.
    """

    kind: str
    migration: str
    text: str
    remedy: str
    level: str = "stop"
    allowed: str = ""

    @property
    def stops(self) -> bool:
        """Say whether this alone stops a deploy."""
        return self.level == "stop" and not self.allowed

    @property
    def advice(self) -> str:
        """Return the remedy's sentences."""
        return self.remedy.partition("\n[")[0]

    @property
    def paste(self) -> str:
        """Return the remedy's lines for migrations.toml, if any."""
        return self.remedy.removeprefix(self.advice).lstrip()


def override(migration: str, kind: str) -> str:
    """Return the remedy that lets a migration do what was found."""
    return (
        "If that is meant, say so in migrations.toml:\n[[override]]\n"
        f'migration = "{migration}"\nfindings = ["{kind}"]\nreason = "..."'
    )
