"""``python -m noinherit``."""

import sys

from ._cli import main

sys.exit(main())
