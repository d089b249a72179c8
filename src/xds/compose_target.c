/* From the items that are selected of one target to its bytes: precedence, headers, duplicates,
 * concatenation. The result hangs at the target under a hash of what was selected, so that groups
 * that select the same share it. */
#include "xds/compose_priv.h"

#include "base/utf8.h"
#include "xds/wire.h"

#include "envoy/config/endpoint/v3/endpoint.pb-c.h"
#include "envoy/config/listener/v3/listener.pb-c.h"
#include "envoy/config/route/v3/route.pb-c.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { RESOURCE_MAX = 64 << 20, ELEMENT_HEAD_MAX = 16 /* its tag and length */ };

const char *osm__type_word(enum osm_xds_type type)
{
    static const char *const words[] = {"cluster", "load assignment", "listener",
                                        "route configuration", "secret"};
    return words[type];
}

uint32_t osm__element_field(enum osm_xds_type type, const char **word)
{
    static const struct {
        enum osm_xds_type type;
        const ProtobufCMessageDescriptor *message;
        const char *field, *word;
    } rows[] = {
        {OSM_XDS_LDS, &envoy__config__listener__v3__listener__descriptor, "filter_chains",
         "filter chain"},
        {OSM_XDS_RDS, &envoy__config__route__v3__route_configuration__descriptor, "virtual_hosts",
         "virtual host"},
        {OSM_XDS_EDS, &envoy__config__endpoint__v3__cluster_load_assignment__descriptor,
         "endpoints", "locality"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].type != type)
            continue;
        if (word)
            *word = rows[i].word;
        const ProtobufCFieldDescriptor *field =
            protobuf_c_message_descriptor_get_field_by_name(rows[i].message, rows[i].field);
        return field ? field->id : 0;
    }
    return 0;
}

static int line_number(const char *text)
{
    int line = 0;
    for (; *text >= '0' && *text <= '9' && line < 1000000; text++)
        line = line * 10 + (*text - '0');
    return line;
}

int osm__report(json_t **list, const struct osm__entry *entry, const char *fmt, ...)
{
    const struct osm_item *item = entry->item;
    const char *place = item->place ? item->place : "", *colon = strrchr(place, ':'), *word = NULL;
    char what[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    if (item->extended) /* perhaps it is theirs */
        (void)snprintf(what + strlen(what), sizeof what - strlen(what), " (changed by %s)",
                       item->extended);
    (void)osm_utf8_repair(what); /* names may have been cut */
    (void)osm__element_field(item->type, &word);
    if (!*list)
        *list = json_array();
    json_t *message =
        item->element
            ? json_sprintf("%s \"%s\", %s \"%s\": %s", osm__type_word(item->type), item->resource,
                           word, item->element, what)
            : json_sprintf("%s \"%s\": %s", osm__type_word(item->type), item->resource, what);
    json_t *report = json_pack("{s:s, s:o, s:s%, s:i}", "where", item->key, "message", message,
                               "module", place, colon ? (size_t)(colon - place) : strlen(place),
                               "line", colon ? line_number(colon + 1) : 0);
    if (!*list || json_array_append_new(*list, report))
        return OSM_ENOMEM;
    return 0;
}

/* ---- counted results ---- */

static void resource_unuse(struct osm_compose *compose, struct osm__resource *r)
{
    if (!r || --r->uses)
        return;
    (void)osm_map_deln(&compose->resources, r->key, r->key_len);
    osm_resource_unref(r->resource);
    osm_free(r->key);
    osm_free(r);
}

static void header_unuse(struct osm_compose *compose, struct osm__header *h);

void osm__composed_unref(struct osm__composed *c)
{
    if (!c || --c->refs)
        return;
    (void)osm_map_deln(&c->target->composed, &c->key, sizeof c->key);
    header_unuse(c->target->owner, c->header);
    resource_unuse(c->target->owner, c->shared);
    for (size_t i = 0; i < c->referring.len; i++)
        osm__entry_unref(c->referring.list[i]);
    osm__ptrs_clear(&c->referring);
    json_decref(c->reports);
    osm__target_unref(c->target);
    osm_free(c);
}

/* The one resource of that type, name and content. Takes @p body. */
static int resource_get(struct osm_compose *compose, const struct osm__target *target,
                        bool authorises, struct osm_bytes *body, struct osm__resource **out)
{
    char hex[OSM_HASH_HEX_SIZE];
    struct osm__resource *r = NULL;
    char *key = osm_strf("%s%c%s", osm_hash_hex(osm_bytes_hash(body), hex), authorises ? '!' : '-',
                         target->key);
    if (!key)
        goto fail;
    r = osm_map_get(&compose->resources, key);
    if (r) {
        r->uses++;
        osm_free(key);
        osm_bytes_unref(body);
        *out = r;
        return 0;
    }
    r = osm_alloc(sizeof *r);
    if (!r)
        goto fail;
    *r = (struct osm__resource){
        osm_resource_new_composed(target->name, authorises, osm_bytes_ref(body)), 1, key,
        strlen(key)};
    if (!r->resource || osm_map_put(&compose->resources, key, r, NULL))
        goto fail;
    osm_bytes_unref(body);
    *out = r;
    return 0;
fail:
    if (r)
        osm_resource_unref(r->resource);
    osm_free(r);
    osm_free(key);
    osm_bytes_unref(body);
    return OSM_ENOMEM;
}

/* ---- choosing ---- */

static int slot_order(const struct osm_item *x, const struct osm_item *y)
{
    if (x->part != y->part)
        return x->part < y->part ? -1 : 1;
    return x->element ? strcmp(x->element, y->element) : 0;
}

static int precedence(const struct osm__candidate *x, const struct osm__candidate *y)
{
    return x->rank != y->rank ? y->rank - x->rank
                              : strcmp(x->entry->item->key, y->entry->item->key);
}

static int by_slot(const void *a, const void *b)
{
    const struct osm__candidate *x = a, *y = b;
    int order = slot_order(x->entry->item, y->entry->item);
    return order ? order : precedence(x, y);
}

static int by_precedence(const void *a, const void *b)
{
    return precedence(a, b);
}

static bool same_content(const struct osm_item *x, const struct osm_item *y)
{
    if (!x->body || !y->body)
        return !x->body && !y->body && !strcmp(x->header_rule, y->header_rule);
    return osm_hash_equal(osm_bytes_hash(x->body), osm_bytes_hash(y->body));
}

/* Keeps one candidate of each (part, element), in their order; the winners go to the front. */
static int choose(struct osm__composed *c, struct osm__candidate *list, size_t *len)
{
    size_t kept = 0;
    if (*len)
        qsort(list, *len, sizeof *list, by_slot);
    for (size_t i = 0; i < *len; i++) {
        const struct osm__candidate *winner = kept ? &list[kept - 1] : NULL;
        if (!winner || slot_order(winner->entry->item, list[i].entry->item)) {
            list[kept++] = list[i];
            continue;
        }
        if (winner->rank == list[i].rank &&
            !same_content(winner->entry->item, list[i].entry->item) &&
            osm__report(&c->reports, list[i].entry,
                        "left out: %s gives other content for the same readers and comes first",
                        winner->entry->item->key))
            return OSM_ENOMEM;
    }
    *len = kept;
    return 0;
}

/* ---- duplicates among elements ---- */

/* Who holds the name; with @p item, it is claimed for that where nobody does. Domains are compared
 * without regard to case, as Envoy does. @p key: room to build the map's key in. */
static int claim(struct osm_map *claimed, struct osm_buf *key, char kind, const char *name,
                 const struct osm_item *item, const struct osm_item **holder)
{
    size_t len = strlen(name);
    osm_buf_reset(key);
    (void)osm_buf_add(key, &kind, 1);
    (void)osm_buf_add(key, name, len);
    if (key->failed)
        return key->failed;
    for (size_t i = 1; kind == 'd' && i <= len; i++)
        key->data[i] = (char)tolower((unsigned char)key->data[i]);
    *holder = osm_map_getn(claimed, key->data, key->len);
    return *holder || !item
               ? 0
               : osm_map_putn(claimed, key->data, key->len, (void *)(uintptr_t)item, NULL);
}

/* Claims all that the element may share with nobody, or nothing: then *taken says who has it, and
 * *domain which, NULL where it is the match. */
static int claim_all(struct osm_map *claimed, struct osm_buf *key, const struct osm_item *item,
                     const struct osm_item **taken, const char **domain)
{
    const char *const *domains = item->domains;
    const struct osm_item *ignored;
    int rc = 0;
    *taken = NULL;
    *domain = NULL;
    if (item->unique)
        rc = claim(claimed, key, 'u', item->unique, NULL, taken);
    for (size_t i = 0; domains && domains[i] && !rc && !*taken; i++) {
        *domain = domains[i];
        rc = claim(claimed, key, 'd', domains[i], NULL, taken);
        for (size_t k = 0; k < i && !*taken;
             k++) /* named twice by itself, which Envoy refuses too */
            if (!strcasecmp(domains[i], domains[k]))
                *taken = item;
    }
    if (rc || *taken)
        return rc;
    if (item->unique)
        rc = claim(claimed, key, 'u', item->unique, item, &ignored);
    for (size_t i = 0; domains && domains[i] && !rc; i++)
        rc = claim(claimed, key, 'd', domains[i], item, &ignored);
    return rc;
}

/* Drops elements that clash with one of higher precedence. @p list stays in element order. */
static int drop_duplicates(struct osm__composed *c, struct osm__candidate *list, size_t *len)
{
    struct osm_map claimed = OSM_MAP_INIT;
    struct osm_buf key = OSM_BUF_INIT(RESOURCE_MAX);
    size_t kept = 0;
    struct osm__candidate *order = osm_alloc_array(*len, sizeof *order);
    int rc = order ? 0 : OSM_ENOMEM;
    if (!rc)
        memcpy(order, list, *len * sizeof *order);
    if (!rc && *len)
        qsort(order, *len, sizeof *order, by_precedence);
    for (size_t i = 0; i < *len && !rc; i++) {
        const struct osm_item *item = order[i].entry->item, *taken = NULL;
        const char *domain = NULL;
        if (!item->unique && !item->domains)
            continue;
        rc = claim_all(&claimed, &key, item, &taken, &domain);
        if (rc || !taken)
            continue;
        rc = domain ? osm__report(&c->reports, order[i].entry,
                                  "left out: domain \"%s\" belongs to virtual host \"%s\" of %s",
                                  domain, taken->element, taken->key)
                    : osm__report(&c->reports, order[i].entry,
                                  "left out: its match equals that of \"%s\" of %s", taken->element,
                                  taken->key);
        for (size_t k = 0; k < *len; k++)
            if (list[k].entry == order[i].entry)
                list[k].rank = -1;
    }
    for (size_t i = 0; i < *len && !rc; i++)
        if (list[i].rank >= 0)
            list[kept++] = list[i];
    if (!rc)
        *len = kept;
    osm_free(order);
    osm_buf_clear(&key);
    osm_map_clear(&claimed);
    return rc;
}

static void drop_withdrawn(struct osm__candidate *list, size_t *len)
{
    size_t kept = 0;
    for (size_t i = 0; i < *len; i++)
        if (!list[i].withdrawn)
            list[kept++] = list[i];
    *len = kept;
}

/* ---- headers ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void header_unlist(struct osm_compose *compose, struct osm__header *h)
{
    h->listed = false;
    compose->gone(compose->ud, h->token);
    if (h->uses)
        return;
    osm_bytes_unref(h->bytes);
    osm_free(h);
}

static void header_unuse(struct osm_compose *compose, struct osm__header *h)
{
    if (!h || --h->uses)
        return;
    if (h->listed) {
        (void)osm_map_deln(&compose->headers, h->key, h->key_len);
        header_unlist(compose, h);
    } else {
        osm_bytes_unref(h->bytes);
        osm_free(h);
    }
}

void osm__headers_clear(struct osm_compose *compose)
{
    osm_map_each (&compose->headers, e)
        header_unlist(compose, e->value);
    osm_map_clear(&compose->headers);
}

/* Sorted and distinct; the strings are the items'. */
static int tags_of(const struct osm__candidate *list, size_t len, struct osm__ptrs *tags)
{
    for (size_t i = 0; i < len; i++) {
        const char *const *own = list[i].entry->item->tags;
        for (size_t k = 0; own && own[k]; k++)
            if (osm__ptrs_push(tags, (void *)(uintptr_t)own[k]))
                return OSM_ENOMEM;
    }
    if (!tags->len)
        return 0;
    qsort(tags->list, tags->len, sizeof *tags->list, by_text);
    size_t kept = 1;
    for (size_t i = 1; i < tags->len; i++)
        if (strcmp(tags->list[i], tags->list[kept - 1]) != 0)
            tags->list[kept++] = tags->list[i];
    tags->len = kept;
    return 0;
}

static struct osm__header *header_new(struct osm_compose *compose, const struct osm_buf *key)
{
    struct osm__header *h = osm_alloc(sizeof *h + key->len);
    if (!h)
        return NULL;
    h->key_len = key->len;
    memcpy(h->key, key->data, key->len);
    if (osm_map_putn(&compose->headers, key->data, key->len, h, NULL)) {
        osm_free(h);
        return NULL;
    }
    h->listed = true;
    return h;
}

/* *out: borrowed from the header that @p c then uses, or from the item; NULL: the rule failed.
 * Errors: as osm_compose_header_fn. */
static int header_bytes(struct osm_compose *compose, struct osm__composed *c,
                        const struct osm_item *item, const struct osm__candidate *elements,
                        size_t len, struct osm_bytes **out)
{
    struct osm__ptrs tags = {0};
    struct osm_buf key = OSM_BUF_INIT(16u << 20);
    *out = item->header_rule ? NULL : item->body;
    if (!item->header_rule)
        return 0;
    int rc = tags_of(elements, len, &tags);
    (void)osm_buf_add(&key, item->header_rule, strlen(item->header_rule) + 1);
    (void)osm_buf_add(&key, item->resource, strlen(item->resource) + 1);
    for (size_t i = 0; i < tags.len; i++)
        (void)osm_buf_add(&key, tags.list[i], strlen(tags.list[i]) + 1);
    if (!rc)
        rc = key.failed;
    struct osm__header *h = rc ? NULL : osm_map_getn(&compose->headers, key.data, key.len);
    if (!rc && !h) {
        h = header_new(compose, &key);
        rc = h ? compose->header(compose->ud, item, (const char *const *)tags.list, tags.len,
                                 &h->bytes, &h->token)
               : OSM_ENOMEM;
        if (h && rc) {
            (void)osm_map_deln(&compose->headers, key.data, key.len);
            header_unlist(compose, h);
        }
    }
    if (!rc) {
        *out = h->bytes;
        c->header = h;
        h->uses++;
    }
    osm__ptrs_clear(&tags);
    osm_buf_clear(&key);
    return rc;
}

/* ---- bytes ---- */

static int refers(struct osm__composed *c, struct osm__entry *entry)
{
    if (!entry->item->refs_len)
        return 0;
    int rc = osm__ptrs_push(&c->referring, entry);
    entry->refs += !rc;
    return rc;
}

static int compose_whole(struct osm_compose *compose, struct osm__composed *c,
                         const struct osm__candidate *list, size_t len)
{
    if (len > 1 &&
        osm__report(&c->reports, list[0].entry,
                    "is emitted whole, and its parts by %s are left out", list[1].entry->item->key))
        return OSM_ENOMEM;
    if (list[0].withdrawn)
        return 0;
    int rc = resource_get(compose, c->target, list[0].entry->item->authorises,
                          osm_bytes_ref(list[0].entry->item->body), &c->shared);
    return rc ? rc : refers(c, list[0].entry);
}

static int compose_parts(struct osm_compose *compose, struct osm__composed *c,
                         struct osm__candidate *list, size_t len)
{
    bool headed = list[0].entry->item->part == OSM_ITEM_HEADER, authorises = false;
    struct osm__candidate *elements = list + headed;
    size_t n = len - headed;
    struct osm_buf out = OSM_BUF_INIT(RESOURCE_MAX);
    struct osm_bytes *header = NULL, *body = NULL;
    size_t size = 0;
    uint32_t field = osm__element_field(c->target->type, NULL);
    int rc = drop_duplicates(c, elements, &n);
    drop_withdrawn(elements, &n);
    if (!rc && !headed)
        rc = osm__report(&c->reports, list[0].entry,
                         "left out: nothing emits the header of its resource to the same readers");
    if (rc || !headed || list[0].withdrawn || (!n && !list[0].entry->item->alone))
        goto out;
    rc = header_bytes(compose, c, list[0].entry->item, elements, n, &header);
    if (rc == OSM_ELIMIT)
        rc = osm__report(&c->reports, list[0].entry,
                         "left out: the tags of its elements are too many for its header rule");
    if (rc || !header)
        goto out;
    for (size_t i = 0; i < n; i++)
        size += osm_bytes_len(elements[i].entry->item->body) + ELEMENT_HEAD_MAX;
    size += osm_bytes_len(header);
    if (size <= RESOURCE_MAX) /* else it may still fit, having grown */
        (void)osm_buf_reserve(&out, size);
    (void)osm_buf_add(&out, osm_bytes_data(header), osm_bytes_len(header));
    for (size_t i = 0; i < n; i++) {
        const struct osm_bytes *element = elements[i].entry->item->body;
        osm_wire_put_bytes(&out, field, osm_bytes_data(element), osm_bytes_len(element));
    }
    if (out.failed == OSM_ELIMIT)
        rc =
            osm__report(&c->reports, list[0].entry, "left out: larger than %d bytes", RESOURCE_MAX);
    if (out.failed) {
        rc = rc ? rc : out.failed == OSM_ELIMIT ? 0 : out.failed;
        goto out;
    }
    body = osm_bytes_new(out.data ? out.data : "", out.len);
    for (size_t i = 0; i < n; i++)
        authorises = authorises || elements[i].entry->item->authorises;
    rc = body ? resource_get(compose, c->target, authorises, body, &c->shared) : OSM_ENOMEM;
    if (!rc)
        rc = refers(c, list[0].entry);
    for (size_t i = 0; i < n && !rc; i++)
        rc = refers(c, elements[i].entry);
out:
    osm_buf_clear(&out);
    return rc;
}

/* Independent of the order of the list. */
static struct osm__composed_key key_of(const struct osm_compose *compose,
                                       const struct osm__candidate *list, size_t len)
{
    struct osm__composed_key key = {{0, 0}, 0};
    for (size_t i = 0; i < len; i++) {
        const struct {
            struct osm_hash id;
            uint64_t rank;
        } seed = {list[i].entry->id, (uint64_t)list[i].rank << 1 | list[i].withdrawn};
        struct osm_hash h = osm_hash_bytes(&seed, sizeof seed);
        key.items.hi += h.hi;
        key.items.lo += h.lo;
        if (list[i].entry->item->header_rule)
            key.headers = compose->header_generation + 1;
    }
    return key;
}

int osm__composed_get(struct osm_compose *compose, struct osm__target *target,
                      struct osm__candidate *list, size_t len, struct osm__composed **out)
{
    struct osm__composed_key key = key_of(compose, list, len);
    struct osm__composed *c = osm_map_getn(&target->composed, &key, sizeof key);
    if (c) {
        c->refs++;
        *out = c;
        return 0;
    }
    c = osm_alloc(sizeof *c);
    if (!c)
        return OSM_ENOMEM;
    *c = (struct osm__composed){.refs = 1, .target = target, .key = key};
    target->refs++;
    int rc = choose(c, list, &len);
    if (!rc && len)
        rc = list[0].entry->item->part == OSM_ITEM_WHOLE ? compose_whole(compose, c, list, len)
                                                         : compose_parts(compose, c, list, len);
    if (!rc)
        rc = osm_map_putn(&target->composed, &key, sizeof key, c, NULL);
    if (rc)
        osm__composed_unref(c); /* not in the map yet: nothing else has this key */
    else
        *out = c;
    return rc;
}
