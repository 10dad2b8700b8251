"""pgAdmin's settings; pgAdmin itself reads them from /etc/pgadmin/config_system.py."""

import hashlib
import os

SERVER_MODE = True
DATA_DIR = "/var/lib/pgadmin"
LOG_FILE = "/dev/null"  # the console is the log

# The login's password is asked for once; a master password would be a second one.
MASTER_PASSWORD_REQUIRED = False
USE_OS_SECRET_STORAGE = False

# Nothing here talks to the outside.
UPGRADE_CHECK_ENABLED = False
SHOW_GRAVATAR_IMAGE = False
LLM_ENABLED = False
CHECK_EMAIL_DELIVERABILITY = False
GLOBALLY_DELIVERABLE = False  # admin@postdo.local is a good login too
ALLOW_SPECIAL_EMAIL_DOMAINS = ["internal", "invalid", "local", "localhost", "test"]

# Browsers share a host's cookies between its ports: each environment needs its own name.
SESSION_COOKIE_NAME = (
    "pgadmin_"
    + hashlib.sha256(
        f"{os.environ['DATABASE_HOST']}:{os.environ['DATABASE_PORT']}/"
        f"{os.environ['DATABASE_NAME']}".encode()
    ).hexdigest()[:12]
)
# No proxy stands in front, so a client's word about its own address is not believed.
PROXY_X_FOR_COUNT = PROXY_X_PROTO_COUNT = PROXY_X_PORT_COUNT = 0

DEFAULT_BINARY_PATHS = {"pg": "/usr/local/bin", "pg-17": "/usr/local/bin"}
