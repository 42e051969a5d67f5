"""What a selector keeps: its keys, and what the reports of its driver mean."""

from collections.abc import Iterator, Mapping
from selectors import SelectorKey
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

Result = tuple[SelectorKey, int]
Report = tuple[int, int]


class UnknownReport(Exception):
    """A report is not in the table. No KeyError, which a signal handler may raise."""


class Results(dict[Report, Result]):
    """The table: what each report means."""

    def __missing__(self, report: Report) -> NoReturn:
        raise UnknownReport


class Keys(Mapping["FileDescriptorLike", SelectorKey]):
    """What `get_map` returns: the keys by file object or descriptor, as they are now."""

    def __init__(self, keys: dict[int, SelectorKey]) -> None:
        self._keys = keys

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[int]:
        return iter(self._keys)

    def __getitem__(self, fileobj: "FileDescriptorLike") -> SelectorKey:
        try:
            return self._keys[lookup(self._keys, fileobj)]
        except KeyError:
            raise KeyError(f"{fileobj!r} is not registered") from None


def lookup(keys: dict[int, SelectorKey], fileobj: "FileDescriptorLike") -> int:
    """The descriptor of `fileobj`, or, if it is closed, the one that it is registered with."""
    try:
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        if fd.__class__ is not int:
            fd = int(fd)
        if fd >= 0:
            return fd
        wrong = "file descriptor"
    except (AttributeError, TypeError, ValueError):
        wrong = "file object"
    for key in list(keys.values()):
        if key.fileobj is fileobj:
            return key.fd
    raise ValueError(f"Invalid {wrong}: {fileobj!r}")


def refuse(timeout: float | None) -> NoReturn:
    """What is called in place of a driver that is closed."""
    raise ValueError("the selector is closed")
