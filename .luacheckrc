-- Lua 5.4. Policies see what the sandbox gives them and nothing else; specs run under busted.
std = "lua54"
max_line_length = 140
max_comment_line_length = false -- an annotation cannot be folded
-- An unused argument of a rule or an emitter is part of its signature.
unused_args = false

stds.policy = {
  read_globals = {
    "assert", "error", "ipairs", "pairs", "pcall", "print", "rawequal", "rawlen", "require", "select", "setmetatable", "tonumber",
    "tostring", "type", "math", "string", "table", "utf8",
  },
}

files["policies"] = { std = "policy" }
files["spec"] = { std = "+busted" }
files["lua/meta"] = { ignore = { "211", "212", "241" } } -- declarations for the editor: values that nobody uses
