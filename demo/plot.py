"""What a story of the bookstore is told with: what its applications have counted, and what must follow from a step.

bookbuyer and bookthief try to buy at the service `bookstore` all the time. What a step does to them is seen in the
counters of the applications themselves.
"""

from __future__ import annotations

import abc
import dataclasses
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rig import World, until

if TYPE_CHECKING:
    from rig import Pod

PORT, DATABASE_PORT = 14001, 3306
ENOUGH = 1000  # purchases per share that is checked
TOLERANCE = 0.07  # 4.2 sigma of 1,000 at one half


@dataclasses.dataclass(frozen=True)
class Counters:
    """What the applications have counted so far."""

    bought: int = 0
    bought_failed: int = 0
    stolen: int = 0
    stolen_failed: int = 0
    sold_v1: int = 0
    sold_v2: int = 0
    restocked: int = 0
    stored: int = 0
    tested_v1: int = 0
    tested_v2: int = 0
    tested_failed: int = 0

    def __sub__(self, other: Counters) -> Counters:
        fields = dataclasses.fields(self)
        return Counters(**{f.name: getattr(self, f.name) - getattr(other, f.name) for f in fields})


class Store(abc.ABC):
    """A mesh with the bookstore in it. `cast`: the applications that play, some of them later."""

    world: World
    cast: tuple[str, ...]
    starts: str  # what open() starts, for people

    @abc.abstractmethod
    def open(self) -> None:
        """Starts everything."""

    def close(self) -> None:
        """Ends everything."""
        self.world.close()

    @abc.abstractmethod
    def pod(self, application: str) -> Pod | None:
        """The pod of one of the cast, once there is one."""

    @abc.abstractmethod
    def place(self, step: Step) -> str:
        """What a person edits, or types, to change what a step has changed."""

    def heard(self) -> list[str]:
        """What the last step's commands have said."""
        return []

    def _ask(self, application: str) -> dict[str, Any]:
        found = self.pod(application)
        return found.ask(PORT, "/raw") if found and found.started else {}

    def counters(self) -> Counters:
        """Asks every application, inside its pod."""
        buyer, thief = self._ask("bookbuyer"), self._ask("bookthief")
        v1, v2 = self._ask("bookstore-v1"), self._ask("bookstore-v2")
        warehouse, tester = self._ask("bookwarehouse"), self._ask("bookbuyer-2")
        return Counters(
            bought=buyer.get("booksBought", 0),
            bought_failed=buyer.get("failed", 0),
            stolen=thief.get("booksStolen", 0),
            stolen_failed=thief.get("failed", 0),
            sold_v1=v1.get("booksSold", 0),
            sold_v2=v2.get("booksSold", 0),
            restocked=warehouse.get("restocked", 0),
            stored=warehouse.get("stored", 0),
            tested_v1=tester.get("booksBoughtV1", 0),
            tested_v2=tester.get("booksBoughtV2", 0),
            tested_failed=tester.get("failed", 0),
        )

    def watch(self, enough: Callable[[Counters], bool], what: str, timeout: float = 60.0) -> tuple[Counters, float]:
        """What is counted from now until there is enough of it, and the seconds that took."""
        start, begin = self.counters(), time.monotonic()
        until(lambda: enough(self.counters() - start), what, timeout)
        return self.counters() - start, time.monotonic() - begin

    def settle(self, *applications: str) -> None:
        """Returns when what these buyers had under way is over: each of their clients has ended a try that it began
        after this call. A try that was on its way to nowhere takes seconds to fail."""
        before = {name: self._ask(name)["rounds"] for name in applications}
        for name, rounds in before.items():
            until(
                lambda name=name, rounds=rounds: all(
                    now >= then + 2 for now, then in zip(self._ask(name)["rounds"], rounds, strict=True)
                ),
                f"each client of {name} has tried twice",
                60.0,
            )


@dataclasses.dataclass
class Step:
    """A chapter: what is written, and what must follow. `check` returns (whether it did, the figures)."""

    title: str
    do: Callable[[Any], None]  # with the store that the story is told of
    check: Callable[[Store], tuple[bool, str]]
    edit: str  # what a person would edit for it: see Store.place


def nobody(store: Store) -> tuple[bool, str]:
    """Neither buys, however often they try."""
    seen, _ = store.watch(lambda c: c.bought_failed >= 50 and c.stolen_failed >= 50, "both have tried 50 times")
    good = seen.bought == seen.stolen == seen.sold_v1 == 0
    return good, f"bookbuyer 0 of {seen.bought_failed} tries, bookthief 0 of {seen.stolen_failed}" if good else str(
        seen
    )


def shut(store: Store) -> tuple[bool, str]:
    """Neither buys any more."""
    store.settle("bookbuyer", "bookthief")
    return nobody(store)


def only_buyer(store: Store) -> tuple[bool, str]:
    """bookbuyer buys without a failure, bookthief never."""
    store.settle("bookbuyer", "bookthief")
    seen, took = store.watch(
        lambda c: c.bought >= 200 and c.stolen_failed >= 50, "200 bought, the thief refused 50 times"
    )
    good = seen.stolen == 0 and seen.bought_failed == 0
    return good, (
        f"bookbuyer bought {seen.bought} ({seen.bought / took:.0f}/s, {seen.bought_failed} failed), "
        f"bookthief {seen.stolen} of {seen.stolen + seen.stolen_failed} tries"
    )


def thief_too(store: Store) -> tuple[bool, str]:
    """Both buy without a failure."""
    store.settle("bookbuyer", "bookthief")
    seen, took = store.watch(lambda c: c.stolen >= 200 and c.bought >= 200, "200 each")
    good = seen.stolen_failed == 0 and seen.bought_failed == 0
    failed = "" if good else f"; {seen.stolen_failed} and {seen.bought_failed} failed"
    return good, f"bookthief stole {seen.stolen} ({seen.stolen / took:.0f}/s), bookbuyer bought {seen.bought}{failed}"


def shares(v1: int) -> Callable[[Store], tuple[bool, str]]:
    """So many of a hundred are sold by v1, and none fails."""
    wanted = v1 / 100

    def check(store: Store) -> tuple[bool, str]:
        store.settle("bookbuyer")
        seen, took = store.watch(lambda c: c.sold_v1 + c.sold_v2 >= ENOUGH, f"{ENOUGH} sold")
        total = seen.sold_v1 + seen.sold_v2
        share = seen.sold_v1 / total
        exact = wanted in (0.0, 1.0)
        good = (share == wanted if exact else abs(share - wanted) <= TOLERANCE) and seen.bought_failed == 0
        return good, (
            f"v1 {100 * share:.1f} %, v2 {100 * (1 - share):.1f} % of {total} sold "
            f"({total / took:.0f}/s, {seen.bought_failed} failed)"
        )

    return check


def stored(store: Store) -> tuple[bool, str]:
    """The database stores what the warehouse restocks."""
    seen, took = store.watch(lambda c: c.stored >= 100, "100 books are stored")
    return True, f"{seen.stored} books stored ({seen.stored / took:.0f}/s) of {seen.restocked} restocked"


def not_stored(store: Store) -> tuple[bool, str]:
    """Nobody has said so yet, and books are restocked all the time."""
    seen, _ = store.watch(lambda c: c.restocked >= 100, "100 books are restocked")
    return seen.stored == 0, f"{seen.stored} of {seen.restocked} stored"


def testers(store: Store) -> tuple[bool, str]:
    """Who says to be a tester buys from v2 only, and nobody else does."""
    store.settle("bookbuyer", "bookbuyer-2")
    seen, _ = store.watch(lambda c: c.tested_v2 >= 100 and c.bought >= 100, "100 bought by each")
    good = seen.tested_v1 == 0 and seen.sold_v2 <= seen.tested_v2 + 8 and not seen.tested_failed + seen.bought_failed
    return good, (
        f"bookbuyer-2 bought {seen.tested_v2} from v2 and {seen.tested_v1} from v1, bookbuyer-1 {seen.bought} from v1, "
        f"{seen.tested_failed + seen.bought_failed} failed"
    )
