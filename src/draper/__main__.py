"""``python -m draper`` is the command ``draper``."""

import sys

from draper.cli import main

sys.exit(main())
