"""The life of a mount: its states, its index, and whose it is."""

import errno
from collections.abc import Callable

import pytest

from portcompat import Port
from portcompat.conformance import rule
from portcompat.conformance._callers import Caller
from portcompat.conformance._descriptors import A_WHILE, SOON
from portcompat.conformance._fork import in_fork_child
from portcompat.conformance._servers import Server, refused
from portcompat.conformance._threads import in_thread
from portcompat.msgif import Cloner, Instance, State

Scale = Callable[[int, int, int], int]


@rule("M050")
def test_a_mount_is_embryonic_then_mounting_then_running_then_dead(
    cloner: Cloner, port: Port
) -> None:
    instance = cloner.open()
    states = [instance.state]
    instance.mount(start=False)
    states.append(instance.state)
    instance.start()
    states.append(instance.state)
    instance.close()
    states.append(instance.state)
    assert states == [State.EMBRYONIC, State.MOUNTING, State.RUNNING, State.DEAD]


@rule("M050")
def test_the_states_have_these_names() -> None:
    names = [state.name for state in State]
    assert names == ["EMBRYONIC", "MOUNTING", "RUNNING", "DYING", "DEAD"]


@rule("M050")
def test_mount_makes_it_run_at_once_unless_told_otherwise(instance: Instance, port: Port) -> None:
    assert instance.state is State.RUNNING


@rule("M050")
def test_before_it_is_mounted_the_operations_are_enoent(cloner: Cloner, port: Port) -> None:
    with cloner.open() as instance:
        for operation in operations(instance):
            refused(errno.ENOENT, operation)
        assert not Server(instance, port).readable(A_WHILE)


@rule("M050", "M055")
def test_when_it_is_dead_the_operations_are_enoent(client: Caller, server: Server) -> None:
    client.do("unmount")
    assert server.readable(SOON)
    assert server.instance.state is State.DEAD
    for operation in operations(server.instance):
        refused(errno.ENOENT, operation)


def operations(instance: Instance) -> list[Callable[[], object]]:
    return [
        instance.getop,
        lambda: instance.getop(block=False),
        lambda: instance.putop(1),
        lambda: instance.sizeop(1, 1, bytearray(1)),
    ]


@rule("M050")
def test_when_it_is_closed_the_operations_are_ebadf(instance: Instance, port: Port) -> None:
    instance.close()
    operating = [*operations(instance), instance.fileno, instance.client, instance.mount]
    for operation in [*operating, instance.start]:
        refused(errno.EBADF, operation)
    assert instance.state is State.DEAD


@rule("M050")
def test_it_is_mounted_once(client: Caller, server: Server) -> None:
    refused(errno.EBUSY, server.instance.mount)
    call = client.call(1)
    server.answer(0, b"all the same")
    assert call.result() == b"all the same"


@rule("M050")
def test_only_what_is_mounting_can_be_started(cloner: Cloner, port: Port) -> None:
    with cloner.open() as instance:
        refused(errno.EINVAL, instance.start)
        instance.mount()
        refused(errno.EINVAL, instance.start)


@rule("M051")
def test_the_lowest_free_index_is_given(cloner: Cloner, port: Port) -> None:
    instances = [cloner.open() for _ in range(5)]
    assert [instance.index for instance in instances] == [0, 1, 2, 3, 4]
    for number in (3, 1):
        instances[number].close()
    instances += [cloner.open() for _ in range(3)]
    assert [instance.index for instance in instances[5:]] == [1, 3, 5]
    for instance in instances:
        instance.close()


@rule("M051")
@pytest.mark.parametrize("most", [1, 3])
def test_more_than_the_maximum_is_ebusy(port: Port, most: int) -> None:
    cloner = Cloner(max_instances=most)
    instances = [cloner.open() for _ in range(most)]
    refused(errno.EBUSY, cloner.open)
    instances[0].close()
    instances.append(cloner.open())
    assert instances[-1].index == 0
    refused(errno.EBUSY, cloner.open)
    for instance in instances:
        instance.close()


@rule("M051")
def test_closing_twice_frees_one_index(cloner: Cloner, port: Port) -> None:
    first = cloner.open()
    first.close()
    with cloner.open() as second:
        first.close()
        assert second.index == 0
        with cloner.open() as third:
            assert third.index == 1


@rule("M051", "M055")
def test_the_index_of_a_dead_mount_is_taken_until_it_is_closed(
    cloner: Cloner, instance: Instance, client: Caller
) -> None:
    client.do("unmount")
    with cloner.open() as other:
        assert other.index == instance.index + 1
    instance.close()
    with cloner.open() as other:
        assert other.index == instance.index


@rule("M051")
def test_cloners_count_each_for_itself(cloner: Cloner, port: Port) -> None:
    with cloner.open() as one, Cloner().open() as other:
        assert one.index == other.index == 0


@rule("M051")
def test_threads_that_open_at_once_get_different_indices(port: Port, scale: Scale) -> None:
    for _ in range(scale(10, 100, 1_000)):
        cloner = Cloner(max_instances=6)
        opening = [in_thread(lambda c=cloner: try_to_open(c)) for _ in range(8)]  # type: ignore[misc]
        opened = [one for one in (call.result() for call in opening) if one is not None]
        assert sorted(instance.index for instance in opened) == [0, 1, 2, 3, 4, 5]
        for instance in opened:
            instance.close()


def try_to_open(cloner: Cloner) -> Instance | None:
    try:
        return cloner.open()
    except OSError as error:
        assert error.errno == errno.EBUSY
        return None


@rule("M051")
@pytest.mark.parametrize("most", [0, -1])
def test_a_maximum_below_one_is_a_value_error(port: Port, most: int) -> None:
    with pytest.raises(ValueError):
        Cloner(max_instances=most)


@rule("M052")
@pytest.mark.parametrize("shared", [False, True])
def test_a_fork_child_cannot_mount_what_its_parent_opened(
    cloner: Cloner, port: Port, shared: bool
) -> None:
    with cloner.open(shared=shared) as instance:

        def claim() -> None:
            with pytest.raises(OSError) as caught:
                instance.mount()
            assert caught.value.errno == errno.EPERM

        in_fork_child(claim)
        assert instance.state is State.EMBRYONIC
        instance.mount()
