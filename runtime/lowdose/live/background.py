"""Runs a `lowdose` command with the lowest priority, for a program that must not wait for it.

`python -m lowdose.live.background COMMAND ...` ends when its standard input does, so that it never outlives whoever
started it and holds the other end.
"""

from __future__ import annotations

import os
import threading

from lowdose.cli.main import main

LOWEST = 19


def end_with_input() -> None:
    """Wait until the other end of standard input closes, then end this process at once."""
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(LOWEST)
    threading.Thread(target=end_with_input, daemon=True).start()
    main()
