--- What goes over the wire: the names that tools read, and the golden configurations of a client and a server.
local w1 = require("spec.policies.w1")

describe("a client in permissive mode (a_gld_01)", function()
  local mesh = w1.golden()

  it("has one cluster, and one chain to it in one listener", function()
    assert.same({ "httpbin/httpbin|14001" }, mesh:resources("curl/curl-1", "clusters"))
    assert.same({ "outbound-listener" }, mesh:resources("curl/curl-1", "listeners"))
    assert.same({ "outbound_httpbin/httpbin_14001_http" }, mesh:chains("curl/curl-1", "outbound-listener"))
    local chain = mesh:chain("curl/curl-1", "outbound-listener", "outbound_httpbin/httpbin_14001_http")
    assert.same({
      destination_port = 14001,
      prefix_ranges = { { address_prefix = "10.96.0.1", prefix_len = 32 } },
    }, chain.filter_chain_match)
    assert.equal(1, #chain.filters)
    assert.equal("http_connection_manager", chain.filters[1].name)
    assert.equal("rds-outbound.14001", chain.filters[1].typed_config.rds.route_config_name)
    assert.same({ { upgrade_type = "websocket" } }, chain.filters[1].typed_config.upgrade_configs)
  end)

  it("looks at the original destination, at TLS and at HTTP, in this order", function()
    local listener = mesh:resource("curl/curl-1", "listeners", "outbound-listener")
    local names = {}
    for at, filter in ipairs(listener.listener_filters) do
      names[at] = filter.name
      assert.is_nil(filter.filter_disabled)
    end
    assert.same({ "original_dst", "tls_inspector", "http_inspector" }, names)
    assert.same({ address = "0.0.0.0", port_value = 15001 }, listener.address.socket_address)
    assert.equal("OUTBOUND", listener.traffic_direction)
    assert.is_true(listener.continue_on_listener_filters_timeout)
  end)

  it("routes the eight names of a Service in another namespace to its cluster, without a timeout", function()
    assert.same({ "rds-outbound.14001" }, mesh:resources("curl/curl-1", "routes"))
    local host = mesh:virtual_host("curl/curl-1", "rds-outbound.14001", "httpbin", "httpbin")
    assert.equal("outbound_virtual-host|httpbin.httpbin.svc.cluster.local", host.name)
    local domains = {}
    for _, domain in ipairs(host.domains) do domains[domain] = true end
    local expected = {}
    for _, name in ipairs({ "httpbin.httpbin", "httpbin.httpbin.svc", "httpbin.httpbin.svc.cluster",
      "httpbin.httpbin.svc.cluster.local" }) do
      expected[name], expected[name .. ":14001"] = true, true
    end
    assert.same(expected, domains)
    assert.same({ {
      match = {
        safe_regex = { regex = ".*" },
        headers = { { name = ":method", string_match = { safe_regex = { regex = ".*" } } } },
      },
      route = {
        timeout = "0s",
        weighted_clusters = { clusters = { { name = "httpbin/httpbin|14001", weight = 100 } } },
      },
    } }, host.routes)
  end)

  it("has its own certificate and the roots for one Service", function()
    assert.same({ "root-cert-for-mtls-outbound:httpbin/httpbin" }, mesh:resources("curl/curl-1", "secrets"))
    assert.same({ "httpbin.httpbin.cluster.local" },
      mesh:sans("curl/curl-1", "root-cert-for-mtls-outbound:httpbin/httpbin"))
  end)
end)

describe("a server in permissive mode (a_gld_02)", function()
  local mesh = w1.golden()
  local chain = mesh:chain("httpbin/httpbin-1", "inbound-listener", "inbound_httpbin/httpbin_14001_http")

  it("takes in TLS of the mesh for its own name, with a client's certificate, and resumes no session", function()
    assert.same({
      destination_port = 14001,
      transport_protocol = "tls",
      application_protocols = { "osm" },
      server_names = { "httpbin.httpbin.svc.cluster.local" },
    }, chain.filter_chain_match)
    local tls = chain.transport_socket.typed_config
    assert.is_true(tls.require_client_certificate)
    assert.is_true(tls.disable_stateless_session_resumption)
    assert.is_true(tls.disable_stateful_session_resumption)
    assert.equal("TLSv1_2", tls.common_tls_context.tls_params.tls_minimum_protocol_version)
    assert.equal("TLSv1_3", tls.common_tls_context.tls_params.tls_maximum_protocol_version)
    assert.equal("service-cert", tls.common_tls_context.tls_certificate_sds_secret_configs[1].name)
    assert.equal("root-cert-for-mtls-inbound:httpbin/httpbin",
      tls.common_tls_context.validation_context_sds_secret_config.name)
  end)

  it("has no rule about who may connect", function()
    assert.equal(1, #chain.filters)
    assert.equal("http_connection_manager", chain.filters[1].name)
    assert.equal("rds-inbound.14001", chain.filters[1].typed_config.rds.route_config_name)
  end)

  it("looks at TLS, then at the original destination", function()
    local listener = mesh:resource("httpbin/httpbin-1", "listeners", "inbound-listener")
    assert.equal("tls_inspector", listener.listener_filters[1].name)
    assert.equal("original_dst", listener.listener_filters[2].name)
    assert.same({ address = "0.0.0.0", port_value = 15003 }, listener.address.socket_address)
    assert.equal("INBOUND", listener.traffic_direction)
  end)

  it("sends to its own application, and may call itself by ten names", function()
    local cluster = mesh:resource("httpbin/httpbin-1", "clusters", "httpbin/httpbin|14001|local")
    assert.equal("STRICT_DNS", cluster.type)
    assert.same({ address = "127.0.0.1", port_value = 14001 },
      cluster.load_assignment.endpoints[1].lb_endpoints[1].endpoint.address.socket_address)
    assert.same({ "outbound_httpbin/httpbin_14001_http" }, mesh:chains("httpbin/httpbin-1", "outbound-listener"))
    assert.equal(10, #mesh:virtual_host("httpbin/httpbin-1", "rds-inbound.14001", "httpbin", "httpbin").domains)
    assert.equal(10, #mesh:virtual_host("httpbin/httpbin-1", "rds-outbound.14001", "httpbin", "httpbin").domains)
  end)
end)

describe("the way to another sidecar (a_gld_03)", function()
  local cluster = w1.golden():resource("curl/curl-1", "clusters", "httpbin/httpbin|14001")

  it("is mutual TLS with the name of the Service", function()
    local tls = cluster.transport_socket.typed_config
    assert.equal("httpbin.httpbin.svc.cluster.local", tls.sni)
    assert.same({ "osm" }, tls.common_tls_context.alpn_protocols)
    assert.equal("service-cert", tls.common_tls_context.tls_certificate_sds_secret_configs[1].name)
    assert.equal("root-cert-for-mtls-outbound:httpbin/httpbin",
      tls.common_tls_context.validation_context_sds_secret_config.name)
  end)

  it("speaks the HTTP that its client spoke", function()
    local options = cluster.typed_extension_protocol_options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]
    assert.same({ http2_protocol_options = {} }, options.use_downstream_protocol_config)
  end)

  it("has no limits but counts what remains", function()
    assert.same({ {
      max_connections = 4294967295,
      max_pending_requests = 4294967295,
      max_requests = 4294967295,
      max_retries = 4294967295,
      track_remaining = true,
    } }, cluster.circuit_breakers.thresholds)
  end)

  it("gets its endpoints over ADS", function()
    assert.equal("EDS", cluster.type)
    assert.same({ ads = {}, resource_api_version = "V3" }, cluster.eds_cluster_config.eds_config)
  end)
end)

describe("a service without a pod", function()
  it("trusts nobody to answer for it", function()
    local mesh = w1.world(w1.PERMISSIVE, w1.service("void", "10.96.2.91", "app: nothing", "{port: 80}"))
    assert.same({ "nobody.invalid" }, mesh:sans("red/caller-1", "root-cert-for-mtls-outbound:blue/void"))
    assert.same({}, mesh:endpoints("red/caller-1", "blue/void|80"))
  end)
end)
