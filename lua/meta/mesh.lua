---@meta
--- What a policy module sees. This file is read by editors and by people; nothing loads it. `osm policy annotations` puts behind it what
--- a bundle adds: a function of mesh.Reader for each kind, index, fact and rule, the functions of mesh.Out, the classes of objects.
---
--- A module is a file below the bundle's folder that returns a table:
---
---   local M = { api = 1 }
---   M.kinds   = { Kind = { group =, versions = {...}, schema = "crds/x.yaml", from = {...}, accept = function(object, reject) end,
---                         status = true } }
---             `from.v1(object, reject)` lifts an older version to the first of `versions`: it returns the fields, without what says who the
---             object is, and `reject(path, reason)` refuses what the newest version cannot say. A status is there only where the kind says
---             `status = true`; a new status is a change then.
---                       labels = false } }     hides metadata.labels and metadata.annotations, from everybody. They are hidden
---             for all kinds while neither word stands anywhere in the bundle: then their changes run nothing
---                       tolerant = true } }    a field that its schema refuses is reported and taken out, and the rest of the object counts;
---             its `refused` has path -> reason of each: whoever reads what protects must close it then
---   M.indexes = { name = { of = "Kind", keys = function(object) return { {k1, k2}, ... } end } }
---   M.rules   = { name = function(mesh, k1, k2, k3) return answer end }
---   M.emit    = { name = { each = "kind, index, fact or keyless rule", run = function(mesh, out, k1, k2, k3) end } }
---   M.extends = { point = { vary = function(mesh, at) return { ["namespace/account"] = variant } end, run = function(mesh, it, at) end } }
---   M.wraps   = { rule = function(mesh, original, k1, k2, k3) return answer end }
---
--- Kinds, indexes, rules and facts share one name space: a name declared twice fails the load with both places named, and so does asking
--- for one that nobody declares (at the load where it is written out as `mesh.name`, else when it is asked).
---
--- `require("smi.names")` loads another module file of the bundle (dots are folders); `require("mesh.id")` one of the trusted runtime.
--- Only tables of data and pure functions may live at module level.

--- What a module returns; `---@type mesh.Module` above it lets an editor complete and check what stands in it.
---@class mesh.Module
---@field api 1
---@field kinds? table<string, table>
---@field indexes? table<string, { of: string, keys: fun(object: table): mesh.Key[][] }>
---@field rules? table<string, fun(mesh: mesh.Reader, ...: any): mesh.Answer>
---@field emit? table<string, { each: string, run: fun(mesh: mesh.Reader, out: mesh.Out, ...: any) }>
---@field extends? mesh.Extends
---@field wraps? table<string, fun(mesh: mesh.Reader, original: (fun(...: any): any), ...: any): mesh.Answer>

--- What an extension says of itself beside `run`: names of modules, as "smi/routes".
---@class mesh.Extension
---@field after? string[]
---@field before? string[]
---@field requires? string[]
---@field vary? fun(mesh: mesh.Reader, at: mesh.At): table<string, any>

--- One to three scalars (string, integer, boolean).
---@alias mesh.Key string|integer|boolean
--- boolean, string, integer, finite float, list without holes, string-keyed map; up to 32 deep.
---@alias mesh.Answer any
--- A field path for messages: { "spec", "backends", 1, "weight" } prints as spec.backends[0].weight (Lua's indexes are from 1).
---@alias mesh.Path (string|integer)[]

--- The one way to ask: `mesh.name(key, ...)`. The host memoises each answer and records that it was read.
---
---   mesh.Service("shop", "cart")       an object: the manifest's own table, read-only; nil where absent or rejected.
---                                      Cluster-scoped kinds: mesh.Namespace("shop")
---   mesh.Service()                     the key list of a kind: { { "shop", "cart" }, ... } sorted
---   mesh.splits_of("shop", "cart")     an index: list of objects, sorted by namespace, name; {} where none
---   mesh.splits_of()                   the sorted key list of an index
---   mesh.backends("shop", "cart", 80)  a rule of any module
---   mesh.accounts_behind("shop", "cart")   a host fact
---@class mesh.Reader
local Reader = {}

--- Reports bad data that shows only between objects; what shows in one is for `accept`. It belongs to this answer.
---@param object table       as mesh gave it
---@param path mesh.Path
---@param reason string
function Reader.reject(object, path, reason) end

---@class mesh.Settings
---@field mesh_name string
---@field osm_namespace string
---@field trust_domain string

---@class mesh.Member
---@field hostname string
---@field address string

--- Who reads an item: a list of terms (fields ANDed, terms ORed), or "everyone" (all proxies of monitored namespaces).
--- account, service and pod are written "namespace/name". An empty list: nobody.
---@alias mesh.Audience "everyone"|mesh.Term[]
---@class mesh.Term
---@field pod? string
---@field service? string
---@field account? string
---@field namespace? string

--- What an emitter may say. Messages are tables with the field names of Envoy's v3 API; they are encoded at once, and an error names the
--- line of the call.
---@class mesh.Out
local Out = {}

--- The place that an extension is asked about: what the emitter says in `at`, with the names of the item.
---@class mesh.At
---@field direction? "outbound"|"inbound"
---@field namespace? string
---@field service? string
---@field account? string
---@field port? integer       of the Service
---@field target? integer     of the pods
---@field protocol? string
---@field name? string
---@field listener? string
---@field route_configuration? string
---@field variant? any        this account's, from `vary`

--- A list of filters as an extension gets it; filters are known by their `name`.
---@class mesh.Filters: table<integer, table>
local Filters = {}

--- Puts a filter before the one with this name; an error where there is none.
---@param name string
---@param filter table
function Filters:insert_before(name, filter) end

--- Puts a filter behind the one with this name; an error where there is none.
---@param name string
---@param filter table
function Filters:insert_after(name, filter) end

--- Puts a filter before all others.
---@param filter table
function Filters:insert_first(filter) end

--- Puts a filter behind all others.
---@param filter table
function Filters:insert_last(filter) end

--- Takes a filter out; an error where there is none.
---@param name string
---@return table
function Filters:remove(name) end

--- The filter with this name; an error where there is none.
---@param name string
---@return table
function Filters:get(name) end

--- Whether there is a filter with this name.
---@param name string
---@return boolean
function Filters:has(name) end

--- An object's metadata, as far as rules use it.
---@class mesh.Metadata
---@field name string
---@field namespace? string
---@field labels? table<string, string>
---@field annotations? table<string, string>
---@field creationTimestamp? string

--- The sandbox: assert error ipairs pairs(sorted by key) pcall select setmetatable(no __gc, __mode, __len) tonumber tostring(scalars) type
--- math.{abs,ceil,floor,fmod,max,min,tointeger,type,maxinteger,mininteger,huge}, string.{byte,char,find,format,gmatch,gsub,len,lower,match,rep,reverse,sub,upper},
--- table.{concat,insert,remove,sort(stable),unpack,move}, utf8.{char,codepoint,len}, print (to the log), require. Nothing else.
