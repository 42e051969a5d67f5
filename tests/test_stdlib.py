"""The standard library's own tests, over a port: all of selectors, and of asyncio a part.

The profile "full" runs all of test.test_asyncio, and so do the environments of tox.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from portcompat.pytest_plugin import Profile
from tests import stdlib

CHECKOUT = Path(__file__).parent.parent
NO_TESTS = 3
QUICK = ["test_streams", "test_unix_events", "test_runners", "EPollEventLoopTests.test_reader"]


def run(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.stdlib", *arguments],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode == NO_TESTS:
        pytest.skip(done.stdout.strip())
    return done.returncode, done.stdout


@pytest.mark.deadline(120)
def test_the_tests_of_selectors_pass(backend: str) -> None:
    code, output = run("selectors", "--backend", backend)
    assert code == 0, output


@pytest.mark.deadline(900)
@pytest.mark.parametrize("suite", ["eventloop", "asyncio"])
def test_the_tests_of_asyncio_pass(suite: str, backend: str, profile: Profile) -> None:
    if profile == "quick" and suite == "asyncio":
        pytest.skip("the quick profile has the event loop's tests only")
    words = [f"-k={word}" for word in QUICK] if profile == "quick" else []
    code, output = run(suite, "--backend", backend, *words)
    assert code == 0, output


def test_a_run_that_makes_no_selector_has_tested_nothing() -> None:
    code, output = run("asyncio", "-k", "test_selector_events")
    assert code == 1
    assert "0 failed, 0 selectors made" in output


def test_a_suite_that_there_is_not_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        stdlib.main(["threads"])
    assert error.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m tests.stdlib")
