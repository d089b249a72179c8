"""Reads what a sidecar says of itself, over its admin port, from inside its pod."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

from .client import Connection
from .net import Netns

ADMIN_PORT = 15000


class Envoy:
    """The admin port of one Envoy."""

    def __init__(self, netns: Netns) -> None:
        self._netns = netns

    def get(self, path: str) -> str:
        """The body of an admin page. OSError while Envoy is not there."""
        connection = Connection(self._netns, "127.0.0.1", ADMIN_PORT, "admin")
        try:
            status, _, body = connection.get(path)
        finally:
            connection.close()
        if status not in (200, 503):
            raise OSError(f"admin {path}: {status}")
        return body.decode(errors="replace")

    def ready(self) -> bool:
        """Whether it has its first configuration and serves."""
        try:
            return self.get("/ready").strip() == "LIVE"
        except OSError:
            return False

    def stats(self, pattern: str = "") -> dict[str, int]:
        """Counters and gauges whose name matches a regular expression."""
        page = self.get(f"/stats?filter={quote(pattern)}" if pattern else "/stats")
        out: dict[str, int] = {}
        for line in page.splitlines():
            name, _, value = line.rpartition(": ")
            if value.lstrip("-").isdigit():
                out[name] = int(value)
        return out

    def stat(self, name: str) -> int:
        """One counter or gauge; 0 while it does not exist."""
        return self.stats(f"^{re.escape(name)}$").get(name, 0)

    def config_dump(self) -> list[dict[str, Any]]:
        """The whole dynamic configuration, endpoints included."""
        return json.loads(self.get("/config_dump?include_eds"))["configs"]

    def section(self, kind: str) -> dict[str, Any]:
        """One part of the dump: Clusters, Listeners, Routes, Secrets, Endpoints."""
        return next((c for c in self.config_dump() if c["@type"].endswith(f".{kind}ConfigDump")), {})

    def listeners(self) -> dict[str, dict[str, Any]]:
        """Active dynamic listeners by name."""
        found = self.section("Listeners").get("dynamic_listeners", [])
        return {entry["name"]: entry["active_state"]["listener"] for entry in found if "active_state" in entry}

    def clusters(self) -> dict[str, dict[str, Any]]:
        """Active dynamic clusters by name."""
        found = self.section("Clusters").get("dynamic_active_clusters", [])
        return {entry["cluster"]["name"]: entry["cluster"] for entry in found}

    def certs(self) -> list[dict[str, Any]]:
        """The certificates in use."""
        return json.loads(self.get("/certs"))["certificates"]

    def connected(self) -> bool:
        """Whether it has its stream to the control plane."""
        try:
            return self.stat("control_plane.connected_state") == 1
        except OSError:
            return False
