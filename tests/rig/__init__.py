"""The rig: meshes of real Envoys in network namespaces, with a directory as the source of objects. See world.py."""

from . import isolate, net
from .client import Load, Reply
from .daemon import CommandError, Daemon
from .oracles import o_allowed, o_blocked, o_clean
from .pod import Pod
from .waiting import holds, silent_for, until
from .world import Site, World, free_port

__all__ = [
    "CommandError",
    "Daemon",
    "Load",
    "Pod",
    "Reply",
    "Site",
    "World",
    "free_port",
    "holds",
    "isolate",
    "net",
    "o_allowed",
    "o_blocked",
    "o_clean",
    "silent_for",
    "until",
]
