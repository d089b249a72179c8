--- Pods of a headless Service that have names of their own, as those of a StatefulSet have.
local w1 = require("spec.policies.w1")

local PORTS = "{name: http, port: 8080}, {name: tcp-db, port: 5432}"

local function member(index)
  local pod = w1.pod("blue", "db-" .. index, "db", "10.244.2.8" .. index, "app: db")
  return (string.gsub(pod, "spec:\n", "spec:\n  hostname: db-" .. index .. "\n  subdomain: db\n", 1))
end

local function world(...)
  return w1.world(w1.PERMISSIVE, w1.service("db", "None", "app: db", PORTS), member(0), member(1), ...)
end

describe("a pod with a name of its own (a_rte_11)", function()
  it("gets the requests for its name, and the Service's name leads to all", function()
    local mesh = world()
    for index = 0, 1 do
      local host = mesh:virtual_host("red/caller-1", "rds-outbound.8080", "db-" .. index .. ".db")
      assert.same({
        "db-" .. index .. ".db.blue", "db-" .. index .. ".db.blue:8080",
        "db-" .. index .. ".db.blue.svc", "db-" .. index .. ".db.blue.svc:8080",
        "db-" .. index .. ".db.blue.svc.cluster", "db-" .. index .. ".db.blue.svc.cluster:8080",
        "db-" .. index .. ".db.blue.svc.cluster.local", "db-" .. index .. ".db.blue.svc.cluster.local:8080",
      }, host.domains)
      local name = "blue/db-" .. index .. ".db|8080"
      assert.equal(name, host.routes[1].route.weighted_clusters.clusters[1].name)
      local endpoint = mesh:clusters("red/caller-1")[name].load_assignment.endpoints[1].lb_endpoints[1].endpoint
      assert.same({ address = "10.244.2.8" .. index, port_value = 8080 }, endpoint.address.socket_address)
    end
    assert.same({ ["blue/db|8080"] = 100 }, mesh:shares("red/caller-1", "rds-outbound.8080", "db"))
    assert.same({}, mesh:rejects())
    assert.same({}, mesh:errors())
  end)

  it("is called without its namespace by its neighbours", function()
    local domains = world():virtual_host("blue/shop-1", "rds-outbound.8080", "db-0.db").domains
    assert.same({ "db-0.db", "db-0.db:8080" }, { domains[1], domains[2] })
    assert.equal(10, #domains)
  end)

  it("leaves the short name to a Service that is called so", function()
    local mesh = world(w1.service("db-0", "10.96.2.70", "app: x", "{port: 8080}", "db"))
    assert.equal(8, #mesh:virtual_host("blue/shop-1", "rds-outbound.8080", "db-0.db").domains)
    assert.equal(10, #mesh:virtual_host("blue/shop-1", "rds-outbound.8080", "db-1.db").domains)
    assert.same({}, mesh:errors())
  end)

  it("leaves its name with \"svc\" to such a Service, where its own namespace is called so", function()
    local pod = w1.pod("svc", "db-0", "db", "10.244.9.80", "app: db")
    pod = string.gsub(pod, "spec:\n", "spec:\n  hostname: db-0\n  subdomain: db\n", 1)
    local mesh = w1.world(w1.PERMISSIVE, w1.service("db", "None", "app: db", PORTS, "svc"), pod,
      w1.service("db-0", "10.96.2.70", "app: x", "{port: 8080}", "db"))
    assert.same({}, mesh:errors())
    assert.equal(8, #mesh:virtual_host("red/caller-1", "rds-outbound.8080", "db-0", "db").domains)
    assert.equal(6, #mesh:virtual_host("red/caller-1", "rds-outbound.8080", "db-0.db", "svc").domains)
  end)

  it("keeps the TCP connections that are made to its address", function()
    local chain = world():chain("red/caller-1", "outbound-listener", "outbound_blue/db-1.db_5432_tcp")
    assert.same({ { address_prefix = "10.244.2.81", prefix_len = 32 } }, chain.filter_chain_match.prefix_ranges)
    assert.equal("blue/db-1.db|5432", chain.filters[1].typed_config.cluster)
  end)

  it("answers to its name and those of its siblings", function()
    local domains = table.concat(world():virtual_host("blue/db-0", "rds-inbound.8080", "db").domains, " ")
    assert.matches(" %*%.db%.blue%.svc%.cluster%.local:8080", domains)
    assert.matches(" %*%.db ", domains)
  end)

  it("is reached only by those who may", function()
    local mesh = w1.world(w1.service("db", "None", "app: db", PORTS), member(0))
    assert.is_nil(mesh:clusters("red/caller-1")["blue/db-0.db|8080"])
    assert.is_nil(mesh:virtual_host("red/caller-1", "rds-outbound.8080", "db-0.db"))
  end)

  it("is none where the Service has an address", function()
    local mesh = w1.world(w1.PERMISSIVE, w1.service("db", "10.96.2.71", "app: db", PORTS), member(0))
    assert.is_nil(mesh:clusters("red/caller-1")["blue/db-0.db|8080"])
    assert.is_nil(mesh:virtual_host("red/caller-1", "rds-outbound.8080", "db-0.db"))
  end)

  it("comes and goes alone", function()
    local mesh = world()
    mesh:delete("Pod", "blue", "db-1")
    assert.is_nil(mesh:clusters("red/caller-1")["blue/db-1.db|8080"])
    assert.is_truthy(mesh:clusters("red/caller-1")["blue/db-0.db|8080"])
    assert.same({}, mesh:errors())
  end)
end)

describe("a pod behind two headless Services", function()
  local AT = "10.244.2.81"

  --- What leads a caller to a port of the pod: the chain's name and cluster ("http" where hosts decide); nil: nothing.
  local function led(mesh, proxy, number)
    local found
    for _, name in ipairs(mesh:chains(proxy, "outbound-listener")) do
      local chain = mesh:chain(proxy, "outbound-listener", name)
      local match = chain.filter_chain_match
      if match and match.destination_port == number and match.prefix_ranges[1].address_prefix == AT then
        assert.is_nil(found) -- Envoy would refuse two
        found = string.match(name, "^outbound_blue/(.-)_%d+_") .. " " .. (chain.filters[1].typed_config.cluster or "http")
      end
    end
    return found
  end

  local function lost(service, number, elder)
    return "Service blue/" .. service .. " spec.clusterIP: port " .. number .. ' of pods that are also behind Service "blue/'
      .. elder .. '" lead there for who may call both: it has names for them, or is older, or lesser by name'
  end

  local POD = w1.pod("blue", "p1", "one", AT, "app: x, only: one")

  it("answers to both by HTTP, which the host name tells apart", function()
    local ports = "{name: http, port: 8080}"
    local mesh = w1.world(w1.PERMISSIVE, POD, w1.service("h2", "None", "app: x", ports), w1.service("h1", "None", "app: x", ports))
    assert.equal("h1 http", led(mesh, "red/caller-1", 8080))
    for _, name in ipairs({ "h1", "h2" }) do
      assert.same({ ["blue/" .. name .. "|8080"] = 100 }, mesh:shares("red/caller-1", "rds-outbound.8080", name))
    end
    assert.same({}, mesh:errors())
    assert.same({}, mesh:rejects())
  end)

  it("is that of the older by TCP, or the lesser by name, and the other one is told", function()
    for _, protocol in ipairs({ "tcp", "http" }) do
      local elder = "{name: " .. protocol .. "-a, port: 5432}"
      local h2 = w1.service("h2", "None", "app: x", "{name: tcp-a, port: 5432}, {name: tcp-b, port: 5433}")
      local mesh = w1.world(w1.PERMISSIVE, POD, h2, w1.service("h1", "None", "app: x", elder))
      assert.equal(protocol == "tcp" and "h1 blue/h1|5432" or "h1 http", led(mesh, "red/caller-1", 5432))
      assert.equal("h2 blue/h2|5433", led(mesh, "red/caller-1", 5433))
      assert.same({}, mesh:errors())
      assert.same({ lost("h2", 5432, "h1") }, mesh:rejects())
      mesh:apply((string.gsub(h2, "name: h2", 'name: h2, creationTimestamp: "2020-01-01T00:00:00Z"', 1)))
      assert.equal("h2 blue/h2|5432", led(mesh, "red/caller-1", 5432))
      assert.same({ lost("h1", 5432, "h2") }, mesh:rejects())
      mesh:delete("Service", "blue", "h2")
      assert.same({}, mesh:rejects())
    end
  end)

  it("is that of the one that has a name for it", function()
    local mesh = world(w1.service("all", "None", "app: db", "{name: tcp-db, port: 5432}"))
    assert.equal("db-1.db blue/db-1.db|5432", led(mesh, "red/caller-1", 5432))
    assert.same({ lost("all", 5432, "db") }, mesh:rejects())
    assert.same({}, mesh:errors())
  end)

  it("is that of either for who may call only one of them", function()
    local function grant(account, source)
      return string.format([[
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: %s, namespace: blue}
spec:
  destination: {kind: ServiceAccount, name: %s, namespace: blue}
  sources: [{kind: ServiceAccount, name: %s, namespace: red}]
  rules: [{kind: TCPRoute, name: any}]
]], account, account, source)
    end
    local mesh = w1.world("apiVersion: specs.smi-spec.io/v1alpha4\nkind: TCPRoute\nmetadata: {name: any, namespace: blue}\n"
      .. "spec: {matches: {ports: []}}", POD, w1.pod("blue", "p2", "two", "10.244.2.82", "app: x"),
      w1.service("h1", "None", "only: one", "{name: tcp-a, port: 5432}"),
      w1.service("h2", "None", "app: x", "{name: tcp-a, port: 5432}"), grant("one", "caller"), grant("two", "caller2"))
    assert.equal("h1 blue/h1|5432", led(mesh, "red/caller-1", 5432))
    assert.equal("h2 blue/h2|5432", led(mesh, "red/caller2-1", 5432))
    assert.same({ lost("h2", 5432, "h1") }, mesh:rejects())
    assert.same({}, mesh:errors())
  end)
end)
