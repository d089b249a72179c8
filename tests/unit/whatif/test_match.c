/* What a proxy makes of a request, as tables: matchers of texts, headers, routes, hosts and chains,
 * and RBAC. What is not known here is neither a match nor none. */
#include "whatif/match.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static json_t *parse(const char *text)
{
    json_error_t where;
    json_t *value = json_loads(text, JSON_DECODE_ANY, &where);
    if (!value)
        fail_msg("%s: %s", text, where.text);
    return value;
}

static void test_texts(void **state)
{
    (void)state;
    static const struct {
        const char *matcher, *text;
        enum osm_tri is;
    } rows[] = {
        {"{\"exact\": \"a\"}", "a", OSM_YES},
        {"{\"exact\": \"a\"}", "A", OSM_NO},
        {"{\"exact\": \"a\", \"ignore_case\": true}", "A", OSM_YES},
        {"{\"exact\": \"\"}", "", OSM_YES},
        {"{\"prefix\": \"/a\"}", "/ab", OSM_YES},
        {"{\"prefix\": \"/a\"}", "/", OSM_NO},
        {"{\"suffix\": \"b\"}", "ab", OSM_YES},
        {"{\"suffix\": \"abc\"}", "bc", OSM_NO},
        {"{\"contains\": \"b\"}", "abc", OSM_YES},
        {"{\"safe_regex\": {\"regex\": \"a.*\"}}", "abc", OSM_YES},
        {"{\"safe_regex\": {\"regex\": \"b\"}}", "abc", OSM_NO}, /* the whole of it */
        {"{\"safe_regex\": {\"regex\": \"a|b\"}}", "ab", OSM_NO},
        {"{\"safe_regex\": {\"regex\": \"a\"}}", "a\n", OSM_NO},
        {"{\"safe_regex\": {\"regex\": \"(\"}}", "a", OSM_UNKNOWN},
        {"{\"custom\": {}}", "a", OSM_UNKNOWN},
        {"{}", "a", OSM_UNKNOWN},
        {"{\"exact\": \"a\"}", NULL, OSM_NO},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *matcher = parse(rows[i].matcher);
        if (osm_match_string(matcher, rows[i].text) != rows[i].is)
            fail_msg("%s on %s", rows[i].matcher, rows[i].text ? rows[i].text : "nothing");
        json_decref(matcher);
    }
}

static struct osm_request request_of(const json_t *headers)
{
    return (struct osm_request){.principal = "a.red.cluster.local",
                                .port = 8080,
                                .method = "GET",
                                .path = "/buy",
                                .host = "shop.blue:81",
                                .headers = headers};
}

static void test_headers(void **state)
{
    (void)state;
    static const struct {
        const char *matcher;
        enum osm_tri is;
    } rows[] = {
        {"{\"name\": \":method\", \"string_match\": {\"exact\": \"GET\"}}", OSM_YES},
        {"{\"name\": \":path\", \"string_match\": {\"prefix\": \"/b\"}}", OSM_YES},
        {"{\"name\": \":authority\", \"string_match\": {\"exact\": \"shop.blue:81\"}}", OSM_YES},
        {"{\"name\": \"host\", \"string_match\": {\"exact\": \"shop.blue:81\"}}", OSM_YES},
        {"{\"name\": \"X-User\", \"string_match\": {\"exact\": \"ann\"}}", OSM_YES},
        {"{\"name\": \"x-user\", \"string_match\": {\"exact\": \"bob\"}}", OSM_NO},
        {"{\"name\": \"x-user\", \"string_match\": {\"exact\": \"bob\"}, \"invert_match\": true}",
         OSM_YES},
        {"{\"name\": \"x-none\", \"string_match\": {\"exact\": \"bob\"}, \"invert_match\": true}",
         OSM_NO},
        {"{\"name\": \"x-none\", \"present_match\": true}", OSM_NO},
        {"{\"name\": \"x-none\", \"present_match\": false}", OSM_YES},
        {"{\"name\": \"x-user\", \"present_match\": true}", OSM_YES},
        {"{\"name\": \"x-user\"}", OSM_YES},
        {"{\"name\": \"x-user\", \"exact_match\": \"ann\"}", OSM_YES},
        {"{\"name\": \"x-user\", \"safe_regex_match\": {\"regex\": \"a\"}}", OSM_NO},
        {"{\"name\": \"x-user\", \"range_match\": {}}", OSM_UNKNOWN},
    };
    json_t *headers = parse("{\"x-user\": \"ann\"}");
    const struct osm_request request = request_of(headers);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *matcher = parse(rows[i].matcher);
        if (osm_match_header(matcher, &request) != rows[i].is)
            fail_msg("%s", rows[i].matcher);
        json_decref(matcher);
    }
    json_decref(headers);
}

static void test_routes(void **state)
{
    (void)state;
    static const struct {
        const char *match;
        enum osm_tri is;
    } rows[] = {
        {"{\"prefix\": \"/\"}", OSM_YES},
        {"{\"path\": \"/buy\"}", OSM_YES},
        {"{\"path\": \"/BUY\"}", OSM_NO},
        {"{\"path\": \"/BUY\", \"case_sensitive\": false}", OSM_YES},
        {"{\"path_separated_prefix\": \"/buy\"}", OSM_YES},
        {"{\"path_separated_prefix\": \"/bu\"}", OSM_NO},
        {"{\"safe_regex\": {\"regex\": \"/b.*\"}, \"headers\": [{\"name\": \":method\", "
         "\"string_match\": {\"exact\": \"GET\"}}]}",
         OSM_YES},
        {"{\"safe_regex\": {\"regex\": \"/b.*\"}, \"headers\": [{\"name\": \":method\", "
         "\"string_match\": {\"exact\": \"PUT\"}}]}",
         OSM_NO},
        {"{\"prefix\": \"/\", \"query_parameters\": [{}]}", OSM_UNKNOWN},
        {"{\"prefix\": \"/x\", \"query_parameters\": [{}]}", OSM_NO},
        {"{\"connect_matcher\": {}}", OSM_UNKNOWN},
    };
    const struct osm_request request = request_of(NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *match = parse(rows[i].match);
        if (osm_match_route(match, &request) != rows[i].is)
            fail_msg("%s", rows[i].match);
        json_decref(match);
    }
}

/* As Envoy says: exact, suffix, prefix, "*"; the longer first; a star is one character at least. */
static void test_hosts(void **state)
{
    (void)state;
    static const struct {
        const char *host, *name;
    } rows[] = {
        {"shop.blue", "exact"},     {"SHOP.blue", "exact"}, {"a.shop.blue", "long suffix"},
        {"b.blue", "short suffix"}, {"shop.red", "prefix"}, {"shop.", "all"},
        {"other", "all"},           {".blue", "all"},
    };
    json_t *table = parse("{\"virtual_hosts\": ["
                          "{\"name\": \"all\", \"domains\": [\"*\"]},"
                          "{\"name\": \"prefix\", \"domains\": [\"shop.*\"]},"
                          "{\"name\": \"short suffix\", \"domains\": [\"*.blue\"]},"
                          "{\"name\": \"long suffix\", \"domains\": [\"*.shop.blue\"]},"
                          "{\"name\": \"exact\", \"domains\": [\"x\", \"shop.blue\"]}]}");
    struct osm_request request = request_of(NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        request.host = rows[i].host;
        const json_t *host = osm_match_host(table, &request);
        assert_non_null(host);
        if (strcmp(json_string_value(json_object_get(host, "name")), rows[i].name) != 0)
            fail_msg("%s: %s", rows[i].host, json_string_value(json_object_get(host, "name")));
    }
    (void)json_array_remove(json_object_get(table, "virtual_hosts"), 0);
    request.host = "other";
    assert_null(osm_match_host(table, &request));
    json_decref(table);
}

static void test_chains(void **state)
{
    (void)state;
    json_t *protocols = parse("[\"osm\"]");
    const struct osm_arrival plain = {"10.96.0.1", 80, NULL, NULL},
                             tls = {NULL, 8080, "shop.blue", protocols};
    const struct {
        const char *match;
        const struct osm_arrival *arrival;
        int fit;
    } rows[] = {
        {"{}", &plain, 0},
        {"{\"destination_port\": 80}", &plain, 1},
        {"{\"destination_port\": 81}", &plain, -1},
        {"{\"prefix_ranges\": [{\"address_prefix\": \"10.96.0.1\", \"prefix_len\": 32}]}", &plain,
         1},
        {"{\"prefix_ranges\": [{\"address_prefix\": \"10.96.0.2\", \"prefix_len\": 32}]}", &plain,
         -1},
        {"{\"prefix_ranges\": [{\"address_prefix\": \"10.0.0.0\", \"prefix_len\": 8}]}", &plain, 1},
        {"{\"prefix_ranges\": [{\"address_prefix\": \"0.0.0.0\"}]}", &plain, 1},
        {"{\"prefix_ranges\": [{\"address_prefix\": \"::1\", \"prefix_len\": 128}]}", &plain, -1},
        {"{\"transport_protocol\": \"tls\"}", &plain, -1},
        {"{\"transport_protocol\": \"raw_buffer\"}", &plain, 1},
        {"{\"server_names\": [\"shop.blue\"]}", &plain, -1},
        {"{\"server_names\": [\"shop.blue\"]}", &tls, 1},
        {"{\"server_names\": [\"other\"]}", &tls, -1},
        {"{\"transport_protocol\": \"tls\", \"application_protocols\": [\"h2\", \"osm\"]}", &tls,
         2},
        {"{\"application_protocols\": [\"h2\"]}", &tls, -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *match = parse(rows[i].match);
        int fit = osm_match_chain(match, rows[i].arrival);
        if (fit != rows[i].fit)
            fail_msg("%s: %d", rows[i].match, fit);
        json_decref(match);
    }
    json_decref(protocols);
}

#define ME    "{\"authenticated\": {\"principal_name\": {\"exact\": \"a.red.cluster.local\"}}}"
#define OTHER "{\"authenticated\": {\"principal_name\": {\"exact\": \"b.red.cluster.local\"}}}"
#define POLICY(principals, permissions)                                                            \
    "{\"policies\": {\"p\": {\"principals\": [" principals "], \"permissions\": [" permissions     \
    "]}}}"
#define DENY(principals, permissions)                                                              \
    "{\"action\": \"DENY\", \"policies\": {\"p\": {\"principals\": [" principals                   \
    "], \"permissions\": [" permissions "]}}}"

static void test_rbac(void **state)
{
    (void)state;
    static const struct {
        const char *rules;
        enum osm_tri passes;
        const char *policy;
    } rows[] = {
        {"{}", OSM_NO, NULL}, /* rules without a policy let nothing through */
        {POLICY(ME, "{\"any\": true}"), OSM_YES, "p"},
        {POLICY(OTHER, "{\"any\": true}"), OSM_NO, NULL},
        {POLICY(OTHER ", " ME, "{\"any\": true}"), OSM_YES, "p"},
        {POLICY("{\"any\": true}", "{\"destination_port\": 8080}"), OSM_YES, "p"},
        {POLICY("{\"any\": true}", "{\"destination_port\": 1}"), OSM_NO, NULL},
        {POLICY(ME, "{\"url_path\": {\"path\": {\"exact\": \"/buy\"}}}"), OSM_YES, "p"},
        {POLICY(ME,
                "{\"and_rules\": {\"rules\": [{\"any\": true}, {\"not_rule\": {\"any\": true}}]}}"),
         OSM_NO, NULL},
        {POLICY(ME, "{\"or_rules\": {\"rules\": [{\"destination_port\": 1}, {\"any\": true}]}}"),
         OSM_YES, "p"},
        {POLICY("{\"not_id\": " ME "}", "{\"any\": true}"), OSM_NO, NULL},
        {POLICY("{\"and_ids\": {\"ids\": [" ME ", {\"any\": true}]}}", "{\"any\": true}"), OSM_YES,
         "p"},
        {POLICY("{\"or_ids\": {\"ids\": [" OTHER "]}}", "{\"any\": true}"), OSM_NO, NULL},
        {POLICY("{\"authenticated\": {}}", "{\"any\": true}"), OSM_YES, "p"},
        {POLICY("{\"remote_ip\": {}}", "{\"any\": true}"), OSM_UNKNOWN, NULL},
        {POLICY(ME, "{\"metadata\": {}}"), OSM_UNKNOWN, NULL},
        {POLICY(OTHER, "{\"metadata\": {}}"), OSM_NO, NULL},
        {DENY(ME, "{\"any\": true}"), OSM_NO, "p"},
        {DENY(OTHER, "{\"any\": true}"), OSM_YES, NULL},
        {"{\"action\": \"LOG\"}", OSM_YES, NULL},
        {"{\"policies\": {\"p\": {\"principals\": [" ME
         "], \"permissions\": [{\"any\": true}], \"condition\": {}}}}",
         OSM_UNKNOWN, NULL},
    };
    const struct osm_request request = request_of(NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *rules = parse(rows[i].rules);
        struct osm_verdict v = osm_match_rbac(rules, &request);
        if (v.passes != rows[i].passes || !v.policy != !rows[i].policy)
            fail_msg("%s: %d %s", rows[i].rules, (int)v.passes, v.policy ? v.policy : "none");
        json_decref(rules);
    }
    assert_int_equal(osm_match_rbac(NULL, &request).passes, OSM_YES);
}

static void test_which_permission_it_was_and_what_there_are(void **state)
{
    (void)state;
    json_t *rules =
        parse(POLICY(OTHER ", " ME ", {\"any\": true}",
                     "{\"destination_port\": 1}, {\"and_rules\": {\"rules\": ["
                     "{\"url_path\": {\"path\": {\"safe_regex\": {\"regex\": \"/b.*\"}}}}, "
                     "{\"header\": {\"name\": \":method\", \"string_match\": {\"exact\": "
                     "\"GET\"}}}]}}, {\"any\": true}"));
    const struct osm_request request = request_of(NULL);
    assert_int_equal(osm_match_rbac(rules, &request).permission, 1);
    const json_t *policy = json_object_get(json_object_get(rules, "policies"), "p");
    struct osm_buf text = OSM_BUF_INIT(1000);
    osm_match_describe_permissions(policy, &text);
    assert_string_equal(text.data, "port 1; path /b.* and method GET; anything");
    osm_buf_reset(&text);
    osm_match_describe_principals(policy, &text);
    assert_string_equal(text.data, "b.red.cluster.local, a.red.cluster.local, anybody");
    osm_buf_clear(&text);
    json_decref(rules);
}

int main(void)
{
    json_set_alloc_funcs(osm_alloc, osm_free);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_chains),
        cmocka_unit_test(test_rbac),
        cmocka_unit_test(test_which_permission_it_was_and_what_there_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
