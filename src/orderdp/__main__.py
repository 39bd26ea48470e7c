"""`python -m orderdp` is `orderdp`."""

import sys

from orderdp.cli import main

sys.exit(main())
