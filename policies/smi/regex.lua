--- Which regular expressions of manifests may reach a proxy. One that RE2 refuses would make the proxy refuse a whole
--- route table, and go on with what an earlier one granted; so it is refused here, on the object that holds it.
local object = require("kubernetes.object")
local re2 = require("mesh.regex")

local M = {}

--- Whether a proxy will accept this expression.
---@param text string
---@return boolean ok, string? problem  for a message that begins with the field's path
function M.check(text)
  local problem = re2.problem(text)
  if not problem then return true, nil end
  return false, object.quote(text) .. " is not a regular expression that the proxies accept: " .. problem
end

return M
