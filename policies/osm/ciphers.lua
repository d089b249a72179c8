--- The ciphers (up to TLS 1.2) and curves that the proxies' TLS library, BoringSSL, knows by name; found out with Envoy
--- itself, which refuses all others. Those with pre-shared keys are left out: sidecars have none.
local str = require("mesh.str")

local M = {}

local BULKS = { "AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA" }
-- The same by the names of the standards.
local STANDARD_BULKS = { "AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "AES_128_CBC_SHA", "AES_256_CBC_SHA" }
-- By each of their names: the first one, and whether TLS 1.2 has them.
local CURVES = {
  X25519 = { "X25519", true }, X25519MLKEM768 = { "X25519MLKEM768", false },
  ["P-256"] = { "P-256", true }, ["P-384"] = { "P-384", true }, ["P-521"] = { "P-521", true },
  prime256v1 = { "P-256", true }, secp384r1 = { "P-384", true }, secp521r1 = { "P-521", true },
}

-- name -> the kind of the server's key
local KEYS = { ["DES-CBC3-SHA"] = "RSA" }
for _, key in ipairs({ "ECDSA", "RSA" }) do
  for _, bulk in ipairs(BULKS) do KEYS["ECDHE-" .. key .. "-" .. bulk] = key end
  KEYS["ECDHE-" .. key .. "-CHACHA20-POLY1305"] = key
  KEYS["ECDHE-" .. key .. "-AES128-SHA256"] = key
  for _, bulk in ipairs(STANDARD_BULKS) do KEYS["TLS_ECDHE_" .. key .. "_WITH_" .. bulk] = key end
end
for _, bulk in ipairs(BULKS) do KEYS[bulk] = "RSA" end
for _, bulk in ipairs(STANDARD_BULKS) do KEYS["TLS_RSA_WITH_" .. bulk] = "RSA" end

-- Up to TLS 1.2 the control plane's TLS server, gRPC's, speaks no others.
local CONTROL_PLANE = {}
for _, key in ipairs({ "ECDSA", "RSA" }) do
  for index = 1, 2 do
    CONTROL_PLANE["ECDHE-" .. key .. "-" .. BULKS[index]] = true
    CONTROL_PLANE["TLS_ECDHE_" .. key .. "_WITH_" .. STANDARD_BULKS[index]] = true
  end
end

--- The alternatives of "[A|B]", which are as good as each other; a plain name is the only one.
---@param name string
---@return string[]
local function alternatives(name)
  local inner = string.match(name, "^%[(.+)%]$")
  return inner and str.split(inner, "|") or { name }
end

---@param name string  of a cipher, or several as "[A|B]"
---@return boolean
function M.is_known(name)
  if #name > 1024 then return false end
  for _, each in ipairs(alternatives(name)) do
    if not KEYS[each] then return false end
  end
  return true
end

---@param name string
---@return string? curve, boolean? in_tls_1_2  the curve's first name, by which it is one; nil: unknown
function M.curve(name)
  local curve = CURVES[name] or {}
  return curve[1], curve[2]
end

--- What kinds of server's keys known ciphers go with.
---@param names string[]
---@return { RSA: boolean, ECDSA: boolean }
function M.keys_of(names)
  local keys = { RSA = false, ECDSA = false }
  for _, name in ipairs(names) do
    for _, each in ipairs(alternatives(name)) do keys[KEYS[each]] = true end
  end
  return keys
end

--- The same of those among them that the control plane's TLS server speaks.
---@param names string[]
---@return { RSA: boolean, ECDSA: boolean }
function M.control_plane_keys_of(names)
  local spoken = {}
  for _, name in ipairs(names) do
    for _, each in ipairs(alternatives(name)) do
      if CONTROL_PLANE[each] then spoken[#spoken + 1] = each end
    end
  end
  return M.keys_of(spoken)
end

return M
