"""How a backend is chosen."""

import errno
import subprocess
import sys
import tempfile
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from portcompat import (
    FILE_MODIFIED,
    FileObject,
    Port,
    _registry,
    available_backends,
    available_file_watchers,
    available_kaio,
    limits,
)
from portcompat.abc import Driver
from portcompat.backends.statpoll import StatWatcher
from tests.scripted import ScriptedDriver
from tests.scripted_kaio import ScriptedKaio

CHECKOUT = Path(__file__).parent.parent


class Unusable(ScriptedDriver):
    def __init__(self) -> None:
        raise OSError(errno.ENOSYS, "not on this machine")


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PORTCOMPAT_BACKEND", raising=False)
    monkeypatch.setattr(_registry, "_usable", set())


def test_the_argument_goes_before_the_environment(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTCOMPAT_BACKEND", "nobody")
    with Port(backend) as port:
        assert port.backend == backend


def test_the_environment_goes_before_the_best(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTCOMPAT_BACKEND", backend)
    with Port() as port:
        assert port.backend == backend
    assert [name for name, info in available_backends().items() if info.default] == [backend]


def test_the_best_that_is_usable_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {
        "missing": "portcompat.backends.nowhere:Driver",
        "broken": f"{__name__}:Unusable",
        "good": "tests.scripted:ScriptedDriver",
        "other": "tests.scripted:ScriptedDriver",
    }
    monkeypatch.setattr(_registry, "TABLE", table)
    with Port() as port:
        assert port.backend == "good"
    found = available_backends()
    assert [info.usable for info in found.values()] == [False, False, True, True]
    assert [info.default for info in found.values()] == [False, False, True, False]
    assert "nowhere" in found["missing"].reason
    assert found["broken"].reason == "not on this machine"


def test_no_usable_backend_is_enotsup_with_every_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_registry, "TABLE", {"broken": f"{__name__}:Unusable"})
    with pytest.raises(OSError, match="broken: not on this machine") as error:
        Port()
    assert error.value.errno == errno.ENOTSUP


def test_a_backend_that_cannot_be_imported_is_enotsup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_registry, "TABLE", {"missing": "portcompat.backends.nowhere:Driver"})
    with pytest.raises(OSError, match="not usable here") as error:
        Port("missing")
    assert error.value.errno == errno.ENOTSUP


def test_a_class_of_somebody_else_is_named_by_its_place() -> None:
    with Port("tests.scripted:ScriptedDriver") as port:
        port.send(1)
        assert port.get().events == 1
        assert port.features >= ScriptedDriver.features


def test_an_entry_point_names_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("theirs", "tests.scripted:ScriptedDriver", "portcompat.backends")

    def entry_points(*, group: str, name: str) -> EntryPoints:
        return EntryPoints([point]).select(group=group, name=name)

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    with Port("theirs") as port:
        assert port.backend == "theirs"


def test_a_name_that_nobody_knows_names_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="take epoll, poll, select, or 'package.module:Class'"):
        Port("nobody")


@pytest.mark.parametrize(
    "name", ["tests.scripted:Nothing", "tests.scripted:errno", "builtins:int", "tests.scripted:"]
)
def test_a_place_that_holds_no_backend_is_a_value_error(name: str) -> None:
    with pytest.raises(ValueError, match="backend "):
        Port(name)


@pytest.mark.parametrize("name", ["nobody", f"{__name__}:Unusable", "no.such.module:Class"])
def test_a_port_that_is_not_made_does_not_count(name: str) -> None:
    before = limits.ports
    with pytest.raises((ValueError, OSError)):
        Port(name)
    assert limits.ports == before


def test_importing_portcompat_imports_no_driver() -> None:
    code = (
        "import sys, portcompat; "
        "print([name for name in sys.modules if name.startswith(('portcompat.backends', "
        "'portcompat.conformance', 'cffi', '_cffi', 'asyncio'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_the_core_imports_neither_drivers_nor_suite_at_module_level() -> None:
    for file in (CHECKOUT / "portcompat").glob("*.py"):
        for line in file.read_text().splitlines():
            if line.startswith(("import ", "from ")):
                assert "portcompat.backends" not in line, file.name
                assert "portcompat.conformance" not in line, file.name


def test_every_driver_has_the_methods_in_the_order_of_the_contract() -> None:
    order = [
        name for name in vars(Driver) if getattr(vars(Driver)[name], "__isabstractmethod__", 0)
    ]
    for place in _registry.TABLE.values():
        kind = _registry._load(place)
        for base in kind.__mro__:
            own = [name for name in vars(base) if name in order]
            assert own == sorted(own, key=order.index), base


class UnusableWatcher(StatWatcher):
    def __init__(self) -> None:
        raise OSError(errno.ENOSYS, "not on this machine")


class ExhaustedWatcher(StatWatcher):
    def __init__(self) -> None:
        raise OSError(errno.EMFILE, "none is left")


class UnusableKaio(ScriptedKaio):
    def __init__(self) -> None:
        raise OSError(errno.EPERM, "forbidden on this machine")


class TestKaio:
    @pytest.fixture(autouse=True)
    def nothing_chosen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PORTCOMPAT_KAIO", raising=False)

    @pytest.fixture
    def forbidden(self, monkeypatch: pytest.MonkeyPatch) -> None:
        table = {"missing": "portcompat.backends.nowhere:Ring", "bad": f"{__name__}:UnusableKaio"}
        monkeypatch.setattr(_registry, "KAIO", table)

    @pytest.mark.usefixtures("forbidden")
    def test_where_no_kernel_does_it_the_workers_do(self) -> None:
        found = available_kaio()
        assert [info.usable for info in found.values()] == [False, False, True]
        assert [info.default for info in found.values()] == [False, False, True]
        assert found["bad"].reason == "forbidden on this machine"
        with Port() as port, tempfile.TemporaryFile() as file:
            block = port.aio.write(file, b"written by a worker")
            assert port.get(10).object is block
            assert block.result() == 19

    @pytest.mark.parametrize("named", ["0", "workers"])
    def test_the_environment_turns_it_off(
        self, named: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PORTCOMPAT_KAIO", named)
        assert _registry.choose_kaio(None)() is None
        assert available_kaio()["workers"].default

    @pytest.mark.usefixtures("forbidden")
    def test_one_that_is_asked_for_and_does_not_work_is_enotsup(self) -> None:
        for name in ("missing", "bad"):
            with pytest.raises(OSError, match="not usable here") as caught:
                Port(kaio=name)
            assert caught.value.errno == errno.ENOTSUP

    @pytest.mark.parametrize("name", ["nonsense", f"{__name__}:TestKaio", "os:nothing"])
    def test_what_is_none_is_a_value_error(self, name: str) -> None:
        with pytest.raises(ValueError):
            Port(kaio=name)

    def test_what_is_no_name_is_a_type_error(self) -> None:
        with pytest.raises(TypeError):
            Port(kaio=1)  # type: ignore[arg-type]

    def test_another_one_may_be_named(self) -> None:
        assert _registry.choose_kaio("tests.scripted_kaio:ScriptedKaio")() is ScriptedKaio


class TestFileWatchers:
    @pytest.fixture(autouse=True)
    def nothing_chosen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PORTCOMPAT_FILE_WATCHER", raising=False)
        monkeypatch.setattr(_registry, "_usable_watchers", set())

    @pytest.fixture
    def table(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
        table = {
            "missing": "portcompat.backends.nowhere:Watcher",
            "broken": f"{__name__}:UnusableWatcher",
            "good": "portcompat.backends.statpoll:StatWatcher",
        }
        monkeypatch.setattr(_registry, "FILE_WATCHERS", table)
        return table

    def test_the_best_that_is_usable_is_the_default(self, table: dict[str, str]) -> None:
        assert _registry.choose_watcher(None)() is StatWatcher
        found = available_file_watchers()
        assert [info.usable for info in found.values()] == [False, False, True]
        assert [info.default for info in found.values()] == [False, False, True]
        assert "nowhere" in found["missing"].reason
        assert found["broken"].reason == "not on this machine"

    def test_the_environment_goes_before_the_best(
        self, table: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PORTCOMPAT_FILE_WATCHER", "broken")
        assert _registry.choose_watcher(None)() is UnusableWatcher
        assert _registry.choose_watcher("good")() is StatWatcher
        monkeypatch.setenv("PORTCOMPAT_FILE_WATCHER", "")
        assert _registry.choose_watcher(None)() is StatWatcher

    def test_one_that_has_run_out_is_not_passed_over(self, table: dict[str, str]) -> None:
        table["broken"] = f"{__name__}:ExhaustedWatcher"
        with pytest.raises(OSError) as error:
            _registry.choose_watcher(None)()
        assert error.value.errno == errno.EMFILE

    def test_none_at_all_says_why(self, table: dict[str, str], tmp_path: Path) -> None:
        del table["good"]
        with pytest.raises(OSError, match="not on this machine") as error:
            _registry.choose_watcher(None)()
        assert error.value.errno == errno.ENOTSUP
        with Port() as port:
            assert not [feature for feature in port.features if feature.startswith("file-")]
            with pytest.raises(OSError) as error:
                port.associate(FileObject(tmp_path), FILE_MODIFIED)
            assert error.value.errno == errno.ENOTSUP
            port.send(1)
            assert port.get(0).events == 1

    def test_a_name_that_cannot_work_here_is_enotsup(self, table: dict[str, str]) -> None:
        before = limits.ports
        with pytest.raises(OSError, match="missing") as error:
            Port(file_watcher="missing")
        assert error.value.errno == errno.ENOTSUP
        assert limits.ports == before

    @pytest.mark.parametrize("name", ["nobody", "", "os:path", "os:nothing"])
    def test_a_name_that_is_none_is_a_value_error(self, name: str) -> None:
        before = limits.ports
        with pytest.raises(ValueError, match="file watcher"):
            Port(file_watcher=name)
        assert limits.ports == before
