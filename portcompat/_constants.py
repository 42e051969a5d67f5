"""The names and numbers of <port.h> and of timers, and the host's poll bits."""

import errno
import select
from enum import IntEnum, IntFlag
from typing import Final


class Source(IntEnum):
    """What an event tells of: `PortEvent.source` (R001)."""

    PORT_SOURCE_AIO = 1
    PORT_SOURCE_TIMER = 2
    PORT_SOURCE_USER = 3
    PORT_SOURCE_FD = 4
    PORT_SOURCE_ALERT = 5
    PORT_SOURCE_MQ = 6
    PORT_SOURCE_FILE = 7


class AlertFlag(IntFlag):
    """How `Port.alert` treats an alert that is already set (R002)."""

    PORT_ALERT_SET = 0x01
    PORT_ALERT_UPDATE = 0x02
    PORT_ALERT_INVALID = 0x03


class Trigger(IntEnum):
    """How long a descriptor stays associated: `Port.associate` (X001-X010).

    ONESHOT, the event port's own way: until its event is retrieved. LEVEL: until it is dissociated,
    and each retrieval tells of it for as long as the condition holds. EDGE: until it is
    dissociated, and told each time that the condition has come to hold anew.
    """

    ONESHOT = 0
    LEVEL = 1
    EDGE = 2


class Notify(IntEnum):
    """What happens when a timer expires: `SigEvent.notify` (R013)."""

    SIGEV_NONE = 1
    SIGEV_SIGNAL = 2
    SIGEV_THREAD = 3
    SIGEV_PORT = 4


class FileEvent(IntFlag):
    """What is asked of a file, and what happened to it (R008-R011).

    FILE_NOFOLLOW is asked only. From FILE_DELETE on they are the exceptions, which are told without
    being asked for.
    """

    FILE_ACCESS = 0x0000_0001
    FILE_MODIFIED = 0x0000_0002
    FILE_ATTRIB = 0x0000_0004
    FILE_TRUNC = 0x0010_0000
    FILE_NOFOLLOW = 0x1000_0000
    FILE_DELETE = 0x0000_0010
    FILE_RENAME_TO = 0x0000_0020
    FILE_RENAME_FROM = 0x0000_0040
    UNMOUNTED = 0x2000_0000
    MOUNTEDOVER = 0x4000_0000
    FILE_EXCEPTION = 0x6000_0070


PORT_SOURCE_AIO: Final = Source.PORT_SOURCE_AIO
PORT_SOURCE_TIMER: Final = Source.PORT_SOURCE_TIMER
PORT_SOURCE_USER: Final = Source.PORT_SOURCE_USER
PORT_SOURCE_FD: Final = Source.PORT_SOURCE_FD
PORT_SOURCE_ALERT: Final = Source.PORT_SOURCE_ALERT
PORT_SOURCE_MQ: Final = Source.PORT_SOURCE_MQ
PORT_SOURCE_FILE: Final = Source.PORT_SOURCE_FILE

PORT_ALERT_SET: Final = AlertFlag.PORT_ALERT_SET
PORT_ALERT_UPDATE: Final = AlertFlag.PORT_ALERT_UPDATE
PORT_ALERT_INVALID: Final = AlertFlag.PORT_ALERT_INVALID

SIGEV_NONE: Final = Notify.SIGEV_NONE
SIGEV_SIGNAL: Final = Notify.SIGEV_SIGNAL
SIGEV_THREAD: Final = Notify.SIGEV_THREAD
SIGEV_PORT: Final = Notify.SIGEV_PORT

TIMER_RELTIME: Final = 0
TIMER_ABSTIME: Final = 1
"""The flag of timer_settime for a moment of the clock instead of a span (R034, R249)."""

FILE_ACCESS: Final = FileEvent.FILE_ACCESS
FILE_MODIFIED: Final = FileEvent.FILE_MODIFIED
FILE_ATTRIB: Final = FileEvent.FILE_ATTRIB
FILE_TRUNC: Final = FileEvent.FILE_TRUNC
FILE_NOFOLLOW: Final = FileEvent.FILE_NOFOLLOW
FILE_DELETE: Final = FileEvent.FILE_DELETE
FILE_RENAME_TO: Final = FileEvent.FILE_RENAME_TO
FILE_RENAME_FROM: Final = FileEvent.FILE_RENAME_FROM
UNMOUNTED: Final = FileEvent.UNMOUNTED
MOUNTEDOVER: Final = FileEvent.MOUNTEDOVER
FILE_EXCEPTION: Final = FileEvent.FILE_EXCEPTION

FILE_REQUEST: Final = 0x1010_0007
"""The bits that may be asked for (R011)."""

FILE_NAMES: Final = {bit.value: bit.name or "" for bit in FileEvent}

PORT_MAX_LIST: Final = 8192
"""The most ports that one kernel call of port_sendn takes (R003); here a list may be longer."""

# Errno values that some hosts lack get numbers of portcompat's own, above every host's range.
ETIME: Final[int] = getattr(errno, "ETIME", 10062)
EBADFD: Final[int] = getattr(errno, "EBADFD", 10081)

# The poll bits are the host's own (a host without poll(2) gets the common numbers). A bit that
# the host does not have is 0: asking for it asks for nothing.
POLLIN: Final[int] = getattr(select, "POLLIN", 0x0001)
POLLPRI: Final[int] = getattr(select, "POLLPRI", 0x0002)
POLLOUT: Final[int] = getattr(select, "POLLOUT", 0x0004)
POLLERR: Final[int] = getattr(select, "POLLERR", 0x0008)
POLLHUP: Final[int] = getattr(select, "POLLHUP", 0x0010)
POLLNVAL: Final[int] = getattr(select, "POLLNVAL", 0x0020)
POLLRDNORM: Final[int] = getattr(select, "POLLRDNORM", 0)
POLLRDBAND: Final[int] = getattr(select, "POLLRDBAND", 0)
POLLWRNORM: Final[int] = getattr(select, "POLLWRNORM", 0)
POLLWRBAND: Final[int] = getattr(select, "POLLWRBAND", 0)
POLLRDHUP: Final[int] = getattr(select, "POLLRDHUP", 0)

POLL_NAMES: Final[dict[int, str]] = {
    value: name
    for name, value in (
        ("POLLIN", POLLIN),
        ("POLLPRI", POLLPRI),
        ("POLLOUT", POLLOUT),
        ("POLLERR", POLLERR),
        ("POLLHUP", POLLHUP),
        ("POLLNVAL", POLLNVAL),
        ("POLLRDNORM", POLLRDNORM),
        ("POLLRDBAND", POLLRDBAND),
        ("POLLWRNORM", POLLWRNORM),
        ("POLLWRBAND", POLLWRBAND),
        ("POLLRDHUP", POLLRDHUP),
    )
    if value
}
