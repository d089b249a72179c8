--- External authorization in Envoy's words: one more server is asked about each request that the mesh's own rules let
--- through. By Envoy's own gRPC client: the other one is not built into every Envoy.
local M = {}

M.CLUSTER = "inbound-ext-authz"

local BODY_MAX_BYTES <const> = 8192

-- Rules without a policy let nothing through.
local NOTHING = {
  name = "inbound_ext_authz_unreachable",
  typed_config = { ["@type"] = "envoy.extensions.filters.http.rbac.v3.RBAC", rules = { action = "ALLOW" } },
}

---@param asked mesh_config.Authorization?
---@return table?  HttpFilter; nil where nobody is to be asked
function M.filter(asked)
  if not asked then return nil end
  if not asked.address then return not asked.allow_on_failure and NOTHING or nil end
  local timeout = string.format("%d.%03ds", asked.timeout_ms // 1000, asked.timeout_ms % 1000)
  return {
    name = "http_external_authz",
    typed_config = {
      ["@type"] = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
      grpc_service = { envoy_grpc = { cluster_name = M.CLUSTER }, timeout = timeout },
      stat_prefix = asked.stat_prefix,
      transport_api_version = "V3",
      with_request_body = { max_request_bytes = BODY_MAX_BYTES, allow_partial_message = true },
      failure_mode_allow = asked.allow_on_failure,
    },
  }
end

return M
