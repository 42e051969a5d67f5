"""The examples that follow files, with real files, in real processes."""

import os
import re
import select
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest

from portcompat.pytest_plugin import backends_under_test
from tests.test_examples import PATIENCE, Example

pytestmark = pytest.mark.usefixtures("file_watcher")


BUILT = r"built: exit code \d+\n"

QUICKLY = sys.executable, "-I", "-S", "-c"
"""A Python that begins without looking for what is installed."""


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> str:
    """The best one: what is told of files is the watcher's, and the examples know no backend."""
    return backends_under_test(request.config)[0]


class Reader:
    """What an example prints, as it comes."""

    def __init__(self, example: Example) -> None:
        assert example.process.stdout is not None
        self.fd = example.process.stdout.fileno()
        self.text = ""

    def until(self, found: Callable[[str], bool], what: str) -> str:
        """Read until the text since the last time is what is looked for; returns it."""
        deadline = monotonic() + PATIENCE
        while not found(self.text):
            ready, _, _ = select.select([self.fd], [], [], max(0, deadline - monotonic()))
            assert ready, f"no {what} after {self.text!r}"
            data = os.read(self.fd, 1 << 16)
            assert data, f"the example ended without {what} after {self.text!r}"
            self.text += data.decode()
        text, self.text = self.text, ""
        return text

    def exactly(self, text: str) -> None:
        assert self.until(lambda found: len(found) >= len(text), repr(text)) == text


class Tail:
    """tail.py that follows files."""

    def __init__(self, example: Example) -> None:
        self.example = example
        self.out = Reader(example)

    def ends(self) -> list[str]:
        """Interrupt it; what it said of the files, without what it may say or not."""
        self.example.interrupt()
        code, output, errors = self.example.finish()
        assert (code, output) == (0, [])
        return [line.rpartition(": ")[2] for line in errors.splitlines()]


@contextmanager
def tail(backend: str, *arguments: str | Path) -> Iterator[Tail]:
    with Example("tail.py", *map(str, arguments), backend=backend) as example:
        yield Tail(example)


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.write_text("".join(f"line {number}\n" for number in range(20)))
    return path


def test_it_shows_the_last_lines_and_what_comes(backend: str, log: Path) -> None:
    with tail(backend, "--lines", "2", log) as following:
        following.out.exactly("line 18\nline 19\n")
        for number in range(20, 60):
            append(log, f"line {number}\n")
            following.out.exactly(f"line {number}\n")
        assert following.ends() == []


def test_lines_written_in_a_hurry_all_come(backend: str, log: Path) -> None:
    with tail(backend, "--lines", "1", log) as following:
        following.out.exactly("line 19\n")
        with log.open("ab", buffering=0) as file:
            for number in range(5000):
                file.write(b"%d\n" % number)
        following.out.exactly("".join(f"{number}\n" for number in range(5000)))
        assert following.ends() == []


def test_what_has_no_end_of_line_comes_too(backend: str, log: Path) -> None:
    with tail(backend, "--lines", "1", log) as following:
        following.out.exactly("line 19\n")
        append(log, "half")
        following.out.exactly("half")
        append(log, " and half\n")
        following.out.exactly(" and half\n")


def test_it_follows_through_truncation(backend: str, log: Path) -> None:
    with tail(backend, "--lines", "1", log) as following:
        following.out.exactly("line 19\n")
        for turn in range(5):
            os.truncate(log, 0)
            append(log, f"anew {turn}\n")
            following.out.exactly(f"anew {turn}\n")
            append(log, "more, so that it is longer than what follows\n")
            following.out.exactly("more, so that it is longer than what follows\n")
        said = following.ends()
    assert said == ["truncated"] * 5


def test_it_follows_through_rotation(backend: str, log: Path) -> None:
    with tail(backend, "--lines", "1", log) as following:
        following.out.exactly("line 19\n")
        for turn in range(5):
            append(log, f"the last of {turn}\n")
            following.out.exactly(f"the last of {turn}\n")
            old = log.rename(log.with_name(f"log.{turn}"))
            append(old, f"after the last of {turn}\n")
            log.write_text(f"the first of {turn + 1}\n")
            following.out.exactly(f"after the last of {turn}\nthe first of {turn + 1}\n")
        append(log, "goes on\n")
        following.out.exactly("goes on\n")
        said = following.ends()
    assert said.count("another file") == 5


def test_it_follows_through_rotation_in_a_hurry(backend: str, log: Path) -> None:
    """Each line is in one of the files when it is written, and none is shown twice."""
    with tail(backend, "--lines", "1", log) as following:
        following.out.exactly("line 19\n")
        number = 0
        for turn in range(20):
            for _ in range(50):
                append(log, f"{number}\n")
                number += 1
            # A rotation that waits until what went before was shown, as tail knows one file only.
            first = number - 50
            following.out.exactly("".join(f"{n}\n" for n in range(first, number)))
            replacement = log.with_name("replacement")
            replacement.write_text(f"{number}\n")
            if turn % 2:
                log.unlink()
            replacement.rename(log)
            following.out.exactly(f"{number}\n")
            number += 1
        following.ends()


def test_it_waits_for_a_file_that_is_not_there(backend: str, log: Path, tmp_path: Path) -> None:
    path = tmp_path / "later"
    with tail(backend, "--lines", "1", path, log) as following:
        following.out.exactly(f"==> {log} <==\nline 19\n")
        (tmp_path / "another").write_text("not this\n")
        path.write_text("here\n")
        following.out.exactly(f"\n==> {path} <==\nhere\n")
        path.unlink()
        path.write_text("again\n")
        following.out.exactly("again\n")
        assert following.ends()[:2] == ["not there", "there"]


def test_several_files_have_headlines(backend: str, log: Path) -> None:
    other = log.with_name("other")
    other.write_text("")
    with tail(backend, "--lines", "1", log, other) as following:
        following.out.exactly(f"==> {log} <==\nline 19\n")
        append(other, "one\n")
        following.out.exactly(f"\n==> {other} <==\none\n")
        append(other, "two\n")
        following.out.exactly("two\n")
        append(log, "three\n")
        following.out.exactly(f"\n==> {log} <==\nthree\n")
        assert following.ends() == []


def test_a_directory_that_is_not_there_is_an_error(backend: str, tmp_path: Path) -> None:
    with Example("tail.py", str(tmp_path / "missing" / "file"), backend=backend) as example:
        code, output, errors = example.finish()
    assert (code, output) == (1, [])
    assert errors.endswith("No such file or directory\n")


class Build:
    """build_on_change.py in a tree, with a command that shows the sources."""

    def __init__(self, example: Example) -> None:
        self.example = example
        self.out = Reader(example)

    def built(self) -> str:
        """The next build, without what went before it."""
        return self.out.until(lambda text: re.search(BUILT, text) is not None, "build")

    def ends(self) -> None:
        self.example.interrupt()
        assert self.example.finish() == (0, [], "")


_SHOW = """\
import pathlib, sys
print(*sorted(path.read_text() for path in pathlib.Path(sys.argv[1]).rglob("*.c")))
"""


@contextmanager
def building(backend: str, root: Path, *command: str) -> Iterator[Build]:
    run = command or (*QUICKLY, _SHOW, str(root))
    arguments = ["--pattern", "*.c", str(root), "--", *run]
    with Example("build_on_change.py", *arguments, backend=backend) as example:
        build = Build(example)
        first = build.built()
        assert first.startswith("watching ")
        assert "building: at the beginning\n" in first
        yield build


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    root = tmp_path / "src"
    (root / "deep" / "deeper").mkdir(parents=True)
    (root / "a.c").write_text("a")
    (root / "deep" / "b.c").write_text("b")
    (root / "notes").write_text("n")
    return root


def test_it_builds_when_a_file_changes(backend: str, sources: Path) -> None:
    with building(backend, sources) as build:
        for turn in range(3):
            (sources / "a.c").write_text(f"a{turn}")
            assert build.built() == f"building: a.c\na{turn} b\nbuilt: exit code 0\n"
        (sources / "deep" / "b.c").write_text("B")
        assert build.built() == "building: deep/b.c\nB a2\nbuilt: exit code 0\n"
        build.ends()


def test_it_builds_when_files_come_and_go(backend: str, sources: Path) -> None:
    with building(backend, sources) as build:
        (sources / "deep" / "deeper" / "c.c").write_text("c")
        text = build.built()
        assert text.startswith("building: deep/deeper/c.c\n")
        (sources / "a.c").unlink()
        assert build.built() == "building: a.c\nb c\nbuilt: exit code 0\n"
        (sources / "a.c").write_text("back")
        assert build.built() == "building: a.c\nb back c\nbuilt: exit code 0\n"
        build.ends()


def test_it_builds_when_an_editor_replaces_a_file(backend: str, sources: Path) -> None:
    with building(backend, sources) as build:
        for turn in range(3):
            (sources / "swap").write_text(f"new{turn}")
            (sources / "swap").rename(sources / "a.c")
            assert build.built() == f"building: a.c\nb new{turn}\nbuilt: exit code 0\n"
        build.ends()


def test_it_builds_when_a_directory_comes_and_goes(backend: str, sources: Path) -> None:
    with building(backend, sources) as build:
        made = sources.parent / "made"
        (made / "sub").mkdir(parents=True)
        (made / "sub" / "d.c").write_text("d")
        made.rename(sources / "made")
        assert build.built() == "building: made/sub/d.c\na b d\nbuilt: exit code 0\n"
        (sources / "made" / "sub" / "d.c").write_text("D")
        assert build.built() == "building: made/sub/d.c\nD a b\nbuilt: exit code 0\n"
        shutil.rmtree(sources / "made")
        assert build.built() == "building: made/sub/d.c\na b\nbuilt: exit code 0\n"
        build.ends()


def test_other_files_are_no_reason_to_build(backend: str, sources: Path) -> None:
    with building(backend, sources) as build:
        (sources / "notes").write_text("other")
        (sources / "more notes").write_text("more")
        (sources / "deep" / "made").mkdir()
        (sources / "a.c").write_text("last")
        assert build.built() == "building: a.c\nb last\nbuilt: exit code 0\n"
        build.ends()


def test_a_change_while_it_builds_is_built_next(backend: str, sources: Path) -> None:
    """The command changes a source each time, until there is nothing left to change."""
    code = (
        "import pathlib, sys; path = pathlib.Path(sys.argv[1]) / 'a.c'; "
        "count = len(path.read_text()); print(count); "
        "count >= 5 or path.write_text('x' * (count + 1))"
    )
    arguments = ["--pattern", "*.c", str(sources), "--", *QUICKLY, code, str(sources)]
    with Example("build_on_change.py", *arguments, backend=backend) as example:
        build = Build(example)
        assert build.built().endswith("1\nbuilt: exit code 0\n")
        for count in range(2, 6):
            assert build.built() == f"building: a.c\n{count}\nbuilt: exit code 0\n"
        build.ends()


def test_a_build_that_fails_is_told_and_the_next_one_comes(backend: str, sources: Path) -> None:
    code = "import pathlib, sys; sys.exit(int(pathlib.Path(sys.argv[1]).read_text() == 'bad'))"
    command = [*QUICKLY, code, str(sources / "a.c")]
    with building(backend, sources, *command) as build:
        (sources / "a.c").write_text("bad")
        assert build.built() == "building: a.c\nbuilt: exit code 1\n"
        (sources / "a.c").write_text("good")
        assert build.built() == "building: a.c\nbuilt: exit code 0\n"
        build.ends()


def test_a_root_that_is_no_directory_is_a_usage_error(backend: str, tmp_path: Path) -> None:
    arguments = [str(tmp_path / "missing"), "true"]
    with Example("build_on_change.py", *arguments, backend=backend) as example:
        code, output, errors = example.finish()
    assert (code, output) == (2, [])
    assert errors.splitlines()[-1].startswith("build_on_change.py: error: argument directory:")
