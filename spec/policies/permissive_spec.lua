--- Permissive mode, and the rest of MeshConfig.
local w1 = require("spec.policies.w1")

local function config(spec)
  return "apiVersion: config.openservicemesh.io/v1alpha2\nkind: MeshConfig\n"
    .. "metadata: {name: osm-mesh-config, namespace: osm-system}\nspec: " .. spec .. "\n"
end

local ON = config("{traffic: {enablePermissiveTrafficPolicyMode: true}}")
local OFF = config("{traffic: {enablePermissiveTrafficPolicyMode: false}}")

describe("permissive mode", function()
  it("opens every Service to every proxy, over mTLS (a_per_01)", function()
    local mesh = w1.world(ON)
    assert.same({ "* -> 8080 * .*" }, mesh:allowed("blue/shop-1"))
    assert.same({ "* -> 9000 tcp" }, mesh:allowed("blue/echo-1"))
    assert.same(mesh:resources("red/caller-1", "clusters"), mesh:resources("red/caller2-1", "clusters"))
    assert.same({ "10.244.2.21:8080", "10.244.2.22:8080" }, mesh:endpoints("red/caller-1", "blue/shop|8080"))
    local chain = mesh:chain("blue/shop-1", "inbound-listener", "inbound_blue/shop_8080_http")
    assert.is_true(chain.transport_socket.typed_config.require_client_certificate)
  end)

  it("is off without a MeshConfig, and while it is off (a_per_02)", function()
    local mesh = w1.world()
    assert.same({}, mesh:resources("red/caller-1", "listeners"))
    for _ = 1, 2 do
      mesh:apply(ON)
      assert.same({ "* -> 8080 * .*" }, mesh:allowed("blue/shop-1"))
      mesh:apply(OFF)
      assert.same({}, mesh:allowed("blue/shop-1"))
      assert.same({}, mesh:resources("red/caller-1", "listeners"))
    end
    mesh:apply(ON)
    mesh:delete("MeshConfig", "osm-system", "osm-mesh-config")
    assert.same({}, mesh:allowed("blue/shop-1"))
  end)

  it("closes when its switch is no boolean", function()
    local mesh = w1.world(ON)
    mesh:apply(config('{traffic: {enablePermissiveTrafficPolicyMode: "true"}}'))
    assert.same({}, mesh:allowed("blue/shop-1"))
    assert.equal(1, #mesh:rejects())
    assert.matches("^MeshConfig osm%-system/osm%-mesh%-config spec.traffic.enablePermissiveTrafficPolicyMode: ",
      mesh:rejects()[1])
  end)

  it("leaves targets to count when it is switched off (a_per_03)", function()
    local mesh = w1.world(ON, [[
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: all, namespace: blue}
spec: {matches: [{name: all}]}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: t, namespace: blue}
spec:
  destination: {kind: ServiceAccount, name: shop, namespace: blue}
  sources: [{kind: ServiceAccount, name: caller, namespace: red}]
  rules: [{kind: HTTPRouteGroup, name: all}]
]])
    local open = mesh:chain("red/caller-1", "outbound-listener", "outbound_blue/shop_80_http")
    assert.same({ "* -> 8080 * .*" }, mesh:allowed("blue/shop-1"))
    mesh:apply(OFF)
    assert.same({ "red/caller -> 8080 * .*" }, mesh:allowed("blue/shop-1"))
    -- the client's chain is the same: its connections stay
    assert.same(open, mesh:chain("red/caller-1", "outbound-listener", "outbound_blue/shop_80_http"))
  end)

  it("takes in a Service that appears (a_per_04)", function()
    local mesh = w1.world(ON)
    assert.is_nil(mesh:virtual_host("red/caller-1", "rds-outbound.81", "late"))
    mesh:apply(w1.service("late", "10.96.2.50", "app: shop", "{name: http, port: 81, targetPort: 8080}"))
    assert.same({ ["blue/late|8080"] = 100 }, mesh:shares("red/caller-1", "rds-outbound.81", "late"))
  end)

  it("is only what the MeshConfig of the mesh says", function()
    local mesh = w1.world((string.gsub(ON, "name: osm%-mesh%-config", "name: another")))
    assert.same({}, mesh:allowed("blue/shop-1"))
    assert.same({ 'MeshConfig osm-system/another metadata.name: is not "osm-mesh-config", the only one that counts: it has no '
      .. "effect" }, mesh:rejects())
    mesh = w1.world((string.gsub(ON, "osm%-system", "blue")))
    assert.same({}, mesh:allowed("blue/shop-1"))
  end)
end)

describe("a field of MeshConfig that is not honoured yet", function()
  local FIELDS = {
    { "sidecar", "enablePrivilegedInitContainer", "true", "false" },
    { "sidecar", "envoyImage", "envoy:1", '""' },
    { "sidecar", "resources", "{limits: {cpu: 1}}", "{}" },
    { "sidecar", "configResyncInterval", "30s", "0s" },
    { "certificate", "ingressGateway", "{validityDuration: 24h}", "{}" },
    { "featureFlags", "enableWASMStats", "true", "false" },
    { "featureFlags", "enableEgressPolicy", "true", "false" },
    { "featureFlags", "enableRetryPolicy", "true", "false" },
    { "featureFlags", "enableMeshRootCertificate", "true", "false" },
  }

  local function with(field, value)
    local parts = {}
    for part in string.gmatch(field[2], "[^.]+") do table.insert(parts, part) end
    local inner = parts[#parts] .. ": " .. value
    if #parts == 2 then inner = parts[1] .. ": {" .. inner .. "}" end
    if field[1] == "traffic" then
      return config("{traffic: {enablePermissiveTrafficPolicyMode: true, " .. inner .. "}}")
    end
    return config("{traffic: {enablePermissiveTrafficPolicyMode: true}, " .. field[1] .. ": {" .. inner .. "}}")
  end

  it("is reported with its path, and the rest of the object counts", function()
    local mesh = w1.world()
    for _, field in ipairs(FIELDS) do
      local path = "spec." .. field[1] .. "." .. field[2]
      mesh:apply(with(field, field[3]))
      assert.equal(1, #mesh:rejects(), path)
      assert.equal("MeshConfig osm-system/osm-mesh-config " .. path .. ": ", string.match(mesh:rejects()[1], "^.-: "))
      assert.matches("not supported yet", mesh:rejects()[1])
      assert.same({ "* -> 8080 * .*" }, mesh:allowed("blue/shop-1"), path)
    end
  end)

  it("is not reported while it asks for nothing", function()
    local mesh = w1.world()
    for _, field in ipairs(FIELDS) do
      mesh:apply(with(field, field[4]))
      assert.same({}, mesh:rejects(), field[2])
    end
  end)

  it("that nobody knows is reported too: a mistyped switch stays as it is", function()
    local mesh = w1.world(config("{traffic: {enablePermisiveTrafficPolicyMode: true, inboundExternalAuthorization: {enabled: true}}, "
      .. "sidecars: {logLevel: debug}, observability: {tracing: {enable: false}}}"))
    assert.same({}, mesh:allowed("blue/shop-1"))
    local found = {}
    for index, text in ipairs(mesh:rejects()) do found[index] = string.match(text, "(spec%S+): is no field") end
    assert.same({
      "spec.sidecars", "spec.traffic.enablePermisiveTrafficPolicyMode", "spec.traffic.inboundExternalAuthorization.enabled",
    }, found)
  end)
end)
