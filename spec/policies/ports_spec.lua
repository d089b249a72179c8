--- A Service of very many ports: what each of them costs must not grow with their number. The modules run in plain Lua here, over
--- a mesh that remembers answers as the engine does, and their instructions are counted: clocks would measure the machine.
package.path = "./?.lua;lua/?.lua;policies/?.lua;" .. package.path

local MODULES = { "kubernetes.services", "traffic.inbound", "traffic.outbound", "envoy.clusters", "envoy.listeners", "envoy.routes" }

local ADDRESSES = { s = "10.96.0.1", apex = "10.96.0.2" }

local function modules()
  return require("mesh.list").map(MODULES, function(name) return require(name) end)
end

--- Answers to everything that the modules ask beyond themselves: Services "s" and "apex" of `count` ports, of which the second is
--- split between both, and one account with one grant for each ten ports.
local function world_of(count)
  local ports, grants = {}, {}
  for index = 1, count do ports[index] = { name = "http-" .. index, port = 1000 + index, targetPort = 9000 + index } end
  for index = 1, 10 do
    grants[index] = { name = "blue/g" .. index, sources = { "red/caller" .. index }, ports = {}, matches = {} }
    for port = index, count, 10 do table.insert(grants[index].ports, 9000 + port) end
  end
  local function service(_, name)
    return { metadata = { name = name, namespace = "blue" }, spec = { clusterIP = ADDRESSES[name], ports = ports } }
  end
  return {
    Service = service,
    target_ports = function(_, _, port) return { port + 8000 } end,
    services_with_address = function(address) return { service("blue", address == ADDRESSES.s and "s" or "apex") } end,
    backends = function(_, name)
      local own = { { service = "s", weight = 100 } }
      return name == "s" and own or { { service = "apex", weight = 1 }, { service = "s", weight = 1 } }
    end,
    split_exceptions = function() return {} end,
    carriers = function(_, name) return name == "s" and { "s" } or { "apex", "s" } end,
    apexes_of = function() return { "apex" } end,
    accounts_behind = function() return { "shop" } end,
    grants = function() return grants end,
    permissive = function() return false end,
    mesh_config = function() return {} end,
    tls_parameters = function() return {} end,
    principal = function(account) return account .. ".cluster.local" end,
    tracing = function() return nil end,
    external_authorization = function() return nil end,
    members = function() return {} end,
    reject = function() error("nothing is to be rejected") end,
  }
end

--- Instructions that it takes to say everything of both Services, and how many items that were.
local function cost_of(count)
  local facts, answers, items, instructions = world_of(count), {}, 0, 0
  local mesh, out = {}, {}
  local function remembered(name, rule)
    mesh[name] = function(...)
      local key = name .. ":" .. table.concat({ ... }, ",")
      if answers[key] == nil then answers[key] = { rule(...) } end
      return answers[key][1]
    end
  end
  for name, fact in pairs(facts) do remembered(name, fact) end
  for _, module in ipairs(modules()) do
    for name, rule in pairs(module.rules or {}) do
      remembered(name, function(...) return rule(mesh, ...) end)
    end
  end
  mesh.reject = facts.reject
  setmetatable(out, { __index = function() return function() items = items + 1 end end })
  debug.sethook(function() instructions = instructions + 1 end, "", 100)
  for _, module in ipairs(modules()) do
    for _, emitter in pairs(module.emit or {}) do
      for _, service in ipairs({ "apex", "s" }) do
        if emitter.each == "Service" then emitter.run(mesh, out, "blue", service) end
        if emitter.each == "workloads" then emitter.run(mesh, out, "blue", service, "shop") end
      end
    end
  end
  debug.sethook()
  return instructions, items
end

describe("a Service of a thousand ports", function()
  it("costs ten times what one of a hundred costs", function()
    local few, few_items = cost_of(100)
    local many, many_items = cost_of(1000)
    assert.equal(10 * few_items, many_items)
    assert.is_true(few_items > 1000)
    assert.is_true(many < 14 * few, many .. " instead of " .. 10 * few) -- sorting takes a little more
  end)
end)
