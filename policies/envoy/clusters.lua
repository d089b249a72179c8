--- Clusters: `namespace/service|port of the pods` over mTLS to the pods behind a Service, and `...|local` from a
--- sidecar to its own application.
local common = require("envoy.common")
local id = require("mesh.id")
local list = require("mesh.list")

local M = { api = 1 }

local UNLIMITED = 4294967295

local CIRCUIT_BREAKERS = {
  thresholds = {
    {
      max_connections = UNLIMITED,
      max_pending_requests = UNLIMITED,
      max_requests = UNLIMITED,
      max_retries = UNLIMITED,
      track_remaining = true,
    },
  },
}

---@param mesh mesh.Reader
---@param namespace string
---@param service string
---@return table  Cluster without a name
local function upstream_cluster(mesh, namespace, service)
  return {
    type = "EDS",
    eds_cluster_config = { eds_config = common.ADS },
    lb_policy = "ROUND_ROBIN",
    circuit_breakers = CIRCUIT_BREAKERS,
    typed_extension_protocol_options = common.HTTP_OPTIONS,
    transport_socket = {
      name = "envoy.transport_sockets.tls",
      typed_config = {
        ["@type"] = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        common_tls_context = common.tls_context(mesh, common.outbound_roots(namespace, service)),
        sni = id.fqdn(namespace, service),
      },
    },
  }
end

---@param name string
---@param target integer
---@return table  Cluster without a name
local function local_cluster(name, target)
  return {
    type = "STRICT_DNS",
    alt_stat_name = name,
    dns_lookup_family = "V4_ONLY",
    respect_dns_ttl = true,
    lb_policy = "ROUND_ROBIN",
    typed_extension_protocol_options = common.HTTP_OPTIONS,
    load_assignment = {
      cluster_name = name,
      endpoints = {
        {
          locality = { zone = "zone" },
          lb_endpoints = {
            {
              endpoint = { address = { socket_address = { address = "127.0.0.1", port_value = target } } },
              load_balancing_weight = 100,
            },
          },
        },
      },
    },
  }
end

M.emit = {
  --- The pods behind each port of a Service, and whose of them each group of callers may reach.
  upstream_clusters = {
    each = "Service",
    run = function(mesh, out, namespace, service)
      for _, at in ipairs(mesh.targets(namespace, service)) do
        local readers = mesh.cluster_readers(namespace, service, at.target)
        if #readers > 0 then
          local name = id.cluster(namespace, service, at.target)
          out.cluster {
            name = name,
            audience = common.audience(readers),
            at = { direction = "outbound", namespace = namespace, service = service, target = at.target },
            message = upstream_cluster(mesh, namespace, service),
          }
          for _, group in ipairs(mesh.endpoint_groups(namespace, service, at.target)) do
            out.load_assignment {
              cluster = name,
              audience = common.audience(group.callers),
              service_port = { namespace, service, at.numbers[1] },
              accounts = group.accounts,
            }
          end
        end
      end
    end,
  },

  --- A sidecar's way to its own application.
  local_clusters = {
    each = "Service",
    run = function(mesh, out, namespace, service)
      local readers = list.map(mesh.local_cluster_readers(namespace, service), function(reader)
        return { service = id.name(namespace, reader) }
      end)
      for _, at in ipairs(mesh.targets(namespace, service)) do
        if at.target > 0 then
          local name = id.local_cluster(namespace, service, at.target)
          out.cluster {
            name = name,
            audience = readers,
            at = { direction = "inbound", namespace = namespace, service = service, target = at.target },
            message = local_cluster(name, at.target),
          }
        end
      end
    end,
  },
}

return M
