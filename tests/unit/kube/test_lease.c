/* Who leads: one, whatever the network, the clocks and the server do. */
#include "kube/lease.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { WALL_US = 1700000000, REPLICAS = 3, STEPS = 200000 };

/* An API server with one Lease: null where there is none. */
struct server {
    json_t *lease;
    unsigned version;
};

static json_t *version_text(struct server *server)
{
    return json_sprintf("%u", ++server->version);
}

/* Status of the answer; *answer: what is in it, owned, or NULL. */
static int serve(struct server *server, enum osm_lease_step step, const char *body, json_t **answer)
{
    json_t *asked = body ? json_loads(body, 0, NULL) : NULL;
    json_t *metadata = json_object_get(server->lease, "metadata");
    int status = 200;
    if (step == OSM_LEASE_CREATE && server->lease) {
        status = 409;
    } else if (step == OSM_LEASE_CREATE) {
        server->lease = json_deep_copy(asked);
        status = 201;
        (void)json_object_set_new(json_object_get(server->lease, "metadata"), "resourceVersion",
                                  version_text(server));
    } else if (!server->lease) {
        status = 404;
    } else if (step != OSM_LEASE_GET &&
               !json_equal(
                   json_object_get(metadata, "resourceVersion"),
                   json_object_get(json_object_get(asked, "metadata"), "resourceVersion"))) {
        status = 409;
    } else if (step != OSM_LEASE_GET) {
        const char *key;
        json_t *value, *spec = json_object_get(server->lease, "spec");
        json_object_foreach (json_object_get(asked, "spec"), key, value) {
            if (json_is_null(value))
                (void)json_object_del(spec, key);
            else
                (void)json_object_set(spec, key, value);
        }
        (void)json_object_set_new(metadata, "resourceVersion", version_text(server));
    }
    *answer = status < 300 ? json_deep_copy(server->lease) : NULL;
    json_decref(asked);
    return status;
}

/* One request, at once answered. */
static int turn(struct osm_lease *l, struct server *server, uint64_t now_ms)
{
    struct osm_buf body = OSM_BUF_INIT(4096);
    json_t *answer = NULL;
    assert_int_equal(osm_lease_ask(l, "osm-system", "osm-controller", now_ms, WALL_US, &body), 0);
    int status = serve(server, l->step, body.data, &answer);
    osm_lease_answered(l, status, answer, "", -1, now_ms, 0);
    json_decref(answer);
    osm_buf_clear(&body);
    return status;
}

static void until_leading(struct osm_lease *l, struct server *server, uint64_t *now_ms)
{
    for (int i = 0; i < 4 && !osm_lease_leads(l, *now_ms); i++) {
        *now_ms += osm_lease_wait(l, *now_ms);
        (void)turn(l, server, *now_ms);
    }
    assert_true(osm_lease_leads(l, *now_ms));
}

static void test_first_one_creates_the_lease_and_leads(void **state)
{
    (void)state;
    struct server server = {0};
    struct osm_lease l;
    uint64_t now_ms = 5000;
    osm_lease_init(&l, &osm_lease_defaults, "a");
    assert_false(osm_lease_leads(&l, now_ms));
    assert_int_equal(turn(&l, &server, now_ms), 404);
    assert_int_equal(osm_lease_wait(&l, now_ms), 0);
    assert_int_equal(turn(&l, &server, now_ms), 201);
    assert_true(osm_lease_leads(&l, now_ms));
    json_t *spec = json_object_get(server.lease, "spec");
    assert_string_equal(json_string_value(json_object_get(spec, "holderIdentity")), "a");
    assert_int_equal(json_integer_value(json_object_get(spec, "leaseDurationSeconds")), 15);
    assert_string_equal(json_string_value(json_object_get(spec, "renewTime")),
                        "1970-01-01T00:28:20.000000Z");
    assert_int_equal(osm_lease_wait(&l, now_ms), osm_lease_defaults.retry_ms);
    json_decref(server.lease);
}

static void test_leader_that_hears_nothing_ends_before_another_begins(void **state)
{
    (void)state;
    struct server server = {0};
    struct osm_lease a, b;
    uint64_t now_ms = 1000;
    osm_lease_init(&a, &osm_lease_defaults, "a");
    osm_lease_init(&b, &osm_lease_defaults, "b");
    until_leading(&a, &server, &now_ms);
    uint64_t since_ms = now_ms;
    assert_int_equal(turn(&b, &server, now_ms), 200);
    assert_false(osm_lease_leads(&b, now_ms));
    while (!osm_lease_leads(&b, now_ms)) {
        now_ms += osm_lease_wait(&b, now_ms);
        (void)turn(&b, &server, now_ms);
        assert_true(now_ms < since_ms + 60000);
    }
    assert_true(now_ms - since_ms >= osm_lease_defaults.duration_ms);
    assert_true(osm_lease_leads(&a, since_ms + osm_lease_defaults.renew_ms - 1));
    assert_false(osm_lease_leads(&a, since_ms + osm_lease_defaults.renew_ms));
    (void)turn(&a, &server, now_ms); /* its late renewal is refused */
    assert_false(osm_lease_leads(&a, now_ms));
    assert_true(osm_lease_leads(&b, now_ms));
    json_decref(server.lease);
}

static void test_lease_that_was_let_go_is_taken_at_once(void **state)
{
    (void)state;
    struct server server = {0};
    struct osm_lease a, b;
    uint64_t now_ms = 1000;
    osm_lease_init(&a, &osm_lease_defaults, "a");
    osm_lease_init(&b, &osm_lease_defaults, "b");
    until_leading(&a, &server, &now_ms);
    assert_int_equal(turn(&b, &server, now_ms), 200);
    assert_true(osm_lease_release(&a, now_ms));
    assert_false(osm_lease_leads(&a, now_ms));
    assert_int_equal(turn(&a, &server, now_ms), 200);
    now_ms += osm_lease_wait(&b, now_ms);
    until_leading(&b, &server, &now_ms);
    assert_false(osm_lease_release(&a, now_ms));
    assert_int_equal(json_integer_value(json_object_get(json_object_get(server.lease, "spec"),
                                                        "leaseTransitions")),
                     1);
    json_decref(server.lease);
}

/* A server takes 32 bits of it: a number at their end must not keep everybody from leading. */
static void test_number_at_its_end_begins_anew(void **state)
{
    (void)state;
    struct server server = {0};
    struct osm_lease a;
    uint64_t now_ms = 1000;
    osm_lease_init(&a, &osm_lease_defaults, "a");
    server.lease = json_pack("{s:{s:s}, s:{s:i}}", "metadata", "resourceVersion", "0", "spec",
                             "leaseTransitions", INT32_MAX);
    until_leading(&a, &server, &now_ms);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(server.lease, "spec"),
                                                        "leaseTransitions")),
                     1);
    json_decref(server.lease);
}

static void test_what_others_keep_in_the_lease_stays(void **state)
{
    (void)state;
    struct server server = {0};
    struct osm_lease a;
    uint64_t now_ms = 1000;
    osm_lease_init(&a, &osm_lease_defaults, "a");
    until_leading(&a, &server, &now_ms);
    json_t *spec = json_object_get(server.lease, "spec");
    (void)json_object_set_new(spec, "strategy", json_string("OldestEmulationVersion"));
    now_ms += osm_lease_wait(&a, now_ms);
    assert_int_equal(turn(&a, &server, now_ms), 200);
    assert_non_null(json_object_get(spec, "strategy"));
    assert_true(osm_lease_leads(&a, now_ms));
    json_decref(server.lease);
}

static void test_lease_that_is_deleted_is_not_created_by_another_at_once(void **state)
{
    (void)state;
    struct server server = {0};
    struct osm_lease a, b;
    uint64_t now_ms = 1000;
    osm_lease_init(&a, &osm_lease_defaults, "a");
    osm_lease_init(&b, &osm_lease_defaults, "b");
    until_leading(&a, &server, &now_ms);
    assert_int_equal(turn(&b, &server, now_ms), 200);
    json_decref(server.lease);
    server.lease = NULL;
    now_ms += osm_lease_wait(&b, now_ms);
    assert_int_equal(turn(&b, &server, now_ms), 404);
    assert_true(osm_lease_wait(&b, now_ms) >= osm_lease_defaults.duration_ms);
    assert_int_equal(turn(&a, &server, now_ms), 404); /* its renewal */
    assert_false(osm_lease_leads(&a, now_ms));
    until_leading(&a, &server, &now_ms);
    json_decref(server.lease);
}

static void test_garbage_and_denial_are_no_lease(void **state)
{
    (void)state;
    struct osm_lease l;
    struct osm_buf body = OSM_BUF_INIT(4096);
    json_t *array = json_array(), *empty = json_object();
    osm_lease_init(&l, &osm_lease_defaults, "a");
    const json_t *answers[] = {NULL, array, empty};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(osm_lease_ask(&l, "n", "l", 1000, WALL_US, &body), 0);
        osm_lease_answered(&l, 200, answers[i], "", -1, 1000, 7);
        assert_string_equal(l.failure, "HTTP 200: the answer is no Lease");
        assert_int_equal(l.step, OSM_LEASE_GET);
        assert_true(osm_lease_wait(&l, 1000) >= osm_lease_defaults.retry_ms);
    }
    osm_lease_answered(&l, 403, NULL, "leases is forbidden", -1, 1000, 0);
    assert_true(l.denied);
    assert_int_equal(osm_lease_wait(&l, 1000), osm_lease_defaults.denied_ms);
    osm_lease_answered(&l, 429, NULL, "slow down", 7, 1000, 0);
    assert_int_equal(osm_lease_wait(&l, 1000), 7000);
    osm_lease_answered(&l, 0, NULL, "cannot connect", -1, 1000, 0);
    assert_string_equal(l.failure, "cannot connect");
    assert_null(body.data);
    json_decref(array);
    json_decref(empty);
}

static void test_duration_of_another_holder_counts_up_to_a_limit(void **state)
{
    (void)state;
    struct server server = {0};
    struct osm_lease l;
    const json_int_t said_s[] = {60, 1000000000, 0, -5};
    const uint64_t counts_ms[] = {60000, 300000, 15000, 15000};
    for (size_t i = 0; i < 4; i++) {
        osm_lease_init(&l, &osm_lease_defaults, "a");
        server.lease = json_pack("{s:{s:s}, s:{s:s, s:I}}", "metadata", "resourceVersion", "5",
                                 "spec", "holderIdentity", "z", "leaseDurationSeconds", said_s[i]);
        assert_int_equal(turn(&l, &server, 1000), 200);
        (void)turn(&l, &server, 1000 + counts_ms[i] - 1);
        assert_int_equal(l.step, OSM_LEASE_GET);
        (void)turn(&l, &server, 1000 + counts_ms[i]);
        assert_int_equal(l.step, OSM_LEASE_UPDATE);
        json_decref(server.lease);
    }
}

/* --- all of it at once --- */

struct replica {
    struct osm_lease lease;
    uint64_t skew_ms; /* its monotonic clock began at another time */
    bool cut;
    /* a request under way */
    bool asked, served;
    uint64_t arrives_ms, back_ms;
    char *body;
    enum osm_lease_step step;
    int status;
    json_t *answer;
};

static uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33);
}

static void forget_request(struct replica *r)
{
    r->asked = r->served = false;
    osm_free(osm_take_ptr(&r->body));
    json_decref(osm_take_ptr(&r->answer));
}

static void replica_turn(struct replica *r, struct server *server, uint64_t now_ms, uint64_t *seed)
{
    uint64_t own_ms = now_ms + r->skew_ms;
    if (!r->asked && !osm_lease_wait(&r->lease, own_ms)) {
        struct osm_buf body = OSM_BUF_INIT(4096);
        /* Wall clocks are anything at all. */
        int64_t wall_us = (int64_t)next_random(seed) * 1000000;
        r->step = r->lease.step;
        assert_int_equal(osm_lease_ask(&r->lease, "n", "l", own_ms, wall_us, &body), 0);
        r->body = body.data ? osm_strdup(body.data) : NULL;
        osm_buf_clear(&body);
        r->asked = true;
        r->arrives_ms = now_ms + next_random(seed) % (next_random(seed) % 8 ? 50 : 3000);
        r->back_ms = r->arrives_ms + next_random(seed) % (next_random(seed) % 8 ? 50 : 3000);
    } else if (r->asked && !r->served && now_ms >= r->arrives_ms) {
        r->served = true;
        r->status = 0;
        if (!r->cut)
            r->status = serve(server, r->step, r->body, &r->answer);
    } else if (r->served && now_ms >= r->back_ms) {
        bool is_lost = r->cut || next_random(seed) % 20 == 0; /* although it was served */
        osm_lease_answered(&r->lease, is_lost ? 0 : r->status, is_lost ? NULL : r->answer, "lost",
                           -1, own_ms, next_random(seed));
        forget_request(r);
    }
}

static void test_there_are_never_two_leaders_and_not_long_none(void **state)
{
    (void)state;
    static const char *const names[] = {"a", "b", "c"};
    struct server server = {0};
    struct replica replicas[REPLICAS];
    uint64_t seed = 42, now_ms = 1000, led_ms = 0;
    memset(replicas, 0, sizeof replicas);
    for (size_t i = 0; i < REPLICAS; i++) {
        osm_lease_init(&replicas[i].lease, &osm_lease_defaults, names[i]);
        replicas[i].skew_ms = next_random(&seed);
    }
    for (int step = 0; step < STEPS; step++, now_ms += 20) {
        int leaders = 0;
        for (size_t i = 0; i < REPLICAS; i++) {
            struct replica *r = &replicas[i];
            if (next_random(&seed) % 2000 == 0)
                r->cut = !r->cut;
            replica_turn(r, &server, now_ms, &seed);
        }
        if (next_random(&seed) % 500 == 0 && server.lease) /* somebody writes a label */
            (void)json_object_set_new(json_object_get(server.lease, "metadata"), "resourceVersion",
                                      version_text(&server));
        for (size_t i = 0; i < REPLICAS; i++)
            leaders += osm_lease_leads(&replicas[i].lease, now_ms + replicas[i].skew_ms);
        assert_in_range(leaders, 0, 1);
        led_ms += leaders ? 20 : 0;
    }
    assert_true(led_ms > now_ms / 3);
    for (size_t i = 0; i < REPLICAS; i++)
        forget_request(&replicas[i]);
    json_decref(server.lease);
    assert_int_equal(osm_mem_live(), 0);
}

/* Something that refuses each write as a conflict, and shows the Lease: a webhook, perhaps. */
static void test_conflicts_without_end_are_no_loop(void **state)
{
    (void)state;
    struct server server = {0};
    struct osm_lease l;
    uint64_t now_ms = 1000;
    osm_lease_init(&l, &osm_lease_defaults, "a");
    until_leading(&l, &server, &now_ms);
    assert_true(osm_lease_leads(&l, now_ms));
    uint64_t end_ms = now_ms + 60 * 1000;
    unsigned requests = 0;
    for (; now_ms < end_ms && requests < 1000; requests++) {
        now_ms += osm_lease_wait(&l, now_ms);
        bool is_write = l.step != OSM_LEASE_GET;
        if (is_write)
            osm_lease_answered(&l, 409, NULL, "no", -1, now_ms, 0);
        else
            (void)turn(&l, &server, now_ms);
    }
    assert_false(osm_lease_leads(&l, now_ms));
    assert_in_range(requests, 10, 300);
    for (int i = 0; i < 2; i++) { /* it takes writes again */
        now_ms += osm_lease_wait(&l, now_ms);
        (void)turn(&l, &server, now_ms);
    }
    assert_true(osm_lease_leads(&l, now_ms));
    json_decref(server.lease);
}

/* A store that was restored from a copy: its versions are lower than those that were seen. */
static void test_store_that_went_back_in_time_is_told(void **state)
{
    (void)state;
    struct server server = {0};
    struct osm_lease l;
    uint64_t now_ms = 1000;
    osm_lease_init(&l, &osm_lease_defaults, "a");
    until_leading(&l, &server, &now_ms);
    for (int i = 0; i < 5; i++)
        (void)turn(&l, &server, now_ms);
    json_decref(server.lease); /* deleted: the next one's version is higher */
    server.lease = NULL;
    for (int i = 0; i < 3; i++)
        (void)turn(&l, &server, now_ms);
    assert_false(l.set_back);
    server.version = 2;
    (void)turn(&l, &server, now_ms);
    assert_true(l.set_back);
    l.set_back = false;
    (void)turn(&l, &server, now_ms);
    assert_false(l.set_back);
    json_decref(server.lease);
    server.lease = NULL; /* the copy is of a time before it was made */
    server.version = 0;
    for (int i = 0; i < 2; i++)
        (void)turn(&l, &server, now_ms);
    assert_true(l.set_back);
    json_decref(server.lease);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_one_creates_the_lease_and_leads),
        cmocka_unit_test(test_leader_that_hears_nothing_ends_before_another_begins),
        cmocka_unit_test(test_lease_that_was_let_go_is_taken_at_once),
        cmocka_unit_test(test_number_at_its_end_begins_anew),
        cmocka_unit_test(test_what_others_keep_in_the_lease_stays),
        cmocka_unit_test(test_lease_that_is_deleted_is_not_created_by_another_at_once),
        cmocka_unit_test(test_garbage_and_denial_are_no_lease),
        cmocka_unit_test(test_duration_of_another_holder_counts_up_to_a_limit),
        cmocka_unit_test(test_store_that_went_back_in_time_is_told),
        cmocka_unit_test(test_conflicts_without_end_are_no_loop),
        cmocka_unit_test(test_there_are_never_two_leaders_and_not_long_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
