--- Pieces of Envoy configuration that several emitters use. Plain data and pure functions; field names are those of
--- Envoy's v3 API.
local id = require("mesh.id")
local list = require("mesh.list")
local str = require("mesh.str")

local M = {}

--- No limit, in the 32 bits that Envoy gives to one.
M.UNLIMITED = 4294967295

--- How much a cluster may have open at once, and that Envoy counts what is left.
M.CIRCUIT_BREAKERS = {
  thresholds = {
    {
      max_connections = M.UNLIMITED,
      max_pending_requests = M.UNLIMITED,
      max_requests = M.UNLIMITED,
      max_retries = M.UNLIMITED,
      track_remaining = true,
    },
  },
}

--- Everything that a proxy is told comes over the one ADS stream.
M.ADS = { ads = {}, resource_api_version = "V3" }

--- The application protocol by which sidecars know each other in TLS. Clients offer it, and it leads to the chain; servers
--- choose none: a protocol that is neither HTTP/1.1 nor HTTP/2 by name would be taken for HTTP/1.1 without a look.
M.ALPN = { "osm" }

--- HTTP to the upstream is what the client spoke: HTTP/1 stays HTTP/1, HTTP/2 stays HTTP/2.
M.HTTP_OPTIONS = {
  ["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"] = {
    ["@type"] = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    use_downstream_protocol_config = { http2_protocol_options = {} },
  },
}

--- One JSON line per request or connection on the proxy's standard output.
M.ACCESS_LOG = {
  {
    name = "envoy.access_loggers.stream",
    typed_config = {
      ["@type"] = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
      log_format = {
        json_format = {
          start_time = "%START_TIME%",
          method = "%REQ(:METHOD)%",
          path = "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
          protocol = "%PROTOCOL%",
          response_code = "%RESPONSE_CODE%",
          response_code_details = "%RESPONSE_CODE_DETAILS%",
          time_to_first_byte = "%RESPONSE_DURATION%",
          upstream_cluster = "%UPSTREAM_CLUSTER%",
          response_flags = "%RESPONSE_FLAGS%",
          bytes_received = "%BYTES_RECEIVED%",
          bytes_sent = "%BYTES_SENT%",
          duration = "%DURATION%",
          upstream_service_time = "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
          x_forwarded_for = "%REQ(X-FORWARDED-FOR)%",
          user_agent = "%REQ(USER-AGENT)%",
          request_id = "%REQ(X-REQUEST-ID)%",
          requested_server_name = "%REQUESTED_SERVER_NAME%",
          authority = "%REQ(:AUTHORITY)%",
          upstream_host = "%UPSTREAM_HOST%",
        },
      },
    },
  },
}

---@param regex string  RE2, over the whole text
---@return table  StringMatcher
function M.matching(regex)
  return { safe_regex = { regex = regex } }
end

---@param protocol string  services.Port.protocol
---@return boolean
function M.is_http(protocol)
  return protocol == "http" or protocol == "grpc"
end

--- TLS between sidecars, for both ends: versions, this proxy's certificate, and the secret that says whom to trust.
---@param mesh mesh.Reader
---@param validation string  name of a validation context
---@param offered string[]?  application protocols
---@return table  CommonTlsContext
function M.tls_context(mesh, validation, offered)
  local tls = mesh.tls_parameters()
  return {
    tls_params = {
      tls_minimum_protocol_version = tls.minimum,
      tls_maximum_protocol_version = tls.maximum,
      cipher_suites = tls.ciphers,
      ecdh_curves = tls.curves,
    },
    alpn_protocols = offered,
    tls_certificate_sds_secret_configs = { { name = "service-cert", sds_config = M.ADS } },
    validation_context_sds_secret_config = { name = validation, sds_config = M.ADS },
  }
end

---@param namespace string
---@param service string
---@return string  the secret by which clients check the servers behind a Service
function M.outbound_roots(namespace, service)
  return "root-cert-for-mtls-outbound:" .. id.name(namespace, service)
end

---@param namespace string
---@param account string
---@return string  the secret by which an account's pods check their clients
function M.inbound_roots(namespace, account)
  return "root-cert-for-mtls-inbound:" .. id.name(namespace, account)
end

---@param callers outbound.Callers
---@return mesh.Audience
function M.audience(callers)
  if callers == "everyone" then return "everyone" end
  return list.map(callers, function(caller) return { account = caller } end)
end

--- The host names of a Service, each alone and with each port: five forms with the bare name, which only its own
--- namespace uses.
---@param namespace string
---@param service string     "db"; "pod-0.db" for one pod of it, "*.db" for whichever
---@param numbers integer[]  ports of the Service
---@param bare boolean
---@return string[]
function M.domains(namespace, service, numbers, bare)
  local qualified = service .. "." .. namespace
  local names = { qualified, qualified .. ".svc", qualified .. ".svc.cluster", id.fqdn(namespace, service) }
  if bare then table.insert(names, 1, service) end
  local domains = {}
  for _, name in ipairs(names) do
    domains[#domains + 1] = name
    for _, number in ipairs(numbers) do domains[#domains + 1] = name .. ":" .. number end
  end
  return domains
end

--- Callers in a namespace, and all others. "everyone" goes to both: of two audiences the one that names a namespace
--- counts.
---@param callers outbound.Callers
---@param namespace string
---@return mesh.Audience own, mesh.Audience others
function M.by_namespace(callers, namespace)
  if callers == "everyone" then return { { namespace = namespace } }, "everyone" end
  local own, others = {}, {}
  for _, caller in ipairs(callers) do
    local side = str.starts_with(caller, namespace .. "/") and own or others
    side[#side + 1] = { account = caller }
  end
  return own, others
end

--- The cluster that leads to where a client wanted to go anyway, outside of the mesh.
M.PASSTHROUGH = "passthrough-outbound"

--- The cluster that spans are sent to.
M.TRACING_CLUSTER = "envoy-tracing-cluster"

---@param mesh mesh.Reader
---@return table?  HttpConnectionManager.Tracing
local function tracing(mesh)
  local collector = mesh.tracing()
  if not collector then return nil end
  return {
    verbose = true,
    provider = {
      name = "envoy.tracers.zipkin",
      typed_config = {
        ["@type"] = "envoy.config.trace.v3.ZipkinConfig",
        collector_cluster = M.TRACING_CLUSTER,
        collector_endpoint = collector.endpoint,
        collector_endpoint_version = "HTTP_JSON",
      },
    },
  }
end

--- HTTP by a route table of its own.
---@param mesh mesh.Reader
---@param table_name string
---@param http_filters table[]  before the router
---@return table  Filter
function M.http(mesh, table_name, http_filters)
  local filters = list.map(http_filters, function(filter) return filter end)
  filters[#filters + 1] = {
    name = "http_router",
    typed_config = { ["@type"] = "envoy.extensions.filters.http.router.v3.Router" },
  }
  return {
    name = "http_connection_manager",
    typed_config = {
      ["@type"] = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
      stat_prefix = "mesh-http-conn-manager." .. table_name,
      codec_type = "AUTO",
      rds = { route_config_name = table_name, config_source = M.ADS },
      tracing = tracing(mesh),
      http_filters = filters,
      upgrade_configs = { { upgrade_type = "websocket" } },
      access_log = M.ACCESS_LOG,
    },
  }
end

--- TCP to one cluster, or to several by weight. Clusters of weight 0 are left out: the proxy refuses a single one of
--- that weight.
---@param stat_prefix string
---@param clusters { name: string, weight: integer }[]
---@return table?  Filter; nil where no cluster is left
function M.tcp(stat_prefix, clusters)
  local weighted = {}
  for _, cluster in ipairs(clusters) do
    if cluster.weight > 0 then weighted[#weighted + 1] = cluster end
  end
  if #weighted == 0 then return nil end
  local message = {
    ["@type"] = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    stat_prefix = stat_prefix,
    access_log = M.ACCESS_LOG,
  }
  if #weighted == 1 then
    message.cluster = weighted[1].name
  else
    message.weighted_clusters = { clusters = weighted }
  end
  return { name = "tcp_proxy", typed_config = message }
end

return M
