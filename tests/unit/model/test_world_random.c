/* The property behind everything incremental: what is derived step by step from random changes
 * equals what is derived from scratch. */
#include "base/map.h"
#include "model/world_fixture.h"

static uint64_t random_state;

static unsigned pick(unsigned n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(random_state >> 33) % n;
}

static const char *one_of(const char *const *list, unsigned n)
{
    return list[pick(n)];
}

static void random_yaml(char *out, size_t size)
{
    static const char *const spaces[] = {"shop", "bank", "osm-system"};
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    static const char *const ips[] = {"10.0.0.1", "10.0.0.2", "10.0.0.3", "''", "fd00::1"};
    static const char *const status[] = {
        "phase: Running", "phase: Failed", "conditions: [{type: Ready, status: 'False'}]",
        "conditions: [{type: Ready, status: 'True'}]", "phase: [bad]"};
    static const char *const labels[] = {"{app: x}", "{app: y}", "{app: x, tier: t}", "{}",
                                         "{app: 7}"};
    static const char *const ports[] = {
        "[{port: 80, targetPort: http}]", "[{port: 80, targetPort: 8080}]",
        "[{port: 80, name: p}, {port: 81, protocol: UDP}]", "[{port: 0}]"};
    static const char *const meshes[] = {"osm", "osm", "osm", "other"};
    const char *ns = one_of(spaces, 3), *name = one_of(names, 5), *ip = one_of(ips, 5);
    switch (pick(10)) {
    case 0:
        (void)snprintf(out, size,
                       "{apiVersion: v1, kind: Namespace, metadata: {name: %s, labels: "
                       "{openservicemesh.io/monitored-by: %s}}}",
                       ns, one_of(meshes, 4));
        break;
    case 1:
    case 2:
        (void)snprintf(out, size,
                       "{apiVersion: v1, kind: Service, metadata: {name: %s, namespace: %s}, spec: "
                       "{%s selector: %s, ports: %s}}",
                       name, ns, pick(3) ? "" : "clusterIP: None,", one_of(labels, 5),
                       one_of(ports, 4));
        break;
    case 3:
        (void)snprintf(
            out, size,
            "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s%u, "
            "namespace: %s, labels: {kubernetes.io/service-name: %s}}, "
            "addressType: %s, ports: [{name: '%s', port: 90%u}], endpoints: [{addresses: [%s]%s}, "
            "{addresses: [10.0.0.9], targetRef: {kind: Pod, name: %s}}]}",
            pick(3), ns, name, pick(5) ? "IPv4" : "IPv6", pick(2) ? "p" : "", pick(3), ip,
            pick(2) ? ", hostname: h" : "", one_of(names, 5));
        break;
    case 4:
        (void)snprintf(out, size,
                       "{apiVersion: v1, kind: Endpoints, metadata: {name: %s, namespace: %s}, "
                       "subsets: [{addresses: [{ip: %s}, {ip: 10.0.0.8, targetRef: {kind: Pod, "
                       "name: %s}}], ports: [{port: 70%u}]}]}",
                       name, ns, ip, one_of(names, 5), pick(3));
        break;
    case 5:
        (void)snprintf(out, size,
                       "{apiVersion: config.openservicemesh.io/v1alpha2, kind: MeshConfig, "
                       "metadata: {name: %s, namespace: %s}, spec: {n: %u}}",
                       name, ns, pick(3));
        break;
    default:
        (void)snprintf(
            out, size,
            "{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: %s%s, labels: {%s%s%s}}, "
            "spec: {serviceAccountName: acc%u, hostname: h%u, subdomain: %s, containers: [{ports: "
            "[{name: http, containerPort: 80%u}]}]}, status: {podIP: %s, %s}}",
            name, ns, pick(8) ? "" : ", deletionTimestamp: x", pick(2) ? "app: x" : "app: y",
            pick(3) ? "" : ", tier: t",
            pick(2)   ? ""
            : pick(2) ? ", osm-proxy-uuid: 00000000-0000-4000-8000-000000000001"
                      : ", osm-proxy-uuid: 00000000-0000-4000-8000-00000000000A",
            pick(3), pick(2), one_of(names, 5), pick(3), ip, one_of(status, 5));
    }
}

/* Everything one can ask, as one JSON value. */
static json_t *everything(struct osm_world *world)
{
    static const char *const spaces[] = {"shop", "bank", "osm-system"}, *const names[] = {"a", "b",
                                                                                          "c", "d",
                                                                                          "e"};
    json_t *all = json_pack("[oo]", osm_world_workloads(world), osm_world_accounts(world));
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 5; j++) {
            struct osm_endpoint *list = NULL;
            size_t n = 0;
            assert_int_equal(osm_world_endpoints(world, spaces[i], names[j], 80, &list, &n), 0);
            json_t *endpoints = json_array();
            for (size_t k = 0; k < n; k++)
                (void)json_array_append_new(
                    endpoints,
                    json_pack("[ssi]", list[k].address, list[k].account, (int)list[k].port));
            osm_free(list);
            (void)json_array_append_new(
                all, json_pack("[oooooo]", osm_world_target_ports(world, spaces[i], names[j], 80),
                               osm_world_accounts_behind(world, spaces[i], names[j]),
                               osm_world_members(world, spaces[i], names[j]),
                               osm_world_addresses(world, spaces[i], names[j]), endpoints,
                               json_boolean(osm_world_monitored(world, spaces[i]))));
        }
        for (int j = 0; j < 3; j++) {
            char account[8];
            (void)snprintf(account, sizeof account, "acc%d", j);
            (void)json_array_append_new(all, osm_world_services_of(world, spaces[i], account));
        }
    }
    size_t n = 0;
    const struct osm_world_proxy *proxies = osm_world_proxies(world, &n);
    for (size_t i = 0; i < n; i++) {
        json_t *services = json_array();
        for (size_t j = 0; j < proxies[i].services_len; j++)
            (void)json_array_append_new(services, json_string(proxies[i].services[j]));
        (void)json_array_append_new(all, json_pack("[ssssos]", proxies[i].key, proxies[i].pod,
                                                   proxies[i].ns, proxies[i].account, services,
                                                   proxies[i].object->key));
    }
    return all;
}

/* What the callbacks say is visible: key -> content. */
struct visible {
    struct osm_map map;
};

static void track(void *ud, struct osm_object *old, struct osm_object *now)
{
    struct visible *v = ud;
    const struct osm_object *either = old ? old : now;
    assert_int_equal(osm_map_has(&v->map, either->key), old != NULL);
    osm_object_unref(osm_map_del(&v->map, either->key));
    if (now)
        assert_int_equal(osm_map_put(&v->map, now->key, osm_object_ref(now), NULL), 0);
}

static void visible_clear(struct visible *v)
{
    osm_map_each (&v->map, e)
        osm_object_unref(e->value);
    osm_map_clear(&v->map);
}

static void compare_visible(const struct visible *a, const struct visible *b)
{
    assert_int_equal(a->map.count, b->map.count);
    osm_map_each (&a->map, e) {
        const struct osm_object *other = osm_map_get(&b->map, e->key);
        assert_non_null(other);
        assert_true(osm_object_same(e->value, other));
    }
}

static void run_random_world(uint64_t seed, int batches)
{
    static const struct osm_world_config config = {"osm", "osm-system"};
    struct osm_map objects = OSM_MAP_INIT; /* what exists: key -> object */
    struct osm_store *store = osm_store_new();
    struct osm_store_reader *reader = osm_store_reader_new(store);
    struct osm_world *world = osm_world_new(&config);
    struct visible seen = {OSM_MAP_INIT};
    random_state = seed;
    for (int batch = 0; batch < batches; batch++) {
        for (unsigned i = 0, n = 1 + pick(4); i < n; i++) {
            char yaml[1024];
            random_yaml(yaml, sizeof yaml);
            struct osm_object *object = object_of(yaml);
            if (pick(3)) {
                void *old = NULL;
                assert_int_equal(osm_map_put(&objects, object->key, osm_object_ref(object), &old),
                                 0);
                osm_object_unref(old);
                assert_int_equal(osm_store_put(store, osm_object_ref(object)), 0);
            } else if (osm_store_delete(store, object->key) == 0) {
                osm_object_unref(osm_map_del(&objects, object->key));
            }
            osm_object_unref(object);
        }
        struct osm_changes *changes = osm_store_reader_take(reader);
        if (changes)
            assert_int_equal(osm_world_apply(world, changes, track, &seen), 0);
        osm_changes_free(changes);
        if (!pick(4)) /* several batches without a question in between */
            continue;

        struct osm_store *all = osm_store_new();
        struct osm_store_reader *reader_of_all = osm_store_reader_new(all);
        struct osm_world *fresh = osm_world_new(&config);
        struct visible seen_fresh = {OSM_MAP_INIT};
        osm_map_each (&objects, e)
            assert_int_equal(osm_store_put(all, osm_object_ref(e->value)), 0);
        changes = osm_store_reader_take(reader_of_all);
        if (changes)
            assert_int_equal(osm_world_apply(fresh, changes, track, &seen_fresh), 0);
        osm_changes_free(changes);
        compare_visible(&seen, &seen_fresh);
        json_t *got = everything(world), *want = everything(fresh);
        if (!json_equal(got, want)) {
            char *a = json_dumps(got, JSON_COMPACT), *b = json_dumps(want, JSON_COMPACT);
            fail_msg("seed %llu, batch %d:\nstep by step %s\nfrom scratch %s",
                     (unsigned long long)seed, batch, a, b);
        }
        json_decref(got);
        json_decref(want);
        visible_clear(&seen_fresh);
        osm_world_free(fresh);
        osm_store_reader_free(reader_of_all);
        osm_store_free(all);
    }
    visible_clear(&seen);
    osm_map_each (&objects, e)
        osm_object_unref(e->value);
    osm_map_clear(&objects);
    osm_world_free(world);
    osm_store_reader_free(reader);
    osm_store_free(store);
}

static void test_step_by_step_equals_from_scratch(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++)
        run_random_world(seed, 150);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step_by_step_equals_from_scratch),
    };
    return cmocka_run_group_tests(tests, count_json, nothing_is_left);
}
