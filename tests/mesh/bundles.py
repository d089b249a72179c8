"""Policies that change while the daemon runs: overlays to write, and what the daemon says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rig import World
from rig.daemon import ROOT, CommandError
from rig.objects import HTTP_8080

SHIPPED = ROOT / "policies"

TIMEOUT = """
return {{ api = 1, extends = {{ cluster = {{ run = function(_, cluster, at)
  if at.direction == "outbound" then cluster.connect_timeout = "{seconds}s" end
end }} }} }}
"""
# Envoy looks at the words of a format only when it takes the listener: nothing here can know that they are wrong.
REFUSED = """
local M = { api = 1 }
M.extends = { listener = { run = function(_, listener)
  listener.access_log = { { name = "a", typed_config = {
    ["@type"] = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
    log_format = { text_format_source = { inline_string = "%NO_SUCH_WORD%" } } } } }
end } }
return M
"""
OPENS = """
return { api = 1, wraps = { grants = function(mesh, original, namespace, account)
  local grants = {}
  for _, grant in ipairs(original(namespace, account)) do grants[#grants + 1] = grant end
  if account == "shop" then
    grants[#grants + 1] = { name = "acme", sources = { "red/caller2" }, matches = { { path = ".*", methods = { "*" },
      headers = {} } } }
  end
  return grants
end } }
"""


def generations(world: World) -> dict[str, Any]:
    return json.loads(world.daemon.osm("policy", "list", "-o", "json"))


def states(world: World) -> dict[str, int]:
    """How many generations are in each state."""
    states: dict[str, int] = {}
    for generation in generations(world)["generations"]:
        states[generation["state"]] = states.get(generation["state"], 0) + 1
    return states


def reload(world: World, *flags: str) -> dict[str, Any]:
    """`osm policy reload`; the outcome, whatever it is."""
    try:
        return json.loads(world.daemon.osm("policy", "reload", "-o", "json", *flags))
    except CommandError as error:
        assert error.exit == 1
        return json.loads(error.stdout)


def clusters(world: World, pod: str) -> dict[str, dict[str, Any]]:
    served = json.loads(world.daemon.osm("proxy", "get", "config", pod, "CDS", "-o", "json"))
    return {each["name"]: each for each in served["CDS"]}


def write(overlay: Path, name: str, text: str) -> Path:
    """As an editor saves: aside, then under its name."""
    path = overlay / name
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(text)
    aside.rename(path)
    return path


def furnish(world: World) -> None:
    world.namespace("red")
    world.namespace("blue")
    world.pod("red", "caller", account="caller")
    world.pod("red", "caller2", account="caller2")
    world.pod("blue", "shop", account="shop", labels={"app": "shop"}, ports=[{"containerPort": 8080}])
    world.service("blue", "shop", HTTP_8080, {"app": "shop"})
