"""Operations of chance on a small tree of files: a port tells of them what the rules say."""

from collections.abc import Callable
from pathlib import Path

import pytest

from portcompat import Port
from portcompat.conformance import needs, rule
from portcompat.conformance._file_model import Model
from portcompat.conformance._files import Happened, told

pytestmark = pytest.mark.usefixtures("file_watcher")

SEEDS = range(12)


@needs("file-rename-from", "file-rename-to")
@rule("R206", "R214", "R215", "R219", "R220", "R222", "R224", "R225", "R226", "R229", "R235")
@pytest.mark.parametrize("seed", SEEDS)
def test_each_operation_is_told_as_the_rules_say(
    port: Port,
    tmp_path: Path,
    happened: Happened,
    scale: Callable[[int, int, int], int],
    seed: int,
) -> None:
    model = Model(port, tmp_path, seed)
    for _ in range(scale(60, 1_000, 50_000)):
        model.step()
        model.compare(told(happened(port)), exact=True)


@needs("file-rename-from", "file-rename-to")
@rule(
    "R206", "R214", "R215", "R219", "R220", "R222", "R224", "R225", "R226", "R229", "R230", "R235"
)
@pytest.mark.parametrize("seed", SEEDS)
def test_operations_in_a_row_are_told_as_the_rules_say(
    port: Port,
    tmp_path: Path,
    happened: Happened,
    scale: Callable[[int, int, int], int],
    seed: int,
) -> None:
    model = Model(port, tmp_path, seed)
    for _ in range(scale(60, 1_000, 50_000)):
        for _ in range(model.chance.randrange(1, 8)):
            model.step()
        model.compare(told(happened(port)), exact=False)
