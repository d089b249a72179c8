"""The rights that the chart gives the daemon, given to an account of a test's API server; and which of them have been
used, by its audit log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from .daemon import ROOT
from .kube import Kube

Object = dict[str, Any]
Right = tuple[str, str, str]  # API group, resource (with its subresource), verb

CHART = ROOT / "charts" / "osm" / "rbac"
ACCOUNT = "osm"


def rules(roles: Sequence[str]) -> list[Object]:
    """What the chart says of some roles of the daemon: ClusterRoles, and Roles of the mesh's namespace."""
    found = []
    for role in roles:
        found += [o for o in yaml.safe_load_all((CHART / f"{role}.yaml").read_text()) if o]
    return found


def grant(kube: Kube, ns: str, roles: Sequence[str] = ("controller",)) -> Path:
    """The kubeconfig of an account in the mesh's namespace, which is there, with the rights of these roles."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": ns}}
    kube.api.apply(account)
    for rule in rules(roles):
        name, group = rule["metadata"]["name"], "rbac.authorization.k8s.io"
        within = {"namespace": ns} if rule["kind"] == "Role" else {}
        kube.api.apply(rule | {"metadata": {"name": name, **within}})
        kube.api.apply(
            {
                "apiVersion": f"{group}/v1",
                "kind": f"{rule['kind']}Binding",
                "metadata": {"name": name if within else f"{name}.{ns}", **within},
                "roleRef": {"apiGroup": group, "kind": rule["kind"], "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": ns}],
            }
        )
    return kube.account_kubeconfig(ns, ACCOUNT)


def granted(roles: Sequence[str]) -> set[Right]:
    """Every right of these roles."""
    return {
        (group, resource, verb)
        for rule in rules(roles)
        for each in rule["rules"]
        for group in each["apiGroups"]
        for resource in each["resources"]
        for verb in each["verbs"]
    }


def used(events: Iterable[Object], ns: str) -> tuple[set[Right], set[Right]]:
    """What the account has asked for, and got; and what it was refused. Without what every account may: to ask which
    kinds there are."""
    got: set[Right] = set()
    refused: set[Right] = set()
    for event in events:
        if event["user"]["username"] != f"system:serviceaccount:{ns}:{ACCOUNT}" or "objectRef" not in event:
            continue
        asked = event["objectRef"]
        resource = asked["resource"] + (f"/{asked['subresource']}" if asked.get("subresource") else "")
        right = asked.get("apiGroup", ""), resource, event["verb"]
        code = event.get("responseStatus", {}).get("code")
        (refused if code == 403 else got).add(right)
        if event["verb"] == "patch" and code == 201:  # an apply of what was not there: both are asked for
            got.add((*right[:2], "create"))
    return got, refused
