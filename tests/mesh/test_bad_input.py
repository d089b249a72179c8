"""Bad input: each gets a clear error, and nobody else notices. Broken files and objects here; a state directory, a
port and clients that are no good in test_bad_start.py and test_bad_clients.py."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import pytest
from rig import World, holds, o_allowed, o_blocked, until
from rig.daemon import build_dir
from rig.objects import grant_all, match, routes, split, target, tcp_route
from rig.xds import CDS, EDS, LDS, RDS, Sotw

BROKEN = "apiVersion: v1\nkind: Service\nmetadata:\n  name: broken\n  namespace: blue\nspec: {ports: [\n"


def _source_errors(world: World) -> list[dict[str, Any]]:
    return world.status()["source"]["errors"]


@pytest.mark.files
def test_unparsable_file_keeps_its_last_good_objects_and_names_line_and_column(plain: World) -> None:
    """A file that breaks while it is watched: file, line and column are told; what it held stays."""
    path = plain.path("Service", "blue", "shop")
    good = path.read_text()
    with Sotw(plain, plain.pods["red/caller-1"]) as client:
        assert client.fetch(CDS).resources.keys() == {"blue/shop|8080"}
        plain.write(path, good + BROKEN.removeprefix("apiVersion"))
        plain.daemon.applied()
        [error] = _source_errors(plain)
        assert error["file"].endswith(path.name)
        assert error["line"] > good.count("\n")
        assert error["column"] >= 1
        assert error["kept"] is True
        assert error["message"]
        client.silent()
        plain.write(path, good)
        client.silent()
        assert _source_errors(plain) == []


def test_unparsable_file_at_the_start_leaves_its_objects_out() -> None:
    """The daemon starts all the same, and says so."""
    with World(real=False, permissive=True) as world:
        world.namespace("blue")
        world.pod("blue", "shop-1", account="shop", labels={"app": "shop"}, ports=[{"containerPort": 8080}])
        world.service("blue", "shop", [{"name": "http", "port": 80, "targetPort": 8080}], {"app": "shop"})
        world.write(world.files / "blue" / "broken.yaml", BROKEN)
        world.wait()
        world.daemon.stop()
        world.daemon.start()
        world.daemon.applied()
        [error] = _source_errors(world)
        assert (error["file"].rpartition("/")[2], error["kept"]) == ("broken.yaml", False)
        assert error["line"] >= 6
        with Sotw(world, world.pods["blue/shop-1"]) as client:
            assert "blue/shop|8080" in client.fetch(CDS).resources
        assert "broken.yaml" in world.daemon.osm("status")


def _set(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    """Puts a value at a path like `spec.ports.0.port`."""

    def change(o: dict[str, Any]) -> None:
        at: Any = o
        *way, last = path.split(".")
        for step in way:
            at = at[int(step)] if isinstance(at, list) else at[step]
        at[int(last) if isinstance(at, list) else last] = value

    return change


_SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "bad", "namespace": "blue"},
    "spec": {
        "clusterIP": "10.96.77.77",
        "ports": [{"name": "http", "port": 80, "targetPort": 8080, "appProtocol": "http", "protocol": "TCP"}],
        "selector": {"app": "shop"},
    },
}
_TARGET = target("blue", "bad", "blue/shop", ["red/caller"], group="any", matches=["any"])
_ROUTES = routes("blue", "bad", match("m", "/x", ["GET"], [{"a": "b"}]))
_TCP = tcp_route("blue", "bad", 8080)
_SPLIT = split("blue", "bad", "shop", shop=100)

# every field of these kinds that a policy reads, with values of a wrong type or out of range
WRONG: list[tuple[dict[str, Any], str, object]] = [
    (_SERVICE, "spec", []),
    (_SERVICE, "spec.ports", {"port": 80}),
    (_SERVICE, "spec.ports.0", "80"),
    (_SERVICE, "spec.ports.0.port", "eighty"),
    (_SERVICE, "spec.ports.0.port", 70000),
    (_SERVICE, "spec.ports.0.port", -1),
    (_SERVICE, "spec.ports.0.port", 80.5),
    (_SERVICE, "spec.ports.0.name", 7),
    (_SERVICE, "spec.ports.0.appProtocol", ["http"]),
    (_SERVICE, "spec.ports.0.targetPort", {}),
    (_SERVICE, "spec.ports.0.targetPort", 70000),
    (_SERVICE, "spec.ports.0.targetPort", 0),
    (_SERVICE, "spec.ports.0.targetPort", ""),
    (_SERVICE, "spec.clusterIP", 10),
    (_SERVICE, "spec.selector", ["app"]),
    (_SERVICE, "spec.selector", {"app": 1}),
    (_TARGET, "spec", "x"),
    (_TARGET, "spec.destination", "blue/shop"),
    (_TARGET, "spec.destination.kind", 1),
    (_TARGET, "spec.destination.name", {"a": 1}),
    (_TARGET, "spec.destination.namespace", ["blue"]),
    (_TARGET, "spec.sources", {"kind": "ServiceAccount"}),
    (_TARGET, "spec.sources.0", 5),
    (_TARGET, "spec.sources.0.name", 5),
    (_TARGET, "spec.sources.0.namespace", False),
    (_TARGET, "spec.sources.0.kind", "Group"),
    (_TARGET, "spec.rules", "any"),
    (_TARGET, "spec.rules.0", []),
    (_TARGET, "spec.rules.0.kind", "UDPRoute"),
    (_TARGET, "spec.rules.0.name", 9),
    (_TARGET, "spec.rules.0.matches", "any"),
    (_TARGET, "spec.rules.0.matches.0", {"name": "any"}),
    (_TARGET, "spec.rules.0.MATCHES", ["any"]),
    (_TARGET, "spec.destination.port", 8080),
    (_ROUTES, "spec.matches", {"m": 1}),
    (_ROUTES, "spec.matches.0", "m"),
    (_ROUTES, "spec.matches.0.name", 1),
    (_ROUTES, "spec.matches.0.pathRegex", ["/x"]),
    (_ROUTES, "spec.matches.0.pathRegex", "(unclosed"),
    (_ROUTES, "spec.matches.0.methods", "GET"),
    (_ROUTES, "spec.matches.0.methods.0", 1),
    (_ROUTES, "spec.matches.0.method", ["GET"]),
    (_ROUTES, "spec.matches.0.headers", {"a": "b"}),
    (_ROUTES, "spec.matches.0.headers.0", "a"),
    (_ROUTES, "spec.matches.0.headers.0", {"a": 1}),
    (_ROUTES, "spec.matches.0.headers.0", {"a": "[z-a]"}),
    (_TCP, "spec.matches", ["x"]),
    (_TCP, "spec.matches.port", [8080]),
    (_TCP, "spec.matches.ports", 8080),
    (_TCP, "spec.matches.ports.0", "8080x"),
    (_TCP, "spec.matches.ports.0", 0),
    (_TCP, "spec.matches.ports.0", 70000),
    (_SPLIT, "spec.service", 1),
    (_SPLIT, "spec.matches", []),
    (_SPLIT, "spec.backends", "shop"),
    (_SPLIT, "spec.backends.0", "shop"),
    (_SPLIT, "spec.backends.0.service", 1),
    (_SPLIT, "spec.backends.0.weight", "half"),
    (_SPLIT, "spec.backends.0.weight", -1),
    (_SPLIT, "spec.backends.0.weight", 0.5),
    (_SPLIT, "spec.backends.0.weight", 99999999999),
]


def _with(base: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    broken = copy.deepcopy(base)
    _set(path, value)(broken)
    return broken


@pytest.fixture(scope="module")
def strict() -> Any:
    """A raw world with one grant and no permissive mode: what a wrong object must not change."""
    with World(real=False) as world:
        for ns in ("red", "blue"):
            world.namespace(ns)
        world.pod("red", "caller-1", account="caller")
        world.pod("red", "caller2-1", account="caller2")
        world.pod("blue", "shop-1", account="shop", labels={"app": "shop"}, ports=[{"containerPort": 8080}])
        world.service("blue", "shop", [{"name": "http", "port": 80, "targetPort": 8080}], {"app": "shop"})
        world.apply(grant_all("blue", "shop", "red/caller2"))
        world.wait()
        yield world


@pytest.mark.parametrize(("base", "path", "value"), WRONG, ids=[f"{b['kind']}-{p}-{v!r}" for b, p, v in WRONG])
def test_wrong_value_in_a_field_is_rejected_by_name_and_changes_nothing(
    strict: World, base: dict[str, Any], path: str, value: object
) -> None:
    """The object is left out with reason and field; caller gets nothing by it, and caller2 is sent nothing."""
    witness, stranger = strict.pods["red/caller2-1"], strict.pods["red/caller-1"]
    with strict.scratch(), Sotw(strict, witness) as client, Sotw(strict, stranger) as other:
        for kind, names in ((CDS, []), (EDS, ["blue/shop|8080"]), (LDS, []), (RDS, ["rds-outbound.80"])):
            assert client.fetch(kind, names).resources
        assert not other.fetch(LDS).resources
        strict.apply(_with(base, path, value))
        client.silent()
        other.nothing_queued()
        status = strict.status()
        mine = [r for r in status["rejects"] if r["object"] == f"{base['kind']} blue/bad"]
        assert mine, f"no reject names the object: {status['rejects']} {status['errors']} {status['source']['errors']}"
        assert all(r["reason"] for r in mine)
        wanted = path.removeprefix("spec.").split(".")[0]
        assert any(wanted in r["path"] or r["path"] in ("", "spec") for r in mine), mine
        assert not status["errors"], "bad data is not an error of a rule"
    strict.wait()
    assert not strict.status()["rejects"]


def test_service_whose_address_is_none_is_reported_and_led_to_by_nobody(strict: World) -> None:
    """A clusterIP that is no address: the Service gets no chain, the others keep theirs."""
    with strict.scratch(), Sotw(strict, strict.pods["red/caller2-1"]) as client:
        before = client.fetch(LDS)
        strict.apply(_with(_SERVICE, "spec.clusterIP", "not an address"))
        client.silent()
        assert before.as_dict("outbound-listener")["filter_chains"]
        [reject] = strict.status()["rejects"]
        assert (reject["object"], reject["path"]) == ("Service blue/bad", "spec.clusterIP")
    strict.wait()


@pytest.mark.files
def test_objects_without_identity_are_reported_with_their_file(plain: World) -> None:
    """No kind, no name, a list at the top, a name that is a number: file and reason, the other documents of the
    file count."""
    cases = {
        "no-kind": "apiVersion: v1\nmetadata: {name: x}\n",
        "no-name": "apiVersion: v1\nkind: Service\nmetadata: {namespace: blue}\n",
        "a-list": "- apiVersion: v1\n",
        "a-number": "apiVersion: v1\nkind: Service\nmetadata: {name: 5, namespace: blue}\n",
        "an-alias-bomb": "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)),
        "binary": "\x00\x01\x02",
    }
    for name, text in cases.items():
        path = plain.files / f"{name}.yaml"
        plain.write(path, text)
        plain.daemon.applied()
        errors = [e for e in _source_errors(plain) if e["file"].endswith(path.name)]
        assert errors, f"{name}: not reported"
        assert errors[0]["message"]
        path.unlink()
        plain.daemon.applied()
        assert _source_errors(plain) == [], name


def test_file_that_vanishes_while_it_is_read_harms_nothing(plain: World) -> None:
    """Files come and go under the reader's hands, some are no files at all; in the end all is as it is on disk."""
    stop = threading.Event()
    folder = plain.files / "restless"
    folder.mkdir()

    def churn() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            path = folder / f"s{n % 7}.yaml"
            if path.exists():
                path.unlink()
            else:
                path.write_text(
                    f"apiVersion: v1\nkind: Service\nmetadata: {{name: r{n % 7}, namespace: blue}}\n"
                    "spec: {clusterIP: 10.96.1.1, ports: [{port: 99}]}\n"
                )
            link = folder / "dangling.yaml"
            link.unlink(missing_ok=True)
            link.symlink_to(folder / f"nowhere-{n}")

    (folder / "directory.yaml").mkdir()
    os.mkfifo(folder / "pipe.yaml")
    worker = threading.Thread(target=churn)
    worker.start()
    try:
        for _ in range(100):
            plain.daemon.osm("wait", "--applied")
    finally:
        stop.set()
        worker.join()
    assert plain.daemon.alive()
    for path in folder.iterdir():
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    folder.rmdir()
    plain.daemon.applied()
    assert plain.status()["source"]["state"] == "ok"
    with Sotw(plain, plain.pods["red/caller-1"]) as client:
        assert client.fetch(CDS).resources.keys() == {"blue/shop|8080"}


@pytest.mark.files
def test_source_directory_that_is_gone_holds_what_was_there(plain: World) -> None:
    """One file less is a deletion; the whole directory gone is a failure of the source, and nothing is taken away."""
    aside = plain.files.with_name("objects-aside")
    with Sotw(plain, plain.pods["red/caller-1"]) as client:
        client.fetch(CDS)
        plain.files.rename(aside)
        until(lambda: plain.status()["source"]["state"] == "failed", "the source has failed")
        client.nothing_queued()
        aside.rename(plain.files)
        until(lambda: plain.status()["source"]["state"] == "ok", "the source is back")
        client.silent()


@pytest.mark.mesh
@pytest.mark.files
def test_all_wrong_objects_at_once_leave_real_proxies_alone(mesh: World) -> None:
    """Every wrong value above in the live mesh: allowed stays allowed, denied stays denied; nothing is refused (the
    fixture asserts it)."""
    caller, caller2 = mesh.pods["red/caller-1"], mesh.pods["red/caller2-1"]
    mesh.apply(grant_all("blue", "shop", "red/caller"))
    mesh.wait()
    o_allowed(caller, "http://shop.blue/anything")
    load = caller.load("http://shop.blue/anything", rate=50)
    try:
        for n, (base, path, value) in enumerate(WRONG):
            broken = _with(base, path, value)
            if (
                base is _TARGET
                and "spec" in broken
                and isinstance(broken["spec"], dict)
                and isinstance(broken["spec"].get("sources"), list)
            ):
                for source in broken["spec"]["sources"]:
                    if isinstance(source, dict) and source.get("name") == "caller":
                        source["name"] = "caller2"  # were it let through, caller2 would get in
            broken["metadata"]["name"] = f"bad-{n}"
            mesh.apply(broken)
        mesh.write(mesh.files / "blue" / "broken.yaml", BROKEN)
        mesh.wait()
        holds(lambda: caller.face("http://shop.blue/anything") == "200", "allowed stays allowed", 10)
        o_blocked(caller2, "http://shop.blue/anything", "no chain", times=5)
    finally:
        load.stop()
        (mesh.files / "blue" / "broken.yaml").unlink(missing_ok=True)
    assert load.failures == []


ESCAPE = "\x1b]0;mine\x07\x1b[2J\nERRORS    0 in rules\n\x9b31m"


@pytest.mark.files
def test_what_an_object_says_does_not_write_to_a_terminal(plain: World) -> None:
    """Whoever may write an object could else clear the screen of whoever looks at it, or add lines of their own."""
    plain.mesh_config(observability={"osmLogLevel": ESCAPE}, sidecar={"cipherSuites": [ESCAPE]}, **{ESCAPE: 1})
    plain.apply(routes("blue", "odd", match(ESCAPE, f"/{ESCAPE}", [ESCAPE])))
    plain.apply(target("blue", "odd", "blue/shop", ["red/caller"], group="odd", matches=[ESCAPE]))
    plain.write(plain.files / "blue" / "odd.yaml", f"kind: Service\nmetadata: {{name: {json.dumps(ESCAPE)}}}\n")
    commands = [
        ["status"],
        ["wait", "--applied", "--timeout", "100ms"],
        ["policy", "list"],
        ["policy", "why", "blue/shop-1", "inbound-listener"],
        ["policy", "why", "blue/shop-1", ESCAPE],
        ["policy", "why-not", "red/caller-1", "shop.blue", "--path", f"/{ESCAPE}"],
        ["policy", "why-not", "red/caller-1", f"blue/{ESCAPE}"],
        ["policy", "rollback", ESCAPE],
        ["proxy", "get", "config", "blue/shop-1"],
        ["proxy", "get", "config", f"blue/{ESCAPE}"],
        ["diff", "-f", str(plain.files / "blue")],
        ["diff", "--delete", ESCAPE],
        ["debug", "status"],
        ["debug", ESCAPE],
    ]
    try:
        until(lambda: "cipherSuites" in plain.daemon.osm("status"), "the MeshConfig is looked at")
        for words in commands:
            command = [str(build_dir() / "osm"), "--socket", str(plain.daemon.socket), *words]
            done = subprocess.run(command, capture_output=True, check=False, timeout=60)
            told = (done.stdout + done.stderr).decode()
            assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", told), (words, told)
            if words[0] != "debug":
                lines = done.stdout.decode().splitlines()
                assert lines.count("ERRORS    0 in rules") == (words == ["status"]), (words, told)
    finally:
        (plain.files / "blue" / "odd.yaml").unlink()
