/* The diff of two values, as a table: what people read is "path: before -> after", a line each. */
#include "whatif/fields.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { TEXT_MAX_BYTES = 1 << 20, FIELDS_MAX = 20000 };

static json_t *parse(const char *text)
{
    json_error_t where;
    json_t *value = json_loads(text, JSON_DECODE_ANY, &where);
    if (!value)
        fail_msg("%s: %s", text, where.text);
    return value;
}

static void add_value(struct osm_buf *out, const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
    assert_non_null(text);
    (void)osm_buf_add_str(out, text);
    osm_free(text);
}

/* "+path value", "-path value", "path: before -> after", "~path 2 -> 0" (moved); a line each. */
static void add_line(struct osm_buf *out, const json_t *field)
{
    const char *change = json_string_value(json_object_get(field, "change"));
    const char *path = json_string_value(json_object_get(field, "path"));
    const json_t *before = json_object_get(field, "before"),
                 *after = json_object_get(field, "after");
    bool changed = !strcmp(change, "changed");
    (void)osm_buf_addf(out, "%s%s%s ",
                       !strcmp(change, "added")     ? "+"
                       : !strcmp(change, "removed") ? "-"
                       : !strcmp(change, "moved")   ? "~"
                                                    : "",
                       path, changed ? ":" : "");
    if (before)
        add_value(out, before);
    if (before && after)
        (void)osm_buf_add_str(out, " -> ");
    if (after)
        add_value(out, after);
    (void)osm_buf_add_char(out, '\n');
}

static char *told(const json_t *before, const json_t *after, const char *prefix)
{
    struct osm_buf out = OSM_BUF_INIT(TEXT_MAX_BYTES);
    json_t *fields = json_array(), *field;
    size_t more = 0, i;
    assert_int_equal(osm_fields_diff(before, after, prefix, fields, FIELDS_MAX, &more), 0);
    assert_int_equal(more, 0);
    json_array_foreach (fields, i, field)
        add_line(&out, field);
    json_decref(fields);
    char *text = osm_buf_take(&out);
    assert_non_null(text);
    return text;
}

struct row {
    const char *what, *before, *after, *lines;
};

static const struct row rows[] = {
    {"nothing", "{\"a\": [1, {\"b\": null}]}", "{\"a\": [1, {\"b\": null}]}", ""},
    {"a number", "{\"a\": {\"b\": 1}}", "{\"a\": {\"b\": 2}}", "a.b: 1 -> 2\n"},
    {"an integer is no real", "{\"a\": 1}", "{\"a\": 1.0}", "a: 1 -> 1.0\n"},
    {"a field comes, another goes", "{\"a\": 1, \"b\": 2}", "{\"b\": 2, \"c\": 3}", "-a 1\n+c 3\n"},
    {"a whole part comes", "{}", "{\"a\": {\"b\": {\"c\": 1}}}", "+a {\"b\":{\"c\":1}}\n"},
    {"null is a value", "{\"a\": null}", "{\"a\": 1}", "a: null -> 1\n"},
    {"a key with dots", "{\"p\": {\"envoy.filters.http.rbac\": {\"x\": 1}}}",
     "{\"p\": {\"envoy.filters.http.rbac\": {\"x\": 2}}}",
     "p[\"envoy.filters.http.rbac\"].x: 1 -> 2\n"},
    {"another kind of value", "{\"a\": {\"b\": 1}}", "{\"a\": [1]}", "a: {\"b\":1} -> [1]\n"},
    {"another message in an Any", "{\"c\": {\"@type\": \"x\", \"v\": 1}}",
     "{\"c\": {\"@type\": \"y\", \"v\": 1}}",
     "c: {\"@type\":\"x\",\"v\":1} -> {\"@type\":\"y\",\"v\":1}\n"},

    /* elements with names */
    {"by name, wherever it stands",
     "{\"l\": [{\"name\": \"a\", \"w\": 1}, {\"name\": \"b\", \"w\": 2}]}",
     "{\"l\": [{\"name\": \"new\", \"w\": 0}, {\"name\": \"a\", \"w\": 1}, {\"name\": \"b\", "
     "\"w\": 3}]}",
     "+l[name=new] {\"name\":\"new\",\"w\":0}\nl[name=b].w: 2 -> 3\n"},
    {"one goes", "{\"l\": [{\"name\": \"a\"}, {\"name\": \"b\"}]}", "{\"l\": [{\"name\": \"b\"}]}",
     "-l[name=a] {\"name\":\"a\"}\n"},
    {"all go", "{\"l\": [{\"name\": \"a\"}]}", "{\"l\": []}", "-l[name=a] {\"name\":\"a\"}\n"},
    {"one moves to the front", "{\"l\": [{\"name\": \"a\"}, {\"name\": \"b\"}, {\"name\": \"c\"}]}",
     "{\"l\": [{\"name\": \"c\"}, {\"name\": \"a\"}, {\"name\": \"b\"}]}", "~l[name=c] 2 -> 0\n"},
    {"moved and changed", "{\"l\": [{\"name\": \"a\", \"w\": 1}, {\"name\": \"b\"}]}",
     "{\"l\": [{\"name\": \"b\"}, {\"name\": \"a\", \"w\": 2}]}",
     "l[name=a].w: 1 -> 2\n~l[name=b] 1 -> 0\n"},
    {"by key", "{\"h\": [{\"header\": {\"key\": \"x\", \"value\": \"1\"}}]}",
     "{\"h\": [{\"header\": {\"key\": \"x\", \"value\": \"2\"}}]}",
     "h[key=x].header.value: \"1\" -> \"2\"\n"},
    {"endpoints by address",
     "{\"l\": [{\"endpoint\": {\"address\": {\"socket_address\": {\"address\": \"10.0.0.1\", "
     "\"port_value\": 1}}}}]}",
     "{\"l\": [{\"endpoint\": {\"address\": {\"socket_address\": {\"address\": \"10.0.0.1\", "
     "\"port_value\": 2}}}}]}",
     "l[address=10.0.0.1].endpoint.address.socket_address.port_value: 1 -> 2\n"},
    {"a name that is there twice names nobody",
     "{\"l\": [{\"name\": \"m\", \"v\": 1}, {\"name\": \"m\", \"v\": 2}]}",
     "{\"l\": [{\"name\": \"m\", \"v\": 1}, {\"name\": \"m\", \"v\": 3}]}", "l[1].v: 2 -> 3\n"},

    /* elements without */
    {"in front", "{\"l\": [\"a\", \"b\", \"c\"]}", "{\"l\": [\"new\", \"a\", \"b\", \"c\"]}",
     "+l[0] \"new\"\n"},
    {"in the middle goes", "{\"l\": [\"a\", \"b\", \"c\"]}", "{\"l\": [\"a\", \"c\"]}",
     "-l[1] \"b\"\n"},
    {"one for another", "{\"l\": [\"a\", \"b\", \"c\"]}", "{\"l\": [\"a\", \"x\", \"c\"]}",
     "l[1]: \"b\" -> \"x\"\n"},
    {"one for another and one more", "{\"l\": [1, 2, 3, 4]}", "{\"l\": [0, 1, 2, 3, 5]}",
     "+l[0] 0\nl[4]: 4 -> 5\n"},
    {"a route in front of a changed one",
     "{\"r\": [{\"match\": \"/a\", \"to\": {\"c\": 1, \"t\": 0}}, {\"match\": \"/b\", \"to\": "
     "{\"c\": 2, \"t\": 0}}]}",
     "{\"r\": [{\"match\": \"/n\", \"to\": {\"c\": 9, \"t\": 9}}, {\"match\": \"/a\", \"to\": "
     "{\"c\": 1, \"t\": 0}}, "
     "{\"match\": \"/b\", \"to\": {\"c\": 3, \"t\": 0}}]}",
     "+r[0] {\"match\":\"/n\",\"to\":{\"c\":9,\"t\":9}}\nr[2].to.c: 2 -> 3\n"},
    {"principals have nothing in common", "{\"p\": [{\"authenticated\": {\"name\": \"a\"}}]}",
     "{\"p\": [{\"any\": true}]}",
     "-p[0] {\"authenticated\":{\"name\":\"a\"}}\n+p[0] {\"any\":true}\n"},
    {"lists in lists", "{\"l\": [[1, 2], [3]]}", "{\"l\": [[1, 2, 4], [3]]}", "+l[0][2] 4\n"},
};

static void test_each_row_tells_the_least(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *before = parse(rows[i].before), *after = parse(rows[i].after);
        char *text = told(before, after, "");
        if (strcmp(text, rows[i].lines) != 0)
            fail_msg("%s:\n%sinstead of\n%s", rows[i].what, text, rows[i].lines);
        osm_free(text);
        json_decref(before);
        json_decref(after);
    }
}

static void test_what_is_absent_and_where_it_begins(void **state)
{
    (void)state;
    json_t *value = parse("{\"a\": 1}"), *other = parse("{\"a\": 2}");
    char *text = told(NULL, value, "filter_chains[name=x]");
    assert_string_equal(text, "+filter_chains[name=x] {\"a\":1}\n");
    osm_free(text);
    text = told(value, NULL, "filter_chains[name=x]");
    assert_string_equal(text, "-filter_chains[name=x] {\"a\":1}\n");
    osm_free(text);
    text = told(value, other, "filter_chains[name=x]");
    assert_string_equal(text, "filter_chains[name=x].a: 1 -> 2\n");
    osm_free(text);
    json_decref(value);
    json_decref(other);
}

static void test_over_the_limit_they_are_counted(void **state)
{
    (void)state;
    json_t *before = json_object(), *after = json_object(), *fields = json_array();
    size_t more = 1;
    for (int i = 0; i < 20; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "k%d", i);
        (void)json_object_set_new(after, key, json_integer(i));
    }
    assert_int_equal(osm_fields_diff(before, after, "", fields, 5, &more), 0);
    assert_int_equal(json_array_size(fields), 5);
    assert_int_equal(more, 16);
    json_decref(before);
    json_decref(after);
    json_decref(fields);
}

/* Five thousand principals, of which one goes and one comes: not one change per place. */
static void test_long_lists_are_aligned_too(void **state)
{
    (void)state;
    json_t *before = json_array(), *after = json_array();
    for (int i = 0; i < 5000; i++) {
        if (i != 1000)
            (void)json_array_append_new(before, json_pack("{s:{s:i}}", "authenticated", "p", i));
        if (i != 4000)
            (void)json_array_append_new(after, json_pack("{s:{s:i}}", "authenticated", "p", i));
    }
    char *text = told(before, after, "l");
    assert_string_equal(text, "+l[1000] {\"authenticated\":{\"p\":1000}}\n"
                              "-l[3999] {\"authenticated\":{\"p\":4000}}\n");
    osm_free(text);
    (void)json_array_clear(after); /* and where nothing is left in its place, it ends in time */
    for (int i = 0; i < 5000; i++)
        (void)json_array_append_new(after, json_integer(-i));
    text = told(before, after, "l");
    assert_true(strlen(text) > 5000);
    osm_free(text);
    json_decref(before);
    json_decref(after);
}

/* --- any two values --- */

static json_t *random_value(unsigned *seed, int depth)
{
    static const char *const keys[] = {"a", "b", "c.d", "@type"};
    json_t *value;
    switch (depth > 3 ? rand_r(seed) % 3 : rand_r(seed) % 7) {
    case 0:
        return json_integer(rand_r(seed) % 3);
    case 1:
        return json_string(rand_r(seed) % 2 ? "x" : "y");
    case 2:
        return json_boolean(rand_r(seed) % 2);
    case 3:
    case 4:
        value = json_object();
        for (size_t i = 0; i < 4; i++)
            if (rand_r(seed) % 2)
                (void)json_object_set_new(value, keys[i], random_value(seed, depth + 1));
        return value;
    default:
        value = json_array();
        bool named = rand_r(seed) % 2;
        for (int i = rand_r(seed) % 5; i-- > 0;) {
            json_t *element = named ? json_pack("{s:s, s:o}", "name", (char[]){(char)('k' + i), 0},
                                                "v", random_value(seed, depth + 1))
                                    : random_value(seed, depth + 1);
            (void)json_array_insert_new(value, (size_t)rand_r(seed) % (json_array_size(value) + 1),
                                        element);
        }
        return value;
    }
}

/* An equal pair has no diff and any other has one; what is added has no "before", what is removed
 * no "after"; and each "after" is what its path leads to. */
static void test_random_values(void **state)
{
    (void)state;
    unsigned seed = 7;
    for (int n = 0; n < 20000; n++) {
        json_t *before = random_value(&seed, 0), *after = random_value(&seed, 0);
        json_t *fields = json_array(), *field;
        size_t more = 0, i;
        assert_int_equal(osm_fields_diff(before, after, "", fields, FIELDS_MAX, &more), 0);
        assert_int_equal(json_array_size(fields) > 0, !json_equal(before, after));
        json_array_foreach (fields, i, field) {
            const char *path = json_string_value(json_object_get(field, "path"));
            const char *change = json_string_value(json_object_get(field, "change"));
            const json_t *at = NULL, *was = json_object_get(field, "before"),
                         *now = json_object_get(field, "after");
            if (!strcmp(change, "moved"))
                continue;
            bool added = !strcmp(change, "added"), removed = !strcmp(change, "removed");
            assert_int_equal(added, !was);
            assert_int_equal(removed, !now);
            if (now && (osm_fields_at(after, path, &at) || !json_equal(at, now)))
                fail_msg("%s does not lead to what is told", path);
        }
        json_decref(fields);
        json_decref(before);
        json_decref(after);
    }
}

/* Any allocation may fail: it is an error then, and nothing is lost. */
static void test_no_memory_is_an_error(void **state)
{
    (void)state;
    json_t *before = parse("{\"l\": [{\"name\": \"a\"}, {\"name\": \"b\", \"v\": [1, 2]}]}");
    json_t *after = parse("{\"l\": [{\"name\": \"b\", \"v\": [2, 3]}, {\"name\": \"a\"}]}");
    long live = osm_mem_live(), failures = 0;
    for (long n = 0; n < 200; n++) {
        json_t *fields = json_array();
        size_t more = 0;
        osm_mem_fail_at(n);
        int rc = osm_fields_diff(before, after, "", fields, FIELDS_MAX, &more);
        osm_mem_fail_at(-1);
        failures += rc != 0;
        if (!rc)
            assert_int_equal(json_array_size(fields), 3);
        json_decref(fields);
        if (osm_mem_live() != live)
            fail_msg("allocation %ld: something is lost", n);
    }
    assert_true(failures > 20);
    json_decref(before);
    json_decref(after);
}

/* --- paths --- */

static void test_paths_lead_where_they_say(void **state)
{
    (void)state;
    static const struct {
        const char *path, *value; /* NULL: nowhere */
        int rc;
    } paths[] = {
        {"", "{\"f\":[{\"name\":\"a]b\",\"v\":1},{\"name\":\"c\",\"v\":[5,6]}],\"p\":{\"x.y\":7}}",
         0},
        {"f[1].v[0]", "5", 0},
        {"f[name=c].v[1]", "6", 0},
        {"f[name=a]b].v", "1", 0},
        {"p[\"x.y\"]", "7", 0},
        {"f[2]", NULL, OSM_ENOENT},
        {"f[name=d]", NULL, OSM_ENOENT},
        {"f.name", NULL, OSM_ENOENT},
        {"q", NULL, OSM_ENOENT},
        {"f[", NULL, OSM_EPARSE},
        {"f[x]", NULL, OSM_EPARSE},
        {"f..v", NULL, OSM_EPARSE},
        {"f[\"x]", NULL, OSM_EPARSE},
    };
    json_t *value = parse(paths[0].value);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        const json_t *at = NULL;
        assert_int_equal(osm_fields_at(value, paths[i].path, &at), paths[i].rc);
        if (!paths[i].value)
            continue;
        struct osm_buf text = OSM_BUF_INIT(TEXT_MAX_BYTES);
        add_value(&text, at);
        assert_string_equal(text.data, paths[i].value);
        osm_buf_clear(&text);
    }
    struct osm_buf normal = OSM_BUF_INIT(TEXT_MAX_BYTES);
    assert_int_equal(osm_fields_normal(value, "f[1].v[0]", &normal), 0);
    assert_string_equal(normal.data, "f[name=c].v[0]");
    osm_buf_clear(&normal);
    json_decref(value);
    assert_true(osm_fields_within("a.b[0].c", "a.b"));
    assert_true(osm_fields_within("a.b", "a.b"));
    assert_true(osm_fields_within("a.b", ""));
    assert_false(osm_fields_within("a.bc", "a.b"));
    assert_false(osm_fields_within("a", "a.b"));
}

int main(void)
{
    json_set_alloc_funcs(osm_alloc, osm_free);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_row_tells_the_least),
        cmocka_unit_test(test_what_is_absent_and_where_it_begins),
        cmocka_unit_test(test_over_the_limit_they_are_counted),
        cmocka_unit_test(test_long_lists_are_aligned_too),
        cmocka_unit_test(test_random_values),
        cmocka_unit_test(test_no_memory_is_an_error),
        cmocka_unit_test(test_paths_lead_where_they_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
