--- Who may call whom: TrafficTarget of access.smi-spec.io. Nobody may, unless a target says so.
---
--- A target lives in the namespace of its destination. Targets add up. Breaking a part of one never opens more than
--- before: a target with a missing TCPRoute grants nothing at all (no TCPRoute would mean any port), and a missing
--- HTTPRouteGroup, or a name that is not in it, just adds nothing. A list that is empty is no broken part: as in SMI, a rule
--- without matches means all of its route, and a TCPRoute without ports any port.
local id = require("mesh.id")
local list = require("mesh.list")
local object = require("kubernetes.object")
local older = require("smi.older")

local M = { api = 1 }

--- What one policy grants to callers of an account. Other sources of grants may answer the same.
---@class access.Grant
---@field name string            "namespace/name" of what grants it
---@field sources string[]       accounts that may call, "namespace/name", sorted, at least one
---@field ports integer[]?       ports of the pods that may be reached, HTTP or not; nil: any
---@field matches routes.Match[] HTTP requests that are granted

M.kinds = {
  --- Grants callers (accounts) what its rules list, of the pods of one account.
  TrafficTarget = {
    group = "access.smi-spec.io",
    versions = { "v1alpha3", "v1alpha2", "v1alpha1" },
    schema = "crds/traffictarget.yaml",
    from = { v1alpha2 = older.target_v1alpha2, v1alpha1 = older.target_v1alpha1 },
    accept = function(target, reject)
      local spec, namespace = target.spec, object.namespace(target)
      if spec.destination.kind ~= "ServiceAccount" then
        reject({ "spec", "destination", "kind" }, object.quote(spec.destination.kind) .. " is not ServiceAccount")
      end
      if not object.is_name(spec.destination.name) then
        reject({ "spec", "destination", "name" }, object.quote(spec.destination.name) .. " is not the name of an "
          .. "account")
      end
      if spec.destination.namespace ~= namespace then
        reject({ "spec", "destination", "namespace" }, "is " .. object.quote(spec.destination.namespace or "")
          .. ", but the target lives in " .. object.quote(namespace) .. "; they must be the same")
      end
      if #(spec.sources or {}) == 0 then reject({ "spec", "sources" }, "is empty: nobody is granted anything") end
      for index, source in ipairs(spec.sources or {}) do
        if source.kind ~= "ServiceAccount" then
          reject({ "spec", "sources", index, "kind" }, object.quote(source.kind) .. " is not ServiceAccount")
        end
        if not object.is_name(source.name) then
          reject({ "spec", "sources", index, "name" }, object.quote(source.name) .. " is not the name of an account")
        end
        if not object.is_namespace(source.namespace) then
          reject({ "spec", "sources", index, "namespace" }, object.quote(source.namespace) .. " is not the name of a "
            .. "namespace")
        end
      end
      if #(spec.rules or {}) == 0 then reject({ "spec", "rules" }, "is empty: nothing is granted") end
      for index, rule in ipairs(spec.rules or {}) do
        if rule.kind ~= "HTTPRouteGroup" and rule.kind ~= "TCPRoute" then
          reject({ "spec", "rules", index, "kind" }, object.quote(rule.kind) .. " is not HTTPRouteGroup or TCPRoute; "
            .. "nothing is granted")
        end
        if not object.is_name(rule.name) then
          reject({ "spec", "rules", index, "name" }, object.quote(rule.name) .. " is not the name of an object; nothing "
            .. "is granted")
        end
      end
    end,
  },
}

M.indexes = {
  --- Targets by their destination.
  targets_to = {
    of = "TrafficTarget",
    ---@param target mesh.kind.TrafficTarget
    ---@return [string, string][] # namespace, account
    keys = function(target) return { { target.spec.destination.namespace, target.spec.destination.name } } end,
  },
}

--- The matches that one HTTPRouteGroup rule of a target asks for: those it names, or all of the group where it names
--- none.
---@param mesh mesh.Reader
---@param target table
---@param index integer  of the rule
---@return routes.Match[]
local function matches_of(mesh, target, index)
  local rule, namespace = target.spec.rules[index], object.namespace(target)
  local all = mesh.http_matches(namespace, rule.name)
  if not all then
    mesh.reject(target, { "spec", "rules", index, "name" }, "there is no HTTPRouteGroup "
      .. object.quote(id.name(namespace, rule.name)) .. ": the rule grants nothing")
    return {}
  end
  if #all == 0 then
    mesh.reject(target, { "spec", "rules", index, "name" }, "HTTPRouteGroup " .. object.quote(id.name(namespace, rule.name))
      .. " has no matches: the rule grants nothing")
    return {}
  end
  local names = rule.matches or {}
  local matches, found = {}, {}
  for _, entry in ipairs(all) do
    if #names == 0 or list.contains(names, entry.name) then
      matches[#matches + 1] = entry.match
      found[entry.name] = true
    end
  end
  for at, name in ipairs(names) do
    if not found[name] then
      mesh.reject(target, { "spec", "rules", index, "matches", at }, "HTTPRouteGroup "
        .. object.quote(id.name(namespace, rule.name)) .. " has no match " .. object.quote(name))
    end
  end
  return matches
end

--- The first match that a TCPRoute rule of a target asks for and the route does not have. To take it for the whole route
--- would grant more than the target says.
---@param mesh mesh.Reader
---@param namespace string
---@param rule table
---@return integer?  its place in the rule's matches
local function unknown_tcp_match(mesh, namespace, rule)
  local named = (mesh.TCPRoute(namespace, rule.name).spec.matches or {}).name
  for at, name in ipairs(rule.matches or {}) do
    if name ~= named then return at end
  end
  return nil
end

M.rules = {}

--- What one target grants. TCPRoute ports limit all of it, its HTTP requests too; a TCPRoute without ports limits
--- nothing.
---@param mesh mesh.Reader
---@param namespace string
---@param name string
---@return access.Grant?  nil: nothing
function M.rules.target(mesh, namespace, name)
  local target = mesh.TrafficTarget(namespace, name)
  if not target then return nil end
  local granted, ports, matches = false, {}, {}
  for index, rule in ipairs(target.spec.rules) do
    if rule.kind == "TCPRoute" then
      local listed = mesh.tcp_ports(namespace, rule.name)
      if not listed then
        mesh.reject(target, { "spec", "rules", index, "name" }, "there is no TCPRoute "
          .. object.quote(id.name(namespace, rule.name)) .. ": the whole target grants nothing")
        return nil
      end
      local unknown = unknown_tcp_match(mesh, namespace, rule)
      if unknown then
        mesh.reject(target, { "spec", "rules", index, "matches", unknown }, "TCPRoute "
          .. object.quote(id.name(namespace, rule.name)) .. " has no match " .. object.quote(rule.matches[unknown])
          .. ": the whole target grants nothing")
        return nil
      end
      granted = true
      for _, port in ipairs(listed) do ports[#ports + 1] = port end
    else
      for _, match in ipairs(matches_of(mesh, target, index)) do
        granted = true
        matches[#matches + 1] = match
      end
    end
  end
  if not granted then return nil end
  local sources, outside = {}, nil
  for index, source in ipairs(target.spec.sources) do
    if mesh.is_monitored(source.namespace) then
      sources[#sources + 1] = id.name(source.namespace, source.name)
    elseif not outside then -- a sidecar that was of the mesh keeps its certificate for a while
      outside = index
      mesh.reject(target, { "spec", "sources", index, "namespace" }, object.quote(source.namespace) .. " is not a namespace "
        .. "of this mesh: nobody there is let in, nor from further sources like it")
    end
  end
  if #sources == 0 then return nil end
  return {
    name = id.name(namespace, name),
    sources = list.unique(list.sorted(sources)),
    ports = #ports > 0 and list.unique(list.sorted(ports)) or nil,
    matches = matches,
  }
end

--- What all targets grant to callers of an account.
---@param mesh mesh.Reader
---@param namespace string
---@param account string
---@return access.Grant[]  by name
function M.rules.grants(mesh, namespace, account)
  local grants = {}
  for _, target in ipairs(mesh.targets_to(namespace, account)) do
    grants[#grants + 1] = mesh.target(object.namespace(target), target.metadata.name)
  end
  return grants
end

--- Says so on a target whose TCPRoute ports leave no way to what its HTTP rules grant.
---@param mesh mesh.Reader
---@param target table
---@param grant access.Grant
local function report_unreachable(mesh, target, grant)
  local namespace, carried, granted = object.namespace(target), false, {}
  for _, port in ipairs(grant.ports) do granted[port] = true end
  for _, service in ipairs(mesh.services_of(namespace, target.spec.destination.name)) do
    for _, port in ipairs(mesh.ports(namespace, service)) do
      if port.protocol == "http" or port.protocol == "grpc" then
        for _, at in ipairs(port.targets) do
          if granted[at] then return end
        end
        carried = true
      end
    end
  end
  if carried then
    mesh.reject(target, { "spec", "rules" }, "the ports of its TCPRoutes limit the HTTP rules too, and none of them is "
      .. "an HTTP port of the destination: the HTTP rules have no effect")
  end
end

M.emit = {
  --- Reports on every target, also where nothing is behind its destination yet.
  target_reports = {
    each = "targets_to",
    run = function(mesh, _, namespace, account)
      for _, target in ipairs(mesh.targets_to(namespace, account)) do
        local grant = mesh.target(namespace, target.metadata.name)
        if grant and grant.ports and #grant.matches > 0 then report_unreachable(mesh, target, grant) end
      end
    end,
  },
}

return M
