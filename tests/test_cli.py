"""The command `portcompat`: its output, its errors, its exit codes."""

import itertools
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from portcompat import available_backends, available_file_watchers, available_kaio, limits
from portcompat.cli import main
from portcompat.conformance._rules import checked_by, load_rules

ROOT = Path(__file__).parents[1]


class Said(NamedTuple):
    code: int
    out: str
    err: str


Ask = Callable[..., Said]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run a command line in this process."""

    def ask(*arguments: str) -> Said:
        code = main(arguments)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return ask


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "code", "line"),
        [
            ("nonsense", 2, "No such command 'nonsense'."),
            ("info --nonsense", 2, "No such option '--nonsense'."),
            (
                "conformance --profile slow",
                2,
                "Invalid value for '--profile': 'slow' is not one of",
            ),
            ("conformance --backend nope", 2, "no backend is called 'nope': take "),
            ("conformance --backend no.such:Driver", 2, "there is no module no"),
            ("conformance --backend json:loads", 2, "is neither a Backend nor a Driver"),
            ("conformance --backend portcompat.abc:Driver", 2, "abstract class Driver"),
            ("conformance --rule R999", 2, "there is no rule R999; --list-rules"),
            ("conformance --rule R007", 2, "no test checks R007: "),
            ("conformance --json /no/such/folder/x", 2, "cannot write /no/such/folder/x: No such"),
            ("conformance --junit /", 2, "cannot write /: "),
        ],
    )
    def test_bad_input_is_one_line(self, ask: Ask, arguments: str, code: int, line: str) -> None:
        said = ask(*arguments.split())
        assert said.code == code
        assert said.err.startswith("portcompat: ")
        assert line in said.err
        assert said.err.count("\n") == 1
        assert said.out == ""

    def test_a_backend_that_does_not_work_here_is_3(
        self, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "absent_facility.py").write_text(
            "from portcompat.backends.poll import PollDriver\n"
            "class Absent(PollDriver):\n"
            "    def __init__(self):\n"
            "        raise OSError(38, 'this kernel has none')\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        said = ask("conformance", "--backend", "absent_facility:Absent")
        assert said.code == 3
        assert said.err.endswith("this kernel has none\n")
        assert said.err.count("\n") == 1

    @pytest.mark.parametrize(
        ("missing", "command", "extra"),
        [
            ("click", "info", "cli"),
            ("rich", "info", "cli"),
            ("pytest", "conformance", "conformance"),
            ("hypothesis", "conformance", "conformance"),
        ],
    )
    def test_a_missing_extra_is_one_line(
        self, ask: Ask, monkeypatch: pytest.MonkeyPatch, missing: str, command: str, extra: str
    ) -> None:
        from importlib.util import find_spec

        def without(name: str) -> object:
            return None if name == missing else find_spec(name)

        monkeypatch.setattr("portcompat.cli.find_spec", without)
        said = ask(command)
        assert said.code == 2
        assert said.err == (
            f"portcompat: install what this needs: pip install 'portcompat[{extra}]'\n"
        )

    def test_help_is_no_error(self, ask: Ask) -> None:
        for arguments in ((), ("--help",), ("conformance", "-h")):
            said = ask(*arguments)
            assert said.code == 0
            assert said.out.startswith("Usage: portcompat")


class TestInfo:
    def test_it_tells_as_json_what_the_library_tells(self, ask: Ask) -> None:
        said = ask("info", "--json")
        found = json.loads(said.out)
        assert said.code == 0
        assert found["schema"] == 1
        assert found["limits"] == {"max_events": limits.max_events, "max_ports": limits.max_ports}
        for name, info in available_backends().items():
            assert found["backends"][name]["usable"] == info.usable
            assert found["backends"][name]["features"] == sorted(info.features)
            assert (found["default"] == name) == info.default

        for name, watcher in available_file_watchers().items():
            assert found["file_watchers"][name]["usable"] == watcher.usable
            assert found["file_watchers"][name]["features"] == sorted(watcher.features)

        for name, way in available_kaio().items():
            assert found["kaio"][name] == way._asdict()

    def test_it_shows_each_backend_and_what_goes_with_it(self, ask: Ask) -> None:
        said = ask("info")
        assert said.code == 0
        for name in (*available_backends(), *available_file_watchers(), *available_kaio()):
            assert f" {name} " in said.out

    def test_it_says_why_io_is_done_as_it_is(
        self, ask: Ask, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PORTCOMPAT_KAIO", "0")
        assert "PORTCOMPAT_KAIO is 0" in ask("info").out
        monkeypatch.delenv("PORTCOMPAT_KAIO")
        assert "the best that is usable" in ask("info").out


class TestListOfRules:
    def test_every_rule_has_a_test_or_says_why_it_has_none(self, ask: Ask) -> None:
        said = ask("conformance", "--list-rules")
        assert said.code == 0
        assert "UNCHECKED" not in said.out
        for number in load_rules():
            assert f"\n{number}  " in "\n" + said.out

    def test_no_test_checks_a_rule_that_is_not_written_down(self) -> None:
        assert checked_by().keys() <= load_rules().keys()

    def test_no_rule_that_is_said_to_be_untestable_is_tested(self) -> None:
        untestable = {number for number, rule in load_rules().items() if rule.untestable}
        assert not untestable & checked_by().keys()

    @pytest.mark.parametrize("number", ["R156", "M011"])
    def test_it_can_be_asked_for_one(self, ask: Ask, number: str) -> None:
        said = ask("conformance", "--list-rules", "--rule", number.lower())
        assert said.code == 0
        assert said.out.startswith(f"{number}  ")
        assert "\n      test_" in said.out

    def test_the_rules_of_one_part_stand_together_in_their_order(self) -> None:
        parts = [part for part, _ in itertools.groupby(number[0] for number in load_rules())]
        assert len(parts) == len(set(parts))
        messages = [number for number in load_rules() if number[0] == "M"]
        assert messages == sorted(messages)

    def test_a_number_of_no_part_is_a_usage_error(self, ask: Ask) -> None:
        said = ask("conformance", "--rule", "M999")
        assert said.code == 2
        assert "there is no rule M999" in said.err


SUITE = """
    import os
    import pytest
    import time
    from portcompat.conformance import needs, rule

    @rule("R001", "R002")
    def test_holds(port):
        port.send(1)
        assert port.get(0).events == 1

    @rule("R002", "R003")
    def test_is_declared(port):
        assert False, "as the row says"

    @rule("R004")
    @needs("hangup")
    def test_needs_what_select_lacks(port): ...

    @rule("R005")
    def test_does_not_depend_on_a_backend(): ...

    @rule("R006")
    def test_fails():
        assert 1 + 1 == 3

    @rule("R007")
    def test_kills_the_process(backend):
        os.abort()

    @rule("R008")
    def test_takes_long(backend):
        time.sleep(40)
    """
ROWS = """
    [[deviation]]
    backend = "*"
    test = "test_small.py::test_is_declared"
    rules = ["R003"]
    reason = "the kernel cannot"
    source = "select(2)"
    """


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages as they are installed, and a suite of a few tests."""
    folder = tmp_path_factory.mktemp("installed")
    no_tests = shutil.ignore_patterns("__pycache__", "test_*", "*.toml")
    shutil.copytree(ROOT / "portcompat", folder / "portcompat", ignore=no_tests)
    shutil.copytree(ROOT / "backends", folder / "portcompat/backends", ignore=no_tests)
    suite = folder / "portcompat/conformance"
    shutil.copytree(ROOT / "conformance", suite, ignore=no_tests)
    rules = (f'[R00{number}]\ntext = "rule {number}"\n' for number in range(1, 9))
    (suite / "rules.toml").write_text("".join(rules))
    (suite / "deviations.toml").write_text(textwrap.dedent(ROWS))
    (suite / "test_small.py").write_text(textwrap.dedent(SUITE))
    return folder


def _environment(tree: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "100"}


@pytest.fixture
def check(tree: Path, tmp_path: Path) -> Ask:
    """Run `portcompat conformance` on the small suite, in a folder of its own."""

    def check(*arguments: str) -> Said:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "portcompat", "conformance", *arguments],
            cwd=tmp_path,
            env=_environment(tree),
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    return check


def _rules(*numbers: int) -> list[str]:
    return [f"--rule=R00{number}" for number in numbers]


class TestConformance:
    def test_0_if_all_hold_or_are_declared(self, check: Ask, tmp_path: Path) -> None:
        said = check("--backend=select", "--backend=poll", *_rules(1, 2, 3, 4, 5), "--json=o.json")
        assert (said.code, said.err) == (0, "")
        assert "every rule holds or is declared on select, poll" in said.out
        assert "select (emulated): 5 rules: 3 pass, 1 declared, 1 unsupported, 0 fail" in said.out
        found = json.loads((tmp_path / "o.json").read_text())
        assert set(found) == {"schema", "portcompat", "platform", "backends"}
        assert list(found["backends"]) == ["select", "poll"]
        select = found["backends"]["select"]["rules"]
        assert [rule["outcome"] for rule in select.values()] == [
            "pass", "pass", "declared", "unsupported", "pass",
        ]  # fmt: skip
        assert select["R003"] == {
            "outcome": "declared",
            "tests": ["test_small.py::test_is_declared[select]"],
            "reason": "the kernel cannot",
        }
        assert select["R004"]["reason"] == "select lacks hangup"
        assert found["backends"]["poll"]["rules"]["R004"]["outcome"] == "pass"
        assert [file.name for file in tmp_path.iterdir()] == ["o.json"]  # and no caches

    def test_1_if_one_does_not(self, check: Ask, tmp_path: Path) -> None:
        said = check("--backend=poll", *_rules(1, 6), "--junit=junit.xml")
        assert (said.code, said.err) == (1, "")
        assert "FAIL test_small.py::test_fails: assert (1 + 1) == 3" in said.out
        assert "\nassert 1 + 1 == 3" not in said.out
        assert "poll fails R006\n1 test fails on poll\n" in said.out
        assert 'failures="1"' in (tmp_path / "junit.xml").read_text()

    def test_a_crash_is_reported_and_what_did_not_run_fails(
        self, check: Ask, tmp_path: Path
    ) -> None:
        said = check("--backend=poll", *_rules(1, 7, 8), "--json=o.json")
        assert said.code == 1
        assert "was ended by SIGABRT while test_small.py::test_kills_the_process" in said.err
        rules = json.loads((tmp_path / "o.json").read_text())["backends"]["poll"]["rules"]
        assert rules["R001"]["outcome"] == "pass"
        assert rules["R007"]["reason"] == "was ended by SIGABRT"
        assert rules["R008"]["reason"] == "not run: was ended by SIGABRT"

    def test_a_backend_is_found_where_the_command_starts(self, check: Ask, tmp_path: Path) -> None:
        (tmp_path / "theirs.py").write_text(
            "from portcompat.backends.poll import PollDriver\nclass Theirs(PollDriver): ...\n"
        )
        said = check("--backend=theirs:Theirs", *_rules(1))
        assert (said.code, said.err) == (0, "")
        assert "theirs:Theirs (emulated): 1 rules: 1 pass" in said.out

    def test_what_the_place_configures_for_pytest_does_not_matter(
        self, check: Ask, tmp_path: Path
    ) -> None:
        (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
        (tmp_path / "conftest.py").write_text("raise RuntimeError\n")
        assert check("--backend=poll", *_rules(1)).code == 0

    def test_interrupted_it_ends_with_130_and_leaves_nothing_running(
        self, tree: Path, tmp_path: Path
    ) -> None:
        command = [sys.executable, "-m", "portcompat", "conformance", "--backend=poll", *_rules(8)]
        with subprocess.Popen(
            command,
            cwd=tmp_path,
            env=_environment(tree),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("portcompat ")  # the run begins
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        assert process.returncode == 130
        assert err.strip() == "portcompat: interrupted"
        assert out == ""


class TestTerminal:
    def show(self, tree: Path, tmp_path: Path, **environment: str) -> str:
        """What a terminal receives."""
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "portcompat", "conformance", "--backend=poll", *_rules(1)]
        with subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**_environment(tree), "TERM": "xterm-256color", **environment},
            stdout=theirs,
            stderr=theirs,
        ) as process:
            os.close(theirs)
            received = b""
            deadline = time.monotonic() + 40
            while time.monotonic() < deadline:
                try:
                    data = os.read(ours, 4096)
                except OSError:  # Linux's way to say that nobody writes any more
                    break
                if not data:
                    break
                received += data
            os.close(ours)
        assert process.returncode == 0
        return received.decode()

    def test_there_a_table_is_drawn_and_redrawn(self, tree: Path, tmp_path: Path) -> None:
        received = self.show(tree, tmp_path)
        assert "unsupported" in received
        assert "│ poll " in received
        assert "1/1" in received
        assert "\x1b[1A" in received  # up a line, to draw it again
        assert "\x1b[32m" in received  # green

    def test_without_colours_if_so_wished(self, tree: Path, tmp_path: Path) -> None:
        received = self.show(tree, tmp_path, NO_COLOR="1")
        assert "│ poll " in received
        assert "\x1b[32m" not in received

    def test_with_lines_if_it_can_do_no_more(self, tree: Path, tmp_path: Path) -> None:
        received = self.show(tree, tmp_path, TERM="dumb")
        assert "100%  1 of 1 tests" in received
        assert "\x1b" not in received
