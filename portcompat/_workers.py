"""Threads that work off jobs: made when they are needed, ended when they are idle."""

import signal
import sys
import threading
from _thread import LockType
from collections import deque
from collections.abc import Callable
from threading import Lock, RLock, Thread
from typing import Final

Job = Callable[[], object]

_IDLE: Final = 1.0  # seconds that a thread waits for another job before it ends


class Workers:
    """A queue of jobs and the threads that take them from it, in order.

    A job that comes while no thread is idle gets a new one as long as fewer than `least` are free;
    from then on if twice as many jobs wait as threads are free (R344), and never more than `most`.
    Free is who is not at a job that may block for ever. All are daemons: a job that never ends does
    not keep the process from ending.

    **Who is idle.** A thread that finds no job puts a lock of its own on `_idle` and sleeps on it;
    who brings a job takes one off and releases it. Both sides write first and look then: the thread
    joins `_idle` and looks for jobs once more, a bringer adds the job and looks who is idle.

    **Interruptions.** Who must know whether a job was brought before a signal handler raised
    appends it to `jobs` himself, and calls `tend`, again if need be. The lock is re-entrant for
    handlers.
    """

    def __init__(self, name: str, least: int, most: int) -> None:
        self._name = name
        self._least = least
        self._most = most
        self.jobs: deque[tuple[Job, bool]] = deque()
        self._idle: list[LockType] = []
        self._lock = RLock()  # of the next three
        self._starting: set[Thread] = set()
        self._blocked = 0
        self.threads = 0

    def put(self, job: Job, may_block: bool = False) -> None:
        """Have the job done. RuntimeError if there is no thread and none can be made."""
        self.jobs.append((job, may_block))
        self.tend()

    def tend(self) -> None:
        """See that somebody takes what is in the queue."""
        if not self.jobs:
            return
        try:
            self._idle.pop().release()
        except IndexError:
            free = self.threads + len(self._starting) - self._blocked
            if free < self._least or len(self.jobs) >= 2 * free:
                self._grow()

    def _grow(self) -> None:
        thread = Thread(target=self._work, name=self._name, daemon=True)
        try:
            with self._lock:
                if self.threads + len(self._starting) >= self._most:
                    return
                self._starting.add(thread)
            thread.start()
        except BaseException as error:
            self._starting.discard(thread)
            if not (isinstance(error, RuntimeError) and self.threads):
                raise

    def _work(self) -> None:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # R278
        with self._lock:
            self._starting.discard(threading.current_thread())
            self.threads += 1
        turn = Lock()
        turn.acquire()
        while True:
            try:
                job, may_block = self.jobs.popleft()
            except IndexError:
                if self._rest(turn):
                    continue
                return
            if may_block:
                with self._lock:
                    self._blocked += 1
                self.tend()
            try:
                job()
            except BaseException:
                told = (*sys.exc_info(), threading.current_thread())
                threading.excepthook(threading.ExceptHookArgs(told))
            del job  # and what it holds
            if may_block:
                with self._lock:
                    self._blocked -= 1

    def _rest(self, turn: LockType) -> bool:
        """Wait for a job. False if none came: then this thread is no longer counted, and ends."""
        self._idle.append(turn)
        if not self.jobs and turn.acquire(timeout=_IDLE):
            return True
        try:
            self._idle.remove(turn)
        except ValueError:  # somebody has just taken it off, and releases it
            turn.acquire()
            return True
        if self.jobs:
            return True
        with self._lock:
            self.threads -= 1
        self.tend()  # whoever brought a job meanwhile may have counted on this thread
        return False
