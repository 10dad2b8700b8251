"""Find variables that an inventory or -e sets and that nothing of this project reads."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import yaml
from ansible.plugins.lookup import LookupBase

DOCUMENTATION = """
name: unread_variables
short_description: what to say of variables that have one of our prefixes, and that no role takes
description:
  - A name that begins with that of a role belongs to the role. It is either an option in the role's
    C(meta/argument_specs.yml), or it is mistyped, or it is one of the names that this project says itself.
  - Other names are the user's own.
options:
  _terms:
    description: The names of the variables that are set.
    type: list
    elements: str
    required: true
"""

RETURN = """
_list:
  description: A sentence for each variable that nothing reads, with the place where it is set.
  type: list
  elements: str
"""

# What says now what an inventory of an earlier day said otherwise.
_NOW = {"stack_database": "stack_database_name and stack_database_user"}
# Roles that other roles call: their names are nothing that an inventory says, and may be a user's own.
_CALLED = {"program", "service"}
_PROJECT = Path(__file__).resolve().parents[2]


def unread(names, roles=_PROJECT / "roles"):
    """Return {name: the option that is nearest to it, or nothing} of the names that are ours and no option."""
    owners = {path.name for path in roles.iterdir()} - _CALLED
    ours = tuple(f"{prefix}{name}_" for name in owners for prefix in ("", "__"))
    suspects = [name for name in names if name.startswith(ours)]
    if not suspects:
        return {}
    options = {name for path in roles.glob("*/meta/argument_specs.yml") for name in _options(path)}
    shared = _read(roles / "stack/vars/main.yml") | _read_facts(roles)
    found = {}
    for name in sorted({*suspects} - options):
        near = (
            []
            if name in shared or name.startswith("__")
            else difflib.get_close_matches(name, options, n=1, cutoff=0.8)
        )
        found[name] = _NOW.get(name) or (near[0] if near else "")
    return found


def places(name, inventory):
    """Return "file:line" of each line below an inventory's directory that sets a variable."""
    line = re.compile(rf"\s*{re.escape(name)}\s*:")
    files = [Path(inventory, "hosts.yml"), *Path(inventory).glob("*_vars/**/*")]
    return [
        f"{file}:{number}"
        for file in sorted(path for path in files if path.is_file())
        for number, text in enumerate(file.read_text(errors="replace").splitlines(), 1)
        if line.match(text)
    ]


def _read(path):
    """Return what a file of YAML says."""
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def _options(path):
    """Return the names of the options in a role's argument specs, whatever the entry point."""
    points = _read(path)["argument_specs"].values()
    return {name for point in points for name in point.get("options", {})}


def _read_facts(roles):
    """Return the facts by which the roles tell each other of themselves."""
    tasks = [task for path in roles.glob("*/tasks/interface.yml") for task in _read(path)]
    return {name: None for task in tasks for name in task["ansible.builtin.set_fact"]}


class LookupModule(LookupBase):
    """The lookup's name."""

    def run(self, terms, variables=None, **_options):
        """Return the sentences."""
        inventory = (variables or {}).get("inventory_dir") or "."
        return [
            f"{name} is no variable of this project ({', '.join(places(name, inventory)) or 'with -e, or in a vault'}). "
            + (f"Did you mean {near}?" if near else "Remove it there.")
            for name, near in unread(terms).items()
        ]
