"""The lines that a process writes, read back as a log collector would."""

import json
import subprocess
import sys

from django.conf import settings
from django.test import SimpleTestCase

LOGGERS = ("app", "django.request", "django.server", "gunicorn.error", "gunicorn.access")

SCRIPT = """
import logging, logging.config, sys
from config.logs import logging_config
from django.utils.log import DEFAULT_LOGGING

logging.config.dictConfig(DEFAULT_LOGGING)
logging.config.dictConfig(logging_config(sys.argv[1], "INFO"))
for name in sys.argv[2:]:
    logging.getLogger(name).debug("too quiet")
    logging.getLogger(name).info("two\\nlines of %s", name, extra={"status_code": 500})
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("django.request").exception("broken")
"""


class LogTest(SimpleTestCase):
    """Everything goes to standard output, once."""

    def write(self, log_format: str) -> list[str]:
        """Return the lines of a process that logs."""
        command = [sys.executable, "-c", SCRIPT, log_format, *LOGGERS]
        result = subprocess.run(
            command, cwd=settings.BASE_DIR, capture_output=True, text=True, check=False
        )
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return result.stdout.splitlines()

    def test_json_is_one_object_per_line(self) -> None:
        lines = [json.loads(line) for line in self.write("json")]
        self.assertEqual(
            [line["logger"] for line in lines],
            [*LOGGERS, "django.request"],
        )
        self.assertEqual(lines[0]["message"], "two\nlines of app")
        self.assertEqual((lines[0]["level"], lines[0]["status_code"]), ("INFO", 500))
        self.assertRegex(lines[0]["timestamp"], r"^\d{4}-\d\d-\d\dT.*\+00:00$")
        self.assertIn("ZeroDivisionError", lines[-1]["exc_info"])

    def test_text_is_for_people(self) -> None:
        self.assertRegex(self.write("text")[0], r"^\d{4}-\d\d-\d\d .* INFO +app: two$")
