"""A bare checkout runs its own tests: the plugin, and the folders that lie beside the core."""

from pathlib import Path

import portcompat

# Where the packages are installed, theirs come first and this adds nothing.
portcompat.__path__.append(str(Path(__file__).parent))

pytest_plugins = ["portcompat.pytest_plugin"]
