local world = require("spec.world")

local OBJECTS = [[
apiVersion: v1
kind: Pod
metadata: {name: buyer-1, namespace: shop, labels: {osm-proxy-uuid: 00000000-0000-4000-8000-000000000001}}
spec: {serviceAccountName: buyer}
---
apiVersion: acme.example/v1
kind: Maintenance
metadata: {name: books, namespace: shop}
spec: {host: books.example, port: 8080}
]]

describe("Maintenance", function()
  it("answers 503 for the host, with the default text", function()
    local mesh = world.from(OBJECTS)
    assert.same({}, mesh:errors())
    local hosts = mesh:proxy("shop/buyer-1").routes["rds-outbound.8080"].virtual_hosts
    assert.same({ "books.example" }, hosts[1].domains)
    assert.same({ status = 503, body = { inline_string = "closed for maintenance" } }, hosts[1].routes[1].direct_response)
  end)

  it("rejects a pattern", function()
    local mesh = world.from((string.gsub(OBJECTS, "books.example", '"*.example"')))
    assert.equal("spec.host", mesh:rejects()[1].path)
  end)
end)
