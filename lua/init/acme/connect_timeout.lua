--- A caller gives up a pod that does not answer its connection after two seconds; Envoy alone would wait for five.
---
--- This is a whole feature: one file that joins an extension point of the shipped policies by its name. Take the file out, and the
--- feature is out. `osm policy check` and `osm policy test` say what is wrong with it before a daemon sees it.
---@type mesh.Module
local M = { api = 1 }

local CONNECT_TIMEOUT = "2s"

M.extends = {
  --- `cluster` is a message of Envoy's own API (envoy.config.cluster.v3.Cluster), in the words of its manual: what is written into it is
  --- served. `at` says where it belongs: at.direction, at.namespace, at.service. `mesh` answers everything else: mesh.Service("ns", "name")
  --- is an object, mesh.callers(...) a rule; the whole list is in the policies' README.md, and in your editor.
  cluster = {
    run = function(_mesh, cluster, at)
      if at.direction == "outbound" then cluster.connect_timeout = CONNECT_TIMEOUT end
    end,
  },
}

return M
