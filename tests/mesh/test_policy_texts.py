"""What is generated for authors: annotations for editors, and the page of all that a policy can ask and say."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rig.daemon import build_dir
from test_policy_tools import SHIPPED, osm, plant

SERVER = os.environ.get("EMMYLUA_CHECK") or shutil.which("emmylua_check")
BUILT_IN = {
    "any",
    "boolean",
    "integer",
    "number",
    "string",
    "table",
    "fun",
    "nil",
    "T",
    "a",
    "b",
    "value",
    "i",
    "true",
    "false",
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of policies with annotations in it, as an author has it open."""
    top = tmp_path_factory.mktemp("annotated") / "policies"
    shutil.copytree(SHIPPED, top)
    done = osm("annotations", top, "--out", top)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return top


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    """What the engine knows of the shipped policies."""
    return dict(json.loads(osm("docs", SHIPPED, "-o", "json").stdout))


def _defined(text: str) -> set[str]:
    return set(re.findall(r"^---@(?:class|alias) (?:\(exact\) )?([\w.]+)", text, re.MULTILINE))


def _types(text: str) -> set[str]:
    """The names of types that annotations mention."""
    found: set[str] = set()
    for line in re.findall(r'^---@(?:field (?:\[".*?"\]|\S+)|param \S+|return|alias [\w.]+) (.*)', text, re.MULTILINE):
        kind = re.sub(r'"[^"]*"', "", line.split(" # ")[0].split("  ")[0])
        found |= set(re.findall(r"[A-Za-z_][\w.]*(?![\w.?]*:)", kind))
    return found


def test_every_declared_name_has_a_text_and_types(described: dict[str, Any]) -> None:
    """Kinds, indexes, facts, rules, emitters, calls of `out`, modules, and the helpers of the runtime."""
    bare = [
        f"{e.get('module', 'host')}:{e.get('line', 0)}: {e['name']} says nothing"
        for section in (
            "kinds",
            "indexes",
            "facts",
            "rules",
            "emitters",
            "extensions",
            "points",
            "out",
            "modules",
            "runtime",
        )
        for e in described[section]
        if not e["text"]
    ]
    functions = [(module, f) for module in described["runtime"] for f in module["functions"]]
    assert len(functions) > 15
    bare += [f"{module['name']}.{f['name']} says nothing" for module, f in functions if not f["text"]]
    for e in (e for section in ("indexes", "facts", "rules") for e in described[section]):
        bare += [f"{e['name']}: no type of {p['name']}" for p in e["params"] if not p["type"] and p["name"] != "_"]
    bare += [
        f"{e['module']}:{e['line']}: {e['name']}: no type of a key" for e in described["indexes"] if not e["params"]
    ]
    bare += [
        f"{e['module']}:{e['line']}: {e['name']}: no type of the answer" for e in described["rules"] if not e["returns"]
    ]
    for module, f in functions:
        if [p["name"].rstrip("?") for p in f["params"]] != f["args"] or not f["returns"]:
            bare.append(f"{module['name']}.{f['name']}: annotated parameters are not {f['args']}, or no answer is")
    assert bare == []
    assert len(described["rules"]) > 20


def test_every_name_that_can_be_asked_for_is_annotated(workspace: Path, described: dict[str, Any]) -> None:
    """One function of mesh.Reader for each, with as many parameters; one of mesh.Out for each form."""
    text = (workspace / ".osm/mesh.lua").read_text()
    declared = dict(re.findall(r"^function Reader\.([\w.]+)\((.*)\) end$", text, re.MULTILINE))
    asked = [e for section in ("kinds", "indexes", "facts", "rules") for e in described[section]]
    assert set(declared) == {e["name"] for e in asked} | {"reject"}
    for e in (e for e in asked if e not in described["kinds"]):
        assert declared[e["name"]] == ", ".join(p["name"].rstrip("?") for p in e["params"])
    forms = re.findall(r"^function Out\.(\w+)\(item\) end$", text, re.MULTILINE)
    assert sorted(forms) == sorted(e["name"] for e in described["out"])


def test_an_operators_names_are_annotated_and_described_beside_ours(tmp_path: Path) -> None:
    """Names with a dot, wraps and extensions: the wrapped rule keeps its own place and text."""
    joins = """local M = { api = 1 }
M.rules = {}
--- Who is banned.
---@param mesh mesh.Reader
---@param account string
---@return boolean
M.rules["acme.banned"] = function(mesh, account) return account == "thief" end
M.extends = {
  --- Adds nothing.
  route = { after = { "smi/routes" }, vary = function() return {} end, run = function() end },
}
M.wraps = {
  --- Takes away from who is banned.
  grants = function(mesh, original, ...) return mesh.acme.banned(select(2, ...)) and {} or original(...) end,
}
return M
"""
    mine = plant(tmp_path / "mine", {"acme/ban.lua": joins})
    told = json.loads(osm("docs", SHIPPED, mine, "-o", "json").stdout)
    rules = {e["name"]: e for e in told["rules"]}
    assert (rules["acme.banned"]["text"], rules["acme.banned"]["line"]) == ("Who is banned.", 7)
    assert rules["grants"]["module"] == "smi/access.lua"
    assert rules["grants"]["params"]
    assert [(w["name"], w["module"], w["text"]) for w in told["wraps"]] == [
        ("grants", "acme/ban.lua", "Takes away from who is banned.")
    ]
    extension = next(e for e in told["extensions"] if e["module"] == "acme/ban.lua")
    assert (extension["name"], extension["after"], extension["varies"]) == ("route", ["smi/routes"], True)
    assert extension["text"] == "Adds nothing."
    page = osm("docs", SHIPPED, mine).stdout
    assert "* extends `route`, after `smi/routes`: Adds nothing.\n" in page
    assert "* wraps `grants`: Takes away from who is banned.\n" in page
    assert osm("annotations", SHIPPED, mine, "--out", mine).returncode == 0
    text = (mine / ".osm/mesh.lua").read_text()
    assert "Reader.acme = Reader.acme or {}\n--- Who is banned.\n" in text
    assert "function Reader.acme.banned(account) end\n" in text
    subprocess.run(["lua5.4", "-e", f"assert(loadfile({json.dumps(str(mine / '.osm/mesh.lua'))}))()"], check=True)
    assert osm("check", SHIPPED, mine).returncode == 0


def test_every_message_of_envoy_is_annotated_and_every_type_is_known(
    workspace: Path, described: dict[str, Any]
) -> None:
    """Nothing is left out, and no annotation names a type that is defined nowhere."""
    index = (build_dir() / "envoy-api/include/envoy_api_index.c").read_text()
    messages = set(re.findall(r'^    \{"([\w.]+)", &\w+, 0, ', index, re.MULTILINE))
    assert len(messages) > 1000
    envoy = (workspace / ".osm/envoy.lua").read_text()
    mesh = (workspace / ".osm/mesh.lua").read_text()
    assert messages <= _defined(envoy)
    assert _types(envoy) - _defined(envoy) - BUILT_IN == set()
    in_modules = {t["name"] for module in described["modules"] for t in module["types"]}
    assert _types(mesh) - _defined(mesh) - _defined(envoy) - in_modules - BUILT_IN == set()


def test_messages_are_annotated_as_they_are_written(workspace: Path) -> None:
    """Durations and Any in their own form, enums by name, keywords as fields, maps, lists, what excludes what."""
    envoy = (workspace / ".osm/envoy.lua").read_text()
    for line in (
        "---@alias google.protobuf.Duration string",
        "---@alias google.protobuf.UInt32Value integer",
        '---@alias google.protobuf.Any { ["@type"]: string, [string]: any }',
        '---| "STRICT_DNS"',
        "---@field connect_timeout? google.protobuf.Duration",
        "---@field typed_extension_protocol_options? table<string, google.protobuf.Any>",
        "---@field filter_chains? envoy.config.listener.v3.FilterChain[]",
        '---@field ["end"] nil|integer',
    ):
        assert f"\n{line}\n" in envoy, line
    route = envoy[: envoy.index("---@class (exact) envoy.config.route.v3.Route\n")].splitlines()[-1]
    assert route == "--- At most one of: route, redirect, direct_response, filter_action, non_forwarding_action."


def test_annotations_are_lua_and_the_folder_stays_a_bundle(workspace: Path) -> None:
    """Each file can be read by Lua; the engine passes over the hidden folder; settings lead a server there."""
    files = sorted((workspace / ".osm").rglob("*.lua"))
    names = {"mesh.lua", "envoy.lua", "id.lua", "list.lua", "str.lua", "regex.lua", "world.lua", "busted.lua"}
    assert {p.name for p in files} == names
    for path in files:
        subprocess.run(["lua5.4", "-e", f"assert(loadfile({json.dumps(str(path))}))"], check=True)
    assert osm("check", workspace).returncode == 0
    settings = json.loads((workspace / ".luarc.json").read_text())
    assert settings["workspace.library"] == [".osm"]
    assert settings["runtime.version"] == "Lua 5.4"
    assert settings["workspace.preloadFileSize"] * 1000 > max(p.stat().st_size for p in files)


def test_settings_of_the_author_stay(tmp_path: Path) -> None:
    """A .luarc.json that is there is not written; what it lacks is said."""
    own = '{"diagnostics.disable": ["lowercase-global"]}\n'
    plant(tmp_path / "mine", {".luarc.json": own})
    for expected in ("is there and stays", "is there and stays"):
        done = osm("annotations", SHIPPED, "--out", tmp_path / "mine")
        assert done.returncode == 0
        assert expected in done.stdout
        assert (tmp_path / "mine/.luarc.json").read_text() == own


def test_annotations_outside_of_the_policies_bring_their_modules_along(tmp_path: Path) -> None:
    """What the shipped modules declare is known where the author's folder is another, on any machine; a file that
    the author replaces is the author's alone."""
    mine = plant(tmp_path / "mine", {"smi/split.lua": (SHIPPED / "smi/split.lua").read_text()})
    assert osm("annotations", SHIPPED, mine, "--out", mine).returncode == 0
    settings = json.loads((mine / ".luarc.json").read_text())
    assert settings["workspace.library"] == [".osm"]
    copied = {str(path.relative_to(mine / ".osm/policies")) for path in (mine / ".osm/policies").rglob("*.lua")}
    assert copied == {str(path.relative_to(SHIPPED)) for path in SHIPPED.rglob("*.lua")} - {"smi/split.lua"}
    assert osm("annotations", SHIPPED, mine, "--out", mine).stdout == ""


def test_every_extension_point_has_a_type(workspace: Path, described: dict[str, Any]) -> None:
    """What `run` is given is one of Envoy's messages, or a list of filters."""
    text = (workspace / ".osm/mesh.lua").read_text()
    for point in described["points"]:
        name = point["name"]
        assert f"\n---@field {name}? mesh.Extension.{name}\n" in text
        section = text[text.index(f"---@class mesh.Extension.{name}: ") :]
        given = re.search(r"it: ([\w.]+),", section)
        assert given, name
        assert given[1] == "mesh.Filters" or given[1].startswith("envoy."), name


def test_docs_and_annotations_of_policies_that_do_not_load_say_where(tmp_path: Path) -> None:
    """As check does, on stderr."""
    mine = plant(tmp_path / "mine", {"a.lua": "local M = {\nreturn M\n"})
    for command in (("docs", mine), ("annotations", mine, "--out", tmp_path / "out")):
        done = osm(*command)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"osm: {mine}/a.lua:2: ")
    assert not (tmp_path / "out").exists()


MISTAKES = """---@param mesh mesh.Reader
---@param out mesh.Out
local function run(mesh, out)
  local backends = mesh.bakends("shop", "cart")
  local first = mesh.backends("shop", "cart")[1]
  local weight = first and first.wait
  ---@type envoy.config.cluster.v3.Cluster
  local cluster = { type = "EDS" }
  cluster.lb_polcy = "ROUND_ROBIN"
  out.clusters { name = "x", audience = "everyone", message = cluster }
  return backends, weight
end
return { run = run }
"""


def _findings(folder: Path) -> set[tuple[str, str]]:
    """What a language server says of a workspace: file and "code: message"."""
    assert SERVER
    done = subprocess.run([SERVER, "-f", "json", "."], capture_output=True, text=True, cwd=folder, check=False)
    files = json.loads(done.stdout[done.stdout.index("[") :])
    return {(Path(f["file"]).name, f"{d['code']}: {d['message']}") for f in files for d in f["diagnostics"]}


@pytest.mark.skipif(not SERVER, reason="no language server: emmylua_check is not installed")
def test_a_language_server_understands_the_annotations(workspace: Path) -> None:
    """No type, module or field that it does not know in the shipped policies; and a mistake of each sort is found."""
    unknown = re.compile("^(undefined|type-not-found|unresolved|doc|syntax|missing-return|redundant|duplicate)")
    assert {f for f in _findings(workspace) if unknown.match(f[1])} == set()
    plant(workspace, {"acme/mistakes.lua": MISTAKES})
    try:
        found = " ".join(message for name, message in _findings(workspace) if name == "mistakes.lua")
    finally:
        shutil.rmtree(workspace / "acme")
    for word in ("bakends", "wait", "lb_polcy", "clusters"):
        assert word in found, found


@pytest.mark.skipif(not SERVER, reason="no language server: emmylua_check is not installed")
def test_a_language_server_has_nothing_to_say_of_a_new_folder_until_a_word_is_wrong(tmp_path: Path) -> None:
    """Also of the spec; and in an extension it knows Envoy's message, the place and what mesh answers."""
    mine = tmp_path / "mine"
    assert osm("init", mine).returncode == 0
    assert _findings(mine) == set()
    module = mine / "acme/connect_timeout.lua"
    text = module.read_text()
    for right, wrong in (
        ("cluster.connect_timeout", "cluster.conect_timeout"),
        ("at.direction", "at.directon"),
        ("(_mesh, cluster, at)", "(mesh, cluster, at) mesh.bakends()"),
    ):
        assert right in text
        module.write_text(text.replace(right, wrong))
        assert _findings(mine), wrong
