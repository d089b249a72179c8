--- A wrong type in any field that a policy reads: the object is left out with the field's path, and all others count.
local w1 = require("spec.policies.w1")

local GOOD = {
  Service = [[
apiVersion: v1
kind: Service
metadata: {name: bad, namespace: blue}
spec:
  type: ClusterIP
  clusterIP: 10.96.2.80
  selector: {app: shop}
  ports:
  - {name: a, port: 80, targetPort: 8080, protocol: TCP, appProtocol: http}
]],
  TrafficTarget = [[
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: bad, namespace: blue}
spec:
  destination: {kind: ServiceAccount, name: shop, namespace: blue}
  sources:
  - {kind: ServiceAccount, name: caller2, namespace: red}
  rules:
  - {kind: HTTPRouteGroup, name: all, matches: [all]}
]],
  HTTPRouteGroup = [[
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: bad, namespace: blue}
spec:
  matches:
  - {name: all, pathRegex: /x, methods: [GET], headers: [{a: b}]}
]],
  TCPRoute = [[
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {name: bad, namespace: blue}
spec:
  matches: {ports: [9000]}
]],
  TrafficSplit = [[
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata: {name: bad, namespace: blue, creationTimestamp: "2024-01-01T00:00:00Z"}
spec:
  service: shop-apex
  backends:
  - {service: shop-v1, weight: 1}
]],
}

-- kind, what stands in the good object, what stands there instead, the path that is named
local CASES = {
  { "Service", "spec:.*", "spec: 7", "spec" },
  { "Service", "type: ClusterIP", "type: 7", "spec.type" },
  { "Service", "10.96.2.80", "[7]", "spec.clusterIP" },
  { "Service", "10.96.2.80", "10.96.2.80\n  clusterIPs: [7]", "spec.clusterIPs[0]" },
  { "Service", "selector: {app: shop}", "selector: 7", "spec.selector" },
  { "Service", "selector: {app: shop}", "selector: {app: 7}", "spec.selector.app" },
  { "Service", "ports:.*", "ports: {a: 7}", "spec.ports" },
  { "Service", "%- {name: a.*", "- 7", "spec.ports[0]" },
  { "Service", "name: a,", "name: 7,", "spec.ports[0].name" },
  { "Service", "port: 80,", 'port: "80",', "spec.ports[0].port" },
  { "Service", "port: 80,", "port: 70000,", "spec.ports[0].port" },
  { "Service", "port: 80, ", "", "spec.ports[0].port" },
  { "Service", "targetPort: 8080", "targetPort: true", "spec.ports[0].targetPort" },
  { "Service", "targetPort: 8080", "targetPort: 70000", "spec.ports[0].targetPort" },
  { "Service", "protocol: TCP", "protocol: 7", "spec.ports[0].protocol" },
  { "Service", "appProtocol: http", "appProtocol: 7", "spec.ports[0].appProtocol" },
  { "TrafficTarget", "spec:.*", "spec: 7", "spec" },
  { "TrafficTarget", "destination: [^\n]*", "destination: 7", "spec.destination" },
  { "TrafficTarget", "  destination: [^\n]*\n", "", "spec.destination" },
  { "TrafficTarget", "ServiceAccount, name: shop", "7, name: shop", "spec.destination.kind" },
  { "TrafficTarget", "name: shop", "name: 7", "spec.destination.name" },
  { "TrafficTarget", "name: shop, namespace: blue", "name: shop, namespace: 7", "spec.destination.namespace" },
  { "TrafficTarget", "sources:\n[^\n]*", "sources: 7", "spec.sources" },
  { "TrafficTarget", "%- {kind: ServiceAccount[^\n]*", "- 7", "spec.sources[0]" },
  { "TrafficTarget", "ServiceAccount, name: caller2", "7, name: caller2", "spec.sources[0].kind" },
  { "TrafficTarget", "name: caller2", "name: [7]", "spec.sources[0].name" },
  { "TrafficTarget", "namespace: red", "namespace: 7", "spec.sources[0].namespace" },
  { "TrafficTarget", ", namespace: red", "", "spec.sources[0].namespace" },
  { "TrafficTarget", "name: caller2", "name: Caller_2", "spec.sources[0].name" },
  { "TrafficTarget", "namespace: red", "namespace: red.blue", "spec.sources[0].namespace" },
  { "TrafficTarget", "rules:.*", "rules: 7", "spec.rules" },
  { "TrafficTarget", "%- {kind: HTTPRouteGroup[^\n]*", "- 7", "spec.rules[0]" },
  { "TrafficTarget", "kind: HTTPRouteGroup", "kind: 7", "spec.rules[0].kind" },
  { "TrafficTarget", "name: all", "name: 7", "spec.rules[0].name" },
  { "TrafficTarget", "%[all%]", "all", "spec.rules[0].matches" },
  { "TrafficTarget", "%[all%]", "[7]", "spec.rules[0].matches[0]" },
  { "TrafficTarget", "destination:", "destinaton:", "spec.destinaton" },
  { "TrafficTarget", "blue}\n  sources", "blue, port: 8080}\n  sources", "spec.destination.port" },
  { "TrafficTarget", "matches: ", "matche: ", "spec.rules[0].matche" },
  { "TrafficTarget", "matches: ", "MATCHES: ", "spec.rules[0].MATCHES" },
  { "TrafficTarget", "namespace: red", "namespace: red, group: x", "spec.sources[0].group" },
  { "HTTPRouteGroup", "spec:.*", "spec: 7", "spec" },
  { "HTTPRouteGroup", "matches:.*", "matches: 7", "spec.matches" },
  { "HTTPRouteGroup", "%- {.*", "- 7", "spec.matches[0]" },
  { "HTTPRouteGroup", "name: all", "name: 7", "spec.matches[0].name" },
  { "HTTPRouteGroup", "name: all, ", "", "spec.matches[0].name" },
  { "HTTPRouteGroup", "/x", "7", "spec.matches[0].pathRegex" },
  { "HTTPRouteGroup", "%[GET%]", "GET", "spec.matches[0].methods" },
  { "HTTPRouteGroup", "%[GET%]", "[FETCH]", "spec.matches[0].methods[0]" },
  { "HTTPRouteGroup", "%[{a: b}%]", "{a: b}", "spec.matches[0].headers" },
  { "HTTPRouteGroup", "{a: b}", "7", "spec.matches[0].headers[0]" },
  { "HTTPRouteGroup", "{a: b}", "{a: 7}", "spec.matches[0].headers[0].a" },
  { "HTTPRouteGroup", "{a: b}", "{a: b, c: d}", "spec.matches[0].headers[0]" },
  { "HTTPRouteGroup", "{a: b}", '{a: ""}', "spec.matches[0].headers[0].a" },
  { "HTTPRouteGroup", "{a: b}", '{"a b": c}', "spec.matches[0].headers[0]" },
  { "HTTPRouteGroup", "{a: b}", '{a.b: "("}', 'spec.matches[0].headers[0]["a.b"]' },
  { "HTTPRouteGroup", "matches:", "match:", "spec.match" },
  { "HTTPRouteGroup", "pathRegex:", "pathRegexx:", "spec.matches[0].pathRegexx" },
  { "HTTPRouteGroup", "methods:", "method:", "spec.matches[0].method" },
  { "HTTPRouteGroup", "headers:", "header:", "spec.matches[0].header" },
  { "TCPRoute", "spec:.*", "spec: 7", "spec" },
  { "TCPRoute", "spec:.*", "spec: {}", "spec.matches" },
  { "TCPRoute", "matches:.*", "matches: 7", "spec.matches" },
  { "TCPRoute", "%[9000%]", "9000", "spec.matches.ports" },
  { "TCPRoute", "%[9000%]", '["9000"]', "spec.matches.ports[0]" },
  { "TCPRoute", "%[9000%]", "[0]", "spec.matches.ports[0]" },
  { "TCPRoute", "ports:", "port:", "spec.matches.port" },
  { "TCPRoute", "matches:", "rules: []\n  matches:", "spec.rules" },
  { "TrafficSplit", "backends:", "matches: []\n  backends:", "spec.matches" },
  { "TrafficSplit", "weight: 1", "weigth: 1", "spec.backends[0].weigth" },
  { "TrafficSplit", "creationTimestamp: [^}]*", "creationTimestamp: 7", "metadata.creationTimestamp" },
  { "TrafficSplit", "spec:.*", "spec: 7", "spec" },
  { "TrafficSplit", "service: shop%-apex", "service: 7", "spec.service" },
  { "TrafficSplit", "backends:.*", "backends: 7", "spec.backends" },
  { "TrafficSplit", "%- {.*", "- 7", "spec.backends[0]" },
  { "TrafficSplit", "service: shop%-v1", "service: 7", "spec.backends[0].service" },
  { "TrafficSplit", "service: shop%-v1", "service: Shop_V1", "spec.backends[0].service" },
  { "TrafficSplit", "weight: 1", 'weight: "1"', "spec.backends[0].weight" },
  { "TrafficSplit", ", weight: 1", "", "spec.backends[0].weight" },
}

local OTHERS = [[
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: all, namespace: blue}
spec: {matches: [{name: all}]}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: good, namespace: blue}
spec:
  destination: {kind: ServiceAccount, name: shop, namespace: blue}
  sources: [{kind: ServiceAccount, name: caller, namespace: red}]
  rules: [{kind: HTTPRouteGroup, name: all}]
]]

describe("an object with a wrong field", function()
  local mesh = w1.world(OTHERS)
  local alone = mesh:everything()

  for _, case in ipairs(CASES) do
    local kind, pattern, instead, path = table.unpack(case)
    it("is left out: " .. kind .. " " .. path .. " = " .. instead, function()
      local text, replaced = string.gsub(GOOD[kind], pattern, (string.gsub(instead, "%%", "%%%%")), 1)
      assert.equal(1, replaced)
      mesh:apply(text)
      assert.equal(1, #mesh:rejects())
      assert.equal(kind .. " blue/bad " .. path .. ": ", string.match(mesh:rejects()[1], "^.-: "))
      assert.same({}, mesh:errors())
      assert.same(alone, mesh:everything())
      mesh:delete(kind, "blue", "bad")
      assert.same({}, mesh:rejects())
    end)
  end

  it("is named by a path that a long name cannot spoil", function()
    mesh:apply((string.gsub(GOOD.HTTPRouteGroup, "{a: b}", '{"' .. string.rep("n", 1000) .. '": "("}')))
    assert.same({}, mesh:errors())
    assert.equal(2, #mesh:rejects())
    for _, reject in ipairs(mesh:rejects()) do
      assert.equal("HTTPRouteGroup blue/bad spec.matches[0].headers[0]", string.sub(reject, 1, 50))
      assert.is_true(#reject < 400)
    end
    mesh:delete("HTTPRouteGroup", "blue", "bad")
  end)

  it("is told the field that was meant", function()
    mesh:apply((string.gsub(GOOD.HTTPRouteGroup, "methods", "Method")))
    assert.same({ "HTTPRouteGroup blue/bad spec.matches[0].Method: unknown field; did you mean methods?" },
      mesh:rejects())
    mesh:delete("HTTPRouteGroup", "blue", "bad")
  end)

  it("counts as soon as the field is right", function()
    for kind, text in pairs(GOOD) do
      mesh:apply(text)
      assert.same({}, mesh:rejects(), kind)
      mesh:delete(kind, "blue", "bad")
    end
    assert.same(alone, mesh:everything())
  end)
end)
