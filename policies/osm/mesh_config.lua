--- MeshConfig: the switches of the whole mesh. Only the one named osm-mesh-config in the mesh's own namespace counts.
---
--- Without it every switch is at its closed position: traffic needs a TrafficTarget. One bad field is taken out and
--- reported, and the others count; where it belongs to what protects, that is closed until the field is put right.
local list = require("mesh.list")
local duration = require("osm.duration")
local object = require("kubernetes.object")
local str = require("mesh.str")

local M = { api = 1 }

local NAME <const> = "osm-mesh-config"

M.kinds = {
  --- The switches of the whole mesh.
  MeshConfig = {
    group = "config.openservicemesh.io",
    versions = { "v1alpha2", "v1alpha1" },
    schema = "crds/meshconfig.yaml",
    tolerant = true,
    accept = function(config, reject)
      if config.metadata.name ~= NAME then
        reject({ "metadata", "name" }, "is not " .. object.quote(NAME) .. ", the only one that counts: it has no effect")
      end
    end,
    -- It has fewer fields. The newer ones count in it too: an API server would have dropped them in silence.
    from = { v1alpha1 = function(config) return { spec = config.spec, refused = config.refused } end },
  },
}

--- What the mesh does not do yet: the path of a field, and the value that asks for nothing (a list of them: any of
--- these; no value given: any value asks). A field that asks is reported and has no effect; the rest of the object
--- counts.
---@type { path: string[], quiet: (string|integer|boolean)[] }[]
local NOT_YET = {
  { path = { "sidecar", "enablePrivilegedInitContainer" }, quiet = { false } },
  { path = { "sidecar", "envoyImage" }, quiet = { "" } },
  { path = { "sidecar", "envoyWindowsImage" }, quiet = { "" } },
  { path = { "sidecar", "initContainerImage" }, quiet = { "" } },
  { path = { "sidecar", "resources" }, quiet = {} },
  { path = { "sidecar", "configResyncInterval" }, quiet = { "", "0s" } },
  { path = { "certificate", "ingressGateway" }, quiet = {} },
  { path = { "featureFlags", "enableWASMStats" }, quiet = { false } },
  { path = { "featureFlags", "enableEgressPolicy" }, quiet = { false } },
  { path = { "featureFlags", "enableIngressBackendPolicy" }, quiet = { false } },
  { path = { "featureFlags", "enableSnapshotCacheMode" }, quiet = { false } },
  { path = { "featureFlags", "enableAsyncProxyServiceMapping" }, quiet = { false } },
  { path = { "featureFlags", "enableRetryPolicy" }, quiet = { false } },
  { path = { "featureFlags", "enableMulticlusterMode" }, quiet = { false } },
  { path = { "featureFlags", "enableMeshRootCertificate" }, quiet = { false } },
}

---@param spec table
---@param path string[]
---@return any  nil where a step is absent
local function at(spec, path)
  local value = spec
  for _, step in ipairs(path) do
    if type(value) ~= "table" then return nil end
    value = value[step]
  end
  return value
end

---@param value any
---@param quiet (string|integer|boolean)[]
---@return boolean
local function asks(value, quiet)
  if value == nil then return false end
  if type(value) == "table" then return #list.keys(value) > 0 end
  for _, each in ipairs(quiet) do
    if value == each then return false end
  end
  return true
end

---@param value any
---@return string
local function shown(value)
  if type(value) == "table" then return "a value here" end
  if type(value) == "string" then return object.quote(value) end
  return tostring(value)
end

--- Whether the redirection can name an interface like this; "+" last stands for whatever follows.
---@param name string
---@return boolean
local function is_interface(name)
  if #name > 15 or name == "." or name == ".." then return false end
  return name == "+" or string.find(name, "^[%w._@][%w._@%-]*%+?$") ~= nil
end

---@param range string
---@return boolean
local function is_range(range)
  local address, bits = string.match(range, "^(.+)/(%d%d?)$")
  return address ~= nil and object.is_ipv4(address) and tonumber(bits) <= 32
end

-- The lists that a sidecar's redirection is made from when it starts: `osm proxy bootstrap` refuses a bad one.
---@type { field: string, is: (fun(entry: string): boolean)?, what: string? }[]
local REDIRECTION = {
  { field = "outboundIPRangeExclusionList", is = is_range, what = "IPv4 range such as 10.0.0.0/8" },
  { field = "outboundIPRangeInclusionList", is = is_range, what = "IPv4 range such as 10.0.0.0/8" },
  { field = "networkInterfaceExclusionList", is = is_interface, what = "name of an interface such as eth0 or eth+" },
  { field = "outboundPortExclusionList" },
  { field = "inboundPortExclusionList" },
}
local MOST_ENTRIES <const> = 1024

---@param mesh mesh.Reader
---@param config table
---@param traffic table
local function report_redirection(mesh, config, traffic)
  for _, each in ipairs(REDIRECTION) do
    local entries = traffic[each.field] or {}
    if #entries > MOST_ENTRIES and #list.unique(list.sorted(entries)) > MOST_ENTRIES then
      mesh.reject(config, { "spec", "traffic", each.field }, "has more than " .. MOST_ENTRIES .. " entries: no new sidecar "
        .. "can start until this is put right")
    end
    for index, entry in ipairs(each.is and entries or {}) do
      if not each.is(entry) then
        mesh.reject(config, { "spec", "traffic", each.field, index }, object.quote(entry) .. " is no " .. each.what
          .. ": no new sidecar can start until this is put right")
      end
    end
  end
end

--- Where another server that the mesh itself calls is.
---@param asked table    section of the MeshConfig
---@param port integer?  where it names none
---@return string?, integer?  nil where it names no host
local function server_of(asked, port)
  local host = asked.address or ""
  if not string.find(host, "^[%w%.%-_]+$") or #host > 253 then return nil, nil end
  return host, asked.port or port
end

-- Every field there is, by section; a table: the fields of one that has some of its own.
local FIELDS = {
  sidecar = {
    enablePrivilegedInitContainer = true, logLevel = true, maxDataPlaneConnections = true, envoyImage = true,
    envoyWindowsImage = true, initContainerImage = true, resources = true, configResyncInterval = true,
    tlsMinProtocolVersion = true, tlsMaxProtocolVersion = true, cipherSuites = true, ecdhCurves = true,
    localProxyMode = true,
  },
  traffic = {
    enableEgress = true, outboundIPRangeExclusionList = true, outboundIPRangeInclusionList = true,
    outboundPortExclusionList = true, inboundPortExclusionList = true, networkInterfaceExclusionList = true,
    enablePermissiveTrafficPolicyMode = true,
    inboundExternalAuthorization = {
      enable = true, address = true, port = true, statPrefix = true, timeout = true, failureModeAllow = true,
    },
  },
  observability = {
    osmLogLevel = true, enableDebugServer = true,
    tracing = { enable = true, port = true, address = true, endpoint = true },
  },
  certificate = { serviceCertValidityDuration = true, certKeyBitSize = true, ingressGateway = true },
  featureFlags = {
    enableWASMStats = true, enableEgressPolicy = true, enableIngressBackendPolicy = true, enableSnapshotCacheMode = true,
    enableAsyncProxyServiceMapping = true, enableEnvoyActiveHealthChecks = true, enableRetryPolicy = true,
    enableMulticlusterMode = true, enableMeshRootCertificate = true,
  },
}

--- A mistyped switch would stay as it is, in silence.
---@param mesh mesh.Reader
---@param config table
---@param value table
---@param known table
---@param path string[]
local function report_unknown(mesh, config, value, known, path)
  for _, name in ipairs(list.keys(value)) do
    local here = list.map(path, function(step) return step end)
    here[#here + 1] = name
    if not known[name] then
      mesh.reject(config, here, "is no field of MeshConfig and has no effect")
    elseif type(known[name]) == "table" and type(value[name]) == "table" then
      report_unknown(mesh, config, value[name], known[name], here)
    end
  end
end

M.rules = {}

--- Whether a field of the MeshConfig, something in it, or what it is in, was bad and taken out. All of one without spec is:
--- who indents a line too little must not switch off what protects.
---@param mesh mesh.Reader
---@param path string  "spec.traffic.inboundExternalAuthorization"
---@return boolean
function M.rules.is_refused(mesh, path)
  local config = mesh.mesh_config_object()
  if config and not config.spec then return true end
  for _, refused in ipairs(list.keys(config and config.refused or {})) do
    if refused == path or str.starts_with(refused, path .. ".") or str.starts_with(path, refused .. ".") then return true end
  end
  return false
end

--- The one MeshConfig that counts.
---@param mesh mesh.Reader
---@return table?
function M.rules.mesh_config_object(mesh)
  return mesh.MeshConfig(mesh.settings().osm_namespace, NAME)
end

--- The switches that are honoured.
---@param mesh mesh.Reader
---@return { permissive: boolean, egress: boolean, health_checks: boolean }
function M.rules.mesh_config(mesh)
  local config = mesh.mesh_config_object()
  local spec = config and config.spec or {}
  if config and not config.spec and not (config.refused or {}).spec then mesh.reject(config, { "spec" }, "is required") end
  report_redirection(mesh, config, spec.traffic or {})
  report_unknown(mesh, config, spec, FIELDS, { "spec" })
  for _, field in ipairs(NOT_YET) do
    local value = at(spec, field.path)
    if asks(value, field.quiet) then
      local path = { "spec" }
      for _, step in ipairs(field.path) do path[#path + 1] = step end
      mesh.reject(config, path, shown(value) .. " is not supported yet and has no effect")
    end
  end
  return {
    permissive = at(spec, { "traffic", "enablePermissiveTrafficPolicyMode" }) == true,
    egress = at(spec, { "traffic", "enableEgress" }) == true,
    health_checks = at(spec, { "featureFlags", "enableEnvoyActiveHealthChecks" }) == true,
  }
end

--- Whether every meshed pod may reach every Service of the mesh. mTLS stays required.
---@param mesh mesh.Reader
---@return boolean
function M.rules.permissive(mesh)
  return mesh.mesh_config().permissive
end

--- Who else is asked about each HTTP request that arrives at a pod.
---@class mesh_config.Authorization
---@field address string?          host name or address; nil: it cannot be asked, so nothing is let in
---@field port integer?
---@field stat_prefix string
---@field timeout_ms integer
---@field allow_on_failure boolean

--- The external authorization of the whole mesh.
---@param mesh mesh.Reader
---@return mesh_config.Authorization?  nil: nobody is asked
function M.rules.external_authorization(mesh)
  local config = mesh.mesh_config_object()
  local asked = at(config and config.spec or {}, { "traffic", "inboundExternalAuthorization" }) or {}
  local path = { "spec", "traffic", "inboundExternalAuthorization" }
  local closed = mesh.is_refused("spec.traffic.inboundExternalAuthorization")
  if not config or (asked.enable ~= true and not closed) then return nil end
  local address, port = server_of(asked, nil)
  if closed then
    address, port = nil, nil
    mesh.reject(config, path, "cannot be read whole: until it is put right, every HTTP request that arrives at a pod is "
      .. "refused")
  elseif not address or not port then
    local missing = address and "port" or "address"
    address, port = nil, nil
    mesh.reject(config, { path[1], path[2], path[3], missing }, "is needed, a host name or IPv4 "
      .. "address with a port: until then every HTTP request that arrives at a pod is refused")
  end
  local timeout_s = duration.seconds((asked.timeout or "") ~= "" and asked.timeout or "1s")
  if not timeout_s or timeout_s <= 0 or timeout_s > 3600 then
    mesh.reject(config, { path[1], path[2], path[3], "timeout" }, object.quote(asked.timeout) .. " is no duration up to "
      .. "1h, such as 1s; 1s counts")
    timeout_s = 1
  end
  local prefix = asked.statPrefix or ""
  return {
    address = address,
    port = port,
    stat_prefix = prefix ~= "" and prefix or "inboundExtAuthz",
    timeout_ms = math.max(1, math.floor(timeout_s * 1000)),
    allow_on_failure = asked.failureModeAllow == true and not closed,
  }
end

--- Where sidecars send their spans, in Zipkin's JSON.
---@param mesh mesh.Reader
---@return { address: string, port: integer, endpoint: string }?  nil: nowhere
function M.rules.tracing(mesh)
  local config = mesh.mesh_config_object()
  local asked = at(config and config.spec or {}, { "observability", "tracing" }) or {}
  if not config or asked.enable ~= true then return nil end
  local address, port = server_of(asked, 9411)
  if not asked.address or asked.address == "" then
    address, port = "jaeger." .. mesh.settings().osm_namespace .. ".svc.cluster.local", asked.port or 9411
  end
  if not address or not port then
    mesh.reject(config, { "spec", "observability", "tracing", "address" }, object.quote(asked.address) .. " is no host "
      .. "name or IPv4 address: nothing is traced")
    return nil
  end
  local endpoint = asked.endpoint or ""
  return { address = address, port = port, endpoint = endpoint ~= "" and endpoint or "/api/v2/spans" }
end

return M
