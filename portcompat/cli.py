"""The command `portcompat`: how it starts and how it ends."""

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec

FAILED = 1
USAGE = 2
UNAVAILABLE = 3
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit code: 0, or one of those above.

    Whatever goes wrong is one line on standard error.
    """
    try:
        require("cli", "click", "rich")
        from portcompat._commands import run

        return run(list(sys.argv[1:] if arguments is None else arguments))
    except CommandError as error:
        print(f"portcompat: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("portcompat: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader, a pager perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


class CommandError(Exception):
    """A command that cannot do what it was asked: its one line, and its exit code."""

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message)
        self.code = code


def require(extra: str, *modules: str) -> None:
    """Raise CommandError unless all `modules`, those of the extra, are installed."""
    if any(find_spec(module) is None for module in modules):
        raise CommandError(f"install what this needs: pip install 'portcompat[{extra}]'")
