--- What `osm policy why-not` tells beside what the sidecars are served.
local w1 = require("spec.policies.w1")

local GROUP = [[
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: g, namespace: blue}
spec:
  matches:
  - {name: buy, pathRegex: /buy, methods: [GET]}
  - {name: look, pathRegex: /look}
]]

--- A target of namespace blue: `to` an account there, `from` accounts "namespace/name", `matches` as in YAML, may be nil.
local function target(name, to, from, matches)
  local sources = {}
  for index, source in ipairs(from) do
    local namespace, account = source:match("^(.*)/(.*)$")
    sources[index] = string.format("{kind: ServiceAccount, name: %s, namespace: %s}", account, namespace)
  end
  return string.format([[
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: %s, namespace: blue}
spec:
  destination: {kind: ServiceAccount, name: %s, namespace: blue}
  sources: [%s]
  rules: [{kind: HTTPRouteGroup, name: g%s}]
]], name, to, table.concat(sources, ", "), matches and ", matches: [" .. matches .. "]" or "")
end

local function texts(near)
  local told = {}
  for index, each in ipairs(near) do told[index] = each.name .. " " .. each.text end
  return told
end

describe("a call explained", function()
  it("has the Service as the mesh carries it", function()
    local mesh = w1.world()
    local shop = mesh.at:ask("service_explained", "blue", "shop")
    assert.equal(80, shop.ports[1].number)
    assert.same({ "10.96.2.1" }, shop.addresses)
    assert.same({ "shop" }, shop.accounts) -- of the same namespace
    assert.is_false(shop.permissive)
    mesh:apply(w1.PERMISSIVE)
    assert.is_true(mesh.at:ask("service_explained", "blue", "shop").permissive)
    assert.same({}, mesh.at:ask("service_explained", "blue", "shop-apex").accounts)
    assert.is_nil(mesh.at:ask("service_explained", "blue", "nobody"))
  end)

  it("has the part of the target behind each permission, in their order", function()
    local mesh = w1.world(GROUP, target("all", "shop", { "red/caller" }), target("one", "shop", { "red/caller" }, "look"))
    local all = mesh.at:ask("grant_explained", "blue/all")
    assert.equal("TrafficTarget", all.kind)
    assert.same({
      'spec.rules[0]: match "buy" of HTTPRouteGroup "g"',
      'spec.rules[0]: match "look" of HTTPRouteGroup "g"',
    }, all.parts)
    local one = mesh.at:ask("grant_explained", "blue/one")
    assert.same({ 'spec.rules[0]: match "look" of HTTPRouteGroup "g"' }, one.parts)
    local chain = mesh:chain("blue/shop-1", "inbound-listener", "inbound_blue/shop_8080_http")
    assert.is_table(w1.rules_of(chain.filters[1]).policies["blue/one"]) -- the name that is asked for
    assert.is_nil(mesh.at:ask("grant_explained", "blue/nobody"))
    assert.is_nil(mesh.at:ask("grant_explained", "anybody"))
  end)

  it("has the targets that come nearest, those for the same account first", function()
    local mesh = w1.world(
      GROUP,
      target("a", "echo", { "red/caller" }),
      target("b", "shop", { "red/caller2" }),
      target("c", "shop", { "red/caller" }),
      target("d", "echo", { "red/caller2" })
    )
    assert.same({
      "b lets red/caller2 call blue/shop, not red/caller",
      "a lets red/caller call blue/echo, not blue/shop",
    }, texts(mesh.at:ask("near_grants", "red/caller", "blue", "shop")))
    assert.same({}, mesh.at:ask("near_grants", "red/caller3", "blue", "nobody"))
  end)

  it("names some of many", function()
    local many, from = { GROUP }, {}
    for index = 1, 9 do from[index] = "red/other" .. index end
    for index = 1, 12 do many[#many + 1] = target("t" .. index, "shop", from) end
    local near = texts(w1.world(table.unpack(many)).at:ask("near_grants", "red/caller", "blue", "shop"))
    assert.equal(10, #near)
    assert.equal(
      "t1 lets red/other1, red/other2, red/other3, red/other4, red/other5, ... call blue/shop, not red/caller",
      near[1]
    )
  end)
end)
