--- A small mesh for tests: services, splits between them, and grants.
local M = { api = 1 }
local id = require("mesh.id")
local list = require("mesh.list")

M.kinds = {
  Service = { group = "", versions = { "v1" } },
  Split = {
    group = "test.mesh",
    versions = { "v2", "v1" },
    from = {
      v1 = function(split)
        split.spec.backends = { split.spec.backend }
        split.spec.backend = nil
        return split
      end,
    },
    accept = function(split, reject)
      for i, backend in ipairs(split.spec.backends) do
        if backend.weight and backend.weight < 0 then
          reject({ "spec", "backends", i, "weight" }, "is negative")
        end
      end
    end,
  },
  Grant = { group = "test.mesh", versions = { "v1" } },
}

M.indexes = {
  splits_of = {
    of = "Split",
    keys = function(split)
      return { { split.metadata.namespace, split.spec.service } }
    end,
  },
  grants_to = {
    of = "Grant",
    keys = function(grant)
      return { { grant.metadata.namespace, grant.spec.to } }
    end,
  },
}

M.rules = {}

--- { { namespace, service, port }, ... }
function M.rules.ports(mesh)
  local keys = {}
  for _, key in ipairs(mesh.Service()) do
    for _, port in ipairs(mesh.Service(key[1], key[2]).spec.ports or {}) do
      keys[#keys + 1] = { key[1], key[2], port.port }
    end
  end
  return keys
end

function M.rules.backends(mesh, namespace, service)
  local splits = mesh.splits_of(namespace, service)
  for i = 2, #splits do
    mesh.reject(splits[i], { "spec", "service" }, "another split has this service")
  end
  if not splits[1] then
    return { { name = service, weight = 100 } }
  end
  local result = {}
  for _, backend in ipairs(splits[1].spec.backends) do
    result[#result + 1] = { name = backend.name, weight = backend.weight or 1 }
  end
  return result
end

--- The services behind a service, through splits of splits; splits in a circle are an error.
function M.rules.leaves(mesh, namespace, service)
  local found = {}
  for _, backend in ipairs(mesh.backends(namespace, service)) do
    local below = backend.name == service and { service } or mesh.leaves(namespace, backend.name)
    for _, name in ipairs(below) do
      found[#found + 1] = name
    end
  end
  return list.unique(list.sorted(found))
end

function M.rules.callers(mesh, namespace, account)
  local result = {}
  for _, grant in ipairs(mesh.grants_to(namespace, account)) do
    if grant.spec.from == "crash" then
      error("a caller that no program can bear")
    end
    result[#result + 1] = id.name(namespace, grant.spec.from)
  end
  return result
end

return M
