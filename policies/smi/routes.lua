--- What traffic looks like: HTTPRouteGroup and TCPRoute of specs.smi-spec.io. Neither grants anything by itself.
---
--- UDPRoute is refused. A sidecar gets a connection because the pod's packets are redirected to it, and it finds out where
--- it was meant to go from the kernel. For UDP the kernel does not keep that (SO_ORIGINAL_DST is for connections); TPROXY
--- would, but its sockets need CAP_NET_ADMIN, which a sidecar must not have; and routes that lead Service addresses into the
--- pod itself would take the cluster's DNS away. What is not redirected cannot be authorised: a rule that looked like a
--- grant, and were none, would be worse than a refusal. tests/mesh/test_udp.py shows each of these.
local list = require("mesh.list")
local object = require("kubernetes.object")
local older = require("smi.older")
local regex = require("smi.regex")
local str = require("mesh.str")

local M = { api = 1 }

--- One kind of HTTP request: path, method and headers must all match. Absent parts are written out as wildcards.
---@class routes.Match
---@field path string                             RE2, matches the whole path without the query
---@field methods string[]                        sorted; { "*" }: any
---@field headers { name: string, value: string }[]  lower-case names, sorted; values are RE2 over the whole value

local MAX_HEADER = 256 -- characters of a name

---@param name string
---@return boolean  whether it can be the name of a header; a pseudo-header such as :authority too
local function is_header(name)
  if #name > MAX_HEADER then return false end
  if string.sub(name, 1, 1) == ":" then name = string.sub(name, 2) end
  return name ~= "" and not string.find(name, "[^%w!#$%%&'%*%+%-%.%^_`|~]") -- a token of RFC 9110
end

---@param name string
---@return string  as the proxy knows it: "host" is how HTTP/1.1 says ":authority"
local function canonical(name)
  local lower = str.lower(name)
  return lower == "host" and ":authority" or lower
end

---@param match table  element of an HTTPRouteGroup's spec.matches
---@return { name: string, value: string }[]
local function headers_of(match)
  local values = {}
  for _, element in ipairs(match.headers or {}) do
    for name, value in pairs(element) do
      values[canonical(name)] = value -- accept lets through only one value for each
    end
  end
  return list.map(list.keys(values), function(name) return { name = name, value = values[name] } end)
end

---@param match table
---@return string[]
local function methods_of(match)
  local methods = list.unique(list.sorted(match.methods or {}))
  if #methods == 0 or list.contains(methods, "*") then return { "*" } end
  return methods
end

M.kinds = {
  --- Names kinds of HTTP requests.
  HTTPRouteGroup = {
    group = "specs.smi-spec.io",
    versions = { "v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1" },
    schema = "crds/httproutegroup.yaml",
    from = {
      v1alpha3 = older.group_v1alpha3,
      v1alpha2 = older.group_without_spec,
      v1alpha1 = older.group_without_spec,
    },
    accept = function(group, reject)
      for index, match in ipairs(group.spec.matches or {}) do
        local ok, problem = regex.check(match.pathRegex or "")
        if not ok then reject({ "spec", "matches", index, "pathRegex" }, problem) end
        local listed = {} ---@type table<string, { value: string, at: integer }>
        for at, element in ipairs(match.headers or {}) do
          local path = { "spec", "matches", index, "headers", at }
          if #list.keys(element) ~= 1 then reject(path, "must hold one header, as { name: value }") end
          for name, value in pairs(element) do
            local entry = { "spec", "matches", index, "headers", at, name }
            if not is_header(name) then
              reject(path, object.quote(name) .. " is not the name of a header")
            end
            local fine, why = regex.check(value)
            if value == "" then fine, why = false, "is empty; a value is a regular expression such as .*" end
            if not fine then reject(entry, why) end
            local first = listed[canonical(name)] or { value = value, at = at }
            listed[canonical(name)] = first
            if first.value ~= value then -- whichever counted, the other would be a limit that is lost
              reject(entry, "asks for another value of " .. object.quote(canonical(name)) .. " than headers["
                .. first.at - 1 .. "]")
            end
          end
        end
      end
    end,
  },
  --- Refused: the mesh carries no UDP.
  UDPRoute = {
    group = "specs.smi-spec.io",
    versions = { "v1alpha4" },
    schema = "crds/udproute.yaml",
    accept = function(_, reject)
      reject({ "spec" }, "UDP is not carried by the mesh and passes the sidecars by, so nothing could be granted or denied: "
        .. "protect it by network policies")
    end,
  },
  --- Names ports of pods.
  TCPRoute = {
    group = "specs.smi-spec.io",
    versions = { "v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1" },
    schema = "crds/tcproute.yaml",
    from = {
      v1alpha3 = older.route_without_ports,
      v1alpha2 = older.route_without_ports,
      v1alpha1 = older.route_without_ports,
    },
  },
}

M.rules = {}

--- The requests that a group describes, by the names of its matches.
---@param mesh mesh.Reader
---@param namespace string
---@param name string
---@return { name: string, match: routes.Match }[]?  in the group's order; nil where there is no such group
function M.rules.http_matches(mesh, namespace, name)
  local group = mesh.HTTPRouteGroup(namespace, name)
  if not group then return nil end
  return list.map(group.spec.matches or {}, function(match)
    local path = match.pathRegex or ""
    return {
      name = match.name,
      match = {
        path = path == "" and ".*" or path,
        methods = methods_of(match),
        headers = headers_of(match),
      },
    }
  end)
end

--- The same for who looks for some: a group may have ten thousand.
---@param mesh mesh.Reader
---@param namespace string
---@param name string
---@return table<string, routes.Match[]>  of one name, in the group's order; {} where there is no such group
function M.rules.http_matches_by_name(mesh, namespace, name)
  local by_name = {}
  for _, entry in ipairs(mesh.http_matches(namespace, name) or {}) do
    local matches = by_name[entry.name] or {}
    matches[#matches + 1] = entry.match
    by_name[entry.name] = matches
  end
  return by_name
end

--- The ports that a TCPRoute lists.
---@param mesh mesh.Reader
---@param namespace string
---@param name string
---@return integer[]?  ports of the pods; {}: any port; nil where there is no such route
function M.rules.tcp_ports(mesh, namespace, name)
  local route = mesh.TCPRoute(namespace, name)
  if not route then return nil end
  return list.unique(list.sorted(route.spec.matches.ports or {}))
end

return M
