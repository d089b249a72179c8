--- Plain helpers over manifests.
local str = require("mesh.str")

local M = {}

--- The namespace an object lives in, as kubectl reads a manifest that names none.
---@param object table
---@return string
function M.namespace(object)
  return object.metadata.namespace or "default"
end

--- Which of two objects counts where only one can: the older (one without a date is newest), then the lesser by
--- namespace and name.
---@param a table
---@param b table
---@return boolean  a goes first
function M.elder(a, b)
  local born, other = a.metadata.creationTimestamp or "~", b.metadata.creationTimestamp or "~"
  if born ~= other then return born < other end
  local namespace, others = M.namespace(a), M.namespace(b)
  if namespace ~= others then return namespace < others end
  return a.metadata.name < b.metadata.name
end

--- Text from outside, for a message.
---@param text string
---@return string
function M.quote(text)
  if #text > 80 then text = string.sub(text, 1, 77) .. "..." end
  return '"' .. text .. '"'
end

local HYPHEN = string.byte("-")

---@param text string
---@return boolean  whether it begins and ends with a small letter or a digit, and has only these and "-" between
local function is_part(text)
  return string.find(text, "^[%l%d][%l%d%-]*$") ~= nil and string.byte(text, -1) ~= HYPHEN
end

--- Whether an object may have this name. Names reach identities and audiences, so what is none must not get there.
---@param text string
---@return boolean
function M.is_name(text)
  if #text > 253 then return false end
  if not string.find(text, ".", 1, true) then return is_part(text) end
  for _, part in ipairs(str.split(text, ".")) do
    if not is_part(part) then return false end
  end
  return true
end

--- Whether a Service may have this name: it is the first part of the name of a host.
---@param text string
---@return boolean
function M.is_service(text)
  return #text <= 63 and is_part(text)
end

--- Whether a namespace may have this name. It has no dot: account "x" in "a.b" would have the identity of "x.a" in "b".
---@param text string
---@return boolean
function M.is_namespace(text)
  return #text <= 63 and is_part(text)
end

---@param text string
---@return boolean  whether it is four numbers of 0 to 255
function M.is_ipv4(text)
  if #text > 15 then return false end
  local parts = str.split(text, ".")
  for _, part in ipairs(parts) do
    if not string.find(part, "^%d%d?%d?$") or tonumber(part) > 255 then return false end
    if #part > 1 and string.sub(part, 1, 1) == "0" then return false end
  end
  return #parts == 4
end

return M
