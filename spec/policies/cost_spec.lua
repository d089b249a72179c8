--- What a change costs, in rules and emitters that run and in answers that are verified: it must not grow with the rest
--- of the mesh.
local overlay = require("spec.engine.overlay")
local w1 = require("spec.policies.w1")

local ALL = [[
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: all, namespace: blue}
spec: {matches: [{name: all}]}
]]

local function target(name, to, from)
  return string.format([[
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: %s, namespace: blue}
spec:
  destination: {kind: ServiceAccount, name: %s, namespace: blue}
  sources: [{kind: ServiceAccount, name: %s, namespace: red}]
  rules: [{kind: HTTPRouteGroup, name: all}]
]], name, to, from)
end

--- The same object with more in its metadata.
local function with(more, text)
  return (string.gsub(text, "metadata: {", "metadata: {" .. more .. ", "))
end

--- A world with so many more Services, each with an account and a grant.
local function crowded(services, policies)
  local texts = { ALL, target("t", "shop", "caller") }
  for n = 1, services do
    local name = "s" .. n
    texts[#texts + 1] = w1.pod("blue", name .. "-1", name, "10.244.7." .. n, "app: " .. name)
    texts[#texts + 1] = w1.service(name, "10.96.7." .. n, "app: " .. name, "{port: 80, targetPort: 8080}")
    texts[#texts + 1] = target(name, name, "caller")
  end
  return w1.over(policies or "policies", table.concat(texts, "---\n"))
end

describe("a change of one object", function()
  local function cost(mesh, change)
    mesh:everything()
    change(mesh)
    mesh:everything()
    local figures = mesh.at:figures()
    return { rules_run = figures.rules_run, cells_verified = figures.cells_verified }
  end

  local CHANGES = {
    ["a target gets another source"] = function(mesh) mesh:apply(target("t", "shop", "caller2")) end,
    ["a target goes"] = function(mesh) mesh:delete("TrafficTarget", "blue", "t") end,
    ["a Service gets another address"] = function(mesh)
      mesh:apply(w1.service("shop", "10.96.2.77", "app: shop", "{name: http, port: 80, targetPort: 8080}"))
    end,
    ["a split appears"] = function(mesh)
      mesh:apply([[
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata: {name: s, namespace: blue}
spec: {service: shop-apex, backends: [{service: shop, weight: 1}]}
]])
    end,
  }

  for what, change in pairs(CHANGES) do
    it("costs as much in a large mesh as in a small one: " .. what, function()
      local small, large = cost(crowded(3), change), cost(crowded(60), change)
      assert.is_true(small.rules_run > 0)
      assert.same(small, large)
    end)
  end

  it("runs and verifies nothing where an address moves", function()
    local spent = cost(crowded(3), function(mesh)
      mesh:apply(w1.pod("blue", "shop-1", "shop", "10.244.2.99", "app: shop"))
    end)
    assert.same({ rules_run = 0, cells_verified = 0 }, spent)
  end)

  it("is none where only the resourceVersion differs", function()
    local mesh = crowded(3)
    mesh:everything()
    local number, runs = mesh.at.engine:number(), mesh.at:figures().runs
    mesh:apply(with('resourceVersion: "7"', target("t", "shop", "caller")))
    local figures = mesh.at:figures()
    if figures.runs > runs then -- else the store has not even told the engine
      assert.equal(0, figures.rules_run)
      assert.equal(0, figures.cells_verified)
    end
    assert.equal(number, mesh.at.engine:number())
  end)

  local UNREAD = {
    ["a label of a target"] = with("labels: {team: a}", target("t", "shop", "caller")),
    ["an annotation of a target"] = with("annotations: {a: b}", target("t", "shop", "caller")),
    ["a label of a Service"] = with("labels: {a: b}",
      w1.service("shop", "10.96.2.1", "app: shop", "{name: http, port: 80, targetPort: 8080}")),
  }

  for what, text in pairs(UNREAD) do
    it("is none where no module of the bundle says labels or annotations: " .. what, function()
      local mesh = crowded(3)
      local number = mesh.at.engine:number()
      assert.same({ rules_run = 0, cells_verified = 0 }, cost(mesh, function() mesh:apply(text) end))
      assert.equal(number, mesh.at.engine:number())
    end)

    it("ends at the first answers where one does and nobody reads what changed: " .. what, function()
      finally(overlay.clean)
      local reader = overlay.of({ ["acme/x.lua"] = [[return { api = 1, rules = {
        ["acme.label"] = function(mesh, ns, name) return mesh.Service(ns, name).metadata.labels.a end } }]] })
      local small, large = crowded(3, { "policies", reader }), crowded(60, { "policies", reader })
      local function change(mesh) mesh:apply(text) end
      local spent = cost(small, change)
      assert.is_true(spent.rules_run > 0 and spent.rules_run <= 4)
      assert.same(spent, cost(large, change))
      assert.equal(1, small.at.engine:number()) -- nothing new is served
    end)
  end
end)
