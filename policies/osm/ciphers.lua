--- The ciphers (up to TLS 1.2) and curves that the proxies' TLS library, BoringSSL, knows by name; found out with Envoy
--- itself, which refuses all others. Those with pre-shared keys are left out: sidecars have none.
local str = require("mesh.str")

local M = {}

local BULKS = { "AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA" }
-- The same by the names of the standards.
local STANDARD_BULKS = { "AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "AES_128_CBC_SHA", "AES_256_CBC_SHA" }
local CURVES = {
  X25519 = true, ["P-256"] = true, ["P-384"] = true, ["P-521"] = true, X25519MLKEM768 = true,
  prime256v1 = true, secp384r1 = true, secp521r1 = true,
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
---@return boolean
function M.is_curve(name)
  return CURVES[name] == true
end

--- What kind of server's key a known cipher goes with.
---@param name string
---@return boolean rsa, boolean ecdsa
function M.keys_of(name)
  local rsa, ecdsa = false, false
  for _, each in ipairs(alternatives(name)) do
    rsa, ecdsa = rsa or KEYS[each] == "RSA", ecdsa or KEYS[each] == "ECDSA"
  end
  return rsa, ecdsa
end

return M
