#include "policy/engine_util.h"

#define UUID_A "11111111-1111-4111-8111-111111111111"
#define UUID_B "22222222-2222-4222-8222-222222222222"

#define POD(name, account, uuid, ip)                                                               \
    "---\napiVersion: v1\nkind: Pod\nmetadata: {name: " name                                       \
    ", namespace: a, labels: {app: " account ", osm-proxy-uuid: " uuid                             \
    "}}\nspec: {serviceAccountName: " account                                                      \
    ", containers: [{name: c}]}\nstatus: {phase: Running, podIP: " ip "}\n"

static const char world[] = NAMESPACE("a") POD("x-1", "x", UUID_A, "10.0.0.1")
    POD("y-1", "y", UUID_B,
        "10.0.0.2") "---\napiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: a}\n"
                    "spec: {clusterIP: 10.9.0.1, selector: {}, ports: [{port: 80}]}\n"
                    "---\napiVersion: v1\nkind: Endpoints\nmetadata: {name: s, namespace: a}\n"
                    "subsets: [{addresses: [{ip: 10.0.0.1, targetRef: {kind: Pod, name: x-1, "
                    "namespace: a}}, "
                    "{ip: 10.0.0.2, targetRef: {kind: Pod, name: y-1, namespace: a}}], ports: "
                    "[{port: 80}]}]\n";

/* An emitter with this body, once. */
static void emit(struct bench *b, const char *body)
{
    struct osm_buf text = OSM_BUF_INIT(1 << 20);
    assert_int_equal(
        osm_buf_addf(
            &text,
            "local M = { api = 1, rules = { one = function() return { 'k' } end }, emit = {} }\n"
            "local EDS = { eds_config = { ads = {}, resource_api_version = 'V3' } }\n"
            "local function cluster(name, audience, text) return { name = name, audience = "
            "audience,\n"
            "  message = { connect_timeout = '1s', alt_stat_name = text, type = 'STATIC' } } end\n"
            "M.emit.e = { each = 'one', run = function(mesh, out, key)\n%s\nend }\nreturn M\n",
            body),
        0);
    osm_engine_free(b->engine);
    osm_snapshot_unref(b->snapshot);
    b->engine = NULL;
    b->snapshot = NULL;
    bench_load_text(b, text.data);
    osm_buf_clear(&text);
    bench_put(b, world);
    assert_int_equal(osm_store_reader_restart(b->reader), 0);
    bench_run(b);
}

static const char *error_of(struct bench *b, const char *body)
{
    emit(b, body);
    return bench_entry(b->snapshot->errors, 0, "message");
}

static void test_mistakes_are_errors_of_their_line(void **state)
{
    static const struct {
        const char *body, *error;
    } cases[] = {
        {"out.cluster({ name = 'c', audience = 'everyone', message = { connect_timeout = 1 } })",
         "m.lua:6: cluster \"c\": connect_timeout: expected a duration such as \"1s\", got number"},
        {"out.cluster({ name = 'c', audience = 'everyone', message = {}, mesage = {} })",
         "m.lua:6: out.cluster: there is no field \"mesage\"; do you mean \"message\"?"},
        {"out.cluster({ name = 'x', audience = 'everyone', message = { connect_timeout = '0s' } })",
         "m.lua:6: cluster \"x\": connect_timeout: must be greater than 0s, got \"0s\""},
        {"out.virtual_host({ route_configuration = 'r', name = 'v', audience = 'everyone', message "
         "= { domains = { '*' }, routes = { {} } } })",
         "m.lua:6: virtual_host \"v\": routes[0].match: is required"},
        {"out.filter_chain({ listener = 'l', name = 'f', audience = 'everyone', message = { "
         "filters "
         "= { { name = '' } } } })",
         "m.lua:6: filter_chain \"f\": filters[0].name: must be at least 1 character long, got "
         "\"\""},
        {"out.listener({ name = 'l', audience = 'everyone', message = { address = {} } })",
         "m.lua:6: listener \"l\": address: address is required: one of \"socket_address\", "
         "\"pipe\", \"envoy_internal_address\""},
        {"out.clusters({})", "m.lua:6: there is no out.clusters; do you mean out.cluster?"},
        {"out.cluster({ audience = 'everyone', message = {} })",
         "m.lua:6: cluster \"?\": name: expected a string, got nil"},
        {"out.cluster({ name = 'c', message = {} })",
         "m.lua:6: cluster \"c\": audience: expected \"everyone\" or a list of terms such as { "
         "account = \"shop/cart\" }, got nil"},
        {"out.cluster(cluster('c', { account = 'a/b' }))",
         "m.lua:6: cluster \"c\": audience: expected a list of terms: { { account = \"shop/cart\" "
         "} }"},
        {"out.cluster(cluster('c', { {} }))", "m.lua:6: cluster \"c\": audience[1]: is empty; for "
                                              "all proxies say audience = \"everyone\""},
        {"out.cluster(cluster('c', { { account = 'b' } }))",
         "m.lua:6: cluster \"c\": audience[1].account: expected \"namespace/name\", got b"},
        {"out.cluster(cluster('c', { { namespace = 'A B' } }))",
         "m.lua:6: cluster \"c\": audience[1].namespace: expected a namespace's name"},
        {"out.cluster(cluster('c', { { pods = 'a/b' } }))",
         "m.lua:6: cluster \"c\": audience[1]: there is no field \"pods\"; there are pod, service, "
         "account and namespace"},
        {"out.cluster({ name = 'c', audience = 'everyone', message = { name = 'c' } })",
         "m.lua:6: cluster \"c\": message.name: is filled in by the host; leave it out"},
        {"out.listener({ name = 'l', audience = 'everyone', message = { filter_chains = {} } })",
         "m.lua:6: listener \"l\": message.filter_chains: is filled in by the host; leave it out"},
        {"out.listener({ name = 'l', audience = 'everyone', header_rule = 'none' })",
         "m.lua:6: listener \"l\": header_rule: there is no rule \"none\""},
        {"out.virtual_host({ route_configuration = 'r', name = 'v', audience = 'everyone', message "
         "= { domains = {} } })",
         NULL},
        {"out.load_assignment({ cluster = 'c', audience = 'everyone', service_port = { 'a', 's' }, "
         "accounts = 'any' })",
         "m.lua:6: load_assignment \"c\": service_port: expected { namespace, service, port }"},
        {"out.load_assignment({ cluster = 'c', audience = 'everyone', service_port = { 'a', 's', "
         "80 }, accounts = 'all' })",
         "m.lua:6: load_assignment \"c\": accounts: expected a list of account names or \"any\", "
         "got string"},
        {"out.load_assignment({ cluster = 'c', audience = 'everyone', service_port = { 'a', 's', "
         "80 }, accounts = 'any', targets = 80 })",
         "m.lua:6: load_assignment \"c\": targets: expected a list of ports, got number"},
        {"out.load_assignment({ cluster = 'c', audience = 'everyone', service_port = { 'a', 's', "
         "80 }, accounts = 'any', targets = { 80, 65536 } })",
         "m.lua:6: load_assignment \"c\": targets[2]: expected a port from 1 to 65535"},
        {"out.cluster = print", "m.lua:6: out is read-only"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *error = error_of(*state, cases[i].body);
        if (cases[i].error)
            assert_string_equal(error, cases[i].error);
        else
            assert_non_null(strstr(error, "domains"));
    }
}

static void test_only_an_emitter_can_say_something(void **state)
{
    struct bench *b = *state;
    bench_load_text(b, "local kept\nreturn { api = 1, rules = { one = function() return { 1 } end, "
                       "late = function() kept.cluster({}) end },\n"
                       "  emit = { e = { each = 'one', run = function(mesh, out) kept = out "
                       "mesh.late() end } } }");
    bench_run(b);
    assert_string_equal(bench_entry(b->snapshot->errors, 1, "message"),
                        "m.lua:2: out.cluster: only an emitter can say this, while it runs");
}

static void test_the_most_specific_audience_wins(void **state)
{
    struct bench *b = *state;
    emit(b, "out.cluster(cluster('c', 'everyone', 'all'))\nout.cluster(cluster('c', { { account = "
            "'a/x' } }, 'mine'))\n"
            "out.cluster(cluster('nobody', {}, 'none'))");
    assert_int_equal(json_array_size(b->snapshot->errors), 0);
    assert_non_null(strstr(bench_resource(b, UUID_A, OSM_XDS_CDS, "c"), "\"mine\""));
    assert_non_null(strstr(bench_resource(b, UUID_B, OSM_XDS_CDS, "c"), "\"all\""));
    assert_null(bench_resource(b, UUID_A, OSM_XDS_CDS, "nobody"));
}

static void test_equal_rank_with_other_bytes_is_reported(void **state)
{
    struct bench *b = *state;
    emit(b, "out.cluster(cluster('c', 'everyone', 'one'))\nout.cluster(cluster('c', 'everyone', "
            "'two'))");
    assert_int_equal(json_array_size(b->snapshot->errors), 1);
    assert_non_null(strstr(bench_resource(b, UUID_A, OSM_XDS_CDS, "c"), "\"one\""));
}

static void test_an_assignment_names_only_the_accounts_that_are_allowed(void **state)
{
    struct bench *b = *state;
    emit(b, "out.cluster({ name = 'c', audience = 'everyone', message = { type = 'EDS', "
            "connect_timeout = '1s', eds_cluster_config = EDS } })\n"
            "out.load_assignment({ cluster = 'c', audience = 'everyone', service_port = { 'a', "
            "'s', 80 }, accounts = { 'y' } })\n"
            "out.cluster({ name = 'd', audience = 'everyone', message = { type = 'EDS', "
            "connect_timeout = '1s', eds_cluster_config = EDS } })\n"
            "out.load_assignment({ cluster = 'd', audience = 'everyone', service_port = { 'a', "
            "'gone', 80 }, accounts = 'any' })");
    assert_string_equal(
        bench_resource(b, UUID_A, OSM_XDS_EDS, "c"),
        "{\"cluster_name\":\"c\",\"endpoints\":[{\"lb_endpoints\":[{\"endpoint\":{\"address\":{"
        "\"socket_address\":{"
        "\"address\":\"10.0.0.2\",\"port_value\":80}}}}],\"locality\":{\"zone\":\"local\"}}]}");
    assert_string_equal(bench_resource(b, UUID_A, OSM_XDS_EDS, "d"), "{\"cluster_name\":\"d\"}");
}

static void test_an_assignment_names_only_endpoints_at_the_targets(void **state)
{
    static const struct {
        const char *targets;
        bool served;
    } cases[] = {{"{ 81, 80, 79 }", true}, {"{ 81 }", false}, {"{}", false}, {"nil", true}};
    struct bench *b = *state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *body = osm_strf("out.cluster({ name = 'c', audience = 'everyone', message = { type = "
                              "'EDS', connect_timeout = '1s', eds_cluster_config = EDS } })\n"
                              "out.load_assignment({ cluster = 'c', audience = 'everyone', "
                              "service_port = { 'a', 's', 80 }, accounts = 'any', targets = %s })",
                              cases[i].targets);
        emit(b, body);
        osm_free(body);
        assert_int_equal(json_array_size(b->snapshot->errors), 0);
        bool found = strstr(bench_resource(b, UUID_A, OSM_XDS_EDS, "c"), "\"port_value\":80");
        assert_int_equal(found, cases[i].served);
    }
}

static void test_a_header_follows_the_tags_of_its_chains(void **state)
{
    struct bench *b = *state;
    emit(b, "local any = { name = 'x', typed_config = { ['@type'] = "
            "'envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy',\n"
            "  stat_prefix = 's', cluster = 'c' } }\n"
            "out.cluster(cluster('c', 'everyone', 'c'))\n"
            "local function chain(name, port, audience, tags) out.filter_chain({ listener = 'l', "
            "name = name, audience = audience,\n"
            "  tags = tags, message = { filter_chain_match = { destination_port = port }, filters "
            "= { any } } }) end\n"
            "chain('one', 1, 'everyone', { 'p1' }) chain('two', 2, { { account = 'a/x' } }, { "
            "'p2', 'p1' })\n"
            "out.listener({ name = 'l', audience = 'everyone', header_rule = 'header' })\nend }\n"
            "M.rules.header = function(mesh, name, tags)\n"
            "  return { stat_prefix = name .. ' ' .. tags, address = { socket_address = { address "
            "= '0.0.0.0', port_value = 1 } } } end\nlocal _ = { f = function()");
    assert_string_equal(bench_entry(b->snapshot->errors, 0, "message"), "");
    assert_non_null(
        strstr(bench_resource(b, UUID_A, OSM_XDS_LDS, "l"), "\"stat_prefix\":\"l p1,p2\""));
    assert_non_null(
        strstr(bench_resource(b, UUID_B, OSM_XDS_LDS, "l"), "\"stat_prefix\":\"l p1\""));
}

static void test_a_header_rule_that_fails_is_reported(void **state)
{
    struct bench *b = *state;
    emit(b, "out.listener({ name = 'l', audience = 'everyone', alone = true, header_rule = "
            "'header' })\nend }\n"
            "M.rules.header = function(mesh, name, tags) return { stat_prefx = 'x' } end\nlocal _ "
            "= { f = function()");
    assert_int_equal(json_array_size(b->snapshot->errors), 1);
    assert_string_equal(bench_entry(b->snapshot->errors, 0, "where"), "rule header(l, )");
    assert_non_null(strstr(bench_entry(b->snapshot->errors, 0, "message"), "stat_prefx"));
    assert_null(bench_resource(b, UUID_A, OSM_XDS_LDS, "l"));
}

static void test_chains_with_one_match_are_reported(void **state)
{
    struct bench *b = *state;
    emit(b,
         "local any = { name = 'x', typed_config = { ['@type'] = "
         "'envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy',\n"
         "  stat_prefix = 's', cluster = 'c' } }\nout.cluster(cluster('c', 'everyone', 'c'))\n"
         "for _, name in ipairs({ 'b', 'a' }) do out.filter_chain({ listener = 'l', name = name, "
         "audience = 'everyone',\n"
         "  message = { filter_chain_match = { destination_port = 1 }, filters = { any } } }) end\n"
         "out.listener({ name = 'l', audience = 'everyone', message = { address = { socket_address "
         "= { address = '0.0.0.0', port_value = 1 } } } })");
    assert_int_equal(json_array_size(b->snapshot->errors), 1);
    assert_non_null(bench_resource(b, UUID_A, OSM_XDS_LDS, "l"));
}

static void test_a_list_of_keys_that_is_none_withdraws_what_grants(void **state)
{
    struct bench *b = *state;
    bench_load_text(b, "local M = { api = 1, kinds = { Cfg = { group = 'test.mesh', versions = { "
                       "'v1' } } }, rules = {}, emit = {} }\n"
                       "function M.rules.keys(mesh) local c = mesh.Cfg('a', 'x') return c and "
                       "c.spec.keys or { 'k' } end\n"
                       "M.emit.e = { each = 'keys', run = function(mesh, out, k)\n"
                       "  out.route_configuration({ name = 'r', audience = 'everyone', alone = "
                       "true, message = {} })\n"
                       "  for _, grants in ipairs({ true, false }) do\n"
                       "    local name = grants and 'grants' or 'plain'\n"
                       "    out.virtual_host({ route_configuration = 'r', name = name, audience = "
                       "'everyone', authorises = grants,\n"
                       "      message = { domains = { name } } }) end end }\nreturn M");
    bench_apply(b, world);
    assert_non_null(strstr(bench_resource(b, UUID_A, OSM_XDS_RDS, "r"), "grants"));
    static const char *const bad[] = {"7", "[[]]", "[k, k]", "[1.5]", "[[a, b, c, d]]"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char yaml[256];
        (void)snprintf(yaml, sizeof yaml,
                       "apiVersion: test.mesh/v1\nkind: Cfg\nmetadata: {name: x, namespace: "
                       "a}\nspec: {keys: %s}\n",
                       bad[i]);
        bench_apply(b, yaml);
        assert_int_equal(json_array_size(b->snapshot->errors), 1);
        assert_string_equal(bench_entry(b->snapshot->errors, 0, "where"), "m.e");
        assert_null(strstr(bench_resource(b, UUID_A, OSM_XDS_RDS, "r"), "grants"));
        assert_non_null(strstr(bench_resource(b, UUID_A, OSM_XDS_RDS, "r"), "plain"));
    }
    bench_delete(b, "test.mesh/Cfg/a/x");
    assert_int_equal(json_array_size(b->snapshot->errors), 0);
    assert_non_null(strstr(bench_resource(b, UUID_A, OSM_XDS_RDS, "r"), "grants"));
}

/* "a,b" and { "a", "b" }, 1 and "1" are different keys; their items must not replace each other. */
static void test_keys_that_read_alike_have_items_of_their_own(void **state)
{
    struct bench *b = *state;
    bench_load_text(b, "local M = { api = 1, rules = {}, emit = {} }\n"
                       "function M.rules.keys() return { 1, '1', true, 'true', 'a,b', { 'a', 'b' "
                       "}, 'a)#CDS:c#x' } end\n"
                       "M.emit.e = { each = 'keys', run = function(mesh, out, k, l)\n"
                       "  out.cluster({ name = 'c' .. math.type(k == 1 and k or 1) .. tostring(k) "
                       ".. type(k) .. tostring(l), audience = 'everyone',\n"
                       "    message = { type = 'STATIC', connect_timeout = '1s' } })\n"
                       "  out.cluster({ name = 'c', audience = 'everyone', message = { type = "
                       "'STATIC', connect_timeout = '1s' } }) end }\nreturn M");
    bench_apply(b, world);
    const struct osm_snapshot_proxy *proxy = osm_snapshot_find(b->snapshot, UUID_A ".a");
    assert_non_null(proxy);
    assert_int_equal(proxy->cls->types[OSM_XDS_CDS].len, 8);
    assert_int_equal(json_array_size(b->snapshot->errors), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(test_mistakes_are_errors_of_their_line),
        BENCH_TEST(test_only_an_emitter_can_say_something),
        BENCH_TEST(test_the_most_specific_audience_wins),
        BENCH_TEST(test_equal_rank_with_other_bytes_is_reported),
        BENCH_TEST(test_an_assignment_names_only_the_accounts_that_are_allowed),
        BENCH_TEST(test_an_assignment_names_only_endpoints_at_the_targets),
        BENCH_TEST(test_a_header_follows_the_tags_of_its_chains),
        BENCH_TEST(test_a_header_rule_that_fails_is_reported),
        BENCH_TEST(test_chains_with_one_match_are_reported),
        BENCH_TEST(test_a_list_of_keys_that_is_none_withdraws_what_grants),
        BENCH_TEST(test_keys_that_read_alike_have_items_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, bench_no_leak);
}
