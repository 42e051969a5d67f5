"""The names and numbers of <aio.h> and <sys/aio.h>, as illumos has them (R025-R030)."""

from enum import IntEnum
from typing import Final


class Opcode(IntEnum):
    """What an event of PORT_SOURCE_AIO tells of: `PortEvent.events` (R025, R293)."""

    AIOREAD = 0
    AIOWRITE = 1
    AIOWAIT = 2
    AIOCANCEL = 3
    AIONOTIFY = 4
    AIOINIT = 5
    AIOSTART = 6
    AIOLIO = 7
    AIOSUSPEND = 8
    AIOERROR = 9
    AIOLIOWAIT = 10
    AIOAREAD = 11
    AIOAWRITE = 12
    AIOFSYNC = 20
    AIOWAITN = 21


class Cancelled(IntEnum):
    """What aio_cancel returns (R028)."""

    AIO_CANCELED = 0
    AIO_ALLDONE = 1
    AIO_NOTCANCELED = 2


class ListMode(IntEnum):
    """Whether lio_listio waits (R027)."""

    LIO_NOWAIT = 0
    LIO_WAIT = 1


class ListOpcode(IntEnum):
    """What a control block asks of lio_listio (R027)."""

    LIO_NOP = 0
    LIO_READ = 1
    LIO_WRITE = 2


AIOREAD: Final = Opcode.AIOREAD
AIOWRITE: Final = Opcode.AIOWRITE
AIOWAIT: Final = Opcode.AIOWAIT
AIOCANCEL: Final = Opcode.AIOCANCEL
AIONOTIFY: Final = Opcode.AIONOTIFY
AIOINIT: Final = Opcode.AIOINIT
AIOSTART: Final = Opcode.AIOSTART
AIOLIO: Final = Opcode.AIOLIO
AIOSUSPEND: Final = Opcode.AIOSUSPEND
AIOERROR: Final = Opcode.AIOERROR
AIOLIOWAIT: Final = Opcode.AIOLIOWAIT
AIOAREAD: Final = Opcode.AIOAREAD
AIOAWRITE: Final = Opcode.AIOAWRITE
AIOFSYNC: Final = Opcode.AIOFSYNC
AIOWAITN: Final = Opcode.AIOWAITN

AIO_CANCELED: Final = Cancelled.AIO_CANCELED
AIO_ALLDONE: Final = Cancelled.AIO_ALLDONE
AIO_NOTCANCELED: Final = Cancelled.AIO_NOTCANCELED

LIO_NOWAIT: Final = ListMode.LIO_NOWAIT
LIO_WAIT: Final = ListMode.LIO_WAIT

LIO_NOP: Final = ListOpcode.LIO_NOP
LIO_READ: Final = ListOpcode.LIO_READ
LIO_WRITE: Final = ListOpcode.LIO_WRITE

AIO_INPROGRESS: Final = -2
"""`AioResult.aio_return` of a request that is not finished (R029)."""

AIO_LISTIO_MAX: Final = 4096
"""The most control blocks that lio_listio takes (R030)."""
