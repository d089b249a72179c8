"""The one place that waits: on a condition, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
POLL_S = 0.02


class WaitError(AssertionError):
    """A condition did not come true in time."""


def until(condition: Callable[[], T], what: str, timeout: float = 15.0, poll: float = POLL_S) -> T:
    """The first true value of condition(); WaitError, naming `what` and the last value, when there is none in time."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise WaitError(f"not within {timeout:g} s: {what} (last: {value!r})")
        time.sleep(poll)


def holds(condition: Callable[[], object], what: str, times: int = 20) -> None:
    """Asserts that a condition is true so many times in a row."""
    for i in range(times):
        value = condition()
        if not value:
            raise AssertionError(f"did not hold at check {i + 1} of {times}: {what} (value: {value!r})")


def silent_for(condition: Callable[[], object], what: str, seconds: float) -> None:
    """Asserts that a condition stays false for a while: the check for something that must not come."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            raise AssertionError(f"happened though it must not: {what}: {value!r}")
        time.sleep(POLL_S)
