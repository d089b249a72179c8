local id = require("mesh.id")
local M = { api = 1 }

M.emit = {}

M.emit.clusters = {
  each = "ports",
  run = function(mesh, out, namespace, service, port)
    local name = id.cluster(namespace, service, mesh.target_ports(namespace, service, port)[1] or 0)
    out.cluster({ name = name, audience = "everyone", message = { type = "EDS", connect_timeout = "1s",
      eds_cluster_config = { eds_config = { ads = {}, resource_api_version = "V3" } } } })
    out.load_assignment({ cluster = name, audience = "everyone", service_port = { namespace, service, port }, accounts = "any" })
    local clusters = require("mesh.list").map(mesh.backends(namespace, service), function(backend)
      local target = mesh.target_ports(namespace, backend.name, port)[1] or 0
      return target > 0 and { name = id.cluster(namespace, backend.name, target), weight = backend.weight } or nil
    end)
    local route = { match = { prefix = "/" } }
    if #clusters > 0 then
      route.route = { weighted_clusters = { clusters = clusters } }
    else -- the API asks for at least one
      route.direct_response = { status = 503 }
    end
    out.virtual_host({
      route_configuration = "rds-outbound",
      name = service .. ":" .. port,
      audience = "everyone",
      message = { domains = { service .. ":" .. port }, routes = { route } },
    })
  end,
}

M.emit.leaves = {
  each = "Service",
  run = function(mesh, out, namespace, service)
    local known, leaves = pcall(mesh.leaves, namespace, service)
    out.cluster({
      name = "leaves of " .. id.name(namespace, service),
      audience = { { namespace = namespace } },
      message = { connect_timeout = "1s", alt_stat_name = known and table.concat(leaves, " ") or "in a circle" },
    })
  end,
}

M.emit.inbound = {
  each = "workloads",
  run = function(mesh, out, namespace, service, account)
    local callers = mesh.callers(namespace, account)
    if #callers == 0 then
      return
    end
    out.virtual_host({
      route_configuration = "rds-inbound",
      name = service,
      authorises = true,
      audience = { { service = id.name(namespace, service), account = id.name(namespace, account) } },
      message = {
        domains = { service },
        request_headers_to_add = { { header = { key = "callers", value = table.concat(callers, " ") } } },
      },
    })
  end,
}

M.emit.headers = {
  each = "here",
  run = function(mesh, out)
    out.route_configuration({ name = "rds-outbound", audience = "everyone", message = { validate_clusters = false } })
    out.route_configuration({ name = "rds-inbound", audience = "everyone", message = { validate_clusters = false } })
    out.validation_context({ name = "roots", audience = "everyone", sans = { "a.b" } })
  end,
}

M.rules = { here = function() return { "here" } end }

return M
