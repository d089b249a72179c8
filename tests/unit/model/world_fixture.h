/* A world fed through a store, as in the daemon, and the objects that most tests begin with. */
#pragma once

#include "model/world.h"

#include "model/objects.h"
#include "model/store.h"

#include <stdio.h>

struct fixture {
    struct osm_store *store;
    struct osm_store_reader *reader;
    struct osm_world *world;
    int appeared, vanished, changed;
    char last[128];
};

/* 0: none. */
static inline int first_target_port(struct osm_world *world, const char *ns, const char *service,
                                    int port)
{
    json_t *list = osm_world_target_ports(world, ns, service, port);
    assert_non_null(list);
    int first = (int)json_integer_value(json_array_get(list, 0));
    json_decref(list);
    return first;
}

static inline void on_visible(void *ud, struct osm_object *old, struct osm_object *now)
{
    struct fixture *f = ud;
    f->appeared += !old;
    f->vanished += !now;
    f->changed += old && now;
    (void)snprintf(f->last, sizeof f->last, "%s", now ? now->key : old->key);
}

static inline int set_up(void **state)
{
    static const struct osm_world_config config = {"osm", "osm-system"};
    struct fixture *f = osm_alloc(sizeof *f);
    assert_non_null(f);
    f->store = osm_store_new();
    f->reader = f->store ? osm_store_reader_new(f->store) : NULL;
    f->world = osm_world_new(&config);
    assert_non_null(f->store);
    assert_non_null(f->reader);
    assert_non_null(f->world);
    *state = f;
    return 0;
}

static inline int tear_down(void **state)
{
    struct fixture *f = *state;
    osm_store_reader_free(f->reader);
    osm_store_free(f->store);
    osm_world_free(f->world);
    osm_free(f);
    return 0;
}

static inline void apply(struct fixture *f)
{
    struct osm_changes *changes = osm_store_reader_take(f->reader);
    f->appeared = f->vanished = f->changed = 0;
    if (changes)
        assert_int_equal(osm_world_apply(f->world, changes, on_visible, f), 0);
    osm_changes_free(changes);
}

/* Puts every document of the text, then applies one batch. */
static inline void put(struct fixture *f, const char *yaml)
{
    struct osm_yaml_docs docs = {NULL, 0};
    struct osm_err err = {0};
    if (osm_yaml_parse(yaml, strlen(yaml), &docs, NULL, &err))
        fail_msg("%s in:\n%s", err.msg, yaml);
    for (size_t i = 0; i < docs.len; i++) {
        struct osm_object *object = NULL;
        if (osm_object_new(&object, json_incref(docs.list[i].value), "", &err))
            fail_msg("%s in:\n%s", err.msg, yaml);
        assert_int_equal(osm_store_put(f->store, object), 0);
    }
    osm_yaml_docs_clear(&docs);
    apply(f);
}

static inline void del(struct fixture *f, const char *key)
{
    assert_int_equal(osm_store_delete(f->store, key), 0);
    apply(f);
}

/* Compares an answer with a JSON text and drops it. */
static inline void expect(json_t *answer, const char *json)
{
    assert_non_null(answer);
    char *text = json_dumps(answer, JSON_COMPACT | JSON_ENCODE_ANY);
    assert_non_null(text);
    assert_string_equal(text, json);
    osm_free(text);
    json_decref(answer);
}

static inline const char *endpoints_of(struct fixture *f, const char *service, int port)
{
    static char text[512];
    struct osm_endpoint *list = NULL;
    size_t n = 0;
    text[0] = '\0';
    assert_int_equal(osm_world_endpoints(f->world, "shop", service, port, &list, &n), 0);
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(text);
        (void)snprintf(text + len, sizeof text - len, "%s%s:%d=%s", i ? " " : "", list[i].address,
                       list[i].port, list[i].account);
    }
    osm_free(list);
    return text;
}

__attribute__((unused)) static const char monitored[] =
    "apiVersion: v1\n"
    "kind: Namespace\n"
    "metadata: {name: shop, labels: {openservicemesh.io/monitored-by: osm}}\n";
__attribute__((unused)) static const char web[] =
    "apiVersion: v1\n"
    "kind: Service\n"
    "metadata: {name: web, namespace: shop}\n"
    "spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}\n";
__attribute__((unused)) static const char pod_a[] =
    "apiVersion: v1\n"
    "kind: Pod\n"
    "metadata:\n"
    "  name: a\n"
    "  namespace: shop\n"
    "  labels: {app: web, osm-proxy-uuid: 0ABCDEF0-0000-4000-8000-00000000000a}\n"
    "spec: {serviceAccountName: seller, containers: [{ports: [{name: http, containerPort: "
    "8081}]}]}\n"
    "status: {podIP: 10.0.0.1}\n";
