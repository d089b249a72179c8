--- Clusters: `namespace/service|port of the pods` over mTLS to the pods behind a Service, and `...|local` from a
--- sidecar to its own application.
local common = require("envoy.common")
local health = require("envoy.health")
local id = require("mesh.id")
local list = require("mesh.list")

local M = { api = 1 }

---@param mesh mesh.Reader
---@param namespace string
---@param service string
---@param at services.Target
---@return table  Cluster without a name, of endpoints that come by EDS
local function upstream_cluster(mesh, namespace, service, at)
  local checked = mesh.mesh_config().health_checks and common.is_http(at.protocol)
  return {
    type = "EDS",
    eds_cluster_config = { eds_config = common.ADS },
    lb_policy = "ROUND_ROBIN",
    circuit_breakers = common.CIRCUIT_BREAKERS,
    typed_extension_protocol_options = common.HTTP_OPTIONS,
    health_checks = checked and { health.check(id.fqdn(namespace, service)) } or nil,
    transport_socket = {
      name = "envoy.transport_sockets.tls",
      typed_config = {
        ["@type"] = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        common_tls_context = common.tls_context(mesh, common.outbound_roots(namespace, service), common.ALPN),
        sni = id.fqdn(namespace, service),
      },
    },
  }
end

--- One pod of a headless Service. It is known by the Service's own name in TLS: which pod answers is its address's
--- business, and one filter chain per Service is enough at the server.
---@param mesh mesh.Reader
---@param namespace string
---@param service string
---@param name string
---@param address string
---@param at services.Target
---@return table  Cluster without a name
local function member_cluster(mesh, namespace, service, name, address, at)
  local cluster = upstream_cluster(mesh, namespace, service, at)
  cluster.type, cluster.eds_cluster_config = "STATIC", nil
  cluster.load_assignment = {
    cluster_name = name,
    endpoints = {
      {
        locality = { zone = "local" },
        lb_endpoints = { { endpoint = { address = { socket_address = { address = address, port_value = at.target } } } } },
      },
    },
  }
  return cluster
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
          out.cluster {
            name = at.cluster,
            audience = common.audience(readers),
            at = { direction = "outbound", namespace = namespace, service = service, target = at.target },
            message = upstream_cluster(mesh, namespace, service, at),
          }
          for _, group in ipairs(mesh.endpoint_groups(namespace, service, at.target)) do
            out.load_assignment {
              cluster = at.cluster,
              audience = common.audience(group.callers),
              service_port = { namespace, service, at.numbers[1] },
              accounts = group.accounts,
              targets = at.targets, -- a port that is somebody else's, in this pod or that, is none of this cluster's
            }
          end
        end
      end
    end,
  },

  --- The pods of a headless Service that have names of their own, each alone.
  member_clusters = {
    each = "Service",
    run = function(mesh, out, namespace, service)
      local members, done = mesh.named_members(namespace, service), {}
      for _, at in ipairs(#members > 0 and mesh.targets(namespace, service) or {}) do
        local new = at.target > 0 and not done[at.target] -- a pod's own port is one, however many clusters of all pods have it
        done[at.target] = true
        local callers = new and mesh.callers(namespace, service, at.target) or {}
        for _, member in ipairs(#callers > 0 and members or {}) do
          local name = id.cluster(namespace, member.name, at.target)
          out.cluster {
            name = name,
            audience = common.audience(callers),
            at = { direction = "outbound", namespace = namespace, service = service, target = at.target },
            message = member_cluster(mesh, namespace, service, name, member.address, at),
          }
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
      local served = #mesh.accounts_behind(namespace, service) > 0
      for _, at in ipairs(served and mesh.pod_targets(namespace, service) or {}) do
        local name = id.local_cluster(namespace, service, at.target)
        out.cluster {
          name = name,
          audience = readers,
          at = { direction = "inbound", namespace = namespace, service = service, target = at.target },
          message = local_cluster(name, at.target),
        }
      end
    end,
  },
}

return M
