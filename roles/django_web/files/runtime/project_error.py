"""Say in one line what fails in a project's own code. As a program: run one of the project's so.

python /opt/postdo/project_error.py manage.py collectstatic
"""

import linecache
import os
import runpy
import sys
import traceback
from pathlib import Path


def words(error):
    """Return in one line what an error says, and the last line of the project's code that led to it."""
    settings = os.environ.get("DJANGO_SETTINGS_MODULE", "")
    lacking = error.name if isinstance(error, ModuleNotFoundError) and error.name else ""
    if lacking and f"{settings}.".startswith(f"{lacking}."):
        return (
            f"django_web_settings is {settings}, and the project has no module {lacking}: "
            "set django_web_settings to the module of its settings."
        )
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    if lacking:
        said += ", neither in the project nor by its requirements.txt"
    if isinstance(error, KeyError) and frames[-1][0] in ("<frozen os>", os.__file__):
        said = (
            f"the environment variable {error.args[0]} is not set; django_web_environment gives it to the application, "
            "and not to the build of a release, where settings must load without it"
        )
    if isinstance(error, SyntaxError) and error.filename:
        frames.append((error.filename, error.lineno))
    own = [(place, line) for place, line in frames if _is_own(place)]
    where = ""
    if own:
        place, line = own[-1]
        code = linecache.getline(place, line).strip() if line else ""
        where = (
            f" ({Path(place).resolve().relative_to(Path.cwd())}, line {line}{code and ': '}{code})"
        )
    return " ".join(f"{type(error).__name__}: {said}{where}".split())


def _is_own(place):
    """Return whether a file is the project's, and says more than that a command was run."""
    path = Path(place).resolve()
    return (
        path.is_file()
        and path.is_relative_to(Path.cwd())
        and "site-packages" not in path.parts
        and path.name != "manage.py"
    )


def main():
    """Run the program that the arguments name."""
    program = sys.argv[1]
    # As where Python itself is given the program.
    del sys.argv[0]
    sys.path[0] = str(Path(program).resolve().parent)
    try:
        runpy.run_path(program, run_name="__main__")
    except Exception as error:  # noqa: BLE001 - the project's code may raise anything
        sys.exit(f"{program}: {words(error)}")


if __name__ == "__main__":
    main()
