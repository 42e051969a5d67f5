"""Threads that work off jobs: made when they are needed, ended when they are idle."""

import signal
import sys
import threading
from _thread import start_new_thread
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import RLock
from typing import Final

Job = Callable[[], object]

_IDLE: Final = 1.0  # seconds that a thread waits for another job before it ends


class Workers:
    """A queue of jobs and the threads that take them from it, in order.

    A job that comes while no thread is idle gets a new one as long as fewer than `least` are free;
    from then on if twice as many jobs wait as threads are free (R344), and never more than `most`.
    Free is who is not at a job that may block for ever. All are daemons: a job that never ends does
    not keep the process from ending.

    **Nobody is forgotten.** Who brings a job puts it into the queue and then looks how many are
    idle; who gets busy, or ends, says so and then looks into the queue (`tend`).

    **Interruptions.** Who must know whether a job was brought before a signal handler raised puts
    it into `jobs` himself, which is one step, and calls `tend`, again if need be. The lock is
    re-entrant for handlers.
    """

    def __init__(self, least: int, most: int) -> None:
        self.jobs: SimpleQueue[tuple[Job, bool]] = SimpleQueue()
        self._least = least
        self._most = most
        self._lock = RLock()  # of the numbers
        self._starting: set[object] = set()
        self._idle = 0
        self._blocked = 0
        self.threads = 0

    def put(self, job: Job, may_block: bool = False) -> None:
        """Have the job done. RuntimeError if there is no thread and none can be made."""
        self.jobs.put((job, may_block))
        self.tend()

    def tend(self) -> None:
        """See that somebody takes what is in the queue."""
        waiting = self.jobs.qsize()
        if waiting > self._idle:
            free = self.threads + len(self._starting) - self._blocked
            if free < self._least or waiting >= 2 * free:
                self._grow()

    def _grow(self) -> None:
        token = object()
        try:
            with self._lock:
                if self.threads + len(self._starting) >= self._most:
                    return
                self._starting.add(token)
            # Not threading.Thread: if a handler raises in its `start` the thread breaks down.
            start_new_thread(self._work, (token,))
        except BaseException as error:
            self._starting.discard(token)
            if not (isinstance(error, RuntimeError) and self.threads):
                raise

    def _work(self, token: object) -> None:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # R278
        with self._lock:
            self._starting.discard(token)
            self.threads += 1
            self._idle += 1
        while True:
            try:
                job, may_block = self.jobs.get(timeout=_IDLE)
            except Empty:
                with self._lock:
                    if not self.jobs.empty():
                        continue
                    self._idle -= 1
                    self.threads -= 1
                self.tend()
                return
            with self._lock:
                self._idle -= 1
                self._blocked += may_block
            self.tend()
            try:
                job()
            except BaseException:
                told = (*sys.exc_info(), threading.current_thread())
                threading.excepthook(threading.ExceptHookArgs(told))
            del job  # and what it holds
            with self._lock:
                self._idle += 1
                self._blocked -= may_block
