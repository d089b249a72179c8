--- The world that the specs of the policies start from, and questions about what its proxies are served.
---
--- Namespace red holds callers, blue Services: shop (80 to 8080, http), shop-v1 and shop-v2 behind the Service shop-apex that
--- selects nothing, echo (9000, tcp). Nothing is granted.
local world = require("spec.world")

local M = {}
