"""The host that a report is about."""

import platform
import sys


def describe_platform() -> dict[str, str]:
    """The system and the Python on it."""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
    }
