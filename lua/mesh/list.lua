--- Lists: none of these changes what it is given.
local sort, move = table.sort, table.move

local M = {}

--- A sorted copy; the sort is stable.
---@generic T
---@param list T[]
---@param less? fun(a: T, b: T): boolean
---@return T[]
function M.sorted(list, less)
  local copy = move(list, 1, #list, 1, {})
  sort(copy, less)
  return copy
end

--- Without neighbours that are equal: of a sorted list, each value once.
---@generic T
---@param list T[]
---@return T[]
function M.unique(list)
  local result = {}
  for _, value in ipairs(list) do
    if #result == 0 or result[#result] ~= value then
      result[#result + 1] = value
    end
  end
  return result
end

--- What f makes of each value, in order.
---@param list any[]
---@param f fun(value: any, i: integer): any   nil is left out
---@return any[]
function M.map(list, f)
  local result = {}
  for i, value in ipairs(list) do
    result[#result + 1] = f(value, i)
  end
  return result
end

--- Whether a value is in a list.
---@param list any[]
---@param wanted any
---@return boolean
function M.contains(list, wanted)
  for _, value in ipairs(list) do
    if value == wanted then
      return true
    end
  end
  return false
end

--- The keys of a table, sorted.
---@param t table
---@return any[]
function M.keys(t)
  local result = {}
  for key in pairs(t) do
    result[#result + 1] = key
  end
  return result
end

return M
