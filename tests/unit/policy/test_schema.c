/* Schemas: pruning, defaults, every check with its text, and keywords that are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy/kinds/schema.h"
#include "policy/sandbox/re2_shim.h"

/* Single quotes stand for double ones, so that the tables below can be read. */
static json_t *parse(const char *text)
{
    char *copy = osm_strdup(text);
    for (char *at = copy; *at; at++)
        *at = *at == '\'' ? '"' : *at;
    json_error_t where;
    json_t *json = json_loads(copy, JSON_DECODE_ANY, &where);
    if (!json)
        fail_msg("%s: %s", text, where.text);
    osm_free(copy);
    return json;
}

/* Applies { type: object, properties: { spec: <schema> } } to { spec: <value> }. */
static int apply(const char *schema, const char *value, json_t **out, struct osm_err *err)
{
    json_t *openapi =
        json_pack("{s:s, s:{s:o}}", "type", "object", "properties", "spec", parse(schema));
    struct osm_schema *s = NULL;
    if (osm_schema_new(&s, openapi, err))
        fail_msg("%s", err->msg);
    json_decref(openapi);
    *out = json_pack("{s:o}", "spec", parse(value));
    int rc = osm_schema_apply(s, *out, err);
    osm_schema_free(s);
    return rc;
}

static void expect(const char *schema, const char *value, const char *want)
{
    struct osm_err err = {0};
    json_t *got, *wanted = parse(want);
    if (apply(schema, value, &got, &err))
        fail_msg("%s: %s", value, err.msg);
    if (!json_equal(json_object_get(got, "spec"), wanted)) {
        char *text = json_dumps(got, JSON_COMPACT);
        fail_msg("%s gives %s, not %s", value, text, want);
    }
    json_decref(got);
    json_decref(wanted);
}

static void refuse(const char *schema, const char *value, const char *message)
{
    struct osm_err err = {0};
    json_t *got;
    if (!apply(schema, value, &got, &err))
        fail_msg("%s passes", value);
    assert_string_equal(err.msg, message);
    json_decref(got);
}

static void expect_unsupported(const char *schema, int code, const char *message)
{
    struct osm_err err = {0};
    json_t *openapi = parse(schema);
    struct osm_schema *s = NULL;
    assert_int_equal(osm_schema_new(&s, openapi, &err), code);
    assert_null(s);
    assert_string_equal(err.msg, message);
    json_decref(openapi);
}

#define SPLIT                                                                                      \
    "{'type':'object','required':['service'],'properties':{'service':{'type':'string'},'backends'" \
    ":{'type':'array','items':"                                                                    \
    "{'type':'object','required':['service'],'properties':{'service':{'type':'string'},'weight':{" \
    "'type':'integer'}}}}}}"

static void test_a_wrong_type_names_its_path(void **state)
{
    (void)state;
    refuse(SPLIT, "{'service':'a','backends':[{'service':'b','weight':'x'}]}",
           "spec.backends[0].weight: expected integer, got string");
    refuse(SPLIT, "{'service':'a','backends':[{'service':'b'},{'service':'b','weight':1.5}]}",
           "spec.backends[1].weight: expected integer, got number");
    refuse(SPLIT, "{'service':7}", "spec.service: expected string, got integer");
    refuse(SPLIT, "{'service':'a','backends':{}}", "spec.backends: expected array, got object");
    refuse(SPLIT, "[]", "spec: expected object, got array");
    refuse("{'type':'boolean'}", "'true'", "spec: expected boolean, got string");
    refuse("{'type':'number'}", "true", "spec: expected number, got boolean");
    refuse("{'type':'object','additionalProperties':{'type':'string'}}", "{'a.b/c':1}",
           "spec[\"a.b/c\"]: expected string, got integer");
}

static void test_integers(void **state)
{
    (void)state;
    expect("{'type':'integer'}", "3.0", "3");
    expect("{'type':'integer'}", "9223372036854775807", "9223372036854775807");
    expect("{'type':'array','items':{'type':'integer'}}", "[1,2.0]", "[1,2]");
    expect("{'type':'number'}", "3", "3");
    refuse("{'type':'integer'}", "1e300", "spec: expected integer, got number");
    refuse("{'type':'integer','format':'int32'}", "2147483648", "spec: must fit 32 bits");
    expect("{'x-kubernetes-int-or-string':true}", "'80%'", "'80%'");
    expect("{'x-kubernetes-int-or-string':true}", "80", "80");
    expect("{'x-kubernetes-int-or-string':true}", "80.0", "80");
    refuse("{'x-kubernetes-int-or-string':true}", "80.5",
           "spec: expected integer or string, got number");
    refuse("{'x-kubernetes-int-or-string':true}", "true",
           "spec: expected integer or string, got boolean");
}

static void test_unknown_properties_are_pruned(void **state)
{
    (void)state;
    expect(SPLIT, "{'service':'a','typo':1,'backends':[{'service':'b','x':{}}]}",
           "{'service':'a','backends':[{'service':'b'}]}");
    expect("{'type':'object'}", "{'a':1}", "{}");
    expect("{'type':'object','x-kubernetes-preserve-unknown-fields':true,'properties':{'a':{'type':"
           "'object'}}}",
           "{'a':{'x':1},'b':{'y':[1]}}", "{'a':{},'b':{'y':[1]}}");
    expect("{'type':'object','additionalProperties':true}", "{'a':{'x':1}}", "{'a':{'x':1}}");
    expect("{'type':'object','additionalProperties':{'type':'integer'}}", "{'a':1,'b':2.0}",
           "{'a':1,'b':2}");
}

static void test_unknown_properties_are_refused_where_the_schema_is_closed(void **state)
{
    (void)state;
    static const char closed[] =
        "{'type':'object','additionalProperties':false,'properties':{'matches':{'type':'array',"
        "'items':{'type':'object','additionalProperties':false,'properties':{'pathRegex':{'type':"
        "'string'},'methods':{'type':'array','items':{'type':'string'}}}}}}}";
    expect(closed, "{'matches':[{'methods':['GET']},{}]}", "{'matches':[{'methods':['GET']},{}]}");
    refuse(closed, "{'matches':[{'method':['GET']}]}",
           "spec.matches[0].method: unknown field; did you mean methods?");
    refuse(closed, "{'matches':[{},{'PATHREGEX':'/x'}]}",
           "spec.matches[1].PATHREGEX: unknown field; did you mean pathRegex?");
    refuse(closed, "{'Matches':null}", "spec.Matches: unknown field; did you mean matches?");
    refuse(closed, "{'elsewhere':[]}", "spec.elsewhere: unknown field");
    /* A form that only checks is closed as well: nothing that it does not name matches it. */
    refuse("{'type':'object','x-kubernetes-preserve-unknown-fields':true,'anyOf':[{'type':'object',"
           "'additionalProperties':false,'properties':{'a':{'type':'string'}}}]}",
           "{'b':'x'}", "spec.b: unknown field; did you mean a?");
}

static void test_the_object_s_own_keys_stay(void **state)
{
    (void)state;
    json_t *openapi = parse(
        "{'type':'object','properties':{'metadata':{'type':'object'},'spec':{'type':'object'}}}");
    json_t *value = parse("{'apiVersion':'v1','kind':'A','metadata':{'name':'n','labels':{'a':'b'}}"
                          ",'spec':{'x':1},'status':{}}");
    json_t *want = parse(
        "{'apiVersion':'v1','kind':'A','metadata':{'name':'n','labels':{'a':'b'}},'spec':{}}");
    struct osm_schema *s = NULL;
    assert_int_equal(osm_schema_new(&s, openapi, NULL), 0);
    assert_int_equal(osm_schema_apply(s, value, NULL), 0);
    assert_true(json_equal(value, want));
    json_t *no_object = json_integer(1);
    assert_int_equal(osm_schema_apply(s, no_object, NULL), OSM_EINVAL);
    json_decref(no_object);
    osm_schema_free(s);
    json_decref(openapi);
    json_decref(value);
    json_decref(want);
}

static void test_null_is_absent_as_a_field_and_wrong_as_an_entry(void **state)
{
    (void)state;
    expect(SPLIT, "{'service':'a','backends':null}", "{'service':'a'}");
    refuse(SPLIT, "{'service':null}", "spec.service: is required");
    refuse(SPLIT, "{'service':'a','backends':[null]}",
           "spec.backends[0]: expected object, got null");
    refuse("{'type':'array','items':{'x-kubernetes-preserve-unknown-fields':true}}", "[null]",
           "spec[0]: must not be null");
    refuse("{'type':'object','additionalProperties':{'type':'string'}}", "{'a':null,'b':'c'}",
           "spec.a: expected string, got null");
    expect("{'type':'object','properties':{'a':{'type':'string','nullable':true}}}", "{'a':null}",
           "{'a':null}");
    expect("{'type':'object','properties':{'a':{'type':'string','default':'d'}}}", "{'a':null}",
           "{'a':'d'}");
}

static void test_defaults_are_written_before_the_check(void **state)
{
    (void)state;
    expect("{'type':'object','required':['a'],'properties':{'a':{'type':'integer','default':5}}}",
           "{}", "{'a':5}");
    expect("{'type':'object','properties':{'a':{'type':'integer','default':5}}}", "{'a':0}",
           "{'a':0}");
    expect("{'type':'object','properties':{'o':{'type':'object','default':{},'properties':{'b':{'"
           "type':'boolean','default':true}}}}}",
           "{}", "{'o':{'b':true}}");
    expect("{'type':'array','items':{'type':'object','properties':{'a':{'type':'integer','default':"
           "1}}}}",
           "[{},{'a':2}]", "[{'a':1},{'a':2}]");
    expect("{'type':'object','properties':{'l':{'type':'array','default':[],'items':{'type':'"
           "string'}}}}",
           "{}", "{'l':[]}");
}

static void test_a_default_is_a_copy(void **state)
{
    (void)state;
    json_t *openapi = parse("{'type':'object','properties':{'l':{'type':'array','default':[1],'"
                            "items':{'type':'integer'}}}}");
    json_t *a = parse("{}"), *b = parse("{}");
    struct osm_schema *s = NULL;
    assert_int_equal(osm_schema_new(&s, openapi, NULL), 0);
    json_decref(openapi);
    assert_int_equal(osm_schema_apply(s, a, NULL), 0);
    json_array_append_new(json_object_get(a, "l"), json_integer(2));
    assert_int_equal(osm_schema_apply(s, b, NULL), 0);
    assert_int_equal(json_array_size(json_object_get(b, "l")), 1);
    osm_schema_free(s);
    json_decref(a);
    json_decref(b);
}

static void test_limits(void **state)
{
    (void)state;
    refuse("{'type':'integer','minimum':1}", "0", "spec: must be at least 1");
    expect("{'type':'integer','minimum':1}", "1", "1");
    refuse("{'type':'integer','minimum':1,'exclusiveMinimum':true}", "1",
           "spec: must be more than 1");
    refuse("{'type':'number','maximum':1.5}", "1.75", "spec: must be at most 1.5");
    refuse("{'type':'number','maximum':1.5,'exclusiveMaximum':true}", "1.5",
           "spec: must be less than 1.5");
    refuse("{'type':'string','minLength':2}", "'\xc3\xa9'",
           "spec: must be at least 2 characters long");
    refuse("{'type':'string','maxLength':1}", "'ab'", "spec: must be at most 1 characters long");
    expect("{'type':'string','maxLength':1}", "'\xc3\xa9'", "'\xc3\xa9'");
    refuse("{'type':'array','minItems':1}", "[]", "spec: must have at least 1 items");
    refuse("{'type':'array','maxItems':1}", "[1,2]", "spec: must have at most 1 items");
    refuse("{'type':'object','minProperties':1}", "{'pruned':1}",
           "spec: must have at least 1 properties");
    refuse("{'type':'object','maxProperties':1,'additionalProperties':true}", "{'a':1,'b':2}",
           "spec: must have at most 1 properties");
    refuse("{'type':'string','enum':['tcp','http']}", "'udp'",
           "spec: expected one of \"tcp\", \"http\", got \"udp\"");
    expect("{'type':'integer','enum':[1,2]}", "2.0", "2");
    refuse("{'type':'string','pattern':'^a+$'}", "'aab'", "spec: does not match ^a+$");
    expect("{'type':'string','pattern':'b'}", "'abc'", "'abc'");
}

static void test_combinations(void **state)
{
    (void)state;
    const char *one = "{'type':'object','properties':{'a':{'type':'integer'},'b':{'type':'integer'}"
                      "},'oneOf':[{'required':['a']},{'required':['b']}]}";
    expect(one, "{'a':1}", "{'a':1}");
    refuse(one, "{}", "spec: must match exactly one of 2 forms, but matches 0");
    refuse(one, "{'a':1,'b':2}", "spec: must match exactly one of 2 forms, but matches 2");
    const char *any = "{'x-kubernetes-int-or-string':true,'anyOf':[{'type':'integer','minimum':1},{"
                      "'type':'string'}]}";
    expect(any, "'x'", "'x'");
    expect(any, "1", "1");
    refuse(any, "0", "spec: matches none of the 2 forms that it may have");
    refuse("{'type':'integer','not':{'enum':[0]}}", "0", "spec: has a form that is not allowed");
    refuse("{'type':'integer','allOf':[{'minimum':1},{'maximum':3}]}", "4",
           "spec: must be at most 3");
    /* They only check: what they name is neither defaulted nor pruned by them. */
    expect("{'type':'object','x-kubernetes-preserve-unknown-fields':true,'anyOf':[{'type':'object',"
           "'properties':{'a':{'default':1,'type':'integer'}}}]}",
           "{'b':2}", "{'b':2}");
}

static void test_lists_of_which_no_two_items_may_be_equal(void **state)
{
    (void)state;
    const char *set = "{'type':'array','x-kubernetes-list-type':'set','items':{'type':'string'}}";
    expect(set, "['a','b']", "['a','b']");
    refuse(set, "['a','b','a']", "spec[2]: is in the list already");
    const char *map =
        "{'type':'array','x-kubernetes-list-type':'map','x-kubernetes-list-map-keys':['port',"
        "'protocol'],'items':{'type':'object','properties':{'port':{'type':'integer'},'protocol':{"
        "'type':'string','default':'TCP'},'name':{'type':'string'}}}}";
    expect(map, "[{'port':1},{'port':1,'protocol':'UDP'}]",
           "[{'port':1,'protocol':'TCP'},{'port':1,'protocol':'UDP'}]");
    /* Compared with their defaults, as they are stored. */
    refuse(map, "[{'port':1,'name':'a'},{'port':1.0,'protocol':'TCP','name':'b'}]",
           "spec[1]: is in the list already");
    refuse(map, "[{'port':1},{'port':1,'protocol':null}]", "spec[1]: is in the list already");
    expect("{'type':'array','x-kubernetes-list-type':'atomic','items':{'type':'string'}}",
           "['a','a']", "['a','a']");
    expect_unsupported("{'type':'object','properties':{'a':{'type':'array','x-kubernetes-list-type'"
                       ":'bag'}}}",
                       OSM_EINVAL,
                       "a: schema: x-kubernetes-list-type: expected one of atomic, set, map");
}

static void test_an_object_within_an_object_says_what_it_is(void **state)
{
    (void)state;
    const char *any = "{'type':'object','x-kubernetes-embedded-resource':true,"
                      "'properties':{'spec':{'type':'object'}}}";
    expect(any, "{'apiVersion':'v1','kind':'Pod','metadata':{'name':'p'},'spec':{'x':1},'y':2}",
           "{'apiVersion':'v1','kind':'Pod','metadata':{'name':'p'},'spec':{}}");
    refuse(any, "{'kind':'Pod'}", "spec.apiVersion: must be a text that is not empty");
    refuse(any, "{'apiVersion':'v1','kind':''}", "spec.kind: must be a text that is not empty");
    refuse(any, "{'apiVersion':'v1','kind':'Pod','metadata':7}",
           "spec.metadata: expected object, got integer");
}

static void test_an_empty_table_of_lua_is_what_the_schema_wants(void **state)
{
    (void)state;
    json_t *openapi =
        parse("{'type':'object','properties':{'l':{'type':'array','items':{'type':'object'}},'m':{"
              "'type':'object'},'s':{'type':'string'}}}");
    struct osm_schema *s = NULL;
    struct osm_err err = {0};
    assert_int_equal(osm_schema_new(&s, openapi, NULL), 0);
    json_t *value = parse("{'l':{},'m':[]}"), *want = parse("{'l':[],'m':{}}");
    assert_int_equal(osm_schema_apply_lua(s, value, NULL), 0);
    assert_true(json_equal(value, want));
    json_t *inside = parse("{'l':[[]]}"), *inside_want = parse("{'l':[{}]}");
    assert_int_equal(osm_schema_apply_lua(s, inside, NULL), 0);
    assert_true(json_equal(inside, inside_want));
    json_t *full = parse("{'m':[1]}"), *text = parse("{'s':[]}"), *manifest = parse("{'l':{}}");
    assert_int_equal(osm_schema_apply_lua(s, full, &err), OSM_EINVAL);
    assert_int_equal(osm_schema_apply_lua(s, text, &err), OSM_EINVAL);
    assert_int_equal(osm_schema_apply(s, manifest, &err), OSM_EINVAL); /* there they differ */
    assert_string_equal(err.msg, "l: expected array, got object");
    json_t *all[] = {openapi, value, want, inside, inside_want, full, text, manifest};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        json_decref(all[i]);
    osm_schema_free(s);
}

static void test_what_is_not_supported_is_said(void **state)
{
    (void)state;
    expect_unsupported("{'type':'object','properties':{'spec':{'type':'object','properties':{'w':{'"
                       "type':'integer','multipleOf':2}}}}}",
                       OSM_ENOTSUP, "spec.w: schema: not supported: multipleOf");
    expect_unsupported("{'type':'object','properties':{'a':{'type':'string','format':'uuid'}}}",
                       OSM_ENOTSUP, "a: schema: not supported: format uuid");
    expect_unsupported(
        "{'type':'object','properties':{'a':{'type':'text'}}}", OSM_EINVAL,
        "a: schema: type: expected one of object, array, string, integer, number, boolean");
    expect_unsupported("{'type':'object','properties':{'a':{'type':'string','pattern':'('}}}",
                       OSM_EINVAL, "a: schema: pattern: not a regular expression: missing ): (");
    expect_unsupported("{'type':'object','properties':{'a':{'type':'integer','default':'x'}}}",
                       OSM_EINVAL, "a: schema: default: expected integer, got string");
    expect_unsupported("{'type':'string'}", OSM_EINVAL, "schema: the root must be of type object");
    expect_unsupported("[]", OSM_EINVAL, "schema: expected an object");
}

static void test_depth_is_limited(void **state)
{
    (void)state;
    json_t *openapi = json_pack("{s:s}", "type", "object");
    for (int i = 0; i < 70; i++)
        openapi = json_pack("{s:s,s:{s:o}}", "type", "object", "properties", "a", openapi);
    struct osm_err err = {0};
    struct osm_schema *s = NULL;
    assert_int_equal(osm_schema_new(&s, openapi, &err), OSM_ELIMIT);
    json_decref(openapi);
}

static void test_out_of_memory_leaks_nothing(void **state)
{
    (void)state;
    json_t *openapi = parse("{'type':'object','properties':{'spec':" SPLIT "}}");
    struct osm_schema *s = NULL;
    int rc = OSM_ENOMEM;
    for (long n = 0; rc && n < 200; n++) {
        osm_mem_fail_at(n);
        rc = osm_schema_new(&s, openapi, NULL);
        osm_mem_fail_at(-1);
        assert_true(!rc || rc == OSM_ENOMEM);
    }
    assert_int_equal(rc, 0);
    osm_schema_free(s);
    json_decref(openapi);
}

static void test_regular_expressions_that_envoy_would_refuse(void **state)
{
    (void)state;
    struct osm_err err = {0};
    assert_int_equal(osm_regex_check("/v1/[^/]+/items", 100, &err), 0);
    assert_int_equal(osm_regex_check("a(?=b)", 0, &err), OSM_EINVAL);
    assert_non_null(strstr(err.msg, "not a regular expression: invalid perl operator: (?="));
    assert_int_equal(osm_regex_check("(\\p{L}{10}){5}", 100, &err), OSM_ELIMIT);
    assert_non_null(strstr(err.msg, "the proxies take 100 at most"));
    assert_int_equal(osm_regex_check("(\\p{L}{10}){5}", 0, &err), 0);
}

static int no_allocation_is_left(void **state)
{
    (void)state;
    return osm_mem_live() ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_wrong_type_names_its_path),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_unknown_properties_are_pruned),
        cmocka_unit_test(test_unknown_properties_are_refused_where_the_schema_is_closed),
        cmocka_unit_test(test_the_object_s_own_keys_stay),
        cmocka_unit_test(test_null_is_absent_as_a_field_and_wrong_as_an_entry),
        cmocka_unit_test(test_defaults_are_written_before_the_check),
        cmocka_unit_test(test_a_default_is_a_copy),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_combinations),
        cmocka_unit_test(test_lists_of_which_no_two_items_may_be_equal),
        cmocka_unit_test(test_an_object_within_an_object_says_what_it_is),
        cmocka_unit_test(test_an_empty_table_of_lua_is_what_the_schema_wants),
        cmocka_unit_test(test_what_is_not_supported_is_said),
        cmocka_unit_test(test_depth_is_limited),
        cmocka_unit_test(test_out_of_memory_leaks_nothing),
        cmocka_unit_test(test_regular_expressions_that_envoy_would_refuse),
    };
    return cmocka_run_group_tests(tests, NULL, no_allocation_is_left);
}
