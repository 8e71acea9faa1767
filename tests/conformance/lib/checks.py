"""How a case that is driven from here waits and compares; whatever does not hold is the client's failure."""

import time

from .worker import ClientFailed


def until(condition, message, limit_s=30):
    """Waits for the condition; `message` may be a function that says how far it got."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise ClientFailed(message() if callable(message) else message)
        time.sleep(0.01)


def equal(got, expected, what):
    if got != expected:
        raise ClientFailed(f"{what}: got {str(got)[:200]}, expected {str(expected)[:200]}")
