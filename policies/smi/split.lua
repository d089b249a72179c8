--- Which share of a Service's requests goes where: TrafficSplit of split.smi-spec.io. A split grants nothing.
---
--- A split with `matches` divides only the HTTP requests that its HTTPRouteGroups describe. Of several such splits of one
--- Service the oldest is asked first; what none of them takes is divided by the oldest split without `matches`, or goes
--- to the Service itself. A group that is missing or empty describes nothing: the split takes no request.
local id = require("mesh.id")
local list = require("mesh.list")
local object = require("kubernetes.object")
local older = require("smi.older")
local str = require("mesh.str")

local M = { api = 1 }

local MAX_TOTAL = 4294967295 -- the proxy adds weights up in 32 bits
local MOST_MATCHES <const> = 10000 -- of one Service: each is a route of every caller

--- One share.
---@class split.Backend
---@field service string  a Service of the same namespace
---@field weight integer  relative to the others, 0: nothing

--- Shares of some HTTP requests.
---@class split.Exception
---@field matches routes.Match[]    the requests, at least one
---@field backends split.Backend[]  by service

---@param text string
---@param namespace string
---@return string? name  nil where it is no name of a Service in this namespace
local function local_service(text, namespace)
  local where, name = id.service(text, namespace)
  return where == namespace and object.is_name(name) and name or nil
end

M.kinds = {
  --- Divides the requests for a Service among backends, by weight.
  TrafficSplit = {
    group = "split.smi-spec.io",
    versions = { "v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1" },
    schema = "crds/trafficsplit.yaml",
    from = {
      v1alpha3 = older.split_as_it_is,
      v1alpha2 = older.split_as_it_is,
      v1alpha1 = older.split_v1alpha1,
    },
    accept = function(split, reject)
      local namespace, total = object.namespace(split), 0
      if type(split.metadata.creationTimestamp or "") ~= "string" then
        reject({ "metadata", "creationTimestamp" }, "must be a date as text")
      end
      if not local_service(split.spec.service, namespace) then
        reject({ "spec", "service" }, object.quote(split.spec.service) .. " is not a Service of namespace "
          .. object.quote(namespace))
      end
      for index, match in ipairs(split.spec.matches or {}) do
        local path = { "spec", "matches", index }
        local group = match.apiGroup or ""
        if match.kind ~= "HTTPRouteGroup" or group ~= "" and str.split(group, "/")[1] ~= "specs.smi-spec.io" then
          local wrong = match.kind ~= "HTTPRouteGroup" and "kind" or "apiGroup"
          reject({ "spec", "matches", index, wrong }, object.quote(match[wrong] or "") .. " is not that of HTTPRouteGroup of "
            .. "specs.smi-spec.io; the split has no effect")
        elseif not object.is_name(match.name or "") then
          reject(path, object.quote(match.name or "") .. " is not the name of an HTTPRouteGroup; the split has no effect")
        end
      end
      if #split.spec.backends == 0 then reject({ "spec", "backends" }, "is empty") end
      for index, backend in ipairs(split.spec.backends) do
        if not local_service(backend.service, namespace) then
          reject({ "spec", "backends", index, "service" }, object.quote(backend.service)
            .. " is not a Service of namespace " .. object.quote(namespace))
        end
        local weight = math.tointeger(backend.weight)
        if not weight or weight < 0 or weight > MAX_TOTAL then
          reject({ "spec", "backends", index, "weight" }, "must be a whole number from 0 to " .. MAX_TOTAL)
        else
          total = total + weight
        end
      end
      if total > MAX_TOTAL then
        reject({ "spec", "backends" }, "the weights add up to more than " .. MAX_TOTAL)
      elseif total == 0 then
        reject({ "spec", "backends" }, "the weights add up to 0; at least one must be more")
      end
    end,
  },
}

M.indexes = {
  --- Splits by the Service that they split.
  splits_of = {
    of = "TrafficSplit",
    ---@param split mesh.kind.TrafficSplit
    ---@return [string, string][] # namespace, name
    keys = function(split)
      local namespace = object.namespace(split)
      return { { namespace, local_service(split.spec.service, namespace) } }
    end,
  },
  --- Splits by a Service that they send to.
  splits_to = {
    of = "TrafficSplit",
    ---@param split mesh.kind.TrafficSplit
    ---@return [string, string][] # namespace, name
    keys = function(split)
      local namespace, names = object.namespace(split), {}
      for index, backend in ipairs(split.spec.backends) do names[index] = local_service(backend.service, namespace) end
      return list.map(list.unique(list.sorted(names)), function(name) return { namespace, name } end)
    end,
  },
}

M.rules = {}

---@param split table
---@return boolean
local function is_exception(split)
  return #(split.spec.matches or {}) > 0
end

---@param split table
---@return split.Backend[]  by service
local function backends_of(split)
  local weights = {}
  for _, backend in ipairs(split.spec.backends) do
    local service = local_service(backend.service, object.namespace(split))
    weights[service] = (weights[service] or 0) + math.tointeger(backend.weight)
  end
  return list.map(list.keys(weights), function(service) return { service = service, weight = weights[service] } end)
end

--- Where requests for a Service go that no split with matches takes, HTTP or not. Of several splits the oldest counts,
--- and of equally old ones the lesser name.
---@param mesh mesh.Reader
---@param namespace string
---@param name string
---@return split.Backend[]  by service; the Service itself, weight 100, where no split names it
function M.rules.backends(mesh, namespace, name)
  local counts
  for _, split in ipairs(list.sorted(mesh.splits_of(namespace, name), object.elder)) do
    if not is_exception(split) and not counts then
      counts = split
    elseif not is_exception(split) then
      mesh.reject(split, { "spec", "service" }, object.quote(id.name(namespace, name))
        .. " is split by TrafficSplit " .. object.quote(counts.metadata.name) .. " already; the older one counts")
    end
  end
  if not counts then return { { service = name, weight = 100 } } end
  return backends_of(counts)
end

--- The HTTP requests for a Service that go elsewhere than the rest.
---@param mesh mesh.Reader
---@param namespace string
---@param name string
---@return split.Exception[]  the first that describes a request takes it
function M.rules.split_exceptions(mesh, namespace, name)
  local exceptions, total = {}, 0
  for _, split in ipairs(list.sorted(mesh.splits_of(namespace, name), object.elder)) do
    local matches, seen = {}, {}
    for index, reference in ipairs(split.spec.matches or {}) do
      local described = mesh.http_matches(namespace, reference.name)
      if not described or #described == 0 then
        mesh.reject(split, { "spec", "matches", index, "name" }, (described and "HTTPRouteGroup "
          .. object.quote(id.name(namespace, reference.name)) .. " has no matches" or "there is no HTTPRouteGroup "
          .. object.quote(id.name(namespace, reference.name))) .. ": it describes no request")
      elseif not seen[reference.name] and total + #matches + #described > MOST_MATCHES then
        mesh.reject(split, { "spec", "matches", index, "name" }, "with this the splits of "
          .. object.quote(id.name(namespace, name)) .. " describe more than " .. MOST_MATCHES .. " kinds of requests: this "
          .. "split takes none")
        matches = {}
        break
      elseif not seen[reference.name] then
        seen[reference.name] = true
        for _, entry in ipairs(described) do matches[#matches + 1] = entry.match end
      end
    end
    total = total + #matches
    if #matches > 0 then exceptions[#exceptions + 1] = { matches = matches, backends = backends_of(split) } end
  end
  return exceptions
end

--- All Services to which requests for a Service may go.
---@param mesh mesh.Reader
---@param namespace string
---@param name string
---@return string[]  of the same namespace, sorted; itself too, unless a split takes everything
function M.rules.carriers(mesh, namespace, name)
  local services = list.map(mesh.backends(namespace, name), function(backend) return backend.service end)
  for _, exception in ipairs(mesh.split_exceptions(namespace, name)) do
    for _, backend in ipairs(exception.backends) do services[#services + 1] = backend.service end
  end
  return list.unique(list.sorted(services))
end

--- The Services whose requests may arrive at this one because a split sends them here. Itself too, if its split names
--- it.
---@param mesh mesh.Reader
---@param namespace string
---@param name string
---@return string[]  Services of the same namespace, sorted
function M.rules.apexes_of(mesh, namespace, name)
  local apexes = {}
  for _, split in ipairs(mesh.splits_to(namespace, name)) do
    local apex = local_service(split.spec.service, namespace)
    if list.contains(mesh.carriers(namespace, apex), name) then apexes[#apexes + 1] = apex end
  end
  -- what its own splits leave to it, though none of them names it
  local own = #mesh.splits_of(namespace, name) > 0 and mesh.carriers(namespace, name) or {}
  if list.contains(own, name) then apexes[#apexes + 1] = name end
  return list.unique(list.sorted(apexes))
end

--- The ports of a Service that another one has not.
---@param mesh mesh.Reader
---@param namespace string
---@param service string
---@param other string
---@return integer[]  ascending
function M.rules.ports_missing(mesh, namespace, service, other)
  local has = mesh.ports_by_number(namespace, other)
  return list.map(mesh.ports(namespace, service), function(port)
    return not has[tostring(port.number)] and port.number or nil
  end)
end

--- Says so on a split that names what is not there.
---@param mesh mesh.Reader
---@param split table
---@param namespace string
---@param apex string
local function report_missing(mesh, split, namespace, apex)
  if #mesh.ports(namespace, apex) == 0 then
    mesh.reject(split, { "spec", "service" }, "there is no Service " .. object.quote(id.name(namespace, apex))
      .. " with a port that the mesh carries: the split has no effect")
  end
  for index, backend in ipairs(split.spec.backends) do
    local service = local_service(backend.service, namespace)
    local missing = mesh.ports_missing(namespace, apex, service)
    if #missing > 0 then
      mesh.reject(split, { "spec", "backends", index, "service" }, "Service " .. object.quote(id.name(namespace, service))
        .. " has no port " .. missing[1] .. (#missing > 1 and " (nor " .. #missing - 1 .. " others)" or "") .. ", which "
        .. object.quote(apex) .. " has: it is left out there")
    end
  end
end

M.emit = {
  --- Reports on every split, also where its apex is not there.
  split_reports = {
    each = "splits_of",
    run = function(mesh, _, namespace, apex)
      mesh.carriers(namespace, apex)
      for _, split in ipairs(mesh.splits_of(namespace, apex)) do report_missing(mesh, split, namespace, apex) end
    end,
  },
}

return M
