#include "base/yaml.h"

#include "base/buf.h"

#include <stdio.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Parses one document and compares it with JSON. */
static void expect_len(const char *yaml, size_t len, const char *json)
{
    struct osm_yaml_docs docs = {NULL, 0};
    struct osm_err err = {0};
    if (osm_yaml_parse(yaml, len, &docs, NULL, &err))
        fail_msg("%s in:\n%s", err.msg, yaml);
    assert_int_equal(docs.len, 1);
    char *text = json_dumps(docs.list[0].value, JSON_COMPACT | JSON_ENCODE_ANY);
    assert_string_equal(text, json);
    osm_free(text);
    osm_yaml_docs_clear(&docs);
}

static void expect(const char *yaml, const char *json)
{
    expect_len(yaml, strlen(yaml), json);
}

/* Parsing must fail at this place, with a text that holds @p what. */
static void expect_error_len(const char *yaml, size_t len, int code, int line, int column,
                             const char *what)
{
    struct osm_yaml_docs docs = {NULL, 0};
    struct osm_yaml_place place = {-1, -1};
    struct osm_err err = {0};
    char start[40];
    int rc = osm_yaml_parse(yaml, len, &docs, &place, &err);
    assert_int_equal(rc, code);
    assert_null(docs.list);
    if (!strstr(err.msg, what))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, what);
    assert_int_equal(place.line, line);
    assert_int_equal(place.column, column);
    (void)snprintf(start, sizeof start, "%d:%d: ", line, column);
    if (line)
        assert_memory_equal(err.msg, start, strlen(start));
}

static void expect_error(const char *yaml, int line, int column, const char *what)
{
    expect_error_len(yaml, strlen(yaml), OSM_EPARSE, line, column, what);
}

static void test_reads_maps_lists_and_texts(void **state)
{
    (void)state;
    expect("a: 1\nb: [x, 'y', \"z\\n\"]\nc:\n- d: {}\n- []\n",
           "{\"a\":1,\"b\":[\"x\",\"y\",\"z\\n\"],\"c\":[{\"d\":{}},[]]}");
    expect("a: |\n  one\n  two\nb: >-\n  three\n  four\n",
           "{\"a\":\"one\\ntwo\\n\",\"b\":\"three four\"}");
}

static void test_plain_words_have_the_types_that_kubectl_gives_them(void **state)
{
    (void)state;
    expect("[true, True, TRUE, yes, Yes, YES, on, On, ON]",
           "[true,true,true,true,true,true,true,true,true]");
    expect("[false, False, FALSE, no, No, NO, off, Off, OFF]",
           "[false,false,false,false,false,false,false,false,false]");
    expect("[~, null, Null, NULL, ]", "[null,null,null,null]");
    expect("a:\nb: ''", "{\"a\":null,\"b\":\"\"}");
    expect("[y, n, Y, N, tRUE, nULL, True1, 2001-01-01, 12:30, 1.2.3, 10.0.0.1, 1s]",
           "[\"y\",\"n\",\"Y\",\"N\",\"tRUE\",\"nULL\",\"True1\",\"2001-01-01\",\"12:30\",\"1.2."
           "3\",\"10.0.0.1\",\"1s\"]");
    expect("['true', \"1\", 'null', '~', '0x1']", "[\"true\",\"1\",\"null\",\"~\",\"0x1\"]");
}

static void test_integers(void **state)
{
    (void)state;
    expect("[0, -0, +7, 42, 1_000, 0x1F, -0x10, 0o17, 017, 0b101, 08, 0]",
           "[0,0,7,42,1000,31,-16,15,15,5,8,0]");
    expect("[9223372036854775807, -9223372036854775808]",
           "[9223372036854775807,-9223372036854775808]");
    expect("[0x, 0xg, 0b2, -, +, ., 1x, 0o9, --1]",
           "[\"0x\",\"0xg\",\"0b2\",\"-\",\"+\",\".\",\"1x\",\"0o9\",\"--1\"]");
    expect_error("a: 9223372036854775808", 1, 4, "does not fit 64 bits");
    expect_error("a: -9223372036854775809", 1, 4, "does not fit 64 bits");
    expect_error("a:\n  - 123456789012345678901234567890", 2, 5, "does not fit 64 bits");
    expect_error("[0xffffffffffffffff]", 1, 2, "does not fit 64 bits");
}

static void test_reals(void **state)
{
    (void)state;
    expect("[1.5, -.5, 1., 1e3, 1E-2, +2.5e+1]", "[1.5,-0.5,1.0,1000.0,0.01,25.0]");
    expect_error("a: .inf", 1, 4, "no finite number");
    expect_error("a: -.INF", 1, 4, "no finite number");
    expect_error("a: .NaN", 1, 4, "no finite number");
    expect_error("a: 1e999", 1, 4, "no finite number");
    expect("a: '.inf'", "{\"a\":\".inf\"}");
}

static void test_tags(void **state)
{
    (void)state;
    expect("[!!str 1, !!str true, ! 12, !!int '7', !!float 3, !!bool yes, !!null '']",
           "[\"1\",\"true\",\"12\",7,3.0,true,null]");
    expect("!!map {a: !!seq [1]}", "{\"a\":[1]}");
    expect_error("a: !!int x", 1, 4, "does not suit the tag");
    expect_error("a: !!binary aGk=", 1, 4, "is not supported");
    expect_error("a: !mine 1", 1, 4, "is not supported");
    expect_error("a: !!set {x}", 1, 4, "is not supported");
}

static void test_keys(void **state)
{
    (void)state;
    expect("{1: a, true: b, 'x y': d, 0x10: e}",
           "{\"1\":\"a\",\"true\":\"b\",\"x y\":\"d\",\"16\":\"e\"}");
}

static void test_duplicate_keys_are_errors(void **state)
{
    (void)state;
    expect_error("a: 1\nb: 2\na: 3", 3, 1, "key \"a\" appears twice");
    expect_error("{a: {b: 1, b: 2}}", 1, 12, "key \"b\" appears twice");
    expect_error("1: a\n'1': b", 2, 1, "appears twice");
    expect_error("? [a]\n: b", 1, 3, "a key must be a string");
    expect_error("? {a: b}\n: b", 1, 3, "a key must be a string");
    expect_error("? \n: b", 1, 2, "a key must be a string");
    expect_error("1.5: b", 1, 1, "a key must be a string");
}

static void test_documents_have_lines_and_empty_ones_are_left_out(void **state)
{
    (void)state;
    struct osm_yaml_docs docs = {NULL, 0};
    static const char text[] =
        "# head\n---\n---\n# only a comment\n---\na: 1\n...\n---\n\n\nb: 2\n---\n~\n";
    assert_int_equal(osm_yaml_parse(text, strlen(text), &docs, NULL, NULL), 0);
    assert_int_equal(docs.len, 2);
    assert_int_equal(docs.list[0].line, 6);
    assert_int_equal(docs.list[1].line, 11);
    osm_yaml_docs_clear(&docs);
    osm_yaml_docs_clear(&docs);
    assert_int_equal(osm_yaml_parse("", 0, &docs, NULL, NULL), 0);
    assert_int_equal(docs.len, 0);
    assert_int_equal(osm_yaml_parse(NULL, 0, &docs, NULL, NULL), 0);
    assert_int_equal(docs.len, 0);
}

static void test_items_have_lines(void **state)
{
    (void)state;
    struct osm_yaml_docs docs = {NULL, 0};
    static const char text[] =
        "kind: List\nitems:\n- a: 1\n  items: [x]\n- b: 2\n- c\n---\nitems: x\n";
    assert_int_equal(osm_yaml_parse(text, strlen(text), &docs, NULL, NULL), 0);
    assert_int_equal(docs.len, 2);
    assert_int_equal(docs.list[0].item_lines_len, 3);
    assert_int_equal(docs.list[0].item_lines[0], 3);
    assert_int_equal(docs.list[0].item_lines[1], 5);
    assert_int_equal(docs.list[0].item_lines[2], 6);
    assert_int_equal(docs.list[1].item_lines_len, 0);
    osm_yaml_docs_clear(&docs);
}

static void test_anchors_and_merge_keys(void **state)
{
    (void)state;
    expect("a: &x [1, 2]\nb: *x", "{\"a\":[1,2],\"b\":[1,2]}");
    expect("a: &x 1\nb: &x 2\nc: *x", "{\"a\":1,\"b\":2,\"c\":2}");
    expect("&k a: *k", "{\"a\":\"a\"}");
    expect("base: &b {x: 1, y: 2}\nuse: {<<: *b, y: 3}",
           "{\"base\":{\"x\":1,\"y\":2},\"use\":{\"y\":3,\"x\":1}}");
    expect("use: {<<: [{x: 1}, {x: 2, y: 2}]}", "{\"use\":{\"x\":1,\"y\":2}}");
    expect("'<<': 1", "{\"<<\":1}");
    expect_error("a: *x", 1, 4, "no anchor of this name");
    expect_error("a: &x [*x]", 1, 8, "no anchor of this name");
    expect_error("a: &x 1\n---\nb: *x", 3, 4, "no anchor of this name");
    expect_error("<<: 1", 1, 1, "needs a map");
    expect_error("{<<: {a: 1}, <<: {b: 1}}", 1, 14, "appears twice");
}

static void test_copies_of_an_anchor_are_independent(void **state)
{
    (void)state;
    struct osm_yaml_docs docs = {NULL, 0};
    static const char text[] = "a: &x {v: 1}\nb: *x";
    assert_int_equal(osm_yaml_parse(text, strlen(text), &docs, NULL, NULL), 0);
    json_t *root = docs.list[0].value;
    assert_ptr_not_equal(json_object_get(root, "a"), json_object_get(root, "b"));
    osm_yaml_docs_clear(&docs);
}

static void test_a_small_text_cannot_become_a_large_value(void **state)
{
    (void)state;
    struct osm_buf text = OSM_BUF_INIT(1 << 20);
    (void)osm_buf_add_str(&text, "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for (int i = 1; i < 10; i++) {
        (void)osm_buf_addf(&text, "a%d: &a%d [", i, i);
        for (int j = 0; j < 10; j++)
            (void)osm_buf_addf(&text, "%s*a%d", j ? ", " : "", i - 1);
        (void)osm_buf_add_str(&text, "]\n");
    }
    expect_error_len(text.data, text.len, OSM_ELIMIT, 6, 45, "more than 1000000 values");
    osm_buf_clear(&text);
}

static void test_depth_is_bounded_by_nesting_and_by_alias(void **state)
{
    (void)state;
    char text[400];
    memset(text, '[', 65);
    memset(text + 65, ']', 65);
    expect_error_len(text, 130, OSM_ELIMIT, 1, 65, "nested deeper than 64");
    struct osm_yaml_docs docs = {NULL, 0};
    assert_int_equal(osm_yaml_parse(text + 1, 128, &docs, NULL, NULL), 0);
    osm_yaml_docs_clear(&docs);
    /* forty deep, put forty deep */
    struct osm_buf buf = OSM_BUF_INIT(4096);
    (void)osm_buf_addf(&buf, "a: &x %.40s%.40s\nb: %.40s*x%.40s\n", text, text + 65, text,
                       text + 65);
    expect_error_len(buf.data, buf.len, OSM_ELIMIT, 2, 44, "nested deeper than 64");
    osm_buf_clear(&buf);
}

static void test_broken_text_is_placed(void **state)
{
    (void)state;
    expect_error("a: 1\nb: [1, 2\nc: 3\n", 3, 2, "");
    expect_error("a: 'x\n", 2, 1, "");
    expect_error("a:\n\t- 1\n", 2, 1, "");
    expect_error("a: b: c\n", 1, 5, "");
    expect_error("a: \"\\q\"\n", 1, 5, "");
    expect_error("%YAML 9.9\n---\na: 1", 1, 1, "");
    expect_error("a: 1\n- b\n", 2, 1, "");
}

static void test_bytes_that_are_no_text_are_errors(void **state)
{
    (void)state;
    expect_error("a: 1\nb: x\xff\n", 2, 5, "UTF-8");
    expect_error("a: \xc3\x28", 1, 5, "UTF-8");
    expect_error("a: \xed\xa0\x80", 1, 4, "UTF-8"); /* half of a surrogate pair */
    expect_error_len("a: \0b", 5, OSM_EPARSE, 1, 4, "");
    expect_error("a: \"x\\0y\"", 1, 4, "NUL");
    expect_error_len("\xff\xfe"
                     "a\0:\0",
                     6, OSM_EPARSE, 1, 1, "UTF-8");
    expect("\xef\xbb\xbf"
           "a: \xc3\xa9",
           "{\"a\":\"\xc3\xa9\"}");
}

static void test_json_is_read_as_it_is(void **state)
{
    (void)state;
    expect("{\"a\":1,\n\t\"b\":[true,null,1.5],\"c\":\"\\u00e9\\/\\ud83d\\ude00\"}",
           "{\"a\":1,\"b\":[true,null,1.5],\"c\":\"\xc3\xa9/\xf0\x9f\x98\x80\"}");
    char text[3100] = "{\"";
    memset(text + 2, 'k', 3000);
    memcpy(text + 3002, "\":1}", 5);
    struct osm_yaml_docs docs = {NULL, 0};
    assert_int_equal(osm_yaml_parse(text, strlen(text), &docs, NULL, NULL), 0);
    assert_int_equal(json_object_size(docs.list[0].value), 1);
    osm_yaml_docs_clear(&docs);
    expect_error("{\"a\": 1, \"a\": 2}", 1, 10, "appears twice");
    expect_error("{\"a\": 99999999999999999999}", 1, 7, "64 bits");
}

static void test_large_input_is_refused(void **state)
{
    (void)state;
    struct osm_yaml_docs docs = {NULL, 0};
    struct osm_err err = {0};
    assert_int_equal(osm_yaml_parse("x", (size_t)OSM_YAML_BYTES_MAX + 1, &docs, NULL, &err),
                     OSM_ELIMIT);
}

static void test_documents_are_bounded(void **state)
{
    (void)state;
    struct osm_yaml_docs docs = {NULL, 0};
    struct osm_yaml_place place;
    struct osm_err err = {0};
    struct osm_buf text = OSM_BUF_INIT(1 << 20);
    for (int i = 0; i < OSM_YAML_DOCS_MAX; i++)
        assert_int_equal(osm_buf_add_str(&text, i % 2 ? "---\n--- 7\n" : "--- 7\n"), 0);
    assert_int_equal(osm_yaml_parse(text.data, text.len, &docs, NULL, &err), 0);
    assert_int_equal(docs.len, OSM_YAML_DOCS_MAX); /* empty ones are not counted */
    osm_yaml_docs_clear(&docs);
    assert_int_equal(osm_buf_add_str(&text, "--- 8\n"), 0);
    assert_int_equal(osm_yaml_parse(text.data, text.len, &docs, &place, &err), OSM_ELIMIT);
    assert_string_equal(err.msg,
                        "30001:1: more than 20000 documents in one file; split it into several");
    assert_int_equal(place.line, 30001);
    assert_int_equal(docs.len, 0);
    osm_buf_clear(&text);
}

/* The list is enlarged a few times, not once for each document. */
static void test_many_documents_take_few_steps(void **state)
{
    (void)state;
    struct osm_yaml_docs docs = {NULL, 0};
    struct osm_err err = {0};
    struct osm_buf text = OSM_BUF_INIT(1 << 20);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(osm_buf_add_str(&text, "--- true\n"), 0);
    osm_mem_fail_at(32); /* one for each document is too many */
    int rc = osm_yaml_parse(text.data, text.len, &docs, NULL, &err);
    osm_mem_fail_at(-1);
    assert_int_equal(rc, 0);
    assert_int_equal(docs.len, 1000);
    osm_yaml_docs_clear(&docs);
    osm_buf_clear(&text);
}

static void test_no_memory_anywhere_is_reported_and_leaks_nothing(void **state)
{
    (void)state;
    static const char text[] =
        "items:\n- &a {x: 1, <<: {y: [2.5, true]}}\n- *a\n- 'z'\n---\nb: 2\n";
    long before = osm_mem_live();
    int rc = OSM_ENOMEM;
    for (long n = 0; rc == OSM_ENOMEM; n++) {
        struct osm_yaml_docs docs = {NULL, 0};
        osm_mem_fail_at(n);
        rc = osm_yaml_parse(text, strlen(text), &docs, NULL, NULL);
        osm_mem_fail_at(-1);
        osm_yaml_docs_clear(&docs);
        assert_int_equal(osm_mem_live(), before);
        assert_true(n < 1000);
    }
    assert_int_equal(rc, 0);
}

/* --- writing --- */

static void expect_written(const char *json, const char *yaml)
{
    json_t *value = json_loads(json, JSON_DECODE_ANY, NULL);
    struct osm_buf out = OSM_BUF_INIT(1 << 20);
    assert_non_null(value);
    assert_int_equal(osm_yaml_write(&out, value), 0);
    assert_string_equal(out.data, yaml);
    osm_buf_clear(&out);
    json_decref(value);
}

static void test_writes_blocks(void **state)
{
    (void)state;
    expect_written("{\"a\":1,\"b\":[{\"c\":\"d\",\"e\":[]},[1,2]],\"f\":{},\"g\":{\"h\":null}}",
                   "a: 1\n"
                   "b:\n"
                   "  - c: d\n"
                   "    e: []\n"
                   "  - - 1\n"
                   "    - 2\n"
                   "f: {}\n"
                   "g:\n"
                   "  h: null\n");
    expect_written("{\"script\":\"one\\n  two\\n\\nthree\"}",
                   "script: |-\n  one\n    two\n\n  three\n");
    expect_written("[1.0,1e30,0.1]", "- 1.0\n- 1.0e+30\n- 0.1\n");
}

static void test_quotes_what_would_be_mistaken(void **state)
{
    (void)state;
    expect_written("[\"true\",\"no\",\"y\",\"1\",\"1.5\",\"0x1\",\"\",\"~\",\"null\",\"- a\",\"a: "
                   "b\",\"a #b\",\"<<\",\"2001-01-01\"]",
                   "- \"true\"\n- \"no\"\n- \"y\"\n- \"1\"\n- \"1.5\"\n- \"0x1\"\n- \"\"\n- "
                   "\"~\"\n- \"null\"\n- \"- a\"\n"
                   "- \"a: b\"\n- \"a #b\"\n- \"<<\"\n- \"2001-01-01\"\n");
    expect_written("{\"@type\":\"type.googleapis.com/x\",\"timeout\":\"1s\"}",
                   "\"@type\": type.googleapis.com/x\ntimeout: 1s\n");
}

static uint64_t random_state = 7;

static unsigned pick(unsigned n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(random_state >> 33) % n;
}

static void random_text(char out[64])
{
    static const char *const parts[] = {"a",
                                        "B",
                                        "0",
                                        "-",
                                        ":",
                                        " ",
                                        "#",
                                        "'",
                                        "\"",
                                        "\\",
                                        "\n",
                                        "\t",
                                        "\r",
                                        "\x7f",
                                        "\xc3\xa9",
                                        "[",
                                        "{",
                                        "|",
                                        ">",
                                        "%",
                                        "yes",
                                        "null",
                                        "1e5",
                                        "0x1f",
                                        "<<",
                                        "\xf0\x9f\x98\x80",
                                        "\x01",
                                        ".",
                                        "---",
                                        "\xc2\x85",
                                        "\xe2\x80\xa8",
                                        "\xef\xbb\xbf",
                                        "...",
                                        "key: ",
                                        " #",
                                        "\xef\xbf\xbe",
                                        "12:30",
                                        "=",
                                        "!",
                                        "&",
                                        "*",
                                        "?",
                                        ",",
                                        "]",
                                        "}",
                                        "@",
                                        "`",
                                        "~"};
    size_t len = 0;
    out[0] = '\0';
    for (unsigned i = 0, n = pick(6); i < n; i++)
        len +=
            (size_t)snprintf(out + len, 64 - len, "%s", parts[pick(sizeof parts / sizeof *parts)]);
}

static json_t *random_value(int depth)
{
    char text[64];
    json_t *out;
    unsigned kind = pick(depth > 4 ? 6 : 8);
    switch (kind) {
    case 0:
        return json_null();
    case 1:
        return json_boolean(pick(2));
    case 2:
        return json_integer(
            (json_int_t)((random_state & 0xff) ? (int64_t)random_state : INT64_MIN));
    case 3:
        return json_real(((double)pick(2000) - 1000) / (1 + pick(1000)) * (pick(4) ? 1 : 1e200));
    case 4:
    case 5:
        random_text(text);
        return json_string(text);
    case 6:
        out = json_array();
        for (unsigned i = 0, n = pick(4); i < n; i++)
            (void)json_array_append_new(out, random_value(depth + 1));
        return out;
    default:
        out = json_object();
        for (unsigned i = 0, n = pick(4); i < n; i++) {
            random_text(text);
            (void)json_object_set_new(out, text, random_value(depth + 1));
        }
        return out;
    }
}

static void test_what_is_written_reads_back_equal(void **state)
{
    (void)state;
    for (int i = 0; i < 20000; i++) {
        struct osm_yaml_docs docs = {NULL, 0};
        struct osm_buf out = OSM_BUF_INIT(1 << 20);
        struct osm_err err = {0};
        json_t *value = random_value(0);
        assert_int_equal(osm_yaml_write(&out, value), 0);
        if (osm_yaml_parse(out.data, out.len, &docs, NULL, &err))
            fail_msg("%s in:\n%s", err.msg, out.data);
        if (json_is_null(value)) {
            assert_int_equal(docs.len, 0);
        } else {
            assert_int_equal(docs.len, 1);
            if (!json_equal(docs.list[0].value, value)) {
                char *want = json_dumps(value, JSON_ENCODE_ANY),
                     *got = json_dumps(docs.list[0].value, JSON_ENCODE_ANY);
                fail_msg("wrote\n%s\nfor %s\nread  %s", out.data, want, got);
            }
        }
        osm_yaml_docs_clear(&docs);
        osm_buf_clear(&out);
        json_decref(value);
    }
}

static void test_writes_long_keys_and_refuses_depth_and_nul(void **state)
{
    (void)state;
    struct osm_yaml_docs docs = {NULL, 0};
    struct osm_buf out = OSM_BUF_INIT(1 << 20);
    char key[2001];
    memset(key, 'k', 2000);
    key[2000] = '\0';
    json_t *value = json_pack("{s:{s:[i,s]}}", key, key, 1, "x\ny");
    assert_int_equal(osm_yaml_write(&out, value), 0);
    assert_int_equal(osm_yaml_parse(out.data, out.len, &docs, NULL, NULL), 0);
    assert_true(json_equal(docs.list[0].value, value));
    osm_yaml_docs_clear(&docs);
    json_decref(value);

    value = json_stringn("a\0b", 3);
    osm_buf_reset(&out);
    assert_int_equal(osm_yaml_write(&out, value), OSM_EINVAL);
    json_decref(value);
    value = json_array();
    for (int i = 0; i < 64; i++) {
        json_t *outer = json_array();
        (void)json_array_append_new(outer, value);
        value = outer;
    }
    osm_buf_reset(&out);
    assert_int_equal(osm_yaml_write(&out, value), OSM_ELIMIT);
    json_decref(value);
    struct osm_buf small = OSM_BUF_INIT(4);
    value = json_string("longer than four");
    assert_int_equal(osm_yaml_write(&small, value), OSM_ELIMIT);
    json_decref(value);
    osm_buf_clear(&small);
    osm_buf_clear(&out);
}

static int count_json(void **state)
{
    (void)state;
    json_object_seed(1);
    json_set_alloc_funcs(osm_alloc, osm_free);
    return 0;
}

static int nothing_is_left(void **state)
{
    (void)state;
    assert_int_equal(osm_mem_live(), 0);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_maps_lists_and_texts),
        cmocka_unit_test(test_plain_words_have_the_types_that_kubectl_gives_them),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_reals),
        cmocka_unit_test(test_tags),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_duplicate_keys_are_errors),
        cmocka_unit_test(test_documents_have_lines_and_empty_ones_are_left_out),
        cmocka_unit_test(test_items_have_lines),
        cmocka_unit_test(test_anchors_and_merge_keys),
        cmocka_unit_test(test_copies_of_an_anchor_are_independent),
        cmocka_unit_test(test_a_small_text_cannot_become_a_large_value),
        cmocka_unit_test(test_depth_is_bounded_by_nesting_and_by_alias),
        cmocka_unit_test(test_broken_text_is_placed),
        cmocka_unit_test(test_bytes_that_are_no_text_are_errors),
        cmocka_unit_test(test_json_is_read_as_it_is),
        cmocka_unit_test(test_large_input_is_refused),
        cmocka_unit_test(test_documents_are_bounded),
        cmocka_unit_test(test_many_documents_take_few_steps),
        cmocka_unit_test(test_no_memory_anywhere_is_reported_and_leaks_nothing),
        cmocka_unit_test(test_writes_blocks),
        cmocka_unit_test(test_quotes_what_would_be_mistaken),
        cmocka_unit_test(test_what_is_written_reads_back_equal),
        cmocka_unit_test(test_writes_long_keys_and_refuses_depth_and_nul),
    };
    return cmocka_run_group_tests(tests, count_json, nothing_is_left);
}
