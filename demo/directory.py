"""The story of a mesh whose objects are files: every step writes manifests into the watched directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from plot import (
    DATABASE_PORT,
    PORT,
    Step,
    Store,
    nobody,
    not_stored,
    only_buyer,
    shares,
    shut,
    stored,
    testers,
    thief_too,
)
from rig import World, isolate

if TYPE_CHECKING:
    from rig import Pod

MANIFESTS = Path(__file__).resolve().parent / "manifests"


class Directory(Store):
    """Six applications, later seven."""

    cast = ("bookbuyer", "bookbuyer-2", "bookthief", "bookstore-v1", "bookstore-v2", "bookwarehouse", "mysql")
    starts = "osm-controller, six applications, six Envoys"

    def __init__(self, quick: bool, world: World | None = None) -> None:
        self.world = world or World(isolate.run_folder() / "mesh", bare=True)
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

    def pod(self, application: str) -> Pod | None:
        """By its name, which is written here."""
        namespaces = {"bookstore-v1": "bookstore", "bookstore-v2": "bookstore", "mysql": "bookwarehouse"}
        ns = namespaces.get(application, application.removesuffix("-2"))
        name = {"bookbuyer-2": "bookbuyer-2", "mysql": "mysql-0"}.get(application, f"{application}-1")
        return self.world.pods.get(f"{ns}/{name}")

    def place(self, step: Step) -> str:
        """A file of the watched directory."""
        return str(self.world.files / step.edit)


def _canary(store: Directory) -> None:
    """The testers are shared out like everybody."""
    store.write("split.yaml", "split/75-25.yaml")
    store.world.drop("testers.yaml")


def _writes(name: str, source: str) -> Callable[[Directory], None]:
    return lambda store: store.write(name, source)


STEPS = [
    Step("no document grants anything: nobody may buy", lambda store: None, nobody, "settings.yaml"),
    Step("permissive mode: everybody may", _writes("settings.yaml", "permissive/on.yaml"), thief_too, "settings.yaml"),
    Step("off again: nobody may", _writes("settings.yaml", "permissive/off.yaml"), shut, "access.yaml"),
    Step(
        "a TrafficTarget lets bookbuyer in", _writes("access.yaml", "access/bookbuyer.yaml"), only_buyer, "access.yaml"
    ),
    Step(
        "one source more: bookthief gets in",
        _writes("access.yaml", "access/bookbuyer-and-bookthief.yaml"),
        thief_too,
        "access.yaml",
    ),
    Step(
        "the source is taken out: bookthief is refused",
        _writes("access.yaml", "access/bookbuyer.yaml"),
        only_buyer,
        "access.yaml",
    ),
    Step("the warehouse has a database, and no TCPRoute opens it", lambda store: None, not_stored, "database.yaml"),
    Step("a TCPRoute opens it", _writes("database.yaml", "access/database.yaml"), stored, "database.yaml"),
    Step("bookstore-v2 arrives, all stays on v1: 100/0", Directory.second_version, shares(100), "split.yaml"),
    Step("who says to be a tester gets v2", _writes("testers.yaml", "split/testers.yaml"), testers, "testers.yaml"),
    Step("canary for everybody: 75/25", _canary, shares(75), "split.yaml"),
    Step("half and half: 50/50", _writes("split.yaml", "split/50-50.yaml"), shares(50), "split.yaml"),
    Step("v2 takes over: 0/100", _writes("split.yaml", "split/0-100.yaml"), shares(0), "split.yaml"),
]
