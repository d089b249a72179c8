--- A world for specs: objects as YAML, the daemon's own engine over them, questions in the words of the mesh.
---
---   local world = require("spec.world")
---   local mesh = world.from [[ ...YAML documents... ]]
---   mesh:ask("backends", "shop", "cart")             a rule, an index, an object, a fact
---   mesh:proxy("shop/cart-1").clusters["shop/cart|8080"]
---
--- The engine comes from osm_spec.so, which the build makes; it is looked for in the folder that OSM_BUILD names. `osm policy test DIR`
--- says so to busted, and lets specs anywhere find this file; in this repository it can be said by hand:
---
---   OSM_BUILD=build/dev busted --lua=/usr/bin/lua5.4 spec
---
--- Namespaces that documents mention and that are not declared are added as monitored ones, so that a spec shows only what it is
--- about. One that must not be monitored is declared without the label.
package.cpath = (os.getenv("OSM_BUILD") or "build/dev") .. "/?.so;" .. package.cpath
local osm_spec = require("osm_spec")

local M = {}

---@class spec.Mesh
local Mesh = {}
Mesh.__index = Mesh

local TYPES = { clusters = "CDS", endpoints = "EDS", listeners = "LDS", routes = "RDS", secrets = "SDS" }

--- Namespaces that the documents live in, and those that they declare. YAML is read by the engine; here a line is enough: a key
--- `namespace` directly below or within `metadata`.
local function namespaces_of(text)
  local mentioned, declared = {}, {}
  for document in string.gmatch("\n" .. text .. "\n---", "(.-)\n%-%-%-") do
    local metadata = string.match(document, "\n%s*metadata:%s*(%b{})") or string.match(document, "\n%s*metadata:%s*\n(.*)") or ""
    if string.match(document, "\n%s*kind:%s*Namespace%f[%W]") then
      local name = string.match(metadata, "%f[%w]name:%s*[\"']?([%w%-]+)")
      if name then declared[name] = true end
    else
      local name = string.match(metadata, "%f[%w]namespace:%s*[\"']?([%w%-]+)")
      if name then mentioned[name] = true end
    end
  end
  return mentioned, declared
end

local function monitored(name)
  return "apiVersion: v1\nkind: Namespace\nmetadata: {name: " .. name .. ", labels: {openservicemesh.io/monitored-by: osm}}\n"
end

--- Folders as OSM_POLICIES lists them, "shipped:mine".
local function split_paths(text)
  local dirs = {}
  for dir in string.gmatch(text, "[^:]+") do dirs[#dirs + 1] = dir end
  return dirs
end

--- The bundle is `policies`, a folder or several that lie over each other; else what OSM_POLICIES lists; else policies/.
---@param yaml string
---@param options? { policies?: string|string[], mesh_name?: string, osm_namespace?: string, trust_domain?: string }
---@return spec.Mesh
function M.from(yaml, options)
  options = options or {}
  local dirs = options.policies or split_paths(os.getenv("OSM_POLICIES") or "policies")
  local mesh = setmetatable({ engine = osm_spec.new(dirs, options), known = {} }, Mesh)
  mesh.known[options.osm_namespace or "osm-system"] = true
  mesh:apply(yaml)
  return mesh
end

--- Adds or replaces all documents of the text.
---@param yaml string
function Mesh:apply(yaml)
  local mentioned, declared = namespaces_of(yaml)
  for name in pairs(declared) do self.known[name] = true end
  for name in pairs(mentioned) do
    if not self.known[name] then
      self.known[name] = true
      self.engine:apply(monitored(name))
    end
  end
  self.engine:apply(yaml)
end

--- `namespace` is "" for a kind without one. False where there is no such object.
function Mesh:delete(kind, namespace, name) return self.engine:delete(kind, namespace, name) end

--- Asks as a rule would; an error of the rule is raised.
function Mesh:ask(name, ...) return self.engine:ask(name, ...) end

--- { { object =, path =, reason =, origin =, by = }, ... }
function Mesh:rejects() return self.engine:rejects() end

--- { { where =, message =, module =, line = }, ... }
function Mesh:errors() return self.engine:errors() end

--- What the last run cost: rules_run, cells_verified, cells, items, lua_bytes, bytes (an estimate of all), run_us; also where nothing came of it.
function Mesh:figures() return self.engine:figures() end

--- { { pod = "ns/name", account = "ns/name", uuid = }, ... }
function Mesh:proxies() return self.engine:proxies() end

--- What one proxy is served: clusters, endpoints, listeners, routes, secrets, each name -> message.
---@param pod string   "namespace/name"
function Mesh:proxy(pod)
  local served = {}
  for name, short in pairs(TYPES) do
    served[name] = self.engine:resources(pod, short) or error("there is no proxy of " .. pod, 2)
  end
  return served
end

--- A digest of the very bytes that each proxy is served, names included: pod -> text.
function Mesh:digests() return self.engine:digests() end

--- All that all proxies are served: pod -> type -> name -> message.
function Mesh:everything()
  local all = {}
  for _, proxy in ipairs(self:proxies()) do all[proxy.pod] = self:proxy(proxy.pod) end
  return all
end

return M
