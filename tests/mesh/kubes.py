"""Objects for a real API server, in the few forms that its tests need."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def deployment(ns: str, name: str, replicas: int, *, image: str = "app", ports: dict[str, int] | None = None) -> Object:
    """A Deployment whose pods are labelled app=NAME; named container ports."""
    container: Object = {"name": "app", "image": image}
    if ports:
        container["ports"] = [{"name": n, "containerPort": p} for n, p in ports.items()]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": ns},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}},
        },
    }


def service(ns: str, name: str, port: int, target: int | str) -> Object:
    """A Service of the pods that are labelled app=NAME."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": ns},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": port, "targetPort": target}]},
    }


def widgets(group: str) -> Object:
    """A CustomResourceDefinition: Widgets of two versions, both served, with a size that is a number."""
    schema = {
        "openAPIV3Schema": {
            "type": "object",
            "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}},
        }
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": schema},
                {"name": "v1alpha1", "served": True, "storage": False, "schema": schema},
            ],
        },
    }
