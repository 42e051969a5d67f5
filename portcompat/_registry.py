"""The backends and their companions, best first, and how one is chosen."""

import errno
import os
from importlib import import_module
from typing import Final, NamedTuple

from portcompat._engine import Engine
from portcompat._limits import limits
from portcompat.abc import (
    Backend,
    Driver,
    FileWatcher,
    FileWatcherChoice,
    Kaio,
    KaioChoice,
    Mode,
    file_features,
)

# Each is usable if one can be made. The order is that of preference.
TABLE: Final = {
    "epoll": "portcompat.backends.epoll:EpollDriver",
    "poll": "portcompat.backends.poll:PollDriver",
    "select": "portcompat.backends.poll:SelectDriver",
}

FILE_WATCHERS: Final = {
    "inotify": "portcompat.backends.inotify:InotifyWatcher",
    "kqueue": "portcompat.backends.kqueue:VnodeWatcher",
    "stat": "portcompat.backends.statpoll:StatWatcher",
}

KAIO: Final = {
    "io_uring": "portcompat.backends.io_uring:IoUring",
}
WORKERS: Final = "workers"  # what there is besides, everywhere

ENVIRONMENT: Final = "PORTCOMPAT_BACKEND"
KAIO_ENVIRONMENT: Final = "PORTCOMPAT_KAIO"
WATCHER_ENVIRONMENT: Final = "PORTCOMPAT_FILE_WATCHER"
ENTRY_POINTS: Final = "portcompat.backends"


class BackendInfo(NamedTuple):
    """What `available_backends` says of a backend.

    `usable`: whether a port can be made of it here; if not, `reason` says why. `features`: what
    it can do, by the names of `portcompat.conformance.needs`. `mode`: "native" for a kernel's own
    ports, "emulated" for the engine over a driver, "loopback" for a facility that is itself
    provided by portcompat. `default`: whether `Port()` takes it now.
    """

    usable: bool
    reason: str
    features: frozenset[str]
    mode: Mode
    default: bool


def available_backends() -> dict[str, BackendInfo]:
    """Every backend that portcompat knows by name, best first, and whether it works here."""
    found: dict[str, BackendInfo] = {}
    try:
        default = default_backend()
    except (OSError, ValueError):
        default = ""
    for name in TABLE:
        try:
            backend = _make(_load(name), 1)
        except (ImportError, OSError) as error:
            found[name] = BackendInfo(False, _reason(error), frozenset(), "emulated", False)
        else:
            mode, features = backend.mode, backend.features
            backend.close()
            found[name] = BackendInfo(True, "", features, mode, name == default)
    return found


def default_backend() -> str:
    """The name that `Port()` takes: PORTCOMPAT_BACKEND, or the best that is usable.

    Raises OSError ENOTSUP when none is.
    """
    chosen = os.environ.get(ENVIRONMENT)
    if chosen:
        return chosen
    reasons = []
    for name in TABLE:
        if name in _usable:
            return name
        try:
            _make(_load(name), 1).close()
        except (ImportError, OSError) as error:
            if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                raise  # that says nothing about the backend
            reasons.append(f"{name}: {_reason(error)}")
        else:
            _usable.add(name)
            return name
    raise OSError(errno.ENOTSUP, f"no backend is usable here ({'; '.join(reasons)})")


_usable: Final[set[str]] = set()  # names that have been made once


class FileWatcherInfo(NamedTuple):
    """What `available_file_watchers` says of a file watcher.

    `usable`: whether it works here; if not, `reason` says why. `features`: which FILE_* bits it can
    see. `default`: whether `Port()` takes it now.
    """

    usable: bool
    reason: str
    features: frozenset[str]
    default: bool


def available_file_watchers() -> dict[str, FileWatcherInfo]:
    """Every file watcher that portcompat knows by name, best first, and whether it works here."""
    found: dict[str, FileWatcherInfo] = {}
    default = os.environ.get(WATCHER_ENVIRONMENT, "")
    for name in FILE_WATCHERS:
        try:
            kind = load_watcher(name)
            kind().close()
        except (ImportError, OSError, ValueError) as error:
            found[name] = FileWatcherInfo(False, _reason(error), frozenset(), False)
        else:
            default = default or name
            found[name] = FileWatcherInfo(True, "", file_features(kind.bits), name == default)
    return found


def choose_watcher(name: str | None) -> FileWatcherChoice:
    """What `Port(file_watcher=name)` takes when it needs one.

    None is PORTCOMPAT_FILE_WATCHER, or the best that is usable, which is found out at the call of
    what is returned. Raises ValueError for a name that nobody knows, OSError ENOTSUP for one that
    cannot work here.
    """
    chosen = (os.environ.get(WATCHER_ENVIRONMENT) or None) if name is None else name
    if chosen is None:
        return _best_watcher
    try:
        kind = load_watcher(chosen)
    except ImportError as error:
        raise OSError(
            errno.ENOTSUP, f"file watcher {chosen!r} is not usable here: {_reason(error)}"
        ) from error
    return lambda: kind


def load_watcher(name: str) -> type[FileWatcher]:
    place = FILE_WATCHERS.get(name) or (name if ":" in name else None)
    if place is None:
        known = ", ".join(FILE_WATCHERS)
        raise ValueError(
            f"no file watcher is called {name!r}: take {known}, or 'package.module:Class'"
        )
    kind = _find("file watcher", name, place)
    if not (isinstance(kind, type) and issubclass(kind, FileWatcher)):
        raise ValueError(f"file watcher {name!r} is no FileWatcher of portcompat.abc")
    return kind


def _best_watcher() -> type[FileWatcher]:
    """Raises OSError ENOTSUP when none is usable, EMFILE when instances or descriptors run out."""
    reasons = []
    for name in FILE_WATCHERS:
        try:
            kind = load_watcher(name)
            if name not in _usable_watchers:
                kind().close()
        except (ImportError, OSError) as error:
            if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                raise  # that says nothing about the watcher
            reasons.append(f"{name}: {_reason(error)}")
        else:
            _usable_watchers.add(name)
            return kind
    raise OSError(errno.ENOTSUP, f"no file watcher is usable here ({'; '.join(reasons)})")


_usable_watchers: Final[set[str]] = set()  # names that have been made once


class KaioInfo(NamedTuple):
    """What `available_kaio` says of a way to do asynchronous I/O.

    `usable`: whether it works here; if not, `reason` says why. `default`: whether `Port()` takes it
    now. What it refuses the workers do.
    """

    usable: bool
    reason: str
    default: bool


def available_kaio() -> dict[str, KaioInfo]:
    """Every way to do asynchronous I/O that portcompat knows by name, best first."""
    found: dict[str, KaioInfo] = {}
    default = kaio_environment() or ""
    for name in KAIO:
        try:
            load_kaio(name)().close()
        except (ImportError, OSError, ValueError) as error:
            found[name] = KaioInfo(False, _reason(error), False)
        else:
            default = default or name
            found[name] = KaioInfo(True, "", name == default)
    found[WORKERS] = KaioInfo(True, "", default in ("", WORKERS))
    return found


def kaio_environment() -> str | None:
    """What PORTCOMPAT_KAIO names, None if nothing."""
    name = os.environ.get(KAIO_ENVIRONMENT) or None
    return WORKERS if name == "0" else name


def choose_kaio(name: str | None) -> KaioChoice:
    """What `Port(kaio=name)` takes when it needs one; None from that is the workers.

    Raises as `choose_watcher` does.
    """
    chosen = kaio_environment() if name is None else name
    if chosen is None:
        return _best_kaio
    if chosen == WORKERS:
        return _no_kaio
    try:
        kind = load_kaio(chosen)
        kind().close()
    except (ImportError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            raise  # that says nothing about it
        raise OSError(errno.ENOTSUP, f"{chosen!r} is not usable here: {_reason(error)}") from error
    return lambda: kind


def load_kaio(name: str) -> type[Kaio]:
    place = KAIO.get(name) or (name if ":" in name else None)
    if place is None:
        known = ", ".join((*KAIO, WORKERS))
        raise ValueError(
            f"no asynchronous I/O is called {name!r}: take {known}, or 'package.module:Class'"
        )
    kind = _find("asynchronous I/O", name, place)
    if not (isinstance(kind, type) and issubclass(kind, Kaio)):
        raise ValueError(f"asynchronous I/O {name!r} is no Kaio of portcompat.abc")
    return kind


def _best_kaio() -> type[Kaio] | None:
    for name in KAIO:
        try:
            return load_kaio(name)
        except ImportError:
            pass
    return None


def _no_kaio() -> None:
    return None


def create(
    name: str, max_events: int, file_watcher: str | None = None, kaio: str | None = None
) -> Backend:
    """Make a port of the backend `name`, that watches files by `file_watcher` and has asynchronous
    I/O done by `kaio`.

    Raises ValueError for a name that nobody knows, OSError ENOTSUP for one that cannot work here,
    EAGAIN when the process has all the ports that `limits.max_ports` allows (R005, R068), and
    EMFILE when descriptors run out.
    """
    watcher = choose_watcher(file_watcher)
    chosen = choose_kaio(kaio)
    if not limits.admit_port():
        raise OSError(
            errno.EAGAIN,
            f"the process has its {limits.max_ports} ports: close some, or raise limits.max_ports",
        )
    try:
        return _make(_load(name), max_events, watcher, chosen)
    except ImportError as error:
        limits.dismiss_port()
        raise OSError(
            errno.ENOTSUP, f"backend {name!r} is not usable here: {_reason(error)}"
        ) from error
    except BaseException:
        limits.dismiss_port()
        raise


def create_driver(name: str) -> Driver:
    """Make a driver of the backend `name`, for whoever wants its readiness without a port.

    Raises as `create`, but for the limit of ports; ENOTSUP also for a backend that has no driver.
    """
    try:
        kind = _load(name)
        if issubclass(kind, Driver):
            return kind()
    except ImportError as error:
        raise OSError(
            errno.ENOTSUP, f"backend {name!r} is not usable here: {_reason(error)}"
        ) from error
    raise OSError(
        errno.ENOTSUP, f"backend {name!r} has no driver: take another one of available_backends()"
    )


def _make(
    kind: type[Backend] | type[Driver],
    max_events: int,
    watcher: FileWatcherChoice = _best_watcher,
    kaio: KaioChoice = _best_kaio,
) -> Backend:
    if issubclass(kind, Backend):
        return kind(max_events)
    return Engine(kind(), max_events, watcher, kaio)


def _load(name: str) -> type[Backend] | type[Driver]:
    place = TABLE.get(name) or (name if ":" in name else _entry_point(name))
    if place is None:
        known = ", ".join(TABLE)
        raise ValueError(f"no backend is called {name!r}: take {known}, or 'package.module:Class'")
    kind = _find("backend", name, place)
    if not (isinstance(kind, type) and issubclass(kind, Backend | Driver)):
        raise ValueError(f"backend {name!r} is neither a Backend nor a Driver of portcompat.abc")
    return kind


def _find(what: str, name: str, place: str) -> object:
    """What is called "package.module:Class"."""
    module, _, attribute = place.partition(":")
    try:
        found: object = getattr(import_module(module), attribute)
    except (AttributeError, TypeError):
        raise ValueError(f"{what} {name!r}: module {module} has no {attribute!r}") from None
    return found


def _entry_point(name: str) -> str | None:
    from importlib.metadata import entry_points  # half of the time that importing portcompat takes

    for point in entry_points(group=ENTRY_POINTS, name=name):
        return point.value
    return None


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
