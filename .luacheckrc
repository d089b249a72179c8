-- Lua 5.4. A policy sees what its sandbox gives it (src/policy/sandbox*.c) and nothing else; specs run under busted.
std = "lua54"
max_line_length = 140
max_comment_line_length = false -- an annotation cannot be folded
unused_args = false -- an argument that a rule does not need is part of its signature

local function only(...)
  local fields = {}
  for _, name in ipairs({ ... }) do fields[name] = {} end
  return { fields = fields }
end

stds.policy = {
  read_globals = {
    "assert", "error", "ipairs", "pairs", "pcall", "print", "require", "select", "setmetatable", "tonumber", "tostring", "type",
    math = only("abs", "ceil", "floor", "fmod", "huge", "max", "maxinteger", "min", "mininteger", "tointeger", "type"),
    string = only("byte", "char", "find", "format", "gmatch", "gsub", "len", "lower", "match", "rep", "reverse", "sub", "upper"),
    table = only("concat", "insert", "move", "remove", "sort", "unpack"),
    utf8 = only("char", "codepoint", "len"),
  },
}

files["policies"] = { std = "policy" }
files["lua/example"] = { std = "policy" }
files["lua/example/**/*_spec.lua"] = { std = "lua54+busted" }
files["lua/init"] = { std = "policy" }
files["lua/init/.osm"] = { std = "lua54+busted", ignore = { "111", "121", "211", "212" } } -- as lua/meta
files["lua/init/**/*_spec.lua"] = { std = "lua54+busted" }
files["spec"] = { std = "+busted" }
files["lua/meta"] = { ignore = { "211", "212", "241" } } -- declarations for the editor: values that nobody uses
