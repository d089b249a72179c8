--- What the MeshConfig switches on around the mesh: global egress, external authorization, tracing, health checks.
local w1 = require("spec.policies.w1")

local function config(spec)
  return "apiVersion: config.openservicemesh.io/v1alpha2\nkind: MeshConfig\n"
    .. "metadata: {name: osm-mesh-config, namespace: osm-system}\nspec: " .. spec .. "\n"
end

local OPEN = "{traffic: {enablePermissiveTrafficPolicyMode: true"

local function http_filters(mesh)
  local chain = mesh:chain("blue/shop-1", "inbound-listener", "inbound_blue/shop_8080_http")
  local names = {}
  for index, filter in ipairs(chain.filters[#chain.filters].typed_config.http_filters) do names[index] = filter.name end
  return names, chain.filters[#chain.filters].typed_config
end

describe("global egress", function()
  it("leads all that is no Service to where it wanted to go", function()
    local mesh = w1.world(config("{traffic: {enableEgress: true}}"))
    local listener = mesh:resource("red/caller-1", "listeners", "outbound-listener")
    assert.equal("outbound-egress-filter-chain", listener.default_filter_chain.name)
    local proxy = listener.default_filter_chain.filters[1].typed_config
    assert.same({ "passthrough-outbound", "egress-tcp-proxy.passthrough-outbound" }, { proxy.cluster, proxy.stat_prefix })
    assert.equal("ORIGINAL_DST", mesh:clusters("red/caller-1")["passthrough-outbound"].type)
    assert.same({}, mesh:rejects())
    assert.same({}, mesh:errors())
  end)

  it("is off by itself: there is no listener where there is nobody to call", function()
    local mesh = w1.world(config("{traffic: {enableEgress: false}}"))
    assert.is_nil(mesh:resource("red/caller-1", "listeners", "outbound-listener"))
    assert.is_nil(mesh:clusters("red/caller-1")["passthrough-outbound"])
  end)
end)

describe("external authorization", function()
  local FULL = OPEN .. ", inboundExternalAuthorization: {enable: true, address: authz.example.org, port: 9191, "
    .. "statPrefix: mine, timeout: 1500ms, failureModeAllow: true}}}"

  it("is asked after the mesh's own rules", function()
    local mesh = w1.world(config(FULL))
    local names, manager = http_filters(mesh)
    assert.same({ "envoy.filters.http.rbac", "http_external_authz", "http_router" }, names)
    local filter = manager.http_filters[2].typed_config
    assert.same({ "mine", true, "1.500s" }, { filter.stat_prefix, filter.failure_mode_allow, filter.grpc_service.timeout })
    local cluster = mesh:clusters("blue/shop-1")[filter.grpc_service.envoy_grpc.cluster_name]
    local address = cluster.load_assignment.endpoints[1].lb_endpoints[1].endpoint.address.socket_address
    assert.same({ address = "authz.example.org", port_value = 9191 }, address)
    assert.same({}, mesh:rejects())
    assert.same({}, mesh:errors())
  end)

  it("is waited for a second where no time is given", function()
    for _, text in ipairs({ "", ', timeout: ""' }) do
      local mesh = w1.world(config(OPEN .. ", inboundExternalAuthorization: {enable: true, address: authz, port: 1" .. text
        .. "}}}"))
      local _, manager = http_filters(mesh)
      assert.equal("1s", manager.http_filters[2].typed_config.grpc_service.timeout)
      assert.same({}, mesh:rejects())
    end
  end)

  it("that cannot be asked lets nothing in, and says so", function()
    for field, text in pairs({
      port = "address: authz", address = "port: 9191", [" address"] = "address: 'http://x/', port: 9191",
    }) do
      local mesh = w1.world(config(OPEN .. ", inboundExternalAuthorization: {enable: true, " .. text .. "}}}"))
      local names, manager = http_filters(mesh)
      assert.same({ "envoy.filters.http.rbac", "inbound_ext_authz_unreachable", "http_router" }, names)
      assert.same({}, manager.http_filters[2].typed_config.rules) -- there, and without a policy
      assert.equal(1, #mesh:rejects())
      assert.matches("spec.traffic.inboundExternalAuthorization." .. string.gsub(field, " ", "") .. ": is needed",
        mesh:rejects()[1], 1, true)
    end
  end)

  it("lets nothing in while any part of it cannot be read, and stays as it is beside what else is wrong", function()
    for bad, closed in pairs({
      ["inboundExternalAuthorization: {enable: 'true', address: a, port: 1}"] = true,
      ["inboundExternalAuthorization: {enable: true, address: a, port: 70000}"] = true,
      ["inboundExternalAuthorization: {enable: true, address: a, port: 1, timeout: 5, failureModeAllow: true}"] = true,
      ["inboundExternalAuthorization: 'on'"] = true,
      ["inboundExternalAuthorization: {enable: true, address: a, port: 1}, outboundPortExclusionList: [0]"] = false,
    }) do
      local mesh = w1.world(config(OPEN .. ", " .. bad .. "}, sidecar: {logLevel: verbose}}"))
      local names = http_filters(mesh)
      assert.same({ "envoy.filters.http.rbac", closed and "inbound_ext_authz_unreachable" or "http_external_authz",
        "http_router" }, names, bad)
      assert.same({}, mesh:errors())
      local told = table.concat(mesh:rejects(), "\n")
      assert.matches("spec.sidecar.logLevel: expected one of", told, 1, true)
      assert.equal(closed, string.find(told, "cannot be read whole", 1, true) ~= nil)
    end
  end)

  -- Without spec the whole object was as if it were absent, and nobody was asked any more.
  it("lets nothing in while the MeshConfig has no spec that can be read, as when its fields are outdented", function()
    local granted = [[
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {name: any, namespace: blue}
spec: {matches: {}}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: t, namespace: blue}
spec:
  destination: {kind: ServiceAccount, name: shop, namespace: blue}
  sources: [{kind: ServiceAccount, name: caller, namespace: red}]
  rules: [{kind: TCPRoute, name: any}]
]]
    for spec, why in pairs({
      ["\ntraffic: {inboundExternalAuthorization: {enable: true, address: a, port: 1}}"] = "spec: is required",
      ["[]"] = "spec: expected object, got array", ["'x'"] = "spec: expected object, got string", ["7"] = "spec: expected object",
    }) do
      for _, version in ipairs({ "v1alpha2", "v1alpha1", "v9" }) do
        local mesh = w1.world(granted, (string.gsub(config(spec), "v1alpha2", version)))
        assert.same({ "envoy.filters.http.rbac", "inbound_ext_authz_unreachable", "http_router" }, (http_filters(mesh)), spec)
        assert.equal("TLSv1_3", mesh.at:ask("host_settings").tls.minimum)
        assert.matches(why, table.concat(mesh:rejects(), "\n"), 1, true)
        assert.same({}, mesh:errors())
        mesh:delete("MeshConfig", "osm-system", "osm-mesh-config")
        assert.same({ "envoy.filters.http.rbac", "http_router" }, (http_filters(mesh)))
        assert.same({}, mesh:rejects())
      end
    end
  end)

  it("is not closed by what a manifest itself says of refused fields", function()
    for _, refused in ipairs({ "x", "[1]", "{spec.traffic: x}" }) do
      local mesh = w1.world(config(FULL) .. "refused: " .. refused .. "\n")
      assert.same({ "envoy.filters.http.rbac", "http_external_authz", "http_router" }, (http_filters(mesh)), refused)
      assert.same({}, mesh:errors())
    end
  end)

  it("is asked by a MeshConfig of a version that nobody knows", function()
    local mesh = w1.world((string.gsub(config(FULL), "v1alpha2", "v9")))
    assert.same({ "envoy.filters.http.rbac", "http_external_authz", "http_router" }, (http_filters(mesh)))
    assert.matches("apiVersion: version v9 is not known here", mesh:rejects()[1], 1, true)
  end)

  it("is asked of nobody while it is switched off", function()
    local mesh = w1.world(config((string.gsub(FULL, "enable: true", "enable: false"))))
    assert.same({ "envoy.filters.http.rbac", "http_router" }, (http_filters(mesh)))
  end)

  it("waits a second where the timeout is no duration", function()
    for _, text in ipairs({ "soon", "-1s", "0s", "2h" }) do
      local mesh = w1.world(config((string.gsub(FULL, "1500ms", text))))
      local _, manager = http_filters(mesh)
      assert.equal("1s", manager.http_filters[2].typed_config.grpc_service.timeout, text)
      assert.equal(1, #mesh:rejects(), text)
    end
  end)
end)

describe("tracing", function()
  it("goes to the collector by Zipkin's protocol", function()
    local mesh = w1.world(config("{traffic: {enablePermissiveTrafficPolicyMode: true}, "
      .. "observability: {tracing: {enable: true, address: zipkin.example.org, port: 9412, endpoint: /in}}}"))
    local _, manager = http_filters(mesh)
    local zipkin = manager.tracing.provider.typed_config
    assert.same({ "envoy-tracing-cluster", "/in" }, { zipkin.collector_cluster, zipkin.collector_endpoint })
    assert.is_truthy(mesh:clusters("red/caller-1")["envoy-tracing-cluster"])
    assert.same({}, mesh:errors())
    mesh = w1.world(config("{traffic: {enablePermissiveTrafficPolicyMode: true}, observability: {tracing: {enable: true}}}"))
    local endpoint = mesh:clusters("red/caller-1")["envoy-tracing-cluster"].load_assignment.endpoints[1].lb_endpoints[1]
    assert.same({ address = "jaeger.osm-system.svc.cluster.local", port_value = 9411 },
      endpoint.endpoint.address.socket_address)
    assert.same({}, mesh:rejects())
  end)
end)

describe("active health checks", function()
  it("are answered by the server's sidecar before it asks who calls", function()
    local mesh = w1.world(config("{traffic: {enablePermissiveTrafficPolicyMode: true}, "
      .. "featureFlags: {enableEnvoyActiveHealthChecks: true}}"))
    assert.same({ "http_health_check", "envoy.filters.http.rbac", "http_router" }, (http_filters(mesh)))
    local check = mesh:clusters("red/caller-1")["blue/shop|8080"].health_checks[1]
    assert.equal("/healthz/osm", check.http_health_check.path)
    assert.equal("shop.blue.svc.cluster.local", check.http_health_check.host)
    assert.is_nil(mesh:clusters("red/caller-1")["blue/echo|9000"].health_checks)
    assert.same({}, mesh:rejects())
    assert.same({}, mesh:errors())
  end)
end)

describe("a MeshConfig of v1alpha1", function()
  it("counts as one of v1alpha2, the newer fields too", function()
    local spec = OPEN .. "}, sidecar: {tlsMinProtocolVersion: TLSv1_3, logLevel: debug}, featureFlags: {enableNonsense: true}}"
    local mesh, older = w1.world(config(spec)), w1.world((string.gsub(config(spec), "v1alpha2", "v1alpha1")))
    assert.same(mesh:everything(), older:everything())
    assert.equal("TLSv1_3", older.at:ask("host_settings").tls.minimum)
    assert.equal(1, #older:rejects())
    assert.matches("spec.featureFlags.enableNonsense: ", older:rejects()[1], 1, true)
    assert.same({}, older:errors())
  end)

  it("is held to the schema", function()
    local mesh = w1.world((string.gsub(config("{traffic: {enableEgress: 7}}"), "v1alpha2", "v1alpha1")))
    assert.matches("spec.traffic.enableEgress", mesh:rejects()[1], 1, true)
    local bad = OPEN .. ", inboundExternalAuthorization: {enable: true, address: a, port: 70000}}}"
    mesh = w1.world((string.gsub(config(bad), "v1alpha2", "v1alpha1")))
    assert.equal("inbound_ext_authz_unreachable", (http_filters(mesh))[2])
  end)
end)

describe("the lists that redirection is made of", function()
  it("are looked at when they are written", function()
    local mesh = w1.world(config("{traffic: {outboundIPRangeExclusionList: [10.0.0.0/8, 10.0.0.0/33, here]}}"))
    assert.equal(2, #mesh:rejects())
    assert.matches("spec.traffic.outboundIPRangeExclusionList[1]: ", mesh:rejects()[1], 1, true)
  end)

  it("name interfaces as the redirection can", function()
    local mesh = w1.world()
    for name, refused in pairs({
      eth0 = 0, ["eth+"] = 0, ["+"] = 0, ["br-lan.1@x_y"] = 0, abcdefghijklmno = 0, abcdefghijklmnop = 1, [""] = 1, ["-j"] = 1,
      ["eth0; x"] = 1, ["e+h"] = 1, ["++"] = 1, ["."] = 1, [".."] = 1, ["!lo"] = 1,
    }) do
      mesh:apply(config('{traffic: {networkInterfaceExclusionList: [lo, "' .. name .. '"]}}'))
      assert.equal(refused, #mesh:rejects(), name)
      if refused == 1 then
        assert.matches("spec.traffic.networkInterfaceExclusionList[1]: ", mesh:rejects()[1], 1, true)
        assert.matches("no new sidecar can start", mesh:rejects()[1], 1, true)
      end
    end
  end)

  it("have an end", function()
    local mesh, ports = w1.world(), {}
    for port = 1, 1025 do ports[port] = port end
    mesh:apply(config("{traffic: {outboundPortExclusionList: [" .. table.concat(ports, ", ") .. "]}}"))
    assert.matches("spec.traffic.outboundPortExclusionList: has more than 1024 entries", mesh:rejects()[1], 1, true)
    ports[1025] = 1
    mesh:apply(config("{traffic: {outboundPortExclusionList: [" .. table.concat(ports, ", ") .. "]}}"))
    assert.same({}, mesh:rejects())
  end)
end)
