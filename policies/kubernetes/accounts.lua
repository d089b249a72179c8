--- Service accounts: the identities of the mesh. A pod is its account; a Service is reached through the accounts of
--- its pods.
local id = require("mesh.id")
local str = require("mesh.str")

local M = { api = 1 }

M.rules = {}

--- The name that a workload's certificate carries: "<account>.<namespace>.<trust domain>".
---@param mesh mesh.Reader
---@param account string  "namespace/name"
---@return string
function M.rules.principal(mesh, account)
  local parts = str.split(account, "/")
  return id.principal(mesh.settings().trust_domain, parts[1], parts[2])
end

--- The names that a server behind a Service may show.
---@param mesh mesh.Reader
---@param namespace string
---@param name string
---@return string[]  sorted by account; {} where the Service has no pod
function M.rules.principals_behind(mesh, namespace, name)
  local principals = {}
  for index, account in ipairs(mesh.accounts_behind(namespace, name)) do
    principals[index] = mesh.principal(id.name(namespace, account))
  end
  return principals
end

return M
