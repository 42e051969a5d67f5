"""The rules by number, and which tests check each."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SUITE = Path(__file__).parent
"""The folder of the test modules, of rules.toml and of deviations.toml."""


class Rule(NamedTuple):
    """A rule of the specification; `untestable` says why no test can check it, or is ""."""

    number: str
    text: str
    untestable: str


def load_rules(file: Path = SUITE / "rules.toml") -> dict[str, Rule]:
    """Every rule of `file`, in its order."""
    with file.open("rb") as stream:
        tables = tomllib.load(stream)
    return {
        number: Rule(number, table["text"], table.get("untestable", ""))
        for number, table in tables.items()
    }


def checked_by(folder: Path = SUITE) -> dict[str, list[str]]:
    """The tests of `folder`, as "module::function", by the rule numbers of their marks.

    The modules are read and not imported, so this asks neither for a backend nor for Hypothesis.
    """
    found: dict[str, list[str]] = {}
    for file in sorted(folder.glob("test_*.py")):
        for function, numbers in _marked(ast.parse(file.read_bytes(), str(file))):
            for number in numbers:
                found.setdefault(number, []).append(f"{file.name}::{function}")
    return found


def _marked(module: ast.Module) -> Iterator[tuple[str, list[str]]]:
    common: list[str] = []
    for statement in module.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="pytestmark")], value=value):
                marks = value.elts if isinstance(value, ast.List | ast.Tuple) else [value]
                common = _numbers(marks)
            case ast.FunctionDef(name=name, decorator_list=marks) if name.startswith("test_"):
                yield name, [*common, *_numbers(marks)]
            case ast.ClassDef(body=body, decorator_list=marks):
                for inner in body:
                    if isinstance(inner, ast.FunctionDef) and inner.name.startswith("test_"):
                        numbers = _numbers([*marks, *inner.decorator_list])
                        yield inner.name, [*common, *numbers]


def _numbers(marks: list[ast.expr]) -> list[str]:
    return [
        argument.value
        for mark in marks
        if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id == "rule"
        for argument in mark.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    ]
