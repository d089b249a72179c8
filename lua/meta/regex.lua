---@meta mesh.regex
--- Regular expressions as the proxies know them (RE2).
---@class mesh.regex
local M = {}

--- Why the proxies would refuse an expression.
---@param text string
---@return string?  nil where they accept it
function M.problem(text) end

return M
