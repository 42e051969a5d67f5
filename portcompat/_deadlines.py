"""Deadlines of one clock: which is next, which are over, and how many periods have passed."""

from collections import deque
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from itertools import islice, repeat
from operator import sub
from typing import ClassVar, Generic, TypeVar, cast

_Item = TypeVar("_Item")

_SLACK = 64  # stale places that are not worth a compaction
_FEW = 64  # so many are popped one by one before it is thought about
_SHARE = 8  # where one in so many of all is over, to sort them costs less
_CHUNK = 1_024  # so many at once are made ready to be taken, and stay in the processor's cache


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


class Crowd(dict[_Item, None]):
    """The items of one deadline, in the order of their coming.

    It has the attributes of an item that is not armed, and so needs no look of its own."""

    __slots__ = ()

    when: ClassVar[int | None] = None
    interval: ClassVar[int] = 0
    queued: ClassVar[bool] = False


class Deadlines(Generic[_Item]):
    """Items in the order of their deadlines, those of one deadline in the order of their coming.

    `at` is what holds: at each deadline an item, or a crowd of several that share it. `heap` has
    the deadlines alone, which are cheaper to compare and to keep than pairs. A deadline whose items
    have been discarded stays in the heap, and is dropped when it comes up, or when half of the heap
    is like that; so to discard is O(1) in the long run.

    What is over is moved to `due`, and taken from there by `taking`, an iterator that raises
    IndexError at the end; `part` puts the items of a crowd into its place. Of very many only the
    first are in `due`, and the rest in `over`, as places in `_items`, the last one first. An item
    may be there, or at a deadline, that does not want to be any more because a signal handler's
    exception ended a change half-way: an item knows best.

    Nothing here locks, waits or knows the time.
    """

    __slots__ = ("_items", "alarm", "at", "clock", "due", "heap", "now", "over", "taking")

    def __init__(self, clock: int, now: Callable[[], int] = lambda: 0) -> None:
        self.clock = clock
        self.now = now  # for who uses this; nothing here does
        self.alarm: int | None = None  # what the driver has been told
        self.due: deque[_Item | Crowd[_Item]] = deque()
        # A crowd looks like an item.
        self.taking = cast(Iterator[_Item], iter(self.due.popleft, None))
        self.over: list[int] = []
        self._items: list[_Item | Crowd[_Item]] = []
        self.at: dict[int, _Item | Crowd[_Item]] = {}
        self.heap: list[int] = []

    def __len__(self) -> int:
        return sum(len(item) if isinstance(item, Crowd) else 1 for item in self.at.values())

    def __bool__(self) -> bool:
        return bool(self.heap or self.due or self.over)

    def add(self, when: int, item: _Item) -> bool:
        """Put `item` at `when`, where it may be already; whether that is the first deadline."""
        at = self.at
        if when in at:
            there = at[when]
            if isinstance(there, Crowd):
                there[item] = None
            elif there is not item:
                at[when] = Crowd({there: None, item: None})
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
        elif isinstance(there, Crowd) and item in there:
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
        """The next deadline; the beginning of time while some that are over wait to be taken."""
        heap, at = self.heap, self.at
        if self.due or self.over:
            return 0
        while heap:
            if heap[0] in at:
                return heap[0]
            heappop(heap)
        at.clear()  # which gives its memory back
        return None

    def expire(self, now: int) -> bool:
        """Have the first items whose deadlines are not after `now` in `due`; whether there are any.

        Those that were there already come before the others, and once they are taken it is to be
        called again.
        """
        heap, at, due = self.heap, self.at, self.due
        if due:
            return True
        if not self.over:
            few = _FEW
            while heap and heap[0] <= now:
                if not few:
                    sample = heap[:: len(heap) // _FEW + 1]
                    if sum(when <= now for when in sample) * _SHARE > len(sample):
                        self._sort_out(now)
                        break
                    few = _FEW
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
        if self.over:
            self._go_on()
        return bool(due)

    def _sort_out(self, now: int) -> None:
        """`expire` where to sort costs less than to pop from the heap one by one.

        It is bound by memory. So `at` is gone through from one end to the other and not looked up,
        what is sorted are small numbers that lie side by side, the distances from `now`, and no
        item is touched before its turn.
        """
        at = self.at
        far = list(map(sub, at, repeat(now)))
        left: dict[int, _Item | Crowd[_Item]] = {}
        if max(far) <= 0:
            items = list(at.values())
        else:
            far = [distance for distance in far if distance <= 0]
            items = [item for when, item in at.items() if when <= now]
            left = {when: item for when, item in at.items() if when > now}
        over = sorted(range(len(far)), key=far.__getitem__)
        over.reverse()
        heap = list(left)
        heapify(heap)
        # No call among these, so no signal handler can raise between them.
        self._items = items
        self.over = over
        self.at = left
        self.heap = heap

    def _go_on(self) -> None:
        over = self.over
        items = list(map(self._items.__getitem__, islice(reversed(over), _CHUNK)))
        count = len(items)
        # No call but the last.
        del over[-count:]
        self.due.extend(items)
        if not over:
            self._items = []

    def part(self) -> None:
        """Put the items of the crowd that is the first of `due` into its place."""
        crowd = self.due[0]
        if isinstance(crowd, Crowd):
            items = reversed(crowd)
            del self.due[0]
            self.due.extendleft(items)

    def clear(self) -> None:
        self.at.clear()
        self.heap.clear()
        self.due.clear()
        self.over.clear()
        self._items.clear()
