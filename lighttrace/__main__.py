"""`python -m lighttrace` is the `lighttrace` command."""

import sys

from lighttrace.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
