--- Authorisation in Envoy's words: each grant becomes one policy, and a connection or request passes if any of them
--- lets it.
local common = require("envoy.common")
local list = require("mesh.list")

local M = {}

---@param mesh mesh.Reader
---@param grant access.Grant
---@return table[]  Principals: the names that the callers' certificates carry
local function principals_of(mesh, grant)
  return list.map(grant.sources, function(source)
    return { authenticated = { principal_name = { exact = mesh.principal(source) } } }
  end)
end

---@param match routes.Match
---@return table  Permission: path, method and headers together
local function permission_of(match)
  local rules = {}
  if match.path ~= ".*" then rules[#rules + 1] = { url_path = { path = common.matching(match.path) } } end
  if match.methods[1] ~= "*" then
    local methods = table.concat(match.methods, "|")
    rules[#rules + 1] = { header = { name = ":method", string_match = common.matching(methods) } }
  end
  for _, header in ipairs(match.headers) do
    rules[#rules + 1] = { header = { name = header.name, string_match = common.matching(header.value) } }
  end
  if #rules == 0 then return { any = true } end
  return { and_rules = { rules = rules } }
end

--- Rules for connections: any grant opens its ports to its sources. No grant: no policy, which denies.
---@param mesh mesh.Reader
---@param grants access.Grant[]
---@return table  envoy.config.rbac.v3.RBAC
function M.connections(mesh, grants)
  local policies = {}
  for _, grant in ipairs(grants) do
    policies[grant.name] = {
      permissions = grant.ports and list.map(grant.ports, function(port) return { destination_port = port } end)
        or { { any = true } },
      principals = principals_of(mesh, grant),
    }
  end
  return { action = "ALLOW", policies = policies }
end

--- Rules for requests: any match of a grant is open to its sources. A request that two grants describe passes if
--- either lets it, whichever route takes it.
---@param mesh mesh.Reader
---@param grants access.Grant[]
---@return table  envoy.config.rbac.v3.RBAC
function M.requests(mesh, grants)
  local policies = {}
  for _, grant in ipairs(grants) do
    if #grant.matches > 0 then
      policies[grant.name] = {
        permissions = list.map(grant.matches, permission_of),
        principals = principals_of(mesh, grant),
      }
    end
  end
  return { action = "ALLOW", policies = policies }
end

return M
