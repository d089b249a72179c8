--- Names and identities, built in one place so that no module splices them from strings.
local concat = table.concat
local str = require("mesh.str")

local M = {}

local function text(value, what)
  if type(value) ~= "string" or value == "" then
    error("mesh.id: " .. what .. " must be a text that is not empty", 3)
  end
  return value
end

local function port_number(value)
  if math.type(value) ~= "integer" then
    error("mesh.id: the port must be an integer", 3)
  end
  return value
end

--- The full host name of a Service.
---@param namespace string
---@param service string
---@return string   "cart.shop.svc.cluster.local"
function M.fqdn(namespace, service)
  return concat({ text(service, "service"), ".", text(namespace, "namespace"), ".svc.cluster.local" })
end

--- The name that the certificate of an account's pods carries.
---@param trust_domain string
---@param namespace string
---@param account string
---@return string   "cart.shop.cluster.local"
function M.principal(trust_domain, namespace, account)
  return concat({ text(account, "account"), text(namespace, "namespace"), text(trust_domain, "trust domain") }, ".")
end

--- The cluster of the pods behind a Service, by the port of the pods.
---@param namespace string
---@param service string
---@param target_port integer
---@param port? integer   the Service's port, where another cluster of it has the name without
---@return string   "shop/cart|8080"; "shop/cart|8080|80"
function M.cluster(namespace, service, target_port, port)
  local name = concat({ text(namespace, "namespace"), "/", text(service, "service"), "|", port_number(target_port) })
  return port and concat({ name, "|", port_number(port) }) or name
end

--- The cluster by which a sidecar reaches its own application.
---@param namespace string
---@param service string
---@param target_port integer
---@return string   "shop/cart|8080|local"
function M.local_cluster(namespace, service, target_port)
  return concat({ text(namespace, "namespace"), "/", text(service, "service"), "|", port_number(target_port), "|local" })
end

--- A name with its namespace, as audiences write it.
---@param namespace string
---@param name string
---@return string   "shop/cart"
function M.name(namespace, name)
  return concat({ text(namespace, "namespace"), "/", text(name, "name") })
end

-- What may follow "service.namespace".
local SUFFIXES = { [""] = true, svc = true, ["svc.cluster"] = true, ["svc.cluster.local"] = true }

--- Reads a service as objects write it: "cart", "cart.shop", "cart.shop.svc", "cart.shop.svc.cluster(.local)".
---@param name string
---@param namespace string   where the text stands
---@return string? namespace
---@return string? service   nil, nil where it is no such form
function M.service(name, namespace)
  local parts = str.split(name, ".")
  for _, part in ipairs(parts) do
    if part == "" then
      return nil, nil
    end
  end
  if #parts == 1 then
    return namespace, parts[1]
  end
  if not SUFFIXES[concat(parts, ".", 3)] then
    return nil, nil
  end
  return parts[2], parts[1]
end

return M
