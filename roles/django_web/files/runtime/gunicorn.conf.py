"""How gunicorn serves a release; what an operator changes comes from the environment."""

import importlib.util
import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
import bodies


def _cpus():
    """Return the CPUs that the container may use: its quota, else the machine's."""
    for quota, period in (
        ("/sys/fs/cgroup/cpu.max", None),
        ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
    ):
        try:
            words = Path(quota).read_text(encoding="ascii").split()
            words += Path(period).read_text(encoding="ascii").split() if period else []
        except OSError:
            continue
        if words[0] not in ("max", "-1"):
            return max(1, int(words[0]) // int(words[1]))
    return len(os.sched_getaffinity(0))


def _memory():
    """Return the MiB that the container may use, or very many where there is no limit."""
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            word = Path(limit).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if word != "max":
            return int(word) // 2**20
    return 2**20


# A socket below /run is for the proxy, which is of the same group.
bind = os.environ.get("GUNICORN_BIND", "0.0.0.0:8000")
umask = 0o007
worker_class = "gthread"
# As many as the CPUs can keep busy, and no more than the memory holds: 80 MiB are twice what a worker of the example
# application has of its own, and leave it room.
workers = int(os.environ.get("GUNICORN_WORKERS") or max(1, min(_cpus() + 1, _memory() // 80)))
threads = int(os.environ.get("GUNICORN_THREADS", "4"))
# Heartbeats in memory: on a disk that stalls, healthy workers would be killed.
worker_tmp_dir = "/dev/shm"
# Workers are renewed after a while, not all at once.
max_requests = int(os.environ.get("GUNICORN_MAX_REQUESTS", "2000"))
max_requests_jitter = max_requests // 5
timeout = int(os.environ.get("GUNICORN_TIMEOUT", "30"))
# Requests in flight end before the container's own stop time-out kills them.
graceful_timeout = int(os.environ.get("GUNICORN_GRACEFUL_TIMEOUT", "30"))
keepalive = 5
# The proxy has measured a request's head already (32 KiB and a little for all of it), so nothing that it lets through is
# too long here: 0 is no limit, and fields may be as many as fit into that.
limit_request_line = 0
limit_request_fields = 32768
limit_request_field_size = 2**16
# The container publishes on loopback or sits behind the proxy; nobody else reaches it.
forwarded_allow_ips = "*"
# No header of a visitor's may move the application to another path.
forwarder_headers = ""
control_socket_disable = True


def post_worker_init(worker):
    """Let the application see bodies whole; another kind of worker, of a command of one's own, does so itself."""
    if worker.cfg.worker_class_str == worker_class:
        worker.wsgi = bodies.whole(worker.wsgi)


def post_request(worker, req, environ, resp):
    """Give back what a request has taken of the disk."""
    bodies.end(environ)


def child_exit(server, worker):
    """Remove what a worker left, however it ended."""
    bodies.clear()


accesslog = "-"
errorlog = "-"
# Lines look like the application's own; a project without the JSON library gets text.
_json_wanted = os.environ.get("DJANGO_LOG_FORMAT") == "json"
_json = {
    "()": "pythonjsonlogger.json.JsonFormatter",
    "format": "{levelname}{name}{message}",
    "style": "{",
    "rename_fields": {"levelname": "level", "name": "logger"},
    "timestamp": True,
}
_text = {"format": "{asctime} {levelname:<7} {name}: {message}", "style": "{"}
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": _json if _json_wanted and importlib.util.find_spec("pythonjsonlogger") else _text,
    },
    "handlers": {
        "stdout": {
            "class": "logging.StreamHandler",
            "stream": "ext://sys.stdout",
            "formatter": "line",
        },
    },
    "root": {"handlers": ["stdout"], "level": "INFO"},
    "loggers": {
        "gunicorn.error": {"handlers": ["stdout"], "level": "INFO", "propagate": False},
        "gunicorn.access": {"handlers": ["stdout"], "level": "INFO", "propagate": False},
    },
}
