"""Create the superuser named in the arguments, once; its password comes from a secret file.

Prints "created" or "present", or one line on stderr that says why not. The password is in no
argument and in no environment but this process's own, where Django's createsuperuser looks for it.
Where users are named by an address, a name that is none is left aside for the address. The
project's own createsuperuser is given what it takes; fields that it requires besides come from
DJANGO_SUPERUSER_FIELD, as ever.
"""

import argparse
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path

from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management import (
    CommandError,
    call_command,
    get_commands,
    load_command_class,
)
from django.core.management.base import BaseCommand
from django.db import DatabaseError, models
from django_rehearsal.entry import enter
from project_error import words


def create(asked):
    """Return "created" or "present"; raise CommandError or OSError if it cannot be done."""
    enter()
    model = get_user_model()
    name = asked.name
    field = model._meta.get_field(model.USERNAME_FIELD)
    by_address = isinstance(field, models.EmailField) or field.name == "email"
    if by_address and "@" not in name:
        name = asked.email
    # Nobody has two accounts whose addresses differ in their case alone.
    same = {f"{field.name}__iexact" if by_address else field.name: name}
    if model._base_manager.filter(**same).exists():
        return "present"
    password = asked.password_file.read_text(encoding="utf-8").rstrip("\n")
    if not password:
        raise CommandError(f"{asked.password_file} is empty: set django_web_superuser_password.")
    fields = {field.name: name}
    if "email" in model.REQUIRED_FIELDS:
        fields["email"] = asked.email
    given = {f"DJANGO_SUPERUSER_{key.upper()}": value for key, value in fields.items()}
    os.environ.update(given | {"DJANGO_SUPERUSER_PASSWORD": password})
    missing = _missing(model)
    command = _command()
    options = {"interactive": False, "verbosity": 0, **fields}
    taken = {action.dest for action in command.create_parser("", "createsuperuser")._actions}
    try:
        call_command(command, **{key: value for key, value in options.items() if key in taken})
    except CommandError as error:
        if not missing:
            raise
        names = ", ".join(f"DJANGO_SUPERUSER_{one.upper()}" for one in missing)
        raise CommandError(
            f"{error} {model._meta.label} requires {', '.join(missing)}: give {names} in django_web_environment."
        ) from error
    if not model._base_manager.filter(**same).exists():
        raise CommandError(f"the project's createsuperuser has made no user {name}.")
    return "created"


def _missing(model):
    """Return the fields that the model requires and nobody gives; what may be blank is given as blank."""
    missing = []
    for one in model.REQUIRED_FIELDS:
        variable = f"DJANGO_SUPERUSER_{one.upper()}"
        if model._meta.get_field(one).blank:
            os.environ.setdefault(variable, "")
        elif not os.environ.get(variable):
            missing.append(one)
    return missing


def _command():
    """Return the project's createsuperuser, which may be Django's."""
    found = get_commands()["createsuperuser"]
    return found if isinstance(found, BaseCommand) else load_command_class(found, "createsuperuser")


def main():
    """Parse the arguments and create the user if there is none of that name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("email")
    parser.add_argument("--password-file", type=Path, default="/run/secrets/superuser_password")
    asked = parser.parse_args()
    # Nobody is there to answer what the project might ask.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        # What the project itself prints must not reach our one word.
        with redirect_stdout(sys.stderr):
            answer = create(asked)
    except ValidationError as error:
        why = "; ".join(error.messages)
    except (CommandError, DatabaseError, ImproperlyConfigured, OSError) as error:
        why = str(error)
    except SystemExit as error:
        why = f"the project's createsuperuser ended with {error.code!r}"
    except Exception as error:  # noqa: BLE001 - the project's code may raise anything
        why = words(error)
    else:
        print(answer)
        return
    sys.exit(f"create_superuser.py: {' '.join(why.split())}")


if __name__ == "__main__":
    main()
