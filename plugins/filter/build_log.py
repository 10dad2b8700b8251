"""What a build that failed said, for people."""

from __future__ import annotations

import ast
import re

DOCUMENTATION = """
name: build_log
short_description: the lines of a failed build
description:
  - Takes the message of community.docker.docker_image, which ends with the log as a list in Python's words, and
    returns what the last step said, in lines without colours, without what the engine adds, and without the users and
    passwords of addresses. A message of another kind is returned line by line.
options:
  _input:
    description: The message.
    type: str
    required: true
"""

RETURN = """
_value:
  description: The lines.
  type: list
  elements: str
"""

_COLOUR = re.compile(r"\x1b\[[0-9;]*[a-zA-Z]")
_ACCESS = re.compile(r"://[^/@\s]+@")
_STEP = re.compile(r"Step \d+/\d+ : ")
# Where it keeps what it makes, which is gone when the build has failed.
_ENGINE = re.compile(r"---> |Removing intermediate container ")


def build_log(message):
    """Return the lines of a failed build."""
    said, _, log = str(message).partition(", logs: ")
    try:
        lines = ast.literal_eval(log)
    except (SyntaxError, ValueError):
        said, lines = "", str(message).splitlines()
    plain = (_ACCESS.sub("://", _COLOUR.sub("", line)).rstrip() for line in lines)
    told = [line for line in plain if line.strip() and not _ENGINE.match(line.strip())]
    step = max((number for number, line in enumerate(told) if _STEP.match(line)), default=-1)
    # A step that says nothing was not begun: then the engine says why.
    return told[step + 1 :] or [*told[-1:], said.rpartition("message: ")[2]]


class FilterModule:
    """The filter's name."""

    def filters(self):
        """Return it with its function."""
        return {"build_log": build_log}
