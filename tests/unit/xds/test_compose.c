/* Composition: who reads what, what it becomes, what is left out and reported, and that the
 * incremental result is the result from scratch. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/map.h"
#include "xds/compose.h"
#include "xds/wire.h"

/* ---- a small world ---- */

struct world {
    struct osm_compose *compose;
    struct osm_reader readers[64];
    size_t readers_len;
    struct osm_snapshot_proxy *proxies;
    size_t proxies_len;
    json_t *errors;
    int header_calls;
    bool header_fails;
    int header_version;
};

static struct osm_bytes *make_header(void *ud, const struct osm_item *header,
                                     const char *const *tags, size_t len)
{
    struct world *w = ud;
    struct osm_buf out = OSM_BUF_INIT(4096);
    w->header_calls++;
    if (w->header_fails)
        return NULL;
    (void)osm_buf_addf(&out, "%s%d[", header->header_rule, w->header_version);
    for (size_t i = 0; i < len; i++)
        (void)osm_buf_addf(&out, "%s ", tags[i]);
    (void)osm_buf_add_str(&out, "]");
    struct osm_bytes *bytes = osm_bytes_new(out.data, out.len);
    osm_buf_clear(&out);
    return bytes;
}

static void setup(struct world *w)
{
    *w = (struct world){0};
    w->compose = osm_compose_new(make_header, w);
    assert_non_null(w->compose);
}

static void drop_result(struct world *w)
{
    for (size_t i = 0; i < w->proxies_len; i++) {
        osm_free((char *)(uintptr_t)w->proxies[i].uuid);
        osm_free((char *)(uintptr_t)w->proxies[i].pod);
        osm_free((char *)(uintptr_t)w->proxies[i].ns);
        osm_free((char *)(uintptr_t)w->proxies[i].account);
        osm_class_unref(w->proxies[i].cls);
    }
    osm_free(w->proxies);
    json_decref(w->errors);
    w->proxies = NULL;
    w->proxies_len = 0;
    w->errors = NULL;
}

static void teardown(struct world *w)
{
    drop_result(w);
    osm_compose_free(w->compose);
}

static void add_reader(struct world *w, const char *uuid, const char *pod, const char *ns,
                       const char *account, const char *const *services, size_t services_len)
{
    w->readers[w->readers_len++] =
        (struct osm_reader){uuid, pod, ns, account, services, services_len};
}

static void run(struct world *w)
{
    struct osm_err err = {0};
    drop_result(w);
    w->errors = json_array();
    if (osm_compose_run(w->compose, w->readers, w->readers_len, &w->proxies, w->errors, &err))
        fail_msg("%s", err.msg);
    w->proxies_len = w->readers_len;
}

static const char *dup(const char *text)
{
    return text ? osm_strdup(text) : NULL;
}

static const char *const *dup_list(const char *words)
{
    if (!words)
        return NULL;
    const char **list = osm_alloc_array(16, sizeof *list);
    size_t n = 0;
    for (const char *at = words; *at;) {
        size_t len = strcspn(at, " ");
        list[n++] = osm_strndup(at, len);
        at += len + (at[len] == ' ');
    }
    return list;
}

static struct osm_item *item(const char *key, enum osm_xds_type type, enum osm_item_part part,
                             const char *resource, const char *element, const char *body)
{
    struct osm_item *it = osm_alloc(sizeof *it);
    it->key = dup(key);
    it->type = type;
    it->part = part;
    it->resource = dup(resource);
    it->element = dup(element);
    it->body = body ? osm_bytes_new(body, strlen(body)) : NULL;
    it->place = dup("policies/envoy/x.lua:14");
    return it;
}

/* "account=a/b service=a/c", "everyone"; several calls are ORed. */
static struct osm_item *for_whom(struct osm_item *it, const char *words)
{
    struct osm_term *grown = osm_realloc_array(it->audience, it->audience_len + 1, sizeof *grown);
    it->audience = grown;
    struct osm_term *t = &grown[it->audience_len++];
    *t = (struct osm_term){0};
    for (const char *at = words; *at;) {
        size_t len = strcspn(at, " "), tag = strcspn(at, "= ");
        const char **field = !strncmp(at, "pod", tag)       ? &t->pod
                             : !strncmp(at, "service", tag) ? &t->service
                             : !strncmp(at, "account", tag) ? &t->account
                                                            : &t->ns;
        if (at[tag] == '=')
            *field = osm_strndup(at + tag + 1, len - tag - 1);
        at += len + (at[len] == ' ');
    }
    return it;
}

static struct osm_item *with_ref(struct osm_item *it, enum osm_ref_kind kind, const char *name)
{
    struct osm_item_ref *grown = osm_realloc_array(it->refs, it->refs_len + 1, sizeof *grown);
    it->refs = grown;
    grown[it->refs_len++] = (struct osm_item_ref){(int)kind, dup(name)};
    return it;
}

static void put(struct world *w, struct osm_item *it)
{
    assert_int_equal(osm_compose_put(w->compose, it), 0);
}

static struct osm_item *cluster(const char *key, const char *name, const char *body,
                                const char *audience)
{
    return for_whom(item(key, OSM_XDS_CDS, OSM_ITEM_WHOLE, name, NULL, body), audience);
}

static struct osm_item *header(const char *key, enum osm_xds_type type, const char *name,
                               const char *body)
{
    return for_whom(item(key, type, OSM_ITEM_HEADER, name, NULL, body), "everyone");
}

static struct osm_item *element(const char *key, enum osm_xds_type type, const char *name,
                                const char *el, const char *body, const char *audience)
{
    return for_whom(item(key, type, OSM_ITEM_ELEMENT, name, el, body), audience);
}

/* The bytes that proxy @p i is served, "" where nothing. */
static const char *served(const struct world *w, size_t i, enum osm_xds_type type, const char *name)
{
    static char text[512];
    const struct osm_resource *r = osm_class_find(w->proxies[i].cls, type, name);
    if (!r)
        return "";
    (void)snprintf(text, sizeof text, "%.*s", (int)osm_bytes_len(r->body),
                   (const char *)osm_bytes_data(r->body));
    return text;
}

static void expect_errors(const struct world *w, const char *const *messages, size_t len)
{
    for (size_t i = 0; i < len && i < json_array_size(w->errors); i++)
        assert_string_equal(
            json_string_value(json_object_get(json_array_get(w->errors, i), "message")),
            messages[i]);
    assert_int_equal(json_array_size(w->errors), len);
}
#define EXPECT_ERRORS(w, ...)                                                                      \
    expect_errors(w, (const char *const[]){__VA_ARGS__},                                           \
                  sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static const char *const svc_web[] = {"web"}, *const svc_both[] = {"api", "web"};

static void two_readers(struct world *w)
{
    add_reader(w, "u1", "p1", "blue", "shop", svc_web, 1);
    add_reader(w, "u2", "p2", "red", "caller", NULL, 0);
}

/* ---- audiences ---- */

static void test_each_term_reaches_whom_it_names(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    two_readers(&w);
    put(&w, cluster("k1", "all", "A", "everyone"));
    put(&w, cluster("k2", "ns", "B", "namespace=blue"));
    put(&w, cluster("k3", "acc", "C", "account=red/caller"));
    put(&w, cluster("k4", "svc", "D", "service=blue/web"));
    put(&w, cluster("k5", "pod", "E", "pod=red/p2"));
    put(&w, cluster("k6", "both", "F", "service=blue/web account=blue/shop"));
    put(&w, cluster("k7", "neither", "G", "service=blue/web account=red/caller"));
    put(&w, for_whom(cluster("k8", "or", "H", "account=blue/shop"), "pod=red/p2"));
    run(&w);
    const char *names[] = {"all", "ns", "acc", "svc", "pod", "both", "neither", "or"};
    const char *first[] = {"A", "B", "", "D", "", "F", "", "H"},
               *second[] = {"A", "", "C", "", "E", "", "", "H"};
    for (size_t i = 0; i < 8; i++) {
        assert_string_equal(served(&w, 0, OSM_XDS_CDS, names[i]), first[i]);
        assert_string_equal(served(&w, 1, OSM_XDS_CDS, names[i]), second[i]);
    }
    assert_int_equal(json_array_size(w.errors), 0);
    assert_string_equal(w.proxies[0].pod, "p1");
    assert_string_equal(w.proxies[1].account, "caller");
    teardown(&w);
}

static void test_a_service_of_another_namespace_is_another_service(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    add_reader(&w, "u1", "p1", "red", "shop", svc_web, 1);
    put(&w, cluster("k", "c", "A", "service=blue/web"));
    run(&w);
    assert_string_equal(served(&w, 0, OSM_XDS_CDS, "c"), "");
    teardown(&w);
}

static void test_the_most_specific_term_wins(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    add_reader(&w, "u1", "p1", "blue", "shop", svc_both, 2);
    const char *audiences[] = {"everyone", "namespace=blue", "account=blue/shop",
                               "service=blue/api account=blue/shop", "pod=blue/p1"};
    const char *bodies[] = {"0", "1", "2", "3", "4"};
    for (int i = 0; i < 5; i++) {
        char key[8];
        (void)snprintf(key, sizeof key, "a%d", i); /* lesser keys lose to better terms */
        put(&w, cluster(key, "c", bodies[i], audiences[i]));
        run(&w);
        assert_string_equal(served(&w, 0, OSM_XDS_CDS, "c"), bodies[i]);
        assert_int_equal(json_array_size(w.errors), 0);
    }
    for (int i = 4; i > 0; i--) {
        char key[8];
        (void)snprintf(key, sizeof key, "a%d", i);
        osm_compose_remove(w.compose, key);
        run(&w);
        assert_string_equal(served(&w, 0, OSM_XDS_CDS, "c"), bodies[i - 1]);
    }
    teardown(&w);
}

static void test_equal_rank_and_unequal_bytes_is_reported(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    two_readers(&w);
    put(&w, cluster("m.b(x)#1", "c", "B", "service=blue/web"));
    put(&w, cluster("m.a(x)#1", "c", "A", "account=blue/shop"));
    put(&w, cluster("m.c(x)#1", "c", "A", "account=blue/shop"));
    run(&w);
    assert_string_equal(served(&w, 0, OSM_XDS_CDS, "c"), "A");
    EXPECT_ERRORS(&w, "cluster \"c\": left out: m.a(x)#1 gives other content for the same readers "
                      "and comes first");
    const json_t *report = json_array_get(w.errors, 0);
    assert_string_equal(json_string_value(json_object_get(report, "where")), "m.b(x)#1");
    assert_string_equal(json_string_value(json_object_get(report, "module")),
                        "policies/envoy/x.lua");
    assert_int_equal(json_integer_value(json_object_get(report, "line")), 14);
    run(&w);
    assert_int_equal(json_array_size(w.errors), 1); /* the full set each time */
    osm_compose_remove(w.compose, "m.b(x)#1");
    run(&w);
    assert_int_equal(json_array_size(w.errors), 0);
    teardown(&w);
}

/* ---- classes ---- */

static void test_equal_sets_share_a_class_and_keep_it(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    two_readers(&w);
    add_reader(&w, "u3", "p3", "red", "other", NULL, 0);
    put(&w, cluster("k1", "c", "A", "everyone"));
    put(&w, cluster("k2", "d", "B", "account=blue/shop"));
    run(&w);
    struct osm_class *first = osm_class_ref(w.proxies[0].cls),
                     *second = osm_class_ref(w.proxies[1].cls);
    assert_ptr_equal(w.proxies[1].cls, w.proxies[2].cls);
    assert_ptr_not_equal(first, second);
    assert_ptr_equal(osm_class_find(first, OSM_XDS_CDS, "c"),
                     osm_class_find(second, OSM_XDS_CDS, "c"));
    put(&w, cluster("k2", "d", "B2", "account=blue/shop"));
    run(&w);
    assert_ptr_not_equal(w.proxies[0].cls, first);
    assert_ptr_equal(w.proxies[1].cls, second);
    put(&w, cluster("k2", "d", "B", "account=blue/shop"));
    run(&w);
    assert_string_equal(osm_class_find(w.proxies[0].cls, OSM_XDS_CDS, "d")->version,
                        osm_class_find(first, OSM_XDS_CDS, "d")->version);
    osm_class_unref(first);
    osm_class_unref(second);
    teardown(&w);
}

static void test_a_reader_without_items_has_an_empty_class(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    two_readers(&w);
    run(&w);
    assert_non_null(w.proxies[0].cls);
    assert_ptr_equal(w.proxies[0].cls, w.proxies[1].cls);
    assert_int_equal(w.proxies[0].cls->types[OSM_XDS_CDS].len, 0);
    teardown(&w);
}

static void test_readers_come_go_and_change(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    put(&w, cluster("k1", "c", "A", "service=blue/web"));
    put(&w, cluster("k2", "d", "B", "service=blue/api"));
    add_reader(&w, "u1", "p1", "blue", "shop", svc_web, 1);
    run(&w);
    assert_string_equal(served(&w, 0, OSM_XDS_CDS, "c"), "A");
    assert_string_equal(served(&w, 0, OSM_XDS_CDS, "d"), "");
    w.readers[0].services = svc_both;
    w.readers[0].services_len = 2;
    run(&w);
    assert_string_equal(served(&w, 0, OSM_XDS_CDS, "d"), "B");
    w.readers_len = 0;
    run(&w);
    add_reader(&w, "u0", "p0", "blue", "shop", svc_web, 1);
    run(&w);
    assert_string_equal(w.proxies[0].uuid, "u0");
    assert_string_equal(served(&w, 0, OSM_XDS_CDS, "c"), "A");
    teardown(&w);
}

static void test_unsorted_readers_are_refused(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    add_reader(&w, "u2", "p1", "blue", "shop", NULL, 0);
    add_reader(&w, "u1", "p2", "blue", "shop", NULL, 0);
    struct osm_err err = {0};
    json_t *errors = json_array();
    struct osm_snapshot_proxy *out = NULL;
    assert_int_equal(osm_compose_run(w.compose, w.readers, 2, &out, errors, &err), OSM_EINVAL);
    assert_null(out);
    json_decref(errors);
    teardown(&w);
}

/* ---- composites ---- */

static void test_a_composite_is_its_header_and_its_elements_by_name(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    two_readers(&w);
    put(&w, element("k2", OSM_XDS_LDS, "in", "b", "BB", "everyone"));
    put(&w, element("k9", OSM_XDS_LDS, "in", "a", "A", "account=red/caller"));
    put(&w, header("k1", OSM_XDS_LDS, "in", "H"));
    put(&w, header("r1", OSM_XDS_RDS, "routes", "R"));
    put(&w, element("r2", OSM_XDS_RDS, "routes", "v", "V", "everyone"));
    run(&w);
    assert_string_equal(served(&w, 0, OSM_XDS_LDS, "in"), "H\x1a\x02"
                                                          "BB"); /* filter_chains is field 3 */
    assert_string_equal(served(&w, 1, OSM_XDS_LDS, "in"), "H\x1a\x01"
                                                          "A\x1a\x02"
                                                          "BB");
    assert_string_equal(served(&w, 1, OSM_XDS_RDS, "routes"),
                        "R\x12\x01V"); /* virtual_hosts is field 2 */
    assert_int_equal(json_array_size(w.errors), 0);
    teardown(&w);
}

static void test_a_header_alone_is_served_only_where_it_says_so(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    two_readers(&w);
    put(&w, header("k1", OSM_XDS_LDS, "in", "H"));
    struct osm_item *alone = header("k2", OSM_XDS_LDS, "out", "O");
    alone->alone = true;
    put(&w, alone);
    put(&w, element("k3", OSM_XDS_LDS, "none", "e", "E", "everyone"));
    run(&w);
    assert_null(osm_class_find(w.proxies[0].cls, OSM_XDS_LDS, "in"));
    assert_string_equal(served(&w, 0, OSM_XDS_LDS, "out"), "O");
    assert_null(osm_class_find(w.proxies[0].cls, OSM_XDS_LDS, "none"));
    EXPECT_ERRORS(&w, "listener \"none\", filter chain \"e\": left out: nothing emits the header "
                      "of its resource to the same readers");
    teardown(&w);
}

static void test_a_header_rule_sees_the_tags_of_its_class(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    two_readers(&w);
    struct osm_item *h = header("k1", OSM_XDS_LDS, "in", NULL);
    h->header_rule = dup("head");
    put(&w, h);
    struct osm_item *a = element("k2", OSM_XDS_LDS, "in", "a", "A", "everyone"),
                    *b = element("k3", OSM_XDS_LDS, "in", "b", "B", "account=red/caller");
    a->tags = dup_list("90 80");
    b->tags = dup_list("80 100");
    put(&w, a);
    put(&w, b);
    run(&w);
    assert_string_equal(served(&w, 0, OSM_XDS_LDS, "in"), "head0[80 90 ]\x1a\x01"
                                                          "A");
    assert_string_equal(served(&w, 1, OSM_XDS_LDS, "in"), "head0[100 80 90 ]\x1a\x01"
                                                          "A\x1a\x01"
                                                          "B");
    assert_int_equal(w.header_calls, 2);
    put(&w, cluster("k4", "c", "C", "everyone"));
    run(&w);
    assert_int_equal(w.header_calls, 2); /* nothing it depends on has changed */
    osm_compose_forget_headers(w.compose);
    struct osm_resource *before =
        osm_resource_ref(osm_class_find(w.proxies[0].cls, OSM_XDS_LDS, "in"));
    run(&w);
    assert_int_equal(w.header_calls, 4);
    assert_ptr_equal(osm_class_find(w.proxies[0].cls, OSM_XDS_LDS, "in"),
                     before); /* equal bytes, equal resource */
    osm_resource_unref(before);
    w.header_version = 1;
    osm_compose_forget_headers(w.compose);
    run(&w);
    assert_string_equal(served(&w, 0, OSM_XDS_LDS, "in"), "head1[80 90 ]\x1a\x01"
                                                          "A");
    w.header_fails = true;
    osm_compose_forget_headers(w.compose);
    run(&w);
    assert_null(osm_class_find(w.proxies[0].cls, OSM_XDS_LDS, "in"));
    teardown(&w);
}

static void test_of_two_equal_domains_one_is_left_out(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    two_readers(&w);
    put(&w, header("h", OSM_XDS_RDS, "r", "R"));
    struct osm_item *a = element("k1", OSM_XDS_RDS, "r", "z", "Z", "everyone"),
                    *b = element("k2", OSM_XDS_RDS, "r", "a", "A", "everyone"),
                    *c = element("k3", OSM_XDS_RDS, "r", "c", "C", "everyone"),
                    *d = element("k4", OSM_XDS_RDS, "r", "d", "D", "everyone");
    a->domains = dup_list("web web.blue");
    b->domains = dup_list("api WEB.blue");
    c->domains = dup_list("api"); /* free: b is left out whole */
    d->domains = dup_list("x y X");
    put(&w, a);
    put(&w, b);
    put(&w, c);
    put(&w, d);
    run(&w);
    assert_string_equal(served(&w, 0, OSM_XDS_RDS, "r"), "R\x12\x01"
                                                         "C\x12\x01Z");
    EXPECT_ERRORS(&w,
                  "route configuration \"r\", virtual host \"a\": left out: domain \"WEB.blue\" "
                  "belongs to virtual host \"z\" of k1",
                  "route configuration \"r\", virtual host \"d\": left out: domain \"X\" belongs "
                  "to virtual host \"d\" of k4");
    /* The more specific wins, whatever its key. */
    struct osm_item *special = element("k9", OSM_XDS_RDS, "r", "s", "S", "pod=blue/p1");
    special->domains = dup_list("web");
    put(&w, special);
    run(&w);
    assert_string_equal(served(&w, 0, OSM_XDS_RDS, "r"), "R\x12\x01"
                                                         "A\x12\x01"
                                                         "S");
    assert_string_equal(served(&w, 1, OSM_XDS_RDS, "r"), "R\x12\x01"
                                                         "C\x12\x01Z");
    teardown(&w);
}

static void test_of_two_equal_matches_one_is_left_out(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    two_readers(&w);
    put(&w, header("h", OSM_XDS_LDS, "l", "L"));
    struct osm_item *a = element("k2", OSM_XDS_LDS, "l", "a", "A", "everyone"),
                    *b = element("k1", OSM_XDS_LDS, "l", "b", "B", "everyone");
    a->unique = dup("00ff");
    b->unique = dup("00ff");
    put(&w, a);
    put(&w, b);
    run(&w);
    assert_string_equal(served(&w, 0, OSM_XDS_LDS, "l"), "L\x1a\x01"
                                                         "B");
    EXPECT_ERRORS(
        &w, "listener \"l\", filter chain \"a\": left out: its match equals that of \"b\" of k1");
    teardown(&w);
}

static void test_parts_that_cannot_be_are_refused(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    assert_int_equal(
        osm_compose_put(w.compose, element("k", OSM_XDS_CDS, "c", "e", "E", "everyone")),
        OSM_EINVAL);
    assert_int_equal(osm_compose_put(w.compose, for_whom(item("k", OSM_XDS_LDS, OSM_ITEM_ELEMENT,
                                                              "l", NULL, "E"),
                                                         "everyone")),
                     OSM_EINVAL);
    assert_int_equal(osm_compose_put(w.compose, header("k", OSM_XDS_LDS, "l", NULL)), OSM_EINVAL);
    osm_compose_remove(w.compose, "k");
    teardown(&w);
}

/* ---- references ---- */

static void test_dangling_references_are_reported_and_served(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    two_readers(&w);
    put(&w, header("h", OSM_XDS_RDS, "r", "R"));
    put(&w, with_ref(element("v", OSM_XDS_RDS, "r", "v", "V", "everyone"), OSM_REF_CLUSTER, "c"));
    put(&w, with_ref(with_ref(cluster("c", "c", "C", "account=blue/shop"), OSM_REF_EDS, ""),
                     OSM_REF_SECRET, "root"));
    put(&w, with_ref(cluster("d", "d", "D", "account=blue/shop"), OSM_REF_SECRET, "service-cert"));
    run(&w);
    assert_string_equal(served(&w, 1, OSM_XDS_RDS, "r"), "R\x12\x01V");
    EXPECT_ERRORS(
        &w,
        "cluster \"c\": refers to load assignment \"c\", which is not served to the same proxies",
        "cluster \"c\": refers to secret \"root\", which is not served to the same proxies",
        "route configuration \"r\", virtual host \"v\": refers to cluster \"c\", which is not "
        "served to the same proxies");
    put(&w, for_whom(item("e", OSM_XDS_EDS, OSM_ITEM_WHOLE, "c", NULL, "E"), "namespace=blue"));
    put(&w, for_whom(item("s", OSM_XDS_SDS, OSM_ITEM_WHOLE, "root", NULL, "S"), "namespace=blue"));
    put(&w, cluster("c2", "c", "C", "account=red/caller"));
    run(&w);
    assert_int_equal(json_array_size(w.errors), 0);
    osm_compose_remove(w.compose, "e");
    run(&w);
    assert_int_equal(json_array_size(w.errors), 1);
    teardown(&w);
}

static void test_a_chain_without_its_routes_is_left_out_until_they_come(void **state)
{
    (void)state;
    struct world w;
    setup(&w);
    two_readers(&w);
    put(&w, header("h", OSM_XDS_LDS, "l", "L"));
    put(&w,
        with_ref(element("a", OSM_XDS_LDS, "l", "a", "A", "everyone"), OSM_REF_ROUTE_CONFIG, "r"));
    put(&w, element("b", OSM_XDS_LDS, "l", "b", "B", "everyone"));
    put(&w,
        with_ref(for_whom(item("w", OSM_XDS_LDS, OSM_ITEM_WHOLE, "whole", NULL, "W"), "everyone"),
                 OSM_REF_ROUTE_CONFIG, "r"));
    run(&w);
    assert_string_equal(served(&w, 0, OSM_XDS_LDS, "l"), "L\x1a\x01"
                                                         "B");
    assert_string_equal(served(&w, 0, OSM_XDS_LDS, "whole"), "");
    EXPECT_ERRORS(&w,
                  "listener \"l\", filter chain \"a\": left out: route configuration \"r\" is not "
                  "served to the same proxies",
                  "listener \"whole\": left out: route configuration \"r\" is not served to the "
                  "same proxies");
    put(&w, header("rh", OSM_XDS_RDS, "r", "R"));
    put(&w, element("rv", OSM_XDS_RDS, "r", "v", "V", "account=red/caller"));
    run(&w);
    assert_string_equal(served(&w, 0, OSM_XDS_LDS, "l"), "L\x1a\x01"
                                                         "B");
    assert_string_equal(served(&w, 1, OSM_XDS_LDS, "l"), "L\x1a\x01"
                                                         "A\x1a\x01"
                                                         "B");
    assert_string_equal(served(&w, 1, OSM_XDS_LDS, "whole"), "W");
    osm_compose_remove(w.compose, "rv");
    run(&w);
    assert_string_equal(served(&w, 1, OSM_XDS_LDS, "l"), "L\x1a\x01"
                                                         "B");
    assert_int_equal(json_array_size(w.errors), 2);
    teardown(&w);
}

/* ---- incremental = from scratch ---- */

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
        (void)osm_buf_addf(out, "%s %s/%s\n", w->proxies[i].uuid, w->proxies[i].ns,
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
    for (uint64_t start = 100; start <= 110; start++)
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
        cmocka_unit_test(test_each_term_reaches_whom_it_names),
        cmocka_unit_test(test_a_service_of_another_namespace_is_another_service),
        cmocka_unit_test(test_the_most_specific_term_wins),
        cmocka_unit_test(test_equal_rank_and_unequal_bytes_is_reported),
        cmocka_unit_test(test_equal_sets_share_a_class_and_keep_it),
        cmocka_unit_test(test_a_reader_without_items_has_an_empty_class),
        cmocka_unit_test(test_readers_come_go_and_change),
        cmocka_unit_test(test_unsorted_readers_are_refused),
        cmocka_unit_test(test_a_composite_is_its_header_and_its_elements_by_name),
        cmocka_unit_test(test_a_header_alone_is_served_only_where_it_says_so),
        cmocka_unit_test(test_a_header_rule_sees_the_tags_of_its_class),
        cmocka_unit_test(test_of_two_equal_domains_one_is_left_out),
        cmocka_unit_test(test_of_two_equal_matches_one_is_left_out),
        cmocka_unit_test(test_parts_that_cannot_be_are_refused),
        cmocka_unit_test(test_dangling_references_are_reported_and_served),
        cmocka_unit_test(test_a_chain_without_its_routes_is_left_out_until_they_come),
        cmocka_unit_test(test_incremental_equals_from_scratch),
        cmocka_unit_test(test_a_run_out_of_memory_does_not_spoil_the_next),
        cmocka_unit_test(test_a_put_out_of_memory_leaves_what_was_there),
    };
    return cmocka_run_group_tests(tests, NULL, no_allocation_is_left);
}
