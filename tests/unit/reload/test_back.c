/* Policies that proxies refuse go, whatever state the ones before are in. */
#include "reload/life.h"

#include <pthread.h>

/* "in" says who may do what, and depends on the object; "out" does neither. */
static const char with_routes[] =
    "local M = { api = 1, rules = {}, emit = {}, kinds = { Cfg = { group = 'test.mesh',\n"
    "  versions = { 'v1' } } } }\n"
    "M.emit.e = { each = 'Cfg', run = function(mesh, out, ns, name)\n"
    "  out.cluster { name = name, audience = 'everyone',\n"
    "    message = { connect_timeout = '%ds', type = 'STATIC' } }\n"
    "  for _, table in ipairs { 'in', 'out' } do\n"
    "    out.route_configuration { name = table, audience = 'everyone', message = {} }\n"
    "    out.virtual_host { route_configuration = table, name = 'h', audience = 'everyone',\n"
    "      authorises = table == 'in', message = { domains =\n"
    "        { table == 'in' and mesh.Cfg(ns, name).spec.v or 'any' } } }\n"
    "  end\n"
    "end }\n"
    "return M\n";

/* Keeps an engine's thread from doing anything else. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t news;
    bool entered, open;
};

static void gate_set(struct gate *gate, bool *what)
{
    pthread_mutex_lock(&gate->lock);
    *what = true;
    pthread_cond_broadcast(&gate->news);
    pthread_mutex_unlock(&gate->lock);
}

static void gate_wait(struct gate *gate, const bool *what)
{
    pthread_mutex_lock(&gate->lock);
    while (!*what)
        pthread_cond_wait(&gate->news, &gate->lock);
    pthread_mutex_unlock(&gate->lock);
}

static void stand_still(void *ud, struct osm_engine *engine)
{
    struct gate *gate = ud;
    (void)engine;
    gate_set(gate, &gate->entered);
    gate_wait(gate, &gate->open);
}

static void stood(void *ud)
{
    (void)ud;
}

static void put_value(const struct rig *rig, const char *value)
{
    struct osm_err err = {0};
    struct osm_object *object = NULL;
    json_t *body =
        json_pack("{s:s, s:s, s:{s:s, s:s}, s:{s:s}}", "apiVersion", "test.mesh/v1", "kind", "Cfg",
                  "metadata", "name", "c", "namespace", "a", "spec", "v", value);
    assert_int_equal(osm_object_new(&object, body, "t.yaml:1", &err), 0);
    assert_int_equal(osm_store_put(rig->store, object), 0);
    osm_reload_flush(rig->reload);
}

static const struct osm_resource *served(const struct rig *rig, enum osm_xds_type type,
                                         const char *name)
{
    assert_non_null(rig->served);
    assert_int_equal(rig->served->proxies_len, 1);
    return osm_class_find(rig->served->proxies[0].cls, type, name);
}

static bool says(const struct rig *rig, const char *table, const char *text)
{
    const struct osm_resource *routes = served(rig, OSM_XDS_RDS, table);
    assert_non_null(routes);
    return holds(routes->body, (const unsigned char *)text, strlen(text));
}

static void refuse_these(const struct rig *rig, const struct osm_resource *const *list, size_t len)
{
    osm_reload_refused(rig->reload, &(struct osm_refusal){
                                        .proxy = rig->served->proxies[0].key,
                                        .type = OSM_XDS_CDS,
                                        .resources = list,
                                        .len = len,
                                        .error = "does not please",
                                        .since = rig->served->number,
                                    });
}

static void refuse(const struct rig *rig)
{
    const struct osm_resource *cluster = served(rig, OSM_XDS_CDS, "c");
    refuse_these(rig, &cluster, 1);
}

static bool first_cluster_serves(struct rig *rig)
{
    return serves(rig, 1);
}

static bool newest_value_serves(struct rig *rig)
{
    return says(rig, "in", "two");
}

static bool text_of_status(const struct rig *rig, const char *text)
{
    json_t *status = osm_reload_status(rig->reload);
    char *all = status ? json_dumps(status, 0) : NULL;
    bool found = all && strstr(all, text);
    osm_free(all);
    json_decref(status);
    return found;
}

static void begin(struct rig *rig)
{
    rig->bundle = with_routes;
    save(rig, 1);
    start(rig);
    assert_true(turn(rig, is_settled));
    assert_true(serves(rig, 1));
    assert_true(says(rig, "in", "one"));
}

static void test_the_ones_before_serve_on_the_objects_of_now(void **state)
{
    struct rig *rig = *state;
    begin(rig);
    assert_true(reload(rig, 2, -1));
    assert_string_equal(rig->state, "active");
    put_value(rig, "two");
    assert_true(turn(rig, newest_value_serves));
    refuse(rig);
    assert_true(turn(rig, first_cluster_serves));
    assert_true(turn(rig, is_settled));
    assert_true(says(rig, "in", "two"));
    assert_true(says(rig, "out", "any"));
    assert_true(text_of_status(rig, "rolled back"));
    assert_non_null(strstr(rig->noted, "staged,active,standing by,rolled back!,active,"));
}

/* Of several that are refused together it is told soon which it was. */
static void test_a_refusal_of_several_speaks_where_all_are_new(void **state)
{
    struct rig *rig = *state;
    begin(rig);
    const struct osm_resource *old = osm_resource_ref(
                                  (struct osm_resource *)(uintptr_t)served(rig, OSM_XDS_CDS, "c")),
                              *list[2];
    assert_true(reload(rig, 2, -1));
    list[0] = served(rig, OSM_XDS_CDS, "c");
    list[1] = old; /* what the ones before say, too: perhaps it is to blame */
    refuse_these(rig, list, 2);
    list[1] = list[0];
    size_t published = rig->published;
    assert_true(ask(rig)); /* the loop has turned, and nothing has come of it */
    assert_string_equal(rig->state, "active");
    assert_int_equal(rig->published, published);
    refuse_these(rig, list, 2);
    assert_true(turn(rig, first_cluster_serves));
    assert_true(text_of_status(rig, "\\\"c\\\" or another of the same response"));
    osm_resource_unref((struct osm_resource *)(uintptr_t)old);
    assert_true(turn(rig, is_settled));
}

static void test_the_one_that_is_found_meanwhile_is_named(void **state)
{
    struct rig *rig = *state;
    begin(rig);
    assert_true(reload(rig, 2, -1));
    const struct osm_resource *list[2] = {served(rig, OSM_XDS_CDS, "c"),
                                          served(rig, OSM_XDS_CDS, "c")};
    refuse_these(rig, list, 2);
    refuse(rig);
    assert_true(turn(rig, first_cluster_serves));
    assert_true(text_of_status(rig, "refuse CDS \\\"c\\\": does not please"));
    assert_true(turn(rig, is_settled));
}

/* There is one roll-back, not a to and fro: what the ones before say is not sent again either until
 * it changes (xds/stream.h), so proxies keep what they accepted last, and changes reach them. */
static void test_refusing_the_ones_before_too_changes_nothing(void **state)
{
    struct rig *rig = *state;
    begin(rig);
    assert_true(reload(rig, 2, -1));
    refuse(rig);
    assert_true(turn(rig, first_cluster_serves));
    assert_true(turn(rig, is_settled));
    size_t published = rig->published;
    rig->known = newest(rig);
    refuse(rig);
    osm_reload_restarted(rig->reload, rig->served->proxies[0].key, rig->served->number);
    assert_true(ask(rig)); /* the loop has turned: what the directories hold is quarantined */
    assert_string_equal(rig->state, "quarantined");
    assert_int_equal(rig->published, published);
    assert_int_equal(newest(rig), rig->known);
    assert_true(serves(rig, 1));
    put_value(rig, "two");
    assert_true(turn(rig, newest_value_serves));
    assert_true(serves(rig, 1));
}

/* What they said last serves, but for what authorises and has changed; once their thread goes on,
 * they serve in full. */
static void test_roll_back_with_the_thread_of_the_ones_before_stuck(void **state)
{
    struct rig *rig = *state;
    struct gate gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .news = PTHREAD_COND_INITIALIZER};
    begin(rig);
    assert_int_equal(osm_reload_ask(rig->reload, stand_still, stood, &gate), 0);
    gate_wait(&gate, &gate.entered);
    assert_true(reload(rig, 2, -1));
    assert_string_equal(rig->state, "active");
    put_value(rig, "two");
    assert_true(turn(rig, newest_value_serves));
    refuse(rig);
    assert_true(turn(rig, first_cluster_serves));
    assert_true(text_of_status(rig, "\"standing_in\": true"));
    assert_false(says(rig, "in", "one")); /* revoked meanwhile, perhaps */
    assert_false(says(rig, "in", "two"));
    assert_true(says(rig, "in", "in")); /* the table is there, and leads nowhere */
    assert_true(says(rig, "out", "any"));
    assert_false(osm_reload_settled(rig->reload));

    gate_set(&gate, &gate.open);
    assert_true(turn(rig, is_settled));
    assert_true(serves(rig, 1));
    assert_true(says(rig, "in", "two"));
    assert_true(text_of_status(rig, "\"standing_in\": false"));
    assert_true(text_of_status(rig, "rolled back"));
}

/* The operator need not wait for a thread that never answers. */
static void test_others_take_over_from_a_roll_back_that_is_stuck(void **state)
{
    struct rig *rig = *state;
    struct gate gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .news = PTHREAD_COND_INITIALIZER};
    begin(rig);
    assert_int_equal(osm_reload_ask(rig->reload, stand_still, stood, &gate), 0);
    gate_wait(&gate, &gate.entered);
    assert_true(reload(rig, 2, -1));
    put_value(rig, "two");
    assert_true(turn(rig, newest_value_serves));
    refuse(rig);
    assert_true(turn(rig, first_cluster_serves));
    assert_true(reload(rig, 3, -1));
    assert_string_equal(rig->state, "active");
    assert_true(serves(rig, 3));
    assert_true(says(rig, "in", "two"));
    assert_true(text_of_status(rig, "\"standing_in\": false"));
    assert_true(text_of_status(rig, "rolled back"));
    gate_set(&gate, &gate.open);
    assert_true(turn(rig, is_settled));
}

static bool is_watched_no_more(struct rig *rig)
{
    return text_of_status(rig, "\"watched\": false");
}

static bool second_cluster_serves(struct rig *rig)
{
    return serves(rig, 2);
}

static bool third_cluster_serves(struct rig *rig)
{
    return serves(rig, 3);
}

/* Two steps back by command, the one that was left not among them. */
static void test_two_older_ones_are_kept(void **state)
{
    struct rig *rig = *state;
    struct osm_err err = {0};
    begin(rig);
    for (int seconds = 2; seconds <= 4; seconds++) {
        assert_true(reload(rig, seconds, -1));
        assert_string_equal(rig->state, "active");
        assert_true(turn(rig, is_watched_no_more));
    }
    assert_int_equal(osm_reload_roll_back(rig->reload, "by command", &err), 0);
    assert_true(turn(rig, third_cluster_serves));
    assert_true(turn(rig, is_watched_no_more));
    assert_int_equal(osm_reload_roll_back(rig->reload, "by command", &err), 0);
    assert_true(turn(rig, second_cluster_serves));
    assert_true(turn(rig, is_watched_no_more));
    assert_int_equal(osm_reload_roll_back(rig->reload, "by command", &err), OSM_ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_ones_before_serve_on_the_objects_of_now, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_refusal_of_several_speaks_where_all_are_new, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_the_one_that_is_found_meanwhile_is_named, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_refusing_the_ones_before_too_changes_nothing, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_roll_back_with_the_thread_of_the_ones_before_stuck,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_others_take_over_from_a_roll_back_that_is_stuck,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_two_older_ones_are_kept, set_up, tear_down),
    };
    json_set_alloc_funcs(osm_alloc, osm_free);
    osm_log_set_level(OSM_LOG_TOPIC_COUNT, OSM_LOG_FATAL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
