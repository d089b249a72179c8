/* The rules that the API lays down for its fields: each kind, present and left out, and verdicts of
 * another implementation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy/encode/proto_priv.h"
#include "policy/sandbox/re2_shim.h"

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <pthread.h>

#include "policy/proto_verdicts.h"

enum { MAX = 1 << 20 };

#define CORE     "envoy.config.core.v3."
#define ROUTE    "envoy.config.route.v3."
#define CLUSTER  "envoy.config.cluster.v3.Cluster"
#define LISTENER "envoy.config.listener.v3.Listener"
#define FILTERS  "envoy.extensions.filters.http."

/* Runs `return <text>` and encodes what it gives. */
static int encode(const char *type, const char *text, enum osm_proto_rules rules,
                  struct osm_err *err)
{
    struct osm_buf out = OSM_BUF_INIT(MAX);
    lua_State *L = luaL_newstate();
    assert_non_null(L);
    luaL_requiref(L, "string", luaopen_string, 1);
    if (luaL_dostring(L, text))
        fail_msg("%s", lua_tostring(L, -1));
    if (!osm_proto_find(type))
        fail_msg("%s", type);
    int rc = osm_proto_encode_lua(L, -1, osm_proto_find(type), rules, &out, NULL, NULL, err);
    lua_close(L);
    osm_buf_clear(&out);
    return rc;
}

static void passes(const char *type, const char *text)
{
    struct osm_err err = {0};
    if (encode(type, text, OSM_PROTO_RULES_HOLD, &err))
        fail_msg("%s: %s", text, err.msg);
}

static void breaks(const char *type, const char *text, const char *message)
{
    struct osm_err err = {0};
    int rc = encode(type, text, OSM_PROTO_RULES_HOLD, &err);
    if (!rc)
        fail_msg("passes: %s", text);
    assert_int_equal(rc, OSM_EINVAL);
    assert_string_equal(err.msg, message);
    if (encode(type, text, OSM_PROTO_RULES_IGNORED, &err))
        fail_msg("not a question of the rules: %s: %s", text, err.msg);
}

static void test_what_is_required_is_there(void **state)
{
    (void)state;
    breaks(CORE "HeaderValueOption", "return {}", "header: is required");
    breaks(CORE "BackoffStrategy", "return {}", "base_interval: is required");
    breaks(CORE "TypedExtensionConfig", "return { name = 'n' }", "typed_config: is required");
    passes(CORE "TypedExtensionConfig", "return { name = 'n', typed_config = {} }");
    breaks(LISTENER,
           "return { filter_chains = { { filters = { { name = 'a' }, { name = 'b', typed_config = "
           "{ ['@type'] = 'envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy', stat_prefix = "
           "'x' } } } } } }",
           "filter_chains[0].filters[1].typed_config: cluster_specifier is required: one of "
           "\"cluster\", \"weighted_clusters\"");
    /* A wrapper may be required as well. */
    breaks(CORE "RuntimeFeatureFlag", "return { runtime_key = 'k' }", "default_value: is required");
    passes(CORE "RuntimeFeatureFlag", "return { runtime_key = 'k', default_value = false }");
}

static void test_one_of_a_required_oneof_is_set(void **state)
{
    (void)state;
    breaks(CORE "Address", "return {}",
           "address is required: one of \"socket_address\", \"pipe\", "
           "\"envoy_internal_address\"");
    breaks(ROUTE "RouteConfiguration",
           "return { virtual_hosts = { { name = 'v', domains = { '*' }, routes = { { match = { "
           "prefix = '/' } } } } } }",
           "virtual_hosts[0].routes[0]: action is required: one of \"route\", \"redirect\", "
           "\"direct_response\", \"filter_action\", \"non_forwarding_action\"");
    passes(CORE "Address", "return { pipe = { path = '/x' } }");
    /* What a member of a oneof must be is asked only where it is the one. */
    passes(ROUTE "RouteMatch", "return { prefix = '' }");
    breaks(ROUTE "RouteMatch", "return { path_separated_prefix = '' }",
           "path_separated_prefix: must match ^[^?#]+[^?#/]$, got \"\"");
}

static void test_numbers_keep_within_their_bounds(void **state)
{
    (void)state;
    breaks(ROUTE "DirectResponseAction", "return { status = 199 }",
           "status: must be at least 200, got 199");
    passes(ROUTE "DirectResponseAction", "return { status = 200 }");
    passes(ROUTE "DirectResponseAction", "return { status = 599 }");
    breaks(ROUTE "DirectResponseAction", "return { status = 600 }",
           "status: must be less than 600, got 600");
    breaks(ROUTE "DirectResponseAction", "return {}", "status: is required: must be at least 200");
    breaks(CORE "SocketAddress", "return { address = 'a', port_value = 65536 }",
           "port_value: must be at most 65535, got 65536");
    /* Left out, a bound that admits zero asks nothing. */
    breaks("envoy.type.v3.Percent", "return { value = 100.5 }",
           "value: must be at most 100, got 100.5");
    breaks("envoy.type.v3.Percent", "return { value = -0.25 }",
           "value: must be at least 0, got -0.25");
    passes("envoy.type.v3.Percent", "return {}");
    breaks("envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
           "return { update_frequency = -1 }", "update_frequency: must be greater than 0, got -1");
    breaks(FILTERS "thrift_to_metadata.v3.FieldSelector", "return { name = 'n', id = -32769 }",
           "id: must be at least -32768, got -32769");
    breaks("envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3."
           "ClientSideWeightedRoundRobin",
           "return { error_utilization_penalty = -0.5 }",
           "error_utilization_penalty: must be at least 0, got -0.5");
}

static void test_wrappers_are_checked_where_they_are_set(void **state)
{
    (void)state;
    passes(CORE "UdpSocketConfig", "return {}");
    breaks(CORE "UdpSocketConfig", "return { max_rx_datagram_size = 0 }",
           "max_rx_datagram_size: must be greater than 0, got 0");
    breaks(CORE "UdpSocketConfig", "return { max_rx_datagram_size = 65536 }",
           "max_rx_datagram_size: must be less than 65536, got 65536");
    passes(CORE "UdpSocketConfig", "return { max_rx_datagram_size = 65535 }");
}

static void test_booleans_that_can_only_be_true(void **state)
{
    (void)state;
    breaks("envoy.config.rbac.v3.Principal", "return { any = false }",
           "any: must be true, got false");
    passes("envoy.config.rbac.v3.Principal", "return { any = true }");
}

static void test_durations_keep_within_their_bounds(void **state)
{
    (void)state;
    breaks(CLUSTER, "return { name = 'c', connect_timeout = '0s' }",
           "connect_timeout: must be greater than 0s, got \"0s\"");
    passes(CLUSTER, "return { name = 'c', connect_timeout = '0.000000001s' }");
    passes(CLUSTER, "return { name = 'c' }");
    breaks(CLUSTER, "return { name = 'c', connect_timeout = '-1.5s' }",
           "connect_timeout: must be greater than 0s, got \"-1.500s\"");
#define URI(timeout) "return { uri = 'u', cluster = 'c', timeout = '" timeout "' }"
    passes(CORE "HttpUri", URI("4294967295.999999999s"));
    breaks(CORE "HttpUri", URI("4294967296s"),
           "timeout: must be less than 4294967296s, got \"4294967296s\"");
    /* Longer than 64 bits of nanoseconds. */
    struct osm_err err = {0};
    assert_int_equal(encode(CORE "HttpUri", URI("315576000000s"), OSM_PROTO_RULES_HOLD, &err),
                     OSM_EINVAL);
    assert_non_null(strstr(err.msg, "timeout: must be less than 4294967296s"));
    assert_int_equal(encode(CORE "HttpUri", URI("-315576000000s"), OSM_PROTO_RULES_HOLD, &err),
                     OSM_EINVAL);
    assert_non_null(strstr(err.msg, "timeout: must be at least 0s"));
    /* Bounds the wrong way round exclude what lies between. */
    passes(CORE "QuicKeepAliveSettings", "return { initial_interval = '0s' }");
    passes(CORE "QuicKeepAliveSettings", "return { initial_interval = '0.001s' }");
    breaks(CORE "QuicKeepAliveSettings", "return { initial_interval = '0.0005s' }",
           "initial_interval: must be at most 0s, or it must be at least 0.001s, got "
           "\"0.000500s\"");
}

static void test_enums_that_exclude_a_value(void **state)
{
    (void)state;
    breaks(CORE "HealthCheck.HttpHealthCheck", "return { path = '/', method = 'CONNECT' }",
           "method: must not be \"CONNECT\"");
    passes(CORE "HealthCheck.HttpHealthCheck", "return { path = '/', method = 'GET' }");
    breaks("envoy.type.v3.HttpStatus", "return {}", "code: is required: must not be \"Empty\"");
}

static void test_lengths_of_strings_are_counted_in_characters(void **state)
{
    (void)state;
    breaks(CLUSTER, "return {}", "name: is required");
    breaks(CLUSTER, "return { name = '' }", "name: must be at least 1 character long, got \"\"");
    passes(FILTERS "api_key_auth.v3.KeySource", "return { header = ('\\u{e9}'):rep(1024) }");
    breaks(FILTERS "api_key_auth.v3.KeySource", "return { header = ('\\u{e9}'):rep(1025) }",
           "header: must be at most 1024 characters long, got 1025");
    breaks(CORE "KeyValuePair", "return { key = ('x'):rep(16385) , value = 1 }",
           "key: must be at most 16384 bytes long, got 16385");
    breaks(CORE "KeyValuePair", "return { key = ('\\u{e9}'):rep(8193), value = 1 }",
           "key: must be at most 16384 bytes long, got 16386");
    passes(CORE "KeyValuePair", "return { key = ('x'):rep(16384), value = 1 }");
    /* bytes */
    breaks("envoy.config.tap.v3.HttpGenericBodyMatch.GenericTextMatch",
           "return { binary_match = '' }", "binary_match: must be at least 1 byte long, got 0");
    passes("envoy.config.tap.v3.HttpGenericBodyMatch.GenericTextMatch",
           "return { binary_match = { base64 = '/w==' } }");
    breaks("envoy.config.tap.v3.HttpGenericBodyMatch.GenericTextMatch",
           "return { binary_match = { base64 = '' } }",
           "binary_match: must be at least 1 byte long, got 0");
}

static void test_strings_of_a_form(void **state)
{
    (void)state;
    const char *addend = ROUTE "RateLimit.HitsAddend";
    breaks(addend, "return { format = 'x%' }", "format: must start with \"%\", got \"x%\"");
    breaks(addend, "return { format = '%x' }", "format: must end with \"%\", got \"%x\"");
    passes(addend, "return { format = '%x%' }");
    passes(addend, "return { format = '' }"); /* ignore_empty */
    breaks(CORE "SchemeHeaderTransformation", "return { scheme_to_overwrite = 'ftp' }",
           "scheme_to_overwrite: must be one of \"http\", \"https\", got \"ftp\"");
    passes(FILTERS "ratelimit.v3.RateLimit",
           "return { domain = 'd', rate_limit_service = { grpc_service = { envoy_grpc = { "
           "cluster_name = 'c' } }, transport_api_version = 'V3' } }"); /* "" is in the list */
    breaks(ROUTE "RouteMatch", "return { path_separated_prefix = '/a\\nb/' }",
           "path_separated_prefix: must match ^[^?#]+[^?#/]$, got \"/a\\x0ab/\"");
    passes(ROUTE "RouteMatch", "return { path_separated_prefix = '/a' }");
    /* A line break at the end is no end of the text. */
    breaks("envoy.extensions.geoip_providers.maxmind.v3.MaxMindConfig",
           "return { city_db_path = 'x.mmdb\\n', common_provider_config = { geo_field_keys = { "
           "city = 'c' } } }",
           "city_db_path: must match ^$|^.*\\.mmdb$, got \"x.mmdb\\x0a\"");
}

static void test_headers_hold_what_a_header_may(void **state)
{
    (void)state;
    passes(CORE "HeaderValue", "return { key = 'a b', value = '\\t\\127' }"); /* not strict */
    breaks(CORE "HeaderValue", "return { key = 'a\\nb' }",
           "key: must hold no zero byte or line break, got \\x0a");
    breaks(CORE "HeaderValue", "return { key = 'k', value = 'secret\\n' }",
           "value: must hold no zero byte or line break, got \\x0a");
    breaks(ROUTE "VirtualHost", "return { name = 'v', domains = { 'a', 'b\\r' } }",
           "domains[1]: must hold no zero byte or line break, got \\x0d");
}

/* The classes of characters, against the expressions that the validator has for them. */
static void test_every_character_is_judged_as_by_the_expressions(void **state)
{
    (void)state;
    static const struct {
        const char *type, *field, *more, *pattern;
    } rows[] = {
        {"envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig",
         "header_name", "", "^:?[0-9a-zA-Z!#$%&'*+-.^_|~\\x60]+$"},
        {CORE "HealthCheck.HttpHealthCheck", "host", ", path = '/'",
         "^[^\\x00-\\x08\\x0a-\\x1f\\x7f]*$"},
        {CORE "HeaderValue", "key", "", "^[^\\x00\\x0a\\x0d]*$"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct osm_regex *regex = NULL;
        size_t good = 0;
        assert_int_equal(osm_regex_new(&regex, rows[i].pattern, NULL), 0);
        for (int c = 0; c < 0x180; c++) {
            char text[256];
            struct osm_err err = {0};
            const char seen[3] = {'a', (char)c, 0};
            (void)snprintf(text, sizeof text, "return { %s = 'a\\u{%x}'%s }", rows[i].field,
                           (unsigned)c, rows[i].more);
            int rc = encode(rows[i].type, text, OSM_PROTO_RULES_HOLD, &err);
            if (c < 0x80)
                assert_int_equal(!rc, osm_regex_matches(regex, seen, 2));
            else
                assert_int_equal(!rc, i != 0);
            good += !rc;
        }
        assert_true(good > 60);
        osm_regex_free(regex);
    }
    breaks(rows[0].type, "return { header_name = ':' }",
           "header_name: must be the name of an HTTP header, got \":\"");
    breaks(rows[0].type, "return { header_name = 'a:' }",
           "header_name: must be the name of an HTTP header, got \"a:\"");
    passes(rows[0].type, "return { header_name = ':path' }");
    breaks(CORE "HealthCheck.HttpHealthCheck", "return { path = '/', host = 'a\\127' }",
           "host: must hold no control characters other than the tab, got \\x7f");
}

static void test_lists_and_maps_and_what_they_hold(void **state)
{
    (void)state;
    breaks("envoy.type.matcher.v3.OrMatcher", "return {}",
           "value_matchers: is required: must hold at least 2 items");
    breaks("envoy.type.matcher.v3.OrMatcher",
           "return { value_matchers = { { present_match = true } } }",
           "value_matchers: must hold at least 2 items, got 1");
    breaks(ROUTE "VirtualHost", "return { name = 'v', domains = {} }",
           "domains: must hold at least 1 item, got 0");
    breaks(ROUTE "VirtualHost", "return { name = 'v' }", "domains: is required");
    breaks(ROUTE "VirtualHost",
           "local h = {} for i = 1, 1001 do h[i] = { header = { key = 'k', value = 'v' } } end "
           "return { name = 'v', domains = { '*' }, request_headers_to_add = h }",
           "request_headers_to_add: must hold at most 1000 items, got 1001");
    breaks("envoy.config.listener.v3.FilterChainMatch", "return { source_ports = { 80, 0 } }",
           "source_ports[1]: must be at least 1, got 0");
    breaks("envoy.config.accesslog.v3.ResponseFlagFilter", "return { flags = { 'UH', 'XX' } }",
           "flags[1]: must be one of \"LH\", \"UH\", \"UT\", \"LR\", \"UR\", \"UF\", \"UC\", "
           "\"UO\", \"NR\", \"DI\", \"FI\", \"RL\", \"UAEX\", \"RLSE\", \"DC\", \"URX\", \"SI\", "
           "\"IH\", \"DPE\", \"UMSDR\", \"RFCF\", \"NFCF\", \"DT\", \"UPE\", \"NC\", \"OM\", "
           "\"DF\", \"DO\", \"DR\", \"UDO\", got \"XX\"");
    const char *bucket = "envoy.service.rate_limit_quota.v3.BucketId";
    breaks(bucket, "return { bucket = {} }", "bucket: must hold at least 1 entry, got 0");
    breaks(bucket, "return {}", "bucket: is required");
    breaks(bucket, "return { bucket = { a = 'x', [''] = 'y' } }",
           "bucket[\"\"]: must be at least 1 character long, got \"\"");
    breaks(bucket, "return { bucket = { a = '' } }",
           "bucket[\"a\"]: must be at least 1 character long, got \"\"");
    passes(bucket, "return { bucket = { a = 'x' } }");
}

static void test_lists_without_equals(void **state)
{
    (void)state;
    const char *redirect = ROUTE "InternalRedirectPolicy";
    breaks(redirect, "return { response_headers_to_copy = { 'a', 'b', 'c', 'b' } }",
           "response_headers_to_copy[3]: is the same as item 1");
    passes(redirect, "return { response_headers_to_copy = { 'a', 'b', 'ab' } }");
    breaks("envoy.config.metrics.v3.HistogramBucketSettings",
           "return { match = { exact = 'm' }, buckets = { 1, 2.5, 1.0 } }",
           "buckets[2]: is the same as item 0");
    breaks(FILTERS "compressor.v3.Compressor.ResponseDirectionConfig",
           "return { uncompressible_response_codes = { 206, 206 } }",
           "uncompressible_response_codes[1]: is the same as item 0");
    /* Many of them take no time that grows with their square. */
    passes(redirect, "local t = {} for i = 1, 100000 do t[i] = 'h' .. i end "
                     "return { response_headers_to_copy = t }");
}

static void test_what_the_validator_skips_is_skipped(void **state)
{
    (void)state;
    struct osm_err err = {0};
    assert_int_equal(encode(CORE "KeyValue", "return {}", OSM_PROTO_RULES_HOLD, &err), OSM_EINVAL);
    passes(CORE "KeyValueAppend", "return { entry = {} }");
    breaks(CORE "KeyValueAppend", "return { entry = {}, record = {} }", "record.key: is required");
    /* "any" rules on what is no Any: it must be there, and that is all */
    passes(CORE "ExtensionConfigSource", "return { config_source = {}, type_urls = { 'a' } }");
    breaks(CORE "ExtensionConfigSource", "return { type_urls = { 'a' } }",
           "config_source: is required");
}

static void test_a_long_value_is_cut_and_stays_on_one_line(void **state)
{
    (void)state;
    struct osm_err err = {0};
    assert_int_equal(encode(CORE "SchemeHeaderTransformation",
                            "return { scheme_to_overwrite = ('\\u{e9}\\n'):rep(500) }",
                            OSM_PROTO_RULES_HOLD, &err),
                     OSM_EINVAL);
    assert_non_null(strstr(err.msg, "got \"\xc3\xa9\\x0a\xc3\xa9"));
    assert_non_null(strstr(err.msg, "...\""));
    assert_null(strchr(err.msg, '\n'));
}

static void test_verdicts_are_those_of_another_validator(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof verdicts / sizeof *verdicts; i++) {
        const ProtobufCMessageDescriptor *type = osm_proto_find(verdicts[i].type);
        struct osm_buf bytes = OSM_BUF_INIT(MAX), out = OSM_BUF_INIT(MAX);
        struct osm_err err = {0};
        json_t *json = NULL;
        assert_non_null(type);
        for (const char *hex = verdicts[i].hex; *hex; hex += 2) {
            static const char digits[] = "0123456789abcdef";
            assert_int_equal(
                osm_buf_add_char(&bytes, (char)((strchr(digits, hex[0]) - digits) << 4 |
                                                (strchr(digits, hex[1]) - digits))),
                0);
        }
        if (osm_proto_decode(type, bytes.data ? bytes.data : "", bytes.len, &json, &err))
            fail_msg("%s: %s", verdicts[i].type, err.msg);
        int rc = osm_proto_encode_json(json, type, OSM_PROTO_RULES_HOLD, &out, NULL, NULL, &err);
        if (!rc != verdicts[i].passes)
            fail_msg("%s %s: %s", verdicts[i].type, verdicts[i].hex, rc ? err.msg : "passes");
        json_decref(json);
        osm_buf_clear(&bytes);
        osm_buf_clear(&out);
    }
}

/* ---- the table ---- */

static void test_every_message_knows_its_row(void **state)
{
    (void)state;
    size_t with_rules = 0;
    for (size_t i = 0; i < envoy_api_messages_len; i++) {
        const struct envoy_api_message *row = &envoy_api_messages[i];
        assert_ptr_equal(osm__proto_row(row->descriptor), row);
        assert_string_equal(row->descriptor->name, row->name);
        with_rules += row->rules != NULL;
        for (size_t k = 0; row->rules && k < row->rules->wanted_len; k++) {
            assert_true(row->rules->wanted[k] < row->descriptor->n_fields);
            assert_non_null(row->rules->of_field[row->rules->wanted[k]]);
            assert_true(!k || row->rules->wanted[k - 1] < row->rules->wanted[k]);
        }
    }
    assert_true(with_rules > 500);
}

/* Composition fills these in later; a rule of theirs would have to hold when the header is encoded,
 * without them. */
static void test_what_composition_fills_in_has_no_rules(void **state)
{
    (void)state;
    static const char *const rows[][2] = {{LISTENER, "filter_chains"},
                                          {ROUTE "RouteConfiguration", "virtual_hosts"}};
    for (size_t i = 0; i < 2; i++) {
        const ProtobufCMessageDescriptor *type = osm_proto_find(rows[i][0]);
        const ProtobufCFieldDescriptor *f = osm__proto_field(type, rows[i][1], strlen(rows[i][1]));
        assert_non_null(f);
        const struct envoy_api_rules *rules = osm__proto_rules(type);
        assert_true(!rules || !rules->of_field[f - type->fields]);
    }
}

static void test_every_pattern_compiles(void **state)
{
    (void)state;
    assert_true(envoy_api_patterns_len > 0 && envoy_api_patterns_len <= 64);
    for (size_t i = 0; i < envoy_api_patterns_len; i++) {
        struct osm_regex *regex = NULL;
        struct osm_err err = {0};
        if (osm_regex_new(&regex, envoy_api_patterns[i], &err))
            fail_msg("%s: %s", envoy_api_patterns[i], err.msg);
        osm_regex_free(regex);
    }
}

static void *match_often(void *failed)
{
    struct osm_err err = {0};
    for (int i = 0; i < 50; i++)
        if (encode("xds.core.v3.CollectionEntry.InlineEntry", "return { name = 'a/b' }",
                   OSM_PROTO_RULES_HOLD, &err) != OSM_EINVAL ||
            encode("xds.core.v3.CollectionEntry.InlineEntry", "return { name = 'a.b' }",
                   OSM_PROTO_RULES_HOLD, &err))
            *(bool *)failed = true;
    return NULL;
}

static void test_threads_may_share_the_patterns(void **state)
{
    (void)state;
    pthread_t threads[4];
    bool failed[4] = {false};
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, match_often, &failed[i]), 0);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_false(failed[i]);
    }
}

static int no_allocation_is_left(void **state)
{
    (void)state;
    return osm_mem_live() ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_may_share_the_patterns), /* first: none is compiled yet */
        cmocka_unit_test(test_what_is_required_is_there),
        cmocka_unit_test(test_one_of_a_required_oneof_is_set),
        cmocka_unit_test(test_numbers_keep_within_their_bounds),
        cmocka_unit_test(test_wrappers_are_checked_where_they_are_set),
        cmocka_unit_test(test_booleans_that_can_only_be_true),
        cmocka_unit_test(test_durations_keep_within_their_bounds),
        cmocka_unit_test(test_enums_that_exclude_a_value),
        cmocka_unit_test(test_lengths_of_strings_are_counted_in_characters),
        cmocka_unit_test(test_strings_of_a_form),
        cmocka_unit_test(test_headers_hold_what_a_header_may),
        cmocka_unit_test(test_every_character_is_judged_as_by_the_expressions),
        cmocka_unit_test(test_lists_and_maps_and_what_they_hold),
        cmocka_unit_test(test_lists_without_equals),
        cmocka_unit_test(test_what_the_validator_skips_is_skipped),
        cmocka_unit_test(test_a_long_value_is_cut_and_stays_on_one_line),
        cmocka_unit_test(test_verdicts_are_those_of_another_validator),
        cmocka_unit_test(test_every_message_knows_its_row),
        cmocka_unit_test(test_what_composition_fills_in_has_no_rules),
        cmocka_unit_test(test_every_pattern_compiles),
    };
    return cmocka_run_group_tests(tests, NULL, no_allocation_is_left);
}
