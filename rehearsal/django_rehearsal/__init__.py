"""What a Django project's migrations would do to its database, found out on a copy of it.

Runs in the project's own environment (its Python, its directory) against PostgreSQL, and need not be among
its INSTALLED_APPS: `python -m django_rehearsal OPERATION`. The modules `drift`, `policy`, `verdict` and what these
import need neither Django nor a database.
"""

# The line after which standard output has nothing but answers; before it is whatever an installation prints by itself.
ANSWERS = "django_rehearsal answers:"
