"""What every program on a host has from the library that they share."""

import os
import sys
import time
from pathlib import Path

import pytest

ROLES = Path(__file__).resolve().parent.parent / "roles"
sys.path.insert(0, str(ROLES / "program/files/library"))

from postdo_host.files import write_whole
from postdo_host.stopwatch import Stopwatch


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    write_whole(path, "old", 0o600)
    assert path.stat().st_mode & 0o777 == 0o600

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    monkeypatch.undo()
    # What was left beside it is no hindrance.
    write_whole(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [*tmp_path.iterdir()] == [path]


def test_a_step_is_measured_however_it_ends_and_goes_on_when_it_comes_again(monkeypatch):
    now = iter([10, 11.5, 20, 22])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    watch = Stopwatch()
    with watch.step("copy"):
        pass
    with pytest.raises(ValueError, match="no"), watch.step("copy"):
        raise ValueError("no")
    assert watch.steps == {"copy": 3.5}
    assert str(watch) == "3.5 s (copy 3.5)"
