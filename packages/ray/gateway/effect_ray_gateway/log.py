"""The gateway's log: one JSON object per line, on standard error."""

import contextlib
import json
import sys
import time
from typing import Any


def log(level: str, message: str, **fields: Any) -> None:
    """Writes one line. Never pass secrets, tokens or a pool's environment."""
    line = {"time": time.time(), "level": level, "message": message, **fields}
    # A full disk must not stop the work that is being logged.
    with contextlib.suppress(OSError):
        sys.stderr.write(json.dumps(line, default=str) + "\n")
        sys.stderr.flush()
