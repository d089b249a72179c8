--- Who may call whom: TrafficTarget, HTTPRouteGroup, TCPRoute.
local w1 = require("spec.policies.w1")

local GROUP = [[
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: g1, namespace: blue}
spec:
  matches:
  - {name: anything, pathRegex: /anything, methods: [GET]}
  - {name: foo, pathRegex: /foo}
]]

local function route(name, ports)
  return string.format([[
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {name: %s, namespace: blue}
spec: {matches: {ports: [%s]}}
]], name, ports)
end

--- A target of namespace blue.
local function target(name, to, from, rules)
  return string.format([[
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: %s, namespace: blue}
spec:
  destination: {kind: ServiceAccount, name: %s, namespace: blue}
  sources: [%s]
  rules: %s
]], name, to, from, rules)
end

local CALLER = "{kind: ServiceAccount, name: caller, namespace: red}"
local CALLER2 = "{kind: ServiceAccount, name: caller2, namespace: red}"
local ANYTHING = "[{kind: HTTPRouteGroup, name: g1, matches: [anything]}]"
local FOO = "[{kind: HTTPRouteGroup, name: g1, matches: [foo]}]"

describe("access", function()
  it("is denied by default: no outbound listener, and a server that lets nobody in (a_acc_01)", function()
    local mesh = w1.world()
    assert.same({}, mesh:resources("red/caller-1", "listeners"))
    assert.same({}, mesh:resources("red/caller-1", "clusters"))
    assert.same({}, mesh:allowed("blue/shop-1"))
    local chain = mesh:chain("blue/shop-1", "inbound-listener", "inbound_blue/shop_8080_http")
    assert.same({ action = "ALLOW", policies = {} }, w1.rules_of(chain.filters[1]))
  end)

  it("grants nothing where the value of a header is null, in any version, instead of losing the header", function()
    for version, headers in pairs({ v1alpha4 = "[{x-a: null, x-b: v}]", v1alpha3 = "{x-a: null}" }) do
      local group = "apiVersion: specs.smi-spec.io/" .. version .. "\nkind: HTTPRouteGroup\n"
        .. "metadata: {name: g1, namespace: blue}\nspec: {matches: [{name: foo, pathRegex: /foo, headers: " .. headers .. "}]}\n"
      local mesh = w1.world(group, target("t1", "shop", CALLER, FOO))
      assert.same({}, mesh:allowed("blue/shop-1"))
      assert.matches("^HTTPRouteGroup blue/g1 spec%.matches%[0%]%.headers", mesh:rejects()[1])
    end
  end)

  it("opens the route that a target grants, to its source (a_acc_02)", function()
    local mesh = w1.world(GROUP, target("t1", "shop", CALLER, ANYTHING))
    assert.same({ "red/caller -> 8080 GET /anything" }, mesh:allowed("blue/shop-1"))
    assert.same({ "outbound_blue/shop_80_http" }, mesh:chains("red/caller-1", "outbound-listener"))
    assert.same({}, mesh:resources("red/caller2-1", "listeners"))
    assert.same({ "GET /anything" }, mesh:routes("blue/shop-1", "rds-inbound.8080", "shop"))
    assert.same({}, mesh:rejects())
  end)

  it("keeps the routes of two callers apart (a_acc_03)", function()
    local mesh = w1.world(GROUP, target("t1", "shop", CALLER, ANYTHING), target("t2", "shop", CALLER2, FOO))
    assert.same({ "red/caller -> 8080 GET /anything", "red/caller2 -> 8080 * /foo" }, mesh:allowed("blue/shop-1"))
    -- both routes are there: what is granted to somebody else is answered 403, what to nobody 404
    assert.same({ "* /foo", "GET /anything" }, mesh:routes("blue/shop-1", "rds-inbound.8080", "shop"))
  end)

  it("goes with its target, and comes back with it (a_acc_04)", function()
    local mesh = w1.world(GROUP, target("t1", "shop", CALLER, ANYTHING))
    local granted = mesh:everything()
    for _ = 1, 2 do
      mesh:delete("TrafficTarget", "blue", "t1")
      assert.same({}, mesh:allowed("blue/shop-1"))
      assert.same({}, mesh:resources("red/caller-1", "listeners"))
      mesh:apply(target("t1", "shop", CALLER, ANYTHING))
      assert.same(granted, mesh:everything())
    end
  end)

  it("is not granted by a target outside the namespace of its destination (a_acc_05)", function()
    local foreign = string.gsub(target("t1", "shop", CALLER, ANYTHING), "t1, namespace: blue", "t1, namespace: red")
    local mesh = w1.world(GROUP, (string.gsub(GROUP, "namespace: blue", "namespace: red")), foreign)
    assert.same({}, mesh:allowed("blue/shop-1"))
    assert.same({
      'TrafficTarget red/t1 spec.destination.namespace: is "blue", but the target lives in "red"; '
        .. "they must be the same",
    }, mesh:rejects())
  end)

  it("matches what the methods, path and headers of one match say, together (a_acc_07, a_acc_08, a_acc_09, a_acc_10)",
    function()
      local mesh = w1.world([[
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: g1, namespace: blue}
spec:
  matches:
  - name: anything
    pathRegex: /a
    methods: [POST, GET]
    headers: [{user-agent: ".*-http-client/*.*"}, {Client-App: b}]
  - {name: host, headers: [{host: "shop.*"}]}
  - {name: all}
]], target("t1", "shop", CALLER, "[{kind: HTTPRouteGroup, name: g1, matches: [anything, host]}]"))
      assert.same({
        "red/caller -> 8080 * .* :authority=shop.*",
        "red/caller -> 8080 GET|POST /a client-app=b user-agent=.*-http-client/*.*",
      }, mesh:allowed("blue/shop-1"))
      assert.same({
        "* .* :authority=shop.*",
        "GET /a client-app=b user-agent=.*-http-client/*.*",
        "POST /a client-app=b user-agent=.*-http-client/*.*",
      }, mesh:routes("blue/shop-1", "rds-inbound.8080", "shop"))
    end)

  it("takes each method once, and any where * is among them (a_acc_11)", function()
    local mesh = w1.world([[
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: g1, namespace: blue}
spec:
  matches:
  - {name: twice, pathRegex: /twice, methods: [GET, GET, POST]}
  - {name: star, pathRegex: /star, methods: [GET, "*"]}
]], target("t1", "shop", CALLER, "[{kind: HTTPRouteGroup, name: g1}]"))
    assert.same({ "* /star", "GET /twice", "POST /twice" }, mesh:routes("blue/shop-1", "rds-inbound.8080", "shop"))
  end)

  it("adds targets up: one route, and a rule for each target (a_acc_12)", function()
    local mesh = w1.world(GROUP, target("t1", "shop", CALLER, "[{kind: HTTPRouteGroup, name: g1}]"),
      target("t2", "shop", CALLER2, ANYTHING))
    assert.same({
      "red/caller -> 8080 * /foo",
      "red/caller -> 8080 GET /anything",
      "red/caller2 -> 8080 GET /anything",
    }, mesh:allowed("blue/shop-1"))
    assert.same({ "* /foo", "GET /anything" }, mesh:routes("blue/shop-1", "rds-inbound.8080", "shop"))
  end)

  it("does not hang on which of two overlapping routes takes a request (a_acc_12)", function()
    local wide = [[
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: wide, namespace: blue}
spec: {matches: [{name: all, pathRegex: "/.*"}]}
]]
    local mesh = w1.world(GROUP, wide, target("t1", "shop", CALLER, ANYTHING),
      target("t2", "shop", CALLER2, "[{kind: HTTPRouteGroup, name: wide}]"))
    for _, each in ipairs(mesh:virtual_host("blue/shop-1", "rds-inbound.8080", "shop").routes) do
      assert.is_nil(each.typed_per_filter_config)
    end
    assert.same({ "red/caller -> 8080 GET /anything", "red/caller2 -> 8080 * /.*" }, mesh:allowed("blue/shop-1"))
  end)

  it("grants all matches of a group to a rule that names none", function()
    local mesh = w1.world(GROUP, target("t1", "shop", CALLER, "[{kind: HTTPRouteGroup, name: g1}]"))
    assert.same({ "red/caller -> 8080 * /foo", "red/caller -> 8080 GET /anything" }, mesh:allowed("blue/shop-1"))
  end)

  it("takes the matches that a rule names, and says which are not there (a_acc_13)", function()
    local rules = "[{kind: HTTPRouteGroup, name: g1, matches: [foo, bar]}]"
    local mesh = w1.world(GROUP, target("t1", "shop", CALLER, rules))
    assert.same({ "red/caller -> 8080 * /foo" }, mesh:allowed("blue/shop-1"))
    assert.same({ 'TrafficTarget blue/t1 spec.rules[0].matches[1]: HTTPRouteGroup "blue/g1" has no match "bar"' },
      mesh:rejects())
  end)

  it("limits a target to the ports of its TCPRoutes (a_acc_14)", function()
    local rules = "[{kind: TCPRoute, name: r1}]"
    local mesh = w1.world(route("r1", "9000"), target("t1", "echo", CALLER, rules))
    assert.same({ "red/caller -> 9000 tcp" }, mesh:allowed("blue/echo-1"))
    assert.same({ "outbound_blue/echo_9000_tcp" }, mesh:chains("red/caller-1", "outbound-listener"))
    mesh:apply(route("r1", "9001"))
    assert.same({}, mesh:allowed("blue/echo-1"))
    assert.same({}, mesh:resources("red/caller-1", "listeners"))
    mesh:apply(route("r1", ""))
    assert.same({ "red/caller -> 9000 tcp" }, mesh:allowed("blue/echo-1"))
    assert.same({ "outbound_blue/echo_9000_tcp" }, mesh:chains("red/caller-1", "outbound-listener"))
  end)

  it("takes the listed ports where one TCPRoute lists ports and another does not", function()
    local mesh = w1.world(route("r1", "9001"), route("r2", ""),
      target("t1", "echo", CALLER, "[{kind: TCPRoute, name: r1}, {kind: TCPRoute, name: r2}]"))
    assert.same({}, mesh:allowed("blue/echo-1"))
  end)

  it("limits the HTTP rules of a target by its TCPRoutes too, and says where that leaves none", function()
    local mesh = w1.world(GROUP, route("r1", "9000"), target("t1", "shop", CALLER,
      "[{kind: HTTPRouteGroup, name: g1}, {kind: TCPRoute, name: r1}]"))
    assert.same({}, mesh:allowed("blue/shop-1"))
    assert.same({ "TrafficTarget blue/t1 spec.rules: the ports of its TCPRoutes limit the HTTP rules too, and none of "
      .. "them is an HTTP port of the destination: the HTTP rules have no effect" }, mesh:rejects())
    mesh:apply(route("r1", "9000, 8080"))
    assert.same({ "red/caller -> 8080 * /foo", "red/caller -> 8080 GET /anything" }, mesh:allowed("blue/shop-1"))
    assert.same({}, mesh:rejects())
  end)

  it("does not lend the HTTP rules of a target to other ports than its own, whoever else opens them", function()
    local mesh = w1.world(GROUP, route("r1", "9000"),
      target("t1", "shop", CALLER, "[{kind: HTTPRouteGroup, name: g1, matches: [foo]}, {kind: TCPRoute, name: r1}]"),
      target("t2", "shop", CALLER, ANYTHING))
    assert.same({ "red/caller -> 8080 GET /anything" }, mesh:allowed("blue/shop-1"))
  end)

  it("has nothing for a target with a missing TCPRoute: no TCPRoute would mean any port", function()
    local mesh = w1.world(GROUP, target("t1", "shop", CALLER,
      "[{kind: HTTPRouteGroup, name: g1}, {kind: TCPRoute, name: gone}]"))
    assert.same({}, mesh:allowed("blue/shop-1"))
    assert.same({}, mesh:resources("red/caller-1", "listeners"))
    assert.same({ 'TrafficTarget blue/t1 spec.rules[1].name: there is no TCPRoute "blue/gone": '
      .. "the whole target grants nothing" }, mesh:rejects())
  end)

  it("has nothing for a target whose only rule is missing", function()
    local mesh = w1.world(target("t1", "echo", CALLER, "[{kind: HTTPRouteGroup, name: gone}]"))
    assert.same({}, mesh:allowed("blue/echo-1"))
    assert.same({ 'TrafficTarget blue/t1 spec.rules[0].name: there is no HTTPRouteGroup "blue/gone": '
      .. "the rule grants nothing" }, mesh:rejects())
  end)

  it("has nothing for a target whose only group is empty, and says so", function()
    local empty = "apiVersion: specs.smi-spec.io/v1alpha4\nkind: HTTPRouteGroup\nmetadata: {name: none, namespace: blue}\nspec: "
    for _, spec in ipairs({ "{}", "{matches: []}", "{matches: null}" }) do
      local mesh = w1.world(empty .. spec, target("t1", "shop", CALLER, "[{kind: HTTPRouteGroup, name: none}]"))
      assert.same({}, mesh:allowed("blue/shop-1"))
      assert.same({ 'TrafficTarget blue/t1 spec.rules[0].name: HTTPRouteGroup "blue/none" has no matches: the rule grants '
        .. "nothing" }, mesh:rejects())
    end
  end)

  it("has nothing for a target with a rule of an unknown kind, whatever else it grants", function()
    local mesh = w1.world(GROUP, target("t1", "shop", CALLER,
      "[{kind: HTTPRouteGroup, name: g1}, {kind: UDPRoute, name: g1}]"))
    assert.same({}, mesh:allowed("blue/shop-1"))
    assert.same({ 'TrafficTarget blue/t1 spec.rules[1].kind: "UDPRoute" is not HTTPRouteGroup or TCPRoute; '
      .. "nothing is granted" }, mesh:rejects())
  end)

  it("has nobody for a target without sources, and nothing for one without rules", function()
    local mesh = w1.world(GROUP, target("t1", "shop", "", ANYTHING), target("t2", "shop", CALLER, "[]"))
    assert.same({}, mesh:allowed("blue/shop-1"))
    assert.same({
      "TrafficTarget blue/t1 spec.sources: is empty: nobody is granted anything",
      "TrafficTarget blue/t2 spec.rules: is empty: nothing is granted",
    }, mesh:rejects())
  end)

  it("has nobody for a source that is no service account", function()
    local mesh = w1.world(GROUP, target("t1", "shop", "{kind: Group, name: caller, namespace: red}", ANYTHING))
    assert.same({}, mesh:allowed("blue/shop-1"))
    assert.same({ 'TrafficTarget blue/t1 spec.sources[0].kind: "Group" is not ServiceAccount' }, mesh:rejects())
  end)

  it("opens the pods of one account only, where a Service selects the pods of two", function()
    local two = w1.pod("blue", "other-1", "other", "10.244.2.29", "app: shop")
    local mesh = w1.world(GROUP, two, target("t1", "shop", CALLER, ANYTHING))
    assert.same({ "red/caller -> 8080 GET /anything" }, mesh:allowed("blue/shop-1"))
    assert.same({}, mesh:allowed("blue/other-1"))
    assert.same({ "10.244.2.21:8080", "10.244.2.22:8080" }, mesh:endpoints("red/caller-1", "blue/shop|8080"))
  end)

  it("refuses names that no account can have", function()
    for _, name in ipairs({ "caller.", ".caller", "a..b", "-a", "a-", "a.-b", "CALLER", "*", "a/b" }) do
      local source = '{kind: ServiceAccount, name: "' .. name .. '", namespace: red}'
      local mesh = w1.world(GROUP, target("t1", "shop", source, ANYTHING))
      assert.same({ 'TrafficTarget blue/t1 spec.sources[0].name: "' .. name .. '" is not the name of an account' },
        mesh:rejects())
      mesh = w1.world(GROUP, target("t1", '"' .. name .. '"', CALLER, ANYTHING))
      assert.same({ 'TrafficTarget blue/t1 spec.destination.name: "' .. name .. '" is not the name of an account' },
        mesh:rejects())
    end
    local mesh = w1.world(GROUP, target("t1", "shop", (string.gsub(CALLER, "caller", "a.b-c.9")), ANYTHING))
    assert.same({}, mesh:rejects())
    assert.same({ "red/a.b-c.9 -> 8080 GET /anything" }, mesh:allowed("blue/shop-1"))
  end)

  it("refuses a match that asks for two values of one header", function()
    for _, case in ipairs({
      { "{x-k: secret}", "{x-k: '.*'}", "x-k", "x-k" },
      { "{x-k: secret}", "{X-K: '.*'}", "X-K", "x-k" },
      { "{host: a}", '{":authority": ".*"}', '[":authority"]', ":authority" },
      { '{":authority": a}', "{Host: '.*'}", "Host", ":authority" },
    }) do
      local headers = "headers: [" .. case[1] .. ", {x-other: b}, " .. case[2] .. "]"
      local mesh = w1.world((string.gsub(GROUP, "pathRegex: /foo", headers)),
        target("t1", "shop", CALLER, "[{kind: HTTPRouteGroup, name: g1}]"))
      assert.same({}, mesh:allowed("blue/shop-1"))
      assert.matches("^HTTPRouteGroup blue/g1 spec.matches%[1%].headers%[2%]", mesh:rejects()[1])
      assert.matches('asks for another value of "' .. case[4] .. '" than headers[0]', mesh:rejects()[1], 1, true)
    end
  end)

  it("takes a header that is listed twice with one value once", function()
    local mesh = w1.world((string.gsub(GROUP, "pathRegex: /foo", "headers: [{x-k: a}, {X-K: a}]")),
      target("t1", "shop", CALLER, FOO))
    assert.same({ "red/caller -> 8080 * .* x-k=a" }, mesh:allowed("blue/shop-1"))
    assert.same({}, mesh:rejects())
  end)

  it("refuses an expression that RE2 would refuse, before a proxy does", function()
    for _, path in ipairs({ "/a(", "/a[", "*", "/(?=x)", "a**", "(a{1000}){1000}" }) do
      local mesh = w1.world((string.gsub(GROUP, "/foo", function() return '"' .. path .. '"' end)),
        target("t1", "shop", CALLER, "[{kind: HTTPRouteGroup, name: g1}]"))
      assert.same({}, mesh:allowed("blue/shop-1"))
      assert.matches("^HTTPRouteGroup blue/g1 spec.matches%[1%].pathRegex: ", mesh:rejects()[1])
    end
  end)
end)

--- Breaking things at random must never open anything.
describe("a target of which a part is removed or broken", function()
  local seed = 12345
  local function random(n)
    seed = (seed * 1103515245 + 12345) % 2147483648
    return seed // 65536 % n + 1
  end
  local function some(list)
    local chosen = {}
    for _, each in ipairs(list) do
      if random(2) == 1 then chosen[#chosen + 1] = each end
    end
    return chosen
  end

  local RULES = {
    "{kind: HTTPRouteGroup, name: g1}",
    "{kind: HTTPRouteGroup, name: g1, matches: [foo]}",
    "{kind: HTTPRouteGroup, name: g2}",
    "{kind: TCPRoute, name: r1}", "{kind: TCPRoute, name: r2}", "{kind: TCPRoute, name: r3}",
  }
  local PARTS = {
    { "HTTPRouteGroup", "g1", GROUP },
    { "HTTPRouteGroup", "g2", (string.gsub(string.gsub(GROUP, "g1", "g2"), "/foo", "/bar")) },
    { "TCPRoute", "r1", route("r1", "9000") },
    { "TCPRoute", "r2", route("r2", "8080") },
    { "TCPRoute", "r3", route("r3", "") },
  }

  it("never opens more", function()
    for _ = 1, 40 do
      local parts, objects = {}, {}
      for _, part in ipairs(PARTS) do
        parts[#parts + 1] = part
        objects[#objects + 1] = part[3]
      end
      for n = 1, 3 do
        local to = ({ "shop", "echo" })[random(2)]
        local from = ({ CALLER, CALLER2, CALLER .. "," .. CALLER2 })[random(3)]
        objects[#objects + 1] = target("t" .. n, to, from, "[" .. table.concat(some(RULES), ",") .. "]")
      end
      local mesh = w1.world(table.unpack(objects))
      local function opened()
        local set = {}
        for _, pod in ipairs({ "blue/shop-1", "blue/echo-1" }) do
          for _, each in ipairs(mesh:allowed(pod)) do set[pod .. " " .. each] = true end
        end
        return set
      end
      for _ = 1, 3 do
        local before = opened()
        local part = parts[random(#parts)]
        if random(2) == 1 then
          mesh:delete(part[1], "blue", part[2])
        else
          mesh:apply((string.gsub(part[3], "spec:.*", "spec: 7")))
        end
        for each in pairs(opened()) do
          assert.is_true(before[each], each .. " was opened by breaking " .. part[2])
        end
      end
    end
  end)
end)

--- One field of one object wrong: nobody may gain a caller, port or route by it.
describe("an object with a field that is wrong", function()
  local function account(name, namespace) return { kind = "ServiceAccount", name = name, namespace = namespace } end
  local OBJECTS = {
    { "access.smi-spec.io/v1alpha3", "TrafficTarget", "t1", {
      destination = account("shop", "blue"),
      sources = { account("caller", "red") },
      rules = {
        { kind = "HTTPRouteGroup", name = "g1", matches = { "narrow" } },
        { kind = "TCPRoute", name = "r1" },
      },
    } },
    { "specs.smi-spec.io/v1alpha4", "HTTPRouteGroup", "g1", {
      matches = {
        { name = "narrow", pathRegex = "/narrow", methods = { "GET" }, headers = { { ["x-key"] = "secret" } } },
        { name = "other", pathRegex = "/other" },
      },
    } },
    { "specs.smi-spec.io/v1alpha4", "TCPRoute", "r1", { matches = { name = "m", ports = { 8080 } } } },
    { "access.smi-spec.io/v1alpha3", "TrafficTarget", "t2", {
      destination = account("echo", "blue"),
      sources = { account("caller2", "red") },
      rules = { { kind = "TCPRoute", name = "r2" } },
    } },
    { "specs.smi-spec.io/v1alpha4", "TCPRoute", "r2", { matches = { ports = { 9000 } } } },
  }
  -- without these an object means something else, or less: that is documented
  local OPTIONAL = { matches = true, pathRegex = true, methods = true, headers = true, ports = true }

  --- YAML's flow style; `change(path, key, value)` may give another text for one field, "" to leave it out.
  local function text_of(value, path, change)
    if type(value) ~= "table" then return tostring(value) end
    local parts = {}
    if #value > 0 then
      for index, each in ipairs(value) do parts[index] = text_of(each, path .. "[" .. index .. "]", change) end
      return "[" .. table.concat(parts, ", ") .. "]"
    end
    for key, each in pairs(value) do
      local here = path .. "." .. key
      local text = change(here, key, each) or key .. ": " .. text_of(each, here, change)
      if text ~= "" then parts[#parts + 1] = text end
    end
    table.sort(parts)
    return "{" .. table.concat(parts, ", ") .. "}"
  end

  local function nothing() return nil end

  local function manifest(object, change)
    return string.format("apiVersion: %s\nkind: %s\nmetadata: {name: %s, namespace: blue}\n%s\n", object[1], object[2],
      object[3], (string.gsub(text_of({ spec = object[4] }, "", change), "^{(.*)}$", "%1")))
  end

  --- Whether the object stays as good without this field: the name of a TCPRoute's matches is said to nobody.
  local function is_optional(path, value)
    local key = string.match(path, "%a+$")
    return path == ".spec.matches.name" or OPTIONAL[key] and not (key == "matches" and value.ports)
  end

  --- All texts that one field may wrongly have.
  local function mistakes(path, key, value)
    local text, found = text_of(value, "", nothing), {}
    local names = { key .. "x", string.sub(key, 1, -2), string.sub(key, 2), string.sub(key, 1, 1) .. key, "x" .. key,
      key .. "s", string.upper(key), string.upper(string.sub(key, 1, 1)) .. string.sub(key, 2), '"' .. key .. ' "' }
    for _, name in ipairs(names) do
      found[#found + 1] = name .. ": " .. text
      found[#found + 1] = name .. ": null"
    end
    if not is_optional(path, value) then found[#found + 1] = "" end
    local others = { "7", "true", "7.5" }
    if type(value) == "table" then others[#others + 1] = "text" else others[#others + 1] = "[]" end
    if type(value) ~= "table" or #value > 0 then others[#others + 1] = "{}" else others[#others + 1] = "[]" end
    for _, other in ipairs(others) do found[#found + 1] = key .. ": " .. other end
    return found
  end

  it("never opens more, and is reported", function()
    local mesh = w1.world()
    for _, object in ipairs(OBJECTS) do mesh:apply(manifest(object, nothing)) end
    local function opened()
      local set = {}
      for _, pod in ipairs({ "blue/shop-1", "blue/echo-1", "blue/v1-1" }) do
        for _, each in ipairs(mesh:allowed(pod)) do set[pod .. " " .. each] = true end
      end
      return set
    end
    local before = opened()
    assert.same({
      ["blue/shop-1 red/caller -> 8080 GET /narrow x-key=secret"] = true,
      ["blue/echo-1 red/caller2 -> 9000 tcp"] = true,
    }, before)
    local tried = 0
    for _, object in ipairs(OBJECTS) do
      local fields = {}
      text_of({ spec = object[4] }, "", function(path, key, value)
        -- names of headers are no fields, and an unknown field beside spec is Kubernetes' own affair
        if not string.find(path, "headers%[") and key ~= "spec" then fields[#fields + 1] = { path, key, value } end
      end)
      for _, field in ipairs(fields) do
        for _, mistake in ipairs(mistakes(table.unpack(field))) do
          mesh:apply(manifest(object, function(path) return path == field[1] and mistake or nil end))
          local about = object[3] .. field[1] .. " as '" .. mistake .. "'"
          for each in pairs(opened()) do assert.is_true(before[each], each .. " was opened by " .. about) end
          assert.is_true(#mesh:rejects() > 0, about .. " is not reported")
          tried = tried + 1
        end
      end
      mesh:apply(manifest(object, nothing))
      assert.same(before, opened())
    end
    assert.is_true(tried > 500, tried .. " mistakes")
  end)

  it("may leave out what then means any, as the specification says", function()
    for _, matches in ipairs({ "{}", "{ports: null}", "{ports: []}" }) do
      local mesh = w1.world((string.gsub(route("r1", ""), "matches: {.*}}", "matches: " .. matches .. "}")),
        target("t1", "echo", CALLER, "[{kind: TCPRoute, name: r1, matches: null}]"))
      assert.same({ "red/caller -> 9000 tcp" }, mesh:allowed("blue/echo-1"), matches)
    end
    for _, match in ipairs({ "{name: all}", "{name: all, pathRegex: null, methods: null, headers: null}",
      '{name: all, pathRegex: "", methods: [], headers: []}' }) do
      for _, matches in ipairs({ "", ", matches: null", ", matches: []" }) do
        local mesh = w1.world((string.gsub(GROUP, "matches:.*", "matches: [" .. match .. "]")),
          target("t1", "shop", CALLER, "[{kind: HTTPRouteGroup, name: g1" .. matches .. "}]"))
        assert.same({ "red/caller -> 8080 * .*" }, mesh:allowed("blue/shop-1"), match .. matches)
        assert.same({}, mesh:rejects())
      end
    end
  end)
end)

-- A match that the route does not have was once not looked at, and the target granted the whole route.
describe("the matches of a TCPRoute rule", function()
  local function world(named, asked)
    return w1.world(string.format([[
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {name: r, namespace: blue}
spec: {matches: {%s}}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: t, namespace: blue}
spec:
  destination: {kind: ServiceAccount, name: echo, namespace: blue}
  sources: [{kind: ServiceAccount, name: caller, namespace: red}]
  rules: [{kind: TCPRoute, name: r, matches: [%s]}]
]], named, asked))
  end

  it("grant nothing where the route does not have one of them", function()
    for _, mesh in ipairs({ world("", "nosuch"), world("name: tcp", "tcp, nosuch") }) do
      assert.same({}, mesh:allowed("blue/echo-1"))
      assert.same({}, mesh:resources("red/caller-1", "clusters"))
      assert.matches('spec.rules%[0%].matches%[%d%]: TCPRoute "blue/r" has no match "nosuch": the whole target grants nothing',
        mesh:rejects()[1])
    end
  end)

  it("may name the route's own, or none", function()
    for _, mesh in ipairs({ world("name: tcp", "tcp"), world("name: tcp", ""), world("", "") }) do
      assert.same({ "red/caller -> 9000 tcp" }, mesh:allowed("blue/echo-1"))
      assert.same({}, mesh:rejects())
    end
  end)
end)
