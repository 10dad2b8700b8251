"""What can be said of a secret without giving it away: its digest under a key that only the environment has.

A plain hash of a password could be guessed by whoever reads it.
"""

from __future__ import annotations

import hashlib
import hmac

# The modes of a secret, and of the directory that holds those of one container.
FILE, DIRECTORY = 0o400, 0o500


def digest(key: str, text: str) -> str:
    """Return 32 hexadecimal digits of the HMAC-SHA-256 of a text."""
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()[:32]


def of_file(key: str, uid: int, mode: int, content: str) -> str:
    """Return the digest of a secret's owner, mode and content."""
    return digest(key, f"{uid} {mode:o}\0{content}")


def of_directory(uid: int, mode: int) -> str:
    """Return a directory's owner and mode, as they stand beside the digests of its files."""
    return f"{uid} {mode:o}"
