--- Lists: none of these changes what it is given.
local pairs, sort, move = pairs, table.sort, table.move

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
  local result, n = {}, 0
  for i = 1, #list do
    local value = list[i]
    if n == 0 or result[n] ~= value then
      n = n + 1
      result[n] = value
    end
  end
  return result
end

--- What f makes of each value, in order.
---@param list any[]
---@param f fun(value: any, i: integer): any   nil is left out
---@return any[]
function M.map(list, f)
  local result, n = {}, 0
  for i = 1, #list do
    local value = f(list[i], i)
    if value ~= nil then
      n = n + 1
      result[n] = value
    end
  end
  return result
end

--- Whether a value is in a list.
---@param list any[]
---@param wanted any
---@return boolean
function M.contains(list, wanted)
  for i = 1, #list do
    if list[i] == wanted then
      return true
    end
  end
  return false
end

--- The keys of a table, sorted.
---@param t table
---@return any[]
function M.keys(t)
  local result, n = {}, 0
  for key in pairs(t) do
    n = n + 1
    result[n] = key
  end
  return result
end

return M
