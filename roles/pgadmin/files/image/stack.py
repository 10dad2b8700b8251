"""pgAdmin as a WSGI application whose login and server agree with the stack's settings."""

import os
import secrets
import sys
import sysconfig
from pathlib import Path

sys.path.insert(0, os.path.join(sysconfig.get_path("purelib"), "pgadmin4"))

EMAIL = os.environ["PGADMIN_EMAIL"]
PASSWORD = Path("/run/secrets/pgadmin_password").read_text(encoding="utf-8").rstrip("\n")
SERVER_ID = "postdo"  # marks the stack's own server, whatever name the user gives it

# pgAdmin creates its configuration database and first login while it is imported, and takes them
# from the environment, which the programs it starts meanwhile inherit. So the login is made with a
# password that nobody knows, and gets its own below, as at every start.
os.environ.update(PGADMIN_SETUP_EMAIL=EMAIL, PGADMIN_SETUP_PASSWORD=secrets.token_urlsafe(32))
from pgAdmin4 import app as application

del os.environ["PGADMIN_SETUP_EMAIL"], os.environ["PGADMIN_SETUP_PASSWORD"]

from flask_security.utils import hash_password, verify_password
from pgadmin.model import Server, ServerGroup, User, db
from pgadmin.utils.paths import get_storage_directory


def match_login() -> User:
    """Return the stack's login, the first one, after giving it its address and password."""
    user = User.query.order_by(User.id).first()
    if user.email != EMAIL:
        old_folder = get_storage_directory(user)
        user.email = user.username = EMAIL
        folder = get_storage_directory(user)
        if not os.listdir(folder):
            os.rename(old_folder, folder)
    if not verify_password(PASSWORD, user.password):
        user.password = hash_password(PASSWORD)
        # Passwords of the user's own servers are encrypted with the old one: ask for them again.
        Server.query.filter_by(user_id=user.id).update({"password": None, "save_password": 0})
    user.active, user.locked, user.login_attempts = True, False, 0
    return user


def match_server(user: User) -> None:
    """Give the stack's server its address; servers the user added are left alone."""
    server = Server.query.filter_by(user_id=user.id, discovery_id=SERVER_ID).first()
    if server is None:
        group = ServerGroup.query.filter_by(user_id=user.id).order_by(ServerGroup.id).first()
        server = Server(
            user_id=user.id,
            servergroup_id=group.id,
            discovery_id=SERVER_ID,
            save_password=0,
            use_ssh_tunnel=0,
            tunnel_authentication=0,
            tunnel_prompt_password=0,
            shared=False,
        )
        db.session.add(server)
    server.name = os.environ["PGADMIN_SERVER_NAME"]
    server.host = os.environ["DATABASE_HOST"]
    server.port = int(os.environ["DATABASE_PORT"])
    server.maintenance_db = os.environ["DATABASE_NAME"]
    server.username = os.environ["DATABASE_USER"]
    server.connection_params = {"passfile": "/.pgpass", "connect_timeout": 10, "sslmode": "prefer"}


def link_passfile(user: User) -> None:
    """Show pgAdmin the passfile in the user's folder; the file itself is never on a disk."""
    link = Path(get_storage_directory(user), ".pgpass")
    link.unlink(missing_ok=True)
    link.symlink_to("/tmp/pgpass")


with application.app_context():
    login = match_login()
    match_server(login)
    db.session.commit()
    link_passfile(login)
