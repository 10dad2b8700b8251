"""What `./run.sh test` prints of its steps: their times, and last of all why any failed."""

import ast
import re
from pathlib import Path

import pytest
from steps import Step, fingerprint, reason, run

GOOD = Step("good", "A good one", (("sh", "-c", "echo well; echo once >> ran"),))
BAD = Step("bad", "A bad one", (("sh", "-c", "echo 'E   the cause'; echo noise; exit 3"),))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Work in an empty directory, and return where the logs go."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".cache/tests"


def test_the_cause_of_a_failure_stands_last_whatever_ran_after_it(place, capfdbinary):
    assert run([BAD, GOOD], place) == 1
    said = capfdbinary.readouterr().out.decode().splitlines()
    assert said[-1] == "E   the cause"
    assert said.index("noise") < said.index("well") < said.index("== Seconds by step")
    assert [line.split()[::2] for line in said if re.match("(bad|good) ", line)] == [
        ["bad", "FAILED"],
        ["good", "passed"],
    ]


def test_a_step_stops_at_its_first_command_that_fails(place):
    step = Step("two", "Two", (("false",), ("touch", "second")))
    assert run([step], place) == 1
    assert not (place.parents[1] / "second").exists()


def test_steps_in_a_tuple_run_side_by_side_and_each_is_told_of(place, capfdbinary):
    """Each of these waits for the other, and fails where that does not come."""

    def waiting(name, other):
        wait = f"touch {name}; for n in $(seq 100); do test -e {other} && break; sleep 0.1; done"
        return Step(
            name, f"Step {name}", (("sh", "-c", f"{wait}; echo said-{name}; test -e {other}"),)
        )

    bad = Step("bad", "A bad one", BAD.commands, vital=True)
    assert run([(waiting("one", "two"), waiting("two", "one")), GOOD], place) == 0
    said = capfdbinary.readouterr().out.decode()
    assert said.index("said-one") < said.index("said-two")
    assert run([(GOOD, bad), GOOD], place) == 1
    said = capfdbinary.readouterr().out.decode()
    assert said.splitlines()[-1] == "E   the cause"
    assert said.count("== A good one") == 1


def test_nothing_follows_a_step_that_the_others_need(place):
    vital = Step("bad", "A bad one", BAD.commands, vital=True)
    assert run([vital, GOOD], place) == 1
    assert not (place.parents[1] / "ran").exists()


def test_what_has_passed_is_not_run_again_until_a_file_changes(place, capfdbinary):
    source = place.parents[1] / "source"
    source.write_text("1")
    ran = place / "ran"
    good = Step("good", "A good one", (("sh", "-c", f"echo once >> {ran}"),))
    assert run([good, BAD], place, resume=True) == 1
    assert run([good, BAD], place, resume=True) == 1
    assert ran.read_text().split() == ["once"]
    assert "passed before" in capfdbinary.readouterr().out.decode()
    source.write_text("2")
    assert run([good], place, resume=True) == 0
    assert ran.read_text().split() == ["once", "once"]
    # Without the wish to go on, everything runs.
    assert run([good], place) == 0
    assert len(ran.read_text().split()) == 3


def test_a_fingerprint_is_of_names_and_contents_and_not_of_what_is_made(tmp_path):
    (tmp_path / "a").write_text("1")
    before = fingerprint(tmp_path)
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache/made").write_text("x")
    assert fingerprint(tmp_path) == before
    (tmp_path / "a").rename(tmp_path / "b")
    assert fingerprint(tmp_path) != before


def test_a_reason_is_taken_out_of_the_output_of_each_tool():
    ansible = "TASK [x]\nok: [a]\nfatal: [a]: FAILED! =>\n  msg: no room\n\nTASK [y]\nok: [b]\nPLAY RECAP\n"
    assert reason(ansible) == ["fatal: [a]: FAILED! =>", "  msg: no room"]
    pytests = "....\n>   assert 1\nE   assert 2\nFAILED tests/a.py::test_b\n1 failed\n"
    assert reason(pytests) == ["E   assert 2", "FAILED tests/a.py::test_b"]
    assert reason("\x1b[2m│\x1b[0m \x1b[31mfatal: [a]\x1b[0m") == ["│ fatal: [a]"]
    # What has no such line ends with what it said last.
    assert reason("one\ntwo\n") == ["one", "two"]


def test_what_only_the_full_run_tries_names_a_quicker_test_that_the_short_one_has():
    """A mark `full` says which other test notices the same fault; that one is not left out itself."""
    repository = Path(__file__).resolve().parent.parent
    named, there, left_out = set(), set(), set()
    for path in [
        *repository.glob("tests/**/test_*.py"),
        *repository.glob("molecule/*/tests/test_*.py"),
    ]:
        place = path.relative_to(repository)
        named |= set(re.findall(r'seen_by="(\w[^"]+)"', path.read_text()))
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                test = f"{place}::{node.name}"
                there.add(test)
                marks = [ast.unparse(mark) for mark in node.decorator_list]
                if any(mark.startswith("pytest.mark.full(") for mark in marks):
                    left_out.add(test)
    assert named
    assert named <= there
    assert not named & left_out
