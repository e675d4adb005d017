"""``python -m landed``: the command."""

import sys

from landed.cli import main

if __name__ == "__main__":
    sys.argv[0] = "landed"
    sys.exit(main())
