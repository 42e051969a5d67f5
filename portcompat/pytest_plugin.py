"""The pytest plugin of those who test backends: options, fixtures and marks.

In a project that uses portcompat without testing backends it does nothing: it works on the tests
that ask for its fixtures or carry its marks.
"""

from argparse import SUPPRESS
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import pytest

if TYPE_CHECKING:
    from portcompat import Port

Profile = Literal["quick", "full", "soak"]
PROFILES: Final = ("quick", "full", "soak")

_MARKS = (
    "rule(number, ...): the rules of the specification that the test checks",
    "needs(feature, ...): skip on a backend that lacks one of the features",
    "deadline(seconds): the test fails, with the stacks of all threads, if it takes longer",
)
_backends_key = pytest.StashKey[list[str]]()
_watchers_key = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("portcompat")
    group.addoption(
        "--port-backend",
        action="append",
        default=[],
        metavar="NAME",
        help='test this backend: a name, or "package.module:Class"; may be repeated. '
        "Every one that is usable here if not given.",
    )
    group.addoption(
        "--port-deviations",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="declared differences of your own backend, beside those of the suite",
    )
    group.addoption(
        "--port-profile", choices=PROFILES, default="quick", help="how long to try: %(default)s"
    )
    group.addoption(
        "--port-rule",
        action="append",
        default=[],
        metavar="NUMBER",
        help="only the tests that check this rule; may be repeated",
    )
    group.addoption(
        "--port-json", type=Path, metavar="FILE", help="write the outcome of each rule as JSON"
    )
    group.addoption("--port-steps", type=int, metavar="FD", help=SUPPRESS)
    parser.addini(
        "port_deadline",
        "seconds that every test may take. Without it that is 60 for the tests that use a backend, "
        "and the others have no end.",
        default="",
    )


def pytest_configure(config: pytest.Config) -> None:
    for mark in _MARKS:
        config.addinivalue_line("markers", mark)
    if config.option.port_json and getattr(config.option, "dist", "no") != "no":
        raise pytest.UsageError("--port-json wants all tests in one process: without -n")
    if names := config.option.port_backend:
        from portcompat.conformance._backends import BadBackend, describe

        try:
            for name in names:
                describe(name)
        except BadBackend as error:
            raise pytest.UsageError(str(error)) from None


def backends_under_test(config: pytest.Config) -> list[str]:
    """The backends of `--port-backend`, or all that are usable here, best first."""
    if _backends_key not in config.stash:
        from portcompat import available_backends

        names = list(dict.fromkeys(config.option.port_backend))
        usable = [name for name, info in available_backends().items() if info.usable]
        config.stash[_backends_key] = names or usable
    return config.stash[_backends_key]


def watchers_under_test(config: pytest.Config) -> list[str]:
    """The file watchers that are usable with one of the backends under test."""
    if _watchers_key not in config.stash:
        from portcompat.conformance._backends import watchers_of

        found = [watchers_of(name) for name in backends_under_test(config)]
        config.stash[_watchers_key] = list(dict.fromkeys(name for each in found for name in each))
    return config.stash[_watchers_key]


def kaio_under_test() -> list[str]:
    """The ways to do asynchronous I/O that are usable here."""
    from portcompat import available_kaio

    return [name for name, info in available_kaio().items() if info.usable]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if _is_ours(metafunc, "backend"):
        names = backends_under_test(metafunc.config)
        metafunc.parametrize("backend", names, indirect=True, scope="session")
    if _is_ours(metafunc, "kaio"):
        metafunc.parametrize("kaio", kaio_under_test(), indirect=True)
    if _is_ours(metafunc, "file_watcher"):
        names = watchers_under_test(metafunc.config)
        metafunc.parametrize("file_watcher", names, indirect=True)


def _is_ours(metafunc: pytest.Metafunc, name: str) -> bool:
    """Whether the test uses the fixture `name` below, and not one that its project has."""
    definitions = metafunc._arg2fixturedefs.get(name, ())
    used = name in metafunc.fixturenames
    return used and bool(definitions) and definitions[-1].func.__module__ == __name__


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getini("port_deadline") or any(is_concerned(item) for item in items):
        from portcompat.conformance._session import prepare

        prepare(config, items)


def is_concerned(item: pytest.Item) -> bool:
    """Whether the test uses what this plugin gives."""
    marked = any(item.get_closest_marker(name) for name in ("rule", "deadline"))
    return marked or "backend" in getattr(item, "fixturenames", ())


@pytest.fixture(scope="session")
def backend(request: pytest.FixtureRequest) -> str:
    """The name of the backend under test; the test runs once for each."""
    name: str = request.param
    return name


@pytest.fixture
def file_watcher(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the file watcher under test, which every port has that is made now.

    One that polls looks often: PORTCOMPAT_STAT_INTERVAL is some milliseconds.
    """
    name: str = request.param
    monkeypatch.setenv("PORTCOMPAT_FILE_WATCHER", name)
    monkeypatch.setenv("PORTCOMPAT_STAT_INTERVAL", "0.002")
    return name


@pytest.fixture
def kaio(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of what does the asynchronous I/O of every port that is made now, and all of it."""
    name: str = request.param
    monkeypatch.setenv("PORTCOMPAT_KAIO", name)
    return name


@pytest.fixture
def make_port(backend: str) -> Iterator[Callable[..., "Port"]]:
    """Make a port on the backend under test, with the keyword arguments of Port.

    All are closed when the test is over.
    """
    from portcompat import Port

    ports: list[Port] = []

    def make(*, max_events: int | None = None) -> Port:
        ports.append(Port(backend, max_events=max_events))
        return ports[-1]

    yield make
    for port in ports:
        port.close()


@pytest.fixture
def port(make_port: Callable[..., "Port"]) -> "Port":
    """A fresh port on the backend under test."""
    return make_port()


@pytest.fixture(scope="session")
def profile(request: pytest.FixtureRequest) -> Profile:
    """How long this run is to try: "quick", "full" or "soak"."""
    name: Profile = request.config.option.port_profile
    return name


@pytest.fixture(scope="session")
def scale(profile: Profile) -> Callable[[int, int, int], int]:
    """Choose a count by the profile: `scale(quick, full, soak)`."""

    def choose(quick: int, full: int, soak: int) -> int:
        return {"quick": quick, "full": full, "soak": soak}[profile]

    return choose
