"""Definitions of the kinds that the mesh reads, of any content, for an API server that nobody else has prepared."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

# group, kind, plural, versions: all are served, the first is stored
KINDS = [
    ("access.smi-spec.io", "TrafficTarget", "traffictargets", ["v1alpha3", "v1alpha2", "v1alpha1"]),
    ("specs.smi-spec.io", "HTTPRouteGroup", "httproutegroups", ["v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"]),
    ("specs.smi-spec.io", "TCPRoute", "tcproutes", ["v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"]),
    ("specs.smi-spec.io", "UDPRoute", "udproutes", ["v1alpha4"]),
    ("split.smi-spec.io", "TrafficSplit", "trafficsplits", ["v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"]),
    ("config.openservicemesh.io", "MeshConfig", "meshconfigs", ["v1alpha2", "v1alpha1"]),
    ("config.openservicemesh.io", "MeshRootCertificate", "meshrootcertificates", ["v1alpha2"]),
    ("policy.openservicemesh.io", "Egress", "egresses", ["v1alpha1"]),
    ("policy.openservicemesh.io", "IngressBackend", "ingressbackends", ["v1alpha1"]),
    ("policy.openservicemesh.io", "Retry", "retries", ["v1alpha1"]),
    ("policy.openservicemesh.io", "UpstreamTrafficSetting", "upstreamtrafficsettings", ["v1alpha1"]),
]


def definition(group: str, kind: str, plural: str, versions: list[str]) -> Object:
    """A CustomResourceDefinition that lets everything pass."""
    anything = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": names,
            "versions": [
                {"name": v, "served": True, "storage": v == versions[0], "schema": anything} for v in versions
            ],
        },
    }


def mesh_kinds() -> list[Object]:
    """The definitions of all kinds."""
    return [definition(*each) for each in KINDS]
