"""Regular files and directories: always ready, on every port (R109)."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from portcompat import (
    POLLIN,
    POLLOUT,
    POLLPRI,
    POLLRDBAND,
    POLLRDNORM,
    POLLWRBAND,
    POLLWRNORM,
    PORT_SOURCE_FD,
    Port,
    PortEvent,
)
from portcompat.conformance import needs, rule
from portcompat.conformance._descriptors import A_WHILE, SOON, pipe


@pytest.fixture(params=["empty file", "file at its end", "directory"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    if request.param == "directory":
        opened = os.open(tmp_path, os.O_RDONLY)
    else:
        opened = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
        if request.param == "file at its end":
            os.write(opened, b"text")
    yield opened
    os.close(opened)


@rule("R094", "R095", "R109")
@pytest.mark.parametrize("events", [POLLIN, POLLOUT, POLLIN | POLLOUT], ids=["in", "out", "both"])
def test_a_file_is_ready_at_once_for_what_is_asked(port: Port, file: int, events: int) -> None:
    port.associate(file, events, "file")
    assert port.pending() == 1
    assert port.get(SOON) == PortEvent(PORT_SOURCE_FD, file, events, "file")


@needs("bands")
@rule("R109")
@pytest.mark.parametrize(
    "events", [POLLRDNORM, POLLRDNORM | POLLIN, POLLOUT | POLLWRNORM], ids=["rd", "in rd", "out wr"]
)
def test_a_file_is_ready_for_ordinary_data_by_its_other_name(
    port: Port, file: int, events: int
) -> None:
    port.associate(file, events)
    assert port.get(SOON).events == events


@needs("bands")
@rule("R109")
@pytest.mark.parametrize("events", [POLLRDBAND, POLLWRBAND], ids=["rd", "wr"])
def test_a_file_is_ready_for_priority_bands(port: Port, file: int, events: int) -> None:
    port.associate(file, events)
    assert [event.events for event in port.getn(2, 1, A_WHILE)] == [events]


@rule("R109")
@pytest.mark.parametrize("events", [0, POLLPRI], ids=["nothing", "pri"])
def test_a_file_does_not_fire_for_what_it_never_has(port: Port, file: int, events: int) -> None:
    port.associate(file, events)
    assert port.getn(2, 1, A_WHILE) == []
    port.dissociate(file)


@rule("R109")
def test_a_file_asked_for_urgent_data_too_tells_the_rest(port: Port, file: int) -> None:
    port.associate(file, POLLIN | POLLPRI)
    assert port.get(SOON).events == POLLIN


@rule("R104", "R109")
def test_a_file_is_ready_each_time_it_is_associated(port: Port, file: int) -> None:
    for turn in range(20):
        port.associate(file, POLLIN, turn)
        assert [event.user for event in port.getn(2, 1, SOON)] == [turn]
        assert port.pending() == 0


@rule("R102", "R109")
def test_a_file_associated_anew_has_one_event(port: Port, file: int) -> None:
    port.associate(file, POLLIN, "old")
    port.associate(file, POLLOUT, "new")
    assert port.getn(2, 1, SOON) == [PortEvent(PORT_SOURCE_FD, file, POLLOUT, "new")]


@rule("R105", "R109")
def test_a_file_associated_anew_for_nothing_has_no_event(port: Port, file: int) -> None:
    port.associate(file, POLLIN)
    port.associate(file, 0)
    assert port.pending() == 0
    assert port.getn(2, 1, A_WHILE) == []


@rule("R109", "R120")
def test_a_file_is_dissociated_with_its_event(port: Port, file: int) -> None:
    port.associate(file, POLLIN)
    port.dissociate(file)
    assert port.pending() == 0


@rule("R109", "R112")
def test_a_file_closed_has_no_event(port: Port, file: int) -> None:
    double = os.dup(file)
    port.associate(double, POLLIN)
    os.close(double)
    assert port.pending() == 0
    assert port.getn(2, 1, A_WHILE) == []


@rule("R109", "R115")
def test_a_number_goes_from_a_file_to_a_pipe(port: Port, file: int) -> None:
    number = os.dup(file)
    port.associate(number, POLLIN, "file")
    try:
        with pipe() as (reader, writer):
            os.dup2(reader.fileno(), number)
            assert port.getn(2, 1, A_WHILE) == []
            port.associate(number, POLLIN, "pipe")
            assert port.getn(2, 1, A_WHILE) == []
            writer.write(b"x")
            assert [event.user for event in port.getn(2, 1, SOON)] == ["pipe"]
    finally:
        os.close(number)


@rule("R109", "R115")
def test_a_number_goes_from_a_pipe_to_a_file(port: Port, file: int) -> None:
    with pipe() as (reader, writer):
        number = os.dup(reader.fileno())
        try:
            port.associate(number, POLLIN, "pipe")
            os.dup2(file, number)
            writer.write(b"x")
            assert port.getn(2, 1, A_WHILE) == []
            port.associate(number, POLLIN, "file")
            assert [event.user for event in port.getn(2, 1, SOON)] == ["file"]
        finally:
            os.close(number)


@rule("R084", "R109")
def test_a_file_has_its_place_in_the_order(port: Port, file: int) -> None:
    port.send(1)
    port.associate(file, POLLIN)
    port.send(2)
    assert [event.object or event.events for event in port.getn(4, 3, SOON)] == [1, file, 2]


@rule("R106", "R109")
def test_a_file_may_be_associated_with_several_ports(port: Port, backend: str, file: int) -> None:
    with Port(backend) as another:
        port.associate(file, POLLIN, "one")
        another.associate(file, POLLIN, "two")
        assert port.get(SOON).user == "one"
        assert another.get(SOON).user == "two"


@rule("R109")
def test_a_file_does_not_need_to_be_readable_to_be_ready(port: Port, tmp_path: Path) -> None:
    written = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    try:
        port.associate(written, POLLIN)
        assert port.get(SOON).events == POLLIN
    finally:
        os.close(written)


@rule("R109")
def test_waiting_after_a_file_has_fired_costs_no_time(port: Port, file: int) -> None:
    port.associate(file, POLLIN)
    assert len(port.getn(2, 1, SOON)) == 1
    assert port.getn(2, 1, A_WHILE) == []
