"""Name an image by its content, and pack what it is built from."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
import tarfile
import tempfile
import time

from ansible.errors import AnsibleLookupError
from ansible.plugins.loader import lookup_loader
from ansible.plugins.lookup import LookupBase
from ansible_collections.community.docker.plugins.module_utils._api.utils.build import exclude_paths

DOCUMENTATION = """
name: build_context
short_description: the content hash of an image's build context
description:
  - Returns the first 12 hexadecimal digits of the SHA-256 over all files of the context (path,
    executable bit, content) and the given text. Same content, same name.
  - A directory's C(.dockerignore) is respected. Times and owners do not count.
  - Of a project, it takes what the lookup C(left_out) leaves, and its empty directories.
options:
  _terms:
    description: The parts, each a dictionary of C(src), a file or a directory, and C(dest), its
      place in the context (a directory's default is the root of the context). The directory of a project has
      C(project), a dictionary of the options of the lookup C(left_out).
    required: true
  text:
    description: What else makes the image another one, such as its base and its build arguments.
    type: raw
    default: ""
  exclude:
    description: Patterns, in the syntax of .dockerignore, left out of every directory that is no project.
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


def _entries(part, exclude, choose):
    """Return {place in the context: path on disk} of a part: files, links, and the empty directories of a project."""
    source, dest = part["src"], part.get("dest", "")
    if not os.path.isdir(source):
        return {dest or os.path.basename(source): source}
    if "project" in part:
        choice = choose(source, **part["project"])
        places = choice.files + choice.folders
    else:
        patterns = list(exclude)
        ignore = os.path.join(source, ".dockerignore")
        if os.path.exists(ignore):
            with open(ignore, encoding="utf-8") as lines:
                stripped = (line.strip() for line in lines)
                patterns += [line for line in stripped if line and not line.startswith("#")]
        places = exclude_paths(source, patterns)
        paths = {place: os.path.join(source, place) for place in places}
        places = [
            place for place, path in paths.items() if os.path.islink(path) or os.path.isfile(path)
        ]
    return {os.path.join(dest, place): os.path.join(source, place) for place in places}


def _is_folder(path):
    """Return whether a path is a directory, and not a link to one."""
    return os.path.isdir(path) and not os.path.islink(path)


def _folders(place):
    """Yield the directories above a place in the context."""
    while place := os.path.dirname(place):
        yield place


def _content(path):
    """Return (mode, bytes) of a file; of a link, the place it points to."""
    if os.path.islink(path):
        return 0o777, os.fsencode(os.readlink(path))
    mode = 0o755 if os.stat(path).st_mode & stat.S_IXUSR else 0o644
    with open(path, "rb") as handle:
        return mode, handle.read()


def _pack(entries, digest, tar):
    """Feed a digest with all entries in order and, if a tar is given, write them there.

    entries: {place in the context: path on disk}. Raise OSError, its filename set, for what can't be read.
    """
    if tar:
        # Named, so that they do not get their mode from the umask of whoever unpacks.
        folders = {up for place in entries for up in _folders(place)}
        folders |= {place for place, path in entries.items() if _is_folder(path)}
        for folder in sorted(folders):
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
    for place, path in sorted(entries.items()):
        name = os.fsencode(place)
        if _is_folder(path):
            digest.update(name + b"\0folder\0")
            continue
        mode, content = _content(path)
        digest.update(name + f"\0{mode:o}\0{len(content)}\0".encode() + content)
        if not tar:
            continue
        member = tarfile.TarInfo(place)
        member.mode = mode
        if os.path.islink(path):
            member.type, member.linkname = tarfile.SYMTYPE, os.fsdecode(content)
            tar.addfile(member)
        else:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


class LookupModule(LookupBase):
    """Implements C(build_context)."""

    def run(self, terms, variables=None, **kwargs):
        """Return the context's hash in a list; raise AnsibleLookupError for what is missing or can't be read."""
        self.set_options(var_options=variables, direct=kwargs)
        digest = hashlib.sha256(repr(self.get_option("text")).encode())
        project = lookup_loader.get("left_out", class_only=True)
        entries = {}
        for part in terms:
            if not os.path.exists(part["src"]):
                raise AnsibleLookupError(f"{part['src']} does not exist.")
            entries.update(_entries(part, self.get_option("exclude"), project.choose))
        try:
            if archive := self.get_option("archive"):
                self._write(archive, entries, digest)
            else:
                _pack(entries, digest, None)
        except OSError as error:
            raise AnsibleLookupError(project.unreadable(error.filename, error)) from error
        return [digest.hexdigest()[:12]]

    @staticmethod
    def _write(archive, entries, digest):
        """Write the archive and feed the digest; whoever reads the archive meanwhile has the old one, whole."""
        folder = os.path.dirname(archive)
        os.makedirs(folder, exist_ok=True)
        # They are needed for as long as they are unpacked; yesterday's only fill the disk.
        for old in os.scandir(folder):
            # Another run may be doing the same.
            with contextlib.suppress(FileNotFoundError):
                if old.stat().st_mtime < time.time() - 86400:
                    os.unlink(old)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as aside:
            try:
                with tarfile.open(fileobj=aside, mode="w") as tar:
                    _pack(entries, digest, tar)
                os.replace(aside.name, archive)
            except BaseException:
                os.unlink(aside.name)
                raise
