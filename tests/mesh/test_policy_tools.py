"""The commands for authors of policies, as an author runs them: osm policy check and test. No daemon, no network."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from rig import Daemon, World, free_port
from rig.daemon import ROOT, build_dir

SHIPPED = ROOT / "policies"
EXAMPLE = ROOT / "lua" / "example"

MODULE = """local M = {{ api = 1 }}
M.kinds = {{ Shop = {{ group = "acme.example", versions = {{ "v1" }},
  accept = function(shop, reject)
    if not shop.spec then reject({{ "spec" }}, "is missing") end
  end }} }}
M.rules = {{}}
function M.rules.all()
  return {{ {{ "all" }} }}
end
M.emit = {{
  shops = {{ each = "Shop", run = function(mesh, _, namespace, name)
    {shop}
  end }},
  once = {{ each = "all", run = function(mesh, out)
    {once}
  end }},
}}
return M
"""
SPEC = 'describe("a folder of specs", function() it("holds", function() %s end) end)\n'
SHOP = "apiVersion: acme.example/v1\nkind: Shop\nmetadata: {name: %s, namespace: a}\n"

MAINTENANCE = (
    "apiVersion: acme.example/v1\nkind: Maintenance\n"
    "metadata: {name: books, namespace: a}\nspec: {host: %s, port: 80}\n"
)
TARGET = (
    "apiVersion: access.smi-spec.io/v1alpha3\nkind: TrafficTarget\nmetadata: {name: t, namespace: a}\nspec:\n"
    "  destination: {kind: ServiceAccount, name: b, namespace: a}\n"
    "  sources: [{kind: ServiceAccount, name: %s, namespace: a}]\n"
    "  rules: [{kind: HTTPRouteGroup, name: any}]\n"
)
NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {openservicemesh.io/monitored-by: osm}}\n"


def sanitizer() -> dict[str, str]:
    """What a Lua that is not sanitized needs to load a library that is."""
    library = build_dir() / "osm_spec.so"
    if "libasan" not in subprocess.run(["ldd", library], capture_output=True, text=True, check=True).stdout:
        return {}
    asan = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    return {"LD_PRELOAD": asan.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0"}


def osm(
    *arguments: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs `osm policy ...`."""
    environment = os.environ | (sanitizer() if "test" in arguments else {}) | (env or {})
    command = [str(build_dir() / "osm"), "policy", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd, env=environment, check=False)


def plant(top: Path, files: dict[str, str]) -> Path:
    """Writes files below a folder."""
    for name, text in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    return top


@pytest.fixture
def bundle(tmp_path: Path) -> Callable[..., Path]:
    """A small bundle whose emitters do what a test says."""

    def make(shop: str = "", once: str = "") -> Path:
        return plant(tmp_path / "mine", {"acme/shop.lua": MODULE.format(shop=shop, once=once)})

    return make


# --- check


def test_check_of_the_shipped_policies_is_fine_and_says_how_many_there_are() -> None:
    """One line, exit code 0, the same digest and figures in both forms."""
    done = osm("check", SHIPPED)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = r"(\d+) modules, (\d+) kinds, (\d+) indexes, (\d+) rules, (\d+) emitters"
    match = re.fullmatch(f"fine: {counts}, 0 objects, 0 proxies, digest ([0-9a-f]{{64}})\n", done.stdout)
    assert match
    told = json.loads(osm("check", SHIPPED, "-o", "json").stdout)
    names = ("modules", "kinds", "indexes", "rules", "emitters", "digest")
    assert [str(told[name]) for name in names] == list(match.groups())
    assert told["ok"] is True
    assert told["errors"] == told["rejects"] == []
    assert told["modules"] == len(list(SHIPPED.rglob("*.lua")))


@pytest.mark.parametrize(
    ("files", "place", "text"),
    [
        ({"a/b.lua": "local M = {\nreturn M\n"}, "a/b.lua:2", "expected"),
        ({"a/b.lua": "local M = { api = 1 }\nM.rulez = {}\nreturn M\n"}, "a/b.lua:2", "do you mean"),
        (
            {"a/b.lua": "local M = { api = 1, rules = {} }\nfunction M.rules.x(mesh)\n mesh.no()\nend\nreturn M\n"},
            "a/b.lua:3",
            "mesh.no: nobody declares it",
        ),
        ({"a/b.lua": 'local M = {}\nlocal x = require("a.c")\nreturn M\n'}, "a/b.lua:2", "there is no a/c.lua"),
        ({"a/b.lua": "local M = {}\nM.x = nil + 1\nreturn M\n"}, "a/b.lua:2", "arithmetic"),
        (
            {
                "a/b.lua": "local M = { api = 1, rules = { x = print } }\nreturn M\n",
                "a/c.lua": "local M = { api = 1, rules = { x = print } }\nreturn M\n",
            },
            "a/c.lua:1",
            "declared already",
        ),
    ],
)
def test_check_places_what_keeps_policies_from_loading(
    tmp_path: Path, files: dict[str, str], place: str, text: str
) -> None:
    """file:line: text with a path that an editor can open from here; exit code 1."""
    done = osm("check", plant(tmp_path / "mine", files))
    first = done.stdout.splitlines()[0]
    assert done.returncode == 1, done.stdout
    assert first.startswith(f"{tmp_path}/mine/{place}: ")
    assert text in first
    assert done.stdout.endswith("1 error, 0 rejected: the policies do not load\n")


def test_check_of_a_folder_without_modules_names_the_folder(tmp_path: Path) -> None:
    """No line is made up, and the folder is named once."""
    done = osm("check", plant(tmp_path / "mine", {"spec/a_spec.lua": "", "b_spec.lua": ""}))
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == f"{tmp_path}/mine: holds no *.lua file"
    assert osm("docs", tmp_path / "mine").stderr == f"osm: {tmp_path}/mine: holds no *.lua file\n"


def test_check_runs_what_is_said_once_for_all_also_without_objects(bundle: Callable[..., Path]) -> None:
    """An emitter over a rule without a key runs in an empty mesh; its error has its line."""
    mine = bundle(once='out.cluster { name = "x" }')
    done = osm("check", mine)
    assert done.returncode == 1
    first = done.stdout.splitlines()[0]
    assert first.startswith(f"{mine}/acme/shop.lua:15: emitter acme/shop.once(all)"), done.stdout
    assert "audience" in first


def test_check_tells_errors_of_rules_and_rejected_objects_apart(bundle: Callable[..., Path], tmp_path: Path) -> None:
    """Exit code 3 where only objects are at fault, 1 as soon as a rule is; each at its own place."""
    objects = plant(
        tmp_path / "objects",
        {"namespace.yaml": NAMESPACE, "sub/shops.yaml": "# shops\n" + SHOP % "good" + "spec: {}\n---\n" + SHOP % "bad"},
    )
    done = osm("check", bundle(), "--objects", objects)
    assert done.returncode == 3, done.stdout
    assert done.stdout.splitlines()[0] == f"{objects}/sub/shops.yaml:7: Shop a/bad spec: is missing (acme/shop)"
    assert (
        "0 errors, 1 rejected: 1 modules, 1 kinds, 0 indexes, 1 rules, 2 emitters, 3 objects, 0 proxies" in done.stdout
    )

    done = osm("check", bundle(shop='error("no " .. name)'), "--objects", f"{objects}/")
    lines = done.stdout.splitlines()
    assert done.returncode == 1, done.stdout
    assert lines[0] == f"{tmp_path}/mine/acme/shop.lua:12: emitter acme/shop.shops(a, good): no good"
    assert lines[1].startswith(f"{objects}/sub/shops.yaml:7: ")

    told = json.loads(osm("check", bundle(shop='error("no " .. name)'), "--objects", objects, "-o", "json").stdout)
    assert told["ok"] is False
    assert told["errors"] == [
        {"file": f"{tmp_path}/mine/acme/shop.lua", "line": 12, "text": lines[0].split(": ", 1)[1]}
    ]
    assert [(r["file"], r["line"]) for r in told["rejects"]] == [(f"{objects}/sub/shops.yaml", 7)]


def test_check_places_manifests_that_cannot_be_read(bundle: Callable[..., Path], tmp_path: Path) -> None:
    """A file in error is a rejected file: its line, exit code 3; the other files count."""
    objects = plant(
        tmp_path / "objects", {"bad.yaml": "kind: Shop\nmetadata: [\n", "good.yaml": SHOP % "good" + "spec: {}\n"}
    )
    done = osm("check", bundle(), "--objects", objects)
    assert done.returncode == 3, done.stdout
    assert re.match(rf"{re.escape(str(objects))}/bad.yaml:[23]: ", done.stdout), done.stdout
    assert ", 1 objects, " in done.stdout


def test_check_says_when_no_policy_sees_an_object(bundle: Callable[..., Path], tmp_path: Path) -> None:
    """A namespace that nobody has labelled hides what lies in it: no error, but not in silence. --mesh-name counts."""
    objects = plant(
        tmp_path / "objects",
        {"shops.yaml": SHOP % "x" + "spec: {}\n", "b.yaml": NAMESPACE.replace("name: a", "name: b")},
    )
    done = osm("check", bundle(), "--objects", objects)
    assert done.returncode == 0
    assert "no policy sees 1 of the objects" in done.stderr
    assert "monitored-by: osm" in done.stderr
    plant(objects, {"a.yaml": NAMESPACE})
    assert osm("check", bundle(), "--objects", objects).stderr == ""
    done = osm("check", bundle(), "--objects", objects, "--mesh-name", "other")
    assert "monitored-by: other" in done.stderr


@pytest.mark.parametrize(
    ("module", "finding"),
    [
        (
            "local n = 0\nlocal M = { api = 1 }\nM.rules = { one = function() return { { 1 } } end }\n"
            "M.emit = { e = { each = 'one', run = function() n = n + 1 end } }\nreturn M\n",
            'the local "n" changed while rules ran',
        ),
        (
            "local M = { api = 1 }\nM.rules = { one = function() return { { 1 } } end }\n"
            "M.emit = { e = { each = 'one', run = function(mesh) mesh.one()[1][1] = 2 end } }\nreturn M\n",
            "one() was changed by one of its readers",
        ),
    ],
    ids=["state", "write"],
)
def test_check_finds_rules_that_keep_state_or_write_into_answers(tmp_path: Path, module: str, finding: str) -> None:
    """The first run tells, in a release build too."""
    done = osm("check", plant(tmp_path / "mine", {"m.lua": module}))
    assert done.returncode == 1
    assert finding in done.stdout
    assert done.stdout.splitlines()[0].split(":")[0].endswith(".lua")


def test_check_shows_what_a_policy_prints(bundle: Callable[..., Path]) -> None:
    """print is for the author, beside the findings."""
    done = osm("check", bundle(once='print("here", 7)'))
    assert done.returncode == 0
    assert json.loads(done.stderr)["text"] == "here 7"


def test_check_makes_of_objects_what_the_daemon_makes_of_them(tmp_path: Path) -> None:
    """The same rejects as `osm status` has, and the same bundle."""
    source = plant(
        tmp_path / "objects",
        {
            "a.yaml": NAMESPACE,
            "split.yaml": "apiVersion: split.smi-spec.io/v1alpha2\nkind: TrafficSplit\n"
            "metadata: {name: s, namespace: a}\nspec: {service: gone, backends: [{service: gone-too, weight: 1}]}\n",
            "target.yaml": "apiVersion: access.smi-spec.io/v1alpha3\nkind: TrafficTarget\n"
            "metadata: {name: t, namespace: a}\n"
            "spec: {destination: {kind: ServiceAccount, name: x, namespace: b}, sources: [], rules: []}\n",
        },
    )
    told = json.loads(osm("check", SHIPPED, "--objects", source, "-o", "json").stdout)
    daemon = Daemon(tmp_path / "controller", source, ads=f"127.0.0.1:{free_port('127.0.0.1')}").start()
    try:
        daemon.osm("wait", "--applied")
        status = daemon.status()
    finally:
        daemon.stop()
    by_daemon = sorted(f"{r['object']} {r['path']}: {r['reason']}" for r in status["rejects"])
    assert len(by_daemon) >= 3
    assert sorted(re.sub(r" \([^()]*\)$", "", r["text"]) for r in told["rejects"]) == by_daemon
    assert status["policy"]["digest"] == told["digest"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("check",),
        ("check", "absent"),
        ("check", str(SHIPPED), "absent"),
        ("check", str(SHIPPED), "--objects", "absent"),
        ("chekc", "x"),
        ("test",),
        ("test", "absent"),
        ("test", str(EXAMPLE), "--policies", "absent"),
        ("annotations", str(SHIPPED)),
        ("docs", "absent"),
        ("init",),
        ("init", "mine", "--policies", "absent"),
        ("init", str(EXAMPLE)),
    ],
)
def test_wrong_words_and_missing_directories_are_usage_errors(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Exit code 2, the reason on stderr, nothing on stdout."""
    done = osm(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    if "absent" in arguments:
        assert "absent: No such file or directory" in done.stderr
    else:
        assert done.stderr.startswith("osm: ")


# --- test


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """An operator's own directory: the example."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "shop"))


def test_the_example_of_the_page_lies_over_the_shipped_policies(shop: Path) -> None:
    """Without a finding; the page shows the very file, and its rejects and digest are those of both directories."""
    objects = plant(shop.parent / "objects", {"a.yaml": NAMESPACE, "m.yaml": MAINTENANCE % "'*.example'"})
    alone, both = json.loads(osm("check", SHIPPED, "-o", "json").stdout), osm("check", SHIPPED, shop, "-o", "json")
    told = json.loads(both.stdout)
    assert (both.returncode, told["modules"], told["kinds"]) == (0, alone["modules"] + 1, alone["kinds"] + 1)
    assert told["digest"] != alone["digest"]
    done = osm("check", SHIPPED, shop, "--objects", objects)
    assert done.returncode == 3
    assert done.stdout.startswith(
        f"{objects}/m.yaml:1: Maintenance a/books spec.host: must be one host (acme/maintenance)\n"
    )
    page = (SHIPPED / "README.md").read_text()
    assert "`acme/maintenance.lua`:\n\n```lua\n" + (EXAMPLE / "acme/maintenance.lua").read_text() in page


def test_an_error_of_a_replacing_file_is_placed_in_it_and_a_change_below_is_a_warning(tmp_path: Path) -> None:
    """Of two files of one path the one that counts is named."""
    text = (SHIPPED / "smi/regex.lua").read_text()
    mine = plant(tmp_path / "mine", {"smi/regex.lua": "-- replaces: 0000\n" + text})
    done = osm("check", SHIPPED, mine)
    assert done.returncode == 0
    assert done.stdout.startswith(f"{mine}/smi/regex.lua:1: warning: was written to replace version 0000 of the file")
    assert [w["file"] for w in json.loads(osm("check", SHIPPED, mine, "-o", "json").stdout)["warnings"]] == [
        f"{mine}/smi/regex.lua"
    ]
    plant(tmp_path / "mine", {"smi/regex.lua": text + "\nx ="})
    done = osm("check", SHIPPED, mine)
    assert done.returncode == 1
    assert done.stdout.startswith(f"{mine}/smi/regex.lua:{len(text.splitlines()) + 2}: "), done.stdout


def test_output_that_cannot_be_written_fails_the_command() -> None:
    """A full disk leaves half a page, and no exit code 0."""
    for command in ("docs", "check"):
        with Path("/dev/full").open("w") as full:
            argv = [build_dir() / "osm", "policy", command, SHIPPED]
            done = subprocess.run(argv, stdout=full, timeout=120, check=False)
        assert done.returncode == 1, command


def test_a_link_to_nowhere_is_named(tmp_path: Path) -> None:
    """The file itself, not the first directory."""
    mine = plant(tmp_path / "mine", {"acme/x.lua": "return { api = 1 }\n"})
    (mine / "acme/y.lua").symlink_to("/nonexistent/y.lua")
    done = osm("check", SHIPPED, mine)
    assert done.returncode == 1
    assert done.stdout.startswith(f"{mine}/acme/y.lua: No such file or directory\n"), done.stdout


def test_a_finding_is_one_line_whatever_an_object_holds(tmp_path: Path) -> None:
    """A name with a line break writes no finding of its own, and no terminal's commands."""
    objects = plant(tmp_path / "objects", {"a.yaml": NAMESPACE + "---\n" + TARGET % '"x\\ny.yaml:1: \\e[31mfine"'})
    done = osm("check", SHIPPED, "--objects", objects)
    assert done.returncode == 3
    assert '"x\\x0ay.yaml:1: \\x1b[31mfine" is not the name of an account' in done.stdout, done.stdout
    assert all(line.startswith((f"{objects}/a.yaml:", "0 errors")) for line in done.stdout.splitlines()), done.stdout


def test_specs_of_an_operator_run_over_their_own_policies(shop: Path, tmp_path: Path) -> None:
    """From any folder, over the shipped policies and, said aloud, over others; both specs of the example pass."""
    assert osm("test", shop, cwd=tmp_path).returncode == 0
    done = osm("test", shop, "--policies", SHIPPED, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 successes / 0 failures / 0 errors" in done.stdout


def test_a_failing_spec_fails_the_command_and_a_filter_chooses(shop: Path) -> None:
    """Exit code 1 however many fail, and the line of the spec; -k takes names as they are."""
    spec = (EXAMPLE / "acme/maintenance_spec.lua").read_text().replace("status = 503", "status = 418")
    failing = "for i = 1, 3 do\n  it('is (bad) ' .. i, function() assert.equal(1, 2) end)\nend\n"
    plant(shop, {"acme/maintenance_spec.lua": spec.replace("  it(", failing + "  it(", 1)})
    done = osm("test", shop)
    assert done.returncode == 1
    assert "1 success / 4 failures" in done.stdout
    assert "acme/maintenance_spec.lua:" in done.stdout
    assert osm("test", shop, "-k", "rejects a pattern").returncode == 0
    done = osm("test", shop, "-k", "(bad) 2")
    assert done.returncode == 1
    assert "0 successes / 1 failure" in done.stdout


def test_specs_find_their_own_helpers_and_our_world_whatever_lies_around(shop: Path, tmp_path: Path) -> None:
    """require from the folder that is tested; spec.world is the library's own, not the current folder's."""
    plant(shop, {"spec/helpers.lua": "return { answer = 42 }\n"})
    body = 'assert.equal(42, require("spec.helpers").answer) require("spec.world").from("")'
    plant(shop, {"spec/h_spec.lua": SPEC % body})
    plant(tmp_path / "elsewhere", {"spec/world.lua": "error('a stranger')\n"})
    done = osm("test", shop, "-k", "of specs holds", cwd=tmp_path / "elsewhere")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 success / 0 failures / 0 errors" in done.stdout
    assert osm("check", SHIPPED, shop).returncode == 0


def test_missing_busted_is_named_with_its_package(shop: Path, tmp_path: Path) -> None:
    """What to install, not a file that was not found."""
    done = osm("test", shop, env={"PATH": str(tmp_path)})
    assert done.returncode == 1
    assert "there is no busted: install the packages lua-busted and lua5.4" in done.stderr


def test_a_filter_that_chooses_nothing_is_no_pass(shop: Path) -> None:
    """A misspelt -k in a pipeline would else pass for ever."""
    done = osm("test", shop, "-k", "no such (name)")
    assert done.returncode == 1
    assert "osm: policy test: no test ran" in done.stderr


def test_a_spec_without_tests_is_no_pass_whatever_it_prints(tmp_path: Path) -> None:
    """Only tests that ran count."""
    done = osm("test", plant(tmp_path / "mine", {"a_spec.lua": 'print("fine")\n'}))
    assert (done.returncode, done.stderr) == (1, "osm: policy test: no test ran\n")


def test_a_folder_without_specs_is_no_pass(tmp_path: Path) -> None:
    """Nothing was tested."""
    done = osm("test", plant(tmp_path / "mine", {"acme/a.lua": "return {}\n"}), "--policies", SHIPPED)
    assert done.returncode == 1
    assert "holds no *_spec.lua" in done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs as a package would install them, and nothing else."""
    prefix = tmp_path_factory.mktemp("installed")
    subprocess.run(
        ["cmake", "--install", build_dir(), "--prefix", prefix], check=True, capture_output=True, timeout=120
    )
    return prefix


def test_an_installed_osm_finds_its_library_its_world_and_the_shipped_policies(installed: Path, tmp_path: Path) -> None:
    """On a laptop without this repository: no OSM_BUILD, a folder with nothing but specs."""
    body = 'assert.equal(false, require("spec.world").from(""):ask("permissive"))'
    mine = plant(tmp_path / "mine", {"t_spec.lua": SPEC % body})
    environment = {k: v for k, v in os.environ.items() if k not in ("OSM_BUILD", "OSM_POLICIES")}
    environment |= sanitizer()
    command = [installed / "bin/osm", "policy", "test", mine]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, cwd=tmp_path, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 success / 0 failures / 0 errors" in done.stdout


# --- init


def test_a_new_folder_of_policies_loads_passes_its_spec_and_is_served(tmp_path: Path) -> None:
    """From nothing to what a sidecar is told, by the very commands that init prints."""
    mine = tmp_path / "mine"
    done = osm("init", mine)
    assert done.returncode == 0, done.stderr
    check, test, run = (line.strip() for line in done.stdout.splitlines()[1:])
    assert run.startswith("osm-controller ")
    for command in (check, test):
        words = command.split()
        assert words[:2] == ["osm", "policy"]
        done = osm(*words[2:])
        assert done.returncode == 0, done.stdout + done.stderr
    policies = [Path(run.split()[i + 1]) for i, word in enumerate(run.split()) if word == "--policies"]
    assert policies[1:] == [mine]
    with World(real=False, permissive=True, policies=policies) as world:
        world.namespace("blue")
        world.pod("blue", "shop", account="shop", labels={"app": "shop"}, ports=[{"containerPort": 8080}])
        world.service("blue", "shop", [{"port": 80, "targetPort": 8080}], {"app": "shop"})
        world.wait()
        served = json.loads(world.daemon.osm("proxy", "get", "config", "blue/shop", "CDS", "-o", "json"))
    clusters = {each["name"]: each for each in served["CDS"]}
    assert clusters["blue/shop|8080"]["connect_timeout"] == "2s"
    assert "connect_timeout" not in clusters["blue/shop|8080|local"]


def _tree(top: Path) -> dict[str, str]:
    return {str(path.relative_to(top)): path.read_text() for path in top.rglob("*") if path.is_file()}


def test_init_leaves_what_the_author_has_changed(tmp_path: Path) -> None:
    """A folder with something in it is refused; by --force it gets what it lacks, and what was written for an older
    release and not changed since is brought up to date."""
    mine = tmp_path / "mine"
    older = plant(
        Path(shutil.copytree(SHIPPED, tmp_path / "older")),
        {"osm/gone.lua": "--- Of that release only.\nreturn { api = 1 }\n", "osm/gone_too.lua": "return { api = 1 }\n"},
    )
    assert osm("init", mine, "--policies", older).returncode == 0
    old = _tree(mine)
    assert ".osm/policies/osm/gone.lua" in old
    refused = osm("init", mine)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "is not empty" in refused.stderr
    assert _tree(mine) == old
    own = {
        "acme/connect_timeout.lua": old["acme/connect_timeout.lua"].replace('"2s"', '"3s"'),
        "acme/own.lua": "return { api = 1 }\n",
        ".luarc.json": "{}\n",
        ".osm/policies/osm/gone_too.lua": "return { api = 1 } -- noted\n",
    }
    plant(mine, own)
    (mine / ".osm/mesh/id.lua").unlink()
    done = osm("init", mine, "--force", "--policies", SHIPPED)
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert told[:2] == [
        f"{mine}/acme/connect_timeout.lua: is yours and stays as it is",
        f'{mine}/.luarc.json: is there and stays: add ".osm" to its workspace.library',
    ]
    assert len(told) == 2 + 4
    now = _tree(mine)
    assert {name: now[name] for name in own} == own
    assert now.keys() == (old.keys() | own.keys()) - {".osm/policies/osm/gone.lua"}
    assert now[".osm/mesh.lua"] != old[".osm/mesh.lua"]  # it says for which policies it was written
    assert now[".osm/mesh/id.lua"] == old[".osm/mesh/id.lua"]


def _tree(top: Path) -> dict[str, str]:
    return {str(path.relative_to(top)): path.read_text() for path in top.rglob("*") if path.is_file()}
