"""Typed readers for environment variables.

Every reader returns the value or raises ImproperlyConfigured with one line that names the
variable and the remedy. An empty variable counts as a missing one.
"""

import os
import re
import zoneinfo
from collections.abc import Collection
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from django.conf import global_settings
from django.core.exceptions import ImproperlyConfigured


class PublicURL(NamedTuple):
    """The address people type: its origin, its host as in a Host header, and its two traits."""

    origin: str
    netloc: str
    host: str
    is_https: bool
    is_loopback: bool


def text(name: str, default: str | None = None) -> str:
    """Return the variable, or `default`; without a default the variable is required."""
    value = os.environ.get(name, "").strip() or default
    if value is None:
        raise ImproperlyConfigured(f"{name} is missing: set it in the environment.")
    return value


def boolean(name: str, default: bool | None = None) -> bool:
    """Return True for `true` and False for `false`; nothing else is accepted."""
    fallback = None if default is None else str(default).lower()
    return choice(name, ("true", "false"), fallback) == "true"


def integer(name: str, low: int, high: int, default: int | None = None) -> int:
    """Return a whole number from `low` to `high`, both included."""
    value = text(name, None if default is None else str(default))
    if not re.fullmatch(r"[0-9]{1,9}", value) or not low <= int(value) <= high:
        raise ImproperlyConfigured(
            f"{name} is {value!r}: set it to a whole number from {low} to {high}."
        )
    return int(value)


def choice(name: str, options: Collection[str], default: str | None = None) -> str:
    """Return one of `options`."""
    value = text(name, default)
    if value not in options:
        raise ImproperlyConfigured(f"{name} is {value!r}: set it to {' or '.join(options)}.")
    return value


def slug(name: str) -> str:
    """Return a lower-case word of letters, digits and dashes, as in a container's name."""
    value = text(name)
    if not re.fullmatch(r"[a-z][a-z0-9-]*", value):
        raise ImproperlyConfigured(
            f"{name} is {value!r}: set it to lower-case letters, digits and dashes, a letter first."
        )
    return value


def hosts(name: str) -> list[str]:
    """Return the host names of a comma separated list; `*` would switch the check off."""
    values = [host.strip() for host in text(name, "").split(",") if host.strip()]
    for host in values:
        if not re.fullmatch(r"\.?[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]", host):
            raise ImproperlyConfigured(
                f"{name} contains {host!r}: list host names separated by commas, "
                "without scheme, port or *."
            )
    return values


def path(name: str) -> Path:
    """Return an absolute path; whether it exists is the business of its user."""
    value = Path(text(name))
    if not value.is_absolute():
        raise ImproperlyConfigured(f"{name} is {str(value)!r}: set it to an absolute path.")
    return value


def language(name: str, default: str) -> str:
    """Return the code of a language that Django speaks."""
    value = text(name, default)
    if value not in dict(global_settings.LANGUAGES):
        raise ImproperlyConfigured(
            f"{name} is {value!r}: set it to a language code such as pt-br or en."
        )
    return value


def time_zone(name: str, default: str) -> str:
    """Return the name of a time zone that this machine knows."""
    value = text(name, default)
    try:
        zoneinfo.ZoneInfo(value)
    except (OSError, ValueError, zoneinfo.ZoneInfoNotFoundError):
        raise ImproperlyConfigured(
            f"{name} is {value!r}: set it to a time zone such as America/Sao_Paulo or UTC."
        ) from None
    return value


def secret(name: str) -> str:
    """Return the content of the file the variable names, without its final line break."""
    file = path(name)
    try:
        value = file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ImproperlyConfigured(
            f"{name} names {str(file)!r}, which can't be read ({reason}): "
            "write the secret there, readable by this process."
        ) from None
    if not value.strip():
        raise ImproperlyConfigured(f"{name} names {str(file)!r}, which is empty: write a secret.")
    return value


def public_url(name: str) -> PublicURL:
    """Return the parts of an http(s) address that has a host and no path."""
    value = text(name)
    try:
        url = urlsplit(value)
        host, bare = url.hostname or "", url.path in ("", "/") and not url.query + url.fragment
        valid = url.scheme in ("http", "https") and host and bare and "@" not in url.netloc
        valid = valid and url.port != 0 and re.fullmatch(r"[a-z0-9_.:-]+", host)
    except ValueError:
        valid = False
    if not valid:
        raise ImproperlyConfigured(
            f"{name} is {value!r}: set it to an address such as https://example.org, without path."
        )
    try:
        is_loopback = ip_address(host).is_loopback
    except ValueError:
        is_loopback = host == "localhost" or host.endswith(".localhost")
    return PublicURL(
        origin=f"{url.scheme}://{url.netloc.lower()}",
        netloc=url.netloc.lower(),
        host=f"[{host}]" if ":" in host else host,
        is_https=url.scheme == "https",
        is_loopback=is_loopback,
    )
