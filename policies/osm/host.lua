--- What the MeshConfig asks of certificates and of TLS. The daemon signs, renews and admits by `host_settings`; the
--- sidecars' own TLS is in their configuration.
local ciphers = require("osm.ciphers")
local duration = require("osm.duration")
local object = require("kubernetes.object")

local M = { api = 1 }

local DEFAULT_VALIDITY_S <const> = 24 * 3600
-- Shorter ones would be renewed all the time.
local LEAST_VALIDITY_S <const> = 5
local LEAST_RSA_BITS <const> = 2048
local MOST_PROXIES <const> = 4294967295 -- what the daemon can count
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

--- The names that a proxy takes. One that it does not know makes it refuse whatever TLS is in, all clusters and chains.
---@param mesh mesh.Reader
---@param config table
---@param field string
---@param names string[]?
---@param known fun(name: string): boolean
---@return string[]
local function listed(mesh, config, field, names, known)
  local taken = {}
  for index, name in ipairs(names or {}) do
    if known(name) then
      taken[#taken + 1] = name
    else
      mesh.reject(config, { "spec", "sidecar", field, index }, object.quote(name) .. " is none that the proxies know; it "
        .. "is left out")
    end
  end
  return taken
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
    ciphers = listed(mesh, config, "cipherSuites", sidecar.cipherSuites, ciphers.is_known),
    curves = listed(mesh, config, "ecdhCurves", sidecar.ecdhCurves, ciphers.is_curve),
  }
end

--- Whose keys the listed ciphers are for. TLS 1.3 has ciphers of its own, which go with any key.
---@param mesh mesh.Reader
---@return boolean rsa_only, boolean ecdsa_only
local function keys_asked(mesh)
  local rsa, ecdsa = false, false
  for _, name in ipairs(mesh.tls_parameters().ciphers) do
    local for_rsa, for_ecdsa = ciphers.keys_of(name)
    rsa, ecdsa = rsa or for_rsa, ecdsa or for_ecdsa
  end
  return rsa and not ecdsa, ecdsa and not rsa
end

--- What the daemon itself does: how long service certificates are valid, the size of their RSA keys (0: what the flag
--- --service-cert-key says), whether the ciphers are for RSA keys only, as those of Open Service Mesh were, how many
--- proxies may be connected (0: any number), TLS towards itself, how much it logs ("": what its flag says), and how much
--- a sidecar that starts now does, in Envoy's word.
---@param mesh mesh.Reader
---@return table  of integers service_cert_validity_s, rsa_bits, proxies_max; rsa_only; tls; log_level, sidecar_log_level
function M.rules.host_settings(mesh)
  local config, certificate, sidecar, observability = sections(mesh)
  local level = sidecar.logLevel or ""
  local bits = rsa_bits(mesh, config, certificate.certKeyBitSize)
  local rsa_only, ecdsa_only = keys_asked(mesh)
  if ecdsa_only and bits > 0 and mesh.tls_parameters().maximum ~= "TLSv1_3" then
    mesh.reject(config, { "spec", "certificate", "certKeyBitSize" }, "asks for RSA keys, but no cipher of "
      .. "spec.sidecar.cipherSuites is for them: keys stay P-256")
    bits = 0
  end
  return {
    service_cert_validity_s = validity_s(mesh, config, certificate.serviceCertValidityDuration),
    rsa_bits = rsa_only and math.max(bits, LEAST_RSA_BITS) or bits,
    rsa_only = rsa_only,
    proxies_max = math.min(sidecar.maxDataPlaneConnections or 0, MOST_PROXIES),
    tls = mesh.tls_parameters(),
    log_level = log_level(mesh, config, observability.osmLogLevel),
    sidecar_log_level = level == "warn" and "warning" or level ~= "" and level or "error",
  }
end

return M
