"""The worlds that are alive, for the reports of failed tests."""

from __future__ import annotations

from rig import World

WORLDS: list[World] = []


def tracked(world: World) -> World:
    """Its log and status are shown with the failures of tests."""
    WORLDS.append(world)
    return world
