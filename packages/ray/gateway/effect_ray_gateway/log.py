"""The gateway's log: one JSON object a line on standard error."""

import contextlib
import json
import sys
import time
from typing import Any


def log(level: str, message: str, **fields: Any) -> None:
    """Writes one line. Never pass secrets, tokens or the environment of a pool."""
    line = {"time": time.time(), "level": level, "message": message, **fields}
    # A full disk is no reason to stop in the middle of what is told here.
    with contextlib.suppress(OSError):
        sys.stderr.write(json.dumps(line, default=str) + "\n")
        sys.stderr.flush()
