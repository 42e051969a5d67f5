"""The pytest plugin: what its fixtures, marks and options do."""

import json
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

import portcompat
from portcompat import available_backends, available_file_watchers
from portcompat.conformance import _deviations, _session

pytest_plugins = ["pytester"]

PLUGIN = ("-p", "portcompat.pytest_plugin")
Run = Callable[..., pytest.RunResult]


@pytest.fixture(autouse=True)
def no_other_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # those take half a second each time


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Run a test module in a pytest inside this one."""

    def run(module: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(test_it=textwrap.dedent(module))
        return pytester.runpytest_inprocess(*PLUGIN, *options)

    return run


@pytest.fixture
def run_apart(pytester: pytest.Pytester) -> Run:
    """Run a test module in a process of its own, which has the same portcompat."""
    lines = [
        "import sys",
        f"sys.path.insert(0, {str(Path(portcompat.__file__).parents[1])!r})",
        "import portcompat",
        f"portcompat.__path__[:] = {list(portcompat.__path__)!r}",
        "pytest_plugins = ['portcompat.pytest_plugin']",
    ]
    pytester.makeconftest("\n".join(lines))

    def run(module: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(test_it=textwrap.dedent(module))
        return pytester.runpytest_subprocess(*options)

    return run


class TestBackends:
    def test_a_test_runs_once_for_each_backend_that_is_named(self, run: Run) -> None:
        result = run(
            "def test_a(backend): pass", "-v", "--port-backend=select", "--port-backend=poll"
        )
        result.stdout.fnmatch_lines(["*::test_a[[]select]*", "*::test_a[[]poll]*"])
        result.assert_outcomes(passed=2)

    def test_without_an_option_it_runs_for_each_that_is_usable(self, run: Run) -> None:
        usable = sum(info.usable for info in available_backends().values())
        run("def test_a(backend): pass").assert_outcomes(passed=usable)

    def test_an_unknown_one_is_a_usage_error(self, run: Run) -> None:
        result = run("def test_a(backend): pass", "--port-backend=nope")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: no backend is called 'nope'*"])

    def test_one_that_does_not_work_here_is_a_usage_error(
        self, run: Run, pytester: pytest.Pytester
    ) -> None:
        pytester.makepyfile(
            absent="""
            from portcompat.backends.poll import PollDriver

            class Absent(PollDriver):
                def __init__(self):
                    raise OSError(38, "this kernel has none")
            """
        )
        pytester.syspathinsert()
        result = run("def test_a(backend): pass", "--port-backend=absent:Absent")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: *absent:Absent*this kernel has none"])

    def test_somebody_elses_is_tested(self, run: Run, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(
            theirs="from portcompat.backends.poll import PollDriver\nclass Theirs(PollDriver): ..."
        )
        pytester.syspathinsert()
        module = "def test_a(port): assert port.backend == 'theirs:Theirs'"
        run(module, "--port-backend=theirs:Theirs").assert_outcomes(passed=1)

    def test_a_test_of_files_runs_once_for_each_watcher(self, run: Run) -> None:
        usable = [name for name, info in available_file_watchers().items() if info.usable]
        module = """
            import os

            def test_a(backend, file_watcher):
                assert os.environ["PORTCOMPAT_FILE_WATCHER"] == file_watcher
            """
        result = run(module, "-v", "--port-backend=select", "--port-backend=poll")
        result.assert_outcomes(passed=2 * len(usable))
        result.stdout.fnmatch_lines(
            [f"*::test_a[[]{name}-{watcher}]*" for name in ("select", "poll") for watcher in usable]
        )

    def test_the_watcher_that_the_environment_names_is_the_only_one(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PORTCOMPAT_FILE_WATCHER", "stat")
        run("def test_a(file_watcher): assert file_watcher == 'stat'").assert_outcomes(passed=1)

    def test_a_watcher_fixture_of_the_project_is_left_alone(self, run: Run) -> None:
        module = """
            import pytest

            @pytest.fixture
            def file_watcher():
                return "their own"

            def test_a(file_watcher):
                assert file_watcher == "their own"
            """
        run(module).assert_outcomes(passed=1)

    def test_a_backend_fixture_of_the_project_is_left_alone(self, run: Run) -> None:
        module = """
            import pytest

            @pytest.fixture
            def backend():
                return "mine"

            def test_a(backend):
                assert backend == "mine"
            """
        run(module).assert_outcomes(passed=1)


class TestPorts:
    def test_ports_are_closed_when_the_test_is_over(self, run: Run) -> None:
        module = """
            ports = []

            def test_a(port, make_port):
                ports.extend([port, make_port(), make_port(max_events=7)])
                assert not any(port.closed for port in ports)
                assert ports[-1].max_events == 7

            def test_b():
                assert len(ports) == 3
                assert all(port.closed for port in ports)
            """
        run(module, "--port-backend=poll").assert_outcomes(passed=2)


class TestProfiles:
    @pytest.mark.parametrize(("profile", "count"), [("quick", 1), ("full", 2), ("soak", 3)])
    def test_the_profile_chooses_the_count(self, run: Run, profile: str, count: int) -> None:
        module = f"""
            def test_a(profile, scale):
                assert (profile, scale(1, 2, 3)) == ({profile!r}, {count})
            """
        run(module, f"--port-profile={profile}").assert_outcomes(passed=1)


class TestMarks:
    def test_needs_skips_where_the_feature_is_lacking(self, run: Run) -> None:
        module = """
            from portcompat.conformance import needs

            @needs("hangup")
            def test_a(port): ...
            """
        result = run(module, "-rs", "--port-backend=poll", "--port-backend=select")
        result.assert_outcomes(passed=1, skipped=1)
        result.stdout.fnmatch_lines(["SKIPPED*select lacks hangup"])

    def test_an_option_selects_the_tests_of_rules(self, run: Run) -> None:
        module = """
            from portcompat.conformance import rule

            @rule("R001", "R002")
            def test_a(): ...

            @rule("R003")
            def test_b(): ...

            @rule("R004")
            def test_c(): ...

            def test_d(): ...
            """
        run(module, "--port-rule=R002", "--port-rule=R003").assert_outcomes(passed=2, deselected=2)


class TestDeadline:
    def test_a_test_that_hangs_fails_with_all_stacks_and_the_others_run(
        self, run_apart: Run
    ) -> None:
        module = """
            import threading
            import pytest

            def elsewhere(event):
                event.wait()

            @pytest.mark.deadline(0.2)
            def test_a():
                event = threading.Event()
                threading.Thread(target=elsewhere, args=[event]).start()
                try:
                    threading.Event().wait()
                finally:
                    event.set()

            def test_b(): ...
            """
        result = run_apart(module)
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(["*the call did not end within 0.2 s*", "*in elsewhere*"])

    def test_a_wait_in_the_cleanup_is_interrupted_too(self, run_apart: Run) -> None:
        module = """
            import threading
            import pytest

            @pytest.mark.deadline(0.2)
            def test_a():
                try:
                    threading.Lock().acquire() and threading.Event().wait()
                finally:
                    threading.Event().wait()
            """
        run_apart(module).assert_outcomes(failed=1)

    def test_set_up_and_tear_down_have_it_as_well(self, run_apart: Run) -> None:
        module = """
            import threading
            import pytest

            @pytest.fixture
            def before():
                threading.Event().wait()

            @pytest.fixture
            def after():
                yield
                threading.Event().wait()

            @pytest.mark.deadline(0.2)
            def test_a(before): ...

            @pytest.mark.deadline(0.2)
            def test_b(after): ...
            """
        result = run_apart(module)
        result.assert_outcomes(passed=1, errors=2)
        result.stdout.fnmatch_lines(["*the set-up did not end*", "*the tear-down did not end*"])

    def test_it_can_be_set_for_all_tests(self, run_apart: Run, pytester: pytest.Pytester) -> None:
        pytester.makeini("[pytest]\nport_deadline = 0.2")
        module = "import threading\ndef test_a(): threading.Event().wait()"
        run_apart(module).assert_outcomes(failed=1)


def row(test: str, rule: str, backend: str = "select") -> str:
    """A declared difference of the suite below."""
    return f"""
        [[deviation]]
        backend = "{backend}"
        test = "test_it.py::{test}"
        rules = ["{rule}"]
        reason = "the kernel cannot"
        source = "select(2)"
        """


class TestDeviations:
    SUITE = """
        import pytest
        from portcompat.conformance import needs, rule

        @rule("R001", "R002")
        def test_fails(port):
            assert False

        @rule("R003")
        def test_holds(port): ...

        @rule("R004")
        def test_is_broken(port):
            undefined

        @rule("R005")
        @needs("hangup")
        def test_cannot_be_asked(port):
            assert False
        """

    @pytest.fixture
    def run_suite(
        self, pytester: pytest.Pytester, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> Run:
        """Run test functions of SUITE, with rows as the suite's deviations."""
        for module in (_session, _deviations):
            monkeypatch.setattr(module, "SUITE", pytester.path)
        monkeypatch.syspath_prepend(pytester.path)

        def run_suite(rows: str, *options: str, suite: str = self.SUITE) -> pytest.RunResult:
            (pytester.path / "deviations.toml").write_text(textwrap.dedent(rows))
            return run(suite, "--port-backend=select", "-rxf", *options)

        return run_suite

    @pytest.mark.parametrize("whose", ["select", "*"])
    def test_a_declared_difference_is_expected(self, run_suite: Run, whose: str) -> None:
        result = run_suite(row("test_fails", "R001", whose), "-k", "fails")
        result.assert_outcomes(xfailed=1, deselected=3)
        result.stdout.fnmatch_lines(["XFAIL*the kernel cannot"])

    @pytest.mark.parametrize(
        ("watcher", "outcomes"),
        [("*", {"xfailed": 1}), ("stat", {"xfailed": 1}), ("inotify", {"failed": 1})],
    )
    def test_a_difference_may_be_that_of_a_watcher(
        self,
        run_suite: Run,
        monkeypatch: pytest.MonkeyPatch,
        watcher: str,
        outcomes: dict[str, int],
    ) -> None:
        monkeypatch.setenv("PORTCOMPAT_FILE_WATCHER", "stat")
        suite = """
            from portcompat.conformance import rule

            @rule("R001")
            def test_fails(port, file_watcher):
                assert False
            """
        rows = row("test_fails", "R001") + f'watcher = "{watcher}"'
        run_suite(rows, "-k", "fails", suite=suite).assert_outcomes(**outcomes)

    def test_that_of_another_backend_is_not(self, run_suite: Run) -> None:
        result = run_suite(row("test_fails", "R001", "poll"), "-k", "fails")
        result.assert_outcomes(failed=1, deselected=3)

    def test_an_unexpected_pass_fails(self, run_suite: Run) -> None:
        result = run_suite(row("test_holds", "R003"), "-k", "holds")
        result.assert_outcomes(failed=1, deselected=3)

    def test_an_error_that_is_no_difference_fails(self, run_suite: Run) -> None:
        result = run_suite(row("test_is_broken", "R004"), "-k", "broken")
        result.assert_outcomes(failed=1, deselected=3)

    def test_a_file_of_ones_own_adds_to_them(
        self, run_suite: Run, pytester: pytest.Pytester
    ) -> None:
        mine = pytester.path / "mine.toml"
        mine.write_text(row("test_fails", "R001"))
        result = run_suite("", f"--port-deviations={mine}", "-k", "fails")
        result.assert_outcomes(xfailed=1, deselected=3)

    @pytest.mark.parametrize(
        ("rows", "complaint"),
        [
            (row("test_gone", "R001"), "*test_gone on select is about no test*"),
            (row("test_cannot_be_asked", "R005"), "*is about no test that runs there*"),
            (row("test_fails", "R003"), "*the test does not check R003"),
            (row("test_fails", "R001") + "watcher = 1", "*row 1 needs 'watcher', a str"),
            ("[[deviation]]\nbackend = 'select'", "*row 1 needs 'test', a str"),
            (row("test_fails", "R001") + "why = 1", "*row 1 has an unknown key 'why'"),
            ("[deviations]", "*may have [[][[]deviation]] tables only"),
            ("deviation", "*is not TOML: *"),
        ],
    )
    def test_a_row_that_cannot_be_right_ends_the_run(
        self, run_suite: Run, rows: str, complaint: str
    ) -> None:
        result = run_suite(rows)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: {complaint}"])

    def test_a_row_without_a_test_is_no_error_where_tests_are_picked(self, run_suite: Run) -> None:
        result = run_suite(row("test_gone", "R001"), "test_it.py::test_holds")
        result.assert_outcomes(passed=1)

    def test_a_row_for_all_backends_may_be_about_others_than_this(self, run_suite: Run) -> None:
        rows = row("test_fails", "R001") + row("test_cannot_be_asked", "R005", "*")
        result = run_suite(rows, "-k", "fails or asked")
        result.assert_outcomes(xfailed=1, skipped=1, deselected=2)

    def test_a_file_that_is_not_there_is_a_usage_error(self, run_suite: Run) -> None:
        result = run_suite("", "--port-deviations=absent.toml")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: cannot read absent.toml: *"])


class TestJson:
    @pytest.fixture
    def document(self, run: Run, tmp_path: Path) -> dict[str, object]:
        module = """
            import pytest
            from portcompat.conformance import needs, rule

            @rule("R001", "R002")
            def test_a(port): ...

            @rule("R002")
            def test_b(port):
                assert 1 == 2

            @rule("R003")
            @needs("hangup")
            def test_c(port): ...

            @rule("R004")
            def test_d(): ...
            """
        file = tmp_path / "outcome.json"
        run(module, "--port-backend=select", "--port-backend=poll", f"--port-json={file}")
        document: dict[str, object] = json.loads(file.read_text())
        return document

    def test_several_processes_cannot_write_it(self, run: Run, tmp_path: Path) -> None:
        file = tmp_path / "outcome.json"
        result = run("def test_a(): ...", "-p", "xdist", "-n", "2", f"--port-json={file}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: --port-json wants all tests in one process*"])
        assert not file.exists()

    def test_it_tells_the_outcome_of_each_rule(self, document: dict[str, object]) -> None:
        assert document["schema"] == 1
        assert document["portcompat"]
        backends = document["backends"]
        assert isinstance(backends, dict)
        select = backends["select"]
        assert select["mode"] == "emulated"
        assert select["rules"] == {
            "R001": {"outcome": "pass", "tests": ["test_it.py::test_a[select]"], "reason": None},
            "R002": {
                "outcome": "fail",
                "tests": ["test_it.py::test_a[select]", "test_it.py::test_b[select]"],
                "reason": "assert 1 == 2",
            },
            "R003": {
                "outcome": "unsupported",
                "tests": ["test_it.py::test_c[select]"],
                "reason": "select lacks hangup",
            },
            "R004": {"outcome": "pass", "tests": ["test_it.py::test_d"], "reason": None},
        }

    def test_it_counts_the_outcomes(self, document: dict[str, object]) -> None:
        backends = document["backends"]
        assert isinstance(backends, dict)
        summary = backends["poll"]["summary"]
        assert summary.pop("seconds") >= 0
        assert summary == {
            "pass": 3,
            "fail": 1,
            "declared": 0,
            "unsupported": 0,
            "tests": 4,
            "failed_tests": 1,
        }
