--- Wrong on purpose: a TCPRoute that is missing limits nothing, where it should grant nothing.
local M = { api = 1 }

M.wraps = {
  tcp_ports = function(_, original, namespace, name) return original(namespace, name) or {} end,
}

return M
