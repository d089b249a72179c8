--- `osm policy test` runs this in the daemon's own engine, over the shipped policies.
local world = require("spec.world")

-- A caller and a Service with one pod, where everybody may reach everything: no TrafficTarget is needed.
local OBJECTS = [[
apiVersion: config.openservicemesh.io/v1alpha2
kind: MeshConfig
metadata: {name: osm-mesh-config, namespace: osm-system}
spec: {traffic: {enablePermissiveTrafficPolicyMode: true}}
---
apiVersion: v1
kind: Pod
metadata: {name: caller-1, namespace: red, labels: {osm-proxy-uuid: 00000000-0000-4000-8000-000000000001}}
spec: {serviceAccountName: caller}
status: {podIP: 10.244.1.1, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: shop-1, namespace: blue, labels: {app: shop, osm-proxy-uuid: 00000000-0000-4000-8000-000000000002}}
spec: {serviceAccountName: shop}
status: {podIP: 10.244.1.2, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: blue}
spec: {clusterIP: 10.96.0.1, selector: {app: shop}, ports: [{port: 80, targetPort: 8080}]}
]]

describe("connect_timeout", function()
  it("is two seconds towards other pods, and Envoy's own towards the application", function()
    local mesh = world.from(OBJECTS)
    assert.same({}, mesh:errors())
    assert.equal("2s", mesh:proxy("red/caller-1").clusters["blue/shop|8080"].connect_timeout)
    assert.is_nil(mesh:proxy("blue/shop-1").clusters["blue/shop|8080|local"].connect_timeout)
  end)
end)
