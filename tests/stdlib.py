"""The standard library's own tests, with a port where they expect a selector.

    python -m tests.stdlib selectors --backend poll     # test.test_selectors, of PortSelector
    python -m tests.stdlib asyncio                      # test.test_asyncio, the selector installed
    python -m tests.stdlib eventloop -k subprocess      # the same, the loops are new_event_loop()'s

Where test.test_asyncio names a class, EpollSelector and the like, it gets a PortSelector too. What
upstream skips is listed with upstream's reason; nothing else is skipped.
"""

import argparse
import os
import selectors
import sys
import unittest
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import portcompat

CHECKOUT: Final = Path(__file__).parents[1]
STANDARD: Final = ("DefaultSelector", "SelectSelector", "PollSelector", "EpollSelector")


class Made:
    """How many selectors the tests have made: a run that has made none has tested nothing."""

    def __init__(self) -> None:
        from portcompat.selectors import PortSelector

        self.count = 0
        original: Callable[..., None] = PortSelector.__init__

        def counting(*given: object, **named: object) -> None:
            self.count += 1
            original(*given, **named)

        PortSelector.__init__ = counting  # type: ignore[method-assign]


def tests_of_selectors(backend: str) -> unittest.TestSuite:
    """test.test_selectors with SELECTOR = PortSelector."""
    import test.test_selectors as standard  # type: ignore[import-not-found]

    from portcompat.selectors import PortSelector

    with portcompat.Port(backend) as port:
        scalable = "any-descriptor" in port.features
    kinds = [standard.BaseSelectorTestCase, unittest.TestCase]
    if scalable:
        kinds.insert(1, standard.ScalableSelectorMixIn)
    of_port = type("PortSelectorTestCase", tuple(kinds), {"SELECTOR": PortSelector})
    return unittest.defaultTestLoader.loadTestsFromTestCase(of_port)


def tests_of_asyncio(backend: str) -> unittest.TestSuite:
    """test.test_asyncio with the selector installed."""
    import subprocess  # has taken the class it needs before the names change  # noqa: F401

    from portcompat.selectors import PortSelector, install

    install()
    for name in STANDARD:
        if hasattr(selectors, name):
            setattr(selectors, name, PortSelector)
    return unittest.defaultTestLoader.loadTestsFromName("test.test_asyncio")


def tests_of_eventloop(backend: str) -> unittest.TestSuite:
    """test.test_asyncio where the loops that it makes without saying how are portcompat's."""
    from asyncio import unix_events

    from portcompat.eventloop import PortEventLoop

    suite = tests_of_asyncio(backend)
    unix_events.SelectorEventLoop = PortEventLoop  # type: ignore[assignment]
    unix_events._UnixDefaultEventLoopPolicy._loop_factory = PortEventLoop  # type: ignore[attr-defined]
    return suite


SUITES: Final = {
    "selectors": tests_of_selectors,
    "asyncio": tests_of_asyncio,
    "eventloop": tests_of_eventloop,
}


def of_each(suite: unittest.TestSuite) -> list[unittest.TestCase]:
    found: list[unittest.TestCase] = []
    for inner in suite:
        found += of_each(inner) if isinstance(inner, unittest.TestSuite) else [inner]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    usable = [name for name, info in portcompat.available_backends().items() if info.usable]
    parser = argparse.ArgumentParser(prog="python -m tests.stdlib", description=__doc__)
    parser.add_argument("suite", choices=SUITES)
    default = os.environ.get("PORTCOMPAT_BACKEND", usable[0])
    parser.add_argument("--backend", choices=usable, default=default)
    parser.add_argument(
        "-k",
        action="append",
        dest="words",
        metavar="WORD",
        default=[],
        help="only tests with one of these in their ids",
    )
    parser.add_argument("-v", action="store_true", dest="verbose")
    options = parser.parse_args(arguments)
    if find_spec("test") is None or find_spec("test.test_asyncio") is None:
        print("this Python has come without the package `test`", file=sys.stderr)
        return 3
    from test import support

    os.environ["PORTCOMPAT_BACKEND"] = options.backend
    support.use_resources = {"cpu": None}  # nothing of the network
    made = Made()
    words = [word.lower() for word in options.words]
    suite = unittest.TestSuite(
        test
        for test in of_each(SUITES[options.suite](options.backend))
        if not words or any(word in test.id().lower() for word in words)
    )
    result = unittest.TextTestRunner(verbosity=1 + options.verbose).run(suite)
    return report(options.backend, result, made.count)


def report(backend: str, result: unittest.TestResult, made: int) -> int:
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    skipped = Counter(why or "it knows the standard classes only" for _, why in result.skipped)
    for why, count in sorted(skipped.items()):
        print(f"skipped by the standard library, {count}: {' '.join(why.split())}")
    print(
        f"{backend}: {result.testsRun} tests, {skipped.total()} skipped, {failed} failed, "
        f"{made} selectors made"
    )
    return 0 if made and result.wasSuccessful() else 1


if __name__ == "__main__":
    portcompat.__path__.append(str(CHECKOUT))  # as the checkout's conftest.py does
    sys.exit(main())
