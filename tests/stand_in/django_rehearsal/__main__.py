"""What the package says in a release without a project or a database: there is nothing to migrate."""

import json

NOTHING = ("recorded", "pending", "ghosts", "strangers", "ailments", "invalid_indexes")
print(
    json.dumps(
        {name: [] for name in NOTHING}
        | {"conflicts": {}, "problem": "", "files": {}, "catalog": {}}
    )
)
