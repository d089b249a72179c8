--- What `osm policy why-not` tells of a call beside what the sidecars are served: the Service as the mesh knows it, which
--- object is behind a grant, and what comes nearest to one that is not there. Nobody else asks for these: they are
--- evaluated for one question, on an engine that is thrown away.
local id = require("mesh.id")
local list = require("mesh.list")
local object = require("kubernetes.object")
local str = require("mesh.str")

local M = { api = 1 }

--- An object that has to do with a call.
---@class explain.Object
---@field kind string
---@field namespace string
---@field name string
---@field text string  what it says of the call

local MAX_NEAR = 10 -- objects
local MAX_NAMED = 5 -- of one list in a text

---@param names string[]
---@return string
local function some(names)
  local shown = {}
  for index, name in ipairs(names) do
    if index > MAX_NAMED then
      shown[index] = "..."
      break
    end
    shown[index] = name
  end
  return table.concat(shown, ", ")
end

---@param target mesh.kind.TrafficTarget
---@return string[]  accounts as "namespace/name", sorted
local function sources_of(target)
  return list.sorted(list.map(target.spec.sources, function(source) return id.name(source.namespace, source.name) end))
end

M.rules = {}

--- A Service as the mesh carries it.
---@param mesh mesh.Reader
---@param namespace string
---@param name string
---@return { ports: services.Port[], addresses: string[], accounts: string[], permissive: boolean }?  nil: no policy sees it
function M.rules.service_explained(mesh, namespace, name)
  if not mesh.Service(namespace, name) then return nil end
  local accounts = {}
  for _, backend in ipairs(mesh.backends(namespace, name)) do
    for _, account in ipairs(mesh.accounts_behind(namespace, backend.service)) do accounts[#accounts + 1] = account end
  end
  return {
    ports = mesh.ports(namespace, name),
    addresses = mesh.reached_at(namespace, name),
    accounts = list.unique(list.sorted(accounts)),
    permissive = mesh.permissive() == true,
  }
end

--- What each permission of a grant comes from, in their order: it is that of the grant's matches.
---@param mesh mesh.Reader
---@param name string  of the grant, "namespace/name"
---@return { kind: string, namespace: string, name: string, parts: string[] }?  nil: it is of another kind than ours
function M.rules.grant_explained(mesh, name)
  local parts = str.split(name, "/")
  local target = #parts == 2 and mesh.TrafficTarget(parts[1], parts[2])
  if not target then return nil end
  local told = {}
  for _, granted in ipairs(mesh.granted_matches(parts[1], parts[2])) do
    told[#told + 1] = "spec.rules[" .. granted.rule - 1 .. "]: match " .. object.quote(granted.name) .. " of HTTPRouteGroup "
      .. object.quote(target.spec.rules[granted.rule].name)
  end
  return { kind = "TrafficTarget", namespace = parts[1], name = parts[2], parts = told }
end

---@param target mesh.kind.TrafficTarget
---@param caller string     account, "namespace/name"
---@param namespace string  of the destination
---@param account string    that is asked for
---@return string?  why this target does not grant the call, though it comes near
local function miss(target, caller, namespace, account)
  local to = target.spec.destination
  local same_to = to.namespace == namespace and to.name == account
  local names_caller = list.contains(sources_of(target), caller)
  if same_to and not names_caller then
    return "lets " .. some(sources_of(target)) .. " call " .. id.name(namespace, account) .. ", not " .. caller
  end
  if names_caller and not same_to and (to.namespace == namespace or to.name == account) then
    return "lets " .. caller .. " call " .. id.name(to.namespace, to.name) .. ", not " .. id.name(namespace, account)
  end
  return nil
end

--- The objects that come nearest to a grant that is not there.
---@param mesh mesh.Reader
---@param caller string     account, "namespace/name"
---@param namespace string
---@param account string    of the server's pods
---@return explain.Object[]  those for the same account first
function M.rules.near_grants(mesh, caller, namespace, account)
  local same, others = {}, {}
  for _, key in ipairs(mesh.TrafficTarget()) do
    local target = mesh.TrafficTarget(key[1], key[2])
    local text = target and miss(target, caller, namespace, account)
    if target and text then
      local to_same = target.spec.destination.name == account and target.spec.destination.namespace == namespace
      table.insert(to_same and same or others, { kind = "TrafficTarget", namespace = key[1], name = key[2], text = text })
    end
  end
  for _, each in ipairs(others) do same[#same + 1] = each end
  local near = {}
  for index, each in ipairs(same) do
    if index > MAX_NEAR then break end
    near[index] = each
  end
  return near
end

return M
