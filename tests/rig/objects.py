"""Policy objects as dictionaries, in the few forms that tests and demo need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Object = dict[str, Any]

HTTP_8080: list[Object] = [{"name": "http", "port": 80, "targetPort": 8080, "appProtocol": "http"}]


def account_ref(name: str) -> Object:
    """`namespace/account` as a reference to a ServiceAccount."""
    ns, _, account = name.partition("/")
    return {"kind": "ServiceAccount", "name": account, "namespace": ns}


def target(
    ns: str,
    name: str,
    destination: str,
    sources: Sequence[str],
    *rules: Object,
    group: str = "",
    matches: Sequence[str] = (),
) -> Object:
    """A TrafficTarget; destination and sources as `namespace/account`. `group` and `matches` are one HTTPRouteGroup
    rule."""
    listed = list(rules)
    if group:
        rule: Object = {"kind": "HTTPRouteGroup", "name": group}
        if matches:
            rule["matches"] = list(matches)
        listed.append(rule)
    return {
        "apiVersion": "access.smi-spec.io/v1alpha3",
        "kind": "TrafficTarget",
        "metadata": {"name": name, "namespace": ns},
        "spec": {
            "destination": account_ref(destination),
            "sources": [account_ref(s) for s in sources],
            "rules": listed,
        },
    }


def match(name: str, path: str = "", methods: Sequence[str] = (), headers: Sequence[dict[str, str]] = ()) -> Object:
    """One match of an HTTPRouteGroup; what is not given is not written."""
    out: Object = {"name": name}
    if path:
        out["pathRegex"] = path
    if methods:
        out["methods"] = list(methods)
    if headers:
        out["headers"] = list(headers)
    return out


def routes(ns: str, name: str, *matches: Object) -> Object:
    """An HTTPRouteGroup."""
    return {
        "apiVersion": "specs.smi-spec.io/v1alpha4",
        "kind": "HTTPRouteGroup",
        "metadata": {"name": name, "namespace": ns},
        "spec": {"matches": list(matches)},
    }


def tcp_route(ns: str, name: str, *ports: int) -> Object:
    """A TCPRoute; without ports, any."""
    return {
        "apiVersion": "specs.smi-spec.io/v1alpha4",
        "kind": "TCPRoute",
        "metadata": {"name": name, "namespace": ns},
        "spec": {"matches": {"ports": list(ports)} if ports else {}},
    }


def split(ns: str, name: str, apex: str, **weights: int) -> Object:
    """A TrafficSplit; backends as keywords, `_` for `-`."""
    backends = [{"service": k.replace("_", "-"), "weight": v} for k, v in weights.items()]
    return {
        "apiVersion": "split.smi-spec.io/v1alpha2",
        "kind": "TrafficSplit",
        "metadata": {"name": name, "namespace": ns},
        "spec": {"service": apex, "backends": backends},
    }


def grant_all(ns: str, destination: str, *sources: str) -> list[Object]:
    """Every path of an account's services for these callers: a route group `any` and a target."""
    return [
        routes(ns, "any", match("any", ".*", ["*"])),
        target(ns, f"to-{destination}", f"{ns}/{destination}", sources, group="any", matches=["any"]),
    ]
