--- What the MeshConfig asks of certificates and of TLS. The daemon signs, renews and admits by `host_settings`; the
--- sidecars' own TLS is in their configuration.
local duration = require("osm.duration")
local object = require("kubernetes.object")

local M = { api = 1 }

local DEFAULT_VALIDITY_S <const> = 24 * 3600
-- Shorter ones would be renewed all the time.
local LEAST_VALIDITY_S <const> = 5
-- A name of a cipher or a curve, also several that are as good as each other: "[A|B]".
local NAMES <const> = "^[%w_%-%[%]|:]+$"
local VERSIONS = { TLSv1_0 = 0, TLSv1_1 = 1, TLSv1_2 = 2, TLSv1_3 = 3 }

---@param mesh mesh.Reader
---@return table config, table certificate, table sidecar, table observability
local function sections(mesh)
  local config = mesh.mesh_config_object() or {}
  local spec = config.spec or {}
  return config, spec.certificate or {}, spec.sidecar or {}, spec.observability or {}
end

---@param mesh mesh.Reader
---@param config table
---@param text string?
---@return integer
local function validity_s(mesh, config, text)
  if not text or text == "" then return DEFAULT_VALIDITY_S end
  local seconds = duration.seconds(text)
  if seconds and seconds >= LEAST_VALIDITY_S and seconds <= 10 * 365 * 24 * 3600 then
    return math.tointeger(seconds // 1) or DEFAULT_VALIDITY_S
  end
  mesh.reject(config, { "spec", "certificate", "serviceCertValidityDuration" }, object.quote(text) .. " is no duration from "
    .. LEAST_VALIDITY_S .. "s to ten years, such as 24h; certificates are valid for 24h")
  return DEFAULT_VALIDITY_S
end

---@param mesh mesh.Reader
---@param config table
---@param bits integer?
---@return integer  0: the daemon's own choice
local function rsa_bits(mesh, config, bits)
  if not bits or bits == 2048 then return 0 end
  if bits > 2048 and bits <= 4096 then return bits end
  mesh.reject(config, { "spec", "certificate", "certKeyBitSize" }, bits .. " is not from 2048 to 4096 and has no effect")
  return 0
end

---@param mesh mesh.Reader
---@param config table
---@param field string
---@param names string[]?
---@return string[]
local function listed(mesh, config, field, names)
  for index, name in ipairs(names or {}) do
    if not string.find(name, NAMES) then
      mesh.reject(config, { "spec", "sidecar", field, index }, object.quote(name) .. " is no name; the list has no effect")
      return {}
    end
  end
  return names or {}
end

-- What Open Service Mesh took, and the daemon's own words for it.
local LOG_LEVELS = {
  trace = "trace", debug = "debug", info = "info", warn = "warn", error = "error", fatal = "fatal", panic = "fatal",
  disabled = "disabled",
}

---@param mesh mesh.Reader
---@param config table
---@param level string?
---@return string  "": what the daemon's flag says
local function log_level(mesh, config, level)
  if not level or level == "" then return "" end
  if LOG_LEVELS[level] then return LOG_LEVELS[level] end
  mesh.reject(config, { "spec", "observability", "osmLogLevel" }, object.quote(level) .. " is not one of trace, debug, "
    .. "info, warn, error, fatal, panic and disabled, and has no effect")
  return ""
end

M.rules = {}

--- How sidecars speak TLS, to each other and to the control plane: Envoy's names of versions, of ciphers up to
--- TLS 1.2 and of curves; an empty list leaves the choice to Envoy.
---@param mesh mesh.Reader
---@return { minimum: string, maximum: string, ciphers: string[], curves: string[] }
function M.rules.tls_parameters(mesh)
  local config, _, sidecar = sections(mesh)
  local function asked(version, default)
    return version and version ~= "" and version or default
  end
  local minimum = asked(sidecar.tlsMinProtocolVersion, "TLSv1_2")
  local maximum = asked(sidecar.tlsMaxProtocolVersion, "TLSv1_3")
  if (VERSIONS[minimum] or 0) > (VERSIONS[maximum] or 3) then
    mesh.reject(config, { "spec", "sidecar", "tlsMaxProtocolVersion" }, maximum .. " is below the minimum, " .. minimum
      .. ", which counts for both")
    maximum = minimum
  end
  return {
    minimum = minimum,
    maximum = maximum,
    ciphers = listed(mesh, config, "cipherSuites", sidecar.cipherSuites),
    curves = listed(mesh, config, "ecdhCurves", sidecar.ecdhCurves),
  }
end

--- What the daemon itself does: how long service certificates are valid, the size of their RSA keys (0: what the flag
--- --service-cert-key says), how many proxies may be connected (0: any number), TLS towards itself, how much it logs
--- ("": what its flag says), and how much a sidecar that starts now does, in Envoy's word.
---@param mesh mesh.Reader
---@return table  service_cert_validity_s, rsa_bits, proxies_max: integers; tls; log_level, sidecar_log_level: texts
function M.rules.host_settings(mesh)
  local config, certificate, sidecar, observability = sections(mesh)
  local level = sidecar.logLevel or ""
  return {
    service_cert_validity_s = validity_s(mesh, config, certificate.serviceCertValidityDuration),
    rsa_bits = rsa_bits(mesh, config, certificate.certKeyBitSize),
    proxies_max = sidecar.maxDataPlaneConnections or 0,
    tls = mesh.tls_parameters(),
    log_level = log_level(mesh, config, observability.osmLogLevel),
    sidecar_log_level = level == "warn" and "warning" or level ~= "" and level or "error",
  }
end

return M
