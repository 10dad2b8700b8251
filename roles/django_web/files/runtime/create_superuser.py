"""Create the superuser named in the arguments, once; its password comes from a secret file.

Prints "created" or "present", or one line on stderr that says why not. The password is in no
argument and in no environment but this process's own, where Django's createsuperuser looks for it.
"""

import argparse
import os
import sys
from pathlib import Path

from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import DatabaseError
from django_rehearsal.entry import enter


def create(asked):
    """Return "created" or "present"; raise CommandError or OSError if it cannot be done."""
    enter()
    model = get_user_model()
    if model._default_manager.filter(**{model.USERNAME_FIELD: asked.name}).exists():
        return "present"
    password = asked.password_file.read_text(encoding="utf-8").rstrip("\n")
    if not password:
        raise CommandError(f"{asked.password_file} is empty: set django_web_superuser_password.")
    os.environ["DJANGO_SUPERUSER_PASSWORD"] = password
    fields = {model.USERNAME_FIELD: asked.name}
    if "email" in model.REQUIRED_FIELDS:
        fields["email"] = asked.email
    call_command("createsuperuser", interactive=False, verbosity=0, **fields)
    return "created"


def main():
    """Parse the arguments and create the user if there is none of that name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("email")
    parser.add_argument("--password-file", type=Path, default="/run/secrets/superuser_password")
    try:
        print(create(parser.parse_args()))
    except (CommandError, DatabaseError, ImproperlyConfigured, OSError) as error:
        sys.exit(f"create_superuser.py: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()
