--- Objects at the limits of what an API server stores, and just beyond: each is taken whole or left out with a reason, and the
--- proxies beside it are served the same bytes.
local w1 = require("spec.policies.w1")

local HEALTHY = [[
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: good, namespace: blue}
spec: {matches: [{name: all, pathRegex: /buy, methods: [GET]}]}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: good, namespace: blue}
spec:
  destination: {kind: ServiceAccount, name: shop, namespace: blue}
  sources: [{kind: ServiceAccount, name: caller, namespace: red}]
  rules: [{kind: HTTPRouteGroup, name: good}]
]]

local function group(name, matches)
  return "apiVersion: specs.smi-spec.io/v1alpha4\nkind: HTTPRouteGroup\nmetadata: {name: " .. name
    .. ", namespace: blue}\nspec: {matches: [" .. table.concat(matches, ", ") .. "]}\n"
end

--- A grant to workloads that have nothing to do with the healthy ones.
local function grant(name, rules, sources)
  return "apiVersion: access.smi-spec.io/v1alpha3\nkind: TrafficTarget\nmetadata: {name: " .. name
    .. ", namespace: blue}\nspec:\n  destination: {kind: ServiceAccount, name: shop-v1, namespace: blue}\n  sources: ["
    .. (sources or "{kind: ServiceAccount, name: caller2, namespace: red}") .. "]\n  rules: [" .. rules .. "]\n"
end

--- What the healthy pair and its neighbours are served.
local PAIR = { "red/caller-1", "blue/shop-1", "blue/shop-2", "blue/echo-1", "blue/v2-1" }
local function pair_of(mesh)
  local digests, found = mesh:digests(), {}
  for _, pod in ipairs(PAIR) do found[pod] = digests[pod] end
  return found
end

describe("at the limits", function()
  local mesh, alone

  before_each(function()
    mesh = w1.world(HEALTHY)
    alone = pair_of(mesh)
    assert.same({}, mesh:rejects())
  end)

  local function expect_alone()
    assert.same({}, mesh:errors())
    assert.same(alone, pair_of(mesh))
  end

  local function take_out(...)
    for _, each in ipairs({ ... }) do mesh:delete(each[1], "blue", each[2]) end
    expect_alone()
    assert.same({}, mesh:rejects())
  end

  it("10,000 matches in one group that nobody names cost nobody anything", function()
    local matches = {}
    for index = 1, 10000 do matches[index] = "{name: m" .. index .. ", pathRegex: /p" .. index .. "}" end
    mesh:apply(group("many", matches))
    expect_alone()
    assert.same({}, mesh:rejects())
    assert.equal(10000, #mesh.at:ask("http_matches", "blue", "many"))
    take_out({ "HTTPRouteGroup", "many" })
  end)

  it("10,000 matches that a target grants are all granted, and to nobody else", function()
    local matches = {}
    for index = 1, 10000 do matches[index] = "{name: m" .. index .. ", pathRegex: /p" .. index .. "}" end
    mesh:apply(group("many", matches))
    mesh:apply(grant("many", "{kind: HTTPRouteGroup, name: many}"))
    expect_alone()
    assert.same({}, mesh:rejects())
    assert.equal(10000, #mesh:allowed("blue/v1-1"))
    mesh:apply(grant("many", "{kind: HTTPRouteGroup, name: many, matches: [m7]}"))
    expect_alone()
    assert.same({ "red/caller2 -> 8080 * /p7" }, mesh:allowed("blue/v1-1"))
    take_out({ "TrafficTarget", "many" }, { "HTTPRouteGroup", "many" })
  end)

  it("10,000 matches with three headers each are taken, with long names of headers too", function()
    local matches, long = {}, string.rep("x", 200)
    for index = 1, 10000 do
      matches[index] = "{name: m" .. index .. ", headers: [{user-agent: a}, {cookie: b}, {x-" .. index .. ": c}]}"
    end
    matches[1] = "{name: m1, headers: [{" .. long .. ": a}]}"
    mesh:apply(group("many", matches))
    mesh:apply(grant("many", "{kind: HTTPRouteGroup, name: many, matches: [m1]}"))
    expect_alone()
    assert.same({}, mesh:rejects())
    assert.same({ "red/caller2 -> 8080 * .* " .. long .. "=a" }, mesh:allowed("blue/v1-1"))
    take_out({ "TrafficTarget", "many" }, { "HTTPRouteGroup", "many" })
  end)

  it("an object of 1.4 MiB is taken like any other", function()
    local annotation = string.rep("y", 1400 * 1024)
    local text = grant("large", "{kind: HTTPRouteGroup, name: good}")
    mesh:apply((string.gsub(text, "name: large,", "name: large, annotations: {a: " .. annotation .. "},")))
    expect_alone()
    assert.same({}, mesh:rejects())
    assert.same({ "red/caller2 -> 8080 GET /buy" }, mesh:allowed("blue/v1-1"))
    take_out({ "TrafficTarget", "large" })
  end)

  it("5,000 sources of one target are granted whole, and of more nobody", function()
    local sources = {}
    for index = 1, 4999 do sources[index] = "{kind: ServiceAccount, name: a" .. index .. ", namespace: red}" end
    sources[5000] = "{kind: ServiceAccount, name: caller2, namespace: red}"
    mesh:apply(grant("wide", "{kind: HTTPRouteGroup, name: good}", table.concat(sources, ", ")))
    expect_alone()
    assert.equal(5000, #mesh:allowed("blue/v1-1"))
    assert.is_table(mesh:endpoints("red/caller2-1", "blue/shop-v1|8080"))
    sources[5001] = "{kind: ServiceAccount, name: one-more, namespace: red}"
    mesh:apply(grant("wide", "{kind: HTTPRouteGroup, name: good}", table.concat(sources, ", ")))
    expect_alone()
    assert.same({ "TrafficTarget blue/wide spec.sources: must have at most 5000 items" }, mesh:rejects())
    assert.same({}, mesh:allowed("blue/v1-1"))
    take_out({ "TrafficTarget", "wide" })
  end)

  -- What it took to say so much more was over a budget, and with it went what other targets grant.
  it("a target that is more than a proxy can be told grants nothing, and takes nothing from the others", function()
    local matches, rules, names, mixed = {}, {}, {}, {}
    for index = 1, 40000 do matches[index] = "{name: m" .. index .. ", pathRegex: /p" .. index .. "}" end
    for index = 1, 10001 do names[index] = "x" .. index end
    for index = 1, 1001 do rules[index] = "{kind: HTTPRouteGroup, name: good}" end
    for index = 1, 9000 do mixed[index] = "m" .. 9001 - index end
    mesh:apply(group("many", matches))
    mesh:apply(grant("elder", "{kind: HTTPRouteGroup, name: good}"))
    for listed, why in pairs({
      ["{kind: HTTPRouteGroup, name: many}"] = "spec.rules[0]: describe more requests than a proxy can be told",
      ["{kind: HTTPRouteGroup, name: good, matches: [" .. table.concat(names, ", ") .. "]}"] = "spec.rules: name more than 10000",
      [table.concat(rules, ", ")] = "spec.rules: must have at most 1000 items",
    }) do
      mesh:apply(grant("wide", listed))
      expect_alone()
      assert.same({ "red/caller2 -> 8080 GET /buy" }, mesh:allowed("blue/v1-1"))
      assert.matches(why, table.concat(mesh:rejects(), "\n"), 1, true)
    end
    mesh:apply(grant("wide", "{kind: HTTPRouteGroup, name: gone}, {kind: HTTPRouteGroup, name: good, matches: [x, y, all, z]}"))
    assert.same({
      'TrafficTarget blue/wide spec.rules[0].name: there is no HTTPRouteGroup "blue/gone": the rule grants nothing',
      'TrafficTarget blue/wide spec.rules[1].matches[0]: HTTPRouteGroup "blue/good" has no match "x", nor 2 others that are named',
    }, mesh:rejects())
    mesh:apply(grant("wide", "{kind: HTTPRouteGroup, name: many, matches: [" .. table.concat(mixed, ", ") .. "]}"))
    expect_alone()
    assert.equal(9001, #mesh:allowed("blue/v1-1"))
    take_out({ "TrafficTarget", "wide" }, { "TrafficTarget", "elder" }, { "HTTPRouteGroup", "many" })
  end)

  it("targets that together are more than a proxy can be told: what the elder ones grant stays", function()
    local function of(number, born)
      local sources = {}
      for index = 1, 4000 do sources[index] = "{kind: ServiceAccount, name: a" .. number .. "-" .. index .. ", namespace: red}" end
      local text = grant("t" .. number, "{kind: HTTPRouteGroup, name: good}", table.concat(sources, ", "))
      return (string.gsub(text, "name: t" .. number .. ",", "%0 creationTimestamp: '" .. born .. "',"))
    end
    mesh:apply(of(1, "2024-01-03T00:00:00Z"))
    mesh:apply(of(2, "2024-01-01T00:00:00Z"))
    mesh:apply(of(3, "2024-01-02T00:00:00Z"))
    expect_alone()
    local allowed = table.concat(mesh:allowed("blue/v1-1"), "\n")
    assert.equal(8000, #mesh:allowed("blue/v1-1"))
    assert.is_nil(string.find(allowed, "a1-7", 1, true))
    assert.is_not_nil(string.find(allowed, "a2-7", 1, true))
    assert.same({ "TrafficTarget blue/t1 spec.destination: is granted to more callers, or for more requests, than proxies can be "
      .. "told: this target grants nothing" }, mesh:rejects())
    mesh:delete("TrafficTarget", "blue", "t2")
    assert.equal(8000, #mesh:allowed("blue/v1-1"))
    assert.same({}, mesh:rejects())
    mesh:apply((string.gsub(of(2, "x"), "'x'", "7")))
    assert.same({ "TrafficTarget blue/t2 metadata.creationTimestamp: must be a date as text" }, mesh:rejects())
    expect_alone()
    take_out({ "TrafficTarget", "t1" }, { "TrafficTarget", "t2" }, { "TrafficTarget", "t3" })
  end)

  it("a split of a thousand ports says of each backend once that it is missing", function()
    local ports, backends = {}, {}
    for index = 1, 1000 do ports[index] = "{name: p" .. index .. ", port: " .. 1000 + index .. "}" end
    for index = 1, 300 do backends[index] = "{service: gone-" .. index .. ", weight: 1}" end
    local function split(more)
      return "apiVersion: split.smi-spec.io/v1alpha4\nkind: TrafficSplit\nmetadata: {name: s, namespace: blue}\nspec: {service: "
        .. "wide, backends: [" .. table.concat(backends, ", ") .. "]" .. more .. "}\n"
    end
    mesh:apply(w1.service("wide", "10.96.2.66", "version: v1", table.concat(ports, ", ")))
    mesh:apply(split(""))
    expect_alone()
    assert.equal(300, #mesh:rejects())
    assert.equal('TrafficSplit blue/s spec.backends[0].service: Service "blue/gone-1" has no port 1001 (nor 999 others), which '
      .. '"wide" has: it is left out there', mesh:rejects()[1])
    local matches = {}
    for index = 1, 6000 do matches[index] = "{name: m" .. index .. ", pathRegex: /p" .. index .. "}" end
    mesh:apply(group("g1", matches) .. "---\n" .. group("g2", matches))
    backends = { "{service: shop-v1, weight: 1}" }
    mesh:apply(split(", matches: [{kind: HTTPRouteGroup, name: g1}, {kind: HTTPRouteGroup, name: g1}]"))
    assert.equal(6000, #mesh.at:ask("split_exceptions", "blue", "wide")[1].matches)
    mesh:apply(split(", matches: [{kind: HTTPRouteGroup, name: g1}, {kind: HTTPRouteGroup, name: g2}]"))
    assert.same({}, mesh.at:ask("split_exceptions", "blue", "wide"))
    assert.matches("spec.matches[1].name: with this the splits of \"blue/wide\" describe more than 10000 kinds of requests",
      table.concat(mesh:rejects(), "\n"), 1, true)
    expect_alone()
    take_out({ "TrafficSplit", "s" }, { "Service", "wide" }, { "HTTPRouteGroup", "g1" }, { "HTTPRouteGroup", "g2" })
  end)

  it("names of 253 characters with dots name accounts and objects; longer ones name nothing", function()
    local long = string.rep("a.", 126) .. "b" -- 253
    mesh:apply(group(long, { "{name: all, pathRegex: /long}" }))
    mesh:apply(grant("long", "{kind: HTTPRouteGroup, name: " .. long .. "}",
      "{kind: ServiceAccount, name: " .. long .. ", namespace: red}"))
    expect_alone()
    assert.same({}, mesh:rejects())
    assert.same({ "red/" .. long .. " -> 8080 * /long" }, mesh:allowed("blue/v1-1"))
    for _, wrong in ipairs({ long .. "c", string.rep("a", 254), "a..b", ".a", "a.", "-a", "a-", "a.-b", "A", "a_b", "a b", "é" }) do
      mesh:apply(grant("long", "{kind: HTTPRouteGroup, name: " .. long .. "}",
        "{kind: ServiceAccount, name: '" .. wrong .. "', namespace: red}"))
      expect_alone()
      assert.equal(1, #mesh:rejects(), wrong)
      assert.equal("TrafficTarget blue/long spec.sources[0].name: ", string.match(mesh:rejects()[1], "^.-: "), wrong)
      assert.same({}, mesh:allowed("blue/v1-1"), wrong)
      mesh:apply(grant("long", "{kind: HTTPRouteGroup, name: '" .. wrong .. "'}"))
      assert.equal("TrafficTarget blue/long spec.rules[0].name: ", string.match(mesh:rejects()[1], "^.-: "), wrong)
      assert.same({}, mesh:allowed("blue/v1-1"), wrong)
    end
    take_out({ "TrafficTarget", "long" }, { "HTTPRouteGroup", long })
  end)

  it("a namespace has 63 characters at most and no dot", function()
    local fits = string.rep("n", 63)
    mesh:apply(grant("t", "{kind: HTTPRouteGroup, name: good}",
      "{kind: ServiceAccount, name: x, namespace: " .. fits .. "}"))
    assert.same({}, mesh:allowed("blue/v1-1"))
    expect_alone() -- a grant to nobody is none, and hurts no other
    assert.same({}, mesh:errors())
    assert.matches("is not a namespace of this mesh", mesh:rejects()[1], 1, true)
    mesh:apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: " .. fits
      .. ", labels: {openservicemesh.io/monitored-by: osm}}")
    assert.same({}, mesh:rejects())
    assert.same({ fits .. "/x -> 8080 GET /buy" }, mesh:allowed("blue/v1-1"))
    for _, wrong in ipairs({ fits .. "n", "a.b", "-a", "a-", "A", "" }) do
      mesh:apply(grant("t", "{kind: HTTPRouteGroup, name: good}",
        "{kind: ServiceAccount, name: x, namespace: '" .. wrong .. "'}"))
      assert.equal("TrafficTarget blue/t spec.sources[0].namespace: ", string.match(mesh:rejects()[1], "^.-: "), wrong)
      assert.same({}, mesh:allowed("blue/v1-1"), wrong)
      expect_alone()
    end
    mesh:delete("Namespace", "", fits)
    take_out({ "TrafficTarget", "t" })
  end)

  it("a Service with a name of 63 characters is reached; one of 64 or with a dot is left out", function()
    local tcp = "{name: e, port: 7000, targetPort: 9000, appProtocol: tcp}"
    for name, fine in pairs({ [string.rep("s", 63)] = true, [string.rep("s", 64)] = false, ["a.b"] = false }) do
      mesh:apply(w1.service(name, "10.96.2.77", "version: v1", tcp))
      mesh:apply(grant("t", "{kind: HTTPRouteGroup, name: good}"))
      expect_alone()
      assert.equal(fine, mesh:endpoints("red/caller2-1", "blue/" .. name .. "|9000") ~= nil, name)
      assert.equal(fine and 0 or 1, #mesh:rejects(), name)
      mesh:delete("TrafficTarget", "blue", "t")
      mesh:delete("Service", "blue", name)
    end
    take_out()
  end)

  it("an expression that RE2 refuses, or whose program is too large, takes its group out", function()
    for _, wrong in ipairs({
      "(", "a(?=b)", "[z-a]", "a{1001}", "(?<n>a)\\1", "\\", "(?P<a", "*", "a**", "\\p{Nope}",
      string.rep("(", 2000), "((a{100}){100}){100}", "(\\p{L}{100}){10}", string.rep("abcdefgh", 20000),
    }) do
      local quoted = "'" .. wrong .. "'"
      for path, match in pairs({
        ["spec.matches[1].pathRegex"] = "{name: bad, pathRegex: " .. quoted .. "}",
        ["spec.matches[1].headers[0].x"] = "{name: bad, pathRegex: /x, headers: [{x: " .. quoted .. "}]}",
      }) do
        mesh:apply(group("re", { "{name: fine, pathRegex: /fine}", match }))
        mesh:apply(grant("re", "{kind: HTTPRouteGroup, name: re, matches: [fine]}"))
        expect_alone()
        local label = string.sub(wrong, 1, 30) .. " " .. path
        assert.equal(2, #mesh:rejects(), label)
        assert.equal("HTTPRouteGroup blue/re " .. path .. ": ", string.match(mesh:rejects()[1], "^.-: "), label)
        assert.same({}, mesh:allowed("blue/v1-1"), label)
      end
    end
    take_out({ "TrafficTarget", "re" }, { "HTTPRouteGroup", "re" })
  end)

  it("matches of one name add up, in a group and in a rule that names it twice", function()
    mesh:apply(group("twice", { "{name: a, pathRegex: /1}", "{name: a, pathRegex: /2}", "{name: b, pathRegex: /3}" }))
    mesh:apply(grant("twice", "{kind: HTTPRouteGroup, name: twice, matches: [a, a]}"))
    expect_alone()
    assert.same({ "red/caller2 -> 8080 * /1", "red/caller2 -> 8080 * /2" }, mesh:allowed("blue/v1-1"))
    take_out({ "TrafficTarget", "twice" }, { "HTTPRouteGroup", "twice" })
  end)

  it("what is named twice counts once: sources and rules", function()
    mesh:apply(grant("twice", "{kind: HTTPRouteGroup, name: good}"))
    local once, allowed = mesh:digests(), mesh:allowed("blue/v1-1")
    local source = "{kind: ServiceAccount, name: caller2, namespace: red}"
    mesh:apply(grant("twice", "{kind: HTTPRouteGroup, name: good}", source .. ", " .. source))
    assert.same(once, mesh:digests())
    mesh:apply(grant("twice", "{kind: HTTPRouteGroup, name: good}, {kind: HTTPRouteGroup, name: good}"))
    assert.same(allowed, mesh:allowed("blue/v1-1"))
    expect_alone()
    take_out({ "TrafficTarget", "twice" })
  end)

  it("one object twice in a file is the later one, and one name in two namespaces is two objects", function()
    mesh:apply(grant("t", "{kind: HTTPRouteGroup, name: gone}") .. "---\n" .. grant("t", "{kind: HTTPRouteGroup, name: good}"))
    expect_alone()
    assert.same({}, mesh:rejects())
    assert.same({ "red/caller2 -> 8080 GET /buy" }, mesh:allowed("blue/v1-1"))
    mesh:apply((string.gsub(group("good", { "{name: all, pathRegex: /red}" }), "namespace: blue", "namespace: red")))
    assert.same({ "red/caller2 -> 8080 GET /buy" }, mesh:allowed("blue/v1-1"))
    take_out({ "TrafficTarget", "t" })
  end)
end)
