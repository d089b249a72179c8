"""Who plays in a scenario: the same story is told once with the usual names, and once with names, ports and replica
counts drawn from a seed, so that nothing holds by the luck of a name.

OSM_SEED repeats a drawn cast; a failed test tells it.
"""

from __future__ import annotations

import os
import random
import string
from collections.abc import Iterable
from typing import Any

from rig import Pod, World
from rig.objects import grant_all, match, routes, target

Object = dict[str, Any]
RESERVED = {15000, 15001, 15003, 15010, 15901, 15902, 15903, 15904}


class Names:
    """Draws names and ports, each once."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._taken: set[Any] = set(RESERVED)

    def name(self, longest: int = 20) -> str:
        """A DNS label."""
        length = self.random.randint(1, longest)
        inner = string.ascii_lowercase + string.digits + "-"
        text = [self.random.choice(inner) for _ in range(length)]
        text[0] = self.random.choice(string.ascii_lowercase)
        text[-1] = self.random.choice(string.ascii_lowercase)
        return self._once("".join(text)) or self.name(longest)

    def port(self, low: int = 1, high: int = 60999) -> int:
        """A TCP port."""
        return self._once(self.random.randint(low, high)) or self.port(low, high)

    def _once(self, value: Any) -> Any:
        if value in self._taken:
            return None
        self._taken.add(value)
        return value


class Cast:
    """A client namespace with two callers, a server namespace with a shop (some replicas), two versions of it and an
    apex without pods. All Services: `port` to `target`, HTTP."""

    def __init__(self, world: World, seed: int | None) -> None:
        self.world, self.seed = world, seed
        names = self.names = Names(seed or 0)
        drawn = seed is not None
        self.clients, self.servers = (names.name(), names.name()) if drawn else ("red", "blue")
        self.caller_account, self.other_account = (names.name(), names.name()) if drawn else ("caller", "caller2")
        self.shop, self.v1, self.v2, self.apex = (
            [names.name() for _ in range(4)] if drawn else ["shop", "shop-v1", "shop-v2", "shop-apex"]
        )
        self.port, self.target = (names.port(), names.port(1024)) if drawn else (80, 8080)
        self.replicas = names.random.randint(1, 3) if drawn else 2

    def build(self) -> None:
        """Writes the drawn world; the usual one is there already."""
        world = self.world
        for ns in (self.clients, self.servers):
            world.namespace(ns)
        world.pod(self.clients, "a", account=self.caller_account)
        world.pod(self.clients, "b", account=self.other_account)
        for name, replicas in ((self.shop, self.replicas), (self.v1, 1), (self.v2, 1)):
            self.backend(name, replicas)
        world.service(self.servers, self.apex, self.ports(), None)

    def ports(self) -> list[Object]:
        """Of a Service."""
        return [{"name": "http", "port": self.port, "targetPort": self.target, "appProtocol": "http"}]

    def backend(self, name: str, replicas: int = 1, account: str = "") -> list[Pod]:
        """A Service, and pods that run as an account of its name unless it is given."""
        pods = [
            self.world.pod(
                self.servers, f"{name}-{n}", account=account or name, labels={"app": name}, app=f"http={self.target}"
            )
            for n in range(1, replicas + 1)
        ]
        self.world.service(self.servers, name, self.ports(), {"app": name})
        return pods

    # --- who ---

    @property
    def caller(self) -> Pod:
        """The client that most of the story is about."""
        return self.world.pods[f"{self.clients}/{'a' if self.seed is not None else 'caller-1'}"]

    @property
    def other(self) -> Pod:
        """A client with another account."""
        return self.world.pods[f"{self.clients}/{'b' if self.seed is not None else 'caller2-1'}"]

    def shops(self) -> list[Pod]:
        """The pods of the shop."""
        return [self.world.pods[f"{self.servers}/{self.shop}-{n}"] for n in range(1, self.replicas + 1)]

    def pod(self, service: str, number: int = 1) -> Pod:
        """A pod of a Service."""
        return self.world.pods[f"{self.servers}/{service}-{number}"]

    def url(self, service: str = "", path: str = "/") -> str:
        """As a client in another namespace writes it."""
        port = "" if self.port == 80 else f":{self.port}"
        return f"http://{service or self.shop}.{self.servers}{port}{path}"

    # --- what they may ---

    def apply(self, *what: Object | Iterable[Object]) -> None:
        """Objects, in an order of the cast's own."""
        objects = [o for each in what for o in ([each] if isinstance(each, dict) else each)]
        if self.seed is not None:
            self.names.random.shuffle(objects)
        for o in objects:
            self.world.apply(o)

    def grant(self, account: str = "", *matches: Object, to: Pod | None = None) -> None:
        """Lets the caller (or `to`'s account) make these requests, or any, of a Service's account."""
        account, source = account or self.shop, f"{self.clients}/{to.account if to else self.caller_account}"
        if not matches:
            self.apply(grant_all(self.servers, account, source))
            return
        name = f"only-{account}-{to.account if to else self.caller_account}"
        self.apply(
            routes(self.servers, name, *matches),
            target(self.servers, name, f"{self.servers}/{account}", [source], group=name),
        )


def seed_of_run() -> int:
    """OSM_SEED, else one of its own."""
    return int(os.environ.get("OSM_SEED") or random.SystemRandom().randrange(1 << 32))


__all__ = ["Cast", "Names", "match", "seed_of_run"]
