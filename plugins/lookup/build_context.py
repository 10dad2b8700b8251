"""Name an image by its content, and pack what it is built from."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
import tarfile
import time

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.community.docker.plugins.module_utils._api.utils.build import exclude_paths

DOCUMENTATION = """
name: build_context
short_description: the content hash of an image's build context
description:
  - Returns the first 12 hexadecimal digits of the SHA-256 over all files of the context (path,
    executable bit, content) and the given text. Same content, same name.
  - A directory's C(.dockerignore) is respected. Times and owners do not count.
options:
  _terms:
    description: The parts, each a dictionary of C(src), a file or a directory, and C(dest), its
      place in the context (a directory's default is the root of the context).
    required: true
  text:
    description: What else makes the image another one, such as its base and its build arguments.
    type: raw
    default: ""
  exclude:
    description: Patterns, in the syntax of .dockerignore, left out of every directory.
    type: list
    elements: str
    default: []
  archive:
    description: Also write the context there as a tar file (path on the controller).
    type: path
"""

RETURN = """
_raw:
  description: The hash.
  type: list
  elements: str
"""


def _files(part, exclude):
    """Yield (place in the context, path on disk) of every file and link of a part."""
    source, dest = part["src"], part.get("dest", "")
    if not os.path.isdir(source):
        yield dest or os.path.basename(source), source
        return
    patterns = list(exclude)
    ignore = os.path.join(source, ".dockerignore")
    if os.path.exists(ignore):
        with open(ignore, encoding="utf-8") as lines:
            stripped = (line.strip() for line in lines)
            patterns += [line for line in stripped if line and not line.startswith("#")]
    for relative in exclude_paths(source, patterns):
        path = os.path.join(source, relative)
        if os.path.islink(path) or os.path.isfile(path):
            yield os.path.join(dest, relative), path


def _folders(place):
    """Yield the directories above a place in the context."""
    while place := os.path.dirname(place):
        yield place


def _content(path):
    """Return (mode, bytes) of a file; of a link, the place it points to."""
    if os.path.islink(path):
        return 0o777, os.readlink(path).encode()
    mode = 0o755 if os.stat(path).st_mode & stat.S_IXUSR else 0o644
    with open(path, "rb") as handle:
        return mode, handle.read()


class LookupModule(LookupBase):
    """Implements C(build_context)."""

    def run(self, terms, variables=None, **kwargs):
        """Return the context's hash in a list; raise AnsibleLookupError for a missing part."""
        self.set_options(var_options=variables, direct=kwargs)
        digest = hashlib.sha256(repr(self.get_option("text")).encode())
        entries = {}
        for part in terms:
            if not os.path.exists(part["src"]):
                raise AnsibleLookupError(f"{part['src']} does not exist.")
            entries.update(_files(part, self.get_option("exclude")))
        archive = self.get_option("archive")
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            # Named, so that they do not get their mode from the umask of whoever unpacks.
            for folder in sorted({up for place in entries for up in _folders(place)}):
                member = tarfile.TarInfo(folder)
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(member)
            for place, path in sorted(entries.items()):
                mode, content = _content(path)
                link = os.path.islink(path)
                digest.update(f"{place}\0{mode:o}\0{len(content)}\0".encode() + content)
                if archive:
                    member = tarfile.TarInfo(place)
                    member.mode = mode
                    if link:
                        member.type, member.linkname = tarfile.SYMTYPE, content.decode()
                        tar.addfile(member)
                    else:
                        member.size = len(content)
                        tar.addfile(member, io.BytesIO(content))
        if archive:
            folder = os.path.dirname(archive)
            os.makedirs(folder, exist_ok=True)
            # They are needed for as long as they are unpacked; yesterday's only fill the disk.
            for old in os.scandir(folder):
                # Another run may be doing the same.
                with contextlib.suppress(FileNotFoundError):
                    if old.stat().st_mtime < time.time() - 86400:
                        os.unlink(old)
            with open(archive, "wb") as handle:
                handle.write(packed.getvalue())
        return [digest.hexdigest()[:12]]
