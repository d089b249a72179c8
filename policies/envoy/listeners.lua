--- The two listeners of a sidecar, and their filter chains: one per Service port that it may call, one per Service
--- and port of the pod that it serves.
local authorization = require("envoy.authorization")
local common = require("envoy.common")
local health = require("envoy.health")
local id = require("mesh.id")
local list = require("mesh.list")
local object = require("kubernetes.object")
local rbac = require("envoy.rbac")
local str = require("mesh.str")

local M = { api = 1 }

local ORIGINAL_DST = {
  name = "original_dst",
  typed_config = { ["@type"] = "envoy.extensions.filters.listener.original_dst.v3.OriginalDst" },
}
local TLS_INSPECTOR = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
local HTTP_INSPECTOR = "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"

---@param port integer  port_value
---@return table  Address on all interfaces
local function any_address(port)
  return { socket_address = { address = "0.0.0.0", port_value = port } }
end

--- A filter that does not look at connections to some ports: it would wait there for a client that waits for the
--- server, or that says little first.
---@param name string
---@param message string  full name of its configuration
---@param ports integer[]
---@return table  ListenerFilter
local function inspector(name, message, ports)
  local rules = list.map(ports, function(port)
    return { destination_port_range = { start = port, ["end"] = port + 1 } }
  end)
  local filter = { name = name, typed_config = { ["@type"] = message } }
  if #rules == 1 then
    filter.filter_disabled = rules[1]
  elseif #rules > 1 then
    filter.filter_disabled = { or_match = { rules = rules } }
  end
  return filter
end

M.rules = {}

--- The keys of what there is once for all.
---@return string[][]
function M.rules.mesh_itself()
  return { { "mesh" } }
end

--- The outbound listener around its chains.
---@param mesh mesh.Reader
---@param tags string  the ports of its TCP chains, joined by ","
---@return table  Listener without name and filter_chains
function M.rules.outbound_listener_header(mesh, _, tags)
  local ports = {}
  for index, tag in ipairs(tags ~= "" and str.split(tags, ",") or {}) do
    ports[index] = math.tointeger(tonumber(tag))
  end
  ports = list.unique(list.sorted(ports))
  return {
    address = any_address(15001),
    traffic_direction = "OUTBOUND",
    listener_filters = {
      ORIGINAL_DST,
      inspector("tls_inspector", TLS_INSPECTOR, ports),
      inspector("http_inspector", HTTP_INSPECTOR, ports),
    },
    continue_on_listener_filters_timeout = true,
    default_filter_chain = mesh.mesh_config().egress and {
      name = "outbound-egress-filter-chain",
      filters = { common.tcp("egress-tcp-proxy." .. common.PASSTHROUGH, { { name = common.PASSTHROUGH, weight = 1 } }) },
    } or nil,
    access_log = common.ACCESS_LOG,
  }
end

---@param mesh mesh.Reader
---@param namespace string
---@param service string
---@param port services.Port
---@param match string  name of the chain
---@return table?  Filter; nil where nothing is left to send to
local function outbound_filter(mesh, namespace, service, port, match)
  if common.is_http(port.protocol) then return common.http(mesh, "rds-outbound." .. port.number, {}) end
  local upstreams = mesh.upstreams(namespace, service, port.number)
  return common.tcp("outbound-mesh-tcp-proxy_" .. match, list.map(upstreams, function(upstream)
    return { name = upstream.cluster, weight = upstream.weight }
  end))
end

--- The chains of a headless Service's pods that have names of their own, by address. A TCP connection to one of them
--- stays with it; of an HTTP request the host name says whom it is for.
---@param mesh mesh.Reader
---@param namespace string
---@param service string
---@param port services.Port
---@return table<string, { name: string, filter: table? }>
local function members_of(mesh, namespace, service, port)
  local members, upstreams = {}, mesh.upstreams(namespace, service, port.number)
  local split = #upstreams ~= 1 or upstreams[1].service ~= service
  for _, member in ipairs(mesh.named_members(namespace, service)) do
    local name = "outbound_" .. id.name(namespace, member.name) .. "_" .. port.number .. "_" .. port.protocol
    local cluster = { name = id.cluster(namespace, member.name, port.target), weight = 100 }
    local own = not split and not common.is_http(port.protocol)
    members[member.address] = {
      name = name,
      filter = own and common.tcp("outbound-mesh-tcp-proxy_" .. name, { cluster }) or nil,
    }
  end
  return members
end

--- The callers of a headless Service whom an elder one does not lead already, at an address of both. Whoever is led by an
--- elder for HTTP finds this Service there too: the host name says whom a request is for.
---@param mesh mesh.Reader
---@param namespace string
---@param service string
---@param port services.Port
---@param elders string[]?
---@return outbound.Callers left, string? other  who leads some of the rest, where this Service is not
local function callers_left(mesh, namespace, service, port, elders)
  local left, other = mesh.reachers(namespace, service, port.number), nil
  for _, elder in ipairs(elders or {}) do
    local at = mesh.ports_by_number(namespace, elder)[tostring(port.number)]
    local led = at and mesh.reachers(namespace, elder, port.number) or {}
    local before, taken = #left, {}
    if led == "everyone" then
      left = {}
    elseif left ~= "everyone" then
      for _, caller in ipairs(led) do taken[caller] = true end
      left = list.map(left, function(caller) return not taken[caller] and caller or nil end)
    end
    local found = at and common.is_http(at.protocol) and common.is_http(port.protocol)
    if #left < before and not found then other = other or elder end
  end
  return left, other
end

---@param mesh mesh.Reader
---@param namespace string
---@param service string
---@param number integer
---@param elder string
local function report_elder(mesh, namespace, service, number, elder)
  mesh.reject(mesh.Service(namespace, service), { "spec", "clusterIP" }, "port " .. number .. " of pods that are also behind "
    .. "Service " .. object.quote(id.name(namespace, elder)) .. " lead there for who may call both: it has names for them, or "
    .. "is older, or lesser by name")
end

--- What an arriving request passes before the router.
---@param mesh mesh.Reader
---@return table[]  HttpFilters
local function request_filters(mesh)
  local filters = {}
  if mesh.mesh_config().health_checks then filters[1] = health.FILTER end
  -- empty: a request that no route takes is to be answered 404, not 403; the virtual hosts hold the rules
  filters[#filters + 1] = {
    name = "envoy.filters.http.rbac",
    typed_config = { ["@type"] = "envoy.extensions.filters.http.rbac.v3.RBAC" },
  }
  filters[#filters + 1] = authorization.filter(mesh.external_authorization())
  return filters
end

--- Filters for what arrives at a port of the pod.
---@param mesh mesh.Reader
---@param namespace string
---@param service string
---@param account string
---@param at services.Target
---@return table[]  Filters: first who may connect, unless the mesh is open
local function inbound_filters(mesh, namespace, service, account, at)
  local filters = {}
  local policy = mesh.inbound_policy(namespace, account, at.target)
  if not policy.open then
    filters[1] = {
      name = "l4_rbac",
      typed_config = {
        ["@type"] = "envoy.extensions.filters.network.rbac.v3.RBAC",
        stat_prefix = "network-",
        rules = rbac.connections(mesh, policy.grants),
      },
    }
  end
  if common.is_http(at.protocol) then
    filters[#filters + 1] = common.http(mesh, "rds-inbound." .. at.target, request_filters(mesh))
  else
    local cluster = id.local_cluster(namespace, service, at.target)
    filters[#filters + 1] = common.tcp("inbound-mesh-tcp-proxy." .. cluster, { { name = cluster, weight = 100 } })
  end
  return filters
end

M.emit = {
  --- What is around the chains.
  listeners = {
    each = "mesh_itself",
    run = function(mesh, out)
      out.listener {
        name = "outbound-listener",
        audience = "everyone",
        alone = mesh.mesh_config().egress,
        header_rule = "outbound_listener_header",
      }
      out.listener {
        name = "inbound-listener",
        audience = "everyone",
        at = { direction = "inbound" },
        message = {
          address = any_address(15003),
          traffic_direction = "INBOUND",
          listener_filters = { inspector("tls_inspector", TLS_INSPECTOR, {}), ORIGINAL_DST },
          access_log = common.ACCESS_LOG,
        },
      }
    end,
  },

  --- One chain per address of a Service port: chains that share an address would make the proxy refuse the whole
  --- listener.
  outbound_chains = {
    each = "Service",
    run = function(mesh, out, namespace, service)
      local addresses, elders = mesh.reached_at(namespace, service), mesh.elders_at(namespace, service)
      for _, port in ipairs(mesh.ports(namespace, service)) do
        local reachers = mesh.reachers(namespace, service, port.number)
        local name = "outbound_" .. id.name(namespace, service) .. "_" .. port.number .. "_" .. port.protocol
        local filter = #reachers > 0 and outbound_filter(mesh, namespace, service, port, name)
        local members = filter and members_of(mesh, namespace, service, port) or {}
        local other
        for index, address in ipairs(filter and addresses or {}) do
          local member = members[address]
          local left, elder = callers_left(mesh, namespace, service, port, elders[address])
          other = other or elder
          if #left > 0 then
            out.filter_chain {
              listener = "outbound-listener",
              name = member and member.name or index == 1 and name or name .. "_" .. address,
              audience = common.audience(left),
              -- they would wait for five bytes of a client that sends four and listens, or for the end of what looks like
              -- HTTP; the address says all that this chain needs
              tags = not common.is_http(port.protocol) and { tostring(port.number) } or nil,
              at = {
                direction = "outbound",
                namespace = namespace,
                service = service,
                port = port.number,
                protocol = port.protocol,
              },
              message = {
                filter_chain_match = {
                  destination_port = port.number,
                  prefix_ranges = { { address_prefix = address, prefix_len = 32 } },
                },
                filters = { member and member.filter or filter },
              },
            }
          end
        end
        if other then report_elder(mesh, namespace, service, port.number, other) end
      end
    end,
  },

  --- What authorises is per Service and account: a grant for one account opens nothing on a pod of another.
  inbound_chains = {
    each = "workloads",
    run = function(mesh, out, namespace, service, account)
      for _, at in ipairs(mesh.pod_targets(namespace, service)) do
        out.filter_chain {
          listener = "inbound-listener",
          name = "inbound_" .. id.name(namespace, service) .. "_" .. at.target .. "_" .. at.protocol,
          audience = { { service = id.name(namespace, service), account = id.name(namespace, account) } },
          authorises = true,
          at = {
            direction = "inbound",
            namespace = namespace,
            service = service,
            account = account,
            target = at.target,
            protocol = at.protocol,
          },
          message = {
            filter_chain_match = {
              destination_port = at.target,
              transport_protocol = "tls",
              server_names = { id.fqdn(namespace, service) },
              application_protocols = common.ALPN,
            },
            filters = inbound_filters(mesh, namespace, service, account, at),
            transport_socket = {
              name = "envoy.transport_sockets.tls",
              typed_config = {
                ["@type"] = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                common_tls_context = common.tls_context(mesh, common.inbound_roots(namespace, account)),
                require_client_certificate = true,
                -- a resumed session would skip the check of the client's certificate, its expiry too
                disable_stateless_session_resumption = true,
                disable_stateful_session_resumption = true,
              },
            },
          },
        }
      end
    end,
  },
}

return M
