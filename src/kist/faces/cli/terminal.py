"""What standard output is: how wide, and whether colours are welcome. Source: no-color.org."""

from __future__ import annotations

import os
import sys


def columns() -> int:
    try:
        return max(40, os.get_terminal_size(1).columns or 80)  # 0: a serial line does not know
    except OSError:
        return 80


def colours() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
