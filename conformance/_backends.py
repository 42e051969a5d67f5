"""What a backend says of itself, be it one of ours or somebody else's."""

import os

from portcompat import (
    FILE_ATTRIB,
    FileObject,
    Port,
    available_backends,
    available_file_watchers,
)


class BadBackend(Exception):
    """A backend that cannot be tested. The message is for people."""


class UnknownBackend(BadBackend):
    """Nobody has a backend of that name."""


class UnavailableBackend(BadBackend):
    """The backend is known, and does not work on this host."""


def describe(name: str) -> tuple[str, frozenset[str]]:
    """The mode ("native", "emulated" or "loopback") and the features of the backend `name`.

    Raises `BadBackend` for one that cannot be used.
    """
    known = available_backends()
    if name in known:
        info = known[name]
        if not info.usable:
            raise UnavailableBackend(f"backend {name!r} is not usable here: {info.reason}")
        return info.mode, info.features
    try:
        with Port(name) as port:
            return port.mode, port.features
    except OSError as error:
        if isinstance(error.__cause__, ModuleNotFoundError):
            missing = error.__cause__.name or ""
            if name.startswith(missing):
                raise UnknownBackend(f"backend {name!r}: there is no module {missing}") from None
        reason = error.strerror or str(error)
        if name not in reason:
            reason = f"backend {name!r} is not usable here: {reason}"
        raise UnavailableBackend(reason) from error
    except ValueError as error:
        raise UnknownBackend(str(error)) from error
    except TypeError as error:
        raise UnknownBackend(f"backend {name!r} cannot be made: {error}") from error


def watchers_of(backend: str) -> dict[str, frozenset[str]]:
    """The file watchers that are usable with `backend` here, each with what a port has by it.

    Only the one that PORTCOMPAT_FILE_WATCHER names, if it does.
    """
    found: dict[str, frozenset[str]] = {}
    named = os.environ.get("PORTCOMPAT_FILE_WATCHER")
    for name in (named,) if named else available_file_watchers():
        try:
            with Port(backend, file_watcher=name) as port:
                port.associate(FileObject.stat(__file__), FILE_ATTRIB)
                found[name] = port.features
        except (OSError, ValueError) as error:
            if named:
                raise UnavailableBackend(f"watcher {name!r} is not usable here: {error}") from error
    return found
