--- MeshConfig: the switches of the whole mesh. Only the one named osm-mesh-config in the mesh's own namespace counts.
---
--- Without it, or while it is rejected, every switch is at its closed position: traffic needs a TrafficTarget.
local list = require("mesh.list")
local object = require("kubernetes.object")

local M = { api = 1 }

M.kinds = {
  --- The switches of the whole mesh.
  MeshConfig = {
    group = "config.openservicemesh.io",
    versions = { "v1alpha2" },
    schema = "crds/meshconfig.yaml",
  },
}

--- What the mesh does not do yet: the path of a field, and the value that asks for nothing (a list of them: any of
--- these; no value given: any value asks). A field that asks is reported and has no effect; the rest of the object
--- counts.
---@type { path: string[], quiet: (string|integer|boolean)[] }[]
local NOT_YET = {
  { path = { "traffic", "enableEgress" }, quiet = { false } },
  { path = { "traffic", "outboundIPRangeExclusionList" }, quiet = {} },
  { path = { "traffic", "outboundIPRangeInclusionList" }, quiet = {} },
  { path = { "traffic", "outboundPortExclusionList" }, quiet = {} },
  { path = { "traffic", "inboundPortExclusionList" }, quiet = {} },
  { path = { "traffic", "networkInterfaceExclusionList" }, quiet = {} },
  { path = { "traffic", "inboundExternalAuthorization", "enable" }, quiet = { false } },
  { path = { "sidecar", "enablePrivilegedInitContainer" }, quiet = { false } },
  { path = { "sidecar", "logLevel" }, quiet = { "", "error" } },
  { path = { "sidecar", "envoyImage" }, quiet = { "" } },
  { path = { "sidecar", "envoyWindowsImage" }, quiet = { "" } },
  { path = { "sidecar", "initContainerImage" }, quiet = { "" } },
  { path = { "sidecar", "resources" }, quiet = {} },
  { path = { "sidecar", "configResyncInterval" }, quiet = { "", "0s" } },
  { path = { "sidecar", "localProxyMode" }, quiet = { "", "Localhost" } },
  { path = { "observability", "osmLogLevel" }, quiet = { "", "info" } },
  { path = { "observability", "enableDebugServer" }, quiet = { false } },
  { path = { "observability", "tracing", "enable" }, quiet = { false } },
  { path = { "certificate", "ingressGateway" }, quiet = {} },
  { path = { "featureFlags", "enableWASMStats" }, quiet = { false } },
  { path = { "featureFlags", "enableEgressPolicy" }, quiet = { false } },
  { path = { "featureFlags", "enableIngressBackendPolicy" }, quiet = { false } },
  { path = { "featureFlags", "enableSnapshotCacheMode" }, quiet = { false } },
  { path = { "featureFlags", "enableAsyncProxyServiceMapping" }, quiet = { false } },
  { path = { "featureFlags", "enableEnvoyActiveHealthChecks" }, quiet = { false } },
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

M.rules = {}

--- The one MeshConfig that counts.
---@param mesh mesh.Reader
---@return table?
function M.rules.mesh_config_object(mesh)
  return mesh.MeshConfig(mesh.settings().osm_namespace, "osm-mesh-config")
end

--- The switches that are honoured.
---@param mesh mesh.Reader
---@return { permissive: boolean }
function M.rules.mesh_config(mesh)
  local config = mesh.mesh_config_object()
  local spec = config and config.spec or {}
  for _, field in ipairs(NOT_YET) do
    local value = at(spec, field.path)
    if asks(value, field.quiet) then
      local path = { "spec" }
      for _, step in ipairs(field.path) do path[#path + 1] = step end
      mesh.reject(config, path, shown(value) .. " is not supported yet and has no effect")
    end
  end
  return { permissive = at(spec, { "traffic", "enablePermissiveTrafficPolicyMode" }) == true }
end

--- Whether every meshed pod may reach every Service of the mesh. mTLS stays required.
---@param mesh mesh.Reader
---@return boolean
function M.rules.permissive(mesh)
  return mesh.mesh_config().permissive
end

return M
