--- Services: which ports the mesh carries, by which protocol, and at which addresses they are reached.
---
--- One TCP port of a Service is one mesh port. Its protocol is what `appProtocol` says (in any case of letters), else
--- what the port's name begins with ("tcp-server-first-", "http-", "tcp-", "grpc-"), else http. UDP and SCTP ports
--- are not carried.
local id = require("mesh.id")
local list = require("mesh.list")
local object = require("kubernetes.object")
local str = require("mesh.str")

local M = { api = 1 }

--- One port of a Service.
---@class services.Port
---@field number integer     the Service's own port
---@field target integer     the port of the pods, the least where a named one is another number in some pods; 0 where it
--- is found in no pod
---@field targets integer[]  all of these numbers, ascending; { 8080 }
---@field cluster string     by which clients reach it: "namespace/service|target"
---@field protocol string    "http", "grpc", "tcp" or "tcp-server-first"

--- The ports of a Service that lead to one port of its pods: one cluster of a client, one filter chain of a server.
---@class services.Target
---@field target integer     as in services.Port
---@field protocol string    one for all of them
---@field numbers integer[]  the Service's ports, ascending
---@field cluster string?    as in services.Port; nil for a server
---@field targets integer[]?  as in services.Port; nil for a server

--- A pod of a headless Service that has a name of its own, as those of a StatefulSet have. Clients reach it by
--- "pod-0.db" in the place of a Service's name.
---@class services.Member
---@field hostname string  "pod-0"
---@field name string      "pod-0.db"
---@field address string   IPv4

local PREFIXES = { "tcp-server-first", "http", "tcp", "grpc" } -- in the order in which they are tried
-- "" is how an absent one may be written out; of these only TCP is carried
local TRANSPORTS = { [""] = "TCP", TCP = "TCP", UDP = "UDP", SCTP = "SCTP" }
local PROTOCOLS = { ["http"] = true, ["grpc"] = true, ["tcp"] = true, ["tcp-server-first"] = true }

---@param port table  element of spec.ports
---@return string protocol, string field  what it is, and the field that says so
local function protocol_of(port)
  if port.appProtocol and port.appProtocol ~= "" then return str.lower(port.appProtocol), "appProtocol" end
  for _, prefix in ipairs(PREFIXES) do
    if str.starts_with(port.name or "", prefix .. "-") then return prefix, "name" end
  end
  return "http", "name"
end

M.kinds = {
  --- A name and ports, with pods behind them.
  Service = {
    group = "",
    versions = { "v1" },
    schema = "crds/service.yaml",
    accept = function(service, reject)
      local name = service.metadata.name
      if not object.is_service(name) then
        reject({ "metadata", "name" }, object.quote(name) .. " is not the name of a Service: small letters, digits "
          .. "and -, at most 63")
      end
      if type(service.metadata.creationTimestamp or "") ~= "string" then -- it is compared with that of other Services
        reject({ "metadata", "creationTimestamp" }, "must be a date as text")
      end
      for index, port in ipairs(service.spec.ports or {}) do
        local target = port.targetPort
        if target == "" or type(target) == "number" and (target < 1 or target > 65535) then
          reject({ "spec", "ports", index, "targetPort" }, "must be a port from 1 to 65535, or the name of one")
        end
      end
    end,
  },
}

--- The IPv4 address of a Service that has one of its own. In a cluster of two families it may be the second.
---@param spec table
---@return string? address, mesh.Path? path
local function cluster_ip(spec)
  local first = spec.clusterIP or ""
  if object.is_ipv4(first) then return first, { "spec", "clusterIP" } end
  for index, address in ipairs(string.find(first, ":", 1, true) and spec.clusterIPs or {}) do
    if object.is_ipv4(address) then return address, { "spec", "clusterIPs", index } end
  end
  return nil, nil
end

M.indexes = {
  --- Services by the number of a port: who takes part in one outbound route table.
  services_at = {
    of = "Service",
    ---@param service mesh.kind.Service
    ---@return [integer][] # port
    keys = function(service)
      local numbers = list.map(service.spec.ports or {}, function(port) return port.port end)
      return list.map(list.unique(list.sorted(numbers)), function(number) return { number } end)
    end,
  },
  --- Services by ClusterIP.
  services_with_address = {
    of = "Service",
    ---@param service mesh.kind.Service
    ---@return [string][] # address
    keys = function(service)
      local address = service.spec.type ~= "ExternalName" and cluster_ip(service.spec)
      return address and { { address } } or {}
    end,
  },
}

--- Names the clusters of ports. Ports that mean the same port of the pods share one, "namespace/service|target". A number
--- means that port of each pod, a name whatever port of a pod is called so, and where nothing selects pods each port is
--- what its endpoints say. Where two that differ have one least number, as "web" may have with 8081 while it moves from
--- there to 8082, the name is that of the number; "namespace/service|8081|80" is what port 80 means.
---@param ports services.Port[]  by number; get their clusters
---@param meant table<integer, integer|string>  what each port of the Service means
---@param namespace string
---@param service string
local function name_clusters(ports, meant, namespace, service)
  local named = {} -- target -> meaning -> cluster
  local function name(port, meaning)
    local clusters, other = named[port.target] or {}, named[port.target] and port.number
    named[port.target] = clusters
    clusters[meaning] = clusters[meaning] or id.cluster(namespace, service, port.target, other)
    port.cluster = clusters[meaning]
  end
  for _, port in ipairs(ports) do
    if meant[port.number] == port.target then name(port, port.target) end
  end
  for _, port in ipairs(ports) do
    if not port.cluster then name(port, port.target > 0 and meant[port.number] or 0) end -- one for all that lead nowhere
  end
end

-- A sidecar's administration and its two listeners for the application's traffic: only the pod itself may reach them.
local SIDECAR_PORTS = { [15000] = true, [15001] = true, [15003] = true }

--- The ports of pods without those that are a sidecar's own.
---@param mesh mesh.Reader
---@param service table
---@param index integer  of the port
---@param targets integer[]
---@return integer[]?  nil: nothing is left of some
local function not_of_sidecars(mesh, service, index, targets)
  local left = list.map(targets, function(target)
    if not SIDECAR_PORTS[target] then return target end
    mesh.reject(service, { "spec", "ports", index, "targetPort" }, target .. " is a port of the sidecar itself: nobody is "
      .. "led there")
    return nil
  end)
  return (#left > 0 or #targets == 0) and left or nil
end

M.rules = {}

--- The ports that the mesh carries. Of two ports on one target port with two protocols the first by name stays: one
--- filter chain cannot speak both. A named target port may be another number in each pod, as it is while an application
--- moves from one to another.
---@param mesh mesh.Reader
---@param namespace string
---@param name string
---@return services.Port[]  by number; {} where the Service is absent or of type ExternalName
function M.rules.ports(mesh, namespace, name)
  local service = mesh.Service(namespace, name)
  if not service or service.spec.type == "ExternalName" then return {} end
  local indexes = {}
  for index in ipairs(service.spec.ports or {}) do indexes[index] = index end
  indexes = list.sorted(indexes, function(a, b)
    local first, second = service.spec.ports[a].name or "", service.spec.ports[b].name or ""
    if first ~= second then return first < second end
    return a < b
  end)
  local selects = #list.keys(service.spec.selector or {}) > 0
  local taken, spoken, meant, ports = {}, {}, {}, {}
  for _, index in ipairs(indexes) do
    local port = service.spec.ports[index]
    local transport = TRANSPORTS[port.protocol or ""]
    if not transport then
      mesh.reject(service, { "spec", "ports", index, "protocol" }, object.quote(port.protocol) .. " is not TCP, UDP or SCTP: "
        .. "the port is not carried")
    elseif transport == "TCP" then
      local protocol, field = protocol_of(port)
      local path = { "spec", "ports", index, field }
      local targets, other = not_of_sidecars(mesh, service, index, mesh.target_ports(namespace, name, port.port)), nil
      local free = list.map(targets or {}, function(target)
        if (spoken[target] or protocol) == protocol then return target end
        other = other or target
        return nil
      end)
      if not PROTOCOLS[protocol] then
        mesh.reject(service, path, object.quote(protocol) .. " is not carried by the mesh; use http, grpc, tcp or "
          .. "tcp-server-first")
      elseif taken[port.port] then
        mesh.reject(service, { "spec", "ports", index, "port" }, "is given twice; the first by name is used")
      elseif targets then
        if other then
          mesh.reject(service, path, object.quote(protocol) .. " cannot share target port " .. other .. " with "
            .. object.quote(spoken[other]) .. "; the first by name is used")
        end
        if #free > 0 or not other then
          taken[port.port] = true
          for _, target in ipairs(free) do spoken[target] = protocol end
          meant[port.port] = selects and (port.targetPort or port.port) or "port " .. port.port
          ports[#ports + 1] = { number = port.port, target = free[1] or 0, targets = free, protocol = protocol }
          if #free == 0 and #mesh.accounts_behind(namespace, name) > 0 then
            mesh.reject(service, { "spec", "ports", index, "targetPort" }, "no pod of the Service has a port named "
              .. object.quote(tostring(port.targetPort)) .. ": this port leads nowhere")
          end
        end
      end
    end
  end
  ports = list.sorted(ports, function(a, b) return a.number < b.number end)
  name_clusters(ports, meant, namespace, name)
  return ports
end

--- The same ports for who looks for one: a Service may have a thousand.
---@param mesh mesh.Reader
---@param namespace string
---@param name string
---@return table<string, services.Port>  by number, as text
function M.rules.ports_by_number(mesh, namespace, name)
  local by_number = {}
  for _, port in ipairs(mesh.ports(namespace, name)) do by_number[tostring(port.number)] = port end
  return by_number
end

---@param ports services.Port[]
---@param targets_of fun(port: services.Port): { target: integer, cluster: string?, targets: integer[]? }[]  what it leads to
---@return services.Target[]  by target and cluster
local function grouped(ports, targets_of)
  local by_key, targets = {}, {}
  for _, port in ipairs(ports) do
    for _, to in ipairs(targets_of(port)) do
      local key = to.cluster or to.target
      local target = by_key[key]
      if not target then
        target = {
          target = to.target,
          cluster = to.cluster,
          targets = to.targets,
          protocol = port.protocol,
          numbers = {},
        }
        by_key[key] = target
        targets[#targets + 1] = target
      end
      target.numbers[#target.numbers + 1] = port.number
    end
  end
  return list.sorted(targets, function(a, b)
    if a.target ~= b.target then return a.target < b.target end
    return a.numbers[1] < b.numbers[1]
  end)
end

--- The same ports as clients know them: one cluster for each, and one target, the least.
---@param mesh mesh.Reader
---@param namespace string
---@param name string
---@return services.Target[]  by target; 0 is that of ports that are found in no pod
function M.rules.targets(mesh, namespace, name)
  return grouped(mesh.ports(namespace, name), function(port) return { port } end)
end

--- The same ports as servers know them: each number that some pod listens at.
---@param mesh mesh.Reader
---@param namespace string
---@param name string
---@return services.Target[]  by target
function M.rules.pod_targets(mesh, namespace, name)
  return grouped(mesh.ports(namespace, name), function(port)
    return list.map(port.targets, function(target) return { target = target } end)
  end)
end

--- The addresses that clients connect to: the ClusterIP, or each ready endpoint of a headless Service. An API server
--- gives a ClusterIP once; in a directory, a copied manifest may bring it again: then the older Service has it.
---@param mesh mesh.Reader
---@param namespace string
---@param name string
---@return string[] # IPv4; sorted
function M.rules.reached_at(mesh, namespace, name)
  local service = mesh.Service(namespace, name)
  if not service or service.spec.type == "ExternalName" then return {} end
  local given = service.spec.clusterIP or ""
  if given == "None" then
    local addresses = {}
    for _, each in ipairs(mesh.addresses(namespace, name)) do
      local holder = mesh.services_with_address(each)[1]
      if holder then
        mesh.reject(service, { "spec", "clusterIP" }, "the address " .. each .. " of one of its pods is that of Service "
          .. object.quote(object.namespace(holder) .. "/" .. holder.metadata.name) .. ": it leads there")
      elseif object.is_ipv4(each) then
        addresses[#addresses + 1] = each
      end
    end
    return addresses
  end
  local address, path = cluster_ip(service.spec)
  if address and path then
    local holder = list.sorted(mesh.services_with_address(address), object.elder)[1]
    local held = object.namespace(holder) .. "/" .. holder.metadata.name
    if held == namespace .. "/" .. name then return { address } end
    mesh.reject(service, path, address .. " is the address of Service " .. object.quote(held)
      .. ", which is older or lesser by name: no client can be led to this one")
    return {}
  end
  local problem = given == "" and "is absent" or object.quote(given) .. " is not an IPv4 address"
  mesh.reject(service, { "spec", "clusterIP" }, problem .. ": no client can be led to this Service")
  return {}
end

--- The addresses of an account's pods at which several headless Services are reached.
---@param mesh mesh.Reader
---@param namespace string
---@param account string
---@return table<string, string[]> # address -> names; first those that have a name for the pod, of each kind the elder
function M.rules.shared_addresses(mesh, namespace, account)
  local headless, reached, shared = {}, {}, {}
  for _, name in ipairs(mesh.services_of(namespace, account)) do
    local service = mesh.Service(namespace, name)
    if service and service.spec.clusterIP == "None" then headless[#headless + 1] = service end
  end
  if #headless < 2 then return {} end -- nor asks anything that changes with each pod
  for _, service in ipairs(list.sorted(headless, object.elder)) do
    local name, own = service.metadata.name, {}
    for _, member in ipairs(mesh.named_members(namespace, name)) do own[member.address] = true end
    for _, address in ipairs(mesh.reached_at(namespace, name)) do
      local at = reached[address] or { named = {}, others = {} }
      table.insert(own[address] and at.named or at.others, name)
      reached[address] = at
    end
  end
  for address, at in pairs(reached) do
    local names = at.named
    for _, name in ipairs(at.others) do names[#names + 1] = name end
    if #names > 1 then shared[address] = names end
  end
  return shared
end

--- The headless Services that come before a headless one at its addresses: of two that have a pod and a port in common,
--- one leads those who may call both.
---@param mesh mesh.Reader
---@param namespace string
---@param name string
---@return table<string, string[]> # address -> names, sorted, at least one
function M.rules.elders_at(mesh, namespace, name)
  local elders, service = {}, mesh.Service(namespace, name)
  if not service or service.spec.clusterIP ~= "None" then return {} end
  for _, account in ipairs(mesh.accounts_behind(namespace, name)) do
    for address, names in pairs(mesh.shared_addresses(namespace, account)) do
      local before = elders[address] or {}
      for index = 1, list.contains(names, name) and #names or 0 do
        if names[index] == name then break end
        before[#before + 1] = names[index]
      end
      elders[address] = #before > 0 and before or nil
    end
  end
  for address, names in pairs(elders) do elders[address] = list.unique(list.sorted(names)) end
  return elders
end

--- The pods of a headless Service that are reached by names of their own.
---@param mesh mesh.Reader
---@param namespace string
---@param name string
---@return services.Member[]  by name, each once; {} where the Service is not headless or its pods have no host names
function M.rules.named_members(mesh, namespace, name)
  local members, taken, service = {}, {}, mesh.Service(namespace, name)
  if not service or service.spec.clusterIP ~= "None" then return {} end -- nor asks anything that changes with each pod
  for _, member in ipairs(mesh.members(namespace, name)) do
    if object.is_service(member.hostname) and object.is_ipv4(member.address) and not taken[member.hostname] then
      taken[member.hostname] = true
      members[#members + 1] = {
        hostname = member.hostname,
        name = member.hostname .. "." .. name,
        address = member.address,
      }
    end
  end
  return members
end

--- Whether any pod of a headless Service is reached by a name of its own.
---@param mesh mesh.Reader
---@param namespace string
---@param name string
---@return boolean
function M.rules.has_named_members(mesh, namespace, name)
  return #mesh.named_members(namespace, name) > 0
end

return M
