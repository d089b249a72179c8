--- What goes wrong on purpose, beside the shipped rules: Links lead from name to name, in circles too, and say what is
--- to fail.
local id = require("mesh.id")
local list = require("mesh.list")

local M = { api = 1 }

M.kinds = {
  ["chaos.Link"] = {
    group = "test.mesh",
    versions = { "v2", "v1" },
    from = {
      v1 = function(link)
        if link.spec.wrong == "from" then error("no way from v1") end
        link.spec.lifted = true
        return link
      end,
    },
    accept = function(link, reject)
      if link.spec.wrong == "accept" then error("accept cannot bear it") end
      if link.spec.wrong == "refused" then reject({ "spec", "wrong" }, "is refused") end
    end,
  },
}

M.indexes = {
  ["chaos.links_to"] = {
    of = "chaos.Link",
    keys = function(link)
      if link.spec.wrong == "keys" then error("no keys for it") end
      return { { link.metadata.namespace, link.spec.to } }
    end,
  },
}

M.rules = {}

--- Whom a name leads to, through all Links; a circle is an error.
M.rules["chaos.ends_of"] = function(mesh, namespace, name)
  local link = mesh.chaos.Link(namespace, name)
  if not link then return { name } end
  if link.spec.wrong == "rule" then error("a Link that no rule can bear") end
  if link.spec.wrong == "type" then return { [1] = function() end } end
  local ends = { name }
  if link.spec.depth then ends[#ends + 1] = tostring(mesh.chaos.count(namespace, name, link.spec.depth)) end
  for _, each in ipairs(mesh.chaos.ends_of(namespace, link.spec.to)) do ends[#ends + 1] = each end
  return list.unique(list.sorted(ends))
end

--- As deep as it is asked to go.
M.rules["chaos.count"] = function(mesh, namespace, name, depth)
  if depth == 0 then return mesh.chaos.Link(namespace, name) and 1 or 0 end
  return mesh.chaos.count(namespace, name, depth - 1) + 1
end

--- Who leads here; several are too many.
M.rules["chaos.only_link_to"] = function(mesh, namespace, name)
  local links = mesh.chaos.links_to(namespace, name)
  for index = 2, #links do mesh.reject(links[index], { "spec", "to" }, "another Link leads there") end
  return links[1] and links[1].metadata.name
end

--- What the shipped rules say of the name, in one text.
M.rules["chaos.summary"] = function(mesh, namespace, name)
  local parts = {}
  for _, backend in ipairs(mesh.backends(namespace, name)) do parts[#parts + 1] = backend.service .. backend.weight end
  for _, grant in ipairs(mesh.grants(namespace, name)) do parts[#parts + 1] = grant.name end
  return table.concat(parts, " ")
end

M.wraps = {
  --- Only what authorises asks for this: where it fails nothing may be let in.
  inbound_policy = function(mesh, original, namespace, account, target)
    local link = mesh.chaos.Link(namespace, account)
    if link and link.spec.wrong == "policy" then error("no policy for it") end
    return original(namespace, account, target)
  end,
}

M.extends = {
  --- Callers that a Link leads to a Service have a virtual host of their own.
  virtual_host = {
    vary = function(mesh, at)
      if at.direction ~= "outbound" then return nil end
      local variants = {}
      for _, link in ipairs(mesh.chaos.links_to(at.namespace, at.service)) do
        -- what is no name of an account would fail the emitter, which then goes on serving what a fresh engine never had
        if string.find(link.metadata.name, "^[%l%d-]+$") then
          variants[id.name(at.namespace, link.metadata.name)] = link.metadata.name
        end
      end
      return variants
    end,
    run = function(_, host, at)
      if not at.variant then return end
      host.request_headers_to_add = { { header = { key = "x-link", value = at.variant } } }
    end,
  },
  --- Fails as a part of what authorises.
  filter_chain = {
    run = function(mesh, _, at)
      if at.direction ~= "inbound" or not at.account then return end
      local link = mesh.chaos.Link(at.namespace, at.account)
      if link and link.spec.wrong == "extend" then error("no extension for it") end
    end,
  },
}

M.emit = {
  --- An error is caught here, and becomes a part of what is served; but a chain that is too deep ends this too.
  chaos_clusters = {
    each = "chaos.Link",
    run = function(mesh, out, namespace, name)
      local known, ends = pcall(mesh.chaos.ends_of, namespace, name)
      out.cluster {
        name = "chaos " .. id.name(namespace, name),
        audience = "everyone",
        message = {
          connect_timeout = "1s",
          alt_stat_name = (known and table.concat(ends, " ") or "failed") .. " " .. mesh.chaos.summary(namespace, name),
        },
      }
    end,
  },

  --- Fails as a whole: what it served last is served on.
  fragile = {
    each = "chaos.Link",
    run = function(mesh, out, namespace, name)
      local link = mesh.chaos.Link(namespace, name)
      out.cluster {
        name = "fragile " .. id.name(namespace, name),
        audience = "everyone",
        message = { connect_timeout = link.spec.wrong == "message" and 7 or "1s", alt_stat_name = link.spec.to },
      }
      if link.spec.wrong == "emit" then error("an emitter that gives up late") end
    end,
  },

  --- Authorises, so that it is withdrawn when a Link behind it fails.
  chaos_chains = {
    each = "workloads",
    run = function(mesh, out, namespace, service, account)
      local ends, by = mesh.chaos.ends_of(namespace, account), mesh.chaos.only_link_to(namespace, service)
      if by and mesh.chaos.Link(namespace, by).spec.wrong == "chain" then error("no chain for it") end
      out.filter_chain {
        listener = "inbound-listener",
        name = "chaos " .. id.name(namespace, service),
        audience = { { service = id.name(namespace, service), account = id.name(namespace, account) } },
        authorises = true,
        message = {
          filter_chain_match = { server_names = { service .. "." .. namespace .. ".chaos" } },
          filters = {
            {
              name = "tcp_proxy",
              typed_config = {
                ["@type"] = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                stat_prefix = table.concat(ends, " ") .. " " .. tostring(by),
                cluster = "chaos",
              },
            },
          },
        },
      }
    end,
  },
}

return M
