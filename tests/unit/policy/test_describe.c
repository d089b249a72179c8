#include "policy/engine_util.h"

static const char MODULE[] = "--- Shops.\n"
                             "local M = { api = 1 }\n"
                             "M.kinds = {\n"
                             "  --- A shop.\n"
                             "  Shop = { group = 'x.example', versions = { 'v1' }, schema = {\n"
                             "    type = 'object', properties = { spec = { type = 'object',\n"
                             "      required = { 'size' }, properties = {\n"
                             "        size = { type = 'string', enum = { 's', 'l' } },\n"
                             "        ports = { type = 'array', items = { type = 'integer' } },\n"
                             "  } } } } },\n"
                             "}\n"
                             "M.indexes = {\n"
                             "  --- Shops by size.\n"
                             "  shops_of = {\n"
                             "    of = 'Shop',\n"
                             "    ---@return [string, integer][] # size, port\n"
                             "    keys = function() return {} end,\n"
                             "  },\n"
                             "}\n"
                             "M.rules = {}\n"
                             "--- How big.\n"
                             "---@param mesh mesh.Reader\n"
                             "---@param name string  of the shop\n"
                             "---@return string?  nil: no such shop\n"
                             "function M.rules.size(mesh, namespace, name) return nil end\n"
                             "return M\n";

static json_t *describe(struct bench *b)
{
    struct osm_engine_config config = bench_config(b->dir);
    struct osm_err err = {0};
    json_t *out = NULL;
    assert_int_equal(osm_engine_new(&b->engine, &config, &err), 0);
    assert_int_equal(osm_engine_describe(b->engine, &out, &err), 0);
    return out;
}

static const json_t *find(const json_t *description, const char *list, const char *name)
{
    size_t i;
    json_t *each;
    json_array_foreach (json_object_get(description, list), i, each)
        if (!strcmp(json_string_value(json_object_get(each, "name")), name))
            return each;
    fail_msg("%s: no %s", list, name);
    return NULL;
}

static void assert_text(const json_t *entry, const char *member, const char *expected)
{
    assert_string_equal(json_string_value(json_object_get(entry, member)), expected);
}

static void test_tells_what_a_module_declares_and_what_its_comments_say(void **state)
{
    (void)state;
    struct bench *b = bench_new();
    bench_write(b, "a/shop.lua", MODULE, NULL);
    json_t *told = describe(b);
    const json_t *rule = find(told, "rules", "size"), *index = find(told, "indexes", "shops_of");
    assert_text(rule, "text", "How big.");
    assert_text(rule, "module", "a/shop.lua");
    assert_int_equal(json_integer_value(json_object_get(rule, "line")), 25);
    const json_t *params = json_object_get(rule, "params");
    assert_int_equal(json_array_size(params), 2);
    assert_text(json_array_get(params, 0), "name", "namespace");
    assert_text(json_array_get(params, 0), "type", "");
    assert_text(json_array_get(params, 1), "type", "string");
    assert_text(json_array_get(params, 1), "text", "of the shop");
    assert_text(index, "text", "Shops by size.");
    assert_text(index, "of", "Shop");
    params = json_object_get(index, "params");
    assert_int_equal(json_array_size(params), 2);
    assert_text(json_array_get(params, 0), "name", "size");
    assert_text(json_array_get(params, 1), "type", "integer");
    assert_text(find(told, "modules", "a/shop"), "text", "Shops.");
    assert_int_equal(
        json_array_size(json_object_get(find(told, "facts", "target_ports"), "params")), 3);
    json_decref(told);
    bench_free(b);
}

static void test_tells_the_schema_of_a_kind(void **state)
{
    (void)state;
    struct bench *b = bench_new();
    bench_write(b, "a/shop.lua", MODULE, NULL);
    json_t *told = describe(b);
    const json_t *schema = json_object_get(find(told, "kinds", "Shop"), "schema");
    assert_text(schema, "type", "object");
    const json_t *spec =
        json_object_get(json_array_get(json_object_get(schema, "properties"), 0), "schema");
    const json_t *size = NULL, *ports = NULL, *each;
    size_t i;
    json_array_foreach (json_object_get(spec, "properties"), i, each) {
        if (!strcmp(json_string_value(json_object_get(each, "name")), "size"))
            size = each;
        else
            ports = each;
    }
    assert_true(json_is_true(json_object_get(size, "required")));
    assert_int_equal(json_array_size(json_object_get(json_object_get(size, "schema"), "enum")), 2);
    assert_false(json_is_true(json_object_get(ports, "required")));
    assert_text(json_object_get(json_object_get(ports, "schema"), "items"), "type", "integer");
    json_decref(told);
    bench_free(b);
}

/* The engine may be lost by it, as by any lack of memory; nothing leaks and nothing is half told.
 */
static void test_says_so_when_memory_is_out(void **state)
{
    (void)state;
    json_set_alloc_funcs(osm_alloc, osm_free);
    bool failed = true;
    for (long n = 0; failed; n += 5) {
        long live = osm_mem_live();
        struct bench *b = bench_new();
        struct osm_engine_config config = bench_config("tests/unit/policy/bundles/shop");
        struct osm_err err = {0};
        json_t *out = NULL;
        assert_int_equal(osm_engine_new(&b->engine, &config, &err), 0);
        osm_mem_fail_at(n);
        int rc = osm_engine_describe(b->engine, &out, &err);
        osm_mem_fail_at(-1);
        failed = rc != 0;
        assert_int_equal(failed, out == NULL);
        assert_true(!rc || rc == OSM_ENOMEM || rc == OSM_ELUA);
        json_decref(out);
        bench_free(b);
        assert_int_equal(osm_mem_live(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tells_what_a_module_declares_and_what_its_comments_say),
        cmocka_unit_test(test_tells_the_schema_of_a_kind),
        cmocka_unit_test(test_says_so_when_memory_is_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
