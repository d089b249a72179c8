/* What a line wants next. */
#include "debug/complete.h"

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
    {.name = "node", .type = OSM_ARG_TEXT, .complete = OSM_COMPLETE_POD, .help = ""},
    {.name = "all", .type = OSM_ARG_FLAG, .help = ""},
    {.name = "type", .type = OSM_ARG_TEXT, .choices = "CDS EDS", .help = ""},
    {.name = NULL},
};
static const struct osm_control_arg mesh_args[] = {
    {.name = "name", .type = OSM_ARG_TEXT, .complete = OSM_COMPLETE_MESH, .help = ""},
    {.name = "keys", .type = OSM_ARG_KEYS, .complete = OSM_COMPLETE_KEYS, .help = ""},
    {.name = NULL},
};
static const struct osm_control_arg eval_args[] = {
    {.name = "code", .type = OSM_ARG_LINE, .complete = OSM_COMPLETE_LUA, .help = ""},
    {.name = NULL},
};
static const struct osm_control_arg help_args[] = {
    {.name = "command", .type = OSM_ARG_LINE, .complete = OSM_COMPLETE_COMMAND, .help = ""},
    {.name = NULL},
};
static const struct osm_control_command table[] = {
    {.name = "xds.show", .handler = handler, .args = show_args, .help = ""},
    {.name = "mesh", .handler = handler, .args = mesh_args, .help = ""},
    {.name = "eval", .handler = handler, .args = eval_args, .help = ""},
    {.name = "help", .handler = handler, .args = help_args, .help = ""},
    {.name = "mem", .handler = handler, .help = ""},
    {.name = NULL},
};

/* @p wanted: "what:word" and, of keys, " of name(before, ...)"; "" for nothing. */
static void expect(const char *line, const char *wanted)
{
    static const char *const sources[] = {"choices", "command", "namespace", "pod", "resource",
                                          "mesh",    "keys",    "topic",     "lua"};
    struct osm_err err = {0};
    struct osm_completing c;
    char got[512] = "";
    struct osm_registry *r = osm_registry_new();
    assert_int_equal(osm_registry_add(r, table, NULL, &err), 0);
    assert_int_equal(osm_complete_parse(&c, r, line), 0);
    if (c.any) {
        const char *what = c.command && !c.arg ? "option" : sources[c.source];
        (void)snprintf(got, sizeof got, "%s:%s", what, line + c.start);
        if (c.source == OSM_COMPLETE_KEYS)
            (void)snprintf(got + strlen(got), sizeof got - strlen(got), " of %s(%s%s%s)", c.name,
                           c.before_len > 0 ? c.before[0] : "", c.before_len > 1 ? ", " : "",
                           c.before_len > 1 ? c.before[1] : "");
    }
    assert_string_equal(got, wanted);
    osm_completing_clear(&c);
    osm_registry_free(r);
    assert_int_equal(osm_mem_live(), 0);
}

static void test_commands(void **state)
{
    (void)state;
    expect("", "command:");
    expect("  x", "command:x");
    expect("xds", "command:xds");
    expect("xds sh", "command:xds sh");
    expect("xds show", "command:xds show");
    expect("help xds s", "command:xds s");
    expect("nothing at all", "command:nothing at all");
}

static void test_arguments(void **state)
{
    (void)state;
    expect("xds show ", "pod:");
    expect("xds show demo/w", "pod:demo/w");
    expect("xds show demo/web ", "choices:");
    expect("xds show demo/web C", "choices:C");
    expect("xds show --all demo/web C", "choices:C");
    expect("xds show demo/web --a", "option:--a");
    expect("xds show demo/web CDS ", "");
    expect("mem ", "");
    expect("mesh ", "mesh:");
    expect("mesh back", "mesh:back");
    expect("mesh backends ", "keys: of backends()");
    expect("mesh backends demo w", "keys:w of backends(demo)");
    expect("mesh backends demo web 8", "keys:8 of backends(demo, web)");
    expect("mesh backends 'de", "keys:de of backends()");
}

static void test_lua(void **state)
{
    (void)state;
    expect("eval mesh.", "mesh:");
    expect("eval mesh.ba", "mesh:ba");
    expect("eval mesh.acme.q", "mesh:acme.q");
    expect("eval local x = mesh.ba", "mesh:ba");
    expect("eval mesh.backends(\"", "keys: of backends()");
    expect("eval mesh.backends('de", "keys:de of backends()");
    expect("eval mesh.backends('demo', 'w", "keys:w of backends(demo)");
    expect("eval mesh.backends(ns, 'w", "keys:w of backends(ns)");
    expect("eval #mesh.backends('demo', 'web') + mesh.count('d", "keys:d of count()");
    expect("eval mesh.a('x', mesh.b('y", "keys:y of b()");
    expect("eval mesh.backends('demo', 'web')", "");
    expect("eval mesh.backends(", "");
    expect("eval print('x", "");
    expect("eval x.mesh", "");
    expect("eval m", "");
    expect("eval -- mesh.", "");
    expect("eval", "command:eval");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_lua),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
