"""Give the application each request's body whole and with its length, and none for which the disk has no room.

Django reads as many bytes as CONTENT_LENGTH says, so it sees nothing of a body that comes in chunks, and takes one that
was cut off for whole. And an upload that fills the disk would fail in its middle, and take the database's room.
"""

import io
import os
import tempfile
from contextlib import suppress
from pathlib import Path

# Bytes up to which a body is held in memory, and not counted.
SMALL = 2**20
# Bytes that bodies leave free on the disk.
SPARE = 2**29
REFUSAL = b"413 Content Too Large: there is no room for it here just now.\n"


class NoRoom(Exception):
    """The disk has no room for a body."""


class Cut(OSError):
    """The visitor went away in the middle of a body. Django makes it an UnreadablePostError."""


class Body(io.RawIOBase):
    """A body of known length, and room on the disk for what of a large one was not read yet.

    The room is a file without a name: every worker sees it taken, and it goes with a worker that is killed. Raises
    NoRoom where there is none.
    """

    def __init__(self, source, length):
        self._source, self._left, self._room = source, length, None
        if length <= SMALL:
            return
        _require(length)
        try:
            self._room = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - open until closed
            os.posix_fallocate(self._room.fileno(), 0, length)
        except OSError as problem:
            raise NoRoom from problem

    def readable(self):
        """Return that it can be read."""
        return True

    def readinto(self, buffer):
        """Read what comes next, and give back its room, for the application may write it. Raises Cut."""
        piece = self._source.read(min(len(buffer), self._left))
        if self._left and not piece:
            raise Cut(f"the visitor went away, and {self._left} bytes of the body did not come")
        buffer[: len(piece)] = piece
        self._left -= len(piece)
        if self._room:
            os.ftruncate(self._room.fileno(), self._left)
        return len(piece)

    def close(self):
        """Give back the room, and the file that the body may be in."""
        if not self.closed:
            if self._room:
                self._room.close()
            if isinstance(self._source, io.IOBase):
                self._source.close()
        super().close()


def whole(application):
    """Return a WSGI application that gives this one its bodies whole, and answers 413 where it can't."""

    def answer(environ, start_response):
        try:
            _receive(environ)
        except NoRoom:
            _drain(environ["wsgi.input"])
            words = [("Content-Type", "text/plain"), ("Content-Length", str(len(REFUSAL)))]
            start_response("413 Content Too Large", words)
            return [REFUSAL]
        body = environ["wsgi.input"]
        response = application(environ, start_response)
        # Django says so of an answer that is made while it is sent, maybe of the body.
        if not getattr(response, "streaming", False):
            _drain(body)
        return response

    return answer


def end(environ):
    """Give back what a request has taken of the disk."""
    body = environ.get("wsgi.input")
    if isinstance(body, io.IOBase):  # and so from here; gunicorn's own is none
        body.close()


def clear():
    """Remove uploads that nobody has open: of a worker that was killed, or of a disk that was full."""
    # In this order: one that comes meanwhile is not among them.
    found = list(Path(tempfile.gettempdir()).glob("tmp*.upload*"))
    known = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            known.add(os.readlink(link))
    for path in found:
        if str(path) not in known:
            path.unlink(missing_ok=True)


def _receive(environ):
    """Put a body whose length is known in the place of the one that comes; raises NoRoom."""
    source = environ["wsgi.input"]
    if "HTTP_TRANSFER_ENCODING" in environ:
        source, length = _collect(source)
        environ["CONTENT_LENGTH"] = str(length)
        del environ["HTTP_TRANSFER_ENCODING"]
    else:
        length = int(environ.get("CONTENT_LENGTH") or 0)
    if length:
        source = io.BufferedReader(Body(source, length), buffer_size=2**16)
    environ["wsgi.input"] = source


def _drain(body):
    """Read what nobody has read, because an answer that comes before the proxy has sent all is cut or lost."""
    with suppress(OSError, ValueError):  # the visitor is away, the application has closed it
        while body.read(SMALL):
            pass


def _collect(source):
    """Return a body that comes in chunks as a file, and its length; raises NoRoom, and what gunicorn does."""
    file = tempfile.SpooledTemporaryFile(max_size=SMALL)  # noqa: SIM115 - handed on
    length = 0
    try:
        while piece := source.read(2**16):
            length += len(piece)
            if length > SMALL:
                _require(len(piece))
            _write(file, piece)
        _write(file, b"")
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file, length


def _write(file, piece):
    """Write a piece, or what is still on its way if it is empty; raises NoRoom."""
    try:
        file.write(piece) if piece else file.flush()
    except OSError as problem:
        raise NoRoom from problem


def _require(size):
    """Raise NoRoom where the disk can't take so many bytes more."""
    if _free() - size < SPARE:
        clear()
        if _free() - size < SPARE:
            raise NoRoom


def _free():
    """Return the bytes that are free where uploads are received."""
    disk = os.statvfs(tempfile.gettempdir())
    return disk.f_bavail * disk.f_frsize
