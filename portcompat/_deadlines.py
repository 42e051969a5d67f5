"""Deadlines of one clock: which is next, which are over, and how many periods have passed."""

from collections import deque
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

_Item = TypeVar("_Item")

_SLACK = 64  # stale places that are not worth a compaction
_FEW = 64  # so many, and one in so many of all, are popped one by one


def expirations(when: int, interval: int, now: int) -> tuple[int, int | None]:
    """How many of `when`, `when + interval`, ... are over at `now`, and the first that is not.

    Without an interval there is only one. The phase is kept, however late one looks (R253).
    """
    if now < when:
        return 0, when
    if not interval:
        return 1, None
    count = (now - when) // interval + 1
    return count, when + count * interval


def remaining(when: int | None, interval: int, now: int) -> int:
    """The time until the next expiry, 0 if there is none (R261, R262)."""
    if when is None:
        return 0
    if now < when:
        return when - now
    return interval - (now - when) % interval if interval else 0


class Deadlines(Generic[_Item]):
    """Items in the order of their deadlines, those of one deadline in the order of their coming.

    `at` is what holds: at each deadline an item, or of several that share it a dict in their
    order. `heap` has the deadlines alone, which are cheaper to compare and to keep than pairs.
    A deadline whose items have been discarded stays in the heap, and is dropped when it comes up,
    or when half of the heap is like that; so to discard is O(1) in the long run.

    What is over is moved to `due`. An item may be there, or at a deadline, that does not want to be
    any more because a signal handler's exception ended a change half-way: an item knows best.

    Nothing here locks, waits or knows the time.
    """

    __slots__ = ("alarm", "at", "clock", "due", "heap")

    def __init__(self, clock: int) -> None:
        self.clock = clock
        self.alarm: int | None = None  # what the driver has been told
        self.due: deque[_Item | dict[_Item, None]] = deque()
        self.at: dict[int, _Item | dict[_Item, None]] = {}
        self.heap: list[int] = []

    def __len__(self) -> int:
        return sum(len(item) if isinstance(item, dict) else 1 for item in self.at.values())

    def __bool__(self) -> bool:
        return bool(self.heap or self.due)

    def add(self, when: int, item: _Item) -> bool:
        """Put `item` at `when`, where it may be already; whether that is the first deadline."""
        at = self.at
        if when in at:
            there = at[when]
            if isinstance(there, dict):
                there[item] = None
            elif there is not item:
                at[when] = {there: None, item: None}
        else:
            # Not the other way round: a deadline without an item would be dropped, not missed.
            at[when] = item
            heappush(self.heap, when)
        return when == self.heap[0]

    def discard(self, when: int, item: _Item) -> None:
        """Take `item` out, if it is there."""
        there = self.at.get(when)
        if there is item:
            del self.at[when]
        elif isinstance(there, dict) and item in there:
            del there[item]
            if there:
                return
            del self.at[when]
        else:
            return
        heap = self.heap
        if not self.at:
            heap.clear()
        elif len(heap) > _SLACK and len(heap) > 2 * len(self.at):
            heap = list(self.at)
            heapify(heap)
            self.heap = heap

    def first(self) -> int | None:
        """The next deadline; the beginning of time while there are some in `due`."""
        heap, at = self.heap, self.at
        if self.due:
            return 0
        while heap:
            if heap[0] in at:
                return heap[0]
            heappop(heap)
        at.clear()  # which gives its memory back
        return None

    def expire(self, now: int) -> None:
        """Move the items whose deadlines are not after `now` to `due`."""
        heap, at, due = self.heap, self.at, self.due
        few = _FEW + len(heap) // _FEW
        while heap and heap[0] <= now:
            if not few:
                self._expire_many(now)
                return
            few -= 1
            when = heap[0]
            if when in at:
                item = at[when]
                # A signal handler may raise after each call: no item is held by a name alone.
                del at[when]
                due.append(item)
            heappop(heap)
        if not heap:
            at.clear()

    def _expire_many(self, now: int) -> None:
        """`expire` where sorting costs less than popping from the heap one by one."""
        at = self.at
        # A set: what was discarded and came again is in the heap twice.
        over = sorted({when for when in self.heap if when <= now and when in at})
        self.due.extend(map(at.pop, over))
        heap = [when for when in self.heap if when > now]
        heapify(heap)
        self.heap = heap
        if not heap:
            at.clear()

    def next_due(self) -> _Item:
        """The first of `due`, which is not empty; it stays there."""
        due = self.due
        item = due[0]
        while isinstance(item, dict):
            items = reversed(item)
            del due[0]
            due.extendleft(items)
            item = due[0]
        return item

    def clear(self) -> None:
        self.at.clear()
        self.heap.clear()
        self.due.clear()
