"""Bad days of the Kubernetes source that take more than a broken connection: certificates that expire during a watch,
clocks that jump, a stored version that moves, silence, and a control plane that is restarted under traffic."""

from __future__ import annotations

import datetime
import subprocess
import time
from pathlib import Path

import pytest
from kube_meshes import (
    granted,
    kind,
    kube_daemon,
    namespace,
    revoke,
    revoke_in,
    running,
    source,
    until_state,
)
from rig import CommandError, until
from rig.kube import Kube
from rig.kube_fake import KINDS as FAKE_KINDS
from rig.kube_fake import FakeKube, Request
from rig.kube_files import kubeconfig
from rig.objects import grant_all

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
HOUR = 3600


def expired(certificate: Path) -> bool:
    """Whether it is over."""
    asked = ["openssl", "x509", "-in", str(certificate), "-noout", "-checkend", "0"]
    return subprocess.run(asked, capture_output=True, check=False).returncode != 0


def test_kube_client_certificate_that_expires_during_a_watch(fragile: Kube, fragile_mesh: str, tmp_path: Path) -> None:
    """The watch goes on; what is asked anew is refused, and said to be; with a new certificate in the same files it
    goes on by itself."""
    life = datetime.timedelta(seconds=8)
    certificate, key = fragile.authority.client(tmp_path, "shortlived", ("system:masters",), life)
    shown = {"client-certificate": str(certificate), "client-key": str(key)}
    config = kubeconfig(tmp_path / "kubeconfig", fragile.url, fragile.ca, shown)
    with running(tmp_path / "d", config, fragile_mesh) as daemon:
        daemon.applied()
        watches = kind(daemon, "TrafficTarget")["watches"]
        until(lambda: expired(certificate), "the certificate is over", 20.0)
        revoke(fragile, fragile_mesh)
        until(lambda: not granted(daemon, fragile_mesh), "the watch tells of a revocation")
        assert kind(daemon, "TrafficTarget")["watches"] == watches
        with pytest.raises(CommandError, match="HTTP 401"):
            daemon.applied()
        fragile.api.apply(grant_all(fragile_mesh, "shop", f"{fragile_mesh}/caller")[-1])
        fragile.authority.client(tmp_path, "shortlived", ("system:masters",))
        until_state(daemon, "ok", 60)
        daemon.applied()
        assert granted(daemon, fragile_mesh)


def test_kube_server_certificate_that_expires_during_a_watch(fragile: Kube, fragile_mesh: str, tmp_path: Path) -> None:
    """Connections that are open go on; a new one is not made to a server whose certificate is over, and the reason
    says so; with a new certificate it goes on."""
    try:
        fragile.stop_apiserver()
        fragile.new_server_certificate(datetime.timedelta(seconds=12))
        fragile.start_apiserver()
        with running(tmp_path, fragile.kubeconfig, fragile_mesh) as daemon:
            daemon.applied()
            until(lambda: expired(fragile.server_certificate), "the certificate is over", 20.0)
            assert source(daemon)["state"] == "ok"
            fragile.apiserver.end()
            fragile.apiserver.start()  # nobody else can tell when it is ready
            until(lambda: "expired" in source(daemon)["reason"], "it says why nothing can be read", 60)
            assert granted(daemon, fragile_mesh)
            fragile.new_server_certificate(datetime.timedelta(days=5))
            fragile.apiserver.end()
            fragile.start_apiserver()
            until_state(daemon, "ok", 60)
            revoke(fragile, fragile_mesh)
            daemon.applied()
            assert not granted(daemon, fragile_mesh)
    finally:
        fragile.new_server_certificate(datetime.timedelta(days=5))
        fragile.apiserver.end()
        fragile.start_apiserver()


def test_kube_clock_that_jumps(fake: FakeKube, tmp_path: Path) -> None:
    """Two hours on, four hours back: watches go on and nothing is listed again; times in answers are of the clock
    as it is."""
    assert FAKETIME, "libfaketime is not installed: see tests/setup"
    clock = tmp_path / "clock"
    clock.write_text("+0")
    one = kube_daemon(tmp_path / "d", fake.kubeconfig)
    one.environment = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "ASAN_OPTIONS": "verify_asan_link_order=0",
    }
    grant = grant_all("blue", "shop", "blue/caller")[-1]
    try:
        one.start().applied()
        asked = {each[3]: (fake.count("list", each[3]), fake.count("watch", each[3])) for each in FAKE_KINDS}
        heard = one.status()["heard_us"]
        for seconds in (2 * HOUR, -4 * HOUR):
            clock.write_text(f"{seconds:+d}")
            revoke_in(fake)
            until(lambda: not granted(one, "blue"), "a revocation is heard")
            assert abs(one.status()["heard_us"] / 1e6 - (time.time() + seconds)) < 60
            fake.put(grant)
            until(lambda: granted(one, "blue"), "a grant is heard")
        assert one.status()["heard_us"] < heard
        assert asked == {each[3]: (fake.count("list", each[3]), fake.count("watch", each[3])) for each in FAKE_KINDS}
        fake.close()
        failed = until_state(one, "failed")
        assert abs(failed["since"] - (time.time() - 4 * HOUR)) < 60
        fake.open()
        until_state(one, "ok", 60)
        one.applied()
        assert one.stop() == 0
    finally:
        one.stop()


def test_kube_stored_version_that_moves(fragile: Kube, fragile_mesh: str, tmp_path: Path) -> None:
    """A kind's storage version is migrated, and its old version is no longer served: the grant stands throughout, and
    a revocation counts in each phase."""
    group, name = "access.smi-spec.io", "traffictargets.access.smi-spec.io"

    def define(stored: str, served: tuple[str, ...]) -> None:
        crd = fragile.api.get("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", name)
        assert crd
        for version in crd["spec"]["versions"]:
            version["storage"], version["served"] = version["name"] == stored, version["name"] in served
        fragile.api.request("PUT", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}", crd)

    every = ("v1alpha3", "v1alpha2", "v1alpha1")
    grant = next(o for o in grant_all(fragile_mesh, "shop", f"{fragile_mesh}/caller") if o["kind"] == "TrafficTarget")
    with running(tmp_path, fragile.kubeconfig, fragile_mesh) as daemon:
        daemon.applied()

        def grants_and_revokes(version: str) -> None:
            daemon.applied()
            assert granted(daemon, fragile_mesh)
            path = f"/apis/{group}/{version}/namespaces/{fragile_mesh}/traffictargets"
            fragile.api.request("DELETE", f"{path}/{grant['metadata']['name']}")
            daemon.applied()
            assert not granted(daemon, fragile_mesh)
            fragile.api.request("POST", path, grant | {"apiVersion": f"{group}/{version}"})
            daemon.applied()
            assert granted(daemon, fragile_mesh)

        try:
            define("v1alpha2", every)
            grants_and_revokes("v1alpha3")
            for obj in fragile.api.request("GET", f"/apis/{group}/v1alpha2/traffictargets")["items"]:
                path = f"/apis/{group}/v1alpha2/namespaces/{obj['metadata']['namespace']}/traffictargets"
                fragile.api.request("PUT", f"{path}/{obj['metadata']['name']}", obj)
            grants_and_revokes("v1alpha2")
            status = {"status": {"storedVersions": ["v1alpha2"]}}
            fragile.api.request(
                "PATCH",
                f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}/status",
                status,
                content_type="application/merge-patch+json",
            )
            define("v1alpha2", ("v1alpha2", "v1alpha1"))
            until(lambda: kind(daemon, "TrafficTarget")["version"] == "v1alpha2", "the served version is read", 30)
            grants_and_revokes("v1alpha2")
        finally:
            define("v1alpha3", every)
        until(lambda: kind(daemon, "TrafficTarget")["version"] == "v1alpha3", "the preferred version is read", 30)
        grants_and_revokes("v1alpha3")


def test_kube_silence_ends_a_watch(fake: FakeKube, tmp_path: Path) -> None:
    """A watch that never sends a byte is given up, and begun where it was: what no event told of is heard then."""
    with_silence = kube_daemon(tmp_path / "d", fake.kubeconfig, extra=["--kube-silence=1s"])
    muted: list[str] = []

    def hook(request: Request) -> bool:
        if request.verb != "watch" or request.plural != "traffictargets" or len(muted) == 2:
            return False
        muted.append(request.query.get("resourceVersion", ""))
        request.begin()
        with fake.changed:
            fake.changed.wait_for(lambda: fake.closing, 20)
        return True

    fake.hook = hook
    try:
        with_silence.start().applied()
        until(lambda: len(muted) == 1, "it watches, and hears nothing")
        revoke_in(fake)
        until(lambda: not granted(with_silence, "blue"), "the revocation has come")
        assert len(muted) == 2 and muted[0] == muted[1]
        assert kind(with_silence, "TrafficTarget")["lists"] == 1
        assert with_silence.stop() == 0
    finally:
        fake.close()
        with_silence.stop()


def test_kube_five_minutes_of_bookmarks_are_resumed_without_a_410_A_K8S_07(fake: FakeKube, tmp_path: Path) -> None:
    """A kind of which nothing changes, while others do and the server forgets: its bookmarks, one a second for five
    minutes, are where it goes on."""
    one = kube_daemon(tmp_path / "d", fake.kubeconfig).start()
    try:
        one.applied()
        lists = fake.count("list", "traffictargets")
        for n in range(300):
            fake.put(namespace(f"other-{n % 7}", None))
            fake.bookmark("traffictargets")
        until(lambda: kind(one, "TrafficTarget")["resource_version"] == str(fake.version), "the last has been heard")
        with fake.changed:
            fake.oldest = fake.version
        watches = fake.count("watch", "traffictargets")
        fake.end_watches()
        until(lambda: fake.count("watch", "traffictargets") > watches, "it watches again")
        revoke_in(fake)
        until(lambda: not granted(one, "blue"), "the revocation has come")
        assert fake.count("list", "traffictargets") == lists
        assert one.stop() == 0
    finally:
        one.stop()
