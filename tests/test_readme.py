"""What the documents say is so: the example runs, names exist, links lead somewhere."""

import re
import tomllib
from pathlib import Path

import pytest

import portcompat
from portcompat._registry import load_watcher
from portcompat.abc import file_features

CHECKOUT = Path(__file__).parent.parent
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "backends/README.md"]


def blocks(language: str) -> list[str]:
    """The blocks of code in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_the_examples_print_what_the_readme_says(
    number: int, backend: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORTCOMPAT_BACKEND", backend)
    exec(compile(blocks("python")[number], "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out == blocks("text")[number]


def test_the_table_shows_every_backend_with_its_features() -> None:
    header, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in README.partition("## Backends")[2].partition("##")[0].splitlines()
        if line.startswith("|") and not line.startswith("|---")
    ]
    backends = portcompat.available_backends()
    assert header[1:] == [f"`{name}`" for name in backends]
    for what, *cells in rows:
        if match := re.search(r"\(`([a-z-]+)`\)", what):
            for cell, info in zip(cells, backends.values(), strict=True):
                if info.usable and not cell.startswith("where"):
                    assert cell.startswith("yes") == (match[1] in info.features), (what, cell)


def test_the_table_of_file_bits_is_what_the_watchers_say() -> None:
    lines = README.partition("## Files")[2].partition("## Threads")[0].splitlines()
    header, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith("|") and not line.startswith("|---")
    ]
    names = [name.strip("`") for name in header[1:]]
    assert names == list(portcompat.available_file_watchers())
    bits = {name: file_features(load_watcher(name).bits) for name in names}
    seen = set()
    for what, *cells in rows:
        if match := re.search(r"\(`([a-z-]+)`\)", what):
            seen.add(match[1])
            for cell, name in zip(cells, names, strict=True):
                assert cell.startswith("yes") == (match[1] in bits[name]), (what, name)
    assert seen == frozenset().union(*bits.values())


def test_the_commands_name_extras_and_a_command_that_exist() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    texts = README + (CHECKOUT / "CONTRIBUTING.md").read_text()
    for extras in re.findall(r"install [^\n]*'\.\[([a-z,]+)\]'", texts):
        assert set(extras.split(",")) <= project["optional-dependencies"].keys()
    assert set(re.findall(r"\.venv/bin/(portcompat)", README)) == project["scripts"].keys()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_to_a_file_of_the_checkout(document: str) -> None:
    path = CHECKOUT / document
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_every_name_of_the_package_that_the_readme_uses_exists() -> None:
    names = set(re.findall(r"\b(?:PORT_|POLL)[A-Z_]+\b|\bport_[a-z]+\b", README))
    names |= set(re.findall(r"\bportcompat\.([A-Za-z_]+)\b", README))
    names -= {"conformance", "backends", "timers"}
    assert names - set(dir(portcompat)) == set()
