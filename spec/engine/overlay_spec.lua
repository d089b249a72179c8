--- Directories that lie over the shipped policies: replaced and added files, names with a dot, wraps.
local overlay = require("spec.engine.overlay")
local w1 = require("spec.policies.w1")

local function with(files, ...) return w1.over({ "policies", overlay.of(files) }, ...) end

local function load_error(files)
  local ok, message = pcall(with, files)
  assert.is_false(ok)
  return message
end

local function shipped(path)
  local file = assert(io.open("policies/" .. path))
  local text = file:read("a")
  file:close()
  return text
end

local function warnings(mesh) return mesh.at:figures().warnings end

local GRANT = [[
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {name: any, namespace: blue}
spec: {matches: {}}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: any, namespace: blue}
spec: {matches: [{name: any}]}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: t, namespace: blue}
spec:
  destination: {kind: ServiceAccount, name: shop, namespace: blue}
  sources: [{kind: ServiceAccount, name: caller, namespace: red}, {kind: ServiceAccount, name: caller2, namespace: red}]
  rules: [{kind: HTTPRouteGroup, name: any}]
]]

local BANNED = [[
local list = require("mesh.list")
local M = { api = 1 }
M.kinds = {
  ["acme.Ban"] = { group = "acme.example", versions = { "v1" }, schema = { type = "object", properties = { spec = {
    type = "object", required = { "account" }, properties = { account = { type = "string" } } } } } },
}
M.rules = {
  ["acme.banned"] = function(mesh)
    local banned = {}
    for _, key in ipairs(mesh.acme.Ban()) do banned[#banned + 1] = mesh.acme.Ban(key[1], key[2]).spec.account end
    return list.sorted(banned)
  end,
}
M.wraps = {
  grants = function(mesh, original, namespace, account)
    local grants = {}
    for _, grant in ipairs(original(namespace, account)) do
      local sources = {}
      for _, source in ipairs(grant.sources) do
        if not list.contains(mesh.acme.banned(), source) then sources[#sources + 1] = source end
      end
      if #sources > 0 then
        grants[#grants + 1] = { name = grant.name, sources = sources, ports = grant.ports, matches = grant.matches }
      end
    end
    return grants
  end,
}
return M
]]

local function ban(account)
  return "apiVersion: acme.example/v1\nkind: Ban\nmetadata: {name: b, namespace: blue}\nspec: {account: " .. account .. "}\n"
end

describe("a wrap", function()
  after_each(overlay.clean)

  it("changes an answer everywhere, and follows what it reads", function()
    local mesh = with({ ["acme/ban.lua"] = BANNED }, GRANT, ban("red/caller"))
    assert.same({}, mesh:errors())
    assert.same({ "red/caller2 -> 8080 * .*" }, mesh:allowed("blue/shop-1"))
    assert.same({}, mesh:resources("red/caller-1", "clusters"))
    mesh:apply(ban("red/caller2"))
    assert.same({ "red/caller -> 8080 * .*" }, mesh:allowed("blue/shop-1"))
    mesh:delete("Ban", "blue", "b")
    assert.same({ "red/caller -> 8080 * .*", "red/caller2 -> 8080 * .*" }, mesh:allowed("blue/shop-1"))
    assert.same({}, mesh:errors())
  end)

  it("stands before another by name, or as it asks", function()
    local function wrap(name, order)
      return string.format([[return { api = 1, wraps = { principal = { %s run = function(mesh, original, account)
        return original(account) .. "-%s" end } } }]], order or "", name)
    end
    local a, b = wrap("a"), wrap("b")
    local mesh = with({ ["acme/a.lua"] = a, ["acme/b.lua"] = b })
    assert.equal("x.y.cluster.local-a-b", mesh.at:ask("principal", "y/x"))
    mesh = with({ ["acme/a.lua"] = wrap("a", 'after = { "acme/b" },'), ["acme/b.lua"] = b })
    assert.equal("x.y.cluster.local-b-a", mesh.at:ask("principal", "y/x"))
  end)

  it("that fails denies, and is named", function()
    local mesh = with({
      ["acme/x.lua"] = "return { api = 1, wraps = { grants = function(mesh, original, ns, account)\nerror('no') end } }",
    }, GRANT)
    assert.same({}, mesh:allowed("blue/shop-1"))
    assert.equal("acme/x.lua:2: no", mesh:errors()[1].message)
    assert.equal("acme/x.lua", mesh:errors()[1].module)
  end)

  it("that answers nonsense for a switch does not open the mesh", function()
    local mesh = with({ ["acme/x.lua"] = "return { api = 1, wraps = { permissive = function() return { 'no' } end } }" }, GRANT)
    assert.same(w1.over({ "policies" }, GRANT):allowed("blue/shop-1"), mesh:allowed("blue/shop-1"))
  end)

  it("cannot keep the original past its evaluation", function()
    local mesh = with({ ["acme/x.lua"] = [[local kept
      return { api = 1, wraps = { grants = function(mesh, original, ns, account)
        if account == "shop" then kept = original return original(ns, account) end
        return (kept or original)(ns, account)
      end } }]] }, GRANT)
    local told = {}
    for _, e in ipairs(mesh:errors()) do told[#told + 1] = e.message end
    assert.matches("kept", table.concat(told, "; "))
  end)

  it("passes an error of the original on, as that one's", function()
    local mesh = with({
      ["smi/access.lua"] = string.gsub(shipped("smi/access.lua"), "local grants = {}", "local grants = {} .. 1", 1),
      ["acme/ban.lua"] = BANNED,
    }, GRANT)
    assert.same({}, mesh:allowed("blue/shop-1"))
    assert.equal("smi/access.lua", mesh:errors()[1].module)
    assert.matches("^rule grants of smi/access%(", mesh:errors()[1].where)
  end)

  it("that asks for its own name instead of the original goes round in a circle, and is told", function()
    local mesh = with({ ["acme/x.lua"] = [[return { api = 1, wraps = { grants = function(mesh, original, ns, account)
      return mesh.grants(ns, account) end } }]] }, GRANT)
    assert.same({}, mesh:allowed("blue/shop-1"))
    assert.matches("^cycle: grants%(blue, echo%) %-> grants%(blue, echo%)", mesh:errors()[1].message)
  end)

  it("wraps a rule that there is", function()
    local function wrapping(name) return { ["acme/x.lua"] = "return { api = 1, wraps = { " .. name .. " = print } }" } end
    assert.equal('acme/x.lua:1: wraps.grant: there is no such rule; do you mean "grants"?', load_error(wrapping("grant")))
    assert.equal("acme/x.lua:1: wraps.Service: only rules can be wrapped", load_error(wrapping("Service")))
    assert.equal("acme/x.lua:1: wraps.accounts_behind: only rules can be wrapped", load_error(wrapping("accounts_behind")))
  end)
end)

describe("a directory over the shipped policies", function()
  after_each(overlay.clean)

  it("replaces a file of the same path and keeps the others", function()
    local closed = string.gsub(shipped("smi/access.lua"), "local grants = {}",
      "if account == 'shop' then return {} end local grants = {}", 1)
    local mesh = with({ ["smi/access.lua"] = closed }, GRANT)
    assert.same({}, mesh:errors())
    assert.same({}, mesh:allowed("blue/shop-1"))
  end)

  it("tells which version a replacing file should name, and then says no more", function()
    local text = shipped("smi/split.lua") .. "\n"
    local mesh = with({ ["smi/split.lua"] = text })
    assert.equal("smi/split.lua", warnings(mesh)[1].module)
    local digest = string.match(warnings(mesh)[1].message, '^replaces the file of policies; write "%-%- replaces: (%x+)" at its top')
    assert.is_string(digest)
    assert.is_nil(warnings(with({ ["smi/split.lua"] = "-- replaces: " .. digest .. "\n" .. text })))
    mesh = with({ ["smi/split.lua"] = "-- replaces: 00c0ffee\n" .. text })
    assert.matches("was written to replace version 00c0ffee of the file in policies, which is " .. digest .. " now",
      warnings(mesh)[1].message, 1, true)
  end)

  it("warns where what a file replaced has gone", function()
    local mesh = with({ ["acme/x.lua"] = "-- replaces: 00c0ffee\nreturn {}" })
    assert.matches("no directory below has this file any more", warnings(mesh)[1].message, 1, true)
  end)

  it("replaces schemas as it does modules", function()
    local schema = string.gsub(shipped("crds/tcproute.yaml"), "^", "# replaces: 00c0ffee\n")
    local mesh = with({ ["crds/tcproute.yaml"] = schema })
    assert.equal("crds/tcproute.yaml", warnings(mesh)[1].module)
    assert.not_equal(w1.world().at:figures().digest, mesh.at:figures().digest)
  end)

  it("adds names that hold a dot, and no others", function()
    assert.equal('acme/x.lua:1: "quota": a name that this directory adds holds a dot, such as "acme.quota", so that no later '
      .. "release can declare it too", load_error({ ["acme/x.lua"] = "return { api = 1, rules = { quota = print } }" }))
    local mesh = with({ ["acme/x.lua"] = "return { api = 1, rules = { ['acme.two'] = function() return 2 end, "
      .. "['acme.three'] = function(mesh) local acme = mesh.acme return acme.two() + 1 end } }" })
    assert.equal(3, mesh.at:ask("acme.three"))
  end)

  it("is told of names that nobody declares", function()
    assert.equal("acme/x.lua:2: mesh.acme.quoat: nobody declares it; do you mean acme.quota?", load_error({
      ["acme/x.lua"] = "local M = { api = 1, rules = { ['acme.quota'] = function(mesh)\nreturn mesh.acme.quoat() end } }\nreturn M",
    }))
    assert.equal("acme/x.lua:1: mesh.acme.quota: nobody declares it", load_error({
      ["acme/x.lua"] = "return { api = 1, rules = { ['other.x'] = function(mesh) return mesh.acme.quota() end } }",
    }))
    local mesh = with({
      ["acme/x.lua"] = "return { api = 1, rules = { ['acme.x'] = function(mesh, name) return mesh.acme[name]() end } }",
    })
    local ok, message = pcall(function() mesh.at:ask("acme.x", "quota") end)
    assert.is_false(ok)
    assert.matches("mesh.acme.quota: nobody declares it", message, 1, true)
  end)

  it("is told of an emitter whose keys are no list", function()
    local mesh = with({ ["acme/x.lua"] = [[return { api = 1, rules = { ["acme.keys"] = function() return { a = 1 } end },
      emit = { ["acme.z"] = { each = "acme.keys", run = function() end } } }]] })
    assert.equal('each = "acme.keys": expected a list of keys, got a table with named keys', mesh:errors()[1].message)
  end)

  it("cannot write into the tables of names", function()
    local mesh = with({ ["acme/x.lua"] = [[return { api = 1, rules = { ['acme.x'] = function(mesh)
      local acme = mesh.acme acme.y = 1 end } }]] })
    local ok, message = pcall(function() mesh.at:ask("acme.x") end)
    assert.is_false(ok)
    assert.matches("mesh.acme is read-only", message, 1, true)
  end)

  it("may be several: the last one counts", function()
    local one, two = overlay.of({ ["acme/x.lua"] = "return { api = 1, rules = { ['acme.x'] = function() return 1 end } }" }),
      overlay.of({ ["acme/x.lua"] = "return { api = 1, rules = { ['acme.x'] = function() return 2 end } }" })
    assert.equal(2, w1.over({ "policies", one, two }).at:ask("acme.x"))
    assert.equal(1, w1.over({ "policies", two, one }).at:ask("acme.x"))
  end)
end)
