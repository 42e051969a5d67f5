"""The simulated driver: virtual time, scripted descriptors and faults."""

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from portcompat import (
    EBADFD,
    POLLHUP,
    POLLIN,
    POLLOUT,
    Port,
    PortTimeout,
    available_backends,
)
from portcompat.abc import Renumbered
from portcompat.backends.simulated import BACKEND, SimulatedDriver, Simulation
from portcompat.conformance._descriptors import pipe
from portcompat.conformance._fork import in_fork_child
from portcompat.conformance._threads import waiting

MONOTONIC = time.CLOCK_MONOTONIC
REALTIME = time.CLOCK_REALTIME
SECOND = 10**9
HOUR = 3600
FD = 100_005  # a number that no file has


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    with Simulation() as simulation:
        yield simulation


@pytest.fixture
def driver(simulation: Simulation) -> Iterator[SimulatedDriver]:
    driver = SimulatedDriver()
    yield driver
    driver.close()


def errno_of(call: Callable[[], object]) -> int | None:
    with pytest.raises(OSError) as caught:
        call()
    number: int | None = caught.value.errno
    return number


# Time


def test_the_clocks_stand_while_nobody_waits(simulation: Simulation) -> None:
    before = [simulation.now(clock) for clock in (MONOTONIC, REALTIME)]
    time.sleep(0.001)
    assert [simulation.now(clock) for clock in (MONOTONIC, REALTIME)] == before
    assert simulation.elapsed == 0


def test_every_simulation_starts_at_the_same_times(simulation: Simulation) -> None:
    simulation.advance(5)
    other = Simulation()
    assert other.now(REALTIME) == simulation.now(REALTIME) - 5 * SECOND
    assert other.elapsed == 0


def test_a_wait_takes_virtual_time_and_no_other(
    simulation: Simulation, driver: SimulatedDriver
) -> None:
    before = time.monotonic()
    assert driver.wait(1_000 * HOUR) == []
    assert simulation.elapsed == 1_000 * HOUR
    assert time.monotonic() - before < 30


def test_a_wait_of_no_time_moves_nothing(simulation: Simulation, driver: SimulatedDriver) -> None:
    driver.set_alarm(MONOTONIC, simulation.now() + 1)
    assert driver.wait(0) == []
    assert simulation.elapsed == 0


def test_advancing_moves_every_clock(simulation: Simulation) -> None:
    before = {clock: simulation.now(clock) for clock in (MONOTONIC, REALTIME)}
    simulation.advance(1.5)
    assert all(simulation.now(clock) - was == 1_500_000_000 for clock, was in before.items())
    with pytest.raises(ValueError, match="step"):
        simulation.advance(-1)


def test_setting_a_clock_moves_that_one_alone(simulation: Simulation) -> None:
    monotonic, realtime = simulation.now(), simulation.now(REALTIME)
    simulation.step(-2 * HOUR)
    assert simulation.now(REALTIME) == realtime - 2 * HOUR * SECOND
    assert simulation.now() == monotonic
    assert simulation.elapsed == 0
    with pytest.raises(ValueError, match="CLOCK_MONOTONIC"):
        simulation.step(1, MONOTONIC)


def test_a_machine_that_sleeps_keeps_its_monotonic_clock(simulation: Simulation) -> None:
    realtime = simulation.now(REALTIME)
    simulation.suspend(HOUR)
    assert simulation.elapsed == 0
    assert simulation.now(REALTIME) == realtime + HOUR * SECOND


def test_a_loop_that_reads_a_clock_comes_to_its_time() -> None:
    with Simulation(reading=0.001) as simulation, Port(BACKEND) as port, port.timer() as timer:
        timer.set(after=1)
        while not port.getn(1, 1, 0):
            pass
        assert 1 <= simulation.elapsed < 1.1


def test_an_alarm_ends_a_wait_to_the_nanosecond_and_once(
    simulation: Simulation, driver: SimulatedDriver
) -> None:
    for clock in driver.clocks:
        when = simulation.now(clock) + 7
        driver.set_alarm(clock, when)
        assert driver.wait(HOUR) == []
        assert simulation.now(clock) == when
        assert driver.wait(1) == []
        assert simulation.now(clock) == when + SECOND


def test_the_first_of_timeout_and_alarms_ends_a_wait(
    simulation: Simulation, driver: SimulatedDriver
) -> None:
    driver.set_alarm(MONOTONIC, simulation.now() + 3 * SECOND)
    driver.set_alarm(REALTIME, simulation.now(REALTIME) + 2 * SECOND)
    for expected in (1, 2, 3):
        driver.wait(1 if expected == 1 else None)
        assert simulation.elapsed == expected


def test_an_alarm_is_replaced_and_dropped(simulation: Simulation, driver: SimulatedDriver) -> None:
    driver.set_alarm(MONOTONIC, simulation.now() + SECOND)
    driver.set_alarm(MONOTONIC, simulation.now() + 2 * SECOND)
    driver.wait(None)
    assert simulation.elapsed == 2
    driver.set_alarm(MONOTONIC, simulation.now() + SECOND)
    driver.set_alarm(MONOTONIC, None)
    driver.set_alarm(MONOTONIC, None)
    driver.wait(5)
    assert simulation.elapsed == 7


def test_an_alarm_that_is_past_ends_a_wait_at_once(
    simulation: Simulation, driver: SimulatedDriver
) -> None:
    driver.set_alarm(REALTIME, 1)
    driver.wait(None)
    assert simulation.elapsed == 0


def test_an_alarm_goes_by_a_clock_that_is_set(
    simulation: Simulation, driver: SimulatedDriver
) -> None:
    when = simulation.now(REALTIME) + HOUR * SECOND
    driver.set_alarm(REALTIME, when)
    simulation.step(-HOUR)
    driver.wait(None)  # says that the clock was set
    assert simulation.elapsed == 0
    driver.wait(None)
    assert simulation.elapsed == 2 * HOUR
    driver.set_alarm(REALTIME, simulation.now(REALTIME) + HOUR * SECOND)
    simulation.at(2 * HOUR + 60, simulation.step, 2 * HOUR)
    driver.wait(None)
    assert simulation.elapsed == 2 * HOUR + 60


def test_what_is_to_happen_happens_in_its_order_and_at_its_time(
    simulation: Simulation, driver: SimulatedDriver
) -> None:
    seen: list[tuple[str, float]] = []

    def see(name: str) -> None:
        seen.append((name, simulation.elapsed))

    for name, when in (("c", 3), ("a", 1), ("b", 2), ("d", 3)):
        simulation.at(when, see, name)
    driver.wait(2.5)
    assert seen == [("a", 1), ("b", 2)]
    simulation.advance(HOUR)
    assert seen[2:] == [("c", 3), ("d", 3)]
    assert simulation.elapsed == HOUR + 2.5


def test_what_a_call_raises_comes_out_of_the_wait(
    simulation: Simulation, driver: SimulatedDriver
) -> None:
    simulation.at(1, [].pop)
    with pytest.raises(IndexError):
        driver.wait(None)
    assert driver.wait(1) == []
    assert simulation.elapsed == 2


# Threads


def run_all(*calls: Callable[[], object]) -> list[threading.Thread]:
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    return threads


def test_time_moves_from_moment_to_moment_of_all_threads() -> None:
    simulation = Simulation(patience=None)
    seen: list[float] = []

    def sleep_again_and_again(seconds: float) -> None:
        for _ in range(20):
            simulation.sleep(seconds)
            seen.append(simulation.elapsed)

    threads = run_all(lambda: sleep_again_and_again(2), lambda: sleep_again_and_again(3))
    simulation.sleep(100)
    assert seen == sorted([2 * i for i in range(1, 21)] + [3 * i for i in range(1, 21)])
    assert simulation.elapsed == 100
    for thread in threads:
        thread.join()


def test_time_stands_while_another_thread_works() -> None:
    with Simulation(patience=None) as simulation:
        driver = SimulatedDriver()
        wait = waiting(lambda: driver.wait(5))  # this thread works, or so it seems
        simulation.sleep(4)
        wait.at_rest()
        assert simulation.elapsed == 4
        simulation.sleep(2)
        assert wait.result() == []
        assert simulation.elapsed == 6
        driver.close()


def test_a_thread_that_waits_elsewhere_is_believed_to_in_the_end() -> None:
    with Simulation() as simulation:
        driver = SimulatedDriver()
        wait = waiting(lambda: driver.wait(HOUR))
        assert wait.result() == []
        assert simulation.elapsed == HOUR
        driver.close()


def test_a_thread_that_ends_keeps_nobody_waiting() -> None:
    simulation = Simulation(patience=None)
    go_on = threading.Event()
    (thread,) = run_all(go_on.wait)
    go_on.set()
    simulation.sleep(1)
    assert simulation.elapsed == 1
    thread.join()


def test_what_a_thread_does_before_it_waits_is_seen_before_time_moves() -> None:
    for _ in range(50):
        with Simulation(patience=None), pipe() as (reader, writer):
            simulation, driver = Simulation.current(), SimulatedDriver()
            driver.arm(reader.fileno(), POLLIN, 7)
            seen: list[tuple[float, object]] = []

            def watch() -> None:
                seen.append((simulation.elapsed, driver.wait(10)))  # noqa: B023

            simulation.sleep(1)
            (thread,) = run_all(watch)
            simulation.sleep(1)
            writer.write(b"x")
            simulation.sleep(20)
            thread.join()
            assert seen == [(1, [(7, POLLIN)])]
            assert simulation.elapsed == 22
            driver.close()


def test_time_goes_on_in_a_fork_child_without_the_threads_of_the_parent() -> None:
    with Simulation(patience=None) as simulation, Port(BACKEND) as port:
        getters = [waiting(lambda: port.get(3)) for _ in range(2)]

        def child() -> None:
            simulation.sleep(5)
            assert simulation.elapsed == 5
            with Port(BACKEND) as mine:
                assert mine.getn(1, 1, 5) == []
            assert simulation.elapsed == 10

        in_fork_child(child)
        port.send(1)
        port.send(1)
        for getter in getters:
            assert getter.result().events == 1


def test_a_number_that_means_another_file_by_now_does_not_hold_time_up() -> None:
    with Simulation(), pipe() as (reader, to), pipe() as (other, to_other):
        driver, number = SimulatedDriver(), reader.fileno()
        driver.arm(number, POLLIN, 7)
        assert driver.is_quiet()
        to.write(b"x")
        assert not driver.is_quiet()
        to_other.write(b"x")
        os.dup2(other.fileno(), number)
        assert driver.is_quiet()
        driver.close()


def test_without_jumps_time_moves_only_when_told() -> None:
    with Simulation(jumps=False) as simulation:
        driver = SimulatedDriver()
        wait = waiting(lambda: driver.wait(5))
        simulation.advance(4)
        wait.at_rest()
        simulation.advance(1)
        assert wait.result() == []
        assert simulation.elapsed == 5
        driver.close()


# Wake-ups


@pytest.mark.parametrize("times", [1, 3, 1_000])
def test_a_wake_ends_the_next_wait_and_no_other(
    simulation: Simulation, driver: SimulatedDriver, times: int
) -> None:
    for _ in range(times):
        driver.wake()
    assert driver.wait(10) == []
    assert simulation.elapsed == 0
    assert driver.wait(10) == []
    assert simulation.elapsed == 10


def test_a_wake_ends_the_wait_in_progress() -> None:
    with Simulation(jumps=False) as simulation:
        driver = SimulatedDriver()
        wait = waiting(lambda: driver.wait(None))
        driver.wake()
        assert wait.result() == []
        wait = waiting(lambda: driver.wait(None))
        driver.set_alarm(MONOTONIC, simulation.now())
        assert wait.result() == []
        driver.close()


# Descriptors


def test_a_descriptor_is_ready_at_its_time_and_reported_once(
    simulation: Simulation, driver: SimulatedDriver
) -> None:
    simulation.set(FD, 0)
    simulation.at(3.2, simulation.set, FD, POLLIN | POLLOUT)
    driver.arm(FD, POLLIN, 7)
    assert driver.wait(3) == []
    assert driver.wait(None) == [(7, POLLIN)]
    assert simulation.elapsed == 3.2
    assert driver.wait(1) == []
    driver.arm(FD, POLLOUT, 8)
    driver.arm(FD, 0, 9)
    assert driver.wait(1) == []
    simulation.set(FD, POLLHUP)
    assert driver.wait(None) == [(9, POLLHUP)]


def test_descriptors_are_reported_in_the_order_in_which_they_became_ready(
    simulation: Simulation, driver: SimulatedDriver
) -> None:
    for number in range(5):
        simulation.set(FD + number, 0)
        driver.arm(FD + number, POLLIN, number)
    for number in (3, 1, 4, 0, 2):
        simulation.set(FD + number, POLLIN)
    driver.disarm(FD + 4)
    assert [token for token, _ in driver.wait(None)] == [3, 1, 0, 2]


def test_arming_takes_effect_on_a_wait_in_progress() -> None:
    with Simulation(jumps=False) as simulation:
        driver = SimulatedDriver()
        simulation.set(FD, POLLOUT)
        wait = waiting(lambda: driver.wait(None))
        driver.arm(FD, POLLOUT, 7)
        assert wait.result() == [(7, POLLOUT)]
        driver.close()


def test_a_closed_descriptor_is_another_when_it_is_set_again(
    simulation: Simulation, driver: SimulatedDriver
) -> None:
    simulation.set(FD, POLLIN)
    driver.arm(FD, POLLIN, 7)
    assert driver.current(FD)
    simulation.close(FD)
    assert not driver.current(FD)
    assert errno_of(lambda: driver.arm(FD, POLLIN, 7)) == errno.EBADF
    simulation.set(FD, POLLIN)
    assert not driver.current(FD)
    assert driver.wait(0) == []
    with pytest.raises(Renumbered):
        driver.arm(FD, POLLIN, 7)
    driver.arm(FD, POLLIN, -2)
    assert driver.wait(0) == [(-2, POLLIN)]


def test_a_file_that_is_always_ready_is_not_watched(
    simulation: Simulation, driver: SimulatedDriver
) -> None:
    simulation.set(FD, POLLIN | POLLOUT, always=True)
    assert driver.arm(FD, POLLIN, 7) == POLLIN
    assert driver.wait(1) == []


def test_other_numbers_are_the_files_they_are(
    simulation: Simulation, driver: SimulatedDriver
) -> None:
    with pipe() as (reader, writer):
        driver.arm(reader.fileno(), POLLIN, 7)
        simulation.at(2, writer.write, b"x")
        assert driver.wait(None) == [(7, POLLIN)]
        assert simulation.elapsed == 2
        driver.disarm(reader.fileno())
        assert not driver.current(reader.fileno())
    assert errno_of(lambda: driver.arm(FD, POLLIN, 7)) == errno.EBADF


def test_closing_gives_every_descriptor_back(simulation: Simulation) -> None:
    before = sorted(os.listdir("/dev/fd"))
    driver = SimulatedDriver()
    driver.fileno()
    driver.close()
    driver.close()
    assert sorted(os.listdir("/dev/fd")) == before


# Faults


def test_a_verb_fails_once_as_it_is_told_to(
    simulation: Simulation, driver: SimulatedDriver
) -> None:
    simulation.set(FD, POLLIN)
    simulation.set(FD + 1, 0)
    simulation.fail("arm", errno.EAGAIN, fd=FD)
    simulation.fail("wait", errno.EIO)
    simulation.fail("set_alarm", errno.EMFILE)
    driver.arm(FD + 1, POLLIN, 8)
    assert errno_of(lambda: driver.arm(FD, POLLIN, 7)) == errno.EAGAIN
    assert errno_of(lambda: driver.wait(None)) == errno.EIO
    assert errno_of(lambda: driver.set_alarm(MONOTONIC, 1)) == errno.EMFILE
    driver.arm(FD, POLLIN, 7)
    assert driver.wait(None) == [(7, POLLIN)]


def test_a_wait_in_progress_fails() -> None:
    with Simulation(jumps=False) as simulation:
        driver = SimulatedDriver()
        wait = waiting(lambda: driver.wait(None))
        simulation.fail("wait", errno.EIO)
        assert errno_of(wait.result) == errno.EIO
        driver.close()


def test_a_wait_returns_early_and_with_what_means_nothing(
    simulation: Simulation, driver: SimulatedDriver
) -> None:
    simulation.stray()
    assert driver.wait(5) == []
    simulation.at(1, simulation.stray, (99, POLLIN))
    assert driver.wait(5) == [(99, POLLIN)]
    assert simulation.elapsed == 1


# Ports


def test_it_is_a_backend_by_its_place_and_never_by_default() -> None:
    with Port(BACKEND) as port:
        assert port.backend == "portcompat.backends.simulated:SimulatedDriver"
    assert BACKEND not in available_backends()
    assert not any("simulated" in name for name in available_backends())


def test_outside_of_any_block_there_is_one_that_lasts() -> None:
    assert Simulation.current() is Simulation.current()
    with Simulation() as outer, Simulation() as inner:
        assert Simulation.current() is inner is not outer
    assert Simulation.current() not in (outer, inner)


def test_a_port_waits_in_virtual_time(simulation: Simulation) -> None:
    with Port(BACKEND) as port:
        with pytest.raises(PortTimeout):
            port.get(HOUR)
        assert simulation.elapsed == HOUR
        simulation.at(HOUR + 1, port.send, 5, "sent")
        assert port.get(10).user == "sent"
        assert simulation.elapsed == HOUR + 1
        simulation.set(FD, 0)
        simulation.at(HOUR + 2, simulation.set, FD, POLLIN)
        port.associate(FD, POLLIN, "ready")
        assert port.get(10).user == "ready"
        assert simulation.elapsed == HOUR + 2


def test_two_ports_of_a_simulation_have_one_time(simulation: Simulation) -> None:
    with Port(BACKEND) as one, Port(BACKEND) as other:
        assert one.getn(1, 1, 2) == []
        assert other.getn(1, 1, 3) == []
    assert simulation.elapsed == 5


def test_a_port_fails_as_its_driver_is_told_to(simulation: Simulation) -> None:
    with Port(BACKEND) as port:
        simulation.set(FD, POLLIN)
        simulation.fail("arm", errno.EBADF)
        assert errno_of(lambda: port.associate(FD, POLLIN)) == EBADFD
        port.associate(FD, POLLIN, "ready")
        simulation.fail("wait", errno.EIO)
        assert errno_of(lambda: port.get(0)) == errno.EIO
        simulation.stray((77, POLLIN))
        assert port.get(1).user == "ready"


def test_all_who_wait_in_a_port_wait_in_virtual_time() -> None:
    with Simulation(patience=None) as simulation, Port(BACKEND) as port:
        seen: dict[float, float] = {}

        def get(timeout: float) -> None:
            with pytest.raises(PortTimeout):
                port.get(timeout)
            seen[timeout] = simulation.elapsed

        timeouts = [10.0 * HOUR, 2.0 * HOUR, 5.0 * HOUR, 1.0]
        threads = run_all(*(lambda timeout=timeout: get(timeout) for timeout in timeouts))
        simulation.sleep(100 * HOUR)
        for thread in threads:
            thread.join()
        assert seen == {timeout: timeout for timeout in timeouts}


def test_who_waits_is_sent_something_before_his_time_is_up() -> None:
    with Simulation(patience=None) as simulation, Port(BACKEND) as port:
        seen: list[tuple[int, float]] = []

        def get() -> None:
            event = port.get(HOUR)
            seen.append((event.events, simulation.elapsed))

        threads = run_all(get, get, get)
        for number in range(3):
            simulation.sleep(1)
            port.send(number)
        simulation.sleep(2 * HOUR)
        for thread in threads:
            thread.join()
        assert sorted(seen) == [(0, 1), (1, 2), (2, 3)]
