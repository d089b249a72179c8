--- What a change costs, in rules and emitters that run: it must not grow with the rest of the mesh.
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

--- A world with so many more Services, each with an account and a grant.
local function crowded(services)
  local texts = { ALL, target("t", "shop", "caller") }
  for n = 1, services do
    local name = "s" .. n
    texts[#texts + 1] = w1.pod("blue", name .. "-1", name, "10.244.7." .. n, "app: " .. name)
    texts[#texts + 1] = w1.service(name, "10.96.7." .. n, "app: " .. name, "{port: 80, targetPort: 8080}")
    texts[#texts + 1] = target(name, name, "caller")
  end
  return w1.world(table.concat(texts, "---\n"))
end

describe("a change of one object", function()
  local function cost(mesh, change)
    mesh:everything()
    change(mesh)
    mesh:everything()
    return mesh.at:figures().rules_run
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
    it("runs as much in a large mesh as in a small one: " .. what, function()
      local small, large = cost(crowded(3), change), cost(crowded(60), change)
      assert.is_true(small > 0)
      assert.equal(small, large)
    end)
  end
end)
