/* What a reflector knows and asks next, after anything a server may answer. */
#include "kube/reflector.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct rig {
    struct osm_reflector r;
    char told[2048];  /* "+red/a@5 -red/b " */
    char query[1024]; /* of the last request */
    uint64_t now_ms;
    int answer; /* of put */
    uint32_t random;
};

static int on_put(void *ud, const char *id, json_t *object, void **data)
{
    struct rig *rig = ud;
    size_t n = strlen(rig->told);
    (void)snprintf(
        rig->told + n, sizeof rig->told - n, "+%s@%s ", id,
        json_string_value(json_object_get(json_object_get(object, "metadata"), "resourceVersion")));
    json_decref(object);
    *data = rig;
    return rig->answer;
}

static void on_gone(void *ud, const char *id, void *data)
{
    struct rig *rig = ud;
    size_t n = strlen(rig->told);
    assert_ptr_equal(data, rig);
    (void)snprintf(rig->told + n, sizeof rig->told - n, "-%s ", id);
}

static uint32_t on_random(void *ud)
{
    return ((struct rig *)ud)->random;
}

static int setup(void **state)
{
    struct rig *rig = osm_alloc(sizeof *rig);
    if (!rig)
        return -1;
    const struct osm_reflector_callbacks callbacks = {rig, on_put, on_gone, on_random};
    rig->now_ms = 1000000;
    osm_reflector_init(&rig->r, &osm_reflector_defaults, &callbacks);
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;
    osm_reflector_clear(&rig->r);
    osm_free(rig);
    return osm_mem_live() == 0 ? 0 : -1;
}

/* Makes the next request, which must be this one. */
static void ask(struct rig *rig, const char *query)
{
    struct osm_buf out = OSM_BUF_INIT(sizeof rig->query);
    rig->now_ms += osm_reflector_wait(&rig->r, rig->now_ms);
    assert_int_equal(osm_reflector_ask(&rig->r, rig->now_ms, &out), 0);
    (void)snprintf(rig->query, sizeof rig->query, "%s", out.data);
    osm_buf_clear(&out);
    assert_string_equal(rig->query, query);
    rig->told[0] = '\0';
}

static json_t *object(const char *ns, const char *name, const char *version)
{
    json_t *o = json_pack("{s:{s:s, s:s, s:s}}", "metadata", "namespace", ns, "name", name,
                          "resourceVersion", version);
    assert_non_null(o);
    return o;
}

static int event(struct rig *rig, const char *type, const char *name, const char *version)
{
    return osm_reflector_object(&rig->r, type, object("red", name, version));
}

static int bookmark(struct rig *rig, const char *version, bool ends)
{
    json_t *o = json_pack("{s:{s:s}}", "metadata", "resourceVersion", version);
    if (ends)
        (void)json_object_set_new(json_object_get(o, "metadata"), "annotations",
                                  json_pack("{s:s}", "k8s.io/initial-events-end", "true"));
    return osm_reflector_object(&rig->r, "BOOKMARK", o);
}

static int error_event(struct rig *rig, int code, const char *reason, int retry_s)
{
    json_t *o = json_pack("{s:s, s:i, s:s, s:s}", "kind", "Status", "code", code, "reason", reason,
                          "message", "said by the stream");
    if (retry_s)
        (void)json_object_set_new(o, "details", json_pack("{s:i}", "retryAfterSeconds", retry_s));
    return osm_reflector_object(&rig->r, "ERROR", o);
}

static void end_with(struct rig *rig, int rc, int status, const char *reason, int64_t retry_s)
{
    const struct osm_reflector_end end = {.rc = rc,
                                          .status = status,
                                          .reason = reason,
                                          .message = "said by the server",
                                          .retry_after_s = retry_s};
    osm_reflector_ended(&rig->r, &end, rig->now_ms);
}

static void page_ends(struct rig *rig, const char *version, const char *token)
{
    const struct osm_reflector_end end = {.status = 200,
                                          .reason = "",
                                          .message = "",
                                          .retry_after_s = -1,
                                          .resource_version = version,
                                          .continue_token = token};
    osm_reflector_ended(&rig->r, &end, rig->now_ms);
}

#define LIST "limit=500"
#define WATCH(version)                                                                             \
    "watch=1&allowWatchBookmarks=true&timeoutSeconds=300&resourceVersion=" version
#define STREAM                                                                                     \
    "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&"   \
    "timeoutSeconds=300"

/* Listed with red/a and red/b at 10, and watching. */
static void start(struct rig *rig)
{
    ask(rig, LIST);
    assert_int_equal(osm_reflector_object(&rig->r, NULL, object("red", "a", "5")), 0);
    assert_int_equal(osm_reflector_object(&rig->r, NULL, object("red", "b", "6")), 0);
    assert_false(osm_reflector_settled(&rig->r));
    page_ends(rig, "10", NULL);
    assert_true(osm_reflector_settled(&rig->r));
    ask(rig, WATCH("10"));
    osm_reflector_established(&rig->r);
}

static void test_list_then_watch_from_there_A_K8S_01(void **state)
{
    struct rig *rig = *state;
    start(rig);
    assert_int_equal(event(rig, "ADDED", "c", "11"), 0);
    assert_int_equal(event(rig, "MODIFIED", "a", "12"), 0);
    assert_int_equal(event(rig, "DELETED", "b", "13"), 0);
    assert_string_equal(rig->told, "+red/c@11 +red/a@12 -red/b ");
    assert_string_equal(rig->r.resource_version, "13");
}

static void test_pages_are_one_list(void **state)
{
    struct rig *rig = *state;
    ask(rig, LIST);
    assert_int_equal(osm_reflector_object(&rig->r, NULL, object("red", "a", "5")), 0);
    page_ends(rig, "10", "a+b/=");
    assert_false(osm_reflector_settled(&rig->r));
    ask(rig, "limit=500&continue=a%2Bb%2F%3D");
    assert_int_equal(osm_reflector_object(&rig->r, NULL, object("red", "b", "6")), 0);
    page_ends(rig, "10", NULL);
    assert_string_equal(rig->told, "+red/b@6 "); /* and a is not gone */
    assert_int_equal(rig->r.lists, 1);
    ask(rig, WATCH("10"));
}

static void test_page_that_fails_is_asked_again_and_one_that_expired_from_the_start(void **state)
{
    struct rig *rig = *state;
    ask(rig, LIST);
    page_ends(rig, "10", "next");
    ask(rig, "limit=500&continue=next");
    end_with(rig, OSM_EIO, 0, "", -1);
    ask(rig, "limit=500&continue=next");
    end_with(rig, 0, 410, "Expired", -1);
    ask(rig, LIST);
}

static void test_watch_that_ends_is_resumed_without_a_list_A_K8S_02(void **state)
{
    struct rig *rig = *state;
    start(rig);
    assert_int_equal(event(rig, "ADDED", "c", "11"), 0);
    end_with(rig, 0, 200, "", -1);
    assert_int_equal(osm_reflector_wait(&rig->r, rig->now_ms), 0);
    ask(rig, WATCH("11"));
    rig->now_ms += 300 * 1000;
    end_with(rig, 0, 200, "", -1); /* nothing was said, for long */
    assert_int_equal(osm_reflector_wait(&rig->r, rig->now_ms), 0);
    ask(rig, WATCH("11"));
    assert_int_equal(rig->r.lists, 1);
    assert_int_equal(rig->r.failing_since_ms, 0);
}

static void test_watch_that_ends_at_once_waits_longer_each_time(void **state)
{
    struct rig *rig = *state;
    uint64_t waits[12], first = 0;
    start(rig);
    for (size_t i = 0; i < 12; i++) {
        end_with(rig, 0, 200, "", -1);
        waits[i] = osm_reflector_wait(&rig->r, rig->now_ms);
        first = first ? first : rig->r.failing_since_ms;
        assert_int_equal(rig->r.failing_since_ms != 0, i >= 2); /* it may be going down */
        ask(rig, WATCH("10"));
    }
    assert_int_equal(waits[0], 125); /* half of the span is certain, the other half drawn: here 0 */
    for (size_t i = 1; i < 7; i++)
        assert_int_equal(waits[i], 2 * waits[i - 1]);
    assert_int_equal(waits[11], 15000);
    assert_string_equal(rig->r.failure, "the watch ends as soon as it has begun");
    assert_int_equal(rig->r.failing_since_ms, first);
    assert_int_equal(rig->r.lists, 1);
}

static void test_backoff_is_drawn_from_a_span(void **state)
{
    struct rig *rig = *state;
    rig->random = 124; /* of 125: the far end */
    ask(rig, LIST);
    end_with(rig, OSM_EIO, 0, "", -1);
    assert_int_equal(osm_reflector_wait(&rig->r, rig->now_ms), 125 + 124);
}

static void test_410_as_an_event_lists_once_A_K8S_03(void **state)
{
    struct rig *rig = *state;
    start(rig);
    assert_int_equal(error_event(rig, 410, "Expired", 0), OSM_ECANCELED);
    end_with(rig, OSM_ECANCELED, 200, "", -1);
    assert_int_equal(osm_reflector_wait(&rig->r, rig->now_ms), 0);
    ask(rig, LIST);
    assert_int_equal(osm_reflector_object(&rig->r, NULL, object("red", "a", "20")), 0);
    page_ends(rig, "21", NULL);
    assert_string_equal(rig->told, "+red/a@20 -red/b "); /* what was deleted meanwhile */
    ask(rig, WATCH("21"));
}

static void test_410_as_an_answer_lists_once_A_K8S_04(void **state)
{
    struct rig *rig = *state;
    start(rig);
    end_with(rig, 0, 410, "Gone", -1);
    assert_int_equal(osm_reflector_wait(&rig->r, rig->now_ms), 0);
    ask(rig, LIST);
    page_ends(rig, "21", NULL);
    assert_string_equal(rig->told, "-red/a -red/b ");
    ask(rig, WATCH("21"));
    end_with(rig, 0, 410, "Gone", -1); /* straight after a list: that leads nowhere fast */
    assert_true(osm_reflector_wait(&rig->r, rig->now_ms) > 0);
    ask(rig, LIST);
}

static void test_bookmarks_move_the_resume_point_and_are_no_objects_A_K8S_06(void **state)
{
    struct rig *rig = *state;
    start(rig);
    assert_int_equal(bookmark(rig, "900", false), 0);
    assert_string_equal(rig->told, "");
    end_with(rig, OSM_EIO, 200, "", -1);
    ask(rig, WATCH("900"));
}

static void test_server_that_was_set_back_is_listed(void **state)
{
    struct rig *rig = *state;
    start(rig);
    assert_int_equal(bookmark(rig, "900", false), 0);
    assert_int_equal(bookmark(rig, "40", false), OSM_ECANCELED);
    end_with(rig, OSM_ECANCELED, 200, "", -1);
    ask(rig, LIST);
    assert_int_equal(osm_reflector_object(&rig->r, NULL, object("red", "b", "4")), 0);
    page_ends(rig, "41", NULL);
    assert_string_equal(rig->told, "+red/b@4 -red/a ");
    ask(rig, WATCH("41"));
    assert_int_equal(event(rig, "ADDED", "c", "42"), 0);
}

static void test_retry_after_is_respected_and_bounded_A_K8S_09(void **state)
{
    struct rig *rig = *state;
    ask(rig, LIST);
    end_with(rig, 0, 429, "TooManyRequests", 7);
    uint64_t wait_ms = osm_reflector_wait(&rig->r, rig->now_ms);
    assert_in_range(wait_ms, 7000, 7250);
    assert_string_equal(rig->r.failure, "HTTP 429: said by the server");
    ask(rig, LIST);
    end_with(rig, 0, 503, "", 1000000);
    assert_in_range(osm_reflector_wait(&rig->r, rig->now_ms), 300 * 1000, 300 * 1000 + 250);
    ask(rig, LIST);
    page_ends(rig, "3", NULL);
    assert_int_equal(rig->r.failing_since_ms, 0);
    ask(rig, WATCH("3"));
    assert_int_equal(error_event(rig, 500, "InternalError", 3), OSM_ECANCELED);
    end_with(rig, OSM_ECANCELED, 200, "", -1);
    assert_in_range(osm_reflector_wait(&rig->r, rig->now_ms), 3000, 3250);
    assert_string_equal(rig->r.failure, "HTTP 500: said by the stream");
    ask(rig, WATCH("3")); /* nothing says that what we know is too old */
}

static void test_failures_keep_the_resume_point_and_say_since_when_A_K8S_09(void **state)
{
    struct rig *rig = *state;
    static const struct {
        int rc, status;
        const char *failure;
    } rows[] = {
        {OSM_EIO, 0, "said by the server"},       {OSM_ETIMEDOUT, 200, "said by the server"},
        {0, 500, "HTTP 500: said by the server"}, {0, 503, "HTTP 503: said by the server"},
        {0, 401, "HTTP 401: said by the server"}, {OSM_EPARSE, 200, "said by the server"},
    };
    start(rig);
    end_with(rig, OSM_EIO, 200, "", -1); /* a connection has broken: no trouble yet */
    assert_int_equal(rig->r.failing_since_ms, 0);
    assert_true(osm_reflector_wait(&rig->r, rig->now_ms) > 0);
    ask(rig, WATCH("10"));
    uint64_t since_ms = rig->now_ms;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        end_with(rig, rows[i].rc, rows[i].status, "", -1);
        assert_string_equal(rig->r.failure, rows[i].failure);
        assert_int_equal(rig->r.failing_since_ms, since_ms);
        assert_true(osm_reflector_wait(&rig->r, rig->now_ms) > 0);
        assert_true(osm_reflector_settled(&rig->r)); /* the last good objects count */
        ask(rig, WATCH("10"));
        assert_string_equal(rig->told, "");
    }
    osm_reflector_established(&rig->r);
    assert_int_equal(rig->r.failing_since_ms, 0);
}

static void test_kind_that_may_not_be_read_is_settled_and_tried_again(void **state)
{
    struct rig *rig = *state;
    ask(rig, LIST);
    end_with(rig, 0, 403, "Forbidden", -1);
    assert_true(rig->r.denied);
    assert_true(osm_reflector_settled(&rig->r));
    assert_true(osm_reflector_wait(&rig->r, rig->now_ms) >= 15000);
    ask(rig, LIST);
    assert_int_equal(osm_reflector_object(&rig->r, NULL, object("red", "a", "5")), 0);
    page_ends(rig, "10", NULL);
    assert_false(rig->r.denied);
    assert_string_equal(rig->told, "+red/a@5 ");
}

static void test_streaming_list_ends_with_its_bookmark(void **state)
{
    struct rig *rig = *state;
    rig->r.can_stream = true;
    rig->r.step = OSM_REFLECT_STREAM;
    ask(rig, STREAM);
    osm_reflector_established(&rig->r);
    assert_int_equal(event(rig, "ADDED", "a", "9"), 0);
    assert_int_equal(event(rig, "ADDED", "b", "3"), 0); /* in no order of versions */
    assert_int_equal(bookmark(rig, "11", false), 0);
    assert_false(osm_reflector_settled(&rig->r));
    assert_int_equal(bookmark(rig, "12", true), 0);
    assert_true(osm_reflector_settled(&rig->r));
    assert_int_equal(event(rig, "MODIFIED", "b", "13"), 0);
    end_with(rig, 0, 200, "", -1);
    ask(rig, WATCH("13"));
    end_with(rig, 0, 410, "Expired", -1);
    ask(rig, STREAM);
    osm_reflector_established(&rig->r);
    assert_int_equal(event(rig, "ADDED", "a", "9"), 0);
    assert_int_equal(bookmark(rig, "20", true), 0);
    assert_string_equal(rig->told, "+red/a@9 -red/b ");
}

static void test_streaming_list_falls_back_A_K8S_01(void **state)
{
    struct rig *rig = *state;
    static const struct {
        int rc, status;
        bool established;
    } rows[] = {
        {0, 400, false},
        {0, 422, false},
        {OSM_ETIMEDOUT, 200, true},
        {0, 200, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rig->r.can_stream = true;
        rig->r.step = OSM_REFLECT_STREAM;
        ask(rig, STREAM);
        if (rows[i].established)
            osm_reflector_established(&rig->r);
        end_with(rig, rows[i].rc, rows[i].status, "Invalid", -1);
        assert_int_equal(osm_reflector_wait(&rig->r, rig->now_ms), 0);
        ask(rig, LIST);
        assert_false(rig->r.can_stream);
        end_with(rig, OSM_ECANCELED, 0, "", -1);
    }
}

static void test_event_that_cannot_be_read_lists_anew(void **state)
{
    struct rig *rig = *state;
    start(rig);
    assert_int_equal(osm_reflector_bad(&rig->r, "red/a", "an object of 50 MB"), OSM_EMISMATCH);
    end_with(rig, OSM_EMISMATCH, 200, "", -1);
    assert_string_equal(rig->r.failure, "red/a: an object of 50 MB");
    ask(rig, LIST);
    assert_int_equal(osm_reflector_bad(&rig->r, "red/a", "an object of 50 MB"), 0);
    assert_int_equal(osm_reflector_object(&rig->r, NULL, object("red", "b", "6")), 0);
    page_ends(rig, "30", NULL);
    assert_string_equal(rig->told, "+red/b@6 -red/a "); /* its last content grants no longer */
    assert_string_equal(rig->r.bad, "red/a: an object of 50 MB");
}

static void test_events_that_are_none_list_anew(void **state)
{
    struct rig *rig = *state;
    start(rig);
    assert_int_equal(event(rig, "RENAMED", "a", "11"), OSM_EMISMATCH);
    assert_int_equal(event(rig, "ADDED", "a", ""), OSM_EMISMATCH);
    assert_int_equal(event(rig, "ADDED", "", "12"), OSM_EMISMATCH);
    assert_int_equal(osm_reflector_object(&rig->r, "ADDED", json_pack("{s:n}", "metadata")),
                     OSM_EMISMATCH);
    assert_int_equal(osm_reflector_object(&rig->r, NULL, json_pack("{s:{}}", "metadata")),
                     OSM_EMISMATCH);
    assert_string_equal(rig->told, "");
    end_with(rig, OSM_EMISMATCH, 200, "", -1);
    ask(rig, LIST);
}

static void test_list_that_fails_leaves_what_is_known(void **state)
{
    struct rig *rig = *state;
    start(rig);
    end_with(rig, 0, 410, "Gone", -1);
    ask(rig, LIST);
    assert_int_equal(osm_reflector_object(&rig->r, NULL, object("red", "a", "15")), 0);
    end_with(rig, OSM_EPARSE, 200, "", -1); /* half a document */
    assert_string_equal(rig->told, "+red/a@15 ");
    assert_int_equal(rig->r.known.count, 2);
    ask(rig, LIST);
    assert_int_equal(osm_reflector_object(&rig->r, NULL, object("red", "a", "15")), 0);
    page_ends(rig, "20", NULL);
    assert_string_equal(rig->told, "+red/a@15 -red/b ");
}

static void test_list_without_a_version_is_no_list(void **state)
{
    struct rig *rig = *state;
    start(rig);
    end_with(rig, 0, 410, "Gone", -1);
    ask(rig, LIST);
    page_ends(rig, "", NULL);
    assert_string_equal(rig->told, "");
    assert_int_equal(rig->r.known.count, 2);
}

static void test_no_memory_for_an_object_is_tried_again(void **state)
{
    struct rig *rig = *state;
    ask(rig, LIST);
    rig->answer = OSM_ENOMEM;
    assert_int_equal(osm_reflector_object(&rig->r, NULL, object("red", "a", "5")), OSM_ENOMEM);
    rig->answer = 0;
    end_with(rig, OSM_ENOMEM, 200, "", -1);
    assert_int_equal(rig->r.known.count, 0);
    ask(rig, LIST);
}

/* --- expectations --- */

static void test_expectation_is_met_by_versions_seen(void **state)
{
    struct rig *rig = *state;
    start(rig);
    assert_true(osm_reflector_met(&rig->r)); /* nobody has asked */
    assert_int_equal(osm_reflector_expect(&rig->r), 0);
    assert_false(osm_reflector_met(&rig->r));
    assert_int_equal(osm_reflector_expect_object(&rig->r, "red/a", 12), 0);
    assert_int_equal(osm_reflector_expect_object(&rig->r, "red/c", 13), 0);
    assert_int_equal(osm_reflector_expect_end(&rig->r, 15), 0); /* red/b is not there */
    assert_false(osm_reflector_met(&rig->r));
    assert_int_equal(event(rig, "MODIFIED", "a", "11"), 0); /* not yet that one */
    assert_int_equal(event(rig, "MODIFIED", "a", "12"), 0);
    assert_int_equal(event(rig, "ADDED", "c", "13"), 0);
    assert_false(osm_reflector_met(&rig->r));
    assert_int_equal(event(rig, "DELETED", "b", "14"), 0);
    assert_true(osm_reflector_met(&rig->r));
}

static void test_expectation_of_what_is_known_is_met_at_once(void **state)
{
    struct rig *rig = *state;
    start(rig);
    assert_int_equal(osm_reflector_expect(&rig->r), 0);
    assert_int_equal(osm_reflector_expect_object(&rig->r, "red/a", 5), 0);
    assert_int_equal(osm_reflector_expect_object(&rig->r, "red/b", 6), 0);
    assert_false(osm_reflector_met(&rig->r)); /* there may be more */
    assert_int_equal(osm_reflector_expect_end(&rig->r, 99), 0);
    assert_true(osm_reflector_met(&rig->r));
}

static void test_expectation_of_an_empty_kind_is_met(void **state)
{
    struct rig *rig = *state;
    ask(rig, LIST);
    page_ends(rig, "10", NULL);
    assert_int_equal(osm_reflector_expect(&rig->r), 0);
    assert_int_equal(osm_reflector_expect_end(&rig->r, 99), 0);
    assert_true(osm_reflector_met(&rig->r));
}

/* The list was read before the deletion that the watch has told of. */
static void test_what_went_while_it_was_listed_is_not_waited_for(void **state)
{
    struct rig *rig = *state;
    start(rig);
    assert_int_equal(osm_reflector_expect(&rig->r), 0);
    assert_int_equal(event(rig, "DELETED", "a", "20"), 0);
    assert_int_equal(osm_reflector_expect_object(&rig->r, "red/a", 5), 0);
    assert_int_equal(osm_reflector_expect_object(&rig->r, "red/b", 6), 0);
    assert_int_equal(osm_reflector_expect_end(&rig->r, 19), 0);
    assert_true(osm_reflector_met(&rig->r));
}

/* An older deletion is no answer to a newer object of the name. */
static void test_what_came_again_is_waited_for(void **state)
{
    struct rig *rig = *state;
    start(rig);
    assert_int_equal(osm_reflector_expect(&rig->r), 0);
    assert_int_equal(osm_reflector_expect_object(&rig->r, "red/a", 22), 0);
    assert_int_equal(osm_reflector_expect_object(&rig->r, "red/b", 6), 0);
    assert_int_equal(osm_reflector_expect_end(&rig->r, 30), 0);
    assert_int_equal(event(rig, "DELETED", "a", "21"), 0);
    assert_false(osm_reflector_met(&rig->r));
    assert_int_equal(event(rig, "ADDED", "a", "22"), 0);
    assert_true(osm_reflector_met(&rig->r));
}

static void test_what_was_made_after_the_list_is_not_expected_to_go(void **state)
{
    struct rig *rig = *state;
    start(rig);
    assert_int_equal(osm_reflector_expect(&rig->r), 0);
    assert_int_equal(event(rig, "ADDED", "c", "31"), 0);
    assert_int_equal(osm_reflector_expect_object(&rig->r, "red/a", 5), 0);
    assert_int_equal(osm_reflector_expect_object(&rig->r, "red/b", 6), 0);
    assert_int_equal(osm_reflector_expect_end(&rig->r, 30), 0);
    assert_true(osm_reflector_met(&rig->r));
}

static void test_expectation_is_met_by_a_bookmark_and_by_a_list(void **state)
{
    struct rig *rig = *state;
    start(rig);
    assert_int_equal(osm_reflector_expect(&rig->r), 0);
    assert_int_equal(osm_reflector_expect_object(&rig->r, "red/c", 25), 0);
    assert_int_equal(osm_reflector_expect_end(&rig->r, 30), 0);
    assert_int_equal(bookmark(rig, "29", false), 0);
    assert_false(osm_reflector_met(&rig->r));
    assert_int_equal(bookmark(rig, "30", false), 0);
    assert_true(osm_reflector_met(&rig->r));

    assert_int_equal(osm_reflector_expect(&rig->r), 0);
    assert_int_equal(osm_reflector_expect_object(&rig->r, "red/d", 35), 0);
    assert_int_equal(osm_reflector_expect_end(&rig->r, 40), 0);
    end_with(rig, 0, 410, "Gone", -1);
    ask(rig, LIST);
    assert_false(osm_reflector_met(&rig->r));
    page_ends(rig, "39", NULL); /* it began later, whatever its number */
    assert_true(osm_reflector_met(&rig->r));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_list_then_watch_from_there_A_K8S_01),
        TEST(test_pages_are_one_list),
        TEST(test_page_that_fails_is_asked_again_and_one_that_expired_from_the_start),
        TEST(test_watch_that_ends_is_resumed_without_a_list_A_K8S_02),
        TEST(test_watch_that_ends_at_once_waits_longer_each_time),
        TEST(test_backoff_is_drawn_from_a_span),
        TEST(test_410_as_an_event_lists_once_A_K8S_03),
        TEST(test_410_as_an_answer_lists_once_A_K8S_04),
        TEST(test_bookmarks_move_the_resume_point_and_are_no_objects_A_K8S_06),
        TEST(test_server_that_was_set_back_is_listed),
        TEST(test_retry_after_is_respected_and_bounded_A_K8S_09),
        TEST(test_failures_keep_the_resume_point_and_say_since_when_A_K8S_09),
        TEST(test_kind_that_may_not_be_read_is_settled_and_tried_again),
        TEST(test_streaming_list_ends_with_its_bookmark),
        TEST(test_streaming_list_falls_back_A_K8S_01),
        TEST(test_event_that_cannot_be_read_lists_anew),
        TEST(test_events_that_are_none_list_anew),
        TEST(test_list_that_fails_leaves_what_is_known),
        TEST(test_list_without_a_version_is_no_list),
        TEST(test_no_memory_for_an_object_is_tried_again),
        TEST(test_expectation_is_met_by_versions_seen),
        TEST(test_expectation_of_what_is_known_is_met_at_once),
        TEST(test_expectation_of_an_empty_kind_is_met),
        TEST(test_what_went_while_it_was_listed_is_not_waited_for),
        TEST(test_what_came_again_is_waited_for),
        TEST(test_what_was_made_after_the_list_is_not_expected_to_go),
        TEST(test_expectation_is_met_by_a_bookmark_and_by_a_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
