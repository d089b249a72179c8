"""May one call another, and if not, which layer denies: `osm policy why-not`. A table of layers on a daemon alone, and
on real Envoys the verdict beside what the calls come to."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from rig import World
from rig.daemon import ROOT, build_dir
from rig.objects import HTTP_8080, grant_all, match, routes, split, target, tcp_route
from worlds import tracked

ALLOWED, ERROR, USAGE, DENIED = 0, 1, 2, 3


def ask(world: World, caller: str, service: str, *flags: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, answer, what is on stderr."""
    command = [str(build_dir() / "osm"), "--socket", str(world.daemon.socket), "policy", "why-not", caller, service]
    done = subprocess.run([*command, *flags, "-o", "json"], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


@pytest.fixture(scope="module")
def raw() -> Iterator[World]:
    """No data plane. red/caller may call the shop; red/caller2 only GET /buy... of it; red/caller3 is named by a target
    whose routes are not there; red/tcp may open port 5432 of the database; red/free calls a Service without pods."""
    with tracked(World(real=False)) as world:
        for ns in ("red", "blue"):
            world.namespace(ns)
        world.namespace("grey", monitored=False)
        for name in ("caller", "caller2", "caller3", "tcp", "free"):
            world.pod("red", name, account=name)
        world.pod("red", "plain", account="plain", sidecar=False)
        world.account("red", "nobody")
        world.pod("grey", "outsider", account="outsider")
        world.pod("blue", "shop", account="shop", labels={"app": "shop"}, ports=[{"containerPort": 8080}])
        world.pod("blue", "bare", account="bare", labels={"app": "bare"}, sidecar=False)
        world.pod("blue", "db", account="db", labels={"app": "db"}, ports=[{"containerPort": 5432}])
        world.service("blue", "shop", HTTP_8080, {"app": "shop"})
        world.service("blue", "bare", HTTP_8080, {"app": "bare"})
        world.service("blue", "empty", HTTP_8080, {"app": "empty"})
        world.service("grey", "far", HTTP_8080, {"app": "far"})
        world.service("blue", "zero", HTTP_8080, None)
        tcp = {"name": "tcp-db", "port": 5432, "targetPort": 5432, "appProtocol": "tcp"}
        other = {"name": "tcp-other", "port": 5433, "targetPort": 5433, "appProtocol": "tcp"}
        world.service("blue", "db", [tcp, other], {"app": "db"})
        buy = match("buy", "/buy.*", ["GET"], [{"x-user": "a.*"}])
        for each in (
            *grant_all("blue", "shop", "red/caller"),
            *grant_all("blue", "bare", "red/caller"),
            routes("blue", "buy", buy, match("sell", "/sell", ["POST"])),
            target("blue", "t2", "blue/shop", ["red/caller2"], group="buy", matches=["buy"]),
            target("blue", "t3", "blue/shop", ["red/caller3"], group="nowhere"),
            tcp_route("blue", "db", 5432),
            target("blue", "db", "blue/db", ["red/tcp"], {"kind": "TCPRoute", "name": "db"}),
            split("blue", "zero", "zero", shop=0),
        ):
            world.apply(each)
        world.wait()
        yield world


LAYERS = [
    # who, whom, flags; verdict, layer, a part of the sentence
    ("red/caller", "shop.blue", [], "allowed", "request", "by TrafficTarget blue/to-shop, spec.rules[0]: match"),
    ("red/caller", "blue/shop", ["--path", "/x", "--method", "PUT"], "allowed", "request", "to-shop"),
    (
        "red/caller2",
        "shop.blue.svc.cluster.local",
        ["--path", "/buy?q=1", "--header", "X-User=ann"],
        "allowed",
        "request",
        '"buy"',
    ),
    ("red/caller2", "shop.blue", ["--path", "/buy", "--header", "x-user=bob"], "denied", "request", "HTTP 403"),
    (
        "red/caller2",
        "shop.blue",
        ["--path", "/sell", "--method", "POST"],
        "denied",
        "request",
        "lets red/caller2 do: path /buy.*",
    ),
    ("red/caller2", "shop.blue", [], "denied", "request", "TrafficTarget blue/t2 lets red/caller2 do"),
    ("red/caller3", "shop.blue", [], "denied", "client listener", "nothing grants red/caller3 a call of blue/shop"),
    ("red/plain", "shop.blue", [], "denied", "caller", "has no sidecar (no label osm-proxy-uuid)"),
    ("red/nobody", "shop.blue", [], "denied", "caller", "no pod runs as the account red/nobody"),
    ("grey/outsider", "shop.blue", [], "denied", "caller", "its namespace is not of the mesh"),
    ("red/caller", "blue/shopp", [], "denied", "service", "there is no Service blue/shopp; do you mean shop?"),
    ("red/caller", "grey/far", [], "denied", "service", "no policy sees Service grey/far"),
    ("red/caller", "shop.blue", ["--port", "81"], "denied", "port", "but 80 (http)"),
    ("red/free", "empty.blue", [], "denied", "client listener", "blue/empty, which has no pod"),
    ("red/caller", "bare.blue", [], "denied", "server", "has no sidecar that is served"),
    ("red/caller", "zero.blue", [], "denied", "client listener", "blue/zero, which has no pod"),
    ("red/tcp", "db.blue", ["--port", "5432"], "allowed", "connection", "TrafficTarget blue/db"),
    ("red/tcp", "db.blue", ["--port", "5433"], "denied", "client listener", "nothing grants red/tcp"),
    ("red/caller", "db.blue", ["--port", "5432"], "denied", "client listener", "nothing grants red/caller"),
]


@pytest.mark.parametrize(("caller", "service", "flags", "verdict", "layer", "says"), LAYERS)
def test_the_layer_that_decides_is_named(
    raw: World, caller: str, service: str, flags: list[str], verdict: str, layer: str, says: str
) -> None:
    """With a sentence; the exit code says the same; and whatever is asked, nothing that is served changes."""
    before = raw.status()["snapshot"]
    code, answer, errors = ask(raw, caller, service, *flags)
    assert code == (ALLOWED if verdict == "allowed" else DENIED), errors
    assert (answer["verdict"], answer["layer"]) == (verdict, layer), answer["text"]
    assert says in answer["text"]
    assert [step["passes"] for step in answer["steps"]] == [True] * (len(answer["steps"]) - 1) + [verdict == "allowed"]
    assert raw.status()["snapshot"] == before


def test_what_comes_nearest_is_told(raw: World) -> None:
    """A target for other callers, with its file; and the one that was rejected, with the reason."""
    _, answer, _ = ask(raw, "red/caller3", "shop.blue")
    near = {each["object"]: each for each in answer["near"]}
    assert near["TrafficTarget blue/to-shop"]["text"] == "lets red/caller call blue/shop, not red/caller3"
    assert near["TrafficTarget blue/to-shop"]["origin"] == "blue/traffictarget-to-shop.yaml:1"
    assert [(each["object"], each["path"]) for each in answer["rejects"]] == [
        ("TrafficTarget blue/t3", "spec.rules[0].name")
    ]
    _, answer, _ = ask(raw, "red/caller", "db.blue", "--port", "5432")
    assert [each["object"] for each in answer["near"]] == [
        "TrafficTarget blue/db",
        "TrafficTarget blue/to-bare",
        "TrafficTarget blue/to-shop",
    ]
    assert answer["near"][1]["text"] == "lets red/caller call blue/bare, not blue/db"
    _, answer, _ = ask(raw, "red/caller", "zero.blue")
    assert [(each["object"], each["path"]) for each in answer["rejects"]] == [
        ("TrafficSplit blue/zero", "spec.backends")
    ]
    _, answer, _ = ask(raw, "red/caller2", "shop.blue")
    assert [each["text"] for each in answer["near"]] == [
        "lets red/caller2 do: path /buy.* and method GET and header x-user a.*"
    ]


def test_people_read_it(raw: World) -> None:
    """Verdict first, then the way, then who is nearest."""
    done = subprocess.run(
        [str(build_dir() / "osm"), "--socket", str(raw.daemon.socket), "policy", "why-not", "red/caller2", "shop.blue"],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert lines[0].startswith("denied: no policy of the sidecar lets it in: HTTP 403; TrafficTarget blue/t2 lets")
    assert lines[1] == "red/caller2 (pod red/caller2) -> blue/shop port 80 (http) GET /"
    assert lines[2].startswith("  ok   client listener the sidecar of red/caller2, chain outbound_blue/shop_80_http")
    assert "nearest" in lines
    assert lines[-1].startswith("  TrafficTarget blue/t2 (blue/traffictarget-t2.yaml:1): lets red/caller2 do:")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["red/who", "shop.blue"], ERROR, "no such pod, and no pod runs as such an account"),
        (["caller", "shop.blue"], ERROR, "expected NAMESPACE/POD or NAMESPACE/ACCOUNT"),
        (["red/caller", "shop"], ERROR, "expected NAMESPACE/SERVICE or SERVICE.NAMESPACE"),
        (["red/caller", "shop.blue.example.com"], ERROR, "expected NAMESPACE/SERVICE"),
        (["red/tcp", "db.blue"], ERROR, "which of 5432 (tcp), 5433 (tcp)?"),
        (["red/caller", "shop.blue", "--port", "x"], USAGE, "expected 1 to 65535"),
        (["red/caller", "shop.blue", "--header", "x"], USAGE, "expected NAME=VALUE"),
        (["red/caller", "shop.blue", "--header", "x=1", "--header", "x=2"], USAGE, "each name once"),
        (["red/caller", "shop.blue", "--header", "x=1", "--header", "X=2"], ERROR, "is there twice"),
        (["red/caller", "shop.blue", "--header", "Host=a.b"], ERROR, "header Host: follows from the Service"),
        (["red/caller", "shop.blue", "--header", ":path=/x"], ERROR, "header :path: follows from"),
        (["red/caller", "shop.blue", "--path", "x y"], ERROR, "path x y: expected one that begins with /"),
    ],
)
def test_wrong_words(raw: World, words: list[str], code: int, says: str) -> None:
    """Say what was expected."""
    got, _, errors = ask(raw, words[0], words[1], *words[2:])
    assert (got, says in errors) == (code, True), errors


def test_permissive_mode_asks_for_no_grant() -> None:
    """And says so; an extension that nobody here can judge is not guessed at."""
    with tracked(World(real=False, permissive=True)) as world:
        world.namespace("red")
        world.namespace("blue")
        world.pod("red", "caller", account="caller")
        world.pod("blue", "shop", account="shop", labels={"app": "shop"}, ports=[{"containerPort": 8080}])
        world.service("blue", "shop", HTTP_8080, {"app": "shop"})
        world.wait()
        code, answer, _ = ask(world, "red/caller", "shop.blue")
        assert (code, answer["verdict"]) == (ALLOWED, "allowed")
        assert "permissive" in answer["text"]
        asked = {"enable": True, "address": "a.b", "port": 1}
        world.mesh_config(traffic={"enablePermissiveTrafficPolicyMode": True, "inboundExternalAuthorization": asked})
        world.wait()
        code, answer, _ = ask(world, "red/caller", "shop.blue")
        assert (code, answer["verdict"], answer["layer"]) == (ERROR, "unknown", "filters")
        assert "external authorization" in answer["text"]


# --- real Envoys ---

CALLS = [
    # caller, service, method, path, headers
    ("caller-1", "shop", "GET", "/", {}),
    ("caller-1", "shop", "POST", "/any/path", {}),
    ("caller2-1", "shop", "GET", "/", {}),
    ("caller2-1", "shop", "GET", "/buy", {"x-user": "ann"}),
    ("caller2-1", "shop", "GET", "/buy?x=1", {"x-user": "a"}),
    ("caller2-1", "shop", "GET", "/buying/much", {"x-user": "bob"}),
    ("caller2-1", "shop", "POST", "/buy", {"x-user": "ann"}),
    ("caller2-1", "shop", "GET", "/sell", {"x-user": "ann"}),
    ("caller-1", "shop-v1", "GET", "/", {}),
    ("caller2-1", "shop-v1", "GET", "/v1", {}),
    ("caller2-1", "shop-v1", "GET", "/", {}),
    ("caller-1", "shop-v2", "GET", "/", {}),
    ("caller2-1", "shop-v2", "GET", "/v2/x", {}),
    ("caller-1", "shop-apex", "GET", "/", {}),
    ("caller2-1", "shop-apex", "GET", "/v1", {}),
    ("caller2-1", "shop-apex", "GET", "/nothing", {}),
]


@pytest.mark.mesh
def test_the_verdict_is_what_the_calls_come_to(mesh: World) -> None:
    """Of each call of a set, two versions behind an apex among them: allowed where it is answered, denied where not,
    and with the code that Envoy answers."""
    for each in (
        *grant_all("blue", "shop", "red/caller"),
        routes("blue", "buy", match("buy", "/buy.*", ["GET"], [{"x-user": "a.*"}])),
        target("blue", "t2", "blue/shop", ["red/caller2"], group="buy"),
        routes("blue", "v", match("v", "/v.*", ["GET"])),
        target("blue", "v1", "blue/shop-v1", ["red/caller2"], group="v"),
        target("blue", "v2", "blue/shop-v2", ["red/caller2"], group="v"),
        split("blue", "apex", "shop-apex", **{"shop-v1": 50, "shop-v2": 50}),
    ):
        mesh.apply(each)
    mesh.wait()
    outcomes = set()
    for caller, service, method, path, headers in CALLS:
        flags = ["--method", method, "--path", path]
        for name, value in headers.items():
            flags += ["--header", f"{name}={value}"]
        _, answer, _ = ask(mesh, f"red/{caller}", f"{service}.blue", *flags)
        reply = mesh.pods[f"red/{caller}"].get(
            f"http://{service}.blue{path}", method=method, headers=headers, body="x" if method == "POST" else None
        )
        call = f"{caller} {method} {service}{path} {headers}: {reply.face}, {answer['verdict']}: {answer['text']}"
        assert (answer["verdict"] == "allowed") == (reply.face == "200"), call
        denying = next((step["text"] for step in answer["steps"] if step["passes"] is False), "")
        if reply.face.isdigit() and reply.face != "200":
            assert f"HTTP {reply.face}" in denying, call
        outcomes.add((answer["verdict"], answer["layer"]))
    assert {layer for _, layer in outcomes} >= {"request", "client listener", "server route"}


def test_the_rules_that_it_asks_for_are_shipped() -> None:
    """Under the names that the daemon knows."""
    text = (ROOT / "policies/smi/explain.lua").read_text()
    for rule in ("service_explained", "grant_explained", "near_grants"):
        assert f"function M.rules.{rule}(" in text
