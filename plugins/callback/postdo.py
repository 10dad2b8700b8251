"""Ansible's output for people: what is being done, for how long, and what went wrong."""

from __future__ import annotations

import os
import sys
import threading
import time

from ansible import constants as C
from ansible.plugins.callback.default import CallbackModule as Default

DOCUMENTATION = """
name: postdo
type: stdout
short_description: one line per change, with its duration
description:
  - Prints a line for each task that changed something, failed, or took longer than a second.
  - In a terminal the running task is shown with its elapsed seconds; in a pipe a task that takes
    long says so from time to time, so that neither is ever silent.
  - The text of a debug task is printed as it is. With -v every task is shown as in the output that is the default of Ansible.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
options:
  quiet:
    description: Print only the text of debug tasks, and failures.
    type: bool
    default: false
    env: [{name: POSTDO_QUIET}]
    ini: [{section: callback_postdo, key: quiet}]
  notice_seconds:
    description: How often a task that takes long says so in a pipe.
    type: int
    default: 20
    env: [{name: POSTDO_NOTICE_SECONDS}]
    ini: [{section: callback_postdo, key: notice_seconds}]
"""

_SLOW_SECONDS = 1.0

# What happens often and matters rarely: shown with -v only.
_VERBOSE_ONLY = (
    "v2_runner_on_skipped",
    "v2_runner_retry",
    "v2_runner_item_on_ok",
    "v2_runner_item_on_failed",
    "v2_runner_item_on_skipped",
    "v2_playbook_on_include",
    "v2_playbook_on_no_hosts_matched",
)


class CallbackModule(Default):
    """The stdout callback selected in ansible.cfg."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "postdo"

    def __init__(self):
        super().__init__()
        self._begun = time.monotonic()
        self._task_begun = self._begun
        self._task_name = ""
        self._tasks = 0
        self._heading = ""
        self._hosts = 1
        self._terminal = sys.stdout.isatty()
        self._running = threading.Event()
        self._lock = threading.Lock()

    # -- what runs now ----------------------------------------------------------------------

    def _start(self, task):
        self._tasks += 1
        self._task_begun = time.monotonic()
        self._task_name = task.get_name().rsplit(" : ", 1)[-1].strip()
        if not self._running.is_set() and not self._verbose() and not self.get_option("quiet"):
            self._running.set()
            threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self):
        told, interval = 0, self.get_option("notice_seconds")
        while self._running.is_set():
            time.sleep(0.2)
            elapsed = int(time.monotonic() - self._task_begun)
            with self._lock:
                # Unbuffered: a worker forked in this moment must not inherit a locked buffer.
                if self._terminal and elapsed >= 1:
                    os.write(1, f"\r\x1b[K  … {self._task_name}  {elapsed} s".encode())
                elif not self._terminal and elapsed // interval > told:
                    os.write(1, f"  … {self._task_name}  {elapsed} s\n".encode())
            told = elapsed // interval

    def _verbose(self):
        return self._display.verbosity > 0

    def _say(self, text, color=None):
        with self._lock:
            if self._terminal:
                os.write(1, b"\r\x1b[K")
            self._display.display(text, color=color)

    def _line(self, word, result, color, name=None):
        # A play's name is a heading: without a line below it, it is left out.
        if self._heading:
            self._say(self._heading, C.COLOR_HIGHLIGHT)
            self._heading = ""
        took = time.monotonic() - self._task_begun
        host = f"[{result.host.get_name()}] " if self._hosts > 1 else ""
        self._say(f"  {word:<8} {host}{name or self._task_name}  {took:.1f} s", color)

    # -- what Ansible tells -----------------------------------------------------------------

    def v2_playbook_on_play_start(self, play):
        if self._verbose():
            super().v2_playbook_on_play_start(play)
            return
        self._play = play
        manager = play.get_variable_manager()
        self._hosts = len(manager._inventory.get_hosts(play.hosts)) if manager else 1
        self._heading = play.get_name().strip()

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._start(task)
        if self._verbose():
            super().v2_playbook_on_task_start(task, is_conditional)

    def v2_playbook_on_handler_task_start(self, task):
        self._start(task)
        if self._verbose():
            super().v2_playbook_on_handler_task_start(task)

    def v2_runner_on_ok(self, result):
        if self._verbose():
            super().v2_runner_on_ok(result)
            return
        outcome = result.result
        if result.task.action in ("debug", "ansible.builtin.debug"):
            for item in outcome.get("results") or [outcome]:
                if "msg" in item:
                    self._say(_text(item["msg"]).rstrip())
        elif self.get_option("quiet"):
            return
        elif outcome.get("changed"):
            self._line("changed", result, C.COLOR_CHANGED)
        elif time.monotonic() - self._task_begun >= _SLOW_SECONDS:
            self._line("ok", result, C.COLOR_OK)
        for warning in outcome.get("warnings") or []:
            self._say(f"  warning  {warning}", C.COLOR_WARN)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        if self._verbose():
            super().v2_runner_on_failed(result, ignore_errors)
            return
        if ignore_errors:
            return
        self._line("failed", result, C.COLOR_ERROR)
        outcome = result.result
        # Of a loop only what failed: items that were skipped, or went well, have nothing to say of it.
        items = outcome.get("results") or []
        for item in [one for one in items if one.get("failed")] or [outcome]:
            # What the failed program said is clearer than that it failed.
            said = item.get("stderr") or item.get("module_stderr") or item.get("stdout")
            message = item.get("msg") or item.get("censored") or "It does not say why."
            # Of a program the end; what this project says itself, whole.
            for line in _text(said or message).strip().splitlines()[-20 if said else 0 :]:
                self._say(f"           {line}", C.COLOR_ERROR)

    def v2_runner_on_unreachable(self, result):
        if self._verbose():
            super().v2_runner_on_unreachable(result)
            return
        self._line("unreachable", result, C.COLOR_UNREACHABLE)
        self._say(f"           {result.result.get('msg', '')}", C.COLOR_UNREACHABLE)

    def v2_playbook_on_stats(self, stats):
        self._running.clear()
        if self.get_option("quiet") and not self._verbose():
            return
        took = time.monotonic() - self._begun
        self._say(f"\nPLAY RECAP  {self._tasks} tasks in {took:.1f} s", C.COLOR_HIGHLIGHT)
        for host in sorted(stats.processed):
            counts = stats.summarize(host)
            color = C.COLOR_ERROR if counts["failures"] or counts["unreachable"] else C.COLOR_OK
            self._say(
                f"{host} : ok={counts['ok']} changed={counts['changed']} "
                f"unreachable={counts['unreachable']} failed={counts['failures']} "
                f"skipped={counts['skipped']}",
                color,
            )


def _text(said):
    """Return what a result says, a text or a list of texts, as one text."""
    return "\n".join(map(_text, said)) if isinstance(said, list) else str(said)


def _only_verbose(name):
    """Return Ansible's own hook of this name, silent without -v."""
    default = getattr(Default, name)

    def hook(self, *arguments, **keywords):
        if self._verbose():
            default(self, *arguments, **keywords)

    return hook


for _name in _VERBOSE_ONLY:
    setattr(CallbackModule, _name, _only_verbose(_name))
