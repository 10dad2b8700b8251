"""Create the superuser named in the arguments, once; its password comes from a secret file.

Prints "created" or "present". The password is in no argument and in no environment but this
process's own, where Django's createsuperuser looks for it.
"""

import argparse
import os
import sys
from pathlib import Path

import django
from django.contrib.auth import get_user_model
from django.core.management import call_command


def main():
    """Parse the arguments and create the user if there is none of that name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("email")
    parser.add_argument("--password-file", type=Path, default="/run/secrets/superuser_password")
    asked = parser.parse_args()
    sys.path.insert(0, os.getcwd())
    django.setup()
    model = get_user_model()
    if model._default_manager.filter(**{model.USERNAME_FIELD: asked.name}).exists():
        print("present")
        return
    os.environ["DJANGO_SUPERUSER_PASSWORD"] = asked.password_file.read_text().rstrip("\n")
    fields = {model.USERNAME_FIELD: asked.name}
    if "email" in model.REQUIRED_FIELDS:
        fields["email"] = asked.email
    call_command("createsuperuser", interactive=False, verbosity=0, **fields)
    print("created")


if __name__ == "__main__":
    main()
