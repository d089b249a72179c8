#include "policy/encode/proto.h"
#include "property.h"

#include "base/yaml.h"

#include <stdlib.h>
#include <string.h>

static void show(const struct osm_resource *r, enum osm_xds_type type, struct osm_buf *why)
{
    json_t *decoded = NULL;
    if (osm_proto_decode(osm_proto_find(osm_xds_type_message(type)), osm_bytes_data(r->body),
                         osm_bytes_len(r->body), &decoded, NULL))
        return;
    (void)osm_yaml_write(why, decoded);
    json_decref(decoded);
}

static bool differs(const struct osm_snapshot_proxy *p, enum osm_xds_type type,
                    const struct osm_resource *grown, const struct osm_resource *fresh,
                    struct osm_buf *why)
{
    (void)osm_buf_addf(why, "%s/%s: %s \"%s\": ", p->ns, p->pod, osm_xds_type_short(type),
                       (grown ? grown : fresh)->name);
    if (!grown || !fresh) {
        (void)osm_buf_addf(why, "is served only %s\n",
                           grown ? "by the engine that saw the changes" : "from scratch");
        show(grown ? grown : fresh, type, why);
        return false;
    }
    (void)osm_buf_add_str(why, "incremental:\n");
    show(grown, type, why);
    (void)osm_buf_add_str(why, "from scratch:\n");
    show(fresh, type, why);
    return false;
}

static bool same_bytes(const struct osm_bytes *a, const struct osm_bytes *b)
{
    return osm_bytes_len(a) == osm_bytes_len(b) &&
           (!osm_bytes_len(a) || !memcmp(osm_bytes_data(a), osm_bytes_data(b), osm_bytes_len(a)));
}

/* Equal bytes have equal versions, or a proxy would be sent what it has. */
static bool same_resource(const struct osm_resource *a, const struct osm_resource *b)
{
    return same_bytes(a->body, b->body) && !strcmp(a->version, b->version);
}

static bool same_type(const struct osm_snapshot_proxy *a, const struct osm_snapshot_proxy *b,
                      enum osm_xds_type type, const struct osm_map *kept, struct osm_buf *why)
{
    size_t i = 0, k = 0, found = 0;
    while (i < a->cls->types[type].len || k < b->cls->types[type].len) {
        const struct osm_resource *x =
            i < a->cls->types[type].len ? a->cls->types[type].list[i] : NULL;
        const struct osm_resource *y =
            k < b->cls->types[type].len ? b->cls->types[type].list[k] : NULL;
        int order = !x ? 1 : !y ? -1 : strcmp(x->name, y->name);
        if (order < 0) {
            const struct osm_bytes *last =
                kept && type == OSM_XDS_CDS ? osm_map_get(kept, x->name) : NULL;
            if (!last || !same_bytes(last, x->body))
                return differs(a, type, x, NULL, why);
            found++;
            i++;
        } else if (order > 0) {
            return differs(a, type, NULL, y, why);
        } else {
            if (!same_resource(x, y))
                return differs(a, type, x, y, why);
            i++;
            k++;
        }
    }
    if (kept && type == OSM_XDS_CDS && found != kept->count) {
        (void)osm_buf_addf(why, "%s/%s is served %zu of the %zu that failing emitters keep\n",
                           a->ns, a->pod, found, kept->count);
        return false;
    }
    return true;
}

static bool same_list(const char *what, const json_t *a, const json_t *b, struct osm_buf *why)
{
    if (json_equal(a, b))
        return true;
    (void)osm_buf_addf(why, "%s, incremental:\n", what);
    (void)osm_yaml_write(why, a);
    (void)osm_buf_addf(why, "%s, from scratch:\n", what);
    (void)osm_yaml_write(why, b);
    return false;
}

bool snapshots_equal(const struct osm_snapshot *grown, const struct osm_snapshot *fresh,
                     const struct osm_map *kept, struct osm_buf *why)
{
    if (!same_list("rejects", grown->rejects, fresh->rejects, why) ||
        !same_list("errors", grown->errors, fresh->errors, why))
        return false;
    if (grown->proxies_len != fresh->proxies_len) {
        (void)osm_buf_addf(why, "%zu proxies, from scratch %zu\n", grown->proxies_len,
                           fresh->proxies_len);
        return false;
    }
    for (size_t i = 0; i < grown->proxies_len; i++) {
        const struct osm_snapshot_proxy *a = &grown->proxies[i], *b = &fresh->proxies[i];
        if (strcmp(a->key, b->key) != 0 || strcmp(a->pod, b->pod) != 0 ||
            strcmp(a->ns, b->ns) != 0 || strcmp(a->account, b->account) != 0) {
            (void)osm_buf_addf(why, "proxy %s is %s/%s of %s, from scratch %s is %s/%s of %s\n",
                               a->key, a->ns, a->pod, a->account, b->key, b->ns, b->pod,
                               b->account);
            return false;
        }
        for (int t = 0; t < OSM_XDS_TYPE_COUNT; t++)
            if (!same_type(a, b, (enum osm_xds_type)t, kept, why))
                return false;
    }
    return true;
}

static void add_list(struct osm_buf *all, const json_t *list)
{
    char *text = json_dumps(list, JSON_COMPACT);
    OSM_REQUIRE(text);
    (void)osm_buf_add(all, text, strlen(text) + 1);
    free(text);
}

struct osm_hash snapshot_digest(const struct osm_snapshot *s)
{
    struct osm_buf all = OSM_BUF_INIT(256 << 20);
    for (size_t i = 0; i < s->proxies_len; i++) {
        const struct osm_snapshot_proxy *p = &s->proxies[i];
        (void)osm_buf_addf(&all, "%s %s/%s %s\n", p->key, p->ns, p->pod, p->account);
        for (int t = 0; t < OSM_XDS_TYPE_COUNT; t++)
            for (size_t k = 0; k < p->cls->types[t].len; k++) {
                const struct osm_resource *r = p->cls->types[t].list[k];
                (void)osm_buf_addf(&all, "%d %s %s %zu\n", t, r->name, r->version,
                                   osm_bytes_len(r->body));
                (void)osm_buf_add(&all, osm_bytes_data(r->body), osm_bytes_len(r->body));
            }
    }
    add_list(&all, s->rejects);
    add_list(&all, s->errors);
    OSM_REQUIRE(!all.failed);
    struct osm_hash hash = osm_hash_bytes(all.data, all.len);
    osm_buf_clear(&all);
    return hash;
}
