"""`python -m portcompat`."""

import sys

from portcompat.cli import main

if __name__ == "__main__":
    sys.exit(main())
