--- Work on texts in linear time, for what patterns are too dear for.
local find, sub, byte, lower = string.find, string.sub, string.byte, string.lower

local M = {}

--- Small letters for capital ones, ASCII only.
---@param text string
---@return string
function M.lower(text)
  return lower(text)
end

--- The parts between the separators; one part, the text itself, where there is none.
---@param text string
---@param separator string   plain, not a pattern
---@return string[]
function M.split(text, separator)
  if separator == "" then
    error("mesh.str.split: the separator is empty", 2)
  end
  local parts, from = {}, 1
  while true do
    local first, last = find(text, separator, from, true)
    if not first then
      parts[#parts + 1] = sub(text, from)
      return parts
    end
    parts[#parts + 1] = sub(text, from, first - 1)
    from = last + 1
  end
end

--- Whether a text starts with another.
---@param text string
---@param start string
---@return boolean
function M.starts_with(text, start)
  return sub(text, 1, #start) == start
end

--- Whether a text ends with another.
---@param text string
---@param ending string
---@return boolean
function M.ends_with(text, ending)
  return ending == "" or (#text >= #ending and sub(text, -#ending) == ending)
end

local function is_space(code)
  return code == 32 or (code ~= nil and code >= 9 and code <= 13)
end

--- Without white space at both ends.
---@param text string
---@return string
function M.trim(text)
  local first, last = 1, #text
  while first <= last and is_space(byte(text, first)) do
    first = first + 1
  end
  while last >= first and is_space(byte(text, last)) do
    last = last - 1
  end
  return sub(text, first, last)
end

return M
