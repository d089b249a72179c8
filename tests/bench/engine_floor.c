#include "engine_floor.h"

#include "base/map.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct list {
    void **at;
    size_t len, cap;
};

struct service {
    const struct osm_object *object;
    struct list accounts; /* struct account *, behind it */
    struct list apexes;   /* struct service *, that a split sends here; itself too */
    struct list backends; /* struct service * */
    struct list callers;  /* const char *, sorted */
    struct list reachers, readers;
};

struct account {
    const char *name;
    struct list targets; /* const struct osm_object * */
    struct list services;
    bool sidecar;
};

struct bench_floor {
    struct osm_map services, accounts, ports, names; /* names: interned "namespace/name" */
    struct list made;                                /* to be freed */
    size_t items;
    struct osm_hash sum; /* of all items, so that none of the work can be left out */
};

static void *need(void *ptr)
{
    if (!ptr) {
        (void)fprintf(stderr, "bench: out of memory\n");
        exit(1);
    }
    return ptr;
}

static void push(struct list *list, void *item)
{
    if (list->len == list->cap) {
        list->cap = list->cap ? list->cap * 2 : 4;
        list->at = need(osm_realloc_array(list->at, list->cap, sizeof *list->at));
    }
    list->at[list->len++] = item;
}

static void put(struct osm_map *map, const char *key, void *value)
{
    if (osm_map_put(map, key, value, NULL))
        (void)need(NULL);
}

static void *keep(struct bench_floor *f, void *made)
{
    push(&f->made, need(made));
    return made;
}

/* One text per name, so that names are compared by address. */
static const char *name_of(struct bench_floor *f, const char *ns, const char *name)
{
    char key[512];
    (void)snprintf(key, sizeof key, "%s/%s", ns, name);
    char *known = osm_map_get(&f->names, key);
    if (!known) {
        known = keep(f, osm_strdup(key));
        put(&f->names, key, known);
    }
    return known;
}

static struct service *service_of(struct bench_floor *f, const char *name)
{
    return osm_map_get(&f->services, name);
}

static struct account *account_of(struct bench_floor *f, const char *name)
{
    struct account *known = osm_map_get(&f->accounts, name);
    if (!known) {
        known = keep(f, osm_alloc(sizeof *known));
        known->name = name;
        put(&f->accounts, name, known);
    }
    return known;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void sort_unique(struct list *list)
{
    size_t kept = 0;
    if (list->len)
        qsort(list->at, list->len, sizeof *list->at, by_text);
    for (size_t i = 0; i < list->len; i++)
        if (!kept || list->at[kept - 1] != list->at[i])
            list->at[kept++] = list->at[i];
    list->len = kept;
}

static void push_all(struct list *to, const struct list *from)
{
    for (size_t i = 0; i < from->len; i++)
        push(to, from->at[i]);
}

/* --- reading the objects --- */

static const char *text_at(const json_t *value, const char *field)
{
    const char *text = json_string_value(json_object_get(value, field));
    return text ? text : "";
}

static void read_object(struct bench_floor *f, struct osm_object *o)
{
    const json_t *spec = json_object_get(o->body, "spec");
    if (osm_object_is(o, "", "Service")) {
        struct service *made = keep(f, osm_alloc(sizeof *made));
        made->object = o;
        put(&f->services, name_of(f, o->ns, o->name), made);
    } else if (osm_object_is(o, "", "Pod")) {
        account_of(f, name_of(f, o->ns, text_at(spec, "serviceAccountName")))->sidecar = true;
    } else if (osm_object_is(o, "access.smi-spec.io", "TrafficTarget")) {
        const char *name = text_at(json_object_get(spec, "destination"), "name");
        push(&account_of(f, name_of(f, o->ns, name))->targets, o);
    }
}

/* Services select by one label here, and a pod carries it. */
static void link_pods(struct bench_floor *f, struct osm_object *const *objects, size_t len)
{
    struct osm_map selected = OSM_MAP_INIT;
    osm_map_each (&f->services, e) {
        struct service *s = e->value;
        const char *app = osm_json_str_at(s->object->body, "spec", "selector", "app", NULL);
        put(&selected, name_of(f, s->object->ns, app), s);
    }
    for (size_t i = 0; i < len; i++) {
        if (!osm_object_is(objects[i], "", "Pod"))
            continue;
        const char *app = osm_json_str_at(objects[i]->body, "metadata", "labels", "app", NULL);
        const char *account = osm_json_str_at(objects[i]->body, "spec", "serviceAccountName", NULL);
        struct service *s = osm_map_get(&selected, name_of(f, objects[i]->ns, app));
        struct account *a = account_of(f, name_of(f, objects[i]->ns, account));
        if (s) {
            push(&s->accounts, a);
            push(&a->services, s);
        }
    }
    osm_map_clear(&selected);
}

static void link_splits(struct bench_floor *f, struct osm_object *const *objects, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!osm_object_is(objects[i], "split.smi-spec.io", "TrafficSplit"))
            continue;
        const json_t *spec = json_object_get(objects[i]->body, "spec");
        struct service *apex = service_of(f, name_of(f, objects[i]->ns, text_at(spec, "service")));
        size_t k;
        json_t *backend;
        json_array_foreach (json_object_get(spec, "backends"), k, backend) {
            struct service *s =
                service_of(f, name_of(f, objects[i]->ns, text_at(backend, "service")));
            push(&apex->backends, s);
            push(&s->apexes, apex);
        }
    }
    osm_map_each (&f->services, e) {
        struct service *s = e->value;
        if (!s->backends.len)
            push(&s->backends, s);
    }
}

/* --- who may call whom --- */

static void find_callers(struct bench_floor *f, struct service *s)
{
    for (size_t a = 0; a < s->accounts.len; a++) {
        const struct account *account = s->accounts.at[a];
        for (size_t t = 0; t < account->targets.len; t++) {
            const struct osm_object *o = account->targets.at[t];
            size_t k;
            json_t *source;
            json_array_foreach (osm_json_at(o->body, "spec", "sources", NULL), k, source)
                push(&s->callers, (void *)(uintptr_t)name_of(f, text_at(source, "namespace"),
                                                             text_at(source, "name")));
        }
    }
    sort_unique(&s->callers);
}

static void find_reachers(struct service *s)
{
    for (size_t i = 0; i < s->backends.len; i++)
        push_all(&s->reachers, &((struct service *)s->backends.at[i])->callers);
    sort_unique(&s->reachers);
}

static void find_readers(struct service *s)
{
    push_all(&s->readers, &s->callers);
    for (size_t i = 0; i < s->apexes.len; i++)
        push_all(&s->readers, &((struct service *)s->apexes.at[i])->reachers);
    sort_unique(&s->readers);
}

/* --- items: one for each that the policies emit, hashed with all that it says --- */

static void emit(struct bench_floor *f, const char *form, const char *name,
                 const struct list *audience)
{
    char head[512];
    int n = snprintf(head, sizeof head, "%s %s", form, name);
    struct osm_hash parts[2] = {f->sum, osm_hash_bytes(head, (size_t)n)};
    for (size_t i = 0; audience && i < audience->len; i++) {
        struct osm_hash term[2] = {
            parts[1], osm_hash_bytes(audience->at[i], strlen((const char *)audience->at[i]))};
        parts[1] = osm_hash_bytes(term, sizeof term);
    }
    f->sum = osm_hash_bytes(parts, sizeof parts);
    f->items++;
}

/* The accounts behind the Service that let the caller in, as a key. */
static size_t groups_of(struct bench_floor *f, const struct service *s)
{
    struct osm_map groups = OSM_MAP_INIT;
    for (size_t r = 0; r < s->readers.len; r++) {
        char key[512] = "";
        size_t len = 0;
        for (size_t a = 0; a < s->accounts.len; a++) {
            const struct account *account = s->accounts.at[a];
            bool lets = false;
            for (size_t t = 0; !lets && t < account->targets.len; t++) {
                const struct osm_object *o = account->targets.at[t];
                size_t k;
                json_t *source;
                json_array_foreach (osm_json_at(o->body, "spec", "sources", NULL), k, source)
                    lets = lets || name_of(f, text_at(source, "namespace"),
                                           text_at(source, "name")) == s->readers.at[r];
            }
            if (lets && len < sizeof key)
                len += (size_t)snprintf(key + len, sizeof key - len, "%s,", account->name);
        }
        put(&groups, key, f);
    }
    size_t n = groups.count;
    osm_map_clear(&groups);
    return n;
}

static void emit_service(struct bench_floor *f, const char *name, const struct service *s)
{
    char port[16];
    size_t sides[2] = {0, 0}, prefix = strlen(s->object->ns);
    (void)snprintf(
        port, sizeof port, "%lld",
        json_integer_value(json_object_get(
            json_array_get(osm_json_at(s->object->body, "spec", "ports", NULL), 0), "port")));
    if (!osm_map_has(&f->ports, port)) {
        put(&f->ports, port, f);
        emit(f, "outbound table", port, NULL);
    }
    if (s->readers.len) {
        emit(f, "cluster", name, &s->readers);
        for (size_t g = groups_of(f, s); g; g--)
            emit(f, "load assignment", name, &s->readers);
        emit(f, "outbound secret", name, &s->readers);
    }
    emit(f, "local cluster", name, NULL);
    emit(f, "inbound table", name, NULL);
    if (s->reachers.len)
        emit(f, "outbound chain", name, &s->reachers);
    for (size_t i = 0; i < s->reachers.len; i++) {
        const char *caller = s->reachers.at[i];
        sides[strncmp(caller, s->object->ns, prefix) != 0 || caller[prefix] != '/']++;
    }
    for (size_t i = 0; i < 2; i++)
        if (sides[i])
            emit(f, i ? "outbound host of others" : "outbound host", name, &s->reachers);
    for (size_t a = 0; a < s->accounts.len; a++) {
        bool own = false;
        emit(f, "inbound chain", name, &s->callers);
        for (size_t x = 0; x < s->apexes.len; x++) {
            own = own || s->apexes.at[x] == s;
            emit(f, "inbound host", name, &s->callers);
        }
        if (!own)
            emit(f, "inbound host", name, &s->callers);
    }
}

struct bench_floor *bench_floor_run(struct osm_object *const *objects, size_t len)
{
    struct bench_floor *f = need(osm_alloc(sizeof *f));
    for (size_t i = 0; i < len; i++)
        read_object(f, objects[i]);
    link_pods(f, objects, len);
    link_splits(f, objects, len);
    osm_map_each (&f->services, e)
        find_callers(f, e->value);
    osm_map_each (&f->services, e)
        find_reachers(e->value);
    osm_map_each (&f->services, e)
        find_readers(e->value);
    emit(f, "listener", "outbound", NULL);
    emit(f, "listener", "inbound", NULL);
    osm_map_each (&f->services, e)
        emit_service(f, e->key, e->value);
    osm_map_each (&f->accounts, e) {
        const struct account *a = e->value;
        if (a->sidecar && a->services.len)
            emit(f, "inbound secret", a->name, NULL);
    }
    return f;
}

void bench_floor_free(struct bench_floor *f)
{
    osm_map_each (&f->services, e) {
        struct service *s = e->value;
        struct list *lists[] = {&s->accounts, &s->apexes,   &s->backends,
                                &s->callers,  &s->reachers, &s->readers};
        for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
            osm_free(lists[i]->at);
    }
    osm_map_each (&f->accounts, e) {
        osm_free(((struct account *)e->value)->targets.at);
        osm_free(((struct account *)e->value)->services.at);
    }
    for (size_t i = 0; i < f->made.len; i++)
        osm_free(f->made.at[i]);
    osm_free(f->made.at);
    osm_map_clear(&f->services);
    osm_map_clear(&f->accounts);
    osm_map_clear(&f->ports);
    osm_map_clear(&f->names);
    osm_free(f);
}

size_t bench_floor_items(const struct bench_floor *f)
{
    return f->items;
}

json_t *bench_floor_callers(const struct bench_floor *f, const char *ns, const char *service)
{
    char key[512];
    (void)snprintf(key, sizeof key, "%s/%s", ns, service);
    const struct service *s = osm_map_get(&f->services, key);
    json_t *out = need(json_array());
    for (size_t i = 0; s && i < s->callers.len; i++)
        if (json_array_append_new(out, json_string(s->callers.at[i])))
            (void)need(NULL);
    return out;
}
