--- Active health checks of sidecars by sidecars (MeshConfig's enableEnvoyActiveHealthChecks): the server's sidecar
--- answers, not the application.
local M = {}

local PATH <const> = "/healthz/osm"
local HEADER <const> = "x-osm-envoy-healthcheck"

---@param host string  as the server's sidecar knows the Service
---@return table  HealthCheck
function M.check(host)
  return {
    timeout = "1s",
    interval = "10s",
    -- a client may ask before the server has been told to answer: asked again soon, not after a minute without traffic
    unhealthy_interval = "5s",
    no_traffic_interval = "5s",
    no_traffic_healthy_interval = "60s",
    healthy_threshold = 1,
    unhealthy_threshold = 3,
    http_health_check = {
      host = host,
      path = PATH,
      request_headers_to_add = { { header = { key = HEADER, value = "1" } } },
    },
  }
end

--- Answers such checks. It stands before what authorises requests: a caller may be granted some paths only, and would
--- find all servers ill. Who may not connect is not answered.
M.FILTER = {
  name = "http_health_check",
  typed_config = {
    ["@type"] = "envoy.extensions.filters.http.health_check.v3.HealthCheck",
    pass_through_mode = false,
    headers = {
      { name = ":path", string_match = { exact = PATH } },
      { name = HEADER, string_match = { exact = "1" } },
    },
  },
}

return M
