/* Composition over changes: the incremental result is the result from scratch, and running out of
 * memory on the way does not show afterwards. */
#include "xds/compose_world.h"

static uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

static const char *pick(uint64_t *seed, const char *const *list, size_t len)
{
    return list[next_random(seed) % len];
}

/* The same (key, variant) always gives the same item. */
static struct osm_item *random_item(unsigned key, unsigned variant)
{
    static const char *const names[] = {"n0", "n1", "n2"}, *const elements[] = {"e0", "e1", "e2",
                                                                                "e3"};
    static const char *const audiences[] = {
        "everyone",           "namespace=blue",   "account=blue/shop",
        "account=red/caller", "service=blue/web", "service=blue/web account=blue/shop",
        "pod=blue/p1",        "pod=red/p2",       "namespace=red"};
    static const char *const domains[] = {"d0", "d1", "d0 d1", "d2 d3", "d4"};
    uint64_t seed = key * 7919u + variant * 104729u + 1;
    (void)next_random(&seed);
    char name[16], body[16];
    (void)snprintf(name, sizeof name, "k%02u", key);
    (void)snprintf(body, sizeof body, "b%u", next_random(&seed) % 4);
    unsigned kind = key % 7;
    const char *resource = pick(&seed, names, 3), *audience = pick(&seed, audiences, 9);
    struct osm_item *it;
    enum osm_xds_type type = kind < 4 ? OSM_XDS_LDS : OSM_XDS_RDS;
    if (kind == 6) {
        it = item(name, OSM_XDS_CDS, OSM_ITEM_WHOLE, resource, NULL, body);
        with_ref(it, OSM_REF_EDS, "");
    } else if (kind == 0 || kind == 4) {
        bool ruled = next_random(&seed) % 2;
        it = item(name, type, OSM_ITEM_HEADER, resource, NULL, ruled ? NULL : body);
        it->header_rule = ruled ? dup("rule") : NULL;
        it->alone = next_random(&seed) % 2;
    } else {
        it = item(name, type, OSM_ITEM_ELEMENT, resource, pick(&seed, elements, 4), body);
        it->tags = next_random(&seed) % 2 ? dup_list("t1 t2") : NULL;
        if (type == OSM_XDS_RDS)
            it->domains = dup_list(pick(&seed, domains, 5));
        else if (next_random(&seed) % 2)
            it->unique = dup(pick(&seed, domains, 5));
        if (type == OSM_XDS_LDS && next_random(&seed) % 2)
            with_ref(it, OSM_REF_ROUTE_CONFIG, pick(&seed, names, 3));
        else
            with_ref(it, OSM_REF_CLUSTER, pick(&seed, names, 3));
    }
    for_whom(it, audience);
    if (next_random(&seed) % 3 == 0)
        for_whom(it, pick(&seed, audiences, 9));
    return it;
}

static void print_result(const struct world *w, struct osm_buf *out)
{
    for (size_t i = 0; i < w->proxies_len; i++) {
        (void)osm_buf_addf(out, "%s %s/%s\n", w->proxies[i].key, w->proxies[i].ns,
                           w->proxies[i].pod);
        for (int t = 0; t < OSM_XDS_TYPE_COUNT; t++)
            for (size_t k = 0; k < w->proxies[i].cls->types[t].len; k++) {
                const struct osm_resource *r = w->proxies[i].cls->types[t].list[k];
                (void)osm_buf_addf(out, "%d %s %s ", t, r->name, r->version);
                (void)osm_buf_add(out, osm_bytes_data(r->body), osm_bytes_len(r->body));
                (void)osm_buf_add_char(out, '\n');
            }
    }
    size_t i;
    json_t *error;
    json_array_foreach (w->errors, i, error)
        (void)osm_buf_addf(out, "%s\n", json_string_value(json_object_get(error, "message")));
    assert_int_equal(out->failed, 0);
}

static const struct osm_reader all_readers[] = {
    {"u0", "p0", "blue", "shop", svc_both, 2},  {"u1", "p1", "blue", "shop", svc_web, 1},
    {"u1b", "p9", "blue", "other", svc_web, 1}, {"u2", "p2", "red", "caller", NULL, 0},
    {"u3", "p3", "red", "other", NULL, 0},
};

enum { KEYS = 42 };

static void choose_readers(struct world *w, unsigned mask)
{
    w->readers_len = 0;
    for (unsigned i = 0; i < 5; i++)
        if (mask & 1u << i)
            w->readers[w->readers_len++] = all_readers[i];
    if (mask & 32 && w->readers_len) { /* the first one changes */
        w->readers[0].services = NULL;
        w->readers[0].services_len = 0;
    }
}

static void random_changes(uint64_t start, int rounds, long fail_every)
{
    struct world w;
    setup(&w);
    unsigned variants[KEYS] = {0}; /* 0: absent */
    uint64_t seed = start;
    for (int round = 0; round < rounds; round++) {
        unsigned n = next_random(&seed) % 6;
        for (unsigned i = 0; i < n; i++) {
            unsigned key = next_random(&seed) % KEYS;
            variants[key] = next_random(&seed) % 4;
            char name[16];
            (void)snprintf(name, sizeof name, "k%02u", key);
            if (variants[key])
                put(&w, random_item(key, variants[key]));
            else
                osm_compose_remove(w.compose, name);
        }
        if (next_random(&seed) % 8 == 0) {
            w.header_version++;
            osm_compose_forget_headers(w.compose);
        }
        choose_readers(&w, next_random(&seed) % 64);
        if (fail_every && next_random(&seed) % 2) { /* a run that fails must not spoil the next */
            struct osm_err err = {0};
            struct osm_snapshot_proxy *out = NULL;
            json_t *errors = json_array();
            osm_mem_fail_at((long)(next_random(&seed) % (uint32_t)fail_every));
            int rc = osm_compose_run(w.compose, w.readers, w.readers_len, &out, errors, &err);
            osm_mem_fail_at(-1);
            struct world failed = {
                .proxies = out, .proxies_len = rc ? 0 : w.readers_len, .errors = errors};
            drop_result(&failed);
        }
        run(&w);
        struct world fresh;
        setup(&fresh);
        fresh.header_version = w.header_version;
        for (unsigned key = 0; key < KEYS; key++)
            if (variants[key])
                put(&fresh, random_item(key, variants[key]));
        memcpy(fresh.readers, w.readers, sizeof w.readers);
        fresh.readers_len = w.readers_len;
        run(&fresh);
        struct osm_buf got = OSM_BUF_INIT(1 << 20), want = OSM_BUF_INIT(1 << 20);
        print_result(&w, &got);
        print_result(&fresh, &want);
        if (got.len || want.len)
            assert_string_equal(got.data, want.data);
        osm_buf_clear(&got);
        osm_buf_clear(&want);
        teardown(&fresh);
    }
    teardown(&w);
}

static void test_incremental_equals_from_scratch(void **state)
{
    (void)state;
    for (uint64_t start = 1; start <= 20; start++)
        random_changes(start, 60, 0);
}

static void test_a_run_out_of_memory_does_not_spoil_the_next(void **state)
{
    (void)state;
    for (uint64_t start = 100; start <= 200; start++)
        random_changes(start, 60, 200);
}

static void test_a_put_out_of_memory_leaves_what_was_there(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    two_readers(&w);
    put(&w, cluster("k1", "c", "A", "everyone"));
    run(&w);
    int rc = OSM_ENOMEM;
    for (long n = 0; rc && n < 100; n++) {
        struct osm_item *fresh = cluster("k1", "d", "B", "account=red/caller service=red/x");
        osm_mem_fail_at(n);
        rc = osm_compose_put(w.compose, fresh);
        osm_mem_fail_at(-1);
        run(&w);
        assert_string_equal(served(&w, 0, OSM_XDS_CDS, "c"), rc ? "A" : "");
    }
    assert_int_equal(rc, 0);
    teardown(&w);
}

static int no_allocation_is_left(void **state)
{
    (void)state;
    return osm_mem_live() ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_incremental_equals_from_scratch),
        cmocka_unit_test(test_a_run_out_of_memory_does_not_spoil_the_next),
        cmocka_unit_test(test_a_put_out_of_memory_leaves_what_was_there),
    };
    return cmocka_run_group_tests(tests, NULL, no_allocation_is_left);
}
