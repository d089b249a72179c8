#include "reload/doors.h"

#include "base/json.h"
#include "base/mem.h"
#include "policy/encode/proto.h"
#include "reload/guard.h"
#include "xds/parts.h"

#include <stdio.h>
#include <string.h>

static const char anybody[] = OSM__GUARD_ANYBODY;

struct look {
    osm_doors_opened_fn *opened;
    void *ud;
    struct osm_err *err;
    char door[160];
};

static int no_memory(const struct look *l)
{
    return osm_fail(l->err, OSM_ENOMEM, "out of memory");
}

static int tell(const struct look *l, const char *who)
{
    return l->opened(l->ud, who, l->door) ? no_memory(l) : 0;
}

/* --- two guards of one door --- */

/* The set has the key, or what that is a part of. *who_out: whom it is about; NULL: no memory. */
static bool covers(const json_t *set, const char *key, char **who_out)
{
    const char *when = strchr(key, '\n');
    char *who = osm_strndup(key, when ? (size_t)(when - key) : strlen(key));
    char *all = who ? osm_strf("%s%s", anybody, when ? when : "") : NULL;
    /* what is said of a filter is about that filter only */
    /* what is said of a filter is about that filter only */
    bool told = all && (json_object_get(set, key) || json_object_get(set, who) ||
                        (strncmp(key, "whom ", 5) != 0 &&
                         (json_object_get(set, anybody) || json_object_get(set, all))));
    *who_out = all ? osm_take_ptr(&who) : NULL;
    osm_free(who);
    osm_free(all);
    return told;
}

/* Who is in @p set and not in @p known; told if @p l is given. Returns their number, or an error.
 */
static long long missing(const struct look *l, const json_t *known, const json_t *set,
                         const struct look *loud)
{
    const char *key;
    const json_t *unused;
    long long n = 0;
    json_object_foreach ((json_t *)(uintptr_t)set, key, unused) {
        char *who;
        bool covered = covers(known, key, &who);
        int rc = who ? 0 : no_memory(l);
        if (!rc && !covered && loud)
            rc = tell(loud, who);
        n += !covered;
        osm_free(who);
        if (rc)
            return rc;
    }
    return n;
}

/* One of the sets of now must be a part of one of before. */
static int compare_allowed(const struct look *l, const json_t *before, const json_t *allow)
{
    size_t i;
    const json_t *set, *best = NULL;
    long long least = -1;
    json_array_foreach ((json_t *)(uintptr_t)allow, i, set) {
        long long n = missing(l, before, set, NULL);
        if (n < 0)
            return (int)n;
        if (least < 0 || n < least) {
            least = n;
            best = set;
        }
    }
    if (!best)
        return json_object_get(before, anybody) ? 0 : tell(l, anybody);
    long long rc = missing(l, before, best, l);
    return rc < 0 ? (int)rc : 0;
}

static int compare_guards(const struct look *l, const struct osm__guard *before,
                          const struct osm__guard *now)
{
    size_t i;
    const json_t *set, *what;
    const char *who;
    int rc = 0;
    json_array_foreach (before->allow, i, set)
        rc = rc ? rc : compare_allowed(l, set, now->allow);
    if (!rc) {
        long long n = missing(l, now->deny, before->deny, l);
        rc = n < 0 ? (int)n : 0;
    }
    json_object_foreach (before->asks, who, what) {
        const json_t *still = json_object_get(now->asks, who);
        if (!rc && !(still && json_equal(still, what)))
            rc = tell(l, who);
    }
    return rc;
}

/* --- listeners and route tables --- */

struct kind {
    enum osm_xds_type type;
    const char *door;
    int (*guard)(struct osm__guard *g, const json_t *door);
    /* What arrives at @p now arrived at @p before. */
    bool (*leads)(const json_t *before, const json_t *now);
};

static bool same_match(const json_t *before, const json_t *now)
{
    const json_t *a = json_object_get(before, "filter_chain_match"),
                 *b = json_object_get(now, "filter_chain_match");
    return a && b ? json_equal(a, b) : !a && !b;
}

static bool no_new_domain(const json_t *before, const json_t *now)
{
    size_t i, k;
    const json_t *domain, *old;
    json_array_foreach (json_object_get(now, "domains"), i, domain) {
        bool found = false;
        json_array_foreach (json_object_get(before, "domains"), k, old)
            found = found || json_equal(domain, old);
        if (!found)
            return false;
    }
    return true;
}

static const struct kind chains = {OSM_XDS_LDS, "chain", osm__guard_of_chain, same_match},
                         hosts = {OSM_XDS_RDS, "virtual host", osm__guard_of_host, no_new_domain};

static int decode(const struct look *l, enum osm_xds_type type, const struct osm_part *part,
                  json_t **out)
{
    const char *message = NULL;
    (void)osm_parts_field(type, &message);
    return osm_proto_decode(osm_proto_find(message), part->data, part->len, out, l->err);
}

static int compare_door(struct look *l, const struct kind *kind, const char *name,
                        const json_t *before, const json_t *now)
{
    struct osm__guard old = {0}, own = {0};
    (void)snprintf(l->door, sizeof l->door, "%s \"%.120s\"", kind->door, name);
    int rc = before ? kind->guard(&old, before) : osm__guard_of_nothing(&old);
    rc = rc ? rc : kind->guard(&own, now);
    rc = rc ? no_memory(l) : compare_guards(l, &old, &own);
    if (!rc && !before && kind->type == OSM_XDS_LDS && json_array_size(own.allow) &&
        !json_object_get(own.asks, OSM__GUARD_STRANGERS))
        rc = tell(l, OSM__GUARD_STRANGERS);
    osm__guard_clear(&old);
    osm__guard_clear(&own);
    return rc;
}

/* The first of this name, NULL: there is none. */
static const struct osm_part *first_of(const struct osm_parts *parts, const char *name)
{
    const struct osm_part *part = osm_parts_find(parts, name);
    while (part && part > parts->list && !strcmp(part[-1].name, name))
        part--;
    return part;
}

static const struct osm_part *next_of(const struct osm_parts *parts, const struct osm_part *part)
{
    bool last = part + 1 == parts->list + parts->len;
    return last || strcmp(part[1].name, part->name) != 0 ? NULL : part + 1;
}

/* The element of before that is this door: of the same name, and it leads what this one takes. */
static int find_before(struct look *l, const struct kind *kind, const struct osm_parts *old,
                       const char *name, const json_t *now, json_t **out)
{
    const struct osm_part *part = first_of(old, name);
    *out = NULL;
    for (; part && !*out; part = next_of(old, part)) {
        json_t *before = NULL;
        int rc = decode(l, kind->type, part, &before);
        if (rc)
            return rc;
        if (kind->leads(before, now))
            *out = json_incref(before);
        json_decref(before);
    }
    return 0;
}

static bool has_same(const struct osm_parts *parts, const struct osm_part *wanted)
{
    const struct osm_part *part = first_of(parts, wanted->name);
    while (part && !osm_part_same(part, wanted))
        part = next_of(parts, part);
    return part;
}

static int compare_elements(struct look *l, const struct kind *kind, const struct osm_parts *old,
                            const struct osm_parts *now)
{
    int rc = 0;
    for (size_t i = 0; i < now->len && !rc; i++) {
        const struct osm_part *part = &now->list[i];
        json_t *element = NULL, *before = NULL;
        if (has_same(old, part))
            continue;
        rc = decode(l, kind->type, part, &element);
        rc = rc ? rc : find_before(l, kind, old, part->name, element, &before);
        rc = rc ? rc : compare_door(l, kind, part->name, before, element);
        json_decref(element);
        json_decref(before);
    }
    return rc;
}

static int decode_around(const struct look *l, enum osm_xds_type type,
                         const struct osm_parts *parts, json_t **out)
{
    const char *data = parts->around.data ? parts->around.data : "";
    return osm_proto_decode(osm_proto_find(osm_xds_type_message(type)), data, parts->around.len,
                            out, l->err);
}

/* What is around its chains decides which connections they get, and what becomes of the rest. */
static int compare_listener(struct look *l, const char *name, const json_t *before,
                            const json_t *now)
{
    static const char *const fields[] = {
        "address",     "additional_addresses", "bind_to_port",     "filter_chain_matcher",
        "transparent", "traffic_direction",    "internal_listener"};
    const json_t *rest = json_object_get(now, "default_filter_chain"),
                 *rest_before = json_object_get(before, "default_filter_chain");
    bool same = true;
    for (size_t i = 0; before && i < sizeof fields / sizeof *fields; i++) {
        const json_t *a = json_object_get(before, fields[i]), *b = json_object_get(now, fields[i]);
        same = same && (a && b ? json_equal(a, b) : !a && !b);
    }
    (void)snprintf(l->door, sizeof l->door, "listener \"%.120s\"", name);
    int rc = same ? 0 : tell(l, anybody);
    if (!rc && rest && !(rest_before && json_equal(rest, rest_before)))
        rc = compare_door(l, &chains, "of all the rest", rest_before, rest);
    return rc;
}

/* Exceptions for a whole table. */
static int compare_table(struct look *l, const char *name, const json_t *before, const json_t *now)
{
    struct osm__guard old = {0}, own = {0};
    (void)snprintf(l->door, sizeof l->door, "route table \"%.120s\"", name);
    int rc = before ? osm__guard_of_table(&old, before) : osm__guard_of_nothing(&old);
    rc = rc ? rc : osm__guard_of_table(&own, now);
    rc = rc ? no_memory(l) : compare_guards(l, &old, &own);
    osm__guard_clear(&old);
    osm__guard_clear(&own);
    return rc;
}

static int take_apart(struct osm_parts *out, enum osm_xds_type type, const struct osm_resource *r,
                      struct osm_err *err)
{
    *out = (struct osm_parts){0};
    int rc = r ? osm_parts_of(out, type, r->body) : 0;
    return rc ? osm_fail(err, rc, "%s %s: %s", osm_xds_type_short(type), r->name, osm_code_text(rc))
              : 0;
}

static bool is_outbound(const struct osm_parts *parts)
{
    return parts->direction == OSM_PARTS_OUTBOUND;
}

static bool same_around(const struct osm_parts *a, const struct osm_parts *b)
{
    return a->around.len == b->around.len &&
           (!a->around.len || !memcmp(a->around.data, b->around.data, a->around.len));
}

static int compare_resources(const struct kind *kind, const struct osm_resource *before,
                             const struct osm_resource *after, struct look *l)
{
    struct osm_parts old, now = {0};
    int rc = take_apart(&old, kind->type, before, l->err);
    rc = rc ? rc : take_apart(&now, kind->type, after, l->err);
    bool listener = kind->type == OSM_XDS_LDS, outside = before && listener && is_outbound(&old);
    if (!rc && outside) { /* nobody came in by it */
        osm_parts_clear(&old);
        old = (struct osm_parts){0};
        before = NULL;
    }
    bool looks = !(listener && is_outbound(&now) && !before);
    if (!rc && looks && !(before && same_around(&old, &now))) {
        json_t *was = NULL, *is = NULL;
        rc = before ? decode_around(l, kind->type, &old, &was) : 0;
        rc = rc ? rc : decode_around(l, kind->type, &now, &is);
        if (!rc)
            rc = listener ? compare_listener(l, after->name, was, is)
                          : compare_table(l, after->name, was, is);
        json_decref(was);
        json_decref(is);
    }
    if (!rc && looks)
        rc = compare_elements(l, kind, &old, &now);
    osm_parts_clear(&old);
    osm_parts_clear(&now);
    return rc;
}

int osm_doors_of_listener(const struct osm_resource *before, const struct osm_resource *after,
                          osm_doors_opened_fn *opened, void *ud, struct osm_err *err)
{
    struct look l = {.opened = opened, .ud = ud, .err = err};
    return compare_resources(&chains, before, after, &l);
}

int osm_doors_of_routes(const struct osm_resource *before, const struct osm_resource *after,
                        osm_doors_opened_fn *opened, void *ud, struct osm_err *err)
{
    struct look l = {.opened = opened, .ud = ud, .err = err};
    return compare_resources(&hosts, before, after, &l);
}
