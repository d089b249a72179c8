--- TrafficSplits that divide only some HTTP requests: `matches` of v1alpha4.
local w1 = require("spec.policies.w1")

local GRANTS = [[
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: all, namespace: blue}
spec: {matches: [{name: all}]}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: testers, namespace: blue}
spec:
  matches:
  - {name: header, headers: [{x-tester: "yes"}]}
  - {name: path, pathRegex: /new/.*, methods: [GET, HEAD]}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: nothing, namespace: blue}
spec: {}
]]

local function grant(to)
  return string.format([[
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: to-%s, namespace: blue}
spec:
  destination: {kind: ServiceAccount, name: %s, namespace: blue}
  sources: [{kind: ServiceAccount, name: caller, namespace: red}]
  rules: [{kind: HTTPRouteGroup, name: all}]
]], to, to)
end

local function split(name, service, backend, rest, born)
  return string.format([[
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: %s, namespace: blue, creationTimestamp: "%s"}
spec: {service: %s, backends: [{service: %s, weight: 1}]%s}
]], name, born or "2026-01-01T00:00:00Z", service, backend, rest or "")
end

local MATCHES = ", matches: [{kind: HTTPRouteGroup, name: testers}]"

--- What the client's routes to a Service take, and the clusters that get it, in order.
local function routes(mesh, service)
  local found = {}
  local host = mesh:virtual_host("red/caller-1", "rds-outbound.80", service)
  for index, route in ipairs(host and host.routes or {}) do
    local parts = { route.match.safe_regex.regex }
    for _, header in ipairs(route.match.headers) do
      parts[#parts + 1] = header.name .. "=" .. header.string_match.safe_regex.regex
    end
    for _, cluster in ipairs(route.route and route.route.weighted_clusters.clusters or {}) do
      parts[#parts + 1] = cluster.name
    end
    found[index] = table.concat(parts, " ")
  end
  return found
end

local GRANTED = GRANTS .. "---\n" .. grant("shop") .. "---\n" .. grant("shop-v1") .. "---\n" .. grant("shop-v2")

describe("a split with matches", function()
  it("takes the requests that its groups describe, and leaves the rest to the Service itself", function()
    local mesh = w1.world(GRANTED, split("s", "shop", "shop-v2", MATCHES))
    assert.same({
      ".* :method=.* x-tester=yes blue/shop-v2|8080",
      "/new/.* :method=GET|HEAD blue/shop-v2|8080",
      ".* :method=.* blue/shop|8080",
    }, routes(mesh, "shop"))
    assert.same({}, mesh:rejects())
    assert.same({}, mesh:errors())
    -- the server behind it answers to the name of the Service that was asked for
    assert.is_truthy(mesh:virtual_host("blue/v2-1", "rds-inbound.8080", "shop"))
    assert.is_nil(mesh:virtual_host("blue/v1-1", "rds-inbound.8080", "shop"))
  end)

  it("comes before the split without matches, which divides the rest", function()
    local mesh = w1.world(GRANTED, split("rest", "shop-apex", "shop-v1", nil, "2025-01-01T00:00:00Z"),
      split("s", "shop-apex", "shop-v2", MATCHES))
    assert.same({
      ".* :method=.* x-tester=yes blue/shop-v2|8080",
      "/new/.* :method=GET|HEAD blue/shop-v2|8080",
      ".* :method=.* blue/shop-v1|8080",
    }, routes(mesh, "shop-apex"))
    assert.same({}, mesh:rejects())
  end)

  it("comes after an older one that takes the same requests", function()
    local mesh = w1.world(GRANTED, split("a", "shop", "shop-v2", MATCHES),
      split("b", "shop", "shop-v1", MATCHES, "2025-01-01T00:00:00Z"))
    assert.same({
      ".* :method=.* x-tester=yes blue/shop-v1|8080",
      "/new/.* :method=GET|HEAD blue/shop-v1|8080",
      ".* :method=.* x-tester=yes blue/shop-v2|8080",
      "/new/.* :method=GET|HEAD blue/shop-v2|8080",
      ".* :method=.* blue/shop|8080",
    }, routes(mesh, "shop"))
  end)

  it("takes nothing by a group that is missing or empty, and says so", function()
    for _, name in ipairs({ "gone", "nothing" }) do
      local mesh = w1.world(GRANTED, split("s", "shop", "shop-v2", ", matches: [{kind: HTTPRouteGroup, name: " .. name
        .. "}]"))
      assert.same({ ".* :method=.* blue/shop|8080" }, routes(mesh, "shop"))
      assert.same({ "TrafficSplit blue/s spec.matches[0].name: " .. (name == "gone" and 'there is no HTTPRouteGroup '
        .. '"blue/gone"' or 'HTTPRouteGroup "blue/nothing" has no matches') .. ": it describes no request" }, mesh:rejects())
    end
    local mesh = w1.world(GRANTED, split("s", "shop", "shop-v2", ", matches: [{kind: HTTPRouteGroup, name: later}]"))
    mesh:apply([[
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: later, namespace: blue}
spec: {matches: [{name: m, pathRegex: /x}]}
]])
    assert.same({ "/x :method=.* blue/shop-v2|8080", ".* :method=.* blue/shop|8080" }, routes(mesh, "shop"))
    assert.same({}, mesh:rejects())
  end)

  it("grants nothing: whoever may not reach its backend is told of it without endpoints (a_spl_16)", function()
    local mesh = w1.world(GRANTS .. "---\n" .. grant("shop"), split("s", "shop", "shop-v2", MATCHES))
    assert.same({}, mesh:endpoints("red/caller-1", "blue/shop-v2|8080"))
    assert.same({}, mesh:allowed("blue/v2-1"))
  end)

  it("leaves what it does not take to a Service that the caller may not reach: told of it, without endpoints", function()
    local mesh = w1.world(GRANTS .. "---\n" .. grant("shop-v2"), split("s", "shop", "shop-v2", MATCHES))
    assert.same({}, mesh:errors())
    assert.equal(3, #routes(mesh, "shop"))
    assert.same({}, mesh:endpoints("red/caller-1", "blue/shop|8080"))
    mesh = w1.world(GRANTS .. "---\n" .. grant("shop-v2"), split("s", "shop-apex", "shop-v2", MATCHES))
    assert.same({}, mesh:errors())
    assert.same({}, mesh:endpoints("red/caller-1", "blue/shop-apex|8080"))
  end)

  it("leaves connections that are no HTTP to the Service itself", function()
    local mesh = w1.world(GRANTED, w1.service("echo-2", "10.96.2.77", "app: echo", "{port: 9000, appProtocol: tcp}"), [[
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: to-echo, namespace: blue}
spec:
  destination: {kind: ServiceAccount, name: echo, namespace: blue}
  sources: [{kind: ServiceAccount, name: caller, namespace: red}]
  rules: [{kind: HTTPRouteGroup, name: all}]
]], split("s", "echo", "echo-2", MATCHES))
    local chain = mesh:chain("red/caller-1", "outbound-listener", "outbound_blue/echo_9000_tcp")
    assert.equal("blue/echo|9000", chain.filters[1].typed_config.cluster)
    assert.same({}, mesh:errors())
  end)

  it("names groups of HTTP routes only", function()
    local mesh = w1.world(GRANTED, split("s", "shop", "shop-v2", ", matches: [{kind: HTTPRouteGroup, name: testers, "
      .. "apiGroup: specs.smi-spec.io/v1alpha4}]"))
    assert.same({}, mesh:rejects())
    for _, wrong in ipairs({ "{kind: TCPRoute, name: testers}", "{kind: HTTPRouteGroup, name: testers, apiGroup: x.io}",
      "{kind: HTTPRouteGroup, name: 'a/b'}", "{kind: HTTPRouteGroup}" }) do
      mesh = w1.world(GRANTED, split("s", "shop", "shop-v2", ", matches: [" .. wrong .. "]"))
      assert.equal(1, #mesh:rejects(), wrong)
      assert.matches("^TrafficSplit blue/s spec%.matches%[0%]", mesh:rejects()[1])
      assert.same({ ".* :method=.* blue/shop|8080" }, routes(mesh, "shop"), wrong)
    end
    mesh = w1.world(GRANTED, split("s", "shop", "shop-v2", ", matches: [{kind: HTTPRouteGroup, name: testers, apiGroup: x.io}]"))
    assert.matches('spec.matches[0].apiGroup: "x.io" is not that of HTTPRouteGroup', mesh:rejects()[1], 1, true)
  end)
end)
