--- Services: which ports the mesh carries, by which protocol, and at which addresses they are reached.
---
--- One TCP port of a Service is one mesh port. Its protocol is what `appProtocol` says (in any case of letters), else
--- what the port's name begins with ("tcp-server-first-", "http-", "tcp-", "grpc-"), else http. UDP and SCTP ports
--- are not carried.
local list = require("mesh.list")
local object = require("kubernetes.object")
local str = require("mesh.str")

local M = { api = 1 }

--- One port of a Service.
---@class services.Port
---@field number integer     the Service's own port
---@field target integer     the port of the pods; 0 where a named one is found in no pod
---@field protocol string    "http", "grpc", "tcp" or "tcp-server-first"

--- The ports of a Service that lead to one port of its pods. They share one cluster and one inbound filter chain.
---@class services.Target
---@field target integer     as in services.Port
---@field protocol string    one for all of them
---@field numbers integer[]  the Service's ports, ascending

--- A pod of a headless Service that has a name of its own, as those of a StatefulSet have. Clients reach it by
--- "pod-0.db" in the place of a Service's name.
---@class services.Member
---@field hostname string  "pod-0"
---@field name string      "pod-0.db"
---@field address string   IPv4

local PREFIXES = { "tcp-server-first", "http", "tcp", "grpc" } -- in the order in which they are tried
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
      local address = service.spec.clusterIP or ""
      return object.is_ipv4(address) and { { address } } or {}
    end,
  },
}

M.rules = {}

--- Says so where the name of a target port means one port in some pods and another in others.
---@param mesh mesh.Reader
---@param service table
---@param index integer  of the port
local function report_ambiguous(mesh, service, index)
  local port = service.spec.ports[index]
  if type(port.targetPort) ~= "string" then return end
  local found = mesh.target_ports(object.namespace(service), service.metadata.name, port.port)
  if #found > 1 then
    mesh.reject(service, { "spec", "ports", index, "targetPort" }, object.quote(port.targetPort) .. " is port "
      .. table.concat(found, " and ", 1, 2) .. (#found > 2 and " and others" or "") .. " in different pods; the "
      .. "mesh lets requests in at " .. found[1] .. " only")
  end
end

--- The ports that the mesh carries. Of two ports on one target port with two protocols the first by name stays: one
--- filter chain cannot speak both.
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
  local taken, spoken, ports = {}, {}, {}
  for _, index in ipairs(indexes) do
    local port = service.spec.ports[index]
    if (port.protocol or "TCP") == "TCP" then
      local protocol, field = protocol_of(port)
      local path = { "spec", "ports", index, field }
      local target = mesh.target_port(namespace, name, port.port)
      if not PROTOCOLS[protocol] then
        mesh.reject(service, path, object.quote(protocol) .. " is not carried by the mesh; use http, grpc, tcp or "
          .. "tcp-server-first")
      elseif taken[port.port] then
        mesh.reject(service, { "spec", "ports", index, "port" }, "is given twice; the first by name is used")
      elseif target > 0 and (spoken[target] or protocol) ~= protocol then
        mesh.reject(service, path, object.quote(protocol) .. " cannot share target port " .. target .. " with "
          .. object.quote(spoken[target]) .. "; the first by name is used")
      else
        taken[port.port] = true
        spoken[target] = protocol
        report_ambiguous(mesh, service, index)
        ports[#ports + 1] = { number = port.port, target = target, protocol = protocol }
      end
    end
  end
  return list.sorted(ports, function(a, b) return a.number < b.number end)
end

--- The same ports, grouped by the port of the pods that they lead to.
---@param mesh mesh.Reader
---@param namespace string
---@param name string
---@return services.Target[]  by target
function M.rules.targets(mesh, namespace, name)
  local by_target, targets = {}, {}
  for _, port in ipairs(mesh.ports(namespace, name)) do
    local target = by_target[port.target]
    if not target then
      target = { target = port.target, protocol = port.protocol, numbers = {} }
      by_target[port.target] = target
      targets[#targets + 1] = target
    end
    target.numbers[#target.numbers + 1] = port.number
  end
  return list.sorted(targets, function(a, b) return a.target < b.target end)
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
  local address = service.spec.clusterIP or ""
  if address == "None" then
    local addresses = {}
    for _, each in ipairs(mesh.addresses(namespace, name)) do
      if object.is_ipv4(each) then addresses[#addresses + 1] = each end
    end
    return addresses
  end
  if object.is_ipv4(address) then
    local holder = list.sorted(mesh.services_with_address(address), object.elder)[1]
    local held = object.namespace(holder) .. "/" .. holder.metadata.name
    if held == namespace .. "/" .. name then return { address } end
    mesh.reject(service, { "spec", "clusterIP" }, address .. " is the address of Service " .. object.quote(held)
      .. ", which is older or lesser by name: no client can be led to this one")
    return {}
  end
  local problem = address == "" and "is absent" or object.quote(address) .. " is not an IPv4 address"
  mesh.reject(service, { "spec", "clusterIP" }, problem .. ": no client can be led to this Service")
  return {}
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
