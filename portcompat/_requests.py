"""The requests of asynchronous I/O: started, done or cancelled, and told."""

import atexit
import errno
import os
from collections.abc import Callable, Sequence
from functools import partial
from itertools import takewhile
from threading import RLock
from typing import TYPE_CHECKING, Final

from portcompat import _transfers
from portcompat._aio_constants import AIO_ALLDONE, AIO_CANCELED, AIO_NOTCANCELED
from portcompat._aio_request import Group, Request
from portcompat._notices import PortNotice
from portcompat._streams import Streams
from portcompat._transfers import SYNC
from portcompat._workers import Workers

if TYPE_CHECKING:
    from portcompat._aio_blocks import AioControlBlock
    from portcompat.abc import Backend

_PATIENCE: Final = 10.0  # seconds that an ending interpreter gives a disk


class Requests:
    """The requests of this process.

    **The lock** is held for a few steps each time, and while it is nothing is called that takes
    another. It is re-entrant for signal handlers.

    **Who finishes what.** The owner calls `finish`, which stores the result, then the status, and
    then tells (R294); then those start that had to wait. One that has the lock of a port says so
    (`inside`): what concerns other ports a worker does then, so nobody holds two ports' locks.

    **Interruptions.** A signal handler may raise in the main thread when that finishes or cancels
    something. It is finished again then, and each step may be made twice. Stores that belong
    together have no call between them.
    """

    def __init__(self) -> None:
        self._start_afresh()

    def _start_afresh(self) -> None:
        self.lock = RLock()
        self.outstanding: dict[Request, None] = {}
        self._last: dict[tuple[int, ...], Request] = {}
        self.unreaped: dict[AioControlBlock, None] = {}  # SIGEV_NONE, for aio_waitn (R338)
        self.wakers: dict[object, Callable[[], None]] = {}  # of threads that wait: see `Wait`
        self.waitn_turn: dict[None, object] = {}  # whose it is in aio_waitn (R342)
        self.workers = Workers(4, 256)  # R344
        self.callers = Workers(1, 100)  # R347
        self.streams = Streams(self.workers, self.finish)

    # Starting

    def submit(self, request: Request) -> None:
        """Take it on, and start it if nothing comes first.

        OSError EBUSY when its block is in use (R282), EBADF when the descriptor is of no use, and
        EAGAIN when no thread can be made: then nothing has happened but that the block says so
        (R285).
        """
        try:
            self._enlist((request,))
            self._launch(request)
            if request.home is not None:
                request.home.flush_io()
        except BaseException as error:
            self._settle(request, error)
            raise

    def submit_all(self, members: Sequence[Request], group: Group) -> int:
        """The same for the members of a list; how many are taken on."""
        begun = 0
        try:
            for member in members:
                member.group = group
            group.left.update(members)
            self._enlist(members)
            for member in members:
                try:
                    self._launch(member)
                    begun += 1
                except OSError as error:
                    self._settle(member, error)
            for home in {member.home for member in members}:
                if home is not None:
                    home.flush_io()
        except BaseException as error:
            for member in members:
                self._settle(member, error)
            raise
        return begun

    def _settle(self, request: Request, error: BaseException) -> None:
        """An exception has ended its submission: it is under way all the same, or was never
        made."""
        if request.start:
            self.workers.tend()
            if request.home is not None:
                request.home.flush_io()
        elif request.done:
            pass
        elif request.claim(object()) or request.owner.get(None) is request.home:
            self._withdraw(request, error)

    def _enlist(self, requests: Sequence[Request]) -> None:
        """Reserve the blocks for the requests, all or none."""
        with self.lock:
            for request in requests:
                if request.block._is_busy():
                    raise OSError(errno.EBUSY, "the control block is in use by another request")
            for request in requests:
                block = request.block
                request.former = block._error, block._result
                # No call among these.
                self.outstanding[request] = None
                block._request = request
                block._result = -1
                block._error = errno.EINPROGRESS

    def _launch(self, request: Request) -> None:
        """Start what is enlisted, now or after those that come first.

        What the kernel is to do it begins with at `flush_io`.
        """
        if request.reads_cache and self._read_cached(request):
            return
        request.look()
        self._queue(request)
        if request.after:
            return
        try:
            self.start(request)
        except RuntimeError as error:  # no thread can be made, and there is none
            if request.claim(object()):
                request.start = False
                refused = OSError(errno.EAGAIN, str(error))
                self._withdraw(request, refused)
                raise refused from error

    def _read_cached(self, request: Request) -> bool:
        """Whether all of it was in the page cache."""
        if not (_transfers.has_nowait and request.size()):
            return False
        result = -1
        try:
            if not request.claim(request):  # cancelled
                return True
            try:
                result = _transfers.read_cached(request.fd, request.buffers, request.offset)
            except OSError:  # whatever it is, the usual way tells
                pass
            if result == request.size():
                request.start = True
                self.finish(request, result, 0)
                return True
        except BaseException:
            if request.start:
                self.finish(request, result, 0)
            raise
        finally:
            if not request.start and request.owner.get(None) is request:
                request.owner = {}
        return False

    def _queue(self, request: Request) -> None:
        """Find out what it has to come after."""
        key = request.key
        with self.lock:
            if request.op == SYNC:
                first = list(takewhile(lambda other: other is not request, self.outstanding))
            else:
                last = self._last.get(key) if key is not None else None
                first = [last] if last is not None else []
            for other in first:
                if not other.done:
                    request.after.add(other)
                    other.followers.append(request)
            if key is not None:
                self._last[key] = request
        if request.op == SYNC and any(other.home is not request.home for other in first):
            # What the kernel does for another port is not known to be finished before somebody
            # looks there; perhaps nobody does.
            self.workers.put(partial(self._look_after, request), may_block=True)

    def _withdraw(self, request: Request, error: BaseException) -> None:
        """It was never started: it leaves without a word."""
        block = request.block
        if block._request is request:
            request.release()
            if isinstance(error, OSError):
                block._error, block._result = error.errno or errno.EIO, -1
            else:
                block._error, block._result = request.former
            block._request = None
        self._let_go(request)
        if request.group is not None:
            request.group.left.discard(request)
        self._go_on(request, None)

    def start(self, request: Request, inside: "Backend | None" = None) -> None:
        """Have it done. Again: no effect."""
        home = request.home
        if home is not None and (inside is None or inside is home):
            if home.start_io(request, inside is home):
                return
            home = None
        job = partial(self._run, request) if home is None else partial(self.start, request)
        put = self.workers.jobs.put
        # A store and, at once, the call of C: `_settle` depends on it.
        request.start = home is None
        put((job, False))
        self.workers.tend()

    def _run(self, request: Request) -> None:
        """In a worker."""
        if not request.claim(self.streams if request.stream else object()):
            return  # cancelled
        if request.stream:
            self.streams.run(request)
            return
        result, number = -1, 0
        try:
            result = request.transfer()
        except OSError as error:
            number = error.errno or errno.EIO
        except MemoryError:
            number = errno.ENOMEM
        self.finish(request, result, number)

    def _look_after(self, request: Request) -> None:
        """In a worker: see that what `request` waits for is known to be finished."""
        from portcompat._waits import attend

        ports = dict.fromkeys(other.home for other in list(request.after))
        attend(lambda: request.done or not request.after, [p for p in ports if p is not None])

    # Finishing

    def finish(
        self, request: Request, result: int, error: int, inside: "Backend | None" = None
    ) -> None:
        """Store the outcome and tell it. `inside`: the port whose lock the caller has."""
        block, notice = request.block, request.notice
        if block._request is request:
            request.release()
            # No call among these.
            block._result = result
            block._error = error
            block._request = None
        self._let_go(request)
        if notice is not None:
            notice.tell()
        elif not request.told:
            request.told = True
            self.unreaped[block] = None
        group = request.group
        if group is not None:
            group.failed = group.failed or bool(error)
            group.left.discard(request)
            self.tell(group, inside)
        self._go_on(request, inside)
        if self.wakers:
            self.wake()

    def wake(self) -> None:
        """Have all who wait look again."""
        for wake in list(self.wakers.values()):
            wake()

    def tell(self, group: Group, inside: "Backend | None" = None) -> None:
        """Tell of the list if all of it is finished."""
        notice = group.notice
        if group.left or notice is None:
            return
        if inside is None or (isinstance(notice, PortNotice) and notice.backend is inside):
            notice.tell()
        else:
            self.workers.put(notice.tell)

    def _let_go(self, request: Request) -> None:
        """It is done: nobody starts it or waits for it any more."""
        key = request.key
        with self.lock:
            request.done = True
            self.outstanding.pop(request, None)
            before = [other for other in request.after if not other.done]
            if key is not None and self._last.get(key) is request:
                same = [other for other in before if other.key == key]
                if same:
                    self._last[key] = same[0]
                else:
                    del self._last[key]
            # Those that wait for one that was cancelled still wait for what that waited for.
            for other in before:
                for follower in request.followers:
                    if other not in follower.after:
                        follower.after.add(other)
                        other.followers.append(follower)

    def _go_on(self, request: Request, inside: "Backend | None") -> None:
        """Start those that had to wait for it."""
        while request.followers:
            follower = request.followers[-1]
            with self.lock:
                follower.after.discard(request)
                free = not (follower.after or follower.done)
            if free:
                self.start(follower, inside)
                if inside is None and follower.home is not None:
                    follower.home.flush_io()
            del request.followers[-1]

    # Cancelling

    def cancel(self, request: Request) -> int:
        """AIO_CANCELED, AIO_ALLDONE or AIO_NOTCANCELED, for one request (R309-R312)."""
        canceller = object()
        try:
            return self._cancel(request, canceller)
        except BaseException:
            if request.owner.get(None) is canceller:
                self.finish(request, -1, errno.ECANCELED)
            raise

    def _cancel(self, request: Request, canceller: object) -> int:
        while not request.done:
            if request.claim(canceller):
                self.finish(request, -1, errno.ECANCELED)
                return AIO_CANCELED
            owner = request.owner.get(None)
            if owner is self.streams:
                if self.streams.cancel(request):
                    return AIO_CANCELED
            elif owner is not None and owner is request.home:
                home = request.home
                cancelled = None if home is None else home.cancel_io(request)
                if cancelled is None:  # it has just gone to the workers, or is done
                    continue
                if cancelled:
                    return AIO_CANCELED
            return AIO_ALLDONE if request.done else AIO_NOTCANCELED
        return AIO_ALLDONE

    def cancel_all(self, fd: int) -> int:
        """The same for all requests on a descriptor (R313)."""
        with self.lock:
            chosen = [request for request in self.outstanding if request.fd == fd]
        outcomes = {self.cancel(request) for request in reversed(chosen)}
        if len(outcomes) > 1:
            return AIO_NOTCANCELED
        return outcomes.pop() if outcomes else AIO_ALLDONE

    def quiesce(self) -> None:
        """The interpreter ends: have the kernel end what it does for ports, as the memory that it
        uses is about to be given back."""
        from portcompat._waits import attend

        mine = {r: r.home for r in list(self.outstanding) if r.home is not None and r.start}
        for request in mine:
            self.cancel(request)
        if mine:
            homes = dict.fromkeys(mine.values())
            attend(lambda: all(r.done or r.home is None for r in mine), homes, _PATIENCE)

    def forget(self) -> None:
        """In a fork child: none is left, and threads that are not here may hold locks (R348)."""
        self._start_afresh()


requests: Final = Requests()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=requests.forget)
atexit.register(requests.quiesce)
