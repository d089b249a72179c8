--- Durations as Go writes them, such as "24h" or "1h30m".
local M = {}

local UNIT_S = { h = 3600, m = 60, s = 1, ms = 1e-3, us = 1e-6, ["\u{b5}s"] = 1e-6, ns = 1e-9 }

---@param text string
---@return number?  seconds; nil where it is none
function M.seconds(text)
  if #text > 64 then return nil end
  local total, at = 0, 1
  while at <= #text do
    local first, last = string.find(text, "[%d.]+", at)
    if first ~= at then return nil end
    local number = tonumber(string.sub(text, first, last))
    local from, to = string.find(text, "[^%d.]+", last + 1)
    local unit = from == last + 1 and UNIT_S[string.sub(text, from, to)] or nil
    if not number or not unit then return nil end
    total = total + number * unit
    at = to + 1
  end
  return #text > 0 and total or nil
end

return M
