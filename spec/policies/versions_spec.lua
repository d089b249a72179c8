--- Older versions of the SMI kinds: each says what its newest form says, and never grants more than it says itself.
local w1 = require("spec.policies.w1")

local function target(version, fields)
  return "apiVersion: access.smi-spec.io/" .. version .. "\nkind: TrafficTarget\nmetadata: {name: t, namespace: blue}\n"
    .. fields
end

local SUBJECTS = [[
destination: {kind: ServiceAccount, name: shop, namespace: blue}
sources: [{kind: ServiceAccount, name: caller, namespace: red}]
]]
local ECHO = string.gsub(SUBJECTS, "name: shop", "name: echo")

local function below_spec(text)
  return "spec:\n" .. string.gsub(text, "([^\n]+)", "  %1")
end

local TARGETS = {
  v1alpha1 = target("v1alpha1", SUBJECTS .. "specs: [{kind: HTTPRouteGroup, name: g, matches: [buy]}]\n"),
  v1alpha2 = target("v1alpha2", below_spec(SUBJECTS .. "rules: [{kind: HTTPRouteGroup, name: g, matches: [buy]}]\n")),
  v1alpha3 = target("v1alpha3", below_spec(SUBJECTS .. "rules: [{kind: HTTPRouteGroup, name: g, matches: [buy]}]\n")),
}

local function group(version, fields)
  return "apiVersion: specs.smi-spec.io/" .. version .. "\nkind: HTTPRouteGroup\nmetadata: {name: g, namespace: blue}\n"
    .. fields
end

local function matches(headers)
  return "matches:\n- {name: buy, pathRegex: /buy, methods: [GET, POST]" .. headers .. "}\n"
    .. "- {name: sell, pathRegex: /sell, methods: ['*']}\n"
end

local LIST, MAP = ", headers: [{a: x}, {b: y}]", ", headers: {a: x, b: y}"

local GROUPS = {
  { "v1alpha1", group("v1alpha1", matches(LIST)) },
  { "v1alpha1", group("v1alpha1", matches(MAP)) },
  { "v1alpha2", group("v1alpha2", matches(LIST)) },
  { "v1alpha2", group("v1alpha2", matches(MAP)) },
  { "v1alpha3", group("v1alpha3", below_spec(matches(LIST))) },
  { "v1alpha3", group("v1alpha3", below_spec(matches(MAP))) },
  { "v1alpha4", group("v1alpha4", below_spec(matches(LIST))) },
}

local ALLOWED = { "red/caller -> 8080 GET|POST /buy a=x b=y" }

local function route(version, fields)
  return "apiVersion: specs.smi-spec.io/" .. version .. "\nkind: TCPRoute\nmetadata: {name: r, namespace: blue}\n"
    .. fields
end

local function split(version, backends, more)
  return "apiVersion: split.smi-spec.io/" .. version .. "\nkind: TrafficSplit\nmetadata: {name: s, namespace: blue}\n"
    .. "spec:\n  service: shop-apex\n  backends: [" .. backends .. "]\n" .. (more or "")
end

local function shares(mesh)
  return mesh:shares("red/caller-1", "rds-outbound.80", "shop-apex")
end

--- Both backends of the splits below are granted.
local GRANTED = group("v1alpha4", "spec: {matches: [{name: all}]}\n") .. "---\n"
  .. target("v1alpha3", below_spec(string.gsub(SUBJECTS, "shop", "shop-v1")
    .. "rules: [{kind: HTTPRouteGroup, name: g}]\n")) .. "---\n"
  .. string.gsub(target("v1alpha3", below_spec(string.gsub(SUBJECTS, "shop", "shop-v2")
    .. "rules: [{kind: HTTPRouteGroup, name: g}]\n")), "name: t", "name: t2")

describe("an older TrafficTarget", function()
  it("grants what its newest form grants, to the byte", function()
    local mesh = w1.world(GROUPS[7][2], TARGETS.v1alpha3)
    local newest = mesh:digests()
    assert.same(ALLOWED, mesh:allowed("blue/shop-1"))
    for _, version in ipairs({ "v1alpha1", "v1alpha2" }) do
      mesh:delete("TrafficTarget", "blue", "t")
      assert.same({}, mesh:allowed("blue/shop-1"))
      mesh:apply(TARGETS[version])
      assert.same({}, mesh:rejects(), version)
      assert.same({}, mesh:errors(), version)
      assert.same(newest, mesh:digests(), version)
    end
  end)

  it("is refused with a port, which no newer version can say", function()
    for version, path in pairs({ v1alpha1 = "destination.port", v1alpha2 = "spec.destination.port" }) do
      for _, port in ipairs({ "8080", '"8080"' }) do
        local text = string.gsub(TARGETS[version], "namespace: blue}\n([^\n]*sources)", "namespace: blue, port: " .. port
          .. "}\n%1")
        local mesh = w1.world(GROUPS[7][2], text)
        assert.same({ "TrafficTarget blue/t " .. path .. ": is not supported: list the port in a TCPRoute of v1alpha4 "
          .. "and name it in a rule of this target" }, mesh:rejects())
        assert.same({}, mesh:allowed("blue/shop-1"))
      end
    end
  end)

  it("is refused with a field that it does not know, where one would limit it", function()
    for _, case in ipairs({
      { "v1alpha1", "matches: %[buy%]", "matchs: [buy]", "specs[0].matchs" },
      { "v1alpha1", "specs:", "rules: []\nspecs:", "rules" },
      { "v1alpha1", "specs:", "spec: {}\nspecs:", "spec" },
      { "v1alpha1", "namespace: red", "namespace: red, port: 80", "sources[0].port" },
      { "v1alpha2", "matches: %[buy%]", "matchs: [buy]", "spec.rules[0].matchs" },
      { "v1alpha2", "rules:", "specs: []\n  rules:", "spec.specs" },
      { "v1alpha2", "namespace: red", "namespace: red, port: 80", "spec.sources[0].port" },
      { "v1alpha1", "specs:[^\n]*\n", "", "specs" },
    }) do
      local text, replaced = string.gsub(TARGETS[case[1]], case[2], case[3])
      assert.equal(1, replaced)
      local mesh = w1.world(GROUPS[7][2], text)
      assert.equal("TrafficTarget blue/t " .. case[4] .. ": ", string.match(mesh:rejects()[1], "^.-: "))
      assert.same({}, mesh:allowed("blue/shop-1"))
      assert.same({}, mesh:errors())
    end
  end)

  it("is told whose field path it is, where only the newest form has it", function()
    local mesh = w1.world(GROUPS[7][2], (string.gsub(TARGETS.v1alpha1, "kind: HTTPRouteGroup", "kind: UDPRoute")))
    assert.same({ 'TrafficTarget blue/t spec.rules[0].kind: "UDPRoute" is not HTTPRouteGroup or TCPRoute; nothing is '
      .. "granted (the path is that of v1alpha3, which the object was lifted to)" }, mesh:rejects())
    assert.same({}, mesh:allowed("blue/shop-1"))
  end)
end)

describe("an older HTTPRouteGroup", function()
  it("describes what its newest form describes, with headers as a list or as a map", function()
    for _, case in ipairs(GROUPS) do
      local mesh = w1.world(TARGETS.v1alpha3, case[2])
      assert.same({}, mesh:rejects(), case[2])
      assert.same({}, mesh:errors(), case[2])
      assert.same(ALLOWED, mesh:allowed("blue/shop-1"), case[2])
    end
  end)

  it("grants nothing with a part that is wrong", function()
    local old = group("v1alpha2", matches(MAP))
    for _, case in ipairs({
      { old, "{a: x", "{a: 7", "matches[0].headers" },
      { old, "headers: {a: x, b: y}", "headers: 7", "matches[0].headers" },
      { old, "headers", "header", "matches[0].header" },
      { old, "a: x, b: y", "a: '(', b: y", "spec.matches[0].headers[0].a" },
      { old, "a: x, b: y", "Host: x, ':authority': y", "spec.matches[0].headers[1].Host" },
      { old, "matches:", "match:", "match" },
      { old, "pathRegex: /buy", "pathRegex: '('", "spec.matches[0].pathRegex" },
      { group("v1alpha2", matches(LIST)), "{a: x}", "{a: x, b: z}", "spec.matches[0].headers[0]" },
      { GROUPS[1][2], "pathRegex: /buy, ", "", "matches[0].pathRegex" },
      { GROUPS[1][2], "pathRegex: /buy, ", "pathRegex: '', ", "matches[0].pathRegex" },
      { GROUPS[1][2], ", methods: %[GET, POST%]", "", "matches[0].methods" },
      { GROUPS[1][2], "%[GET, POST%]", "[]", "matches[0].methods" },
      { group("v1alpha4", below_spec(matches(LIST))), "%[{a: x}, {b: y}%]", "{a: x}", "spec.matches[0].headers" },
    }) do
      local text, replaced = string.gsub(case[1], case[2], case[3], 1)
      assert.equal(1, replaced)
      local mesh = w1.world(TARGETS.v1alpha3, text)
      local found = {}
      for _, reject in ipairs(mesh:rejects()) do found[string.match(reject, "^(.-): ")] = true end
      assert.is_true(found["HTTPRouteGroup blue/g " .. case[4]], case[4] .. " " .. table.concat(mesh:rejects(), "\n"))
      assert.same({}, mesh:allowed("blue/shop-1"))
      assert.same({}, mesh:errors())
    end
  end)

  it("asks for nothing with headers that are empty", function()
    for _, empty in ipairs({ "[]", "{}" }) do
      local mesh = w1.world(TARGETS.v1alpha3, group("v1alpha3", below_spec(matches(", headers: " .. empty))))
      assert.same({}, mesh:rejects())
      assert.same({ "red/caller -> 8080 GET|POST /buy" }, mesh:allowed("blue/shop-1"))
    end
  end)
end)

describe("an older TCPRoute", function()
  local echo = target("v1alpha3", below_spec(ECHO .. "rules: [{kind: TCPRoute, name: r}]\n"))

  it("means TCP on any port, as one of today does without ports", function()
    for _, text in ipairs({
      route("v1alpha1", ""), route("v1alpha1", "spec: {}\n"), route("v1alpha2", ""), route("v1alpha3", "spec: {}\n"),
      route("v1alpha4", "spec: {matches: {}}\n"),
    }) do
      local mesh = w1.world(echo, text)
      assert.same({}, mesh:rejects(), text)
      assert.same({}, mesh:errors(), text)
      assert.same({ "red/caller -> 9000 tcp" }, mesh:allowed("blue/echo-1"), text)
    end
  end)

  it("is refused with ports, which its version would drop", function()
    for _, text in ipairs({
      route("v1alpha1", "matches: {ports: [8080]}\n"), route("v1alpha2", "ports: [8080]\n"),
      route("v1alpha3", "spec: {matches: {ports: [8080]}}\n"), route("v1alpha3", "spec: {ports: [8080]}\n"),
    }) do
      local mesh = w1.world(echo, text)
      assert.same({}, mesh:allowed("blue/echo-1"), text)
      assert.equal(2, #mesh:rejects())
    end
  end)
end)

describe("an older or newer TrafficSplit", function()
  it("divides by weight in every version", function()
    for _, version in ipairs({ "v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4" }) do
      local mesh = w1.world(GRANTED, split(version, "{service: shop-v1, weight: 1}, {service: shop-v2, weight: 3}"))
      local weights = shares(mesh)
      assert.same({}, mesh:rejects(), version)
      assert.equal(3 * weights["blue/shop-v1|8080"], weights["blue/shop-v2|8080"], version)
    end
  end)

  it("takes the quantities of v1alpha1 in thousandths", function()
    for text, weight in pairs({
      ["1"] = 1000, ["500m"] = 500, ['"1"'] = 1000, ['"0.5"'] = 500, ['"1.5k"'] = 1500000, ["100"] = 100000,
      ['"0"'] = 0, ["0"] = 0, ["2Ki"] = 2048000, ['"+7m"'] = 7, ['"1."'] = 1000,
    }) do
      local mesh = w1.world(GRANTED, split("v1alpha1", "{service: shop-v1, weight: " .. text
        .. "}, {service: shop-v2, weight: 1m}"))
      assert.same({}, mesh:rejects(), text)
      assert.same({ ["blue/shop-v1|8080"] = weight, ["blue/shop-v2|8080"] = 1 }, shares(mesh), text)
    end
  end)

  it("is left out with a quantity that cannot be kept exact, or is none", function()
    for _, text in ipairs({ "1u", '"0.0001"', "0.1m", "-1", '"-500m"', "1Q", '""', "'1 '", "m", "1e3m",
      "9999999999", "99999999k" }) do
      local mesh = w1.world(GRANTED, split("v1alpha1", "{service: shop-v2, weight: 1}, {service: shop-v1, weight: "
        .. text .. "}"))
      assert.equal(1, #mesh:rejects(), text)
      assert.equal("TrafficSplit blue/s spec.backends[1].weight: ", string.match(mesh:rejects()[1], "^.-: "), text)
      assert.same({}, shares(mesh), text)
      assert.same({}, mesh:errors(), text)
    end
  end)

  it("has matches from v1alpha3 on", function()
    local backends = "{service: shop-v1, weight: 1}, {service: shop-v2, weight: 3}"
    local mesh = w1.world(GRANTED, split("v1alpha2", backends, "  matches: [{kind: HTTPRouteGroup, name: g}]\n"))
    assert.equal("TrafficSplit blue/s spec.matches: unknown field", string.match(mesh:rejects()[1], "^[^;]*"))
  end)
end)

describe("one object", function()
  it("is one, whatever version it is written in: the later one replaces it", function()
    local mesh = w1.world(GROUPS[7][2], TARGETS.v1alpha1)
    assert.same(ALLOWED, mesh:allowed("blue/shop-1"))
    mesh:apply((string.gsub(TARGETS.v1alpha3, "%[buy%]", "[sell]")))
    assert.same({ "red/caller -> 8080 * /sell" }, mesh:allowed("blue/shop-1"))
    mesh:apply(TARGETS.v1alpha2)
    assert.same(ALLOWED, mesh:allowed("blue/shop-1"))
    mesh:delete("TrafficTarget", "blue", "t")
    assert.same({}, mesh:allowed("blue/shop-1"))
  end)

  it("of a version that nobody knows is left out, with those that are known", function()
    local mesh = w1.world(GROUPS[7][2], (string.gsub(TARGETS.v1alpha3, "io/v1alpha3", "io/v1alpha9")))
    assert.same({ "TrafficTarget blue/t apiVersion: version v1alpha9 is not known here, but v1alpha3, v1alpha2, v1alpha1" },
      mesh:rejects())
    assert.same({}, mesh:allowed("blue/shop-1"))
  end)
end)
