--- The server's side of traffic: what a workload lets in, under which host names, and to which port of the pod.
---
--- All of it hangs on the account, since grants do. One pod may stand behind several Services with one account:
--- whatever two of them say about one host name and one port of the pod must be equal, so the answers here are keyed
--- by account, not by Service.
local list = require("mesh.list")

local M = { api = 1 }

--- What an account lets in on one port of its pods.
---@class inbound.Policy
---@field open boolean           permissive mode: anything of the mesh
---@field grants access.Grant[]  else only this; {}: nothing

--- A host name that a workload answers to, on one port of its pods.
---@class inbound.Host
---@field target integer     port of the pods
---@field numbers integer[]  ports that clients may write after the host name, ascending
---@field service string     the Service whose local cluster is used

M.rules = {}

--- The ports that each grant of an account is limited to: asked once for all ports of its pods.
---@param mesh mesh.Reader
---@param namespace string
---@param account string
---@return (false|table<string, true>)[]  as `grants`; ports of the pods, as text; false: any
function M.rules.grant_limits(mesh, namespace, account)
  return list.map(mesh.grants(namespace, account), function(grant)
    if not grant.ports then return false end
    local limit = {}
    for _, port in ipairs(grant.ports) do limit[tostring(port)] = true end
    return limit
  end)
end

--- What an account lets in on one port of its pods, HTTP or not.
---@param mesh mesh.Reader
---@param namespace string
---@param account string
---@param target integer
---@return inbound.Policy
function M.rules.inbound_policy(mesh, namespace, account, target)
  -- Not just truthy: a wrap that answers nonsense must not open the mesh.
  if mesh.permissive() == true then return { open = true, grants = {} } end
  local grants, limits, port = {}, mesh.grant_limits(namespace, account), tostring(target)
  for index, grant in ipairs(mesh.grants(namespace, account)) do
    if not limits[index] or limits[index][port] then grants[#grants + 1] = grant end
  end
  return { open = false, grants = grants }
end

--- The Services whose host names arrive at a Service: its own, and those of the Services that a split sends here.
---@param mesh mesh.Reader
---@param namespace string
---@param service string
---@return string[]  sorted
function M.rules.hosts_at(mesh, namespace, service)
  local hosts = { service }
  for _, apex in ipairs(mesh.apexes_of(namespace, service)) do hosts[#hosts + 1] = apex end
  return list.unique(list.sorted(hosts))
end

--- How the pods of an account answer to a Service's host names: as that Service, where they are behind it, and as
--- each backend of it that they are behind. Several of these on one port of the pods give one answer, with the least
--- Service's local cluster.
---@param mesh mesh.Reader
---@param namespace string
---@param account string
---@param host string
---@return inbound.Host[]  by target; HTTP ports only
function M.rules.inbound_hosts(mesh, namespace, account, host)
  local carriers = { host }
  for _, carrier in ipairs(mesh.carriers(namespace, host)) do carriers[#carriers + 1] = carrier end
  local by_target, hosts = {}, {}
  for _, carrier in ipairs(list.unique(list.sorted(carriers))) do
    if list.contains(mesh.accounts_behind(namespace, carrier), account) then
      local reached = {}
      for _, port in ipairs(mesh.ports(namespace, carrier)) do reached[port.number] = port end
      for _, port in ipairs(mesh.ports(namespace, host)) do
        local at = reached[port.number]
        local http = at and (at.protocol == "http" or at.protocol == "grpc")
        for _, target in ipairs(http and at.targets or {}) do
          local entry = by_target[target]
          if not entry then
            entry = { target = target, numbers = {}, service = carrier }
            by_target[target] = entry
            hosts[#hosts + 1] = entry
          end
          entry.numbers[#entry.numbers + 1] = port.number
        end
      end
    end
  end
  for _, entry in ipairs(hosts) do entry.numbers = list.unique(list.sorted(entry.numbers)) end
  return list.sorted(hosts, function(a, b) return a.target < b.target end)
end

--- The Services whose pods may use the local clusters of this one: its own pods, and those that answer to the same
--- host names.
---@param mesh mesh.Reader
---@param namespace string
---@param service string
---@return string[]  sorted
function M.rules.local_cluster_readers(mesh, namespace, service)
  local others = {}
  for _, host in ipairs(mesh.hosts_at(namespace, service)) do
    others[#others + 1] = host
    for _, carrier in ipairs(mesh.carriers(namespace, host)) do others[#others + 1] = carrier end
  end
  local accounts, readers = mesh.accounts_behind(namespace, service), { service }
  for _, other in ipairs(list.unique(list.sorted(others))) do
    for _, account in ipairs(mesh.accounts_behind(namespace, other)) do
      if list.contains(accounts, account) then readers[#readers + 1] = other end
    end
  end
  return list.unique(list.sorted(readers))
end

return M
