"""The files of `http_server.py`: which one is meant, how it is read, what of it is asked for.

Small files stay in memory until the port says that they have changed. The stamps of a file are
taken before it is read, and it is associated with those: a change in between is told at once.
"""

import errno
import mimetypes
import os
import re
import stat
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from time import monotonic, time
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from portcompat import (
    FILE_ATTRIB,
    FILE_MODIFIED,
    FILE_NOFOLLOW,
    FILE_TRUNC,
    FileObject,
    Port,
    PortEvent,
)

SMALL = 256 * 1024  # files up to this size are kept in memory
CACHED_BYTES, CACHED_FILES = 64 * 1024 * 1024, 1024
CACHED_SECONDS = 60.0  # nobody tells when a directory above a file is renamed
FULL = {errno.EMFILE, errno.ENFILE}
GONE = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ENXIO}
GONE |= {errno.ELOOP, errno.EMLINK}  # what systems say of a symbolic link and O_NOFOLLOW
Headers = list[tuple[str, str]]
Conditions = dict[bytes, bytes]


class NotServed(Exception):
    """There is no file to answer with; what there is instead."""

    def __init__(self, status: HTTPStatus, headers: Headers | None = None) -> None:
        super().__init__(status.phrase)
        self.status, self.headers = status, headers or []


# Which file


class Place(NamedTuple):
    """Where in the tree, step by step, and whether the path ended with a slash."""

    steps: tuple[bytes, ...]
    slash: bool


def place_of(target: bytes) -> Place:
    """What the target of a request means."""
    if target[:1] != b"/":  # as a proxy is asked: http://host/path
        scheme, found, rest = target.partition(b"://")
        if not found or scheme.lower() not in (b"http", b"https"):
            raise NotServed(HTTPStatus.BAD_REQUEST)
        target = b"/" + rest.partition(b"/")[2]
    path = unquote_to_bytes(target.partition(b"?")[0])
    if b"\0" in path:
        raise NotServed(HTTPStatus.BAD_REQUEST)
    steps = tuple(step for step in path.split(b"/") if step)
    if any(step.startswith(b".") for step in steps):  # "..", too
        raise NotServed(HTTPStatus.NOT_FOUND)
    return Place(steps, path.endswith(b"/"))


class Document:
    """A file as it was when it was opened: all of it if it is small, the open file otherwise."""

    def __init__(self, path: bytes, file: int, status: os.stat_result) -> None:
        self.file: int | None = file
        self.data: bytes | None = None
        self.watched = FileObject(path, 0, status.st_mtime_ns, status.st_ctime_ns)
        self.size = status.st_size
        self.modified = min(int(status.st_mtime), int(time()))
        self.etag = f'"{status.st_ino:x}-{status.st_mtime_ns:x}-{self.size:x}"'
        kind, encoding = mimetypes.guess_type(os.fsdecode(path))
        self.kind = "application/octet-stream" if encoding or not kind else kind
        if self.kind.startswith("text/"):
            self.kind += "; charset=utf-8"
        self.born = monotonic()

    def load(self) -> None:
        """Read it into memory, unless it is large or being written to."""
        assert self.file is not None
        if self.size <= SMALL:
            data = os.pread(self.file, self.size + 1, 0)
            now = os.fstat(self.file)
            if len(data) == self.size and now.st_mtime_ns == self.watched.mtime:
                self.data = data
                self.close()

    def close(self) -> None:
        if self.file is not None:
            os.close(self.file)
            self.file = None


def open_document(root: Path, place: Place) -> Document:
    """Find the file; made in a worker, for every step may wait for a disk."""
    steps = [*place.steps, b"index.html"] if place.slash else [*place.steps]
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for number, step in enumerate(steps, 1):
            last = number == len(steps)
            flags = os.O_NONBLOCK if last else os.O_DIRECTORY  # a fifo must not stop us
            inner = os.open(step, os.O_RDONLY | os.O_NOFOLLOW | flags, dir_fd=here)
            os.close(here)
            here = inner
        status = os.fstat(here)
        if stat.S_ISDIR(status.st_mode) and not place.slash:
            raise NotServed(
                HTTPStatus.MOVED_PERMANENTLY,
                [("Location", "".join(f"/{quote(step)}" for step in steps) + "/")],
            )
        if not stat.S_ISREG(status.st_mode):
            raise NotServed(HTTPStatus.NOT_FOUND)
        document = Document(b"/".join([os.fsencode(root), *steps]), here, status)
        here = -1
    except OSError as error:
        raise not_served(error) from None
    finally:
        if here >= 0:
            os.close(here)
    try:
        document.load()
    except OSError as error:
        document.close()
        raise not_served(error) from None
    return document


def not_served(error: OSError) -> NotServed:
    if error.errno in GONE:
        return NotServed(HTTPStatus.NOT_FOUND)
    if error.errno in (errno.EACCES, errno.EPERM):
        return NotServed(HTTPStatus.FORBIDDEN)
    if error.errno in FULL:
        return NotServed(HTTPStatus.SERVICE_UNAVAILABLE, [("Retry-After", "1")])
    return NotServed(HTTPStatus.INTERNAL_SERVER_ERROR)


class Cache:
    """Small documents, the one that was used last at the end, each watched by the port."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.documents: dict[Place, Document] = {}
        self.bytes = 0

    def get(self, place: Place) -> Document | None:
        document = self.documents.pop(place, None)
        if document is None:
            return None
        self.documents[place] = document
        if monotonic() - document.born < CACHED_SECONDS:
            return document
        self.forget(place)
        return None

    def put(self, place: Place, document: Document) -> None:
        if document.data is None:
            return
        self.forget(place)
        what = FILE_MODIFIED | FILE_ATTRIB | FILE_TRUNC | FILE_NOFOLLOW
        try:
            self.port.associate(document.watched, what, partial(self.changed, place, document))
        except OSError:  # gone already, or the watcher has no room for it
            return
        self.documents[place] = document
        self.bytes += document.size
        while self.bytes > CACHED_BYTES or len(self.documents) > CACHED_FILES:
            self.forget(next(iter(self.documents)))

    def changed(self, place: Place, document: Document, event: PortEvent) -> None:
        if self.documents.get(place) is document:
            self.forget(place)

    def forget(self, place: Place) -> None:
        document = self.documents.pop(place, None)
        if document is not None:
            self.bytes -= document.size
            try:
                self.port.dissociate(document.watched)
            except OSError:  # its event has been taken
                pass


def read_piece(file: int, count: int, position: int) -> bytes:
    try:
        return os.pread(file, count, position)
    except OSError as error:
        raise not_served(error) from None


# What to answer: RFC 9110, sections 13 and 14


def is_listed(document: Document, tags: bytes, weak: bool) -> bool:
    """Whether an If-Match or If-None-Match names the document."""
    known = [tag.strip().decode("latin-1") for tag in tags.split(b",")]
    return "*" in known or document.etag in known or (weak and f"W/{document.etag}" in known)


def seconds_of(date: bytes) -> float | None:
    try:
        return parsedate_to_datetime(date.decode("latin-1")).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def precondition(document: Document, asked: Conditions) -> HTTPStatus | None:
    """The status that takes the place of 200, if there is one."""
    if (tags := asked.get(b"if-match")) is not None:
        if not is_listed(document, tags, weak=False):
            return HTTPStatus.PRECONDITION_FAILED
    elif (date := asked.get(b"if-unmodified-since")) is not None:
        then = seconds_of(date)
        if then is not None and document.modified > then:
            return HTTPStatus.PRECONDITION_FAILED
    if (tags := asked.get(b"if-none-match")) is not None:
        if is_listed(document, tags, weak=True):
            return HTTPStatus.NOT_MODIFIED
    elif (date := asked.get(b"if-modified-since")) is not None:
        then = seconds_of(date)
        if then is not None and document.modified <= then:
            return HTTPStatus.NOT_MODIFIED
    return None


def byte_range(document: Document, asked: Conditions) -> tuple[int, int] | None:
    """The part that is asked for; None for the whole, as an answer to several parts is too."""
    match = re.fullmatch(rb"bytes=\s*(\d{0,18})-(\d{0,18})\s*", asked.get(b"range", b""), re.I)
    if match is None or match[0].count(b"-") != 1 or not (match[1] or match[2]):
        return None
    condition = asked.get(b"if-range")
    if (
        condition is not None
        and condition != document.etag.encode()
        and seconds_of(condition) != document.modified
    ):
        return None
    if not match[1]:
        first, stop = max(0, document.size - int(match[2])), document.size
    else:
        first = int(match[1])
        if match[2] and int(match[2]) < first:
            return None
        stop = min(int(match[2]) + 1, document.size) if match[2] else document.size
    if first >= stop:
        headers = [("Content-Range", f"bytes */{document.size}")]
        raise NotServed(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers)
    return first, stop
