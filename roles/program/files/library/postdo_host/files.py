"""How a file is written that must never be seen half written."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, text: str, mode: int = 0o644) -> None:
    """Put a file in the place of another in one step, so that a full disk or an end in between leaves the other.

    It is written beside it, with the suffix .new.
    """
    new = path.with_suffix(".new")
    with new.open("w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
