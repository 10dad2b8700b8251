"""One logging configuration for Django and for the server in front of it.

It needs no settings, so a gunicorn configuration can say
`logconfig_dict = logging_config("json", "INFO")` and all lines of a process look alike.
"""

from typing import Any


def logging_config(log_format: str, level: str) -> dict[str, Any]:
    """Return a logging.config dictionary that writes everything to standard output.

    `log_format` is `text` or `json` (one object per line); `level` is a level's name.
    """
    to_root = {"handlers": [], "propagate": True, "level": "NOTSET"}
    # gunicorn cuts its loggers off from the root, so they need the handler themselves.
    direct = {"handlers": ["stdout"], "propagate": False, "level": level}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "text": {"format": "{asctime} {levelname:<7} {name}: {message}", "style": "{"},
            "json": {
                "()": "pythonjsonlogger.json.JsonFormatter",
                "format": "{levelname}{name}{message}",
                "style": "{",
                "rename_fields": {"levelname": "level", "name": "logger"},
                "timestamp": True,
            },
        },
        "handlers": {
            "stdout": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stdout",
                "formatter": log_format,
            },
        },
        "root": {"handlers": ["stdout"], "level": level},
        "loggers": {
            # Django's own handlers go to standard error and to mail: replaced by the root's.
            "django": to_root,
            "django.server": to_root,
            "gunicorn.error": direct,
            "gunicorn.access": direct,
        },
    }
