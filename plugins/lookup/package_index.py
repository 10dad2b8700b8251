"""Give the builds of images the index of Python packages that pip and uv use here."""

from __future__ import annotations

import ast
import netrc
import os
import re
import shlex
import subprocess
import sys
import tomllib
from urllib.parse import quote, urlsplit

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

DOCUMENTATION = """
name: package_index
short_description: the settings of pip and uv that say where packages come from
description:
  - Reads what pip and uv are told here, by their variables and files, about the index, further indexes and hosts that are trusted
    without a certificate. What only one of both is told counts for the other too.
  - Passwords come along, also those of C(~/.netrc) and of C(UV_INDEX_NAME_PASSWORD). Indexes that are directories of this machine
    do not.
"""

RETURN = """
_raw:
  description: >-
    One dictionary: text, a file for a shell that exports the settings; loopback, whether an index is on this machine's loopback.
  type: list
  elements: dict
"""


def _pip():
    """Return what pip is told, its variables before its files, as {key: list of words}."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        check=False,
    )
    told = {}
    for line in done.stdout.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.rpartition(".")
        # What is said for pip install alone is stronger than what is said for all of pip.
        rank = {"global": 0, "install": 1, ":env:": 2}.get(section, -1)
        if rank >= told.get(key, (0,))[0]:
            told[key] = (rank, ast.literal_eval(value).split())
    return {key: words for key, (_rank, words) in told.items()}


def _uv_file(path):
    """Return what a configuration file of uv says; raise AnsibleLookupError where it can't be read."""
    try:
        with open(path, "rb") as handle:
            return tomllib.load(handle)
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise AnsibleLookupError(f"{path} can't be read: {error}. Mend uv's settings.") from error


def _uv():
    """Return what uv is told as {"default": URL, "further": URLs, "insecure": hosts}; its variables come first."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    shared = (os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
    system = [os.path.join(place, "uv/uv.toml") for place in shared] + ["/etc/uv/uv.toml"]
    if os.environ.get("UV_CONFIG_FILE"):
        files = [os.environ["UV_CONFIG_FILE"]]
    elif os.environ.get("UV_NO_CONFIG"):
        files = []
    else:
        found = [path for path in system if os.path.exists(path)]
        files = [os.path.join(home, "uv/uv.toml"), *found[:1]]
    default, further, insecure = [], [], []
    for variable in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        default += [_named(word) for word in os.environ.get(variable, "").split()]
    for variable in ("UV_INDEX", "UV_EXTRA_INDEX_URL"):
        further += [_named(word) for word in os.environ.get(variable, "").split()]
    insecure += os.environ.get("UV_INSECURE_HOST", "").split()
    for said in map(_uv_file, files):
        for index in said.get("index", []):
            if not index.get("explicit"):
                name = f"{index['name']}=" if "name" in index else ""
                (default if index.get("default") else further).append(_named(name + index["url"]))
        for part in (said, said.get("pip", {})):
            default += [part["index-url"]] if part.get("index-url") else []
            further += part.get("extra-index-url", [])
        insecure += said.get("allow-insecure-host", [])
    return {"default": default[:1], "further": further, "insecure": insecure}


def _named(word):
    """Return the URL of NAME=URL, with the name and password that uv's variables have for it."""
    match = re.fullmatch(r"([\w.-]+)=(.*)", word)
    if not match:
        return word
    variable = "UV_INDEX_" + re.sub(r"\W", "_", match[1]).upper()
    return _with(
        match[2], *(os.environ.get(f"{variable}_{part}", "") for part in ("USERNAME", "PASSWORD"))
    )


def _with(url, user, password):
    """Return a URL with a name and a password, unless it has some or there are none."""
    parts = urlsplit(url)
    if "@" in parts.netloc or not (user or password):
        return url
    return parts._replace(netloc=f"{quote(user, '')}:{quote(password, '')}@{parts.netloc}").geturl()


def _known(url, logins):
    """Return a URL with what ~/.netrc knows of its host."""
    login = logins and logins.hosts.get(urlsplit(url).hostname)
    return _with(url, login[0], login[2]) if login else url


def _reached(urls, logins):
    """Return what a build can reach of some URLs, each once."""
    web = (url for url in urls if url.startswith(("http://", "https://")))
    return list(dict.fromkeys(_known(url, logins) for url in web))


class LookupModule(LookupBase):
    """Implements C(package_index)."""

    def run(self, terms, variables=None, **kwargs):
        """Return the settings; raise AnsibleLookupError for a file that can't be read."""
        pip, uv = _pip(), _uv()
        try:
            logins = netrc.netrc(os.environ.get("NETRC") or os.path.expanduser("~/.netrc"))
        except (OSError, netrc.NetrcParseError):
            logins = None
        hosts = list(dict.fromkeys(pip.get("trusted-host", []) + uv["insecure"]))
        index = [_reached(words, logins) for words in (pip.get("index-url", []), uv["default"])]
        further = [
            _reached(words, logins) for words in (pip.get("extra-index-url", []), uv["further"])
        ]
        # What one of both is not told, it takes from the other.
        settings = {
            "PIP_INDEX_URL": index[0] or index[1],
            "PIP_EXTRA_INDEX_URL": further[0] or further[1],
            "PIP_TRUSTED_HOST": hosts,
            "UV_DEFAULT_INDEX": index[1] or index[0],
            "UV_INDEX": further[1] or further[0],
            "UV_INSECURE_HOST": hosts,
        }
        lines = [
            f"export {key}={shlex.quote(' '.join(words))}"
            for key, words in settings.items()
            if words
        ]
        names = [urlsplit(url).hostname or "" for urls in index + further for url in urls]
        loopback = any(re.fullmatch(r"localhost|127\..*|::1", name) for name in names)
        return [{"text": "".join(line + "\n" for line in lines), "loopback": loopback}]
