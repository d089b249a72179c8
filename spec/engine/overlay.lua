--- Directories of policies that a spec writes, to lie over the shipped ones.
---
---   local dir = overlay.of({ ["acme/retry.lua"] = [[ return { api = 1, ... } ]] })
---   after_each(overlay.clean)
local M = {}

local made = {}

local function run(command) assert(os.execute(command), command) end

---@param files table<string, string>  path below the directory -> text
---@return string dir
function M.of(files)
  local dir = os.tmpname()
  assert(os.remove(dir))
  run("mkdir -m 700 '" .. dir .. "'")
  made[#made + 1] = dir
  for path, text in pairs(files) do
    run("mkdir -p '" .. dir .. "/" .. (string.match(path, "^(.*)/") or ".") .. "'")
    local file = assert(io.open(dir .. "/" .. path, "w"))
    assert(file:write(text))
    assert(file:close())
  end
  return dir
end

--- Removes what was made.
function M.clean()
  for _, dir in ipairs(made) do run("rm -rf '" .. dir .. "'") end
  made = {}
end

return M
