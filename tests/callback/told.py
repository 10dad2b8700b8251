"""Write down what variables are where the roles have looked, and before anything is checked or made."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ansible.plugins.callback import CallbackBase
from ansible.template import Templar

DOCUMENTATION = """
name: told
type: notification
short_description: the values of TOLD_NAMES into TOLD_FILE, as the last task of the first look has them
options: {}
"""


class CallbackModule(CallbackBase):
    """Reads the variables as a task of the role would."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "told"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_play_start(self, play):
        """Remember the play."""
        self._play = play

    def v2_runner_on_start(self, host, task):
        """Write at the task that refuses what can't work."""
        if task.name != "Refuse what cannot work":
            return
        manager = self._play.get_variable_manager()
        values = manager.get_vars(play=self._play, host=host, task=task)
        templar = Templar(loader=self._play.get_loader(), variables=values)
        names = json.loads(os.environ["TOLD_NAMES"])
        Path(os.environ["TOLD_FILE"]).write_text(
            json.dumps({name: templar.template(values[name]) for name in names})
        )
