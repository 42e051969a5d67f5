"""The alarms of the drivers, which all keep the same promises."""

import time
from collections.abc import Iterator
from importlib import import_module

import pytest

from portcompat._registry import TABLE
from portcompat.abc import Driver
from portcompat.conformance._descriptors import SOON
from portcompat.conformance._threads import waiting


@pytest.fixture
def driver(backend: str) -> Iterator[Driver]:
    module, _, name = TABLE[backend].partition(":")
    driver: Driver = getattr(import_module(module), name)()
    yield driver
    driver.close()


def clocks(driver: Driver) -> list[int]:
    return sorted(driver.clocks)


def test_a_wait_ends_with_the_alarm_of_each_clock_and_not_before(driver: Driver) -> None:
    for clock in clocks(driver):
        driver.set_alarm(clock, None)
        when = driver.now(clock) + 3_000_000
        driver.set_alarm(clock, when)
        deadline = time.monotonic() + SOON
        while driver.now(clock) < when:  # it may end too soon, as any wait may
            driver.wait(None)
            assert time.monotonic() < deadline
        driver.set_alarm(clock, None)


def test_an_alarm_that_is_past_ends_the_next_wait(driver: Driver) -> None:
    for clock in clocks(driver):
        driver.set_alarm(clock, 0)
        before = time.monotonic()
        driver.wait(SOON)
        assert time.monotonic() - before < SOON / 2
        driver.set_alarm(clock, None)
        before = time.monotonic()
        driver.wait(0.02)
        driver.wait(0.02)
        assert time.monotonic() - before > 0.015


def test_an_alarm_takes_effect_on_a_wait_in_progress(driver: Driver) -> None:
    for clock in clocks(driver):
        driver.set_alarm(clock, driver.now(clock) + 10**12)
        wait = waiting(lambda: driver.wait(None))
        driver.set_alarm(clock, driver.now(clock) + 1_000_000)
        wait.result()
        driver.set_alarm(clock, None)


def test_an_alarm_may_be_as_late_as_clocks_go(driver: Driver) -> None:
    for clock in clocks(driver):
        driver.set_alarm(clock, 2**63 - 1)
    assert driver.wait(0.001) == []
