#include "policy/bundle/doc.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const char MODULE[] = "--- The head.\n"
                             "---\n"
                             "--- More of it.\n"
                             "local M = { api = 1 }\n"
                             "\n"
                             "--- One share.\n"
                             "---@class split.Backend\n"
                             "---@field weight integer\n"
                             "\n"
                             "---@alias split.Names \"everyone\"|string[]\n"
                             "\n"
                             "M.indexes = {\n"
                             "  --- By Service.\n"
                             "  splits_of = {\n"
                             "    keys = function(split) return {} end,\n"
                             "  },\n"
                             "}\n"
                             "\n"
                             "--- Where requests go.\n"
                             "--- Two lines.\n"
                             "---@param mesh mesh.Reader\n"
                             "---@param f? fun(a: string, b: integer): boolean  what it is\n"
                             "---  and more\n"
                             "---@param t table<string, integer> | nil # a map\n"
                             "---@return split.Backend[]  by service\n"
                             "function M.backends(mesh, f, t) end\n"
                             "\n"
                             "---@return boolean ok, string? problem  for a message\n"
                             "function M.check() end\n"
                             "-- no doc\n"
                             "function M.plain(...) end\n";

static int line_of(const char *what)
{
    int line = 1;
    const char *end = strstr(MODULE, what);
    assert_non_null(end);
    for (const char *at = MODULE; at < end; at++)
        line += *at == '\n';
    return line;
}

static const char *text_at(const json_t *list, size_t i, const char *member)
{
    return json_string_value(json_object_get(json_array_get(list, i), member));
}

static void assert_entry(const json_t *list, size_t i, const char *name, const char *type,
                         const char *text)
{
    assert_string_equal(text_at(list, i, "name"), name);
    assert_string_equal(text_at(list, i, "type"), type);
    assert_string_equal(text_at(list, i, "text"), text);
}

static void test_reads_text_parameters_and_answer_above_a_function(void **state)
{
    (void)state;
    json_t *doc = osm_doc_above(MODULE, line_of("function M.backends"));
    const json_t *params = json_object_get(doc, "params"),
                 *returns = json_object_get(doc, "returns");
    assert_string_equal(json_string_value(json_object_get(doc, "text")),
                        "Where requests go.\nTwo lines.");
    assert_int_equal(json_array_size(params), 3);
    assert_entry(params, 0, "mesh", "mesh.Reader", "");
    assert_entry(params, 1, "f?", "fun(a: string, b: integer): boolean", "what it is and more");
    assert_entry(params, 2, "t", "table<string, integer> | nil", "a map");
    assert_int_equal(json_array_size(returns), 1);
    assert_entry(returns, 0, "", "split.Backend[]", "by service");
    json_decref(doc);
}

static void test_tells_a_name_of_an_answer_from_its_text(void **state)
{
    (void)state;
    json_t *doc = osm_doc_above(MODULE, line_of("function M.check"));
    const json_t *returns = json_object_get(doc, "returns");
    assert_int_equal(json_array_size(returns), 2);
    assert_entry(returns, 0, "ok", "boolean", "");
    assert_entry(returns, 1, "problem", "string?", "for a message");
    json_decref(doc);
    doc = osm_doc_above("---@return string  it is one\nfunction M.f() end\n", 2);
    assert_entry(json_object_get(doc, "returns"), 0, "", "string", "it is one");
    json_decref(doc);
}

static void test_a_plain_comment_is_no_doc(void **state)
{
    (void)state;
    json_t *doc = osm_doc_above(MODULE, line_of("function M.plain"));
    assert_string_equal(json_string_value(json_object_get(doc, "text")), "");
    json_decref(doc);
}

static void test_finds_the_entry_that_holds_a_function(void **state)
{
    (void)state;
    int keys = line_of("keys = function");
    assert_int_equal(osm_doc_line_of(MODULE, "splits_of", keys), line_of("splits_of = {"));
    assert_int_equal(osm_doc_line_of(MODULE, "nobody", keys), keys);
    assert_int_equal(osm_doc_line_of("M.rules = {\n  [\"a.b\"] = function() end,\n}\n", "a.b", 3),
                     2);
    assert_int_equal(osm_doc_line_of("\nM.rules.all = f\n", "all", 2), 2);
    assert_int_equal(osm_doc_line_of("\nif x == 1 then\n", "x", 2), 2);
}

static void test_reads_the_head_types_and_functions_of_a_module(void **state)
{
    (void)state;
    json_t *head = osm_doc_head(MODULE), *types = osm_doc_types(MODULE),
           *functions = osm_doc_functions(MODULE);
    assert_string_equal(json_string_value(head), "The head.\n\nMore of it.");
    assert_int_equal(json_array_size(types), 2);
    assert_string_equal(text_at(types, 0, "name"), "split.Backend");
    assert_int_equal(json_array_size(json_object_get(json_array_get(types, 0), "lines")), 3);
    assert_string_equal(text_at(types, 1, "name"), "split.Names");
    assert_int_equal(json_integer_value(json_object_get(json_array_get(types, 1), "line")),
                     line_of("---@alias"));
    assert_int_equal(json_array_size(functions), 3);
    assert_string_equal(text_at(functions, 0, "name"), "backends");
    const json_t *args = json_object_get(json_array_get(functions, 0), "args");
    assert_int_equal(json_array_size(args), 3);
    assert_string_equal(json_string_value(json_array_get(args, 2)), "t");
    args = json_object_get(json_array_get(functions, 2), "args");
    assert_string_equal(json_string_value(json_array_get(args, 0)), "...");
    json_decref(head);
    json_decref(types);
    json_decref(functions);
}

/* Whatever an author has typed is read to its end and no further. */
static void test_survives_every_cut_of_a_module(void **state)
{
    (void)state;
    for (size_t n = 0; n < sizeof MODULE; n++) {
        char *cut = osm_strndup(MODULE, n);
        assert_non_null(cut);
        json_t *all[] = {osm_doc_head(cut), osm_doc_types(cut), osm_doc_functions(cut),
                         osm_doc_above(cut, 1000), osm_doc_above(cut, 1)};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
            assert_non_null(all[i]);
            json_decref(all[i]);
        }
        (void)osm_doc_line_of(cut, "splits_of", 1000);
        osm_free(cut);
    }
}

static void test_says_so_when_memory_is_out(void **state)
{
    (void)state;
    json_set_alloc_funcs(osm_alloc, osm_free);
    bool failed = true;
    long live = osm_mem_live();
    for (long n = 0; failed; n++) {
        osm_mem_fail_at(n);
        json_t *functions = osm_doc_functions(MODULE);
        osm_mem_fail_at(-1);
        failed = !functions;
        json_decref(functions);
        assert_int_equal(osm_mem_live(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_text_parameters_and_answer_above_a_function),
        cmocka_unit_test(test_tells_a_name_of_an_answer_from_its_text),
        cmocka_unit_test(test_a_plain_comment_is_no_doc),
        cmocka_unit_test(test_finds_the_entry_that_holds_a_function),
        cmocka_unit_test(test_reads_the_head_types_and_functions_of_a_module),
        cmocka_unit_test(test_survives_every_cut_of_a_module),
        cmocka_unit_test(test_says_so_when_memory_is_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
