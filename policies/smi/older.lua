--- What the older versions of the SMI kinds say, in the words of the newest.
---
--- A lift never grants more than the original: what the newest form cannot say is rejected, with the field's path in the
--- original. Paths of what is rejected later are those of the newest form.
local list = require("mesh.list")
local object = require("kubernetes.object")

local M = {}

--- v1alpha1 and v1alpha2 may limit a target to one port. v1alpha3 leaves ports to TCPRoutes; without the limit the
--- target would grant every port.
---@param destination table
---@param path string[]
---@param reject fun(path: mesh.Path, reason: string)
local function refuse_port(destination, path, reject)
  if destination.port ~= nil then
    reject(path, "is not supported: list the port in a TCPRoute of v1alpha4 and name it in a rule of this target")
  end
end

---@param target table  TrafficTarget of v1alpha1: the fields stand at the top, rules are called specs
---@param reject fun(path: mesh.Path, reason: string)
---@return table
function M.target_v1alpha1(target, reject)
  refuse_port(target.destination, { "destination", "port" }, reject)
  return { spec = { destination = target.destination, sources = target.sources, rules = target.specs } }
end

---@param target table  TrafficTarget of v1alpha2
---@param reject fun(path: mesh.Path, reason: string)
---@return table
function M.target_v1alpha2(target, reject)
  refuse_port(target.spec.destination, { "spec", "destination", "port" }, reject)
  return { spec = target.spec }
end

--- Headers were a list of maps in the published schema and one map in the text and in the SDK; both are in use.
---@param headers table?
---@return table[]?  one header in each element
local function headers_of(headers)
  if not headers or #headers > 0 then return headers end
  return list.map(list.keys(headers), function(name) return { [name] = headers[name] } end)
end

---@param matches table[]?
---@return table[]?
local function matches_of(matches)
  return matches and list.map(matches, function(match)
    return {
      name = match.name,
      pathRegex = match.pathRegex,
      methods = match.methods,
      headers = headers_of(match.headers),
    }
  end)
end

---@param group table  HTTPRouteGroup of v1alpha1 or v1alpha2: matches stand at the top
---@return table
function M.group_without_spec(group)
  return { spec = { matches = matches_of(group.matches) } }
end

---@param group table  HTTPRouteGroup of v1alpha3
---@return table
function M.group_v1alpha3(group)
  return { spec = { matches = matches_of(group.spec.matches) } }
end

--- Before v1alpha4 a TCPRoute says nothing but "TCP": any port. That is what v1alpha4 without ports says.
---@return table
function M.route_without_ports()
  return { spec = { matches = {} } }
end

---@param split table  TrafficSplit of v1alpha2 or v1alpha3
---@return table
function M.split_as_it_is(split)
  return { spec = split.spec }
end

local MAX_DIGITS = 9 -- times the greatest unit it still fits an integer
local UNITS = { [""] = 1000, m = 1, k = 1000 * 10 ^ 3, M = 1000 * 10 ^ 6, Ki = 1000 * 2 ^ 10, Mi = 1000 * 2 ^ 20 }

--- A weight of v1alpha1 is a quantity of Kubernetes. Weights are relative, so thousandths keep the shares exact.
---@param weight string|integer
---@return integer?  thousandths; nil where it is none, or needs more than three decimals
local function thousandths(weight)
  local text = tostring(weight)
  if #text > 32 then return nil end
  if string.sub(text, 1, 1) == "+" then text = string.sub(text, 2) end
  local whole = string.match(text, "^%d+") or ""
  local rest = string.sub(text, #whole + 1)
  local fraction = string.match(rest, "^%.%d*") or "" -- with its point
  local factor = math.tointeger(UNITS[string.sub(rest, #fraction + 1)])
  fraction = string.sub(fraction, 2)
  local digits = whole .. fraction
  if not factor or whole == "" or #digits > MAX_DIGITS then return nil end
  local value, divisor = tonumber(digits) * factor, math.tointeger(10 ^ #fraction)
  if value % divisor ~= 0 then return nil end
  return value // divisor
end

---@param split table  TrafficSplit of v1alpha1
---@param reject fun(path: mesh.Path, reason: string)
---@return table
function M.split_v1alpha1(split, reject)
  local backends = {}
  for index, backend in ipairs(split.spec.backends) do
    local weight = thousandths(backend.weight)
    if not weight then
      reject({ "spec", "backends", index, "weight" }, object.quote(tostring(backend.weight)) .. " is not a weight: "
        .. "expected a quantity such as 1, 0.5 or 500m, in whole thousandths")
    end
    backends[index] = { service = backend.service, weight = weight }
  end
  return { spec = { service = split.spec.service, backends = backends } }
end

return M
