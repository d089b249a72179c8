#include "known.h"

#include "base/mem.h"
#include "xds/wire.h"

#include <string.h>

void known_set_text(char **to, const void *data, size_t len)
{
    osm_free(*to);
    *to = osm_strndup(data, len);
}

static struct load_name *name_of(struct sidecar *s, int type, const void *data, size_t len)
{
    struct load_type *t = &s->types[type];
    struct load_name *n = osm_map_getn(&t->names, data, len);
    if (n)
        return n;
    n = osm_alloc(sizeof *n);
    if (!n || !(n->text = osm_strndup(data, len)) || osm_map_putn(&t->names, data, len, n, NULL)) {
        sidecar_fail(s, "names", "out of memory");
        if (n)
            osm_free(n->text);
        osm_free(n);
        return NULL;
    }
    return n;
}

void known_free(struct load_name *n)
{
    osm_free(n->text);
    osm_free(n->version);
    osm_free(n->refs);
    osm_free(n);
}

static void remove_name(struct sidecar *s, int type, struct load_name *n)
{
    (void)osm_map_del(&s->types[type].names, n->text);
    known_free(n);
}

bool known_is_asked_for(int type, const struct load_name *n)
{
    return known_is_wildcard(type) || n->named_by;
}

/* One more that names it; the reference goes to @p by. */
static void want(struct sidecar *s, struct load_name *by, int type, const void *data, size_t len)
{
    struct load_type *t = &s->types[type];
    struct load_name *n = len ? name_of(s, type, data, len) : NULL;
    if (!n)
        return;
    for (size_t i = 0; i < by->refs_len; i++)
        if (by->refs[i].name == n)
            return;
    struct load_ref *refs = osm_realloc_array(by->refs, by->refs_len + 1, sizeof *refs);
    if (!refs) {
        sidecar_fail(s, "names", "out of memory");
        return;
    }
    by->refs = refs;
    by->refs[by->refs_len++] = (struct load_ref){type, n};
    if (!n->named_by++ && !n->answered)
        t->missing++;
    t->dirty = t->dirty || !n->sent;
}

static void give_up_refs(struct sidecar *s, struct load_ref *refs, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        struct load_type *t = &s->types[refs[i].type];
        struct load_name *n = refs[i].name;
        if (--n->named_by)
            continue;
        if (!n->answered)
            t->missing--;
        if (n->sent)
            (void)osm_buf_add(&t->gone, n->text, strlen(n->text) + 1);
        t->dirty = t->dirty || n->sent;
        remove_name(s, refs[i].type, n);
    }
    osm_free(refs);
}

/* It may come before anything names it: the canned server does not wait to be asked. */
static struct load_name *have(struct sidecar *s, int type, const void *data, size_t len,
                              const void *version, size_t version_len, struct osm_hash body)
{
    struct load_type *t = &s->types[type];
    struct load_name *n = name_of(s, type, data, len);
    if (!n)
        return NULL;
    if (n->named_by && !n->answered)
        t->missing--;
    s->load->stale += !n->answered || !osm_hash_equal(n->body, body);
    n->body = body;
    n->answered = true;
    n->sweep = t->sweep;
    known_set_text(&n->version, version, version_len);
    return n;
}

/* The server has it no longer. What somebody names stays asked for. */
void known_drop(struct sidecar *s, int type, struct load_name *n)
{
    if (!n)
        return;
    if (!n->answered && n->named_by)
        s->types[type].missing--;
    s->load->stale += n->answered && n->body.hi; /* it had it */
    n->answered = true;
    n->body = (struct osm_hash){0};
    osm_free(osm_take_ptr(&n->version));
    if (!known_is_wildcard(type))
        return;
    struct load_ref *refs = osm_take_ptr(&n->refs);
    size_t len = n->refs_len;
    remove_name(s, type, n);
    give_up_refs(s, refs, len);
}

/* --- what a resource names --- */

typedef void visit_fn(struct sidecar *s, struct load_name *by, const uint8_t *data, size_t len);

/* Calls @p visit for every message or text at the end of the path of field numbers; 0 ends it. */
static void walk(struct sidecar *s, struct load_name *by, const uint8_t *data, size_t len,
                 const uint32_t *path, visit_fn *visit)
{
    struct osm_wire_reader r = {data, data + len};
    struct osm_wire_field f;
    if (!*path) {
        visit(s, by, data, len);
        return;
    }
    while (osm_wire_next(&r, &f) == 1)
        if (f.field == *path && f.type == OSM_WIRE_BYTES)
            walk(s, by, f.data, f.len, path + 1, visit);
}

/* The value of an Any whose type's name ends so; its len is 0 where it is another. */
static struct osm_wire_field value_of(const uint8_t *any, size_t len, const char *suffix)
{
    struct osm_wire_reader r = {any, any + len};
    struct osm_wire_field f, url = {0}, value = {0};
    while (osm_wire_next(&r, &f) == 1) {
        url = f.field == 1 && f.type == OSM_WIRE_BYTES ? f : url;
        value = f.field == 2 && f.type == OSM_WIRE_BYTES ? f : value;
    }
    size_t n = strlen(suffix);
    if (url.len < n || memcmp(url.data + url.len - n, suffix, n) != 0)
        value.len = 0;
    return value;
}

static void want_route(struct sidecar *s, struct load_name *by, const uint8_t *data, size_t len)
{
    want(s, by, LOAD_RDS, data, len);
}

static void want_secret(struct sidecar *s, struct load_name *by, const uint8_t *data, size_t len)
{
    want(s, by, LOAD_SDS, data, len);
}

static void in_filter(struct sidecar *s, struct load_name *by, const uint8_t *any, size_t len)
{
    static const uint32_t rds_name[] = {3, 2, 0};
    struct osm_wire_field manager = value_of(any, len, ".HttpConnectionManager");
    walk(s, by, manager.data, manager.len, rds_name, want_route);
}

static void in_transport_socket(struct sidecar *s, struct load_name *by, const uint8_t *any,
                                size_t len)
{
    /* common_tls_context's: the certificates, the validation context, the combined one's */
    static const uint32_t secrets[3][5] = {{1, 6, 1, 0}, {1, 7, 1, 0}, {1, 8, 2, 1, 0}};
    struct osm_wire_field context = value_of(any, len, "streamTlsContext");
    for (int i = 0; i < 3; i++)
        walk(s, by, context.data, context.len, secrets[i], want_secret);
}

static void note_listener(struct sidecar *s, struct load_name *by, const uint8_t *data, size_t len)
{
    /* filter_chains, default_filter_chain: filters.typed_config, transport_socket.typed_config */
    static const uint32_t filters[2][4] = {{3, 3, 4, 0}, {25, 3, 4, 0}},
                          sockets[2][4] = {{3, 6, 3, 0}, {25, 6, 3, 0}};
    for (int i = 0; i < 2; i++) {
        walk(s, by, data, len, filters[i], in_filter);
        walk(s, by, data, len, sockets[i], in_transport_socket);
    }
}

static void note_cluster(struct sidecar *s, struct load_name *by, const uint8_t *data, size_t len)
{
    /* transport_socket.typed_config, transport_socket_matches.transport_socket.typed_config */
    static const uint32_t sockets[2][4] = {{24, 3, 0}, {43, 3, 3, 0}};
    enum { NAME = 1, TYPE = 2, EDS_CONFIG = 3, SERVICE_NAME = 2, EDS = 3 };
    struct osm_wire_reader r = {data, data + len};
    struct osm_wire_field f, name = {0};
    bool eds = false, service = false;
    for (int i = 0; i < 2; i++)
        walk(s, by, data, len, sockets[i], in_transport_socket);
    while (osm_wire_next(&r, &f) == 1) {
        if (f.field == NAME && f.type == OSM_WIRE_BYTES && !service)
            name = f;
        if (f.field == TYPE && f.type == OSM_WIRE_VARINT)
            eds = f.number == EDS;
        if (f.field != EDS_CONFIG || f.type != OSM_WIRE_BYTES)
            continue;
        struct osm_wire_reader inner = {f.data, f.data + f.len};
        struct osm_wire_field g;
        while (osm_wire_next(&inner, &g) == 1)
            if (g.field == SERVICE_NAME && g.type == OSM_WIRE_BYTES && g.len) {
                name = g;
                service = true;
            }
    }
    if (eds)
        want(s, by, LOAD_EDS, name.data, name.len);
}

/* An Any: the resource itself, whose name is its first field in all five types. */
void known_take(struct sidecar *s, int type, const uint8_t *any, size_t len, const void *version,
                size_t version_len)
{
    struct osm_wire_reader r = {any, any + len};
    struct osm_wire_field f, value = {0};
    while (osm_wire_next(&r, &f) == 1)
        if (f.field == 2 && f.type == OSM_WIRE_BYTES)
            value = f;
    if (!value.len)
        return;
    struct osm_hash body = osm_hash_bytes(value.data, value.len);
    struct osm_wire_reader inner = {value.data, value.data + value.len};
    struct load_name *n = NULL;
    while (!n && osm_wire_next(&inner, &f) == 1)
        if (f.field == 1 && f.type == OSM_WIRE_BYTES)
            n = have(s, type, f.data, f.len, version, version_len, body);
    if (!n || !known_is_wildcard(type))
        return;
    /* The new ones before the old ones go: what both name is not given up in between. */
    struct load_ref *before = osm_take_ptr(&n->refs);
    size_t before_len = n->refs_len;
    n->refs_len = 0;
    if (type == LOAD_LDS)
        note_listener(s, n, value.data, value.len);
    else
        note_cluster(s, n, value.data, value.len);
    give_up_refs(s, before, before_len);
}
