--- What a mesh service is: ports, protocols, addresses.
local w1 = require("spec.policies.w1")

--- Chains that the proxies of namespace red get, in permissive mode, for a Service "s" with these ports.
local function chains(ports, address)
  local mesh = w1.world(w1.PERMISSIVE, w1.service("s", address or "10.96.2.90", "app: shop", ports))
  local found = {}
  for _, name in ipairs(mesh:chains("red/caller-1", "outbound-listener")) do
    local short = string.match(name, "^outbound_blue/s_(.*)$")
    if short then found[#found + 1] = short end
  end
  return found, mesh
end

describe("the protocol of a port (a_rte_06)", function()
  it("is its appProtocol, in any case of letters", function()
    assert.same({ "80_grpc" }, (chains("{name: tcp-x, port: 80, appProtocol: gRPC}")))
    assert.same({ "80_tcp" }, (chains("{name: http-x, port: 80, appProtocol: TCP}")))
  end)

  it("is else what its name begins with", function()
    for _, protocol in ipairs({ "tcp", "http", "grpc", "tcp-server-first" }) do
      assert.same({ "80_" .. protocol }, (chains("{name: " .. protocol .. "-x, port: 80}")))
    end
  end)

  it("is else http", function()
    assert.same({ "80_http" }, (chains("{port: 80}")))
    assert.same({ "80_http" }, (chains("{name: tcp, port: 80}")))
    assert.same({ "80_http" }, (chains('{name: x, port: 80, appProtocol: ""}')))
  end)

  it("is refused where the mesh does not carry it", function()
    local found, mesh = chains("{name: a, port: 80}, {name: b, port: 443, appProtocol: https}")
    assert.same({ "80_http" }, found)
    assert.same({ 'Service blue/s spec.ports[1].appProtocol: "https" is not carried by the mesh; '
      .. "use http, grpc, tcp or tcp-server-first" }, mesh:rejects())
  end)
end)

describe("the ports of a Service", function()
  it("are each carried (a_rte_04)", function()
    assert.same({ "80_http", "90_tcp" }, chains("{name: a, port: 80}, {name: tcp-b, port: 90}"))
  end)

  it("are left alone where they are not TCP, also beside a TCP port of that number", function()
    local found, mesh = chains("{name: dns, port: 53, protocol: UDP}, {name: tcp-dns, port: 53, protocol: TCP}")
    assert.same({ "53_tcp" }, found)
    assert.same({}, mesh:rejects())
  end)

  it("may share a target port: then they share one inbound chain and answer to both ports", function()
    local _, mesh = chains("{name: a, port: 80, targetPort: 8081}, {name: b, port: 81, targetPort: 8081}")
    assert.same({ "inbound_blue/s_8081_http", "inbound_blue/shop_8080_http" },
      mesh:chains("blue/shop-1", "inbound-listener"))
    local host = mesh:virtual_host("blue/shop-1", "rds-inbound.8081", "s")
    assert.equal(15, #host.domains)
    assert.same({ ["blue/s|8081"] = 100 }, mesh:shares("red/caller-1", "rds-outbound.80", "s"))
    assert.same({ ["blue/s|8081"] = 100 }, mesh:shares("red/caller-1", "rds-outbound.81", "s"))
    assert.same({}, mesh:errors())
  end)

  it("may not share it with two protocols: the first by name stays", function()
    local found, mesh = chains("{name: tcp-b, port: 81, targetPort: 8081}, {name: http-a, port: 80, targetPort: 8081}")
    assert.same({ "80_http" }, found)
    assert.same({ 'Service blue/s spec.ports[0].name: "tcp" cannot share target port 8081 with "http"; '
      .. "the first by name is used" }, mesh:rejects())
    assert.same({ "inbound_blue/s_8081_http", "inbound_blue/shop_8080_http" },
      mesh:chains("blue/shop-1", "inbound-listener"))
  end)

  it("are at most 1000: what is wrong with each is reported, and that has a limit", function()
    local ports = {}
    for index = 1, 1001 do ports[index] = "{port: 80}" end
    local found, mesh = chains(table.concat(ports, ", "))
    assert.same({}, found)
    assert.same({ "Service blue/s spec.ports: must have at most 1000 items" }, mesh:rejects())
    found, mesh = chains(table.concat(ports, ", ", 1, 1000))
    assert.same({ "80_http" }, found)
    assert.equal(999, #mesh:rejects())
    assert.same({}, mesh:errors())
  end)

  it("keep the inspectors off where TCP is carried (a_rte_08)", function()
    local function disabled(ports)
      local _, mesh = chains(ports)
      local filters = mesh:resource("red/caller-1", "listeners", "outbound-listener").listener_filters
      assert.equal("original_dst", filters[1].name)
      assert.is_nil(filters[1].filter_disabled)
      assert.same(filters[2].filter_disabled, filters[3].filter_disabled)
      return filters[2].filter_disabled
    end
    local function range(port) return { destination_port_range = { start = port, ["end"] = port + 1 } } end
    assert.same({ or_match = { rules = { range(3306), range(3307), range(9000) } } }, -- and the port of echo
      disabled("{name: tcp-server-first-a, port: 3306}, {name: tcp-b, port: 3307}, {name: c, port: 80}"))
    assert.same(range(9000), disabled("{name: c, port: 80}"))
  end)
end)

describe("the address of a Service", function()
  local function addresses(mesh, prefix)
    local found = {}
    for _, name in ipairs(mesh:chains("red/caller-1", "outbound-listener")) do
      if string.sub(name, 1, #prefix) == prefix then
        local match = mesh:chain("red/caller-1", "outbound-listener", name).filter_chain_match
        assert.equal(1, #match.prefix_ranges)
        found[#found + 1] = match.prefix_ranges[1].address_prefix .. "/" .. match.prefix_ranges[1].prefix_len
      end
    end
    table.sort(found)
    return found
  end

  it("is its ClusterIP", function()
    local _, mesh = chains("{port: 80}")
    assert.same({ "10.96.2.90/32" }, addresses(mesh, "outbound_blue/s_80_http"))
  end)

  it("is that of each ready pod where it is headless (a_rte_10)", function()
    local _, mesh = chains("{port: 80}", "None")
    assert.same({ "10.244.2.21/32", "10.244.2.22/32" }, addresses(mesh, "outbound_blue/s_80_http"))
    assert.same({}, mesh:rejects())
  end)

  it("is the IPv4 one of a cluster of two families, whichever is first", function()
    for first, second in pairs({ ["fd00::1"] = "10.96.2.90", ["10.96.2.90"] = "fd00::1" }) do
      local _, mesh = chains("{port: 80}", "'" .. first .. "'\n  clusterIPs: ['" .. first .. "', '" .. second .. "']")
      assert.same({ "10.96.2.90/32" }, addresses(mesh, "outbound_blue/s_80_http"))
      assert.same({}, mesh:rejects())
    end
  end)

  it("is reported where it cannot be matched", function()
    local cases = {
      ['""'] = "is absent",
      ["fd00::1"] = '"fd00::1" is not an IPv4 address',
      ["10.0.0.256"] = '"10.0.0.256" is not an IPv4 address',
    }
    for address, problem in pairs(cases) do
      local found, mesh = chains("{port: 80}", address)
      assert.same({}, found)
      assert.same({ "Service blue/s spec.clusterIP: " .. problem .. ": no client can be led to this Service" },
        mesh:rejects())
    end
  end)
end)

--- Names reach audiences, identities and hosts.
describe("the name of a Service", function()
  it("is the name of a host: any other is refused with its manifest", function()
    for _, name in ipairs({ "SHOP", "*", ".*", "None", "a.b", "a_b", "-a", "a-", "a.", string.rep("a", 64) }) do
      local alone = w1.world(w1.PERMISSIVE):everything()
      local mesh = w1.world(w1.PERMISSIVE, w1.service('"' .. name .. '"', "10.96.2.90", "app: shop", "{port: 80}"))
      assert.same({ "Service blue/" .. name .. ' metadata.name: "' .. name .. '" is not the name of a Service: small '
        .. "letters, digits and -, at most 63" }, mesh:rejects())
      assert.same({}, mesh:errors(), name)
      assert.same(alone, mesh:everything(), name)
    end
  end)

  it("may begin with a digit, and have 63 letters", function()
    for _, name in ipairs({ "9a", "a-b", string.rep("a", 63) }) do
      local mesh = w1.world(w1.PERMISSIVE, w1.service(name, "10.96.2.90", "app: shop", "{port: 80}"))
      assert.same({}, mesh:rejects())
      assert.same({}, mesh:errors())
      assert.is_not_nil(mesh:endpoints("red/caller-1", "blue/" .. name .. "|80"))
    end
  end)
end)

describe("a target port", function()
  it("is a port or the name of one; 0 and an empty name are neither", function()
    for _, target in ipairs({ "0", '""', "-1", "65536" }) do
      local found, mesh = chains("{port: 80, targetPort: " .. target .. "}")
      assert.same({}, found, target)
      assert.same({ "Service blue/s spec.ports[0].targetPort: must be a port from 1 to 65535, or the name of one" },
        mesh:rejects())
    end
  end)

  local function pod(name, port)
    return (string.gsub(w1.pod("blue", name, "named", "10.244.2.9" .. #name, "app: named"), "{name: app}",
      "{name: app, ports: [{name: web, containerPort: " .. port .. "}]}"))
  end

  it("that is one port in some pods and another in others is let in at each, and clients know it by the least", function()
    local service = w1.service("named", "10.96.2.77", "app: named", "{name: http, port: 80, targetPort: web}")
    local mesh = w1.world(w1.PERMISSIVE, service, pod("a", 8081))
    local function chains_of(proxy)
      local found = {}
      for _, chain in ipairs(mesh:chains(proxy, "inbound-listener")) do found[#found + 1] = chain end
      return table.concat(found, " ")
    end
    assert.equal("inbound_blue/named_8081_http", chains_of("blue/a"))
    mesh:apply(pod("bb", 8080))
    assert.same({}, mesh:rejects())
    assert.same({}, mesh:errors())
    for _, proxy in ipairs({ "blue/a", "blue/bb" }) do
      assert.equal("inbound_blue/named_8080_http inbound_blue/named_8081_http", chains_of(proxy))
      for _, port in ipairs({ 8080, 8081 }) do
        assert.is_not_nil(mesh:clusters(proxy)["blue/named|" .. port .. "|local"])
        assert.is_not_nil(mesh:virtual_host(proxy, "rds-inbound." .. port, "named"))
      end
    end
    assert.is_not_nil(mesh:endpoints("red/caller-1", "blue/named|8080"))
    assert.is_nil(mesh:endpoints("red/caller-1", "blue/named|8081"))
    mesh:apply(pod("a", 8080))
    assert.equal("inbound_blue/named_8080_http", chains_of("blue/a"))
  end)

  it("whose number in some pods has another protocol already is let in at the others", function()
    local service = w1.service("named", "10.96.2.77", "app: named", "{name: http-a, port: 80, targetPort: web}, "
      .. "{name: tcp-b, port: 81, targetPort: 8081}")
    local mesh = w1.world(w1.PERMISSIVE, service, pod("a", 8081), pod("bb", 8080))
    assert.same({ 'Service blue/named spec.ports[1].name: "tcp" cannot share target port 8081 with "http"; the first by '
      .. "name is used" }, mesh:rejects())
    service = w1.service("named", "10.96.2.77", "app: named", "{name: tcp-a, port: 81, targetPort: 8081}, "
      .. "{name: tcp-b, port: 82, targetPort: 8082}, {name: x, port: 80, targetPort: web, appProtocol: http}")
    mesh:apply(service)
    assert.same({ 'Service blue/named spec.ports[2].appProtocol: "http" cannot share target port 8081 with "tcp"; the '
      .. "first by name is used" }, mesh:rejects())
    assert.is_not_nil(mesh:clusters("blue/bb")["blue/named|8080|local"])
    assert.equal("10.244.2.92:8080", table.concat(mesh:endpoints("red/caller-1", "blue/named|8080"), " "))
  end)

  local function endpoints(mesh, cluster) return table.concat(mesh:endpoints("red/caller-1", cluster), " ") end

  local A, B = "10.244.2.91", "10.244.2.92" -- of pods "a" and "bb"

  it("that no pod has is reported as soon as there is a pod, and leads nowhere", function()
    local service = w1.service("named", "10.96.2.77", "app: named", "{name: x, port: 80, targetPort: '8081'}")
    local mesh = w1.world(w1.PERMISSIVE, service)
    assert.same({}, mesh:rejects())
    mesh:apply(pod("a", 8081))
    assert.same({ 'Service blue/named spec.ports[0].targetPort: no pod of the Service has a port named "8081": this port '
      .. "leads nowhere" }, mesh:rejects())
    assert.equal("", endpoints(mesh, "blue/named|0"))
    mesh:apply((string.gsub(service, "'8081'", "web")))
    assert.same({}, mesh:rejects())
    assert.equal(A .. ":8081", endpoints(mesh, "blue/named|8081"))
  end)

  it("that is a number does not lead to what another port means by a name", function()
    for _, numbers in ipairs({ { 80, 81 }, { 81, 80 } }) do
      local named, numbered = numbers[1], numbers[2]
      local mesh = w1.world(w1.PERMISSIVE, pod("a", 8081), pod("bb", 8082), w1.service("named", "10.96.2.77", "app: named",
        string.format("{name: x, port: %d, targetPort: web}, {name: y, port: %d, targetPort: 8081}", named, numbered)))
      local moved = "blue/named|8081|" .. named
      assert.same({}, mesh:errors())
      assert.same({ [moved] = 100 }, mesh:shares("red/caller-1", "rds-outbound." .. named, "named"))
      assert.same({ ["blue/named|8081"] = 100 }, mesh:shares("red/caller-1", "rds-outbound." .. numbered, "named"))
      assert.equal(A .. ":8081 " .. B .. ":8082", endpoints(mesh, moved))
      assert.equal(A .. ":8081 " .. B .. ":8081", endpoints(mesh, "blue/named|8081"))
    end
  end)

  it("that is a number leads to all pods, though only some call that port by the name that another port means", function()
    local mesh = w1.world(w1.PERMISSIVE, pod("a", 8081), w1.pod("blue", "bb", "named", B, "app: named"), w1.service("named",
      "10.96.2.77", "app: named", "{name: x, port: 80, targetPort: web}, {name: y, port: 81, targetPort: 8081}"))
    assert.equal(A .. ":8081", endpoints(mesh, "blue/named|8081|80"))
    assert.equal(A .. ":8081 " .. B .. ":8081", endpoints(mesh, "blue/named|8081"))
  end)

  it("that is a name is another cluster than another name with the same least number", function()
    local two = "{name: app, ports: [{name: web, containerPort: %d}, {name: api, containerPort: %d}]}"
    local function both(name, web, api)
      local text = w1.pod("blue", name, "named", name == "a" and A or B, "app: named")
      return (string.gsub(text, "{name: app}", (string.format(two, web, api))))
    end
    local mesh = w1.world(w1.PERMISSIVE, both("a", 8081, 8082), both("bb", 8082, 8081), w1.service("named", "10.96.2.77",
      "app: named", "{name: x, port: 80, targetPort: web}, {name: y, port: 81, targetPort: api}, "
        .. "{name: z, port: 82, targetPort: web}"))
    assert.same({ ["blue/named|8081"] = 100 }, mesh:shares("red/caller-1", "rds-outbound.80", "named"))
    assert.same({ ["blue/named|8081|81"] = 100 }, mesh:shares("red/caller-1", "rds-outbound.81", "named"))
    assert.same({ ["blue/named|8081"] = 100 }, mesh:shares("red/caller-1", "rds-outbound.82", "named"))
    assert.equal(A .. ":8081 " .. B .. ":8082", endpoints(mesh, "blue/named|8081"))
    assert.equal(A .. ":8082 " .. B .. ":8081", endpoints(mesh, "blue/named|8081|81"))
    assert.same({}, mesh:errors())
  end)

  it("is told by its own cluster also where a split sends there", function()
    local mesh = w1.world(w1.PERMISSIVE, pod("a", 8081), pod("bb", 8082), w1.service("named", "10.96.2.77", "app: named",
      "{name: x, port: 80, targetPort: web}, {name: y, port: 81, targetPort: 8081}"), [[
apiVersion: split.smi-spec.io/v1alpha2
kind: TrafficSplit
metadata: {name: s, namespace: blue}
spec: {service: shop-apex, backends: [{service: named, weight: 1}]}
]])
    assert.same({ ["blue/named|8081|80"] = 1 }, mesh:shares("red/caller-1", "rds-outbound.80", "shop-apex"))
  end)

  it("counts for nothing where there is no selector: there the endpoints say which port", function()
    for _, ports in ipairs({ "{name: x, port: 80}", "{name: x, port: 80, targetPort: 1}", "{name: x, port: 80, targetPort: web}" }) do
      local mesh = w1.world(w1.PERMISSIVE, w1.service("sl", "10.96.2.77", nil, ports))
      local none = string.find(ports, "web") and 0 or string.find(ports, "1}") and 1 or 80
      assert.equal("", endpoints(mesh, "blue/sl|" .. none))
      mesh:apply([[
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: sl-1, namespace: blue, labels: {kubernetes.io/service-name: sl}}
addressType: IPv4
ports: [{name: x, port: 8080}]
endpoints: [{addresses: [10.244.2.21]}]
]])
      assert.equal("10.244.2.21:8080", endpoints(mesh, "blue/sl|8080"))
      assert.same({ ["blue/sl|8080"] = 100 }, mesh:shares("red/caller-1", "rds-outbound.80", "sl"))
      assert.is_not_nil(mesh:virtual_host("blue/shop-1", "rds-inbound.8080", "sl"))
      mesh:delete("EndpointSlice", "blue", "sl-1")
      mesh:apply([[
apiVersion: v1
kind: Endpoints
metadata: {name: sl, namespace: blue}
subsets: [{addresses: [{ip: 10.244.2.22}], ports: [{name: x, port: 8081}]}]
]])
      assert.equal("10.244.2.22:8081", endpoints(mesh, "blue/sl|8081"))
      assert.same({}, mesh:errors())
    end
  end)

  it("is the port itself where it is absent", function()
    for _, ports in ipairs({ "{port: 80}", "{port: 80, targetPort: null}" }) do
      local _, mesh = chains(ports)
      assert.same({}, mesh:rejects())
      assert.is_not_nil(mesh:endpoints("red/caller-1", "blue/s|80"))
    end
  end)
end)

describe("a port of the sidecar itself", function()
  it("is none of a Service: the administration of a pod is its own", function()
    for _, target in ipairs({ 15000, 15001, 15003 }) do
      local alone = w1.world(w1.PERMISSIVE):everything()
      local mesh = w1.world(w1.PERMISSIVE, w1.service("adm", "10.96.2.92", "app: shop", "{port: 80, targetPort: " .. target .. "}"))
      assert.same(alone["blue/shop-1"], mesh:everything()["blue/shop-1"])
      assert.is_nil(mesh:clusters("red/caller-1")["blue/adm|" .. target])
      assert.matches("spec.ports[0].targetPort: " .. target .. " is a port of the sidecar itself", mesh:rejects()[1], 1, true)
      assert.equal(1, #mesh:rejects())
    end
  end)

  -- Clients sent their share of the requests to that pod, where nothing lets them in.
  it("that one pod has by a name is not among those that clients are led to", function()
    local function pod(name, address, port)
      return (string.gsub(w1.pod("blue", name, "adm", address, "app: adm"), "{name: app}",
        "{name: app, ports: [{name: web, containerPort: " .. port .. "}]}"))
    end
    local mesh = w1.world(w1.PERMISSIVE, pod("a", "10.244.2.91", 15000), pod("b", "10.244.2.92", 8080),
      w1.service("adm", "10.96.2.92", "app: adm", "{port: 80, targetPort: web}"))
    assert.same({ "10.244.2.92:8080" }, mesh:endpoints("red/caller-1", "blue/adm|8080"))
    assert.equal(1, #mesh:rejects())
    mesh:apply(pod("a", "10.244.2.91", 8081))
    assert.same({ "10.244.2.91:8081", "10.244.2.92:8080" }, mesh:endpoints("red/caller-1", "blue/adm|8080"))
  end)
end)

describe("the transport of a port", function()
  it("is TCP where it is absent or empty; one that is none is reported, and the other ports count", function()
    local mesh = w1.world(w1.PERMISSIVE, w1.service("mixed", "10.96.2.93", "app: shop", "{name: a, port: 80, targetPort: 8080, "
      .. 'protocol: ""}, {name: b, port: 81, targetPort: 8081, protocol: tcp}, {name: c, port: 82, protocol: SCTP}'))
    assert.same({ 'Service blue/mixed spec.ports[1].protocol: "tcp" is not TCP, UDP or SCTP: the port is not carried' },
      mesh:rejects())
    assert.same({ "10.244.2.21:8080", "10.244.2.22:8080" }, mesh:endpoints("red/caller-1", "blue/mixed|8080"))
    assert.is_nil(mesh:endpoints("red/caller-1", "blue/mixed|8081"))
  end)
end)

describe("an EndpointSlice", function()
  local function slice(name, kind, address)
    return "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: " .. name .. ", namespace: blue, labels: "
      .. "{kubernetes.io/service-name: shop}}\naddressType: " .. kind .. "\nports: [{name: http, port: 8080}]\nendpoints: "
      .. "[{addresses: ['" .. address .. "']}]\n"
  end

  it("of another family is no error: each Service of a cluster of two families has one", function()
    local mesh = w1.world(w1.PERMISSIVE, slice("six", "IPv6", "fd00::1"), slice("name", "FQDN", "shop.example.org"))
    assert.same({}, mesh:rejects())
    assert.same({ "10.244.2.21:8080", "10.244.2.22:8080" }, mesh:endpoints("red/caller-1", "blue/shop|8080"))
    mesh:apply(slice("four", "IPv4", "10.244.2.22"))
    assert.same({ "10.244.2.22:8080" }, mesh:endpoints("red/caller-1", "blue/shop|8080"))
    mesh:apply(slice("four", "IPv6", "fd00::2"))
    assert.same({ "10.244.2.21:8080", "10.244.2.22:8080" }, mesh:endpoints("red/caller-1", "blue/shop|8080"))
    mesh:apply(slice("four", "IPv5", "10.244.2.22"))
    assert.equal(1, #mesh:rejects())
  end)
end)

describe("a ClusterIP that two Services have", function()
  it("leads to the older one, or the lesser by name, and is reported on the other", function()
    local mesh = w1.world(w1.PERMISSIVE, w1.service("s1", "10.96.2.91", "app: shop", "{port: 80}"),
      w1.service("s0", "10.96.2.91", "app: shop", "{port: 80}"))
    local function led(name)
      for _, chain in ipairs(mesh:chains("red/caller-1", "outbound-listener")) do
        if chain == "outbound_blue/" .. name .. "_80_http" then return true end
      end
      return false
    end
    assert.is_true(led("s0"))
    assert.is_false(led("s1"))
    assert.same({ 'Service blue/s1 spec.clusterIP: 10.96.2.91 is the address of Service "blue/s0", which is older or '
      .. "lesser by name: no client can be led to this one" }, mesh:rejects())
    assert.same({}, mesh:errors())
  end)

  it("is not held by a name for something outside", function()
    local outside = w1.service("a0", "10.96.2.91", "app: shop", "{port: 80}") .. "  type: ExternalName\n  externalName: a.example\n"
    local mesh = w1.world(w1.PERMISSIVE, outside, w1.service("s1", "10.96.2.91", "app: shop", "{port: 80}"))
    assert.is_not_nil(mesh:chain("red/caller-1", "outbound-listener", "outbound_blue/s1_80_http"))
    assert.same({}, mesh:rejects())
  end)

  it("may be the second address of one of them", function()
    local mesh = w1.world(w1.PERMISSIVE, w1.service("s0", "10.96.2.91", "app: shop", "{port: 80}"),
      w1.service("s1", "'fd00::1'\n  clusterIPs: ['fd00::1', 10.96.2.91]", "app: shop", "{port: 80}"))
    assert.same({ 'Service blue/s1 spec.clusterIPs[1]: 10.96.2.91 is the address of Service "blue/s0", which is older or '
      .. "lesser by name: no client can be led to this one" }, mesh:rejects())
    assert.same({}, mesh:errors())
  end)

  -- Two dates that cannot be compared once failed the rule for both, and no client learned of either any more.
  it("is not lost by a Service whose date is no date", function()
    local healthy = w1.service("s1", "10.96.2.91", "app: shop", "{port: 80}")
    local expected = w1.world(w1.PERMISSIVE, healthy):chains("red/caller-1", "outbound-listener")
    for _, date in ipairs({ "true", "7", "{}", "[]" }) do
      local bad = string.gsub(w1.service("s0", "10.96.2.91", "app: shop", "{port: 80}"), "name: s0",
        "name: s0, creationTimestamp: " .. date, 1)
      local mesh = w1.world(w1.PERMISSIVE, healthy, bad)
      assert.same({ "Service blue/s0 metadata.creationTimestamp: must be a date as text" }, mesh:rejects())
      assert.same({}, mesh:errors())
      assert.same(expected, mesh:chains("red/caller-1", "outbound-listener"))
    end
  end)
end)
