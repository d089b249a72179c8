--- Extensions: a module changes what an emitter says without a copy of it.
local overlay = require("spec.engine.overlay")
local w1 = require("spec.policies.w1")

local TABLE = "rds-outbound.80"
local RETRY_MODULE = [[
local M = { api = 1 }
M.indexes = {
  ["acme.retries_of"] = { of = "HTTPRouteGroup", keys = function(group)
    local service = (group.metadata.annotations or {}).retries
    return service and { { group.metadata.namespace, service } } or {}
  end },
}
M.extends = {
  route = {
    after = { "smi/routes", "acme/not_there" },
    vary = function(mesh, at)
      if at.direction ~= "outbound" then return nil end
      local retries = {}
      for _, group in ipairs(mesh.acme.retries_of(at.namespace, at.service)) do
        retries[group.metadata.annotations.caller] = { num_retries = group.metadata.annotations.times }
      end
      return retries
    end,
    run = function(_, route, at)
      if at.variant then route.route.retry_policy = { retry_on = "5xx", num_retries = at.variant.num_retries } end
    end,
  },
}
return M
]]

local function retry(caller, times)
  return string.format([[
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: retry-%s, namespace: blue, annotations: {retries: shop, caller: red/%s, times: %d}}
spec: {matches: [{name: any}]}
]], caller, caller, times)
end

--- A world under a module of the operator's.
local function with(files, ...) return w1.over({ "policies", overlay.of(files) }, ...) end

local function extension(point, run)
  return { ["acme/x.lua"] = "local M = { api = 1 }\nM.extends = { " .. point .. " = { run = function(mesh, it, at)\n" .. run
    .. "\nend } }\nreturn M\n" }
end

--- What the load says, with its place.
local function load_error(files)
  local ok, message = pcall(with, files)
  assert.is_false(ok)
  return message
end

local function policy_of(mesh, pod)
  return mesh:virtual_host(pod, TABLE, "shop").routes[1].route.retry_policy
end

local function inbound_chain(mesh)
  return mesh:resource("blue/shop-1", "listeners", "inbound-listener").filter_chains[1]
end

describe("an extension", function()
  after_each(overlay.clean)

  it("gives each account its variant and leaves the others as they were", function()
    local plain = w1.world(w1.PERMISSIVE, retry("caller", 3))
    local mesh = with({ ["acme/retry.lua"] = RETRY_MODULE }, w1.PERMISSIVE, retry("caller", 3))
    assert.same({}, mesh:errors())
    assert.same({ retry_on = "5xx", num_retries = 3 }, policy_of(mesh, "red/caller-1"))
    assert.is_nil(policy_of(mesh, "red/caller2-1"))
    assert.same(plain:resource("red/caller2-1", "routes", TABLE), mesh:resource("red/caller2-1", "routes", TABLE))
    assert.same(plain:resource("blue/shop-1", "listeners", "inbound-listener"),
      mesh:resource("blue/shop-1", "listeners", "inbound-listener"))
  end)

  it("follows what its variants are made from", function()
    local mesh = with({ ["acme/retry.lua"] = RETRY_MODULE }, w1.PERMISSIVE, retry("caller", 3))
    mesh:apply(retry("caller", 4) .. "---\n" .. retry("caller2", 4))
    assert.equal(4, policy_of(mesh, "red/caller-1").num_retries)
    assert.equal(4, policy_of(mesh, "red/caller2-1").num_retries)
    mesh:delete("HTTPRouteGroup", "blue", "retry-caller")
    assert.is_nil(policy_of(mesh, "red/caller-1"))
    assert.equal(4, policy_of(mesh, "red/caller2-1").num_retries)
    assert.same({}, mesh:errors())
  end)

  it("splits the audience of what single accounts read, too", function()
    local grant = [[
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: t, namespace: blue}
spec:
  destination: {kind: ServiceAccount, name: shop, namespace: blue}
  sources: [{kind: ServiceAccount, name: caller, namespace: red}, {kind: ServiceAccount, name: caller2, namespace: red}]
  rules: [{kind: HTTPRouteGroup, name: retry-caller}]
]]
    local mesh = with({ ["acme/retry.lua"] = RETRY_MODULE }, grant, retry("caller", 2))
    assert.same({}, mesh:errors())
    assert.equal(2, policy_of(mesh, "red/caller-1").num_retries)
    assert.is_nil(policy_of(mesh, "red/caller2-1"))
  end)

  it("puts a filter where its author says, by the names of the others", function()
    local mesh = with(extension("http_filters", [[
      if at.direction == "inbound" then
        it:insert_before("http_router", { name = "acme", typed_config = {
          ["@type"] = "envoy.extensions.filters.http.buffer.v3.Buffer", max_request_bytes = 1000 } })
      end]]), w1.PERMISSIVE)
    assert.same({}, mesh:errors())
    local chain = inbound_chain(mesh)
    local names = {}
    for at, filter in ipairs(chain.filters[1].typed_config.http_filters) do names[at] = filter.name end
    assert.same({ "envoy.filters.http.rbac", "acme", "http_router" }, names)
    assert.same(w1.world(w1.PERMISSIVE):resource("red/caller-1", "listeners", "outbound-listener"),
      mesh:resource("red/caller-1", "listeners", "outbound-listener"))
  end)

  it("says which filters there are when one is not", function()
    local mesh = with(extension("http_filters", [[
      if at.direction == "inbound" then it:insert_after("routr", { name = "x" }) end]]), w1.PERMISSIVE)
    assert.matches('there is no filter "routr"; there are "envoy.filters.http.rbac", "http_router"', mesh:errors()[1].message, 1, true)
    assert.equal("acme/x.lua", mesh:errors()[1].module)
    assert.equal(3, mesh:errors()[1].line) -- the second of the extension
  end)

  it("reaches the outside of a listener, and sees the tags of its chains", function()
    local mesh = with(extension("listener", [[
      it.per_connection_buffer_limit_bytes = at.name == "outbound-listener" and 1000 + #at.tags or 2000]]), w1.PERMISSIVE)
    assert.same({}, mesh:errors())
    assert.equal(1004, mesh:resource("red/caller-1", "listeners", "outbound-listener").per_connection_buffer_limit_bytes)
    assert.equal(2000, mesh:resource("blue/shop-1", "listeners", "inbound-listener").per_connection_buffer_limit_bytes)
  end)

  it("reaches clusters, tables, hosts and chains", function()
    for point, run in pairs({
      cluster = "it.connect_timeout = '7s'",
      route_configuration = "it.max_direct_response_body_size_bytes = 7",
      virtual_host = "it.include_request_attempt_count = true",
      filter_chain = "it.transport_socket_connect_timeout = '7s'",
      http_connection_manager = "it.server_name = 'acme'",
      network_filters = "assert(it:has(it[1].name))",
      listener_filters = "assert(it:get('tls_inspector').name == 'tls_inspector')",
    }) do
      local mesh = with(extension(point, run), w1.PERMISSIVE)
      assert.same({}, mesh:errors(), point)
      if point == "cluster" then
        assert.equal("7s", mesh:resource("red/caller-1", "clusters", "blue/shop|8080").connect_timeout)
      elseif point == "route_configuration" then
        assert.equal(7, mesh:resource("red/caller-1", "routes", TABLE).max_direct_response_body_size_bytes)
      elseif point == "virtual_host" then
        assert.is_true(mesh:virtual_host("red/caller-1", TABLE, "shop").include_request_attempt_count)
      elseif point == "filter_chain" then
        local chain = inbound_chain(mesh)
        assert.equal("7s", chain.transport_socket_connect_timeout)
      elseif point == "http_connection_manager" then
        local chain = inbound_chain(mesh)
        assert.equal("acme", chain.filters[1].typed_config.server_name)
      end
    end
  end)

  it("sees the routes that an extension of the whole host has added, whatever their modules are called", function()
    local mesh = with({
      ["acme/a.lua"] = [[return { api = 1, extends = { route = { run = function(_, route) route.name = "seen" end } } }]],
      ["acme/b.lua"] = [[return { api = 1, extends = { virtual_host = { run = function(_, host)
        table.insert(host.routes, 1, { match = { path = "/acme" }, direct_response = { status = 404 } }) end } } }]],
    }, w1.PERMISSIVE)
    assert.same({}, mesh:errors())
    local routes = mesh:virtual_host("red/caller-1", TABLE, "shop").routes
    assert.same({ "/acme", "seen", "seen" }, { routes[1].match.path, routes[1].name, routes[2].name })
  end)

  it("changes a copy: no other message sees it", function()
    local mesh = with(extension("cluster", [[
      if at.service == "shop" and at.direction == "outbound" then
        it.typed_extension_protocol_options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]
          .common_http_protocol_options = { idle_timeout = "7s" }
      end]]), w1.PERMISSIVE)
    assert.same({}, mesh:errors())
    local mine, theirs = mesh:clusters("red/caller-1"), w1.world(w1.PERMISSIVE):clusters("red/caller-1")
    assert.not_same(theirs["blue/shop|8080"], mine["blue/shop|8080"])
    mine["blue/shop|8080"], theirs["blue/shop|8080"] = nil, nil
    assert.same(theirs, mine)
  end)

  it("that fails denies what authorises, and keeps the rest of the mesh", function()
    local mesh = with(extension("filter_chain", [[
      if at.direction == "inbound" and at.service == "shop" then error("no") end]]), w1.PERMISSIVE)
    assert.equal("acme/x.lua:3: no", mesh:errors()[1].message)
    assert.is_nil(mesh:resource("blue/shop-1", "listeners", "inbound-listener"))
    assert.is_table(mesh:resource("blue/echo-1", "listeners", "inbound-listener"))
  end)

  it("is named where its change is wrong", function()
    local mesh = with(extension("cluster", "it.connect_timeout = 7"), w1.PERMISSIVE)
    assert.matches('^envoy/clusters.lua:%d+: cluster "blue/[^"]*": connect_timeout: expected a duration .*'
      .. "%(changed by acme/x%.cluster%)$", mesh:errors()[1].message)
  end)

  it("returns nothing: whoever expects it to be used is told", function()
    local mesh = with(extension("cluster", "return { name = 'x' }"), w1.PERMISSIVE)
    assert.equal("acme/x.lua:2: an extension changes what it is given, and returns nothing", mesh:errors()[1].message)
  end)

  it("gives a variant to one account behind a Service that all of its pods read of", function()
    local mesh = with({ ["acme/x.lua"] = [[return { api = 1, extends = { route_configuration = {
      vary = function(_, at) return at.direction == "inbound" and { ["blue/shop-v1"] = 7, ["green/shop-v1"] = 8 } or nil end,
      run = function(_, it, at) it.max_direct_response_body_size_bytes = at.variant end } } }]] },
      w1.PERMISSIVE, w1.service("both", "10.96.2.50", "app: versions", "{name: http, port: 80, targetPort: 8080}"))
    assert.same({}, mesh:errors())
    local function size_of(pod) return mesh:resource(pod, "routes", "rds-inbound.8080").max_direct_response_body_size_bytes end
    assert.same({ 7, nil, nil }, { size_of("blue/v1-1"), size_of("blue/v2-1"), size_of("blue/shop-1") })
  end)

  it("cannot write into its variant, which others may have too", function()
    local mesh = with({ ["acme/x.lua"] = [[
      local M = { api = 1 }
      M.rules = { ["acme.shared"] = function() return { ["red/caller"] = { n = 1 } } end }
      M.extends = { cluster = {
        vary = function(mesh) return mesh.acme.shared() end,
        run = function(_, _, at) if at.variant then at.variant.n = 2 end end } }
      return M]] }, w1.PERMISSIVE)
    assert.matches("acme.shared() was changed by one of its readers", mesh:errors()[1].message, 1, true)
  end)

  it("keeps no state between its calls, nor do wraps", function()
    for _, text in ipairs({
      "local n = 0 return { api = 1, extends = { cluster = { run = function() n = n + 1 end } } }",
      "local n = 0 return { api = 1, extends = { cluster = { vary = function() n = n + 1 end, run = print } } }",
      "local n = 0 return { api = 1, wraps = { grants = function(mesh, original, ...) n = n + 1 return original(...) end } }",
    }) do
      local mesh = with({ ["acme/x.lua"] = text })
      mesh:errors()
      mesh:apply(w1.PERMISSIVE)
      local found = mesh:errors()[1] or { message = "" }
      assert.equal("acme/x.lua", found.module)
      assert.matches('the local "n" changed while rules ran', found.message, 1, true)
    end
  end)

  it("is told what `at` must be", function()
    local clusters = [[return { api = 1, emit = { x = { each = "accounts", run = function(_, out, ns, name)
      out.cluster { name = "x" .. name, audience = "everyone", at = 7, message = {} } end } } }]]
    local mesh = with({ ["acme/e.lua"] = clusters, ["acme/x.lua"] = extension("cluster", "")["acme/x.lua"] }, w1.PERMISSIVE)
    assert.equal("acme/e.lua:2: out.cluster: at: expected a table, got number", mesh:errors()[1].message)
  end)

  it("leaves what is no message to the encoder, which says so", function()
    for point, mistake in pairs({ http_filters = "filters = 7", network_filters = "filters = 'x'", route = "routes = { 7 }" }) do
      local form = point == "route" and "virtual_host" or "filter_chain"
      local of = point == "route" and "route_configuration" or "listener"
      local emitter = string.format([[return { api = 1, emit = { x = { each = "accounts", run = function(_, out, ns, name)
        out.%s { %s = "x", name = "x" .. name, audience = "everyone", message = { %s } } end } } }]], form, of, mistake)
      local mesh = with({ ["acme/e.lua"] = emitter, ["acme/x.lua"] = extension(point, "")["acme/x.lua"] }, w1.PERMISSIVE)
      assert.matches("^acme/e.lua:2: " .. form .. ' "x%a+": %a+.*: expected ', mesh:errors()[1].message)
    end
  end)

  it("that fails later leaves the listener as it was", function()
    local mesh = with({ ["acme/x.lua"] = [[return { api = 1, extends = { listener = { run = function(mesh, it, at)
      if mesh.HTTPRouteGroup("blue", "bad") then error("boom") end
      it.per_connection_buffer_limit_bytes = 4096
    end } } }]] }, w1.PERMISSIVE)
    local function listener() return mesh:resource("red/caller-1", "listeners", "outbound-listener") end
    local before = listener()
    assert.equal(4096, before.per_connection_buffer_limit_bytes)
    mesh:apply("apiVersion: specs.smi-spec.io/v1alpha4\nkind: HTTPRouteGroup\nmetadata: {name: bad, namespace: blue}\n"
      .. "spec: {matches: [{name: any}]}\n")
    assert.matches("acme/x.lua:2: boom", mesh:errors()[1].message)
    assert.same(before, listener())
    mesh:delete("HTTPRouteGroup", "blue", "bad")
    assert.same({}, mesh:errors())
    assert.same(before, listener())
  end)

  it("takes no variant that cannot be told from another", function()
    for _, value in ipairs({ "print", "0 / 0" }) do
      local mesh = with({ ["acme/x.lua"] = string.format([[return { api = 1, extends = { cluster = {
        vary = function() return { ["red/caller"] = { n = %s }, ["red/caller2"] = { n = %s } } end,
        run = function() end } } }]], value, value) }, w1.PERMISSIVE)
      assert.matches('the variant of "red/caller".*n: ', mesh:errors()[1].message)
    end
  end)

  it("varies by account only", function()
    local mesh = with({ ["acme/x.lua"] = [[return { api = 1, extends = { cluster = {
      vary = function() return { { "red/caller" } } end, run = function() end } } }]] }, w1.PERMISSIVE)
    assert.matches('acme/x.lua:%d: vary answers a table by account %("namespace/name"%), got the key number',
      mesh:errors()[1].message)
  end)

  it("and an emitter make messages of plain tables: what a metatable gives would be lost", function()
    local emitted = [[return { api = 1, emit = { ["acme.z"] = { each = "Service", run = function(_, out, _, name)
      out.cluster { name = "acme|" .. name, audience = "everyone", message = %s } end } } }]]
    local plain, behind = 'type = "STATIC", connect_timeout = "1s"', "setmetatable({}, { __index = { ads = {} } })"
    for message, said in pairs({
      ["setmetatable({ " .. plain .. " }, {})"] = "message: expected a plain table, got a table with a metatable",
      ["{ " .. plain .. ", lrs_server = " .. behind .. " }"] =
        "lrs_server: expected a table (envoy.config.core.v3.ConfigSource), got a table with a metatable",
      ["{ " .. plain .. ", metadata = { filter_metadata = { a = { b = " .. behind .. " } } } }"] =
        'metadata.filter_metadata["a"]["b"]: expected plain data, got a table with a metatable',
    }) do
      local mesh = with({ ["acme/z.lua"] = string.format(emitted, message) }, w1.PERMISSIVE)
      assert.matches(said, mesh:errors()[1].message, 1, true)
    end
    local mesh = with(extension("cluster", "it.lrs_server = setmetatable({}, { __index = { ads = {} } })"), w1.PERMISSIVE)
    assert.matches("lrs_server: expected a table (envoy.config.core.v3.ConfigSource), got a table with a metatable",
      mesh:errors()[1].message, 1, true)
  end)

  it("cannot hide a name behind a zero byte from the check that it is served", function()
    local mesh = with(extension("cluster", [[
      if it.transport_socket then
        it.transport_socket.typed_config.common_tls_context = { validation_context_sds_secret_config = {
          name = "service-cert\0x", sds_config = { ads = {}, resource_api_version = "V3" } } }
      end]]), w1.PERMISSIVE)
    assert.matches("validation_context_sds_secret_config.name: holds a zero byte", mesh:errors()[1].message, 1, true)
    assert.same({}, mesh:resources("red/caller-1", "clusters"))
  end)
end)

describe("the order of extensions", function()
  after_each(overlay.clean)

  local function module(name, order)
    return string.format([[return { api = 1, extends = { virtual_host = { %s
      run = function(_, host) host.request_headers_to_remove = host.request_headers_to_remove or {}
        table.insert(host.request_headers_to_remove, "%s") end } } }]], order or "", name)
  end

  local function order_of(files)
    return with(files, w1.PERMISSIVE):virtual_host("red/caller-1", TABLE, "shop").request_headers_to_remove
  end

  it("is by name where nobody cares", function()
    assert.same({ "a", "b", "c" }, order_of({
      ["acme/c.lua"] = module("c"), ["acme/a.lua"] = module("a"), ["acme/b.lua"] = module("b"),
    }))
  end)

  it("is what after, before and requires ask for", function()
    assert.same({ "c", "b", "a" }, order_of({
      ["acme/a.lua"] = module("a", 'after = { "acme/b", "smi/routes", "acme/absent" },'),
      ["acme/b.lua"] = module("b"),
      ["acme/c.lua"] = module("c", 'before = { "acme/b" },'),
    }))
    assert.same({ "b", "a" }, order_of({
      ["acme/a.lua"] = module("a", 'requires = { "acme/b" },'), ["acme/b.lua"] = module("b"),
    }))
  end)

  it("cannot be a circle", function()
    assert.equal("acme/a.lua:2: extends.virtual_host: these modules want to stand before each other in a circle: "
      .. "acme/a, acme/b", load_error({
      ["acme/a.lua"] = module("a", 'after = { "acme/b" },'), ["acme/b.lua"] = module("b", 'after = { "acme/a" },'),
    }))
  end)

  it("may require a module that must be there", function()
    assert.equal('acme/a.lua:2: extends.virtual_host: requires: there is no module "smi/rutes" in the bundle; do you mean '
      .. '"smi/routes"?', load_error({ ["acme/a.lua"] = module("a", 'requires = { "smi/rutes" },') }))
  end)

  it("is for points that there are", function()
    assert.equal('acme/x.lua:2: extends.rout: there is no such extension point; do you mean "route"?',
      load_error(extension("rout", "")))
    assert.equal("acme/x.lua:1: extends.listener: vary is not possible here: a listener's outside is one for all, and any "
      .. "change of it drains its connections",
      load_error({ ["acme/x.lua"] = "return { api = 1, extends = { listener = { run = print, vary = print } } }" }))
  end)
end)
