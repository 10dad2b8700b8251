"""Prints each of argv[1:], ADDRESS:PORT, that accepts a connection within two seconds."""

import concurrent.futures
import socket
import sys


def accepts(target: str) -> bool:
    """Say whether somebody listens there for us."""
    address, port = target.rsplit(":", 1)
    try:
        with socket.create_connection((address, int(port)), timeout=2):
            return True
    except OSError:
        return False


targets = sys.argv[1:]
with concurrent.futures.ThreadPoolExecutor(len(targets)) as pool:
    reached = pool.map(accepts, targets)
print(*[target for target, yes in zip(targets, reached, strict=True) if yes], sep="\n")
