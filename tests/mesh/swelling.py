"""Whether a daemon holds on to what it was given."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from console import Console
from rig import World, until
from rig.waiting import WaitError


def held(world: World) -> dict[str, int]:
    """What is in use in the daemon's heap, in kB, and how many threads it has. Not what is resident: free memory may
    stay with the process for a while."""
    with Console(world.daemon.socket) as console:
        mem = console.ask("mem")
    in_use = (mem["heap_used_bytes"] + mem["mapped_bytes"]) // 1024
    return {"in_use_kb": in_use, "threads": world.daemon.figures()["threads"]}


@contextlib.contextmanager
def unswollen(world: World) -> Iterator[None]:
    """After what is done within, which leaves the world's objects as they were, and when all that is applied, the
    daemon holds about as much as before. An engine for previews may have come in between, or be on its way."""
    before = held(world)
    yield
    world.wait()
    now = before

    def is_so() -> bool:
        nonlocal now
        now = held(world)
        return now["in_use_kb"] <= 2 * before["in_use_kb"] + 8192 and now["threads"] <= 2 * before["threads"]

    try:
        until(is_so, "the daemon holds about as much as before", 30)
    except WaitError as error:
        raise WaitError(f"{error}: {before} -> {now}") from None
