"""Find out whether a release can serve, before anything is done for it; say where one of its static files is.

Runs in the application's directory with its environment, in a process of its own: a WSGI module may
begin threads. The argument is a JSON object: wsgi (what gunicorn is to serve, empty where it does
not serve) and commands (each process's, by its name).

Printed, as one JSON line: static (a path on this site; empty if there is no manifest of static
files, or they are elsewhere). The exit status is 0, or 1 where the release could not serve; one line
on stderr says why.
"""

import json
import os
import shutil
import signal
import sys
import traceback
from importlib.util import find_spec

SECONDS = 60


def problem(wsgi, commands):
    """Return in a sentence why a release could not serve; empty if it could."""
    if wsgi and find_spec("gunicorn") is None:
        return (
            "gunicorn is to serve the site, but is not in the project's requirements.txt (django_web_source): add it, "
            "or give the process web a command of its own in django_web_processes."
        )
    for name, words in commands.items():
        if shutil.which(words[0]) is None:
            return (
                f"django_web_processes gives {name} the command {words[0]}, which is not in the image: correct it, or add "
                "what it belongs to to the project's requirements.txt (django_web_source)."
            )
    if not wsgi:
        return ""
    from gunicorn.util import import_app

    try:
        import_app(wsgi)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a project's own code may raise anything
        # The last line of the project's own; what lies deeper is a library's.
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename.startswith(os.getcwd() + os.sep)]
        where = f" ({os.path.relpath(own[-1].filename)}, line {own[-1].lineno})" if own else ""
        words = " ".join(f"{type(error).__name__}: {error}".split())
        return f"django_web_wsgi is {wsgi}, which can't be imported{where}: {words}"
    return ""


def static():
    """Return the path of one file that the manifest of static files names; empty if there is none."""
    try:
        import django

        django.setup()
        from django.contrib.staticfiles.storage import staticfiles_storage

        names = getattr(staticfiles_storage, "hashed_files", None)
        url = staticfiles_storage.url(min(names)) if names else ""
    except Exception:  # noqa: BLE001 - what is wrong with the project is said elsewhere
        return ""
    return url if url.startswith("/") and not url.startswith("//") else ""


def too_long(*_):
    """End what does not end by itself."""
    raise TimeoutError(f"it did not end within {SECONDS} s")


def main():
    """Print the line, and end whatever else was begun."""
    sys.path.insert(0, os.getcwd())
    # What the project prints must not reach our one line.
    answers, sys.stdout = sys.stdout, sys.stderr
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    said = problem(**json.loads(sys.argv[1]))
    if said:
        print(said, file=sys.stderr, flush=True)
    else:
        print(json.dumps({"static": static()}), file=answers, flush=True)
    os._exit(1 if said else 0)


if __name__ == "__main__":
    main()
