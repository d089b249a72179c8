"""The configuration of a client and of a server in permissive mode, as Open Service Mesh v1.2.4 made it: names that
other tools read, matches, TLS. Asked for by a raw client; no Envoy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from rig import World
from rig.xds import CDS, EDS, LDS, RDS, SDS, Sotw, to_dict
from worlds import tracked

FQDN = "httpbin.httpbin.svc.cluster.local"
CLUSTER = "httpbin/httpbin|14001"
MAX = 4294967295


@pytest.fixture(scope="module")
def golden() -> Iterator[World]:
    """Namespaces curl and httpbin, one Service, permissive."""
    with tracked(World(real=False, permissive=True)) as world:
        world.namespace("curl")
        world.namespace("httpbin")
        world.pod("curl", "curl-1", account="curl", labels={"app": "curl"})
        world.pod(
            "httpbin", "httpbin-1", account="httpbin", labels={"app": "httpbin"}, ports=[{"containerPort": 14001}]
        )
        ports = [{"name": "http", "port": 14001, "targetPort": 14001}]
        world.service("httpbin", "httpbin", ports, {"app": "httpbin"}, address="10.96.15.1")
        world.wait()
        yield world


def _served(world: World, pod: str) -> dict[str, dict[str, Any]]:
    """Everything that a proxy which follows the references gets: type -> name -> resource as JSON."""
    out: dict[str, dict[str, Any]] = {}
    with Sotw(world, world.pods[pod]) as client:
        for kind in (CDS, LDS):
            out[kind] = {name: to_dict(r) for name, r in client.fetch(kind).resources.items()}
        for kind, names in (
            (EDS, _eds_names(out[CDS])),
            (RDS, _all(out[LDS], "route_config_name")),
            (SDS, _secrets(out)),
        ):
            out[kind] = {n: to_dict(r) for n, r in client.fetch_all(kind, names).items()}
    return out


def _eds_names(clusters: dict[str, Any]) -> list[str]:
    return sorted(name for name, c in clusters.items() if c.get("type") == "EDS")


def _all(value: Any, key: str) -> list[str]:
    """Every string under this key, anywhere."""
    found: set[str] = set()

    def walk(at: Any) -> None:
        if isinstance(at, dict):
            for k, v in at.items():
                if k == key and isinstance(v, str):
                    found.add(v)
                walk(v)
        elif isinstance(at, list):
            for v in at:
                walk(v)

    walk(value)
    return sorted(found)


def _secrets(out: dict[str, dict[str, Any]]) -> list[str]:
    """Names of the secrets that clusters and listeners refer to."""
    found: set[str] = set()

    def walk(at: Any) -> None:
        if isinstance(at, dict):
            if "sds_config" in at and "name" in at:
                found.add(at["name"])
            for v in at.values():
                walk(v)
        elif isinstance(at, list):
            for v in at:
                walk(v)

    walk(out)
    return sorted(found)


def _types(filters: list[dict[str, Any]]) -> list[str]:
    return [f["typed_config"]["@type"].rpartition(".")[2] for f in filters]


def _domains(name: str, ns: str, port: int, own: bool) -> set[str]:
    full = [f"{name}.{ns}", f"{name}.{ns}.svc", f"{name}.{ns}.svc.cluster", f"{name}.{ns}.svc.cluster.local"]
    hosts = [name, *full] if own else full
    return {h for host in hosts for h in (host, f"{host}:{port}")}


def test_a_gld_01_client_in_permissive_mode(golden: World) -> None:
    """One cluster, one outbound chain with one HTTP filter, one virtual host of eight domains; no inbound listener."""
    served = _served(golden, "curl/curl-1")
    assert served[CDS].keys() == {CLUSTER}
    assert served[CDS][CLUSTER]["type"] == "EDS"
    assert served[LDS].keys() == {"outbound-listener"}
    listener = served[LDS]["outbound-listener"]
    assert listener["address"]["socket_address"] == {"address": "0.0.0.0", "port_value": 15001}
    assert _types(listener["listener_filters"]) == ["OriginalDst", "TlsInspector", "HttpInspector"]
    assert "default_filter_chain" not in listener
    [chain] = listener["filter_chains"]
    assert chain["name"] == "outbound_httpbin/httpbin_14001_http"
    assert chain["filter_chain_match"] == {
        "destination_port": 14001,
        "prefix_ranges": [{"address_prefix": "10.96.15.1", "prefix_len": 32}],
    }
    assert _types(chain["filters"]) == ["HttpConnectionManager"]
    assert "transport_socket" not in chain
    assert served[RDS].keys() == {"rds-outbound.14001"}
    [host] = served[RDS]["rds-outbound.14001"]["virtual_hosts"]
    assert host["name"] == f"outbound_virtual-host|{FQDN}"
    assert len(host["domains"]) == 8
    assert set(host["domains"]) == _domains("httpbin", "httpbin", 14001, own=False)
    [route] = host["routes"]
    assert route["match"]["safe_regex"]["regex"] == ".*"
    [method] = route["match"]["headers"]
    assert method["name"] == ":method"
    assert method["string_match"]["safe_regex"]["regex"] == ".*"
    [weighted] = route["route"]["weighted_clusters"]["clusters"]
    assert (weighted["name"], weighted["weight"]) == (CLUSTER, 100)
    assert set(served[SDS]) == {"service-cert", "root-cert-for-mtls-outbound:httpbin/httpbin"}
    [locality] = served[EDS][CLUSTER]["endpoints"]
    [endpoint] = locality["lb_endpoints"]
    address = endpoint["endpoint"]["address"]["socket_address"]
    assert address == {"address": golden.pods["httpbin/httpbin-1"].address, "port_value": 14001}


def test_a_gld_02_server_in_permissive_mode(golden: World) -> None:
    """The inbound chain takes only the mesh's TLS for this name and wants a certificate; ten domains; no RBAC."""
    served = _served(golden, "httpbin/httpbin-1")
    assert served[LDS].keys() == {"outbound-listener", "inbound-listener"}
    inbound = served[LDS]["inbound-listener"]
    assert inbound["address"]["socket_address"] == {"address": "0.0.0.0", "port_value": 15003}
    assert _types(inbound["listener_filters"]) == ["TlsInspector", "OriginalDst"]
    [chain] = inbound["filter_chains"]
    assert chain["name"] == "inbound_httpbin/httpbin_14001_http"
    assert chain["filter_chain_match"] == {
        "destination_port": 14001,
        "transport_protocol": "tls",
        "application_protocols": ["osm"],
        "server_names": [FQDN],
    }
    assert "RBAC" not in _types(chain["filters"])
    tls = chain["transport_socket"]["typed_config"]
    assert tls["require_client_certificate"] is True
    parameters = tls["common_tls_context"]["tls_params"]
    assert parameters["tls_minimum_protocol_version"] == "TLSv1_2"
    assert parameters["tls_maximum_protocol_version"] == "TLSv1_3"
    assert served[CDS].keys() == {CLUSTER, f"{CLUSTER}|local"}
    local = served[CDS][f"{CLUSTER}|local"]
    assert local["type"] == "STRICT_DNS"
    [endpoint] = local["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoint["endpoint"]["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 14001}
    outbound = served[LDS]["outbound-listener"]["filter_chains"]
    assert [c["name"] for c in outbound] == ["outbound_httpbin/httpbin_14001_http"]
    assert served[RDS].keys() == {"rds-outbound.14001", "rds-inbound.14001"}
    for config, kind in (("rds-inbound.14001", "inbound"), ("rds-outbound.14001", "outbound")):
        [host] = served[RDS][config]["virtual_hosts"]
        assert host["name"] == f"{kind}_virtual-host|{FQDN}"
        assert set(host["domains"]) == _domains("httpbin", "httpbin", 14001, own=True)
        assert len(host["domains"]) == 10
    [route] = served[RDS]["rds-inbound.14001"]["virtual_hosts"][0]["routes"]
    [weighted] = route["route"]["weighted_clusters"]["clusters"]
    assert weighted["name"] == f"{CLUSTER}|local"


@pytest.mark.parametrize("pod", ["curl/curl-1", "httpbin/httpbin-1"])
def test_a_gld_03_upstream_tls(golden: World, pod: str) -> None:
    """The client shows its own certificate, pins the service's accounts, and asks for the service by name."""
    served = _served(golden, pod)
    cluster = served[CDS][CLUSTER]
    tls = cluster["transport_socket"]["typed_config"]
    assert tls["@type"].endswith(".UpstreamTlsContext")
    assert tls["sni"] == FQDN
    common = tls["common_tls_context"]
    assert common["alpn_protocols"] == ["osm"]
    [own] = common["tls_certificate_sds_secret_configs"]
    assert own["name"] == "service-cert"
    root = "root-cert-for-mtls-outbound:httpbin/httpbin"
    assert _secrets({"x": {"y": common}}) == sorted(["service-cert", root])
    context = served[SDS][root]["validation_context"]
    names = context["match_typed_subject_alt_names"]
    assert [(n["san_type"], n["matcher"]["exact"]) for n in names] == [("DNS", "httpbin.httpbin.cluster.local")]
    [options] = cluster["typed_extension_protocol_options"].values()
    assert "use_downstream_protocol_config" in options
    assert "http2_protocol_options" in options["use_downstream_protocol_config"]
    [thresholds] = cluster["circuit_breakers"]["thresholds"]
    assert thresholds == {
        "max_connections": MAX,
        "max_pending_requests": MAX,
        "max_requests": MAX,
        "max_retries": MAX,
        "track_remaining": True,
    }


def test_own_certificate_answers_to_its_upstream_name_only_for_itself(golden: World) -> None:
    """`service-cert:<own namespace>/<own account>` is the same secret; another identity's name gets nothing."""
    with Sotw(golden, golden.pods["curl/curl-1"]) as client:
        got = client.fetch_all(SDS, ["service-cert:curl/curl"])
        assert got.keys() == {"service-cert:curl/curl"}
        assert to_dict(got["service-cert:curl/curl"])["tls_certificate"]["private_key"]
    with Sotw(golden, golden.pods["curl/curl-1"]) as client:
        client.send(SDS, ["service-cert:httpbin/httpbin", "service-cert"])
        got = client.expect(SDS)
        assert got.resources.keys() == {"service-cert"}
        client.ack(got)
        client.silent()
