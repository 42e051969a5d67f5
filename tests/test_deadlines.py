"""Deadlines and periods: arithmetic, and a heap whose items may go at any time."""

import random
from typing import TypeVar

import pytest

from portcompat._deadlines import Deadlines, expirations, remaining
from tests.interruptions import Interrupted, Interruption


@pytest.mark.parametrize(
    ("when", "interval", "now", "expected"),
    [
        (10, 0, 9, (0, 10)),
        (10, 0, 10, (1, None)),
        (10, 0, 1_000, (1, None)),
        (10, 3, 9, (0, 10)),
        (10, 3, 10, (1, 13)),
        (10, 3, 12, (1, 13)),
        (10, 3, 13, (2, 16)),
        (10, 3, 1_000, (331, 1_003)),
        (0, 1, 10**18, (10**18 + 1, 10**18 + 1)),
    ],
)
def test_every_period_that_has_passed_counts(
    when: int, interval: int, now: int, expected: tuple[int, int | None]
) -> None:
    assert expirations(when, interval, now) == expected


def test_counts_add_up_and_the_phase_stays_however_one_looks() -> None:
    chance = random.Random(1)
    when: int | None = 1_000
    now = total = 0
    for _ in range(1_000):
        now += chance.randrange(50)
        assert when is not None
        count, when = expirations(when, 7, now)
        total += count
        assert total == (0 if now < 1_000 else (now - 1_000) // 7 + 1)
        assert when is not None
        assert (when - 1_000) % 7 == 0


@pytest.mark.parametrize(
    ("when", "interval", "now", "expected"),
    [
        (None, 5, 1, 0),
        (10, 0, 4, 6),
        (10, 0, 10, 0),
        (10, 5, 4, 6),
        (10, 5, 10, 5),
        (10, 5, 14, 1),
        (10, 5, 15, 5),
    ],
)
def test_what_remains(when: int | None, interval: int, now: int, expected: int) -> None:
    assert remaining(when, interval, now) == expected


_Item = TypeVar("_Item")


def taken(deadlines: Deadlines[_Item], now: int) -> list[_Item]:
    """Take what is due."""
    items = []
    while deadlines.expire(now):
        deadlines.part()
        items.append(next(deadlines.taking))
    return items


def test_what_is_over_comes_in_the_order_of_the_deadlines() -> None:
    deadlines = Deadlines[str](1)
    for when, item in ((5, "e"), (3, "c"), (4, "d"), (9, "i"), (1, "a")):
        deadlines.add(when, item)
    assert deadlines.first() == 1
    assert taken(deadlines, 0) == []
    assert taken(deadlines, 4) == ["a", "c", "d"]
    assert deadlines.first() == 5
    assert taken(deadlines, 100) == ["e", "i"]
    assert deadlines.first() is None
    assert not deadlines


def test_those_of_one_deadline_come_in_the_order_of_their_coming() -> None:
    deadlines = Deadlines[str](1)
    for item in "cabd":
        deadlines.add(7, item)
    deadlines.discard(7, "a")
    assert len(deadlines) == 3
    assert taken(deadlines, 7) == ["c", "b", "d"]


def test_the_first_is_told() -> None:
    deadlines = Deadlines[str](1)
    assert deadlines.add(5, "a")
    assert not deadlines.add(6, "b")
    assert deadlines.add(4, "c")
    assert deadlines.add(4, "d")


def test_to_add_an_item_again_changes_nothing() -> None:
    deadlines = Deadlines[str](1)
    deadlines.add(5, "a")
    deadlines.add(5, "a")
    assert taken(deadlines, 5) == ["a"]
    assert taken(deadlines, 5) == []


def test_what_is_not_there_can_be_discarded() -> None:
    deadlines = Deadlines[str](1)
    deadlines.discard(5, "a")
    deadlines.add(5, "b")
    deadlines.discard(5, "a")
    deadlines.add(5, "c")
    deadlines.discard(5, "a")
    assert taken(deadlines, 5) == ["b", "c"]


def test_what_is_discarded_does_not_pile_up() -> None:
    deadlines = Deadlines[str](1)
    deadlines.add(10**9, "stays")
    for when in range(100_000):
        deadlines.add(when, "goes")
        deadlines.discard(when, "goes")
        assert len(deadlines.heap) < 200
    assert len(deadlines) == 1
    assert deadlines.first() == 10**9


def test_nothing_is_left_when_all_are_discarded() -> None:
    deadlines = Deadlines[str](1)
    for when in range(10):
        deadlines.add(when, "goes")
    for when in range(10):
        deadlines.discard(when, "goes")
    assert not deadlines


def test_what_is_over_and_not_taken_is_next() -> None:
    deadlines = Deadlines[str](1)
    deadlines.add(5, "a")
    deadlines.add(9, "b")
    deadlines.expire(6)
    assert deadlines.first() == 0
    assert deadlines


def test_it_is_what_a_list_that_is_sorted_would_be() -> None:
    chance = random.Random(2)
    deadlines = Deadlines[int](1)
    model: dict[int, int] = {}
    now = 0
    for item in range(20_000):
        match chance.randrange(4):
            case 0 | 1:
                model[item] = now + chance.randrange(1, 300)
                deadlines.add(model[item], item)
            case 2 if model:
                gone = chance.choice(list(model))
                deadlines.discard(model.pop(gone), gone)
            case _:
                now += chance.randrange(20)
                over = sorted((when, i) for i, when in model.items() if when <= now)
                assert taken(deadlines, now) == [i for _, i in over]
                for _, i in over:
                    del model[i]
        assert len(deadlines) == len(model)
        assert deadlines.first() == min(model.values(), default=None)


def test_very_many_that_are_over_come_in_the_order_of_the_deadlines() -> None:
    chance = random.Random(5)
    whens = [chance.randrange(5_000) for _ in range(10_000)]
    deadlines = Deadlines[int](1)
    items = list(range(10_000))  # each is known by its identity
    for item in items:
        deadlines.add(whens[item], item)
    for gone in items[::7]:
        deadlines.discard(whens[gone], gone)
    left = [item for item in items if item % 7]
    assert taken(deadlines, 3_999) == sorted(
        (i for i in left if whens[i] < 4_000), key=whens.__getitem__
    )
    assert deadlines.first() == min(whens[i] for i in left if whens[i] >= 4_000)
    assert taken(deadlines, 5_000) == sorted(
        (i for i in left if whens[i] >= 4_000), key=whens.__getitem__
    )
    assert not deadlines


@pytest.mark.parametrize("more", [0, 100])
def test_an_exception_of_a_signal_handler_loses_no_item(more: int) -> None:
    def throw() -> None:
        raise Interrupted

    step = 0
    while True:
        deadlines = Deadlines[str](1)
        for when, item in ((1, "a"), (2, "b"), (2, "c"), (3, "d"), (9, "e")):
            deadlines.add(when, item)
        for when in range(100, 100 + more):
            deadlines.add(when, str(when))
        with Interruption(step, throw) as interruption:
            try:
                deadlines.expire(3 + 10 * more)
            except Interrupted:
                pass
        expected = ["a", "b", "c", "d", "e", *map(str, range(100, 100 + more))]
        assert taken(deadlines, 9 + 10 * more) == expected, interruption.place
        if not interruption.place:
            break
        step += 1
    assert step > 5
