"""Visitors of every kind, none of whom tries anything twice; runs on the host, with Python alone.

python3 - URL LEDGER [--clients N] [--pause SECONDS]: calls at the site until the file LEDGER.stop
is there, writes each acknowledged key into LEDGER, and prints what was met as one line of JSON:
for each kind of visitor how many requests were sent, what failed and how, and milliseconds.
"""

import argparse
import collections
import hashlib
import http.client
import itertools
import json
import os
import pathlib
import random
import sys
import threading
import time
import urllib.parse

TIMEOUT = 30


class Kind:
    """One kind of visitor: `ask` sends a request, `good` says whether the answer is right."""

    keeps = True
    share = 1

    def __init__(self, ledger):
        self.ledger = ledger
        self.sent, self.failed, self.times = 0, collections.Counter(), []

    def ask(self, connection, token):
        connection.request("GET", "/trial/page", headers=self.headers())

    def good(self, body, token):
        return len(body) > 0

    def headers(self, **more):
        return {} if self.keeps else {"Connection": "close"}


class Page(Kind):
    share = 2


class NewPage(Page):
    keeps, share = False, 1


class Post(Kind):
    def ask(self, connection, token):
        body = urllib.parse.urlencode({"key": token})
        headers = {"Content-Type": "application/x-www-form-urlencoded", **self.headers()}
        connection.request("POST", "/trial/ledger", body, headers)

    def good(self, body, token):
        if body.decode() == token:
            self.ledger.write(f"{token}\n")
            return True
        return False


class NewPost(Post):
    keeps = False


class Slow(Kind):
    def ask(self, connection, token):
        connection.request("GET", "/trial/slow?seconds=5")

    def good(self, body, token):
        return body == b"slept"


class Stream(Kind):
    def ask(self, connection, token):
        connection.request("GET", "/trial/stream")

    def good(self, body, token):
        return body.split() == [str(n).encode() for n in range(20)]


class Upload(Kind):
    """Sends two megabytes, slowly enough that a switch may come in between."""

    def ask(self, connection, token):
        self.sending = [token.encode() * 1000 for _ in range(60)]
        length = str(sum(map(len, self.sending)))
        connection.request("POST", "/trial/upload", self.pieces(), {"Content-Length": length})

    def pieces(self):
        for piece in self.sending:
            yield piece
            time.sleep(0.02)

    def good(self, body, token):
        return body.decode() == hashlib.sha256(b"".join(self.sending)).hexdigest()


KINDS = (Page, NewPage, Post, NewPost, Slow, Stream, Upload)


def call(kind, asked, numbers, lock, ended):
    """Call at the site until the end, one request after the other."""
    connection = None
    while not ended.is_set():
        token = f"{os.getpid()}-{next(numbers)}"
        if connection is None:
            connection = http.client.HTTPConnection(asked.host, asked.port, timeout=TIMEOUT)
        begun, problem = time.monotonic(), ""
        try:
            kind.ask(connection, token)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                problem = f"status {answer.status}"
            elif not kind.good(body, token):
                problem = "a wrong answer"
        except (OSError, http.client.HTTPException) as error:
            problem = type(error).__name__
        with lock:
            kind.sent += 1
            kind.times.append(time.monotonic() - begun)
            if problem:
                kind.failed[problem] += 1
        if problem or not kind.keeps:
            connection.close()
            connection = None
        time.sleep(random.uniform(0, 2 * asked.pause))


def figures(kind):
    """Return what one kind of visitor met."""
    times = sorted(kind.times) or [0]
    at = lambda share: round(1000 * times[min(len(times) - 1, int(share * len(times)))], 1)
    milliseconds = {"median": at(0.5), "p99": at(0.99), "max": at(1)}
    return {"sent": kind.sent, "failed": dict(kind.failed), "ms": milliseconds}


def main():
    """Send the visitors until they are told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("ledger", type=pathlib.Path)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.02)
    parser.add_argument("--most", type=float, default=900)
    asked = parser.parse_args()
    parts = urllib.parse.urlsplit(asked.url)
    asked.host, asked.port = parts.hostname, parts.port or 80
    stop = asked.ledger.with_suffix(".stop")
    ended, lock, numbers = threading.Event(), threading.Lock(), itertools.count()
    # A line is written whole, or not at all.
    with asked.ledger.open("w", buffering=1) as ledger:
        kinds = [
            (kind(ledger), asked.clients if issubclass(kind, (Page, Post)) else 1) for kind in KINDS
        ]
        threads = [
            # An upload's pieces are its visitor's own.
            threading.Thread(target=call, args=(kind, asked, numbers, lock, ended))
            for kind, clients in kinds
            for _ in range(clients * kind.share)
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + asked.most
        while not stop.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        ended.set()
        for thread in threads:
            thread.join(TIMEOUT + 5)
    print(json.dumps({type(kind).__name__: figures(kind) for kind, _ in kinds}))


if __name__ == "__main__":
    sys.exit(main())
