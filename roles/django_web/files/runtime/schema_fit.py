"""Say, as a JSON object whose `unfit` is a list of sentences, why this release could not work with the schema as it is now.

The module django_rehearsal.fit says what is looked at.
"""

import json

from django.db import DEFAULT_DB_ALIAS, connections
from django_rehearsal.entry import enter
from django_rehearsal.fit import reasons

if __name__ == "__main__":
    enter()
    # On a line of its own, whatever the project has printed.
    print("\n" + json.dumps({"unfit": reasons(connections[DEFAULT_DB_ALIAS])}))
