--- Every place of a valid object of every kind, with a value in it that does not belong there: whatever becomes of that
--- object, what the proxies beside it are served does not change by a byte, and nothing but that object is reported.
local w1 = require("spec.policies.w1")

--- JSON with the text `instead` at one place: { "spec", "ports", 1 }; of a map's entry with `key` as its name. Keys are written
--- in order.
local function json(value, place, depth, instead, key_instead)
  depth = depth or 0
  if place and depth == #place and instead then return instead end
  local function below(key, child)
    local on_the_way = place and place[depth + 1] == key
    return json(child, on_the_way and place or nil, depth + 1, instead, key_instead)
  end
  local function name_of(key)
    local is_place = key_instead and place and depth + 1 == #place and place[#place] == key
    return is_place and key_instead or string.format("%q", key)
  end
  if type(value) ~= "table" then return type(value) == "string" and string.format("%q", value) or tostring(value) end
  local parts = {}
  for index, child in ipairs(value) do parts[index] = below(index, child) end
  if #value > 0 then return "[" .. table.concat(parts, ", ") .. "]" end
  local keys = {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys)
  for _, key in ipairs(keys) do parts[#parts + 1] = name_of(key) .. ": " .. below(key, value[key]) end
  return "{" .. table.concat(parts, ", ") .. "}"
end

--- All places of a value, itself first.
local function places_of(value)
  local found = {}
  local function walk(each, path)
    found[#found + 1] = path
    if type(each) ~= "table" then return end
    for key, child in pairs(each) do walk(child, table.move(path, 1, #path, 1, { [#path + 1] = key })) end
  end
  walk(value, {})
  return found
end

local function object(api, kind, name, fields)
  fields.apiVersion, fields.kind = api, kind
  fields.metadata = fields.metadata or {}
  fields.metadata.name = name
  fields.metadata.namespace = kind ~= "Namespace" and (fields.metadata.namespace or "blue") or nil
  return fields
end

local function target(name)
  return {
    destination = { kind = "ServiceAccount", name = "victim", namespace = "blue" },
    sources = { { kind = "ServiceAccount", name = "other", namespace = "red" } },
    [name] = { { kind = "HTTPRouteGroup", name = "good", matches = { "all" } }, { kind = "TCPRoute", name = "good" } },
  }
end

local function matches(headers)
  return { { name = "all", pathRegex = "/x", methods = { "GET" }, headers = headers } }
end

local function split(weight, more)
  local spec = { service = "victim", backends = { { service = "victim", weight = weight } } }
  for key, value in pairs(more or {}) do spec[key] = value end
  return { spec = spec }
end

local ACCESS, SPECS, SPLIT = "access.smi-spec.io/", "specs.smi-spec.io/", "split.smi-spec.io/"

--- Valid objects: name and a number below 200 -> manifest. All of them are about workloads of their own.
local SAMPLES = {
  { "Namespace v1", function(name)
    return object("v1", "Namespace", name, { metadata = { labels = { ["openservicemesh.io/monitored-by"] = "osm" } } })
  end },
  { "Service v1", function(name, n)
    return object("v1", "Service", name, {
      spec = {
        type = "ClusterIP", clusterIP = "10.96.9." .. n, selector = { app = "victim" },
        ports = { { name = "a", port = 80, targetPort = "http", protocol = "TCP", appProtocol = "http" } },
      },
    })
  end },
  { "ServiceAccount v1", function(name) return object("v1", "ServiceAccount", name, {}) end },
  { "Pod v1", function(name, n)
    return object("v1", "Pod", name, {
      metadata = { labels = { app = "victim",
        ["osm-proxy-uuid"] = string.format("00000000-0000-4000-8000-999999999%03d", n) } },
      spec = { serviceAccountName = "victim",
        containers = { { name = "app", ports = { { name = "http", containerPort = 8080, protocol = "TCP" } } } } },
      status = { phase = "Running", podIP = "10.244.9." .. n, podIPs = { { ip = "10.244.9." .. n } },
        conditions = { { type = "Ready", status = "True" } } },
    })
  end },
  { "Endpoints v1", function(name, n)
    return object("v1", "Endpoints", name, {
      subsets = { { addresses = { { ip = "10.244.9." .. n, targetRef = { kind = "Pod", name = "p", namespace = "blue" } } },
        ports = { { name = "a", port = 8080, protocol = "TCP" } } } },
    })
  end },
  { "EndpointSlice discovery.k8s.io/v1", function(name, n)
    return object("discovery.k8s.io/v1", "EndpointSlice", name, {
      metadata = { labels = { ["kubernetes.io/service-name"] = "victim" } }, addressType = "IPv4",
      endpoints = { { addresses = { "10.244.9." .. n }, conditions = { ready = true },
        targetRef = { kind = "Pod", name = "p", namespace = "blue" } } },
      ports = { { name = "a", port = 8080, protocol = "TCP" } },
    })
  end },
  { "TrafficTarget v1alpha3", function(name) return object(ACCESS .. "v1alpha3", "TrafficTarget", name,
    { spec = target("rules") }) end },
  { "TrafficTarget v1alpha2", function(name) return object(ACCESS .. "v1alpha2", "TrafficTarget", name,
    { spec = target("rules") }) end },
  { "TrafficTarget v1alpha1", function(name) return object(ACCESS .. "v1alpha1", "TrafficTarget", name,
    target("specs")) end },
  { "HTTPRouteGroup v1alpha4", function(name) return object(SPECS .. "v1alpha4", "HTTPRouteGroup", name,
    { spec = { matches = matches({ { a = "b" } }) } }) end },
  { "HTTPRouteGroup v1alpha3", function(name) return object(SPECS .. "v1alpha3", "HTTPRouteGroup", name,
    { spec = { matches = matches({ a = "b" }) } }) end },
  { "HTTPRouteGroup v1alpha2", function(name) return object(SPECS .. "v1alpha2", "HTTPRouteGroup", name,
    { matches = matches({ { a = "b" } }) }) end },
  { "HTTPRouteGroup v1alpha1", function(name) return object(SPECS .. "v1alpha1", "HTTPRouteGroup", name,
    { matches = matches({ a = "b" }) }) end },
  { "TCPRoute v1alpha4", function(name) return object(SPECS .. "v1alpha4", "TCPRoute", name,
    { spec = { matches = { name = "m", ports = { 8080 } } } }) end },
  { "TCPRoute v1alpha1", function(name) return object(SPECS .. "v1alpha1", "TCPRoute", name, { spec = {} }) end },
  { "TrafficSplit v1alpha4", function(name) return object(SPLIT .. "v1alpha4", "TrafficSplit", name,
    split(1, { matches = { { kind = "HTTPRouteGroup", name = "good" } } })) end },
  { "TrafficSplit v1alpha2", function(name) return object(SPLIT .. "v1alpha2", "TrafficSplit", name, split(1)) end },
  { "TrafficSplit v1alpha1", function(name) return object(SPLIT .. "v1alpha1", "TrafficSplit", name,
    split("500m")) end },
  { "MeshConfig v1alpha2", function() return object("config.openservicemesh.io/v1alpha2", "MeshConfig", "osm-mesh-config", {
    metadata = { namespace = "osm-system" },
    spec = {
      traffic = { outboundPortExclusionList = { 80 }, inboundExternalAuthorization = { port = 1 } },
      sidecar = { logLevel = "error", resources = { limits = { cpu = "1" } } },
      observability = { tracing = { port = 9411 } }, certificate = { certKeyBitSize = 2048 },
      featureFlags = { enableWASMStats = false },
    },
  }) end },
}

local DEEP = 60 -- YAML may be 64 deep
local VALUES = {
  { "null", "null" },
  { "an empty list", "[]" },
  { "an empty map", "{}" },
  { "a list of lists", "[[], [[7]]]" },
  { "a huge integer", "9223372036854775807" },
  { "the least integer", "-9223372036854775808" },
  { "an integer beyond 64 bits", "9223372036854775808" },
  { "a huge float", "1.7976931348623157e308" },
  { "a float that is nearly nothing", "-4.9e-324" },
  { "no number", ".nan" },
  { "infinity", "-.inf" },
  { "true", "true" },
  { "an empty text", '""' },
  { "a text of control characters", '"\\u0001\\n\\t\\u007f\\u2028"' },
  { "a NUL character", '"a\\u0000b"' },
  { "half a surrogate pair", '"\\ud800"' },
  { "bytes that are not UTF-8", '"\xff\xc0\xaf"' },
  { "a text of 1 MiB", '"' .. string.rep("x", 1 << 20) .. '"' },
  { "deep nesting of lists", string.rep("[", DEEP) .. string.rep("]", DEEP) },
  { "deep nesting of maps", string.rep("{a: ", 40) .. "1" .. string.rep("}", 40) },
}

local NAMES = {
  { "a name that nobody knows", "unknown" },
  { "an empty name", '""' },
  { "a name with dots and brackets", '"a.b/c [d]\\": e"' },
  { "a name in other letters", '"ключ"' },
  { "a name of control characters", '"\\u0001\\n"' },
  { "a name that is not UTF-8", '"\xff"' },
  { "a name of 64 KiB", '"' .. string.rep("n", 1 << 16) .. '"' },
}

local HEALTHY = [[
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: good, namespace: blue}
spec: {matches: [{name: all, pathRegex: /buy, methods: [GET]}]}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {name: good, namespace: blue}
spec: {matches: {ports: [8080]}}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: good, namespace: blue}
spec:
  destination: {kind: ServiceAccount, name: shop, namespace: blue}
  sources: [{kind: ServiceAccount, name: caller, namespace: red}]
  rules: [{kind: HTTPRouteGroup, name: good}, {kind: TCPRoute, name: good}]
]]

--- Those of the world before the bad object, which may bring proxies of its own.
local function of_the_same(pods, digests)
  local found = {}
  for pod in pairs(pods) do found[pod] = digests[pod] end
  return found
end

--- Whether a part of the MeshConfig was bad that protects: what it protects is closed then.
local function closes(mesh)
  for _, reject in ipairs(mesh:rejects()) do
    for _, path in ipairs({ "spec: ", "spec.sidecar: ", "tlsMinProtocolVersion: ", "inboundExternalAuthorization: " }) do
      if string.find(reject, path, 1, true) then return true end
    end
  end
  return false
end

describe("a wrong value in any place of", function()
  local mesh = w1.world(HEALTHY)
  local engine = mesh.at.engine
  local alone = mesh:digests()

  it("an object is seen against proxies that are granted something", function()
    assert.same({ "red/caller -> 8080 GET /buy" }, mesh:allowed("blue/shop-1"))
    assert.is_string(alone["red/caller-1"])
    assert.same({}, mesh:rejects())
  end)

  for _, sample in ipairs(SAMPLES) do
    local title, make = sample[1], sample[2]
    it("a " .. title .. " changes nothing else", function()
      local places = places_of(make("probe", 1))
      local good = make("probe", 1)
      engine:apply(json(good))
      assert.same({}, mesh:errors())
      assert.same(alone, of_the_same(alone, mesh:digests()), "the valid object")
      engine:delete(good.kind, good.metadata.namespace or "", "probe")
      --- Applies one object for each place, spoilt by `spoil(manifest, place)`, and looks at the others.
      local function try(what, spoil)
        local made = {}
        for index, place in ipairs(places) do
          made[index] = make("bad-" .. index, index)
          pcall(engine.apply, engine, spoil(made[index], place)) -- what is no manifest is refused at once
          if title == "MeshConfig v1alpha2" then -- there is only one: each must be looked at before the next
            assert.same({}, mesh:errors(), what)
            assert.same({ "red/caller -> 8080 GET /buy" }, mesh:allowed("blue/shop-1"), what)
            if not closes(mesh) then assert.same(alone, of_the_same(alone, mesh:digests()), what) end
          end
        end
        assert.same({}, mesh:errors(), what)
        if title ~= "MeshConfig v1alpha2" then assert.same(alone, of_the_same(alone, mesh:digests()), what) end
        for _, each in ipairs(made) do engine:delete(each.kind, each.metadata.namespace or "", each.metadata.name) end
      end
      for _, value in ipairs(VALUES) do
        try(value[1], function(manifest, place) return json(manifest, place, 0, value[2]) end)
      end
      for _, name in ipairs(NAMES) do
        try(name[1], function(manifest, place) return json(manifest, place, 0, nil, name[2]) end)
      end
      for _, namespace in ipairs({ "default", "true" }) do -- where a changed namespace has led
        for index in ipairs(places) do engine:delete(good.kind, namespace, "bad-" .. index) end
      end
      assert.same(alone, mesh:digests())
      assert.same({}, mesh:rejects())
    end)
  end
end)
