"""The standard library's selectors, over a port: one import to change."""

import selectors as _standard
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector, SelectorKey, SelectSelector
from typing import Final

from portcompat._selector import PortSelector

__all__ = [
    "EVENT_READ",
    "EVENT_WRITE",
    "BaseSelector",
    "DefaultSelector",
    "PortSelector",
    "SelectSelector",
    "SelectorKey",
    "install",
    "uninstall",
]

# Of the standard module's other selectors each system has some.
if hasattr(_standard, "PollSelector"):
    from selectors import PollSelector as PollSelector

    __all__ += ["PollSelector"]
if hasattr(_standard, "EpollSelector"):
    from selectors import EpollSelector as EpollSelector

    __all__ += ["EpollSelector"]
for _name in ("DevpollSelector", "KqueueSelector"):
    if hasattr(_standard, _name):
        globals()[_name] = getattr(_standard, _name)
        __all__ += [_name]

DefaultSelector = PortSelector

_replaced: Final = _standard.DefaultSelector


def install() -> None:
    """Put `PortSelector` in the place of the standard module's DefaultSelector, for the process.

    Whoever makes a `selectors.DefaultSelector()` from now on, asyncio's event loops among them,
    gets one. A module that has imported the name before keeps what it has. Again: no effect.
    """
    _standard.DefaultSelector = PortSelector  # type: ignore[misc,assignment]


def uninstall() -> None:
    """Take `install` back; selectors that were made stay what they are. Again: no effect."""
    _standard.DefaultSelector = _replaced  # type: ignore[misc]
