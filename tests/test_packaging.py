"""What is shipped, what an import brings in, and who may import whom."""

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email.parser import HeaderParser
from importlib.metadata import version
from pathlib import Path

import pytest

import portcompat
from portcompat._version import __version__

ROOT = Path(__file__).parents[1]
FOLDERS = {"portcompat": "portcompat", "backends": "portcompat/backends"}
FOLDERS["conformance"] = "portcompat/conformance"

PUBLIC = """
    EBADFD ETIME
    FILE_ACCESS FILE_ATTRIB FILE_DELETE FILE_EXCEPTION FILE_MODIFIED FILE_NOFOLLOW FILE_RENAME_FROM
    FILE_RENAME_TO FILE_TRUNC MOUNTEDOVER UNMOUNTED
    POLLERR POLLHUP POLLIN POLLNVAL POLLOUT POLLPRI POLLRDBAND POLLRDHUP POLLRDNORM POLLWRBAND
    POLLWRNORM
    PORT_ALERT_INVALID PORT_ALERT_SET PORT_ALERT_UPDATE PORT_MAX_LIST
    PORT_SOURCE_AIO PORT_SOURCE_ALERT PORT_SOURCE_FD PORT_SOURCE_FILE PORT_SOURCE_MQ
    PORT_SOURCE_TIMER PORT_SOURCE_USER SIGEV_NONE SIGEV_PORT SIGEV_SIGNAL SIGEV_THREAD
    BackendInfo FileObject FileWatcherInfo KaioInfo Port PortEvent PortTimeout Trigger
    available_backends available_file_watchers available_kaio limits new_event_loop sendn
    port_alert port_associate port_close port_create port_dissociate port_get port_getn port_send
    port_sendn
    """


class TestTheSurface:
    def test_the_public_names_are_these(self) -> None:
        assert sorted(portcompat.__all__) == sorted(PUBLIC.split())

    def test_nothing_else_is_there_but_modules_and_private_names(self) -> None:
        modules = {file.stem for file in (ROOT / "portcompat").glob("*.py")} | set(FOLDERS)
        public = {name for name in vars(portcompat) if name.isidentifier() and name[0] != "_"}
        assert public - modules == set(PUBLIC.split())


class TestImports:
    @pytest.mark.parametrize(
        "unwanted",
        ["asyncio", "cffi", "_cffi_backend", "pytest", "click", "rich", "multiprocessing"],
    )
    def test_the_core_does_not_bring_in(self, unwanted: str, imported: set[str]) -> None:
        assert unwanted not in imported

    def test_the_core_brings_in_no_driver_and_no_suite(self, imported: set[str]) -> None:
        clients = ("portcompat.backends", "portcompat.conformance")
        assert not [name for name in imported if name.startswith(clients)]

    @pytest.mark.parametrize(
        "file", sorted((ROOT / "portcompat").glob("*.py")), ids=lambda f: f.stem
    )
    def test_no_module_of_the_core_imports_its_clients(self, file: Path) -> None:
        clients = ("portcompat.backends", "portcompat.conformance")
        names = {
            name for name in _imports(ast.parse(file.read_bytes())) if name.startswith(clients)
        }
        assert not names

    @pytest.mark.parametrize("file", sorted((ROOT / "backends").glob("*.py")), ids=lambda f: f.stem)
    def test_no_driver_knows_ports(self, file: Path) -> None:
        ports = {"portcompat", "portcompat._port", "portcompat._engine", "portcompat._events"}
        assert ports.isdisjoint(_imports(ast.parse(file.read_bytes())))


class TestTheWheel:
    def test_it_is_for_every_python_3_and_platform(self, wheel: Path) -> None:
        assert wheel.name == f"portcompat-{__version__}-py3-none-any.whl"

    def test_it_holds_the_three_folders_and_nothing_else(self, wheel: Path) -> None:
        shipped = {
            f"{place}/{file.name}"
            for folder, place in FOLDERS.items()
            for file in (ROOT / folder).iterdir()
            if file.suffix in {".py", ".toml", ".typed", ".md"}
        }
        with zipfile.ZipFile(wheel) as archive:
            names = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert names == shipped

    def test_its_metadata(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
            metadata = HeaderParser().parsestr(archive.read(name).decode())
            (licence,) = (name for name in archive.namelist() if name.endswith("/LICENSE"))
            assert b"Apache License" in archive.read(licence)
        assert metadata["License-Expression"] == "Apache-2.0"
        assert metadata["Requires-Python"] == ">=3.11"
        assert set(metadata.get_all("Provides-Extra", [])) == {
            "cli",
            "conformance",
            "examples",
            "test",
            "lint",
        }
        plain = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
        assert len(plain) == 1
        assert plain[0].startswith("cffi")

    def test_its_entry_points(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("/entry_points.txt"))
            lines = archive.read(name).decode().split("\n")
        assert "portcompat = portcompat.cli:main" in lines
        assert "portcompat.pytest_plugin = portcompat.pytest_plugin" in lines

    def test_it_works_where_it_is_unpacked(self, wheel: Path, tmp_path: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(tmp_path)
        info = json.loads(_python(tmp_path, "-m", "portcompat", "info", "--json"))
        assert info["portcompat"] == __version__
        assert info["backends"]["poll"]["usable"]


class TestTheSourceDistribution:
    def test_it_holds_what_its_tests_need(self, sources: Path, tmp_path: Path) -> None:
        shutil.unpack_archive(_build(sources, "build_sdist"), tmp_path, filter="data")
        tree = tmp_path / f"portcompat-{__version__}"
        for file in ("conftest.py", "tox.ini", "LICENSE", ".ci/run", "conformance/rules.toml"):
            assert (tree / file).is_file(), file
        assert (tree / "tests" / Path(__file__).name).is_file()
        assert (tree / "examples").is_dir()


class TestTheVersion:
    def test_the_installed_distribution_has_that_of_the_code(self) -> None:
        try:
            assert version("portcompat") == __version__
        except ModuleNotFoundError:
            pytest.skip("this checkout is not installed")


@pytest.fixture(scope="module")
def imported() -> set[str]:
    """The modules that `import portcompat` brings in."""
    code = "import sys, portcompat; print(*sys.modules)"
    return set(_python(Path(portcompat.__file__).parents[1], "-c", code).split())


@pytest.fixture(scope="module")
def wheel(sources: Path) -> Path:
    return _build(sources, "build_wheel")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the checkout, for the build to leave its traces in."""
    setuptools = pytest.importorskip("setuptools", minversion="77", reason="to build with")
    del setuptools
    folder = tmp_path_factory.mktemp("sources") / "portcompat"
    skipped = shutil.ignore_patterns(
        ".*venv*", ".git", ".tox", "__pycache__", "*.egg-info", "build"
    )
    shutil.copytree(ROOT, folder, ignore=skipped)
    yield folder
    shutil.rmtree(folder)


def _build(sources: Path, kind: str) -> Path:
    """Call the build backend as pip does, without fetching anything."""
    code = f"import setuptools.build_meta as backend; print(backend.{kind}('dist'))"
    name = _python(sources, "-c", code).strip().split("\n")[-1]
    return sources / "dist" / name


def _python(folder: Path, *arguments: str) -> str:
    """What a Python that starts in `folder` prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _imports(tree: ast.AST) -> Iterator[str]:
    """The modules that are imported when a module is, so not those within functions."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                continue
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names):
                yield str(module)
                yield from (f"{module}.{alias.name}" for alias in names)
        yield from _imports(node)
