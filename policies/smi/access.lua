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
---@field weight integer?        about how many bytes it adds to what a server is told; nil: next to nothing

-- What one server can be told, and how many callers a resource can have: more would take away what others are granted, too.
local MOST_WEIGHT <const> = 3000000
local PORT_WEIGHT <const> = 12
local MOST_CALLERS <const> = 10000
local MOST_NAMES <const> = 10000 -- of matches, in one target

M.kinds = {
  --- Grants callers (accounts) what its rules list, of the pods of one account.
  TrafficTarget = {
    group = "access.smi-spec.io",
    versions = { "v1alpha3", "v1alpha2", "v1alpha1" },
    schema = "crds/traffictarget.yaml",
    from = { v1alpha2 = older.target_v1alpha2, v1alpha1 = older.target_v1alpha1 },
    accept = function(target, reject)
      local spec, namespace = target.spec, object.namespace(target)
      if type(target.metadata.creationTimestamp or "") ~= "string" then -- it is compared with that of other targets
        reject({ "metadata", "creationTimestamp" }, "must be a date as text")
      end
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
      local names = 0
      for index, rule in ipairs(spec.rules or {}) do
        names = names + #(rule.matches or {})
        if rule.kind ~= "HTTPRouteGroup" and rule.kind ~= "TCPRoute" then
          reject({ "spec", "rules", index, "kind" }, object.quote(rule.kind) .. " is not HTTPRouteGroup or TCPRoute; "
            .. "nothing is granted")
        end
        if not object.is_name(rule.name) then
          reject({ "spec", "rules", index, "name" }, object.quote(rule.name) .. " is not the name of an object; nothing "
            .. "is granted")
        end
      end
      if names > MOST_NAMES then
        reject({ "spec", "rules" }, "name more than " .. MOST_NAMES .. " matches: nothing is granted")
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
---@return { name: string, match: routes.Match }[]
local function matches_of(mesh, target, index)
  local rule, namespace = target.spec.rules[index], object.namespace(target)
  local all, group = mesh.http_matches(namespace, rule.name), object.quote(id.name(namespace, rule.name))
  if not all or #all == 0 then
    mesh.reject(target, { "spec", "rules", index, "name" }, (all and "HTTPRouteGroup " .. group .. " has no matches"
      or "there is no HTTPRouteGroup " .. group) .. ": the rule grants nothing")
    return {}
  end
  local names = rule.matches or {}
  if #names == 0 then return all end
  local by_name, matches, taken = mesh.http_matches_by_name(namespace, rule.name), {}, {}
  local first, missing = nil, 0
  for at, name in ipairs(names) do
    if not by_name[name] then
      first, missing = first or at, missing + 1
    elseif not taken[name] then
      taken[name] = true
      for _, match in ipairs(by_name[name]) do matches[#matches + 1] = { name = name, match = match } end
    end
  end
  if first then
    mesh.reject(target, { "spec", "rules", index, "matches", first }, "HTTPRouteGroup " .. group .. " has no match "
      .. object.quote(names[first]) .. (missing > 1 and ", nor " .. missing - 1 .. " others that are named" or ""))
  end
  return matches
end

---@param match routes.Match
---@return integer  as in access.Grant: one permission, and a route for each method
local function weight_of(match)
  local text = #match.path
  for _, header in ipairs(match.headers) do text = text + 10 + #header.name + #header.value end
  return 40 + text + #match.methods * (55 + text)
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

--- The HTTP requests that one target describes.
---@param mesh mesh.Reader
---@param namespace string
---@param name string
---@return { rule: integer, name: string, match: routes.Match }[]?  by rule; nil: more than a proxy can be told
function M.rules.granted_matches(mesh, namespace, name)
  local target, matches, weight, whole = mesh.TrafficTarget(namespace, name), {}, 0, {}
  for index, rule in ipairs(target and target.spec.rules or {}) do
    if rule.kind == "HTTPRouteGroup" and not whole[rule.name] then -- one that is there whole has nothing to add
      whole[rule.name] = #(rule.matches or {}) == 0
      for _, entry in ipairs(matches_of(mesh, target, index)) do
        matches[#matches + 1] = { rule = index, name = entry.name, match = entry.match }
        weight = weight + weight_of(entry.match)
        if weight > MOST_WEIGHT then
          mesh.reject(target, { "spec", "rules", index }, "describe more requests than a proxy can be told: the whole target "
            .. "grants nothing")
          return nil
        end
      end
    end
  end
  return matches
end

--- What one target grants. TCPRoute ports limit all of it, its HTTP requests too; a TCPRoute without ports limits
--- nothing.
---@param mesh mesh.Reader
---@param namespace string
---@param name string
---@return access.Grant?  nil: nothing
function M.rules.target(mesh, namespace, name)
  local target = mesh.TrafficTarget(namespace, name)
  if not target then return nil end
  local granted, ports, matches, weight, seen = false, {}, {}, 0, {}
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
      if weight + PORT_WEIGHT * #listed > MOST_WEIGHT then
        mesh.reject(target, { "spec", "rules", index }, "list more ports than a proxy can be told: the whole target grants "
          .. "nothing")
        return nil
      end
      granted = true
      for _, port in ipairs(not seen[rule.name] and listed or {}) do
        ports[#ports + 1] = port
        weight = weight + PORT_WEIGHT
      end
      seen[rule.name] = true
    end
  end
  local described = mesh.granted_matches(namespace, name)
  if not described or not granted and #described == 0 then return nil end
  for index, entry in ipairs(described) do
    matches[index] = entry.match
    weight = weight + weight_of(entry.match)
  end
  local sources, outside = {}, nil
  for index, source in ipairs(target.spec.sources) do
    if mesh.is_monitored(source.namespace) then
      sources[#sources + 1] = id.name(source.namespace, source.name)
      weight = weight + 60 + #source.namespace + #source.name
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
    weight = weight,
  }
end

--- What all targets grant to callers of an account. Together they may be more than proxies can be told: then the newest
--- grant nothing, and what the elder ones grant stays.
---@param mesh mesh.Reader
---@param namespace string
---@param account string
---@return access.Grant[]  by name
function M.rules.grants(mesh, namespace, account)
  local grants = {}
  local weight, callers, known = 0, 0, {}
  for _, target in ipairs(list.sorted(mesh.targets_to(namespace, account), object.elder)) do
    local grant = mesh.target(object.namespace(target), target.metadata.name)
    local all, new = weight + (grant and grant.weight or 0), 0
    for _, source in ipairs(grant and all <= MOST_WEIGHT and grant.sources or {}) do
      if not known[source] then new = new + 1 end
    end
    if grant and (all > MOST_WEIGHT or callers + new > MOST_CALLERS) then
      mesh.reject(target, { "spec", "destination" }, "is granted to more callers, or for more requests, than proxies can be "
        .. "told: this target grants nothing")
    elseif grant then
      for _, source in ipairs(grant.sources) do known[source] = true end
      weight, callers = all, callers + new
      grants[#grants + 1] = grant
    end
  end
  return list.sorted(grants, function(a, b) return a.name < b.name end)
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
