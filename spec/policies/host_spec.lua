-- What the MeshConfig asks of certificates, of TLS and of the daemon.
local w1 = require("spec.policies.w1")

local function config(spec)
  return "apiVersion: config.openservicemesh.io/v1alpha2\nkind: MeshConfig\n"
    .. "metadata: {name: osm-mesh-config, namespace: osm-system}\nspec: " .. spec .. "\n"
end

local function settings(mesh)
  return mesh.at:ask("host_settings")
end

describe("what the daemon is asked for", function()
  it("is the default without a MeshConfig", function()
    local asked = settings(w1.world())
    assert.equal(86400, asked.service_cert_validity_s)
    assert.equal(0, asked.rsa_bits)
    assert.equal(0, asked.proxies_max)
    assert.equal("TLSv1_2", asked.tls.minimum)
    assert.equal("TLSv1_3", asked.tls.maximum)
  end)

  it("takes a validity as Go writes durations (a_crt_05)", function()
    local mesh = w1.world()
    for text, seconds in pairs({
      ["24h"] = 86400, ["90m"] = 5400, ["1h30m"] = 5400, ["1.5h"] = 5400, ["2m"] = 120, ["10s"] = 10, ["5000ms"] = 5, [""] = 86400,
    }) do
      mesh:apply(config('{certificate: {serviceCertValidityDuration: "' .. text .. '"}}'))
      assert.equal(seconds, settings(mesh).service_cert_validity_s, text)
      assert.same({}, mesh:rejects(), text)
    end
  end)

  it("names a validity that is none, and goes on with a day", function()
    local mesh = w1.world()
    for _, text in ipairs({ "24", "h", "1d", "-1h", "4s", "0s", "1h 2m", "1h30", "..h", "999999h", string.rep("1h", 40), "1e3h" }) do
      mesh:apply(config('{certificate: {serviceCertValidityDuration: "' .. text .. '"}}'))
      assert.equal(86400, settings(mesh).service_cert_validity_s, text)
      assert.equal(1, #mesh:rejects(), text)
      assert.matches("spec.certificate.serviceCertValidityDuration: ", mesh:rejects()[1], 1, true)
    end
  end)

  it("has RSA keys of the size that is asked for, and refuses weak ones", function()
    local mesh = w1.world()
    for bits, expected in pairs({ [2048] = 0, [3072] = 3072, [4096] = 4096 }) do
      mesh:apply(config("{certificate: {certKeyBitSize: " .. bits .. "}}"))
      assert.equal(expected, settings(mesh).rsa_bits)
      assert.same({}, mesh:rejects())
    end
    for _, bits in ipairs({ 1024, 0, -1, 8192 }) do
      mesh:apply(config("{certificate: {certKeyBitSize: " .. bits .. "}}"))
      assert.equal(0, settings(mesh).rsa_bits)
      assert.matches("spec.certificate.certKeyBitSize: ", mesh:rejects()[1], 1, true)
    end
  end)

  it("runs the debug server where it is asked for, and nowhere else", function()
    local mesh = w1.world()
    assert.is_false(settings(mesh).debug_server)
    for asked, expected in pairs({ ["true"] = true, ["false"] = false }) do
      mesh:apply(config("{observability: {enableDebugServer: " .. asked .. "}}"))
      assert.equal(expected, settings(mesh).debug_server)
      assert.same({}, mesh:rejects())
    end
  end)

  it("limits the proxies that may be connected", function()
    local mesh = w1.world()
    mesh:apply(config("{sidecar: {maxDataPlaneConnections: 7}}"))
    assert.equal(7, settings(mesh).proxies_max)
    assert.same({}, mesh:rejects())
  end)
end)

describe("TLS of the sidecars", function()
  local function parameters(mesh)
    local chain = mesh:chain("blue/shop-1", "inbound-listener", "inbound_blue/shop_8080_http")
    return chain.transport_socket.typed_config.common_tls_context.tls_params
  end

  local function with(sidecar)
    local mesh = w1.world()
    mesh:apply(config("{traffic: {enablePermissiveTrafficPolicyMode: true}, sidecar: " .. sidecar .. "}"))
    return mesh
  end

  it("has the versions, ciphers and curves of the MeshConfig (a_crt_09)", function()
    local mesh = with("{tlsMinProtocolVersion: TLSv1_2, tlsMaxProtocolVersion: TLSv1_2, "
      .. "cipherSuites: [ECDHE-ECDSA-AES128-GCM-SHA256, '[ECDHE-ECDSA-CHACHA20-POLY1305|ECDHE-ECDSA-AES256-GCM-SHA384]'], "
      .. "ecdhCurves: [X25519, P-256]}")
    assert.same({
      tls_minimum_protocol_version = "TLSv1_2",
      tls_maximum_protocol_version = "TLSv1_2",
      cipher_suites = { "ECDHE-ECDSA-AES128-GCM-SHA256", "[ECDHE-ECDSA-CHACHA20-POLY1305|ECDHE-ECDSA-AES256-GCM-SHA384]" },
      ecdh_curves = { "X25519", "P-256" },
    }, parameters(mesh))
    assert.same({}, mesh:rejects())
    local asked = settings(mesh).tls
    assert.same({ "X25519", "P-256" }, asked.curves)
  end)

  it("lets the stricter bound count where they contradict each other", function()
    local mesh = with("{tlsMinProtocolVersion: TLSv1_3, tlsMaxProtocolVersion: TLSv1_2}")
    assert.equal("TLSv1_3", parameters(mesh).tls_minimum_protocol_version)
    assert.equal("TLSv1_3", parameters(mesh).tls_maximum_protocol_version)
    assert.matches("spec.sidecar.tlsMaxProtocolVersion: ", mesh:rejects()[1], 1, true)
  end)

  it("has TLS_AUTO and the empty text for its own defaults: Envoy's clients would stop at TLS 1.2", function()
    for _, auto in ipairs({ "TLS_AUTO", "''" }) do
      local mesh = with("{tlsMinProtocolVersion: TLSv1_3, tlsMaxProtocolVersion: " .. auto .. "}")
      assert.equal("TLSv1_3", parameters(mesh).tls_minimum_protocol_version)
      assert.equal("TLSv1_3", parameters(mesh).tls_maximum_protocol_version)
      assert.same({}, mesh:rejects())
      mesh = with("{tlsMinProtocolVersion: " .. auto .. ", tlsMaxProtocolVersion: TLSv1_2}")
      assert.equal("TLSv1_2", parameters(mesh).tls_minimum_protocol_version)
      assert.same({}, mesh:rejects())
    end
  end)

  it("is TLS 1.2 at least between those that run; with less, a new one is turned away, and that is said", function()
    for _, old in ipairs({ "TLSv1_0", "TLSv1_1" }) do
      local mesh = with("{tlsMinProtocolVersion: TLSv1_0, tlsMaxProtocolVersion: " .. old .. "}")
      assert.equal("TLSv1_0", parameters(mesh).tls_minimum_protocol_version)
      assert.equal("TLSv1_2", parameters(mesh).tls_maximum_protocol_version)
      assert.equal(old, settings(mesh).tls.maximum)
      assert.equal(1, #mesh:rejects())
      assert.matches("spec.sidecar.tlsMaxProtocolVersion: " .. old .. " is less than the control plane takes", mesh:rejects()[1], 1, true)
    end
  end)

  it("has each curve once: proxies refuse a list that names one twice", function()
    local mesh = with("{ecdhCurves: [prime256v1, P-384, P-256, secp384r1], cipherSuites: [AES128-SHA, AES128-SHA]}")
    assert.same({ "prime256v1", "P-384" }, parameters(mesh).ecdh_curves)
    assert.same({ "AES128-SHA" }, parameters(mesh).cipher_suites)
    assert.same({}, mesh:rejects())
  end)

  it("keeps P-256 for the control plane, which speaks no other curve, and says so", function()
    local mesh = with("{ecdhCurves: [X25519, P-384]}")
    assert.same({ "X25519", "P-384" }, parameters(mesh).ecdh_curves)
    local asked = settings(mesh)
    assert.same({ "X25519", "P-384", "P-256" }, asked.tls.curves)
    assert.is_false(asked.rsa_only)
    assert.equal(1, #mesh:rejects())
    assert.matches("spec.sidecar.ecdhCurves: has no P-256, the one curve of the control plane", mesh:rejects()[1], 1, true)
    mesh = with("{ecdhCurves: [secp521r1, prime256v1]}")
    assert.same({ "secp521r1", "prime256v1" }, settings(mesh).tls.curves)
    assert.same({}, mesh:rejects())
  end)

  it("has RSA keys up to TLS 1.2 where a key on P-256 would be on none of the curves", function()
    local mesh = with("{ecdhCurves: [X25519], tlsMaxProtocolVersion: TLSv1_2}")
    assert.same({ "X25519" }, parameters(mesh).ecdh_curves)
    local asked = settings(mesh)
    assert.same({ true, 2048 }, { asked.rsa_only, asked.rsa_bits })
    assert.equal(1, #mesh:rejects()) -- about the control plane
  end)

  it("has P-256 where neither those curves nor those ciphers leave another key", function()
    for sidecar, reason in pairs({
      ["ecdhCurves: [P-384], cipherSuites: [ECDHE-ECDSA-AES128-GCM-SHA256]"] = "has no P-256, the curve of the keys",
      ["ecdhCurves: [X25519MLKEM768]"] = "has no curve of TLSv1_2",
    }) do
      local mesh = with("{" .. sidecar .. ", tlsMaxProtocolVersion: TLSv1_2}")
      assert.equal("P-256", parameters(mesh).ecdh_curves[2])
      assert.same({ "P-256" }, { settings(mesh).tls.curves[2] })
      assert.is_false(settings(mesh).rsa_only)
      assert.equal(1, #mesh:rejects())
      assert.matches("spec.sidecar.ecdhCurves: " .. reason, mesh:rejects()[1], 1, true)
    end
  end)

  it("keeps a cipher for the control plane, whichever key that will have, and says so where it is in use", function()
    local ECDSA, RSA = "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"
    for suites, expected in pairs({
      ["ECDHE-ECDSA-CHACHA20-POLY1305"] = { { ECDSA, RSA }, ECDSA },
      ["AES128-SHA"] = { { ECDSA, RSA }, RSA },
      ["ECDHE-RSA-AES256-GCM-SHA384"] = { { ECDSA } },
      ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"] = { { RSA } },
      ["'[ECDHE-ECDSA-AES128-SHA|ECDHE-ECDSA-AES256-GCM-SHA384]'"] = { { RSA } },
      ["ECDHE-RSA-AES128-GCM-SHA256, ECDHE-ECDSA-AES128-SHA"] = { { ECDSA }, ECDSA },
    }) do
      local mesh = with("{cipherSuites: [" .. suites .. "], tlsMaxProtocolVersion: TLSv1_2}")
      local own, kept = parameters(mesh).cipher_suites, settings(mesh).tls.ciphers
      local added = {}
      for index = #own + 1, #kept do added[#added + 1] = kept[index] end
      assert.same(expected[1], added, suites)
      assert.equal(expected[2] and 1 or 0, #mesh:rejects(), suites)
      if expected[2] then
        assert.matches("spec.sidecar.cipherSuites: has none that the control plane speaks: sidecars keep " .. expected[2],
          mesh:rejects()[1], 1, true)
      end
      mesh = with("{cipherSuites: [" .. suites .. "]}") -- TLS 1.3 has ciphers of its own
      assert.same(parameters(mesh).cipher_suites, settings(mesh).tls.ciphers)
      assert.same({}, mesh:rejects())
    end
  end)

  it("leaves out what the proxies do not know: they would refuse all that has TLS in it", function()
    local mesh = with("{cipherSuites: [AES128-GCM-SHA256, 'a b', FOO, TLS_AES_128_GCM_SHA256, '[AES128-SHA|FOO]', HIGH, '[]'], "
      .. "ecdhCurves: [P-256, P-224, secp384r1]}")
    assert.same({ "AES128-GCM-SHA256" }, parameters(mesh).cipher_suites)
    assert.same({ "P-256", "secp384r1" }, parameters(mesh).ecdh_curves)
    assert.equal(7, #mesh:rejects())
    assert.matches("spec.sidecar.cipherSuites[1]: ", mesh:rejects()[1], 1, true)
    assert.is_nil(parameters(with("{cipherSuites: [FOO]}")).cipher_suites)
  end)

  it("has RSA keys where no other key goes with its ciphers, as in Open Service Mesh", function()
    for list, expected in pairs({
      ["ECDHE-RSA-AES128-GCM-SHA256, AES128-SHA"] = { true, 2048 },
      ["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"] = { true, 2048 },
      ["ECDHE-RSA-AES128-GCM-SHA256, ECDHE-ECDSA-AES128-GCM-SHA256"] = { false, 0 },
      ["'[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-RSA-AES128-GCM-SHA256]'"] = { false, 0 },
      ["ECDHE-ECDSA-AES128-GCM-SHA256"] = { false, 0 },
      [""] = { false, 0 },
    }) do
      local asked = settings(with("{cipherSuites: [" .. list .. "]}"))
      assert.same(expected, { asked.rsa_only, asked.rsa_bits }, list)
    end
  end)

  it("has no RSA keys where no cipher goes with them", function()
    local mesh = w1.world()
    mesh:apply(config("{sidecar: {cipherSuites: [ECDHE-ECDSA-AES128-GCM-SHA256], tlsMaxProtocolVersion: TLSv1_2}, "
      .. "certificate: {certKeyBitSize: 4096}}"))
    assert.equal(0, settings(mesh).rsa_bits)
    assert.is_true(settings(mesh).no_rsa)
    assert.matches("spec.certificate.certKeyBitSize: ", mesh:rejects()[1], 1, true)
    mesh:apply(config("{sidecar: {cipherSuites: [ECDHE-ECDSA-AES128-GCM-SHA256]}, certificate: {certKeyBitSize: 4096}}"))
    assert.same({ 4096, false }, { settings(mesh).rsa_bits, settings(mesh).no_rsa }) -- TLS 1.3 goes with any key
    assert.same({}, mesh:rejects())
  end)
end)
