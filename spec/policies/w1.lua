--- The world that the specs of the policies start from, and questions about what its proxies are served.
---
--- Namespace red holds callers, blue Services: shop (80 to 8080, http), shop-v1 and shop-v2, shop-apex that selects
--- nothing, echo (9000, tcp). Nothing is granted.
local world = require("spec.world")

local M = {}

---@class w1.Mesh
local Mesh = {}
Mesh.__index = Mesh

local function namespace(name)
  return "apiVersion: v1\nkind: Namespace\nmetadata: {name: " .. name
    .. ", labels: {openservicemesh.io/monitored-by: osm}}\n"
end

local pods = 0

--- A ready pod with a sidecar. `labels`: as in YAML's {a: b}, may be nil.
function M.pod(ns, name, account, address, labels)
  pods = pods + 1
  return string.format([[
apiVersion: v1
kind: Pod
metadata:
  name: %s
  namespace: %s
  labels: {osm-proxy-uuid: 00000000-0000-4000-8000-%012d%s}
spec:
  serviceAccountName: %s
  containers: [{name: app}]
status: {phase: Running, podIP: %s, podIPs: [{ip: %s}], conditions: [{type: Ready, status: "True"}]}
]], name, ns, pods, labels and ", " .. labels or "", account, address, address)
end

--- A Service of namespace blue. `selector` and `ports` as in YAML; selector may be nil.
function M.service(name, address, selector, ports, ns)
  return string.format([[
apiVersion: v1
kind: Service
metadata: {name: %s, namespace: %s}
spec:
  clusterIP: %s
  selector: {%s}
  ports: [%s]
]], name, ns or "blue", address, selector or "", ports)
end

M.PERMISSIVE = [[
apiVersion: config.openservicemesh.io/v1alpha2
kind: MeshConfig
metadata: {name: osm-mesh-config, namespace: osm-system}
spec: {traffic: {enablePermissiveTrafficPolicyMode: true}}
]]

local HTTP = "{name: http, port: 80, targetPort: 8080}"

local BASE = table.concat({
  namespace("red"),
  namespace("blue"),
  M.pod("red", "caller-1", "caller", "10.244.1.11"),
  M.pod("red", "caller2-1", "caller2", "10.244.1.12"),
  M.pod("blue", "shop-1", "shop", "10.244.2.21", "app: shop"),
  M.pod("blue", "shop-2", "shop", "10.244.2.22", "app: shop"),
  M.pod("blue", "echo-1", "echo", "10.244.2.31", "app: echo"),
  M.pod("blue", "v1-1", "shop-v1", "10.244.2.41", "app: versions, version: v1"),
  M.pod("blue", "v2-1", "shop-v2", "10.244.2.42", "app: versions, version: v2"),
  M.service("shop", "10.96.2.1", "app: shop", HTTP),
  M.service("shop-v1", "10.96.2.2", "version: v1", HTTP),
  M.service("shop-v2", "10.96.2.3", "version: v2", HTTP),
  M.service("shop-apex", "10.96.2.9", nil, HTTP),
  M.service("echo", "10.96.2.5", "app: echo", "{name: e, port: 9000, appProtocol: tcp}"),
}, "---\n")

local GOLDEN = table.concat({
  namespace("curl"),
  namespace("httpbin"),
  M.pod("curl", "curl-1", "curl", "10.244.1.11"),
  M.pod("httpbin", "httpbin-1", "httpbin", "10.244.1.12", "app: httpbin"),
  M.service("httpbin", "10.96.0.1", "app: httpbin", "{name: http, port: 14001}", "httpbin"),
  M.PERMISSIVE,
}, "---\n")

---@param ... string  YAML; later documents replace earlier ones of the same name
---@return w1.Mesh
function M.world(...)
  return M.over("policies", ...)
end

--- The same by other policies: a directory, or a list of them that lie one over the other.
---@param policies string|string[]
---@param ... string
---@return w1.Mesh
function M.over(policies, ...)
  local mesh = setmetatable({ at = world.from(BASE, { policies = policies }) }, Mesh)
  for _, text in ipairs({ ... }) do mesh.at:apply(text) end
  return mesh
end

--- The permissive world of the golden configurations: curl may call httpbin:14001.
---@return w1.Mesh
function M.golden()
  return setmetatable({ at = world.from(GOLDEN) }, Mesh)
end

function Mesh:apply(text) self.at:apply(text) end

function Mesh:delete(kind, ns, name) self.at:delete(kind, ns, name) end

--- What is reported of objects: "Kind namespace/name path: reason", sorted.
function Mesh:rejects()
  local texts = {}
  for index, reject in ipairs(self.at:rejects()) do
    texts[index] = reject.object .. " " .. reject.path .. ": " .. reject.reason
  end
  table.sort(texts)
  return texts
end

--- What is reported of rules, emitters and composition.
function Mesh:errors() return self.at:errors() end

--- Names of a proxy's resources of a type ("clusters", "endpoints", "listeners", "routes", "secrets"), sorted.
function Mesh:resources(pod, type_name)
  local names = {}
  for name in pairs(self.at:proxy(pod)[type_name]) do
    if name ~= "service-cert" then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

function Mesh:resource(pod, type_name, name) return self.at:proxy(pod)[type_name][name] end

--- What a proxy is served: name -> message.
function Mesh:clusters(pod) return self.at:proxy(pod).clusters end

--- All that all proxies are served: pod -> type -> name -> message.
function Mesh:everything() return self.at:everything() end

--- A digest of the bytes that each proxy is served: pod -> text.
function Mesh:digests() return self.at:digests() end

--- Names of a listener's chains, sorted; {} where there is no such listener.
function Mesh:chains(pod, listener)
  local names = {}
  local message = self:resource(pod, "listeners", listener)
  for _, chain in ipairs(message and message.filter_chains or {}) do names[#names + 1] = chain.name end
  table.sort(names)
  return names
end

function Mesh:chain(pod, listener, name)
  local message = self:resource(pod, "listeners", listener)
  for _, chain in ipairs(message and message.filter_chains or {}) do
    if chain.name == name then return chain end
  end
  return nil
end

function Mesh:virtual_host(pod, table_name, service, ns)
  local message = self:resource(pod, "routes", table_name)
  local side = string.match(table_name, "^rds%-(%a+)%.")
  local name = side .. "_virtual-host|" .. service .. "." .. (ns or "blue") .. ".svc.cluster.local"
  for _, host in ipairs(message and message.virtual_hosts or {}) do
    if host.name == name then return host end
  end
  return nil
end

--- Cluster -> weight of a client's virtual host.
function Mesh:shares(pod, table_name, service)
  local weights = {}
  local host = self:virtual_host(pod, table_name, service)
  for _, cluster in ipairs(host and host.routes[1].route.weighted_clusters.clusters or {}) do
    weights[cluster.name] = cluster.weight or 0
  end
  return weights
end

--- "address:port" of a cluster's endpoints, sorted; nil where the proxy is not told of the cluster.
function Mesh:endpoints(pod, cluster)
  local assignment = self:resource(pod, "endpoints", cluster)
  if not assignment then return nil end
  local found = {}
  for _, locality in ipairs(assignment.endpoints or {}) do
    for _, each in ipairs(locality.lb_endpoints or {}) do
      local address = each.endpoint.address.socket_address
      found[#found + 1] = address.address .. ":" .. address.port_value
    end
  end
  table.sort(found)
  return found
end

--- The DNS names that a validation context allows.
function Mesh:sans(pod, secret)
  local names = {}
  local context = self:resource(pod, "secrets", secret).validation_context
  for index, matcher in ipairs(context.match_typed_subject_alt_names or {}) do
    assert(matcher.san_type == "DNS")
    names[index] = matcher.matcher.exact
  end
  return names
end

--- The rules of an RBAC filter, with the empty parts that its message leaves out.
function M.rules_of(filter)
  local rules = filter.typed_config.rules
  return { action = rules.action or "ALLOW", policies = rules.policies or {} }
end

local function text_of_headers(headers)
  local texts, method, path = {}, "*", ".*"
  for _, header in ipairs(headers) do
    local value = header.string_match.safe_regex.regex
    if header.name == ":method" then
      method = value == ".*" and "*" or value
    else
      texts[#texts + 1] = header.name .. "=" .. value
    end
  end
  table.sort(texts)
  return method, path, texts
end

local function text_of(method, path, headers)
  return table.concat({ method, path, table.unpack(headers) }, " ")
end

--- What the routes of a server's virtual host take, each as "METHOD path header=value ...", sorted.
function Mesh:routes(pod, table_name, service)
  local found = {}
  for _, route in ipairs(self:virtual_host(pod, table_name, service).routes or {}) do
    local method, _, headers = text_of_headers(route.match.headers)
    found[#found + 1] = text_of(method, route.match.safe_regex.regex, headers)
  end
  table.sort(found)
  return found
end

local function text_of_permission(permission)
  if permission.any then return "* .*" end
  local headers, path = {}, ".*"
  for _, rule in ipairs(permission.and_rules.rules) do
    if rule.url_path then
      path = rule.url_path.path.safe_regex.regex
    else
      headers[#headers + 1] = rule.header
    end
  end
  local method, _, others = text_of_headers(headers)
  return text_of(method, path, others)
end

--- Callers of a policy: "red/caller".
local function callers_of(policy)
  local callers = {}
  for index, principal in ipairs(policy.principals) do
    local account, ns = string.match(principal.authenticated.principal_name.exact, "^(.*)%.([^.]+)%.cluster%.local$")
    callers[index] = ns .. "/" .. account
  end
  return callers
end

--- Who may connect to a chain's port, by its network filter: caller -> true, or { ["*"] = true } without one.
local function may_connect(chain, port)
  local filter = chain.filters[1]
  if not string.find(filter.typed_config["@type"], "rbac", 1, true) then return { ["*"] = true } end
  local callers = {}
  for _, policy in pairs(M.rules_of(filter).policies) do
    for _, permission in ipairs(policy.permissions) do
      if permission.any or permission.destination_port == port then
        for _, caller in ipairs(callers_of(policy)) do callers[caller] = true end
      end
    end
  end
  return callers
end

--- Adds what a virtual host lets callers send, of those that may connect.
local function add_requests(set, host, callers, to)
  local per_host = (host.typed_per_filter_config or {})["envoy.filters.http.rbac"]
  if not per_host then
    for caller in pairs(callers) do set[caller .. to .. "* .*"] = true end
    return
  end
  for _, policy in pairs(per_host.rbac.rules.policies or {}) do
    for _, caller in ipairs(callers_of(policy)) do
      for _, permission in ipairs(callers[caller] and policy.permissions or {}) do
        set[caller .. to .. text_of_permission(permission)] = true
      end
    end
  end
end

--- What a server lets in, read from its filter chains and virtual hosts: "caller -> port METHOD path header=value ..."
--- or "caller -> port tcp", sorted. Callers that may connect but send nothing are left out.
function Mesh:allowed(pod)
  local set = {}
  local listener = self:resource(pod, "listeners", "inbound-listener")
  for _, chain in ipairs(listener and listener.filter_chains or {}) do
    local port = chain.filter_chain_match.destination_port
    local callers, to = may_connect(chain, port), " -> " .. port .. " "
    local last = chain.filters[#chain.filters].typed_config
    if last.rds then
      for _, host in ipairs(self:resource(pod, "routes", last.rds.route_config_name).virtual_hosts) do
        add_requests(set, host, callers, to)
      end
    else
      for caller in pairs(callers) do set[caller .. to .. "tcp"] = true end
    end
  end
  local found = {}
  for each in pairs(set) do found[#found + 1] = each end
  table.sort(found)
  return found
end

return M
