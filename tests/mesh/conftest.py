"""Isolation of the mesh tests, the worlds and the API server that they share, and what every test of the live mesh
asserts at its end.

The whole pytest run moves into namespaces of its own (rig/isolate.py); each worker of pytest-xdist gets a further
network, so that several meshes run side by side under the same addresses. Without root, tests that need a network
are skipped.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cast import Cast, seed_of_run
from kube_meshes import paper_shop, shop
from rig import World, isolate, net, o_clean
from rig.kube import Kube
from rig.kube_crds import mesh_kinds
from rig.kube_fake import FakeKube
from rig.kubelet import Kubelet
from rig.objects import HTTP_8080
from rig.world_kube import KubeWorld
from swelling import unswollen
from worlds import WORLDS, tracked

_ROOT = os.geteuid() == 0


def pytest_configure(config: pytest.Config) -> None:
    """Moves the run inside."""
    if not _ROOT or config.option.collectonly:
        return
    if hasattr(config, "workerinput"):
        isolate.own_network()
    else:
        isolate.enter()
    net.loopback_up()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without root there is no network of our own."""
    for item in items:
        if not _ROOT and item.get_closest_marker("mesh"):
            item.add_marker(pytest.mark.skip(reason="needs root: network namespaces"))
        if os.environ.get("OSM_SOURCE") == "kube" and item.get_closest_marker("files"):
            item.add_marker(pytest.mark.skip(reason="an API server refuses its objects"))
        fixtures = set(getattr(item, "fixturenames", ()))
        if fixtures & {"kube", "fragile"}:
            item.add_marker("kube")
        if fixtures & {"w1", "drawn", "cast", "raw"}:  # cast asks for one of the first two when it knows which
            item.add_marker("shared")


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of this run."""
    return isolate.run_folder() if isolate.inside() else tmp_path_factory.mktemp("run")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    """Adds what the daemon says to a failure."""
    report = yield
    if report.failed:
        report.sections += [(name, f"repeats it: {name}={value}") for name, value in item.user_properties]
        for world in (w for w in WORLDS if w.open):
            log = world.daemon.log().splitlines()[-25:]
            report.sections.append((f"osm-controller of {world.folder.name}", "\n".join(log)))
            if world.daemon.alive():
                try:
                    report.sections.append(("osm status", world.daemon.osm("status")))
                except Exception as error:  # a report must not hide the failure that it is about
                    report.sections.append(("osm status", str(error)))
    return report


@contextlib.contextmanager
def new_world(run_folder: Path, **options: Any) -> Iterator[World]:
    """A World with its objects in files, or, with OSM_SOURCE=kube, in an API server of its own, where real pods get
    their sidecars from the webhook: for whichever tests do not ask for the files."""
    if os.environ.get("OSM_SOURCE") == "kube":
        with Kube(run_folder) as server, Kubelet(server) as kubelet:
            injects = options.get("real", True)
            with tracked(KubeWorld(server, kubelet, injects=injects, **options)) as world:
                yield world
    else:
        with tracked(World(**options)) as world:
            yield world


@pytest.fixture(scope="session")
def w1(run_folder: Path) -> Iterator[World]:
    """The base world: callers in red, the shop in blue (two replicas, two versions, an apex), an outsider."""
    with new_world(run_folder) as world:
        world.namespace("red")
        world.namespace("blue")
        world.namespace("grey", monitored=False)
        world.pod("red", "caller-1", account="caller", address="10.244.1.11")
        world.pod("red", "caller2-1", account="caller2", address="10.244.1.12")
        for n in (1, 2):
            shop = {"app": "shop"}
            world.pod("blue", f"shop-{n}", account="shop", labels=shop, app="http=8080", address=f"10.244.2.2{n}")
            version = {"app": f"shop-v{n}", "group": "versions"}
            world.pod("blue", f"shop-v{n}-1", account=f"shop-v{n}", labels=version, app="http=8080")
            world.service("blue", f"shop-v{n}", HTTP_8080, {"app": f"shop-v{n}"})
        world.service("blue", "shop", HTTP_8080, {"app": "shop"})
        world.service("blue", "shop-apex", HTTP_8080, None)
        world.pod("grey", "outsider-1", account="default", sidecar=False, address="10.244.9.9")
        world.wait()
        yield world


@pytest.fixture
def mesh(w1: World) -> Iterator[World]:
    """The base world for one test: nothing was refused at its end, and then everything is as before."""
    with unswollen(w1), w1.scratch():
        yield w1
        if w1.daemon.alive():
            w1.daemon.applied()
        o_clean(w1)


@pytest.fixture(scope="module")
def raw(run_folder: Path) -> Iterator[World]:
    """A world without a data plane, in permissive mode: raw clients stand for the sidecars."""
    with new_world(run_folder, real=False, permissive=True) as world:
        world.namespace("red")
        world.namespace("blue")
        world.pod("red", "caller-1", account="caller")
        for n in (1, 2):
            world.pod("blue", f"shop-{n}", account="shop", labels={"app": "shop"}, ports=[{"containerPort": 8080}])
        world.service("blue", "shop", HTTP_8080, {"app": "shop"})
        world.wait()
        yield world


@pytest.fixture
def plain(raw: World) -> Iterator[World]:
    """The raw world for one test."""
    with raw.scratch():
        yield raw
    raw.wait()


@pytest.fixture(scope="session")
def drawn(run_folder: Path) -> Iterator[Cast]:
    """A world of the same shape as the base world, whose names, ports and replicas are drawn."""
    seed = seed_of_run()
    with new_world(run_folder) as world:
        cast = Cast(world, seed)
        cast.build()
        world.wait()
        yield cast


@pytest.fixture(params=["usual", "drawn"])
def cast(request: pytest.FixtureRequest) -> Iterator[Cast]:
    """A scenario's players, for one test, the usual and the drawn ones; clean at its end, then as before."""
    drawn = request.param == "drawn"
    players = request.getfixturevalue("drawn") if drawn else Cast(request.getfixturevalue("w1"), None)
    if drawn:
        request.node.user_properties.append(("OSM_SEED", str(players.seed)))
    world = players.world
    with unswollen(world), world.scratch():
        yield players
        o_clean(world)


@pytest.fixture(scope="session")
def kube(run_folder: Path) -> Iterator[Kube]:
    """The API server of all tests that leave it as it is but for their own namespaces and kinds."""
    with Kube(run_folder) as server, Kubelet(server) as server.kubelet:
        yield server


@pytest.fixture
def kubelet(kube: Kube) -> Kubelet:
    """Its scheduler and kubelet: all pods are of paper."""
    assert kube.kubelet
    return kube.kubelet


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeKube]:
    """A fake API server with the shop in blue."""
    with FakeKube(tmp_path) as server:
        for obj in shop("blue"):
            server.put(obj)
        yield server


@pytest.fixture(scope="module")
def fragile(run_folder: Path) -> Iterator[Kube]:
    """A server that tests may kill; its store forgets the past each second."""
    with Kube(run_folder, flags=["--etcd-compaction-interval=1s"]) as kube, Kubelet(kube) as kubelet:
        kube.kubelet = kubelet
        for each in mesh_kinds():
            kube.crd(each)
        yield kube


@pytest.fixture
def fragile_mesh(fragile: Kube, request: pytest.FixtureRequest) -> str:
    """A namespace with the shop."""
    name = f"mesh-{abs(hash(request.node.name)) % 10**9}"
    fragile.namespace(name)
    assert fragile.kubelet
    paper_shop(fragile, fragile.kubelet, name)
    return name


_numbers = itertools.count(1)


@pytest.fixture
def ns(kube: Kube) -> Iterator[str]:
    """A namespace of a test's own in it. It goes while the next tests run: that takes some seconds."""
    name = f"test-{next(_numbers)}"
    kube.namespace(name)
    yield name
    kube.forget_namespace(name)


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    """The operator's own directory."""
    path = tmp_path / "overlay"
    path.mkdir()
    return path
