"""The Kubernetes source against a server that does what a real one does not: each fault is said, what was known serves
meanwhile, and afterwards all is as if it had not been."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kube_meshes import (
    granted,
    http,
    kind,
    kube_daemon,
    metric,
    namespace,
    pod,
    revoke_in,
    service,
    shop,
    source,
    until_state,
)
from rig import CommandError, until
from rig.daemon import ROOT, Daemon
from rig.kube_fake import KINDS, FakeKube, Request


@pytest.fixture
def daemon(fake: FakeKube, tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that has read it."""
    one = kube_daemon(tmp_path / "d", fake.kubeconfig).start()
    try:
        one.applied()
        assert granted(one, "blue")
        yield one
        assert one.stop() == 0
    finally:
        one.stop()


def test_kube_watch_that_ends_is_resumed_without_a_list_A_K8S_02(fake: FakeKube, daemon: Daemon) -> None:
    """The server ends all watches; a change made then is seen, and nothing is listed again."""
    lists = {each[3]: fake.count("list", each[3]) for each in KINDS}
    watches = fake.count("watch", "pods")
    fake.end_watches()
    until(lambda: fake.count("watch", "pods") > watches, "the watch is back")
    revoke_in(fake)
    until(lambda: not granted(daemon, "blue"), "the revocation has come")
    assert lists == {each[3]: fake.count("list", each[3]) for each in KINDS}


def test_kube_410_on_a_watch_lists_once_A_K8S_04(fake: FakeKube, daemon: Daemon) -> None:
    """What it wants to resume from is gone, and so is an object that no event tells of."""
    lists = fake.count("list", "traffictargets")
    fake.delete("TrafficTarget", "blue", "to-shop", silently=True)
    assert granted(daemon, "blue")
    fake.compact()
    until(lambda: not granted(daemon, "blue"), "the revocation has come")
    assert fake.count("list", "traffictargets") == lists + 1


def test_kube_410_as_an_event_lists_once_A_K8S_03(fake: FakeKube, daemon: Daemon) -> None:
    """The same, said in the stream."""
    status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
    once: list[bool] = []

    def hook(request: Request) -> bool:
        if request.verb != "watch" or request.plural != "traffictargets" or once:
            return False
        once.append(True)
        request.begin()
        request.chunk(json.dumps({"type": "ERROR", "object": status}).encode())
        request.chunk(b"")
        return True

    lists = fake.count("list", "traffictargets")
    fake.delete("TrafficTarget", "blue", "to-shop", silently=True)
    fake.hook = hook
    fake.end_watches()
    until(lambda: not granted(daemon, "blue"), "the revocation has come")
    assert fake.count("list", "traffictargets") == lists + 1


def test_kube_bookmark_is_where_a_watch_resumes_A_K8S_06(fake: FakeKube, daemon: Daemon) -> None:
    """And it is no object."""
    before = kind(daemon, "TrafficTarget")
    fake.put(namespace("other", None))
    fake.bookmark("traffictargets")
    until(lambda: kind(daemon, "TrafficTarget")["resource_version"] == str(fake.version), "the bookmark has been heard")
    assert kind(daemon, "TrafficTarget")["objects"] == before["objects"]
    watches = fake.count("watch", "traffictargets")
    fake.end_watches()
    until(lambda: fake.count("watch", "traffictargets") > watches, "it watches again")
    last = [each for each in fake.requests if each.verb == "watch" and each.plural == "traffictargets"][-1]
    assert last.query["resourceVersion"] == str(fake.version)


def test_kube_server_that_is_set_back_is_listed_anew(fake: FakeKube, daemon: Daemon) -> None:
    """A store that was restored from a copy: its numbers are lower, and what was made since is gone."""
    with fake.changed:
        del fake.objects[("traffictargets", "blue", "to-shop")]
        fake.version = 50
        fake.events.clear()
    fake.bookmark("traffictargets", 50)
    until(lambda: not granted(daemon, "blue"), "the newer past counts")


def test_kube_server_that_is_set_back_and_says_nothing_is_noticed_by_a_wait(fake: FakeKube, daemon: Daemon) -> None:
    """The same without a word on any watch, and the Lease may not be read: whoever waits is told the truth."""
    with fake.changed:
        del fake.objects[("traffictargets", "blue", "to-shop")]
        fake.version = 50
        fake.events.clear()
    daemon.applied()
    assert not granted(daemon, "blue")
    fake.put(namespace("other", None))  # its version is one that was seen before
    daemon.applied()
    assert kind(daemon, "Namespace")["objects"] == 2


def test_kube_server_that_is_away_leaves_what_was_known_and_says_so_A_K8S_14(fake: FakeKube, daemon: Daemon) -> None:
    """status, /health/ready and metrics say since when and why; what was deleted meanwhile is gone afterwards."""
    assert metric(daemon, "osm_source_up") == 1
    fake.close()
    until_state(daemon, "failed")
    until(lambda: "Couldn't connect to server" in source(daemon)["reason"], "it says why")
    failed = source(daemon)
    assert failed["since"] > 1_700_000_000
    assert granted(daemon, "blue")
    ready = http(daemon, "/health/ready?verbose")
    assert "[!!] source: " in ready
    assert "(since 20" in ready
    assert "what it last gave serves" in ready
    assert ready.endswith("Service is ready\n")
    assert "  failed since 20" in daemon.osm("status")
    assert metric(daemon, "osm_source_up") == 0
    with pytest.raises(CommandError, match="the source has failed"):
        daemon.applied()
    fake.delete("TrafficTarget", "blue", "to-shop", silently=True)
    fake.compact()
    fake.open()
    daemon_ok = until_state(daemon, "ok")
    assert daemon_ok["since"] == 0
    daemon.applied()
    assert not granted(daemon, "blue")
    assert metric(daemon, "osm_source_up") == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_kube_server_in_trouble_is_given_time_A_K8S_09(fake: FakeKube, daemon: Daemon, status: int) -> None:
    """Retry-After is how long nothing is asked; then all goes on."""
    refused: list[float] = []

    def hook(request: Request) -> bool:
        if request.verb != "watch" or request.plural != "traffictargets" or len(refused) == 2:
            return False
        refused.append(until_clock())
        request.status(status, "Busy", "come back later", ("Retry-After", "1"))
        return True

    fake.hook = hook
    fake.end_watches()
    until(lambda: kind(daemon, "TrafficTarget")["state"] == "failing", "the refusal is told")
    assert f"HTTP {status}: come back later" in kind(daemon, "TrafficTarget")["reason"]
    assert source(daemon)["state"] == "degraded"
    until(lambda: kind(daemon, "TrafficTarget")["state"] == "watched", "it goes on")
    assert refused[1] - refused[0] >= 1.0
    revoke_in(fake)
    until(lambda: not granted(daemon, "blue"), "the revocation has come")


def test_kube_wait_goes_on_while_the_server_says_to_come_again_A_K8S_09(fake: FakeKube, daemon: Daemon) -> None:
    """A server that is starting answers 429 for a while; that is no reason to give up before the time is over."""
    refused: list[str] = []

    def hook(request: Request) -> bool:
        if request.verb != "watch" or request.plural != "traffictargets" or len(refused) == 3:
            return False
        refused.append(request.verb)
        request.status(429, "TooManyRequests", "storage is initializing", ("Retry-After", "1"))
        return True

    fake.hook = hook
    fake.end_watches()
    until(lambda: kind(daemon, "TrafficTarget")["state"] == "failing", "the refusal is told")
    revoke_in(fake)
    daemon.applied()
    assert len(refused) == 3
    assert not granted(daemon, "blue")


def test_kube_wait_lists_again_what_the_server_had_no_time_for(fake: FakeKube, daemon: Daemon) -> None:
    """A server with much to do refuses a list of names as it does any other."""
    refused: list[float] = []

    def hook(request: Request) -> bool:
        if request.verb != "list" or request.plural != "traffictargets" or len(refused) == 2:
            return False
        refused.append(until_clock())
        request.status(429, "TooManyRequests", "too many requests", ("Retry-After", "1"))
        return True

    fake.hook = hook
    revoke_in(fake)
    daemon.applied()
    assert len(refused) == 2
    assert refused[1] - refused[0] >= 1.0
    assert not granted(daemon, "blue")


def until_clock() -> float:
    """Seconds of a clock that only moves on."""
    import time

    return time.monotonic()


def html(request: Request) -> None:
    request.send(200, b"<html><body>please sign in</body></html>", content_type="text/html")


def half(request: Request) -> None:
    request.send(200, b'{"kind":"List","metadata":{"resourceVersion":"9"},"items":[{"metadata":{"name":"a"')


def empty(request: Request) -> None:
    request.send(200, b"")


def binary(request: Request) -> None:
    request.send(200, bytes(range(256)) * 40)


def no_list(request: Request) -> None:
    request.send(200, b'{"kind":"Status","status":"Success"}')


def not_gzip(request: Request) -> None:
    request.send(200, b"this is no gzip", ("Content-Encoding", "gzip"))


@pytest.mark.parametrize("answer", [html, half, empty, binary, no_list, not_gzip], ids=lambda f: f.__name__)
def test_kube_answer_that_is_none_changes_nothing(
    fake: FakeKube, daemon: Daemon, answer: Callable[[Request], None]
) -> None:
    """A 200 with anything in it: the kind fails, its objects stay, the rest goes on."""

    def hook(request: Request) -> bool:
        if request.plural != "traffictargets":
            return False
        answer(request)
        return True

    fake.hook = hook
    fake.compact()
    until(lambda: kind(daemon, "TrafficTarget")["state"] == "failing", "it is told")
    assert kind(daemon, "TrafficTarget")["objects"] == 1
    assert granted(daemon, "blue")
    fake.put(namespace("green"))
    until(lambda: kind(daemon, "Namespace")["objects"] == 2, "other kinds go on")
    with pytest.raises(CommandError, match="TrafficTarget"):
        daemon.applied()
    fake.delete("TrafficTarget", "blue", "to-shop", silently=True)
    fake.hook = None
    until(lambda: not granted(daemon, "blue"), "the revocation has come", 40)
    daemon.applied()


def test_kube_compressed_lists_and_single_bytes_are_read_A_K8S_10(fake: FakeKube, tmp_path: Path) -> None:
    """gzip for lists, one byte at a time for watches."""

    def hook(request: Request) -> bool:
        if request.verb == "list":
            items = fake.items(request)
            body = {"kind": "List", "metadata": {"resourceVersion": str(fake.version)}, "items": items}
            request.send(200, gzip.compress(json.dumps(body).encode()), ("Content-Encoding", "gzip"))
            return True
        if request.verb == "watch":
            whole, chunk = request.chunk, request.chunk

            def bytewise(body: bytes) -> None:
                for n in range(len(body)):
                    chunk(body[n : n + 1])
                if not body:
                    whole(body)

            request.chunk = bytewise  # type: ignore[method-assign]
        return False

    fake.hook = hook
    one = kube_daemon(tmp_path / "d", fake.kubeconfig).start()
    try:
        one.applied()
        assert granted(one, "blue")
        revoke_in(fake)
        until(lambda: not granted(one, "blue"), "the revocation has come")
        one.applied()
    finally:
        one.stop()


def test_kube_object_of_50_megabytes_is_left_out_and_named(fake: FakeKube, daemon: Daemon) -> None:
    """In an event, then in the list that follows: its last content grants no longer, the rest is as before."""
    huge = next(obj for key, obj in fake.objects.items() if key[0] == "traffictargets")
    before = daemon.figures()["rss_kb"]
    fake.put(huge | {"spec": huge["spec"] | {"more": "x" * (50 << 20)}})
    until(lambda: not granted(daemon, "blue"), "it grants no longer", 60)
    error = until(lambda: next(iter(source(daemon)["errors"]), None), "it is told", 60)
    assert error["file"] == "TrafficTarget.access.smi-spec.io blue/to-shop"
    assert error["message"].startswith("an object of 524")
    assert daemon.figures()["rss_kb"] - before < 100_000
    fake.put(huge)
    until(lambda: granted(daemon, "blue"), "it grants again", 60)
    until_state(daemon, "ok", 60)


def test_kube_odd_objects_do_not_disturb_others(fake: FakeKube, daemon: Daemon) -> None:
    """Unknown fields, null for a list, texts with a NUL, names that are none."""
    odd = pod("blue", "odd-1", "odd", "33333333-3333-4333-8333-333333333333", "10.9.0.9")
    odd["metadata"]["annotations"] = {"note": "a\0b"}
    odd["spec"]["containers"][0]["ports"] = None
    odd["spec"]["unheardOf"] = {"x": [1, None, {"y": 1.5e300}]}
    odd["status"]["conditions"] = None
    fake.put(odd)
    nameless = namespace("no good name")
    fake.put(nameless)
    fake.put(namespace("green"))
    until(lambda: kind(daemon, "Namespace")["objects"] == 3, "what came after is there")
    (error,) = source(daemon)["errors"]
    assert error["file"] == "Namespace no good name"
    assert "no valid name" in error["message"]
    daemon.osm("proxy", "get", "config", "blue/odd-1")
    fake.delete("Namespace", "", "no good name")
    until_state(daemon, "ok")


def test_kube_namespace_of_5000_pods_that_goes_at_once(fake: FakeKube, daemon: Daemon) -> None:
    """All of them are listed in pages, then all of them go; another's revocation is not held up for good."""
    for n in range(5000):
        fake.put(
            pod("blue", f"crowd-{n}", "crowd", f"{n:08x}-1111-4111-8111-222222222222", f"10.8.{n // 250}.{n % 250}")
        )
    daemon.applied()
    assert kind(daemon, "Pod")["objects"] == 5002
    pages = [each for each in fake.requests if each.plural == "pods" and each.verb == "list" and each.names_only]
    assert len(pages) >= 11
    for n in range(5000):
        fake.delete("Pod", "blue", f"crowd-{n}")
    revoke_in(fake)
    daemon.applied()
    assert not granted(daemon, "blue")
    assert kind(daemon, "Pod")["objects"] == 2


def test_kube_10000_services_are_listed_in_pages_A_K8S_11(fake: FakeKube, tmp_path: Path) -> None:
    """500 at a time, each page where the one before ended; the first configuration is there within a minute."""
    for n in range(10000):
        crowd = service("blue", f"crowd-{n}", f"crowd-{n}")
        crowd["spec"]["clusterIP"] = f"10.97.{n // 250}.{n % 250}"
        fake.put(crowd)
    one = kube_daemon(tmp_path / "d", fake.kubeconfig).start()
    try:
        until(lambda: one.status()["snapshot"] > 0, "it serves", 60)
        assert kind(one, "Service")["objects"] == 10001
        assert kind(one, "Service")["lists"] == 1
        asked = [each.query for each in fake.requests if each.plural == "services" and each.verb == "list"]
        assert [each.get("continue") for each in asked] == [None, *(str(n * 500) for n in range(1, 21))]
        assert {each["limit"] for each in asked} == {"500"}
        assert granted(one, "blue")
    finally:
        one.stop()


def test_kube_policy_that_asks_for_whole_pods_in_the_middle_of_a_list_gets_them_all(
    fake: FakeKube, overlay: Path, tmp_path: Path
) -> None:
    """What a list has told so far was cut down to what the host reads: it begins anew."""
    for n in range(600):
        fake.put(pod("blue", f"a-{n}", "many", f"33333333-3333-4333-8333-{n:012}", f"10.9.8.{n % 250}"))
    first = pod("blue", "a-0", "many", "33333333-3333-4333-8333-000000000000")
    first["spec"]["nodeName"] = "77s"
    fake.put(first)
    held, go_on = threading.Event(), threading.Event()

    def hook(request: Request) -> bool:
        if request.plural == "pods" and request.query.get("continue") and not request.names_only:
            held.set()
            go_on.wait()
        return False

    daemon = kube_daemon(tmp_path / "d", fake.kubeconfig, policies=[ROOT / "policies", overlay]).start()
    try:
        daemon.applied()
        fake.hook = hook
        fake.compact()
        assert held.wait(30)
        lists = fake.count("list", "pods")
        (overlay / "nodes.lua").write_text(
            """
local M = { api = 1 }
M.kinds = { ["acme.Pod"] = { group = "", versions = { "v1" } } }
M.rules = { ["acme.node"] = function(mesh, namespace, name)
  local pod = mesh.acme.Pod(namespace, name)
  return pod and pod.spec.nodeName or "1s"
end }
M.extends = { cluster = { run = function(mesh, cluster, at)
  if at.direction == "outbound" then cluster.connect_timeout = mesh.acme.node("blue", "a-0") end
end } }
return M
"""
        )
        until(lambda: fake.count("list", "pods") > lists, "the pods are listed", 30)
        go_on.set()
        until(
            lambda: "77s" in daemon.osm("proxy", "get", "config", "blue/caller-1", "CDS"), "all of a pod is known", 30
        )
        assert daemon.stop() == 0
    finally:
        daemon.stop()


def test_kube_token_that_is_refused_and_restored(fake: FakeKube, daemon: Daemon) -> None:
    """401 for everything: said, with the last good configuration; then it goes on by itself."""
    fake.token = "another"
    fake.end_watches()
    failed = until_state(daemon, "failed")
    assert "HTTP 401" in failed["reason"]
    assert granted(daemon, "blue")
    fake.delete("TrafficTarget", "blue", "to-shop")
    fake.token = "the-token"
    until_state(daemon, "ok")
    daemon.applied()
    assert not granted(daemon, "blue")


def test_kube_kind_that_the_server_loses_and_gets_again(fake: FakeKube, daemon: Daemon) -> None:
    """Its definition is removed: its objects are gone, and it is said; installed again, it is watched again."""
    all_kinds = list(fake.kinds)
    with fake.changed:
        del fake.objects[("traffictargets", "blue", "to-shop")]
        fake.kinds = [each for each in fake.kinds if each[2] != "TrafficTarget"]
    fake.end_watches()
    until(lambda: kind(daemon, "TrafficTarget")["state"] == "absent", "it is gone")
    until_state(daemon, "ok")  # the others are watched again
    daemon.applied()
    assert not granted(daemon, "blue")
    assert "TrafficTarget.access.smi-spec.io: absent: the API server does not have it" in daemon.osm("status")
    fake.kinds = all_kinds
    for obj in shop("blue"):
        if obj["kind"] == "TrafficTarget":
            fake.put(obj)
    crd = {"metadata": {"name": "traffictargets.access.smi-spec.io"}, "kind": "CustomResourceDefinition"}
    fake.put(crd | {"apiVersion": "apiextensions.k8s.io/v1"})
    until(lambda: kind(daemon, "TrafficTarget")["state"] == "watched", "it is watched again")
    daemon.applied()
    assert granted(daemon, "blue")


def test_kube_kind_is_not_lost_while_the_server_starts(fake: FakeKube, daemon: Daemon) -> None:
    """A server that is not ready does not know all its kinds yet: what was known stays."""
    all_kinds = list(fake.kinds)

    def hook(request: Request) -> bool:
        if request.path != "/readyz":
            return False
        request.send(500, b"[-]poststarthook/crd-informer-synced failed: not finished\n", content_type="text/plain")
        return True

    fake.hook = hook
    fake.kinds = [each for each in fake.kinds if each[2] != "TrafficTarget"]
    looks = sum(each.path == "/apis" for each in fake.requests)
    fake.end_watches()
    until(lambda: sum(each.path == "/apis" for each in fake.requests) >= looks + 3, "it has looked some times", 40)
    assert kind(daemon, "TrafficTarget")["objects"] == 1
    assert granted(daemon, "blue")
    fake.hook, fake.kinds = None, all_kinds
    until_state(daemon, "ok")


def test_kube_server_with_versions_that_nobody_reads_is_told(fake: FakeKube, tmp_path: Path) -> None:
    """The kind is there, in another version than the policies know."""
    fake.kinds = [(g, "v9" if k == "TrafficSplit" else v, k, p, n) for g, v, k, p, n in fake.kinds]
    one = kube_daemon(tmp_path / "d", fake.kubeconfig).start()
    try:
        one.applied()
        split = kind(one, "TrafficSplit")
        assert split["state"] == "absent"
        assert split["reason"] == "the API server has it only as v9, which the policies do not read"
        assert source(one)["state"] == "degraded"
        assert granted(one, "blue")
    finally:
        one.stop()


def test_kube_older_server_without_one_document_for_all(fake: FakeKube, tmp_path: Path) -> None:
    """Discovery in a document per group and version."""

    def hook(request: Request) -> bool:
        groups = sorted({each[0] for each in fake.kinds} - {""})
        if request.path == "/api":
            body: object = {"kind": "APIVersions", "versions": ["v1"]}
        elif request.path == "/apis":
            versions = {each[0]: f"{each[0]}/{each[1]}" for each in fake.kinds if each[0]}
            body = {
                "kind": "APIGroupList",
                "groups": [{"name": g, "versions": [{"groupVersion": versions[g]}]} for g in groups],
            }
        elif request.path in {f"/apis/{each[0]}/{each[1]}" if each[0] else "/api/v1" for each in fake.kinds}:
            api = request.path.split("/", 2)[2]
            entries = [
                {"name": p, "kind": k, "namespaced": n, "verbs": ["list", "watch"]}
                for g, v, k, p, n in fake.kinds
                if (f"{g}/{v}" if g else v) == api
            ]
            body = {"kind": "APIResourceList", "groupVersion": api, "resources": entries}
        else:
            return False
        request.send(200, json.dumps(body).encode())
        return True

    fake.hook = hook
    one = kube_daemon(tmp_path / "d", fake.kubeconfig).start()
    try:
        one.applied()
        assert granted(one, "blue")
        assert kind(one, "HTTPRouteGroup")["state"] == "watched"
    finally:
        one.stop()


def test_kube_nothing_is_served_from_half_a_world(fake: FakeKube, tmp_path: Path) -> None:
    """One kind cannot be listed at the start: nothing is in force until it can, and it is said what is missing."""

    def hook(request: Request) -> bool:
        if request.plural != "httproutegroups":
            return False
        request.status(500, "InternalError", "conversion webhook failed")
        return True

    fake.hook = hook
    one = kube_daemon(tmp_path / "d", fake.kubeconfig).start()
    try:
        until(lambda: kind(one, "HTTPRouteGroup")["state"] == "failing", "it is told")
        until(lambda: kind(one, "TrafficTarget")["state"] == "watched", "the others are read")
        assert one.status()["snapshot"] == 0
        ready = http(one, "/health/ready?verbose")
        assert "HTTP 500: conversion webhook failed" in ready
        assert "Service is not ready" in ready
        fake.hook = None
        one.applied()
        assert granted(one, "blue")
    finally:
        one.stop()


def test_kube_daemon_ends_at_once_whatever_the_server_does(fake: FakeKube, tmp_path: Path) -> None:
    """Requests that are never answered do not hold it up."""
    asked: list[str] = []

    def hook(request: Request) -> bool:
        asked.append(request.path)
        with fake.changed:
            fake.changed.wait_for(lambda: fake.closing)
        return True

    fake.hook = hook
    one = kube_daemon(tmp_path / "d", fake.kubeconfig).start()
    until(lambda: len(asked) >= 4, "it has asked")
    assert one.stop() == 0
    assert '"open_handles":0' in one.log()
