/* Lists and watches taken apart: whatever the pieces, whatever is wrong in them. */
#include "kube/stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct heard {
    char text[4096]; /* "ADDED:red/a;" per object, "bad:NAME:REASON;" */
    int objects, bad;
    int answer; /* what the callback returns */
};

static int on_object(void *ud, const char *type, json_t *object)
{
    struct heard *h = ud;
    const json_t *meta = json_object_get(object, "metadata");
    const char *name = json_string_value(json_object_get(meta, "name"));
    size_t n = strlen(h->text);
    (void)snprintf(h->text + n, sizeof h->text - n, "%s:%s;", type ? type : "item",
                   name ? name : "?");
    h->objects++;
    json_decref(object);
    return h->answer;
}

static int on_bad(void *ud, const char *name, const char *reason)
{
    struct heard *h = ud;
    size_t n = strlen(h->text);
    (void)snprintf(h->text + n, sizeof h->text - n, "bad:%s:%s;", name, reason);
    h->bad++;
    return 0;
}

/* Reads @p text in pieces of @p piece bytes. */
static int read_in(struct heard *h, struct osm_kube_stream *s, enum osm_kube_stream_form form,
                   const char *text, size_t len, size_t piece, struct osm_err *err)
{
    const struct osm_kube_stream_callbacks callbacks = {h, on_object, on_bad};
    int rc = 0;
    osm_kube_stream_init(s, form, &callbacks);
    for (size_t at = 0; at < len && !rc; at += piece)
        rc = osm_kube_stream_feed(s, text + at, len - at < piece ? len - at : piece, err);
    return rc ? rc : osm_kube_stream_end(s, err);
}

static const char *list = "{\"kind\":\"PodList\",\"apiVersion\":\"v1\",\"metadata\":"
                          "{\"resourceVersion\":\"42\",\"continue\":\"to ken\\u002b\"},\n"
                          " \"items\" : [ {\"metadata\":{\"name\":\"a\"},\"x\":\"]}\\\"{[\"} ,\n"
                          "{\"metadata\":{\"name\":\"b\"},\"items\":[1,{\"items\":null}]}\t]}\n";

static void test_list_is_the_same_in_pieces_of_any_size_A_K8S_10(void **state)
{
    (void)state;
    for (size_t piece = 1; piece <= strlen(list); piece++) {
        struct heard h = {.text = ""};
        struct osm_kube_stream s;
        struct osm_err err = {0};
        assert_int_equal(read_in(&h, &s, OSM_KUBE_LIST, list, strlen(list), piece, &err), 0);
        assert_string_equal(h.text, "item:a;item:b;");
        assert_string_equal(s.resource_version, "42");
        assert_string_equal(s.continue_token, "to ken+");
        osm_kube_stream_clear(&s);
    }
}

static void test_metadata_may_come_last(void **state)
{
    (void)state;
    const char *text = "{\"apiVersion\":\"v1\",\"items\":[{\"metadata\":{\"name\":\"a\"}}],"
                       "\"kind\":\"L\",\"metadata\":{\"resourceVersion\":\"7\"}}";
    struct heard h = {.text = ""};
    struct osm_kube_stream s;
    assert_int_equal(read_in(&h, &s, OSM_KUBE_LIST, text, strlen(text), 3, NULL), 0);
    assert_string_equal(h.text, "item:a;");
    assert_string_equal(s.resource_version, "7");
    assert_null(s.continue_token);
    osm_kube_stream_clear(&s);
}

static void test_items_null_and_empty_are_none(void **state)
{
    (void)state;
    const char *texts[] = {"{\"metadata\":{\"resourceVersion\":\"7\"},\"items\":null}",
                           "{\"items\":[],\"metadata\":{\"resourceVersion\":\"7\"}}"};
    for (size_t i = 0; i < 2; i++) {
        struct heard h = {.text = ""};
        struct osm_kube_stream s;
        assert_int_equal(read_in(&h, &s, OSM_KUBE_LIST, texts[i], strlen(texts[i]), 1, NULL), 0);
        assert_string_equal(h.text, "");
        osm_kube_stream_clear(&s);
    }
}

static void test_what_is_no_list_is_said_with_its_beginning(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error;
    } rows[] = {
        {"<html><body>Bad gateway</body></html>", "the answer is no list; it begins with: <html"},
        {"", "the answer is empty"},
        {"{\"kind\":\"Status\",\"code\":200}", "the answer is no list; it begins with: "},
        {"{\"items\":[]}", "the answer is no list; it begins with: "},
        {"{\"metadata\":{\"resourceVersion\":\"7\"},\"items\":{}}", "the answer is no list"},
        {"{\"items\":[{\"metadata\":{\"name\":\"a\"}}", "the list ends in its middle"},
        {"{\"items\":[{\"metadata\":{\"na", "the list ends in its middle"},
        {"[1,2]", "the answer is no list; it begins with: [1,2]"},
        {"{\"items\":[1 2]}", "the answer is no list"},
        {"{\"items\":[],,}", "the answer is no list"},
        {"{\"items\":[,]}", "the answer is no list"},
        {"{\"items\"[]}", "the answer is no list"},
        {"{\"metadata\":{\"resourceVersion\":\"7\"},\"items\":[]} x", "the answer is no list"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct heard h = {.text = ""};
        struct osm_kube_stream s;
        struct osm_err err = {0};
        int rc = read_in(&h, &s, OSM_KUBE_LIST, rows[i].text, strlen(rows[i].text), 5, &err);
        assert_int_equal(rc, OSM_EPARSE);
        if (strncmp(err.msg, rows[i].error, strlen(rows[i].error)) != 0)
            fail_msg("%s: %s", rows[i].text, err.msg);
        osm_kube_stream_clear(&s);
    }
}

static const char *events =
    "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"a\"}}}\n"
    "{\"type\":\"DELETED\",\"object\":{\"metadata\":{\"name\":\"b\"}}}"
    "{\"object\":{\"metadata\":{\"name\":\"c\"}},\"type\":\"BOOKMARK\"}\n\n";

static void test_events_in_one_piece_and_in_single_bytes_A_K8S_10(void **state)
{
    (void)state;
    for (size_t piece = 1; piece <= strlen(events); piece++) {
        struct heard h = {.text = ""};
        struct osm_kube_stream s;
        assert_int_equal(read_in(&h, &s, OSM_KUBE_WATCH, events, strlen(events), piece, NULL), 0);
        assert_string_equal(h.text, "ADDED:a;DELETED:b;BOOKMARK:c;");
        osm_kube_stream_clear(&s);
    }
}

static void test_stream_that_ends_in_an_event_says_so(void **state)
{
    (void)state;
    for (size_t len = 1; len < strlen(events); len++) {
        struct heard h = {.text = ""};
        struct osm_kube_stream s;
        struct osm_err err = {0};
        int rc = read_in(&h, &s, OSM_KUBE_WATCH, events, len, 7, &err);
        if (rc)
            assert_string_equal(err.msg, "the stream ends in the middle of an event");
        osm_kube_stream_clear(&s);
    }
}

static void test_events_that_are_none(void **state)
{
    (void)state;
    const char *text = "{\"type\":\"ADDED\"}{\"object\":{}}{\"type\":1,\"object\":{}}"
                       "{\"type\":\"ADDED\",\"object\":[]}{\"type\":\"ADDED\",\"object\":{},}";
    struct heard h = {.text = ""};
    struct osm_kube_stream s;
    struct osm_err err = {0};
    assert_int_equal(read_in(&h, &s, OSM_KUBE_WATCH, text, strlen(text), 9, &err), 0);
    assert_int_equal(h.bad, 5);
    assert_int_equal(h.objects, 0);
    osm_kube_stream_clear(&s);
    assert_int_equal(read_in(&h, &s, OSM_KUBE_WATCH, "<html>", 6, 6, &err), OSM_EPARSE);
    assert_string_equal(err.msg, "the answer is no stream of events; it begins with: <html>");
    osm_kube_stream_clear(&s);
}

/* An object of @p bytes in a list between two small ones. */
static char *with_large(size_t bytes, size_t *len)
{
    static const char head[] =
        "{\"items\":[{\"metadata\":{\"name\":\"a\"}},"
        "{\"kind\":\"X\",\"metadata\":{\"name\":\"big\",\"namespace\":\"red\"},"
        "\"d\":\"";
    static const char tail[] = "\"},{\"metadata\":{\"name\":\"z\"}}],"
                               "\"metadata\":{\"resourceVersion\":\"9\"}}";
    char *text = osm_alloc(bytes + sizeof head + sizeof tail);
    assert_non_null(text);
    memcpy(text, head, sizeof head - 1);
    memset(text + sizeof head - 1, 'x', bytes);
    memcpy(text + sizeof head - 1 + bytes, tail, sizeof tail);
    *len = sizeof head - 1 + bytes + sizeof tail - 1;
    return text;
}

static void test_object_of_50_megabytes_is_passed_over_and_named(void **state)
{
    (void)state;
    size_t len;
    char *text = with_large((size_t)50 << 20, &len);
    struct heard h = {.text = ""};
    struct osm_kube_stream s;
    long before = osm_mem_live();
    assert_int_equal(read_in(&h, &s, OSM_KUBE_LIST, text, len, 16384, NULL), 0);
    assert_int_equal(h.objects, 2);
    assert_int_equal(h.bad, 1);
    assert_non_null(strstr(h.text, "bad:red/big:an object of 524288"));
    assert_true(s.text.cap <= (size_t)2 * OSM_KUBE_OBJECT_MAX);
    osm_kube_stream_clear(&s);
    assert_int_equal(osm_mem_live(), before);
    osm_free(text);
}

static void test_object_of_2_megabytes_in_an_event_is_whole_A_K8S_10(void **state)
{
    (void)state;
    size_t bytes = (size_t)2 << 20, n = 0;
    char *text = osm_alloc(bytes + 200);
    assert_non_null(text);
    n += (size_t)snprintf(text, 200,
                          "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"a\","
                          "\"annotations\":{\"x\":\"");
    memset(text + n, 'y', bytes);
    n += bytes;
    n += (size_t)snprintf(text + n, 20, "\"}}}}\n");
    struct heard h = {.text = ""};
    struct osm_kube_stream s;
    assert_int_equal(read_in(&h, &s, OSM_KUBE_WATCH, text, n, 1460, NULL), 0);
    assert_string_equal(h.text, "ADDED:a;");
    osm_kube_stream_clear(&s);
    osm_free(text);
}

static void test_item_that_is_not_readable_does_not_take_others_along(void **state)
{
    (void)state;
    const char *text =
        "{\"metadata\":{\"resourceVersion\":\"1\"},\"items\":["
        "{\"metadata\":{\"name\":\"a\"}},{\"metadata\":{\"name\":\"b\"},\"n\":1e999},"
        "{\"metadata\":{\"name\":\"c\"},\"t\":nul},7,null,"
        "{\"metadata\":{\"name\":\"d\"}}]}";
    struct heard h = {.text = ""};
    struct osm_kube_stream s;
    assert_int_equal(read_in(&h, &s, OSM_KUBE_LIST, text, strlen(text), 4, NULL), 0);
    assert_int_equal(h.objects, 2);
    assert_int_equal(h.bad, 4);
    assert_non_null(strstr(h.text, "item:a;bad:b:not readable: "));
    assert_non_null(strstr(h.text, "item:d;"));
    osm_kube_stream_clear(&s);
}

/* An annotation may hold it; jansson refuses it unless asked. */
static void test_text_with_a_nul_character_is_kept_without_it(void **state)
{
    (void)state;
    const char *text = "{\"metadata\":{\"resourceVersion\":\"1\"},\"items\":["
                       "{\"metadata\":{\"name\":\"x\\u0000y\"}}]}";
    struct heard h = {.text = ""};
    struct osm_kube_stream s;
    assert_int_equal(read_in(&h, &s, OSM_KUBE_LIST, text, strlen(text), 100, NULL), 0);
    assert_string_equal(h.text, "item:x\xef\xbf\xbdy;");
    osm_kube_stream_clear(&s);
}

static void test_code_of_a_callback_ends_the_feed(void **state)
{
    (void)state;
    struct heard h = {.text = "", .answer = OSM_ECANCELED};
    struct osm_kube_stream s;
    struct osm_err err = {0};
    assert_int_equal(read_in(&h, &s, OSM_KUBE_WATCH, events, strlen(events), 1000, &err),
                     OSM_ECANCELED);
    assert_string_equal(h.text, "ADDED:a;");
    osm_kube_stream_clear(&s);
}

static void test_no_memory_at_any_point_is_an_error_and_leaves_nothing(void **state)
{
    (void)state;
    long before = osm_mem_live();
    for (long n = 0;; n++) {
        struct heard h = {.text = ""};
        struct osm_kube_stream s;
        struct osm_err err = {0};
        osm_mem_fail_at(n);
        int rc = read_in(&h, &s, OSM_KUBE_LIST, list, strlen(list), 11, &err);
        bool waits = osm_mem_fail_waits();
        osm_mem_fail_at(-1);
        osm_kube_stream_clear(&s);
        assert_int_equal(osm_mem_live(), before);
        if (waits) {
            assert_int_equal(rc, 0);
            break;
        }
        assert_int_equal(rc, OSM_ENOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list_is_the_same_in_pieces_of_any_size_A_K8S_10),
        cmocka_unit_test(test_metadata_may_come_last),
        cmocka_unit_test(test_items_null_and_empty_are_none),
        cmocka_unit_test(test_what_is_no_list_is_said_with_its_beginning),
        cmocka_unit_test(test_events_in_one_piece_and_in_single_bytes_A_K8S_10),
        cmocka_unit_test(test_stream_that_ends_in_an_event_says_so),
        cmocka_unit_test(test_events_that_are_none),
        cmocka_unit_test(test_object_of_50_megabytes_is_passed_over_and_named),
        cmocka_unit_test(test_object_of_2_megabytes_in_an_event_is_whole_A_K8S_10),
        cmocka_unit_test(test_item_that_is_not_readable_does_not_take_others_along),
        cmocka_unit_test(test_text_with_a_nul_character_is_kept_without_it),
        cmocka_unit_test(test_code_of_a_callback_ends_the_feed),
        cmocka_unit_test(test_no_memory_at_any_point_is_an_error_and_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
