"""Definitions of the kinds that the mesh reads: those that the chart ships, and others of any content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

FILES = Path(__file__).resolve().parents[2] / "charts" / "osm" / "crds"


def mesh_kinds() -> list[Object]:
    """The definitions of all kinds."""
    return [yaml.safe_load(path.read_text()) for path in sorted(FILES.glob("*.yaml"))]


def _kind(crd: Object) -> tuple[str, str, str, list[str]]:
    spec = crd["spec"]
    versions = [version["name"] for version in spec["versions"]]
    return spec["group"], spec["names"]["kind"], spec["names"]["plural"], versions


# group, kind, plural, versions, the newest first
KINDS = [_kind(crd) for crd in mesh_kinds()]


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
