--- What sidecars reach that is no Service of the mesh: everything else (global egress), the collector of spans, the
--- server of the external authorization.
local authorization = require("envoy.authorization")
local common = require("envoy.common")

local M = { api = 1 }

---@param type string
---@param name string
---@param address string
---@param port integer
---@return table  Cluster without a name, of one host that is looked up in DNS
local function by_name(type, name, address, port)
  return {
    type = type,
    dns_lookup_family = "V4_ONLY",
    respect_dns_ttl = true,
    lb_policy = "ROUND_ROBIN",
    load_assignment = {
      cluster_name = name,
      endpoints = {
        { lb_endpoints = { { endpoint = { address = { socket_address = { address = address, port_value = port } } } } } },
      },
    },
  }
end

M.emit = {
  --- The way to where a client wanted to go anyway.
  passthrough = {
    each = "mesh_itself",
    run = function(mesh, out)
      if not mesh.mesh_config().egress then return end
      out.cluster {
        name = common.PASSTHROUGH,
        audience = "everyone",
        at = { direction = "outbound" },
        message = { type = "ORIGINAL_DST", lb_policy = "CLUSTER_PROVIDED", circuit_breakers = common.CIRCUIT_BREAKERS },
      }
    end,
  },

  --- The collector of spans.
  tracing_collector = {
    each = "mesh_itself",
    run = function(mesh, out)
      local collector = mesh.tracing()
      if not collector then return end
      out.cluster {
        name = common.TRACING_CLUSTER,
        audience = "everyone",
        at = { direction = "outbound" },
        message = by_name("LOGICAL_DNS", common.TRACING_CLUSTER, collector.address, collector.port),
      }
    end,
  },

  --- The server of the external authorization; it speaks gRPC, so HTTP/2.
  authorization_server = {
    each = "mesh_itself",
    run = function(mesh, out)
      local asked = mesh.external_authorization()
      if not asked or not asked.address then return end
      local message = by_name("STRICT_DNS", authorization.CLUSTER, asked.address, asked.port)
      message.typed_extension_protocol_options = {
        ["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"] = {
          ["@type"] = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
          explicit_http_config = { http2_protocol_options = {} },
        },
      }
      out.cluster {
        name = authorization.CLUSTER,
        audience = "everyone",
        at = { direction = "inbound" },
        message = message,
      }
    end,
  },
}

return M
