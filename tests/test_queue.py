"""The queue of a port, by itself."""

from collections import deque
from typing import SupportsIndex

import pytest

from portcompat import PORT_SOURCE_FD, PORT_SOURCE_USER, PortEvent
from portcompat._queue import EventQueue, Slot


class Named(Slot):
    """A slot that tells its name, or has nothing to tell."""

    def __init__(self, name: str, tells: bool = True) -> None:
        super().__init__()
        self.name = name
        self.tells = tells
        self.user: object = None

    def deliver(self) -> PortEvent | None:
        return PortEvent(PORT_SOURCE_FD, 0, 0, self.name) if self.tells else None


def message(user: object) -> PortEvent:
    return PortEvent(PORT_SOURCE_USER, 0, 0, user)


def users(events: list[PortEvent]) -> list[object]:
    return [event.user for event in events]


def enqueue(queue: EventQueue, slot: Slot) -> None:
    """As `Associations` does when a descriptor fires."""
    slot.queued = True
    queue.line.append(slot)


@pytest.fixture
def queue() -> EventQueue:
    return EventQueue(10)


def test_what_is_settled_comes_before_slots_that_are_appended_later(queue: EventQueue) -> None:
    queue.inbox.append(message("a"))
    queue.settle()
    enqueue(queue, Named("b"))
    queue.inbox.append(message("c"))
    assert users(queue.take(10)) == ["a", "b", "c"]


def test_a_slot_comes_before_what_is_in_the_inbox(queue: EventQueue) -> None:
    queue.inbox.append(message("a"))
    enqueue(queue, Named("b"))
    assert users(queue.take(10)) == ["b", "a"]


def test_take_leaves_what_is_beyond_its_limit(queue: EventQueue) -> None:
    queue.inbox.extend(map(message, "abc"))
    assert users(queue.take(2)) == ["a", "b"]
    assert users(queue.take(2)) == ["c"]


def test_a_withdrawn_slot_is_not_taken(queue: EventQueue) -> None:
    slots = [Named(name) for name in "abc"]
    for slot in slots:
        enqueue(queue, slot)
    queue.withdraw(slots[1])
    assert len(queue) == 2
    assert users(queue.take(10)) == ["a", "c"]


def test_a_slot_that_was_withdrawn_stands_where_it_was_appended_last(queue: EventQueue) -> None:
    one, other = Named("one"), Named("other")
    enqueue(queue, one)
    enqueue(queue, other)
    queue.withdraw(one)
    enqueue(queue, one)
    assert users(queue.take(10)) == ["other", "one"]


def test_slots_that_are_withdrawn_again_and_again_do_not_pile_up(queue: EventQueue) -> None:
    last, slot = Named("last"), Named("slot")
    enqueue(queue, last)
    for _ in range(1_000):
        enqueue(queue, slot)
        queue.withdraw(slot)
    assert len(queue.line) < 200
    assert len(queue) == 1
    assert users(queue.take(10)) == ["last"]


def test_a_slot_with_nothing_to_tell_is_declined(queue: EventQueue) -> None:
    mute = Named("mute", tells=False)
    enqueue(queue, mute)
    enqueue(queue, Named("b"))
    assert users(queue.take(1)) == ["b"]
    assert queue.declined == [mute]


def test_what_is_put_back_comes_first_and_in_its_order(queue: EventQueue) -> None:
    queue.inbox.extend(map(message, "abc"))
    queue.put_back(queue.take(2))
    assert users(queue.take(10)) == ["a", "b", "c"]


def test_a_slot_that_is_put_back_can_be_withdrawn(queue: EventQueue) -> None:
    slot = Named("a")
    queue.slot_of = lambda event: slot
    enqueue(queue, slot)
    queue.put_back(queue.take(1))
    queue.withdraw(slot)
    assert not queue
    assert queue.take(10) == []


def test_the_room_of_a_message_is_the_same_in_the_inbox_and_in_the_line(queue: EventQueue) -> None:
    queue.inbox.extend(map(message, "abc"))
    queue.settle()
    assert (queue.room, queue.settled) == (7, 3)
    queue.put_back(queue.take(2))
    assert (queue.room, queue.settled) == (7, 3)
    queue.take(10)
    assert (queue.room, queue.settled) == (10, 0)


def test_what_is_retracted_is_that_very_message(queue: EventQueue) -> None:
    first, equal = message("same"), message("same")
    queue.inbox.extend([first, equal])
    assert queue.retract(equal)
    assert not queue.retract(equal)
    assert queue.inbox[0] is first


class Hurried(deque[PortEvent]):
    """An inbox from which another thread takes some, without the lock, as one looks into it."""

    to_take = 0

    def __getitem__(self, place: SupportsIndex) -> PortEvent:  # type: ignore[override]
        while self.to_take:
            self.to_take -= 1
            self.popleft()
        return super().__getitem__(place)


@pytest.mark.parametrize("taken", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_retracting_bears_a_get_that_is_faster(queue: EventQueue, place: int, taken: int) -> None:
    messages = [message(number) for number in range(4)]
    inbox = Hurried(messages)
    inbox.to_take = taken
    queue.inbox = inbox
    assert queue.retract(messages[place]) == (place >= taken)
    left = messages[taken:]
    if place >= taken:
        left.remove(messages[place])
    assert users(list(inbox)) == users(left)


def test_an_exception_in_a_delivery_leaves_the_queue_as_it_was(queue: EventQueue) -> None:
    class Failing(Named):
        def deliver(self) -> PortEvent | None:
            raise KeyError

    failing = Failing("failing")
    queue.inbox.append(message("a"))
    queue.settle()
    enqueue(queue, failing)
    with pytest.raises(KeyError):
        queue.take(2)
    assert len(queue) == 2
    assert users(queue.take(1)) == ["a"]
    assert failing.queued


def test_clear_returns_what_it_drops(queue: EventQueue) -> None:
    slot, event = Named("a"), message("b")
    enqueue(queue, slot)
    queue.inbox.append(event)
    assert queue.clear() == [slot, event]
    assert not queue
