"""The face of a port: what it adds to its backend."""

import errno
import gc
import os
import threading
import warnings

import pytest

import portcompat
from portcompat import Port, PortTimeout, limits


def test_a_port_prints_its_backend_and_whether_it_is_closed(backend: str) -> None:
    port = Port(backend)
    assert repr(port) == f"<Port {backend}>"
    port.close()
    assert repr(port) == f"<Port {backend} closed>"


def test_a_port_that_is_forgotten_warns_and_is_closed(backend: str) -> None:
    before = limits.ports
    port = Port(backend)
    with pytest.warns(ResourceWarning, match=f"unclosed <Port {backend}>"):
        del port
    assert limits.ports == before


def test_a_closed_port_is_forgotten_in_silence(backend: str) -> None:
    port = Port(backend)
    port.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del port
        gc.collect()


def test_a_port_that_could_not_be_made_is_forgotten_in_silence() -> None:
    with pytest.raises(ValueError, match="max_events"):
        Port(max_events=0)
    with pytest.raises(TypeError, match="backend must be a name, not int"):
        Port(5)  # type: ignore[arg-type]
    gc.collect()


def test_a_port_closes_at_the_end_of_with(backend: str) -> None:
    with Port(backend) as port:
        assert not port.closed
    assert port.closed


def test_a_port_is_counted_until_it_is_closed_once(backend: str) -> None:
    before = limits.ports
    port = Port(backend)
    assert limits.ports == before + 1
    port.close()
    port.close()
    assert limits.ports == before


def test_threads_that_close_a_port_together_count_it_once(backend: str) -> None:
    before = limits.ports
    ports = [Port(backend) for _ in range(20)]
    start = threading.Barrier(4)

    def close_all() -> None:
        start.wait(10)
        for port in ports:
            port.close()

    threads = [threading.Thread(target=close_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert limits.ports == before


def test_a_port_has_no_attributes_of_others(port: Port) -> None:
    with pytest.raises(AttributeError):
        port.unknown = 1  # type: ignore[attr-defined]


def test_a_timeout_is_raised_without_a_cause(port: Port) -> None:
    with pytest.raises(PortTimeout) as error:
        port.get(0)
    assert error.value.__context__ is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this host has no fork")
def test_a_port_is_closed_in_a_child_and_goes_on_in_the_parent(port: Port) -> None:
    port.send(1)
    ports = limits.ports
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            port.get(0)
        except OSError as error:
            os.write(
                writer,
                f"{error.errno} {port.closed} {limits.ports < ports} {error.strerror}".encode(),
            )
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    said = os.read(reader, 1_000).decode()
    os.close(reader)
    assert said.startswith(f"{errno.EBADF} True True the port belongs to process {os.getpid()}")
    assert port.get(0).events == 1


def test_the_public_names_are_listed_in_order_and_exist() -> None:
    assert sorted(portcompat.__all__) == sorted(set(portcompat.__all__))
    for name in portcompat.__all__:
        assert getattr(portcompat, name) is not None


def test_no_public_name_is_missing_from_the_list() -> None:
    names = {
        name
        for name, value in vars(portcompat).items()
        if not name.startswith("_") and not isinstance(value, type(portcompat))
    }
    assert names == set(portcompat.__all__)
