---@meta
--- What busted gives to specs, as far as specs of policies use it.

---@param name string
---@param block fun()
function describe(name, block) end

---@param name string
---@param block fun()
function it(name, block) end

---@param name string
---@param block? fun()
function pending(name, block) end

---@param block fun()
function before_each(block) end

---@param block fun()
function after_each(block) end

---@class spec.Assert
---@field same fun(expected: any, actual: any, message?: string)      equal in content, tables too
---@field equal fun(expected: any, actual: any, message?: string)     equal by ==
---@field is_nil fun(actual: any, message?: string)
---@field is_true fun(actual: any, message?: string)
---@field is_false fun(actual: any, message?: string)
---@field matches fun(pattern: string, actual: string, message?: string)
---@field has_error fun(block: fun(), expected?: any)
---@field [string] any
---@overload fun(value: any, message?: any, ...: any): any
assert = {}
