--- Hosts that are closed for maintenance: Maintenance of acme.example.
local M = { api = 1 }

M.kinds = {
  --- A host that nobody is to reach for a while.
  ["acme.Maintenance"] = {
    group = "acme.example",
    versions = { "v1" },
    schema = {
      type = "object",
      required = { "spec" },
      properties = {
        spec = {
          type = "object",
          required = { "host", "port" },
          properties = {
            host = { type = "string", minLength = 1 },
            port = { type = "integer", minimum = 1, maximum = 65535 },
            text = { type = "string", default = "closed for maintenance" },
          },
        },
      },
    },
    accept = function(maintenance, reject)
      if string.find(maintenance.spec.host, "*", 1, true) then reject({ "spec", "host" }, "must be one host") end
    end,
  },
}

M.emit = {
  --- Answers for the host in place of whoever is behind it.
  closed_hosts = {
    each = "acme.Maintenance",
    run = function(mesh, out, namespace, name)
      local spec = mesh.acme.Maintenance(namespace, name).spec
      out.route_configuration { name = "rds-outbound." .. spec.port, audience = "everyone", message = { validate_clusters = false } }
      out.virtual_host {
        route_configuration = "rds-outbound." .. spec.port,
        name = "maintenance|" .. spec.host,
        audience = "everyone",
        message = {
          domains = { spec.host },
          routes = { { match = { prefix = "/" }, direct_response = { status = 503, body = { inline_string = spec.text } } } },
        },
      }
    end,
  },
}

return M
