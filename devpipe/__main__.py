"""`python -m devpipe`: the console script without installing it."""

import sys

from devpipe.cli import main

sys.exit(main())
