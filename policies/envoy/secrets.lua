--- Whom a sidecar trusts. Its own certificate ("service-cert") comes from the host.
local common = require("envoy.common")
local list = require("mesh.list")

local M = { api = 1 }

-- No certificate carries it. Where no pod is behind a Service nobody may answer for it; an empty list would mean
-- anybody.
local NOBODY = "nobody.invalid"

M.emit = {
  --- Clients check that a server is one of the accounts behind the Service they meant.
  outbound_roots = {
    each = "Service",
    run = function(mesh, out, namespace, service)
      local accounts, everyone = {}, false
      for _, at in ipairs(mesh.targets(namespace, service)) do
        local readers = mesh.cluster_readers(namespace, service, at.target)
        if readers == "everyone" then
          everyone = true
        else
          for _, reader in ipairs(readers) do accounts[#accounts + 1] = reader end
        end
      end
      local readers = everyone and "everyone" or list.unique(list.sorted(accounts))
      if #readers > 0 then
        local principals = mesh.principals_behind(namespace, service)
        out.validation_context {
          name = common.outbound_roots(namespace, service),
          audience = common.audience(readers),
          sans = #principals > 0 and principals or { NOBODY },
        }
      end
    end,
  },

  --- Servers let any certificate of the mesh connect; which caller may do what is for the filters to say.
  inbound_roots = {
    each = "accounts",
    run = function(mesh, out, namespace, account)
      if #mesh.services_of(namespace, account) > 0 then
        out.validation_context {
          name = common.inbound_roots(namespace, account),
          audience = { { account = namespace .. "/" .. account } },
        }
      end
    end,
  },
}

return M
