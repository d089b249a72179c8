--- What the MeshConfig asks of certificates and of TLS. The daemon signs, renews and admits by `host_settings`; the
--- sidecars' own TLS is in their configuration.
local ciphers = require("osm.ciphers")
local duration = require("osm.duration")
local list = require("mesh.list")
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

--- The names that a proxy takes, each once: a curve that is there twice, or a name that it does not know, makes it refuse
--- whatever TLS is in, all clusters and chains.
---@param mesh mesh.Reader
---@param config table
---@param field string
---@param names string[]?
---@param known fun(name: string): string?  what the name stands for; nil: nothing
---@return string[]
local function listed(mesh, config, field, names, known)
  local taken, seen = {}, {}
  for index, name in ipairs(names or {}) do
    local meant = known(name)
    if not meant then
      mesh.reject(config, { "spec", "sidecar", field, index }, object.quote(name) .. " is none that the proxies know; it "
        .. "is left out")
    elseif not seen[meant] then
      seen[meant] = true
      taken[#taken + 1] = name
    end
  end
  return taken
end

---@param names string[]
---@return string[]
local function copied(names)
  return list.map(names, function(name) return name end)
end

---@param curves string[]
---@return boolean p256, boolean any  whether P-256 is there, and any that TLS 1.2 has
local function curves_of(curves)
  local p256, any = false, false
  for _, name in ipairs(curves) do
    local curve, in_tls_1_2 = ciphers.curve(name)
    p256, any = p256 or curve == "P-256", any or in_tls_1_2 == true
  end
  return p256, any
end

--- The bounds. TLS_AUTO is the mesh's default and not Envoy's, whose clients would stop at TLS 1.2.
---@param mesh mesh.Reader
---@param config table
---@param sidecar table
---@return string minimum, string maximum, string control_plane_maximum  as Open Service Mesh, which let a sidecar have less
---  than the control plane takes
local function versions(mesh, config, sidecar)
  local function asked(version, default)
    return version and version ~= "" and version ~= "TLS_AUTO" and version or default
  end
  local strictest = mesh.is_refused("spec.sidecar.tlsMinProtocolVersion") and "TLSv1_3"
  local minimum = strictest or asked(sidecar.tlsMinProtocolVersion, "TLSv1_2")
  local maximum = asked(sidecar.tlsMaxProtocolVersion, "TLSv1_3")
  local path = { "spec", "sidecar", "tlsMaxProtocolVersion" }
  if VERSIONS[maximum] < VERSIONS[minimum] then
    mesh.reject(config, path, maximum .. " is below the minimum, " .. minimum .. ", which counts for both")
    maximum = minimum
  end
  if VERSIONS[maximum] >= VERSIONS.TLSv1_2 then return minimum, maximum, maximum end
  mesh.reject(config, path, maximum .. " is less than the control plane takes, TLSv1_2: no new sidecar can connect until "
    .. "this is put right, and those that run speak TLSv1_2 to each other")
  return minimum, "TLSv1_2", maximum
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

---@class host.Tls
---@field minimum string
---@field maximum string                 TLSv1_2 or TLSv1_3
---@field control_plane_maximum string   the same, or what is asked for and less
---@field ciphers string[]
---@field curves string[]
---@field keys "any"|"RSA"|"ECDSA"

--- How sidecars speak TLS to each other: Envoy's names of versions, of ciphers up to TLS 1.2 and of curves (an empty
--- list leaves the choice to Envoy), and whether all that leaves room for one kind of keys only. TLS 1.3 has ciphers of
--- its own, which go with any key; up to TLS 1.2 a key is on one of the curves, or is an RSA key.
---@param mesh mesh.Reader
---@return host.Tls
function M.rules.tls_parameters(mesh)
  local config, _, sidecar = sections(mesh)
  local minimum, maximum, control_plane_maximum = versions(mesh, config, sidecar)
  local suites = listed(mesh, config, "cipherSuites", sidecar.cipherSuites, function(name)
    return ciphers.is_known(name) and name or nil
  end)
  local curves = listed(mesh, config, "ecdhCurves", sidecar.ecdhCurves, ciphers.curve)
  local kinds = ciphers.keys_of(suites)
  local keys = kinds.RSA == kinds.ECDSA and "any" or kinds.RSA and "RSA" or "ECDSA"
  local p256, any = curves_of(curves)
  if #curves > 0 and maximum == "TLSv1_2" and (not any or not p256 and keys == "ECDSA") then
    mesh.reject(config, { "spec", "sidecar", "ecdhCurves" }, (any and "has no P-256, the curve of the keys that "
      .. "spec.sidecar.cipherSuites is for" or "has no curve of TLSv1_2, the maximum") .. ": P-256 counts too")
    curves[#curves + 1] = "P-256"
  elseif #curves > 0 and maximum == "TLSv1_2" and not p256 then
    keys = "RSA"
  end
  return {
    minimum = minimum,
    maximum = maximum,
    control_plane_maximum = control_plane_maximum,
    ciphers = suites,
    curves = curves,
    keys = keys,
  }
end

--- How a sidecar that starts now speaks TLS to the control plane, as long as it lives. Whatever the MeshConfig will ask
--- then, it must find a curve and a cipher that the TLS server there speaks, for either kind of keys.
---@param mesh mesh.Reader
---@return { minimum: string, maximum: string, ciphers: string[], curves: string[] }
function M.rules.control_plane_tls(mesh)
  local config, tls = sections(mesh), mesh.tls_parameters()
  local suites, curves = copied(tls.ciphers), copied(tls.curves)
  if #curves > 0 and not curves_of(curves) then
    mesh.reject(config, { "spec", "sidecar", "ecdhCurves" }, "has no P-256, the one curve of the control plane: sidecars "
      .. "keep it to speak to the control plane, not to each other")
    curves[#curves + 1] = "P-256"
  end
  if #suites > 0 and tls.maximum == "TLSv1_2" then
    local spoken, servers = ciphers.control_plane_keys_of(suites), tls.keys == "RSA" and "RSA" or "ECDSA"
    for _, kind in ipairs({ "ECDSA", "RSA" }) do
      local added = "ECDHE-" .. kind .. "-AES128-GCM-SHA256"
      if not spoken[kind] then suites[#suites + 1] = added end
      if not spoken[kind] and kind == servers then
        mesh.reject(config, { "spec", "sidecar", "cipherSuites" }, "has none that the control plane speaks: sidecars keep "
          .. added .. " to speak to the control plane, not to each other")
      end
    end
  end
  return { minimum = tls.minimum, maximum = tls.control_plane_maximum, ciphers = suites, curves = curves }
end

--- What the daemon itself does: how long service certificates are valid, the size of their RSA keys (0: what the flag
--- --service-cert-key says), whether sidecars take RSA keys only, as those of Open Service Mesh were, or none of these, how
--- many proxies may be connected (0: any number), TLS towards itself, how much it logs ("": what its flag says), how
--- much a sidecar that starts now does, in Envoy's word, and whether the HTTP debug server runs.
---@param mesh mesh.Reader
---@return table  of integers service_cert_validity_s, rsa_bits, proxies_max; rsa_only, no_rsa; tls; log_level,
--- sidecar_log_level; debug_server
function M.rules.host_settings(mesh)
  local config, certificate, sidecar, observability = sections(mesh)
  local level = sidecar.logLevel or ""
  local bits = rsa_bits(mesh, config, certificate.certKeyBitSize)
  local tls = mesh.tls_parameters()
  local rsa_only, no_rsa = tls.keys == "RSA", tls.keys == "ECDSA" and tls.maximum == "TLSv1_2"
  if no_rsa and bits > 0 then
    mesh.reject(config, { "spec", "certificate", "certKeyBitSize" }, "asks for RSA keys, but no cipher of "
      .. "spec.sidecar.cipherSuites is for them: keys stay P-256")
    bits = 0
  end
  return {
    service_cert_validity_s = validity_s(mesh, config, certificate.serviceCertValidityDuration),
    rsa_bits = rsa_only and math.max(bits, LEAST_RSA_BITS) or bits,
    rsa_only = rsa_only,
    no_rsa = no_rsa,
    proxies_max = math.min(sidecar.maxDataPlaneConnections or 0, MOST_PROXIES),
    tls = mesh.control_plane_tls(),
    log_level = log_level(mesh, config, observability.osmLogLevel),
    sidecar_log_level = level == "warn" and "warning" or level ~= "" and level or "error",
    debug_server = observability.enableDebugServer == true,
  }
end

return M
