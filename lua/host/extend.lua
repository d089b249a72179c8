--- How extensions change what emitters say. Called by the host for every `out` call of a form that has extensions; no bundle can
--- require it.
---
---   item of the emitter --vary--> audience split by account --copy--> run, point by point --> one item for each variant
---
--- An emitter's message may share tables with other messages and with constants of its module, so extensions get a copy of their own.
local find, match, sub = string.find, string.match, string.sub
local concat, insert, remove = table.concat, table.insert, table.remove

local M = {}

local MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"

--- What a list of filters can do, beside being a list. Filters are known by their `name`.
local filters = {}

local function place_of(list, name)
  local names = {}
  for place, filter in ipairs(list) do
    if filter.name == name then return place end
    names[place] = '"' .. tostring(filter.name) .. '"'
  end
  local there = #names > 0 and "there are " .. concat(names, ", ") or "the list is empty"
  error('there is no filter "' .. tostring(name) .. '"; ' .. there, 3)
end

local function check_filter(filter)
  if type(filter) ~= "table" or type(filter.name) ~= "string" then error("a filter is a table with a name", 3) end
  return filter
end

function filters.insert_before(list, name, filter) insert(list, place_of(list, name), check_filter(filter)) end
function filters.insert_after(list, name, filter) insert(list, place_of(list, name) + 1, check_filter(filter)) end
function filters.insert_first(list, filter) insert(list, 1, check_filter(filter)) end
function filters.insert_last(list, filter) insert(list, check_filter(filter)) end
function filters.remove(list, name) return remove(list, place_of(list, name)) end
function filters.get(list, name) return list[place_of(list, name)] end
function filters.has(list, name)
  for _, filter in ipairs(list) do
    if filter.name == name then return true end
  end
  return false
end

local FILTERS = { __index = filters }

--- The tables in a list; what is neither list nor table is left for the encoder to complain about.
local function tables_in(list)
  local tables = {}
  for _, element in ipairs(type(list) == "table" and list or {}) do
    if type(element) == "table" then tables[#tables + 1] = element end
  end
  return tables
end

local function filters_of(message, field)
  if message[field] == nil then message[field] = {} end
  return type(message[field]) == "table" and { setmetatable(message[field], FILTERS) } or {}
end

local function managers_of(message)
  local managers = {}
  for _, filter in ipairs(tables_in(message.filters)) do
    local config = filter.typed_config
    local kind = type(config) == "table" and config["@type"]
    if type(kind) == "string" and sub(kind, -#MANAGER) == MANAGER then managers[#managers + 1] = config end
  end
  return managers
end

local function whole(message) return { message } end

--- Where each point is in the message of its form: the tables that an extension of it is run for, one by one.
local targets = {
  cluster = whole,
  listener = whole,
  listener_filters = function(message) return filters_of(message, "listener_filters") end,
  filter_chain = whole,
  network_filters = function(message) return filters_of(message, "filters") end,
  http_connection_manager = managers_of,
  http_filters = function(message)
    local lists = {}
    for _, manager in ipairs(managers_of(message)) do lists[#lists + 1] = filters_of(manager, "http_filters")[1] end
    return lists
  end,
  route_configuration = whole,
  virtual_host = whole,
  route = function(message) return tables_in(message.routes) end,
}

local function copy_of(map)
  local copy = {}
  for key, value in pairs(map) do copy[key] = value end
  return copy
end

--- What the emitter says of the item, and its names.
local function at_of(item)
  local at = copy_of(item.at or {})
  at.name, at.listener, at.route_configuration = item.name, item.listener, item.route_configuration
  return at
end

--- Answers of one `vary`, checked.
local function variants_by(extension, mesh, at)
  local answer = extension.vary(mesh, at)
  if answer == nil then return {} end
  if type(answer) ~= "table" then
    error(extension.place .. ": vary answers a table by account, got " .. type(answer), 0)
  end
  for account in pairs(answer) do
    if type(account) ~= "string" or not match(account, "^[^/]+/[^/]+$") then
      error(extension.place .. ': vary answers a table by account ("namespace/name"), got the key '
        .. (type(account) == "string" and '"' .. account .. '"' or type(account)), 0)
    end
  end
  return answer
end

--- Accounts for which every extension has the same variant share one run.
---@return table<string, table> of, table[] groups   account -> group, and the groups by their least account; a group is
---                                                  { values = { [place in extensions] = value }, audience = {} }
local function groups_of(mesh, at, extensions, digest)
  local values = {}
  for place, extension in ipairs(extensions) do
    for account, value in pairs(extension.vary and variants_by(extension, mesh, copy_of(at)) or {}) do
      values[account] = values[account] or {}
      values[account][place] = value
    end
  end
  local of, by_key, groups = {}, {}, {}
  for account, mine in pairs(values) do -- in the order of the accounts
    local key = {}
    for place, extension in ipairs(extensions) do
      key[place] = mine[place] ~= nil
          and digest(mine[place], extension.place .. ': the variant of "' .. account .. '"') or ""
    end
    local text = concat(key, " ")
    if not by_key[text] then
      by_key[text] = { values = mine, audience = {} }
      groups[#groups + 1] = by_key[text]
    end
    of[account] = by_key[text]
  end
  return of, groups
end

local function namespace_of(name) return sub(name, 1, find(name, "/", 1, true) - 1) end

--- A term that names no account goes on to reach all of its readers, and with an account added, which is more specific,
--- those of a variant.
local function narrowed(term, account)
  local namespace = namespace_of(account)
  local meets = (not term.namespace or term.namespace == namespace)
    and (not term.service or namespace_of(term.service) == namespace)
    and (not term.pod or namespace_of(term.pod) == namespace)
  return meets and { account = account, service = term.service, pod = term.pod } or nil
end

--- Gives every group its part of the audience.
---@return mesh.Audience  what is left for those without a variant
local function split(audience, of, groups)
  if #groups == 0 or type(audience) ~= "table" and audience ~= "everyone" then return audience end
  local rest = {}
  for _, term in ipairs(audience == "everyone" and { {} } or audience) do
    local group = type(term) == "table" and term.account and of[term.account]
    insert(group and group.audience or rest, term)
    for account, other in pairs(type(term) == "table" and not term.account and of or {}) do
      insert(other.audience, narrowed(term, account))
    end
  end
  return audience == "everyone" and "everyone" or rest
end

--- Runs all extensions over a copy of the message.
---@return table item   the emitter's, with message and audience of its own, and `by`: the extensions that changed it
local function extended(mesh, item, at, extensions, host, values, audience)
  local message, by = host.copy(item.message), {}
  if host.note then host.note(message) end
  for place, extension in ipairs(extensions) do
    local before = host.digest(message)
    for _, target in ipairs(targets[extension.point](message)) do
      local mine = copy_of(at)
      mine.variant = values and values[place]
      local answer = extension.run(mesh, target, mine)
      setmetatable(target, nil) -- a list of filters is a plain list again
      if answer ~= nil then error(extension.place .. ": an extension changes what it is given, and returns nothing", 0) end
    end
    if host.digest(message) ~= before then
      by[#by + 1] = extension.name
      if host.note then host.note(message, extension.name, extension.place) end
    end
  end
  local made = copy_of(item)
  made.message, made.audience, made.at = message, audience, nil
  return { item = made, by = #by > 0 and concat(by, ", ") or nil }
end

--- What becomes of one `out` call.
---@param mesh mesh.Reader
---@param item table       as the emitter said it
---@param extensions { point: string, name: string, place: string, vary: function?, run: function }[]  in the order of their runs
---@param host { copy: fun(value: table): table, digest: fun(value: any, what: string?): string, note: function? }  note: where
---                                                                                       a trace may be asked for
---@return { item: table, by: string? }[]
function M.apply(mesh, item, extensions, host)
  if type(item.message) ~= "table" then return { { item = item } } end -- the host says what is wrong with it
  local at = at_of(item)
  local of, groups = groups_of(mesh, at, extensions, host.digest)
  local rest = split(item.audience, of, groups)
  local made = {}
  if #groups == 0 or rest == "everyone" or #rest > 0 then
    made[1] = extended(mesh, item, at, extensions, host, nil, rest)
  end
  for _, group in ipairs(groups) do
    if #group.audience > 0 then
      made[#made + 1] = extended(mesh, item, at, extensions, host, group.values, group.audience)
    end
  end
  return made
end

--- The same for a listener whose outside is the answer of a rule.
---@param mesh mesh.Reader
---@param name string      of the listener
---@param tags string      joined by ","
---@param message table
---@return table message
function M.apply_header(mesh, name, tags, message, extensions, host)
  local item = { name = name, message = message, at = { tags = tags } }
  return extended(mesh, item, at_of(item), extensions, host, nil, nil).item.message
end

return M
