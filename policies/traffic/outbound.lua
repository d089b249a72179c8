--- The client's side of traffic: who may reach which port of which Service, and through which clusters.
---
--- In permissive mode everyone may. Otherwise a caller reaches a Service if a grant names it as a source for an
--- account that is behind the Service, on the port of the pods. A Service that a split divides is reached by whoever
--- may reach a backend.
local list = require("mesh.list")

local M = { api = 1 }

--- One destination of a Service port.
---@class outbound.Upstream
---@field cluster string   as in services.Port
---@field service string   of the same namespace
---@field target integer   port of the pods
---@field weight integer   relative share; 0: nothing

--- Some HTTP requests, and where they go.
---@class outbound.Exception
---@field matches routes.Match[]         at least one
---@field upstreams outbound.Upstream[]  by cluster, at least one

--- "everyone", or accounts as "namespace/name", sorted.
---@alias outbound.Callers "everyone"|string[]

--- Callers that see the same endpoints of a cluster.
---@class outbound.Group
---@field callers outbound.Callers
---@field accounts "any"|string[]  whose endpoints they may reach: names in the Service's namespace, sorted; {}: none

---@param lists outbound.Callers[]
---@return outbound.Callers
local function union(lists)
  local all = {}
  for _, callers in ipairs(lists) do
    if callers == "everyone" then return "everyone" end
    for _, caller in ipairs(callers) do all[#all + 1] = caller end
  end
  return list.unique(list.sorted(all))
end

M.rules = {}

--- The backends that have this port of the Service.
---@param mesh mesh.Reader
---@param namespace string
---@param backends split.Backend[]
---@param number integer
---@return outbound.Upstream[]  by cluster
local function upstreams_of(mesh, namespace, backends, number)
  local upstreams = {}
  for _, backend in ipairs(backends) do
    local port = mesh.ports_by_number(namespace, backend.service)[tostring(number)]
    if port then
      upstreams[#upstreams + 1] = {
        cluster = port.cluster,
        service = backend.service,
        target = port.target,
        weight = backend.weight,
      }
    end
  end
  return list.sorted(upstreams, function(a, b) return a.cluster < b.cluster end)
end

--- Where requests for a port of a Service go, but for the exceptions. A backend without this port of the Service is
--- left out.
---@param mesh mesh.Reader
---@param namespace string
---@param service string
---@param number integer
---@return outbound.Upstream[]  by cluster
function M.rules.upstreams(mesh, namespace, service, number)
  return upstreams_of(mesh, namespace, mesh.backends(namespace, service), number)
end

--- The HTTP requests for a port of a Service that go elsewhere than the rest. An exception none of whose backends has
--- this port is left out.
---@param mesh mesh.Reader
---@param namespace string
---@param service string
---@param number integer
---@return outbound.Exception[]  the first that describes a request takes it
function M.rules.exceptions(mesh, namespace, service, number)
  local port = mesh.ports_by_number(namespace, service)[tostring(number)]
  if not port or port.protocol ~= "http" and port.protocol ~= "grpc" then return {} end
  local exceptions = {}
  for _, exception in ipairs(mesh.split_exceptions(namespace, service)) do
    local upstreams = upstreams_of(mesh, namespace, exception.backends, number)
    if #upstreams > 0 then
      exceptions[#exceptions + 1] = { matches = exception.matches, upstreams = upstreams }
    end
  end
  return exceptions
end

--- All upstreams of a port of a Service, whichever requests they get.
---@param mesh mesh.Reader
---@param namespace string
---@param service string
---@param number integer
---@return outbound.Upstream[]
local function all_upstreams(mesh, namespace, service, number)
  local all = list.map(mesh.upstreams(namespace, service, number), function(upstream) return upstream end)
  for _, exception in ipairs(mesh.exceptions(namespace, service, number)) do
    for _, upstream in ipairs(exception.upstreams) do all[#all + 1] = upstream end
  end
  return all
end

--- Callers that some grant lets through to a port of an account's pods. Permissive mode is not looked at.
---@param mesh mesh.Reader
---@param namespace string
---@param account string
---@param target integer  port of the pods
---@return string[]  accounts as "namespace/name", sorted
function M.rules.granted_callers(mesh, namespace, account, target)
  local callers, limits, port = {}, mesh.grant_limits(namespace, account), tostring(target)
  for index, grant in ipairs(mesh.grants(namespace, account)) do
    if not limits[index] or limits[index][port] then
      for _, source in ipairs(grant.sources) do callers[#callers + 1] = source end
    end
  end
  return list.unique(list.sorted(callers))
end

--- Callers of the pods behind a Service on one of their ports.
---@param mesh mesh.Reader
---@param namespace string
---@param service string
---@param target integer
---@return outbound.Callers
function M.rules.callers(mesh, namespace, service, target)
  -- Not just truthy: a wrap that answers nonsense must not open the mesh.
  if mesh.permissive() == true then return "everyone" end
  return union(list.map(mesh.accounts_behind(namespace, service), function(account)
    return mesh.granted_callers(namespace, account, target)
  end))
end

--- Callers that get a port of a Service by its name: those of any of its upstreams.
---@param mesh mesh.Reader
---@param namespace string
---@param service string
---@param number integer
---@return outbound.Callers
function M.rules.reachers(mesh, namespace, service, number)
  return union(list.map(all_upstreams(mesh, namespace, service, number), function(upstream)
    return mesh.callers(namespace, upstream.service, upstream.target)
  end))
end

--- The ports of a Service by where requests for them may go: asked once for all clusters that a split sends to.
---@param mesh mesh.Reader
---@param namespace string
---@param service string
---@return table<string, integer[]> # "backend|target port" -> ports of the Service, ascending
function M.rules.ports_towards(mesh, namespace, service)
  local towards = {}
  for _, port in ipairs(mesh.ports(namespace, service)) do
    local seen = {}
    for _, upstream in ipairs(all_upstreams(mesh, namespace, service, port.number)) do
      local key = upstream.service .. "|" .. upstream.target
      local numbers = towards[key] or {}
      if not seen[key] then numbers[#numbers + 1] = port.number end
      towards[key], seen[key] = numbers, true
    end
  end
  return towards
end

--- Callers that are told of a cluster: its own, and those of every Service that a split sends there. Being told is no
--- grant: endpoint_groups holds back the endpoints.
---@param mesh mesh.Reader
---@param namespace string
---@param service string
---@param target integer
---@return outbound.Callers
function M.rules.cluster_readers(mesh, namespace, service, target)
  local readers = { mesh.callers(namespace, service, target) }
  for _, apex in ipairs(mesh.apexes_of(namespace, service)) do
    for _, number in ipairs(mesh.ports_towards(namespace, apex)[service .. "|" .. target] or {}) do
      readers[#readers + 1] = mesh.reachers(namespace, apex, number)
    end
  end
  return union(readers)
end

--- The readers of a cluster, grouped by the accounts whose endpoints they may reach.
---@param mesh mesh.Reader
---@param namespace string
---@param service string
---@param target integer
---@return outbound.Group[]  by accounts
function M.rules.endpoint_groups(mesh, namespace, service, target)
  local readers = mesh.cluster_readers(namespace, service, target)
  if readers == "everyone" then return { { callers = "everyone", accounts = "any" } } end
  local accounts_for = {}
  for _, account in ipairs(mesh.accounts_behind(namespace, service)) do
    for _, caller in ipairs(mesh.granted_callers(namespace, account, target)) do
      local accounts = accounts_for[caller] or {}
      accounts[#accounts + 1] = account
      accounts_for[caller] = accounts
    end
  end
  local groups = {}
  for _, caller in ipairs(readers) do
    local accounts = accounts_for[caller] or {}
    local key = table.concat(accounts, ",")
    groups[key] = groups[key] or { callers = {}, accounts = accounts }
    table.insert(groups[key].callers, caller)
  end
  return list.map(list.keys(groups), function(key) return groups[key] end)
end

return M
