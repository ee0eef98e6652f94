"""Waiting for something to hold, without guessing how long it takes."""

import time


def until(holds, what, seconds=60.0):
    """Asks again and again until `holds()` answers something true, which it returns."""
    deadline = time.monotonic() + seconds
    while True:
        value = holds()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)
