--- Where requests for a Service go: TrafficSplit.
local w1 = require("spec.policies.w1")

local function split(name, service, backends, metadata)
  local list = {}
  for _, backend in ipairs(backends) do
    list[#list + 1] = "{service: " .. backend[1] .. ", weight: " .. backend[2] .. "}"
  end
  return string.format([[
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata: {name: %s, namespace: blue%s}
spec: {service: %s, backends: [%s]}
]], name, metadata or "", service, table.concat(list, ", "))
end

local function grant(name, to, from)
  return string.format([[
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: %s, namespace: blue}
spec:
  destination: {kind: ServiceAccount, name: %s, namespace: blue}
  sources: [{kind: ServiceAccount, name: %s, namespace: red}]
  rules: [{kind: HTTPRouteGroup, name: all}, {kind: TCPRoute, name: all}]
]], name, to, from or "caller")
end

local ALL = [[
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: all, namespace: blue}
spec: {matches: [{name: all}]}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {name: all, namespace: blue}
spec: {matches: {}}
]]

local HTTP = "{name: http, port: 80, targetPort: 8080}"
local BOTH = ALL .. "---\n" .. grant("v1", "shop-v1") .. "---\n" .. grant("v2", "shop-v2")

--- Shares of the requests that caller-1 sends to a Service of namespace blue.
local function shares(mesh, service)
  return mesh:shares("red/caller-1", "rds-outbound.80", service or "shop-apex")
end

describe("a split", function()
  it("divides the requests for its Service by weight (a_spl_01, a_spl_02)", function()
    for _, weights in ipairs({ { 100, 0 }, { 75, 25 }, { 50, 50 }, { 0, 100 }, { 1000, 500 } }) do
      local mesh = w1.world(BOTH, split("s", "shop-apex", { { "shop-v1", weights[1] }, { "shop-v2", weights[2] } }))
      assert.same({ ["blue/shop-v1|8080"] = weights[1], ["blue/shop-v2|8080"] = weights[2] }, shares(mesh))
      assert.same({}, mesh:rejects())
    end
  end)

  it("names its Service in any form of the name (a_spl_02)", function()
    for _, service in ipairs({ "shop-apex", "shop-apex.blue", "shop-apex.blue.svc", "shop-apex.blue.svc.cluster",
      "shop-apex.blue.svc.cluster.local" }) do
      local mesh = w1.world(BOTH, split("s", service, { { "shop-v1", 1 } }))
      assert.same({ ["blue/shop-v1|8080"] = 1 }, shares(mesh), service)
    end
  end)

  it("refuses a Service of another namespace", function()
    local mesh = w1.world(BOTH, split("s", "shop-apex.red", { { "shop-v1", 1 }, { "shop-v2.red", 1 } }))
    assert.same({
      'TrafficSplit blue/s spec.backends[1].service: "shop-v2.red" is not a Service of namespace "blue"',
      'TrafficSplit blue/s spec.service: "shop-apex.red" is not a Service of namespace "blue"',
    }, mesh:rejects())
  end)

  it("leaves the names of its backends to themselves", function()
    local mesh = w1.world(BOTH, split("s", "shop-apex", { { "shop-v1", 50 }, { "shop-v2", 50 } }))
    assert.same({ ["blue/shop-v1|8080"] = 100 }, shares(mesh, "shop-v1"))
    assert.same({ ["blue/shop-v2|8080"] = 100 }, shares(mesh, "shop-v2"))
  end)

  it("changes nothing but one virtual host when its weights change (a_spl_06)", function()
    local mesh = w1.world(BOTH, split("s", "shop-apex", { { "shop-v1", 100 }, { "shop-v2", 0 } }))
    local before = mesh:everything()
    mesh:apply(split("s", "shop-apex", { { "shop-v1", 90 }, { "shop-v2", 10 } }))
    local after = mesh:everything()
    assert.same({ ["blue/shop-v1|8080"] = 90, ["blue/shop-v2|8080"] = 10 }, shares(mesh))
    for proxy, types in pairs(before) do
      for type_name, resources in pairs(types) do
        if proxy ~= "red/caller-1" or type_name ~= "routes" then
          assert.same(resources, after[proxy][type_name], proxy .. " " .. type_name)
        end
      end
    end
  end)

  it("may send to its own Service (a_spl_09)", function()
    local mesh = w1.world(ALL, grant("t", "shop"), split("s", "shop", { { "shop", 100 } }))
    assert.same({ ["blue/shop|8080"] = 100 }, shares(mesh, "shop"))
    assert.same({ "blue/shop|8080" }, mesh:resources("red/caller-1", "clusters"))
  end)

  it("counts where its Service selects the pods of the backends too (a_spl_10)", function()
    local mesh = w1.world(BOTH, split("s", "shop-apex", { { "shop-v1", 50 }, { "shop-v2", 50 } }),
      w1.service("shop-apex", "10.96.2.9", "app: versions", HTTP))
    assert.same({ ["blue/shop-v1|8080"] = 50, ["blue/shop-v2|8080"] = 50 }, shares(mesh))
    assert.same({}, mesh:rejects())
    assert.same({}, mesh:errors())
    for _, version in ipairs({ "v1", "v2" }) do
      local host = mesh:virtual_host("blue/" .. version .. "-1", "rds-inbound.8080", "shop-apex")
      assert.equal(10, #host.domains)
    end
  end)

  it("gives equal bytes to a pod behind two of its backends with one account", function()
    local twin = w1.pod("blue", "twin-1", "shop-v1", "10.244.2.77", "app: versions, version: v1, also: v2")
    local mesh = w1.world(BOTH, twin, w1.service("shop-v2", "10.96.2.3", "also: v2", HTTP),
      split("s", "shop-apex", { { "shop-v1", 50 }, { "shop-v2", 50 } }))
    assert.same({}, mesh:errors())
    local host = mesh:virtual_host("blue/twin-1", "rds-inbound.8080", "shop-apex")
    assert.equal("blue/shop-v1|8080|local", host.routes[1].route.weighted_clusters.clusters[1].name)
  end)

  it("leaves out a backend that is not there, or has not this port, and says so (a_spl_12)", function()
    local mesh = w1.world(BOTH, split("s", "shop-apex", { { "shop-v1", 50 }, { "gone", 50 }, { "echo", 50 } }))
    assert.same({ ["blue/shop-v1|8080"] = 50 }, shares(mesh))
    assert.same({
      'TrafficSplit blue/s spec.backends[1].service: Service "blue/gone" has no port 80, which "shop-apex" has: '
        .. "it is left out there",
      'TrafficSplit blue/s spec.backends[2].service: Service "blue/echo" has no port 80, which "shop-apex" has: '
        .. "it is left out there",
    }, mesh:rejects())
  end)

  it("answers 503 where no weight is left to send by", function()
    local mesh = w1.world(BOTH, split("s", "shop-apex", { { "shop-v1", 0 }, { "gone", 50 } }))
    local host = mesh:virtual_host("red/caller-1", "rds-outbound.80", "shop-apex")
    assert.same({ status = 503 }, host.routes[1].direct_response)
  end)

  it("gives its Service back when it is deleted (a_spl_13)", function()
    local mesh = w1.world(ALL, grant("t", "shop"), grant("v1", "shop-v1"), split("s", "shop", { { "shop-v1", 100 } }))
    assert.same({ ["blue/shop-v1|8080"] = 100 }, shares(mesh, "shop"))
    mesh:delete("TrafficSplit", "blue", "s")
    assert.same({ ["blue/shop|8080"] = 100 }, shares(mesh, "shop"))
  end)

  it("works in permissive mode (a_spl_14)", function()
    local mesh = w1.world(w1.PERMISSIVE, split("s", "shop-apex", { { "shop-v1", 50 }, { "shop-v2", 50 } }))
    assert.same({ ["blue/shop-v1|8080"] = 50, ["blue/shop-v2|8080"] = 50 }, shares(mesh))
  end)

  it("does not rewrite the Host: the backend answers to its Service's names (a_spl_15)", function()
    local mesh = w1.world(BOTH, split("s", "shop-apex", { { "shop-v1", 50 }, { "shop-v2", 50 } }))
    local out = mesh:virtual_host("red/caller-1", "rds-outbound.80", "shop-apex")
    assert.is_nil(out.routes[1].route.host_rewrite_literal)
    local own = mesh:virtual_host("blue/v1-1", "rds-inbound.8080", "shop-v1")
    local host = mesh:virtual_host("blue/v1-1", "rds-inbound.8080", "shop-apex")
    assert.equal(10, #host.domains)
    assert.same(own.routes, host.routes)
    assert.same(own.typed_per_filter_config, host.typed_per_filter_config)
  end)

  it("grants nothing: a backend without a target gets a cluster without endpoints (a_spl_16)", function()
    local mesh = w1.world(ALL, grant("v1", "shop-v1"),
      split("s", "shop-apex", { { "shop-v1", 50 }, { "shop-v2", 50 } }))
    assert.same({ ["blue/shop-v1|8080"] = 50, ["blue/shop-v2|8080"] = 50 }, shares(mesh))
    assert.same({ "10.244.2.41:8080" }, mesh:endpoints("red/caller-1", "blue/shop-v1|8080"))
    assert.same({}, mesh:endpoints("red/caller-1", "blue/shop-v2|8080"))
    assert.same({}, mesh:allowed("blue/v2-1"))
    assert.is_nil(mesh:virtual_host("red/caller-1", "rds-outbound.80", "shop-v2"))
    assert.same({}, mesh:errors())
  end)

  it("divides TCP connections too, without what has no weight (a_spl_17)", function()
    local tcp = "{name: e, port: 80, targetPort: 9000, appProtocol: tcp}"
    local services = {
      w1.service("shop-apex", "10.96.2.9", nil, tcp),
      w1.service("shop-v1", "10.96.2.2", "version: v1", tcp),
      w1.service("shop-v2", "10.96.2.3", "version: v2", tcp),
    }
    local function proxy_of(first, second)
      local mesh = w1.world(BOTH, services[1], services[2], services[3],
        split("s", "shop-apex", { { "shop-v1", first }, { "shop-v2", second } }))
      local chain = mesh:chain("red/caller-1", "outbound-listener", "outbound_blue/shop-apex_80_tcp")
      return chain.filters[1].typed_config
    end
    assert.same({ { name = "blue/shop-v1|9000", weight = 70 }, { name = "blue/shop-v2|9000", weight = 30 } },
      proxy_of(70, 30).weighted_clusters.clusters)
    assert.equal("blue/shop-v2|9000", proxy_of(0, 100).cluster)
    assert.is_nil(proxy_of(0, 100).weighted_clusters)
  end)

  it("opens its Service to whoever may reach one of its backends", function()
    local mesh = w1.world(ALL, grant("v1", "shop-v1"), grant("v2", "shop-v2", "caller2"),
      split("s", "shop-apex", { { "shop-v1", 50 }, { "shop-v2", 50 } }))
    for _, pod in ipairs({ "red/caller-1", "red/caller2-1" }) do
      assert.same({ ["blue/shop-v1|8080"] = 50, ["blue/shop-v2|8080"] = 50 },
        mesh:shares(pod, "rds-outbound.80", "shop-apex"))
    end
    assert.same({ "10.244.2.42:8080" }, mesh:endpoints("red/caller2-1", "blue/shop-v2|8080"))
    assert.same({}, mesh:endpoints("red/caller2-1", "blue/shop-v1|8080"))
  end)

  it("is the oldest one, or the first by name, where there are several", function()
    local function born(year)
      return ', creationTimestamp: "' .. year .. '-01-01T00:00:00Z"'
    end
    local mesh = w1.world(BOTH, split("a", "shop-apex", { { "shop-v1", 1 } }, born(2024)),
      split("b", "shop-apex.blue", { { "shop-v2", 1 } }, born(2023)))
    assert.same({ ["blue/shop-v2|8080"] = 1 }, shares(mesh))
    assert.same({ 'TrafficSplit blue/a spec.service: "blue/shop-apex" is split by TrafficSplit "b" already; '
      .. "the older one counts" }, mesh:rejects())
    mesh:apply(split("b", "shop-apex", { { "shop-v2", 1 } }, born(2024)))
    assert.same({ ["blue/shop-v1|8080"] = 1 }, shares(mesh))
  end)

  it("is refused with a weight that is no whole number from 0 on, or with no weight at all", function()
    local cases = {
      { "-1", "spec.backends[0].weight: must be a whole number from 0 to 4294967295" },
      { "0.5", "spec.backends[0].weight: must be a whole number from 0 to 4294967295" },
      { "4294967296", "spec.backends[0].weight: must be a whole number from 0 to 4294967295" },
      { "4294967295", "spec.backends: the weights add up to more than 4294967295" },
    }
    for _, case in ipairs(cases) do
      local mesh = w1.world(ALL, grant("t", "shop"),
        split("s", "shop", { { "shop-v1", case[1] }, { "shop-v2", 1 } }))
      assert.same({ "TrafficSplit blue/s " .. case[2] }, mesh:rejects())
      assert.same({ ["blue/shop|8080"] = 100 }, shares(mesh, "shop")) -- as if there were no split
    end
    local mesh = w1.world(ALL, grant("t", "shop"), split("s", "shop", { { "shop-v1", 0 }, { "shop-v2", 0 } }))
    assert.same({ "TrafficSplit blue/s spec.backends: the weights add up to 0; at least one must be more" },
      mesh:rejects())
    assert.same({ ["blue/shop|8080"] = 100 }, shares(mesh, "shop"))
  end)

  it("says so where its Service is not there", function()
    local mesh = w1.world(BOTH, split("s", "gone", { { "shop-v1", 1 } }))
    assert.same({ 'TrafficSplit blue/s spec.service: there is no Service "blue/gone" with a port that the mesh '
      .. "carries: the split has no effect" }, mesh:rejects())
  end)
end)
