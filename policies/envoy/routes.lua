--- Route tables: `rds-outbound.<port of the Service>` sends a client's requests by host name to weighted clusters;
--- `rds-inbound.<port of the pod>` takes them in and holds who may send which.
local common = require("envoy.common")
local id = require("mesh.id")
local list = require("mesh.list")
local rbac = require("envoy.rbac")
local str = require("mesh.str")

local M = { api = 1 }

---@param path string
---@param method string  RE2; ".*" for any
---@param headers { name: string, value: string }[]
---@return table  RouteMatch
local function match_of(path, method, headers)
  local matchers = { { name = ":method", string_match = common.matching(method) } }
  for _, header in ipairs(headers) do
    matchers[#matchers + 1] = { name = header.name, string_match = common.matching(header.value) }
  end
  return { safe_regex = { regex = path }, headers = matchers }
end

---@param match table     RouteMatch
---@param clusters { name: string, weight: integer }[]
---@return table  Route; without a timeout: how long a request may take is the application's business
local function route_to(match, clusters)
  return { match = match, route = { weighted_clusters = { clusters = clusters }, timeout = "0s" } }
end

---@param match table  RouteMatch
---@param upstreams outbound.Upstream[]
---@return table  Route by weight; answers 503 where no weight is left to send by
local function outbound_route(match, upstreams)
  local total, clusters = 0, {}
  for index, upstream in ipairs(upstreams) do
    total = total + upstream.weight
    clusters[index] = { name = upstream.cluster, weight = upstream.weight }
  end
  if total == 0 then return { match = match, direct_response = { status = 503 } } end
  return route_to(match, clusters)
end

---@param mesh mesh.Reader
---@param namespace string
---@param service string
---@param number integer  port of the Service
---@return table[] # Routes: the exceptions, then all other requests
local function outbound_routes(mesh, namespace, service, number)
  local routes = {}
  for _, exception in ipairs(mesh.exceptions(namespace, service, number)) do
    for _, match in ipairs(exception.matches) do
      local methods = match.methods[1] == "*" and ".*" or table.concat(match.methods, "|")
      routes[#routes + 1] = outbound_route(match_of(match.path, methods, match.headers), exception.upstreams)
    end
  end
  routes[#routes + 1] = outbound_route(match_of(".*", ".*", {}), mesh.upstreams(namespace, service, number))
  return routes
end

--- A route for all that is granted to anybody, so that the rest is answered 404. Who may use it is not decided here.
---@param policy inbound.Policy
---@param cluster string
---@return table[] # Routes; each once
local function inbound_routes(policy, cluster)
  local clusters = { { name = cluster, weight = 100 } }
  if policy.open then return { route_to(match_of(".*", ".*", {}), clusters) } end
  local by_key = {}
  for _, grant in ipairs(policy.grants) do
    for _, match in ipairs(grant.matches) do
      for _, method in ipairs(match.methods) do
        local parts = { match.path, method }
        for _, header in ipairs(match.headers) do
          parts[#parts + 1] = header.name
          parts[#parts + 1] = header.value
        end
        by_key[table.concat(parts, "\n")] = match_of(match.path, method == "*" and ".*" or method, match.headers)
      end
    end
  end
  return list.map(list.keys(by_key), function(key) return route_to(by_key[key], clusters) end)
end

--- What a server answers to. A pod with a name of its own answers to those of all its siblings: a list of them, one for
--- each, would be as long as the Service is large, and who may ask for what does not hang on it.
---@param mesh mesh.Reader
---@param namespace string
---@param name string        of a Service
---@param numbers integer[]
---@return string[]
local function inbound_domains(mesh, namespace, name, numbers)
  local domains = common.domains(namespace, name, numbers, true)
  if mesh.has_named_members(namespace, name) then
    for _, domain in ipairs(common.domains(namespace, "*." .. name, numbers, true)) do domains[#domains + 1] = domain end
  end
  return domains
end

---@param domains string[]
---@param name string?
---@return string[]  without this name, alone and with a port
local function without(domains, name)
  if not name then return domains end
  local left = {}
  for _, domain in ipairs(domains) do
    if domain ~= name and not str.starts_with(domain, name .. ":") then left[#left + 1] = domain end
  end
  return left
end

--- Says where requests for a host name go, to all who may know.
---@param out mesh.Out
---@param at mesh.At               namespace, service, port
---@param callers outbound.Callers
---@param name string              the Service, or one pod of it
---@param bare boolean             whether its namespace may leave itself out of the name
---@param routes table[]
---@param taken string?            a name that is another Service's
local function say_host(out, at, callers, name, bare, routes, taken)
  local own, others = common.by_namespace(callers, at.namespace)
  for _, side in ipairs({ { audience = own, bare = bare }, { audience = others, bare = false } }) do
    if #side.audience > 0 then
      out.virtual_host {
        route_configuration = "rds-outbound." .. at.port,
        name = "outbound_virtual-host|" .. id.fqdn(at.namespace, name),
        audience = side.audience,
        at = at,
        message = { domains = without(common.domains(at.namespace, name, { at.port }, side.bare), taken), routes = routes },
      }
    end
  end
end

M.emit = {
  --- One route table for each number that is a port of some Service.
  outbound_tables = {
    each = "services_at",
    run = function(_, out, number)
      out.route_configuration {
        name = "rds-outbound." .. number,
        audience = "everyone",
        at = { direction = "outbound", port = number },
        message = { validate_clusters = false },
      }
    end,
  },

  --- The host names of each HTTP port, for those who may reach it.
  outbound_hosts = {
    each = "Service",
    run = function(mesh, out, namespace, service)
      for _, port in ipairs(mesh.ports(namespace, service)) do
        local reachers = common.is_http(port.protocol) and mesh.reachers(namespace, service, port.number) or {}
        if #reachers > 0 then
          local routes = outbound_routes(mesh, namespace, service, port.number)
          local at = { direction = "outbound", namespace = namespace, service = service, port = port.number }
          say_host(out, at, reachers, service, true, routes)
        end
      end
    end,
  },

  --- The host names of single pods. "pod-0.db" is also how Service "pod-0" of a namespace "db" is called: where there is
  --- one the name stays with it.
  member_hosts = {
    each = "Service",
    run = function(mesh, out, namespace, service)
      local members = mesh.named_members(namespace, service)
      for _, port in ipairs(#members > 0 and mesh.ports(namespace, service) or {}) do
        local http = common.is_http(port.protocol) and port.target > 0
        local callers = http and mesh.callers(namespace, service, port.target) or {}
        for _, member in ipairs(#callers > 0 and members or {}) do
          local cluster = { cluster = id.cluster(namespace, member.name, port.target), weight = 100 }
          local route = outbound_route(match_of(".*", ".*", {}), { cluster })
          local at = { direction = "outbound", namespace = namespace, service = service, port = port.number }
          local other = mesh.Service(service, member.hostname)
          local qualified = other and namespace == "svc" and member.name .. ".svc" or nil -- "pod-0.db.svc" is its, too
          say_host(out, at, callers, member.name, not other, { route }, qualified)
        end
      end
    end,
  },

  --- One route table for each HTTP port of the pods.
  inbound_tables = {
    each = "Service",
    run = function(mesh, out, namespace, service)
      local served = #mesh.accounts_behind(namespace, service) > 0
      for _, at in ipairs(served and mesh.pod_targets(namespace, service) or {}) do
        if common.is_http(at.protocol) then
          out.route_configuration {
            name = "rds-inbound." .. at.target,
            audience = { { service = id.name(namespace, service) } },
            at = { direction = "inbound", namespace = namespace, service = service, target = at.target },
            message = { validate_clusters = false },
          }
        end
      end
    end,
  },

  --- The rules are at the virtual host, not at its routes: of two routes that take a request the proxy uses the
  --- first, and a caller must get through if either of them is granted to it.
  inbound_hosts = {
    each = "workloads",
    run = function(mesh, out, namespace, service, account)
      local mine, rules, routes = {}, {}, {} -- one account's host names differ in little else than their names
      for _, at in ipairs(mesh.pod_targets(namespace, service)) do mine[at.target] = common.is_http(at.protocol) end
      for _, host in ipairs(mesh.hosts_at(namespace, service)) do
        for _, at in ipairs(mesh.inbound_hosts(namespace, account, host)) do
          if mine[at.target] then
            local policy = mesh.inbound_policy(namespace, account, at.target)
            local cluster = id.local_cluster(namespace, at.service, at.target)
            routes[cluster] = routes[cluster] or inbound_routes(policy, cluster)
            rules[at.target] = rules[at.target] or rbac.requests(mesh, policy.grants)
            out.virtual_host {
              route_configuration = "rds-inbound." .. at.target,
              name = "inbound_virtual-host|" .. id.fqdn(namespace, host),
              audience = { { service = id.name(namespace, service), account = id.name(namespace, account) } },
              authorises = true,
              at = {
                direction = "inbound",
                namespace = namespace,
                service = service,
                account = account,
                host = host,
                target = at.target,
              },
              message = {
                domains = inbound_domains(mesh, namespace, host, at.numbers),
                routes = routes[cluster],
                typed_per_filter_config = not policy.open and {
                  ["envoy.filters.http.rbac"] = {
                    ["@type"] = "envoy.extensions.filters.http.rbac.v3.RBACPerRoute",
                    rbac = { rules = rules[at.target] },
                  },
                } or nil,
              },
            }
          end
        end
      end
    end,
  },
}

return M
