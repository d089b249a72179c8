--- Which regular expressions of manifests may reach a proxy. One that RE2 refuses would make the proxy refuse a whole
--- route table, and go on with what an earlier one granted; so it is refused here, on the object that holds it.
---
--- This reads RE2's syntax and errs on the side of refusal: what is rare (octal escapes, names of scripts) is not let
--- through.
local object = require("kubernetes.object")
local str = require("mesh.str")

local M = {}

local MAX_LENGTH = 1024 -- bytes
local MAX_SIZE = 2000   -- estimated instructions of the program; our bootstrap lets a proxy accept 4096
local MAX_REPEAT = 1000 -- RE2's own limit for x{n}
local MAX_DEPTH = 100

local ESCAPES = {} -- letters after a backslash; value: instructions
for letter in string.gmatch("aftnrvx", ".") do ESCAPES[letter] = 1 end
for letter in string.gmatch("dDsSwW", ".") do ESCAPES[letter] = 12 end
for letter in string.gmatch("AbBz", ".") do ESCAPES[letter] = 1 end
local NOT_IN_CLASS = { A = true, b = true, B = true, z = true }

local POSIX = {}
local CLASSES = "alnum alpha ascii blank cntrl digit graph lower print punct space upper word xdigit"
for name in string.gmatch(CLASSES, "%a+") do
  POSIX[name] = true
end

---@class regex.State
---@field text string
---@field at integer    position of what is next
---@field depth integer open groups

local parse_alternatives

--- Reads what follows a backslash, from the character after it.
---@param state regex.State
---@param in_class boolean
---@return integer? size, string? problem
local function parse_escape(state, in_class)
  local text, at = state.text, state.at
  local letter = string.sub(text, at, at)
  if letter == "" then return nil, "ends in a backslash" end
  if string.find(letter, "%d") then return nil, "holds \\" .. letter .. ", a back-reference or octal code" end
  if letter == "p" or letter == "P" then
    local class = string.match(text, "^%^?([LMNPSZC])", at + 1)
    if not class then return nil, "holds \\" .. letter .. " without one of the classes L, M, N, P, S, Z, C" end
    if string.sub(text, at + 1, at + 1) == "^" then return nil, "holds \\" .. letter .. "^" end
    state.at = at + 2
    return 600, nil
  end
  if not string.find(letter, "[%a\128-\255]") then
    state.at = at + 1
    return 1, nil
  end
  if not ESCAPES[letter] or (in_class and NOT_IN_CLASS[letter]) then
    return nil, "holds the unknown escape \\" .. letter
  end
  state.at = at + 1
  if letter == "x" then
    local digits = string.match(text, "^%x%x", at + 1)
    if not digits then return nil, "holds \\x without two hexadecimal digits" end
    state.at = at + 3
  end
  return ESCAPES[letter], nil
end

---@param text string
---@param at integer
---@return string  the character there, in UTF-8; "" at the end
local function character(text, at)
  local first = string.byte(text, at) or 0
  local length = first >= 0xf0 and 4 or first >= 0xe0 and 3 or first >= 0xc0 and 2 or 1
  return string.sub(text, at, at + length - 1)
end

--- Reads a class, from the character after "[".
---@param state regex.State
---@return integer? size, string? problem
local function parse_class(state)
  local text, size, first = state.text, 10, true
  if string.sub(text, state.at, state.at) == "^" then state.at = state.at + 1 end
  while true do
    local this = character(text, state.at)
    if this == "" then return nil, "holds [ without ]" end
    if this == "]" and not first then
      state.at = state.at + 1
      return size, nil
    end
    first = false
    local posix = string.match(string.sub(text, state.at, state.at + 16), "^%[:%^?(%l+):%]")
    local low = this ---@type string?
    if posix and POSIX[posix] then
      state.at = string.find(text, ":]", state.at, true) + 2
      low = nil
    elseif string.find(text, "^%[:", state.at) then
      return nil, "holds [: in a class that is none of RE2's"
    elseif this == "\\" then
      local begun = state.at
      state.at = begun + 1
      local cost, problem = parse_escape(state, true)
      if not cost then return nil, problem end
      low = string.sub(text, begun + 1, begun + 1)
      if string.find(low, "%a") then low = nil end
      size = size + cost
    else
      state.at = state.at + #this
    end
    -- a range: "-" followed by anything but the end of the class
    if string.sub(text, state.at, state.at) == "-" and not string.find(text, "^%-%]", state.at) and this ~= "-" then
      local high = character(text, state.at + 1)
      if not low or high == "" or high == "[" or high == "\\" then
        return nil, "holds a range in a class that is not such as a-z"
      end
      if low > high then return nil, "holds the range " .. low .. "-" .. high .. ", which is the wrong way round" end
      state.at = state.at + 1 + #high
    end
    size = size + 4
  end
end

--- Reads a group, from the character after "(".
---@param state regex.State
---@return integer? size, string? problem
local function parse_group(state)
  local text = state.text
  local ahead = string.sub(text, state.at, state.at + 40) -- short: the patterns below cost a power of its length
  local kind = string.match(ahead, "^%?P<[%a_][%w_]*>") or string.match(ahead, "^%?[imsU]*:")
    or string.match(ahead, "^%?[imsU]*%)")
  if kind == "?)" or (not kind and str.starts_with(ahead, "?")) then
    return nil, "holds (? in a form that RE2 has not, such as a look-ahead"
  end
  state.at = state.at + #(kind or "")
  if str.ends_with(kind or "", ")") then return 0, nil end
  state.depth = state.depth + 1
  if state.depth > MAX_DEPTH then return nil, "is nested too deep" end
  local size, problem = parse_alternatives(state)
  if not size then return nil, problem end
  if string.sub(text, state.at, state.at) ~= ")" then return nil, "holds ( without )" end
  state.at = state.at + 1
  state.depth = state.depth - 1
  return size + 2, nil
end

--- Reads "*", "+", "?" or "{n,m}", if it comes next.
---@param state regex.State
---@param size integer  of what is repeated
---@return integer? size, string? problem  size nil without a problem: no repetition comes
local function parse_repeat(state, size)
  local text = state.text
  local mark = string.sub(text, state.at, state.at)
  if mark == "*" or mark == "+" or mark == "?" then
    state.at = state.at + 1
    size = size + 1
  elseif mark ~= "{" then
    return nil, nil
  else
    local low, comma, high = string.match(string.sub(text, state.at, state.at + 20), "^{(%d+)(,?)(%d*)}")
    if not low or (comma == "" and high ~= "") then return nil, nil end
    local least = #low < 5 and tonumber(low) or MAX_REPEAT + 1
    local most = comma == "" and least or high == "" and least + 1 or #high < 5 and tonumber(high) or MAX_REPEAT + 1
    if least > MAX_REPEAT or most > MAX_REPEAT + 1 or most < least then
      return nil, "holds a repetition that is not from 0 to " .. MAX_REPEAT
    end
    state.at = string.find(text, "}", state.at, true) + 1
    size = (size + 1) * math.max(math.tointeger(most), 1)
  end
  if string.sub(text, state.at, state.at) == "?" then state.at = state.at + 1 end -- as few as possible
  return size, nil
end

--- Reads up to the end of the group or text.
---@param state regex.State
---@return integer? size, string? problem
function parse_alternatives(state)
  local text, total = state.text, 1
  local may_repeat, last = false, 0
  while state.at <= #text do
    local this = character(text, state.at)
    if this == ")" then break end
    local size, problem ---@type integer?, string?
    local repeated, wrong = parse_repeat(state, last)
    if wrong then return nil, wrong end
    if repeated then
      if not may_repeat then return nil, "repeats nothing, or a repetition, with " .. object.quote(this) end
      total = total - last + repeated
      may_repeat, last = false, 0
    else
      state.at = state.at + #this
      if this == "(" then
        size, problem = parse_group(state)
      elseif this == "[" then
        size, problem = parse_class(state)
      elseif this == "\\" then
        size, problem = parse_escape(state, false)
      elseif this == "." then
        size = 10
      else
        size = #this
      end
      if not size then return nil, problem end
      may_repeat, last, total = this ~= "|" and not (this == "(" and size == 0), size, total + size
    end
    if total > MAX_SIZE then return nil, "is too large a program" end
  end
  return total, nil
end

--- Whether a proxy will accept this expression.
---@param text string
---@return boolean ok, string? problem  for a message that begins with the field's path
function M.check(text)
  if #text > MAX_LENGTH then return false, "is longer than " .. MAX_LENGTH .. " bytes" end
  if string.find(text, "\0", 1, true) or not utf8.len(text) then
    return false, "is not a regular expression: it is not plain text"
  end
  if not string.find(text, "[%^%$%*%+%?%.%(%)%[%]%{%}%|\\]") then return true, nil end -- nothing special in it
  local state = { text = text, at = 1, depth = 0 }
  local size, problem = parse_alternatives(state)
  if size and state.at <= #text then size, problem = nil, "holds ) without (" end
  if size then return true, nil end
  return false, object.quote(text) .. " is not a regular expression that RE2 accepts: it " .. problem
end

return M
