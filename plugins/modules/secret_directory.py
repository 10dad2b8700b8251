#!/usr/bin/python
"""Keep one container's directory of secret files."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, datetime

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: secret_directory
short_description: a directory that holds the given secret files
description:
  - Writes each file aside and renames it, so that a reader sees the old or the new secret, never a
    cut one. Nothing of the content is ever returned.
options:
  path:
    description: The directory. Missing parents are made, for root alone to list.
    type: path
    required: true
  uid:
    description: The numeric user that may read the files, and nobody else.
    type: int
    required: true
  files:
    description: The content of each file by name.
    type: dict
    required: true
  prune:
    description: Whether files that are not listed are removed.
    type: bool
    default: true
"""

RETURN = """
written:
  description: Names of the files that were written.
  type: list
  elements: str
removed:
  description: Names of the files that were removed.
  type: list
  elements: str
modified:
  description: The latest modification of a file, ISO 8601 in UTC; later than a container's start, it needs a restart.
  type: str
"""


def _matches(path, content, uid):
    """Return whether a file has this content, owner and mode 0400."""
    try:
        status = os.stat(path)
        with open(path, encoding="utf-8", newline="") as handle:
            same = handle.read() == content
    except (FileNotFoundError, UnicodeDecodeError):
        return False
    return same and status.st_uid == uid and status.st_mode & 0o777 == 0o400


def _write(directory, name, content, uid):
    """Replace a file in one step."""
    descriptor, aside = tempfile.mkstemp(prefix=".new-", dir=directory)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as handle:
            handle.write(content)
            handle.flush()
            os.fchmod(handle.fileno(), 0o400)
            os.fchown(handle.fileno(), uid, -1)
            os.fsync(handle.fileno())
        os.rename(aside, os.path.join(directory, name))
    except BaseException:
        os.unlink(aside)
        raise


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "uid": {"type": "int", "required": True},
            "files": {"type": "dict", "required": True, "no_log": True},
            "prune": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    path, uid, files = (module.params[key] for key in ("path", "uid", "files"))
    for name, text in files.items():
        if not isinstance(text, str):
            module.fail_json(msg=f"The content of {name} is not a text: quote it where it is set.")
    present = set(os.listdir(path)) if os.path.isdir(path) else set()
    written = sorted(
        name for name, text in files.items() if not _matches(os.path.join(path, name), text, uid)
    )
    removed = sorted(present - set(files)) if module.params["prune"] else []
    status = os.stat(path) if os.path.isdir(path) else None
    guarded = status and status.st_uid == uid and status.st_mode & 0o777 == 0o500
    changed = bool(written or removed or not guarded)
    if changed and not module.check_mode:
        os.umask(0o066)
        os.makedirs(path, exist_ok=True)
        os.chown(path, uid, -1)
        os.chmod(path, 0o700)
        for name in written:
            _write(path, name, files[name], uid)
        for name in removed:
            os.unlink(os.path.join(path, name))
        os.chmod(path, 0o500)
    paths = [os.path.join(path, name) for name in files]
    latest = max((os.stat(file).st_mtime for file in paths if os.path.exists(file)), default=0)
    stamp = datetime.fromtimestamp(latest, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    module.exit_json(changed=changed, written=written, removed=removed, modified=stamp)


if __name__ == "__main__":
    main()
