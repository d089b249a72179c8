/* What a command takes, and what is refused before its handler sees it. */
#include "debug/registry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void handler(void *ud, struct osm_control_request *request, const json_t *args)
{
    (void)ud;
    (void)request;
    (void)args;
}

static const struct osm_control_arg show_args[] = {
    {.name = "node", .type = OSM_ARG_TEXT, .required = true, .help = "NAMESPACE/POD"},
    {.name = "type", .type = OSM_ARG_TEXT, .choices = "CDS EDS", .help = "of which"},
    {.name = "count", .type = OSM_ARG_INTEGER, .min = 1, .max = 10, .help = "how many"},
    {.name = "any", .type = OSM_ARG_INTEGER, .help = "a number"},
    {.name = "all", .type = OSM_ARG_FLAG, .help = "everything"},
    {.name = "keys", .type = OSM_ARG_KEYS, .help = "of a rule"},
    {.name = "names", .type = OSM_ARG_TEXTS, .help = "several"},
    {.name = "code", .type = OSM_ARG_LINE, .help = "Lua"},
    {.name = NULL},
};
static const struct osm_control_command table[] = {
    {.name = "xds.show", .handler = handler, .args = show_args, .help = "what is served"},
    {.name = "status", .handler = handler, .role = OSM_ROLE_OPERATE, .help = "how it is"},
    {.name = NULL},
};

static void test_arguments_are_held_to_the_schema(void **state)
{
    (void)state;
    static const struct {
        const char *args, *error; /* NULL: they are right */
    } cases[] = {
        {"{'node':'a/b'}", NULL},
        {"{'node':'a/b','type':'eds','count':10,'any':-5,'all':false,'keys':['x',1,true],"
         "'names':['n'],'code':''}",
         NULL},
        {"{'node':'a/b','keys':[],'names':[]}", NULL},
        {"{}", "xds.show: node is missing: NAMESPACE/POD"},
        {"{'node':''}", "node: expected a text that is not empty"},
        {"{'node':5}", "node: expected a text that is not empty"},
        {"{'node':null}", "node: expected a text that is not empty"},
        {"{'node':'a','type':'ED'}", "type: expected one of CDS EDS, got ED"},
        {"{'node':'a','type':'CDS EDS'}", "type: expected one of CDS EDS, got CDS EDS"},
        {"{'node':'a','count':0}", "count: expected 1 to 10"},
        {"{'node':'a','count':11}", "count: expected 1 to 10"},
        {"{'node':'a','count':1.5}", "count: expected a whole number"},
        {"{'node':'a','count':'1'}", "count: expected a whole number"},
        {"{'node':'a','all':1}", "all: expected true or false"},
        {"{'node':'a','keys':'x'}", "keys: expected an array of texts, whole numbers and booleans"},
        {"{'node':'a','keys':[1.5]}",
         "keys: expected an array of texts, whole numbers and booleans"},
        {"{'node':'a','keys':[null]}",
         "keys: expected an array of texts, whole numbers and booleans"},
        {"{'node':'a','names':['n',1]}", "names: expected an array of texts"},
        {"{'node':'a','code':1}", "code: expected a text"},
        {"{'node':'a','nodes':'b'}", "xds.show takes no argument nodes; did you mean node?"},
        {"{'node':'a','something':'b'}", "xds.show takes no argument something"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct osm_err err = {0};
        char text[256];
        (void)snprintf(text, sizeof text, "%s", cases[i].args);
        for (char *c = text; *c; c++)
            *c = *c == '\'' ? '"' : *c;
        json_t *args = json_loads(text, 0, NULL);
        assert_non_null(args);
        int rc = osm_registry_check(&table[0], args, &err);
        assert_string_equal(err.msg, cases[i].error ? cases[i].error : "");
        assert_int_equal(rc, cases[i].error ? OSM_EINVAL : 0);
        json_decref(args);
    }
}

static void test_a_name_belongs_to_one_command(void **state)
{
    (void)state;
    struct osm_err err = {0};
    int here, there;
    void *ud;
    struct osm_registry *r = osm_registry_new();
    static const struct osm_control_command twin[] = {
        {.name = "mem", .handler = handler, .help = "memory"},
        {.name = "status", .handler = handler, .help = "another"},
        {.name = NULL},
    };
    assert_int_equal(osm_registry_add(r, table, &here, &err), 0);
    assert_int_equal(osm_registry_add(r, twin, &there, &err), OSM_EEXIST);
    assert_string_equal(err.msg, "two commands are called status");
    assert_ptr_equal(osm_registry_find(r, "status", &ud), &table[1]);
    assert_ptr_equal(ud, &here);
    assert_ptr_equal(osm_registry_find(r, "mem", &ud), &twin[0]);
    assert_ptr_equal(ud, &there);
    assert_null(osm_registry_find(r, "statu", &ud));
    assert_string_equal(osm_registry_nearest(r, "statu"), "status");
    assert_null(osm_registry_nearest(r, "something.else"));
    osm_registry_free(r);
    assert_int_equal(osm_mem_live(), 0);
}

static void test_help_is_sorted_and_says_bounds_and_choices(void **state)
{
    (void)state;
    struct osm_err err = {0};
    struct osm_registry *r = osm_registry_new();
    assert_int_equal(osm_registry_add(r, table, NULL, &err), 0);
    json_t *all = osm_registry_describe_all(r);
    assert_int_equal(json_array_size(all), 2);
    char *first = json_dumps(json_array_get(all, 0), JSON_COMPACT);
    assert_string_equal(first, "{\"name\":\"status\",\"role\":\"operate\",\"help\":\"how it is\","
                               "\"args\":[]}");
    const json_t *args = json_object_get(json_array_get(all, 1), "args");
    char *type = json_dumps(json_array_get(args, 1), JSON_COMPACT);
    char *count = json_dumps(json_array_get(args, 2), JSON_COMPACT);
    assert_string_equal(type, "{\"name\":\"type\",\"type\":\"text\",\"required\":false,\"help\":"
                              "\"of which\",\"choices\":[\"CDS\",\"EDS\"]}");
    assert_string_equal(count, "{\"name\":\"count\",\"type\":\"integer\",\"required\":false,"
                               "\"help\":\"how many\",\"min\":1,\"max\":10}");
    free(first);
    free(type);
    free(count);
    json_decref(all);
    osm_registry_free(r);
    assert_int_equal(osm_mem_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arguments_are_held_to_the_schema),
        cmocka_unit_test(test_a_name_belongs_to_one_command),
        cmocka_unit_test(test_help_is_sorted_and_says_bounds_and_choices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
