"""Compare secrets with those that a host has, and name a container after its own."""

from __future__ import annotations

import importlib.util
from pathlib import Path

# Modules get it from Ansible; here it is a file like any other.
_FILE = Path(__file__).resolve().parents[1] / "module_utils/secret_digests.py"
_SPEC = importlib.util.spec_from_file_location("secret_digests", _FILE)
digests = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(digests)

DOCUMENTATION = """
name: secret_digests
short_description: what the module stack_facts would say of a directory that has these secrets
description:
  - Returns the digest of each file, and the owner and mode of the directory under an empty name.
options:
  _input:
    description: The content of each file by name.
    type: dict
    required: true
  uid:
    description: The numeric user that may read them.
    type: int
    required: true
  key:
    description: The key of the digests.
    type: str
    required: true
"""

RETURN = """
_value:
  description: The digests by file name.
  type: dict
"""


def secret_digests(files, uid, key):
    """Return the digests of the files that a secret directory should have."""
    found = {
        name: digests.of_file(key, int(uid), digests.FILE, str(content))
        for name, content in files.items()
    }
    return {"": digests.of_directory(int(uid), digests.DIRECTORY), **found}


class FilterModule:
    """The filter's name."""

    def filters(self):
        """Return it with its function."""
        return {"secret_digests": secret_digests}
