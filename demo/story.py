"""The bookstore's story: what each document does to who may buy, on real Envoys.

    story.py             one screen; a person plays the steps and edits the documents
    story.py --once      the whole story alone, a line per step, exit status 0 or 1
    story.py --browse    either of them, with the applications' pages on this machine's loopback

bookbuyer and bookthief try to buy at the service `bookstore` all the time. The steps write manifests into a watched
directory; what follows is seen in the counters of the applications themselves.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from browse import Pages  # noqa: E402
from rig import CommandError, Pod, World, isolate, o_clean, until  # noqa: E402

MANIFESTS = ROOT / "demo" / "manifests"
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


class Bookstore:
    """The mesh of the story: six applications, later seven."""

    def __init__(self, quick: bool) -> None:
        self.world = World(isolate.run_folder() / "mesh", bare=True)
        self._pace = {"LOOP_S": "0.001" if quick else "0.06", "CLIENTS": "4" if quick else "2"}

    def open(self) -> None:
        """Starts everything; nobody may buy yet."""
        world = self.world
        for name in ("mesh.yaml", "services.yaml", "routes.yaml"):
            world.put(name, (MANIFESTS / name).read_text())
        self.write("settings.yaml", "permissive/off.yaml")
        world.__enter__()
        place = {"BOOKSTORE": f"bookstore.bookstore:{PORT}"}
        for name in ("bookbuyer", "bookthief"):
            world.pod(name, f"{name}-1", account=name, app=f"{name}={PORT}", env={**place, **self._pace})
        tester = {**place, **self._pace, "COHORT": "testers"}
        world.pod("bookbuyer", "bookbuyer-2", account="bookbuyer", app=f"bookbuyer={PORT}", env=tester)
        world.pod(
            "bookwarehouse",
            "bookwarehouse-1",
            account="bookwarehouse",
            labels={"app": "bookwarehouse"},
            app=f"bookwarehouse={PORT}",
            env={"DATABASE": f"mysql.bookwarehouse:{DATABASE_PORT}"},
        )
        labels, named = {"app": "mysql"}, {"hostname": "mysql-0", "subdomain": "mysql"}
        world.pod("bookwarehouse", "mysql-0", account="mysql", labels=labels, app=f"bookdb={DATABASE_PORT}", spec=named)
        self._store("v1", "bookstore")
        world.wait()

    def _store(self, version: str, account: str) -> None:
        labels = {"app": "bookstore", "version": version}
        env = {
            "IDENTITY": f"bookstore-{version}",
            "BOOKWAREHOUSE": f"bookwarehouse.bookwarehouse:{PORT}",
            "BUY_DELAY_MS": "0",
        }
        name = f"bookstore-{version}-1"
        self.world.pod("bookstore", name, account=account, labels=labels, app=f"bookstore={PORT}", env=env)

    def close(self) -> None:
        """Ends everything."""
        self.world.close()

    def write(self, name: str, source: str) -> None:
        """Puts one of our manifests under a name into the watched directory."""
        self.world.put(name, (MANIFESTS / source).read_text())

    def second_version(self) -> None:
        """bookstore-v2: first its share (none), then its pod."""
        self.write("split.yaml", "split/100-0.yaml")
        self.write("bookstore-v2.yaml", "bookstore-v2.yaml")
        self.world.wait()
        if "bookstore/bookstore-v2-1" not in self.world.pods:
            self._store("v2", "bookstore-v2")

    def _ask(self, pod: str) -> dict[str, int]:
        found: Pod | None = self.world.pods.get(pod)
        return found.ask(PORT, "/raw") if found and found.started else {}

    def counters(self) -> Counters:
        """Asks every application, inside its pod."""
        buyer, thief = self._ask("bookbuyer/bookbuyer-1"), self._ask("bookthief/bookthief-1")
        v1, v2 = self._ask("bookstore/bookstore-v1-1"), self._ask("bookstore/bookstore-v2-1")
        warehouse, tester = self._ask("bookwarehouse/bookwarehouse-1"), self._ask("bookbuyer/bookbuyer-2")
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


@dataclasses.dataclass
class Step:
    """A chapter: what is written, and what must follow. `check` returns (whether it did, the figures)."""

    title: str
    do: Callable[[Bookstore], None]
    check: Callable[[Bookstore], tuple[bool, str]]
    file: str  # what a person would edit for it


def _nobody(store: Bookstore) -> tuple[bool, str]:
    seen, _ = store.watch(lambda c: c.bought_failed >= 50 and c.stolen_failed >= 50, "both have tried 50 times")
    good = seen.bought == seen.stolen == seen.sold_v1 == 0
    return good, f"bookbuyer 0 of {seen.bought_failed} tries, bookthief 0 of {seen.stolen_failed}" if good else str(
        seen
    )


def _shut(store: Bookstore) -> tuple[bool, str]:
    """What was under way has come back when each has failed once."""
    store.watch(lambda c: c.bought_failed > 0 and c.stolen_failed > 0, "both are refused")
    return _nobody(store)


def _only_buyer(store: Bookstore) -> tuple[bool, str]:
    store.watch(lambda c: c.bought > 0, "bookbuyer buys")
    # What the thief had under way when it was shut out has come back by its next failure.
    store.watch(lambda c: c.stolen_failed > 0, "bookthief is refused")
    seen, took = store.watch(
        lambda c: c.bought >= 200 and c.stolen_failed >= 50, "200 bought, the thief refused 50 times"
    )
    good = seen.stolen == 0 and seen.bought_failed == 0
    return good, (
        f"bookbuyer bought {seen.bought} ({seen.bought / took:.0f}/s, {seen.bought_failed} failed), "
        f"bookthief {seen.stolen} of {seen.stolen + seen.stolen_failed} tries"
    )


def _thief_too(store: Bookstore) -> tuple[bool, str]:
    store.watch(lambda c: c.stolen > 0, "bookthief gets in")
    seen, took = store.watch(lambda c: c.stolen >= 200 and c.bought >= 200, "200 each")
    good = seen.stolen_failed == 0 and seen.bought_failed == 0
    return good, f"bookthief stole {seen.stolen} ({seen.stolen / took:.0f}/s), bookbuyer bought {seen.bought}"


def _shares(v1: int) -> Callable[[Bookstore], tuple[bool, str]]:
    wanted = v1 / 100

    def check(store: Bookstore) -> tuple[bool, str]:
        # What was under way when the weights changed is over when ten more have been sold.
        store.watch(lambda c: c.bought >= 10, "purchases go on")
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


def _stored(store: Bookstore) -> tuple[bool, str]:
    seen, took = store.watch(lambda c: c.stored >= 100, "100 books are stored")
    return True, f"{seen.stored} books stored ({seen.stored / took:.0f}/s) of {seen.restocked} restocked"


def _not_stored(store: Bookstore) -> tuple[bool, str]:
    """Nobody has said so yet, and books are restocked all the time."""
    seen, _ = store.watch(lambda c: c.restocked >= 100, "100 books are restocked")
    return seen.stored == 0, f"{seen.stored} of {seen.restocked} stored"


def _testers(store: Bookstore) -> tuple[bool, str]:
    store.watch(lambda c: c.tested_v2 > 0, "a tester gets v2")
    seen, _ = store.watch(lambda c: c.tested_v2 >= 100 and c.bought >= 100, "100 bought by each")
    good = seen.tested_v1 == 0 and seen.sold_v2 <= seen.tested_v2 + 8 and not seen.tested_failed + seen.bought_failed
    return good, (
        f"bookbuyer-2 bought {seen.tested_v2} from v2 and {seen.tested_v1} from v1, bookbuyer-1 {seen.bought} from v1, "
        f"{seen.tested_failed + seen.bought_failed} failed"
    )


def _canary(store: Bookstore) -> None:
    """The testers are shared out like everybody."""
    store.write("split.yaml", "split/75-25.yaml")
    store.world.drop("testers.yaml")


def _writes(name: str, source: str) -> Callable[[Bookstore], None]:
    return lambda store: store.write(name, source)


STEPS = [
    Step("no document grants anything: nobody may buy", lambda store: None, _nobody, "settings.yaml"),
    Step("permissive mode: everybody may", _writes("settings.yaml", "permissive/on.yaml"), _thief_too, "settings.yaml"),
    Step("off again: nobody may", _writes("settings.yaml", "permissive/off.yaml"), _shut, "access.yaml"),
    Step(
        "a TrafficTarget lets bookbuyer in", _writes("access.yaml", "access/bookbuyer.yaml"), _only_buyer, "access.yaml"
    ),
    Step(
        "one source more: bookthief gets in",
        _writes("access.yaml", "access/bookbuyer-and-bookthief.yaml"),
        _thief_too,
        "access.yaml",
    ),
    Step(
        "the source is taken out: bookthief is refused",
        _writes("access.yaml", "access/bookbuyer.yaml"),
        _only_buyer,
        "access.yaml",
    ),
    Step("the warehouse has a database, and no TCPRoute opens it", lambda store: None, _not_stored, "database.yaml"),
    Step("a TCPRoute opens it", _writes("database.yaml", "access/database.yaml"), _stored, "database.yaml"),
    Step("bookstore-v2 arrives, all stays on v1: 100/0", Bookstore.second_version, _shares(100), "split.yaml"),
    Step("who says to be a tester gets v2", _writes("testers.yaml", "split/testers.yaml"), _testers, "testers.yaml"),
    Step("canary for everybody: 75/25", _canary, _shares(75), "split.yaml"),
    Step("half and half: 50/50", _writes("split.yaml", "split/50-50.yaml"), _shares(50), "split.yaml"),
    Step("v2 takes over: 0/100", _writes("split.yaml", "split/0-100.yaml"), _shares(0), "split.yaml"),
]


def _clean(store: Bookstore) -> tuple[bool, str]:
    try:
        o_clean(store.world)
    except AssertionError as error:
        return False, str(error)
    status = store.world.status()
    left_out = len(status["rejects"]) + len(status["errors"])
    return (
        left_out == 0,
        f"{len(status['proxies'])} Envoys, none refused anything; {left_out} objects or rules rejected",
    )


def once(store: Bookstore) -> int:
    """The whole story alone. The exit status."""
    failed = 0
    begin = time.monotonic()

    def line(number: str, title: str, work: Callable[[], tuple[bool, str]]) -> None:
        nonlocal failed
        try:
            good, figures = work()
        except (AssertionError, CommandError) as error:
            good, figures = False, str(error)
        failed += not good
        print(f"{'ok  ' if good else 'FAIL'} {number:>2}  {title}: {figures}", flush=True)

    for number, step in enumerate(STEPS, 1):

        def play(step: Step = step) -> tuple[bool, str]:
            step.do(store)
            store.world.wait()
            return step.check(store)

        line(str(number), step.title, play)
    line("", "every Envoy took every configuration", lambda: _clean(store))
    print(f"{'FAILED' if failed else 'passed'} in {time.monotonic() - begin:.0f} s", flush=True)
    return 1 if failed else 0


def main() -> int:
    """Parses the arguments, moves inside, and plays."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--once", action="store_true", help="play all steps alone, check each, exit 0 or 1")
    parser.add_argument("--browse", action="store_true", help="offer the applications' pages on 127.0.0.1")
    options = parser.parse_args()
    pages = Pages() if options.browse else None
    alone = options.once or not (sys.stdin.isatty() and sys.stdout.isatty())
    try:
        isolate.enter()
    except isolate.IsolationError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    store = Bookstore(quick=alone)
    begin = time.monotonic()
    try:
        print("== start: osm-controller, six applications, six Envoys", flush=True)
        store.open()
        print(f"   ready in {time.monotonic() - begin:.1f} s", flush=True)
        if pages:
            pages.serve(store.world, PORT)
            for name, address in pages.addresses().items():
                print(f"   {name:<15}{address}", flush=True)
        if alone:
            return once(store)
        import screen

        return screen.show(store, STEPS, pages.addresses() if pages else {})
    except KeyboardInterrupt:
        print("\ninterrupted")
        return 130
    except (RuntimeError, AssertionError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    finally:
        store.close()


if __name__ == "__main__":
    sys.exit(main())
