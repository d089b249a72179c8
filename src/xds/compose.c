/* The outside of composition: items and their terms, and the run. See compose_priv.h for the
 * picture. */
#include "xds/compose_priv.h"

#include <stdlib.h>
#include <string.h>

enum { KEY_MAX = 64 * 1024 };

int osm__ptrs_push(struct osm__ptrs *v, void *item)
{
    if (v->len == v->cap) {
        size_t cap = v->cap ? v->cap * 2 : 4;
        void **grown = osm_realloc_array(v->list, cap, sizeof *grown);
        if (!grown)
            return OSM_ENOMEM;
        v->list = grown;
        v->cap = cap;
    }
    v->list[v->len++] = item;
    return 0;
}

void osm__ptrs_clear(struct osm__ptrs *v)
{
    osm_free(v->list);
    *v = (struct osm__ptrs){0};
}

static void free_text(const char *text)
{
    osm_free((char *)(uintptr_t)text);
}

static void free_texts(const char *const *list)
{
    for (size_t i = 0; list && list[i]; i++)
        free_text(list[i]);
    osm_free((void *)(uintptr_t)list);
}

void osm_item_free(struct osm_item *item)
{
    if (!item)
        return;
    free_text(item->key);
    free_text(item->resource);
    free_text(item->element);
    free_text(item->unique);
    free_text(item->header_rule);
    free_text(item->place);
    free_text(item->extended);
    free_texts(item->domains);
    free_texts(item->tags);
    for (size_t i = 0; i < item->audience_len; i++) {
        free_text(item->audience[i].pod);
        free_text(item->audience[i].service);
        free_text(item->audience[i].account);
        free_text(item->audience[i].ns);
    }
    osm_free(item->audience);
    for (size_t i = 0; i < item->refs_len; i++)
        free_text(item->refs[i].name);
    osm_free(item->refs);
    osm_bytes_unref(item->body);
    osm_free(item);
}

/* ---- targets, terms, entries ---- */

char *osm__target_key(enum osm_xds_type type, const char *name)
{
    return osm_strf("%c%s", 'A' + (int)type, name);
}

static struct osm__target *target_get(struct osm_compose *compose, enum osm_xds_type type,
                                      const char *name)
{
    char *key = osm__target_key(type, name);
    if (!key)
        return NULL;
    struct osm__target *t = osm_map_get(&compose->targets, key);
    if (t) {
        osm_free(key);
        t->refs++;
        return t;
    }
    t = osm_alloc(sizeof *t);
    if (!t || osm_map_put(&compose->targets, key, t, NULL)) {
        osm_free(t);
        osm_free(key);
        return NULL;
    }
    *t = (struct osm__target){
        .refs = 1, .type = type, .key = key, .name = key + 1, .owner = compose};
    return t;
}

void osm__target_unref(struct osm__target *t)
{
    if (!t || --t->refs)
        return;
    (void)osm_map_del(&t->owner->targets, t->key);
    osm__ptrs_clear(&t->entries);
    osm_map_clear(&t->composed);
    osm_free(t->key);
    osm_free(t);
}

/* Fields are told apart by their tag and ended by NUL, which no name holds. */
void osm__term_key(struct osm_buf *out, const char *pod, const char *service, const char *account,
                   const char *ns)
{
    const struct {
        char tag;
        const char *text;
    } fields[] = {{'p', pod}, {'s', service}, {'a', account}, {'n', ns}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (!fields[i].text)
            continue;
        (void)osm_buf_add_char(out, fields[i].tag);
        (void)osm_buf_add(out, fields[i].text, strlen(fields[i].text) + 1);
    }
}

static unsigned shape_of(const struct osm_term *term)
{
    return (term->pod ? OSM__BY_POD : 0u) | (term->service ? OSM__BY_SERVICE : 0u) |
           (term->account ? OSM__BY_ACCOUNT : 0u) | (term->ns ? OSM__BY_NS : 0u);
}

static int rank_of(unsigned shape)
{
    if (shape & OSM__BY_POD) /* an account beside it: a variant for that account */
        return shape & OSM__BY_ACCOUNT ? 5 : 4;
    if ((shape & (OSM__BY_SERVICE | OSM__BY_ACCOUNT)) == (OSM__BY_SERVICE | OSM__BY_ACCOUNT))
        return 3;
    if (shape & (OSM__BY_SERVICE | OSM__BY_ACCOUNT))
        return 2;
    return shape & OSM__BY_NS ? 1 : 0;
}

static void term_free(struct osm__term *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->dirty.len; i++)
        osm__target_unref(t->dirty.list[i]);
    osm__ptrs_clear(&t->dirty);
    osm__ptrs_clear(&t->links);
    osm__ptrs_clear(&t->groups);
    osm_free(t->key);
    osm_free(t);
}

/* The fields of a term point into its key. */
static struct osm__term *term_get(struct osm_compose *compose, const struct osm_term *wanted)
{
    char room[OSM_BUF_ROOM];
    struct osm_buf key = osm_buf_on(room, sizeof room, KEY_MAX);
    struct osm__term *t = NULL;
    char *own = NULL;
    osm__term_key(&key, wanted->pod, wanted->service, wanted->account, wanted->ns);
    if (!osm_buf_reserve(&key, 0)) /* "everyone" is the empty key */
        goto out;
    t = osm_map_getn(&compose->terms, key.data, key.len);
    if (t)
        goto out;
    t = osm_alloc(sizeof *t);
    own = osm_strndup(key.data, key.len);
    if (!t || !own || osm_map_putn(&compose->terms, key.data, key.len, t, NULL)) {
        osm_free(t);
        osm_free(own);
        t = NULL;
        goto out;
    }
    *t = (struct osm__term){
        .key = own, .key_len = key.len, .id = ++compose->next_term, .shape = shape_of(wanted)};
    for (const char *at = t->key; at < t->key + t->key_len; at += strlen(at) + 1) {
        const char **field = *at == 'p'   ? &t->pod
                             : *at == 's' ? &t->service
                             : *at == 'a' ? &t->account
                                          : &t->ns;
        *field = at + 1;
    }
out:
    osm_buf_clear(&key);
    return t;
}

static void touch(struct osm_compose *compose, struct osm__term *term)
{
    if (term->touched)
        return;
    if (osm__ptrs_push(&compose->touched, term))
        compose->all_dirty = true;
    else
        term->touched = true;
}

/* Whoever reads by one of the entry's terms composes its target again. */
static void make_dirty(struct osm_compose *compose, struct osm__entry *entry)
{
    for (size_t i = 0; i < entry->links_len; i++) {
        struct osm__term *term = entry->links[i].term;
        touch(compose, term);
        if (term->dirty.len && term->dirty.list[term->dirty.len - 1] == entry->target)
            continue;
        if (osm__ptrs_push(&term->dirty, entry->target))
            compose->all_dirty = true;
        else
            entry->target->refs++;
    }
}

void osm__entry_unref(struct osm__entry *entry)
{
    if (!entry || --entry->refs)
        return;
    osm_item_free(entry->item);
    osm_free(entry->links);
    osm_free(entry);
}

/* Takes the entry out of its target and terms. */
static void detach(struct osm__entry *entry)
{
    struct osm__target *target = entry->target;
    for (size_t i = 0; i < entry->links_len; i++) {
        struct osm__link *link = &entry->links[i];
        struct osm__ptrs *links = &link->term->links;
        struct osm__link *moved = links->list[--links->len];
        links->list[link->at] = moved;
        moved->at = link->at;
    }
    entry->links_len = 0;
    if (!target)
        return;
    struct osm__entry *moved = target->entries.list[--target->entries.len];
    target->entries.list[entry->at] = moved;
    moved->at = entry->at;
    target->header_rules -= entry->item->header_rule != NULL;
    entry->target = NULL;
    osm__target_unref(target);
}

static int attach(struct osm_compose *compose, struct osm__entry *entry)
{
    const struct osm_item *item = entry->item;
    struct osm__target *target = target_get(compose, item->type, item->resource);
    if (!target)
        return OSM_ENOMEM;
    if (osm__ptrs_push(&target->entries, entry)) {
        osm__target_unref(target);
        return OSM_ENOMEM;
    }
    entry->target = target;
    entry->at = target->entries.len - 1;
    target->header_rules += item->header_rule != NULL;
    entry->links = osm_alloc_array(item->audience_len, sizeof *entry->links);
    if (!entry->links)
        return OSM_ENOMEM;
    for (size_t i = 0; i < item->audience_len; i++) {
        struct osm__term *term = term_get(compose, &item->audience[i]);
        if (!term)
            return OSM_ENOMEM;
        bool known = false;
        for (size_t k = 0; k < entry->links_len && !known; k++)
            known = entry->links[k].term == term;
        if (known)
            continue;
        touch(compose, term); /* even where the rest fails: an unused term is swept by the run */
        struct osm__link *link = &entry->links[entry->links_len];
        *link = (struct osm__link){entry, term, rank_of(term->shape), term->links.len};
        if (osm__ptrs_push(&term->links, link))
            return OSM_ENOMEM;
        entry->links_len++;
    }
    return 0;
}

static void mix(struct osm_hash *sum, const void *data, size_t len)
{
    const struct osm_hash both[2] = {*sum, osm_hash_bytes(data, len)};
    *sum = osm_hash_bytes(both, sizeof both);
}

static void mix_number(struct osm_hash *sum, size_t number)
{
    mix(sum, &number, sizeof number);
}

/* NULL is no text, and not the empty one: that has its NUL. */
static void mix_text(struct osm_hash *sum, const char *text)
{
    mix(sum, text, text ? strlen(text) + 1 : 0);
}

static void mix_texts(struct osm_hash *sum, const char *const *list)
{
    for (size_t i = 0; list && list[i]; i++)
        mix_text(sum, list[i]);
    mix_text(sum, NULL);
}

/* Equal ids: the items can stand for each other in every respect. */
static struct osm_hash identify(const struct osm_item *item)
{
    struct osm_hash id = item->body ? osm_bytes_hash(item->body) : (struct osm_hash){0, 0};
    mix_number(&id, (size_t)item->type << 4 | (size_t)item->part << 2 | (size_t)item->alone << 1 |
                        (size_t)item->authorises);
    mix_text(&id, item->key);
    mix_text(&id, item->resource);
    mix_text(&id, item->element);
    mix_text(&id, item->unique);
    mix_text(&id, item->header_rule);
    mix_text(&id, item->place);
    mix_text(&id, item->extended);
    mix_texts(&id, item->domains);
    mix_texts(&id, item->tags);
    mix_number(&id, item->audience_len);
    for (size_t i = 0; i < item->audience_len; i++) {
        mix_text(&id, item->audience[i].pod);
        mix_text(&id, item->audience[i].service);
        mix_text(&id, item->audience[i].account);
        mix_text(&id, item->audience[i].ns);
    }
    for (size_t i = 0; i < item->refs_len; i++) {
        mix_number(&id, (size_t)item->refs[i].kind);
        mix_text(&id, item->refs[i].name);
    }
    return id;
}

/* ---- items ---- */

struct osm_compose *osm_compose_new(osm_compose_header_fn *header, osm_compose_header_gone_fn *gone,
                                    void *ud)
{
    struct osm_compose *compose = osm_alloc(sizeof *compose);
    if (compose)
        *compose = (struct osm_compose){
            .header = header, .gone = gone, .ud = ud, .items = OSM_MAP_INIT_BORROWS};
    return compose;
}

static void entry_remove(struct osm_compose *compose, struct osm__entry *entry)
{
    make_dirty(compose, entry);
    detach(entry);
    osm__entry_unref(entry);
}

int osm_compose_put(struct osm_compose *compose, struct osm_item *item)
{
    int rc = 0;
    struct osm_hash id;
    struct osm__entry *entry = NULL, *old = osm_map_get(&compose->items, item->key);
    bool element = item->part == OSM_ITEM_ELEMENT,
         ruled = item->part == OSM_ITEM_HEADER && item->header_rule;
    if ((item->part != OSM_ITEM_WHOLE && !osm__element_field(item->type, NULL)) ||
        element != (item->element != NULL) || ruled != (item->body == NULL)) {
        rc = OSM_EINVAL;
        goto out;
    }
    id = identify(item);
    if (old && osm_hash_equal(old->id, id))
        goto out;
    entry = osm_alloc(sizeof *entry);
    if (!entry) {
        rc = OSM_ENOMEM;
        goto out;
    }
    *entry = (struct osm__entry){.refs = 1, .item = item, .id = id};
    rc = attach(compose, entry);
    if (!rc)
        rc = osm_map_put(&compose->items, item->key, entry, NULL);
    item = NULL;
    if (rc) {
        detach(entry);
        osm__entry_unref(entry);
        goto out;
    }
    make_dirty(compose, entry);
    if (old)
        entry_remove(compose, old);
out:
    osm_item_free(item);
    return rc;
}

void osm_compose_remove(struct osm_compose *compose, const char *key)
{
    struct osm__entry *entry = osm_map_get(&compose->items, key);
    if (!entry)
        return;
    (void)osm_map_del(&compose->items, key);
    entry_remove(compose, entry);
}

bool osm_compose_dirty(const struct osm_compose *compose)
{
    return compose->touched.len || compose->all_dirty;
}

size_t osm_compose_items(const struct osm_compose *compose)
{
    return compose->items.count;
}

void osm_compose_forget_headers(struct osm_compose *compose)
{
    compose->header_generation++;
    osm__headers_clear(compose);
    osm_map_each (&compose->targets, e) {
        struct osm__target *target = e->value;
        for (size_t i = 0; target->header_rules && i < target->entries.len; i++) {
            struct osm__entry *entry = target->entries.list[i];
            if (entry->item->header_rule)
                make_dirty(compose, entry);
        }
    }
}

void osm_compose_free(struct osm_compose *compose)
{
    if (!compose)
        return;
    osm__readers_clear(compose);
    osm_map_each (&compose->groups, e)
        osm__group_free(compose, e->value);
    osm_map_each (&compose->items, e) {
        detach(e->value);
        osm__entry_unref(e->value);
    }
    osm_map_each (&compose->terms, e)
        term_free(e->value);
    osm__headers_clear(compose);
    osm__ptrs_clear(&compose->touched);
    osm_map_clear(&compose->groups);
    osm_map_clear(&compose->items);
    osm_map_clear(&compose->terms);
    osm_map_clear(&compose->targets);
    osm_map_clear(&compose->resources);
    osm_map_clear(&compose->classes);
    osm_free(compose);
}

/* ---- the run ---- */

/* A term that has come or gone changes which terms its readers match. */
static int match_terms(struct osm_compose *compose, struct osm__ptrs *rematch)
{
    for (size_t i = 0; i < compose->touched.len; i++) {
        struct osm__term *term = compose->touched.list[i];
        if (term->alive == (term->links.len > 0))
            continue;
        int rc = osm__readers_of(compose, term, rematch);
        if (rc)
            return rc;
    }
    for (size_t i = 0; i < compose->touched.len; i++) {
        struct osm__term *term = compose->touched.list[i];
        if (!term->alive && term->links.len)
            compose->shapes[term->shape]++;
        else if (term->alive && !term->links.len)
            compose->shapes[term->shape]--;
        term->alive = term->links.len > 0;
    }
    return 0;
}

static int queue_group(struct osm__group *group, struct osm__ptrs *groups)
{
    if (group->queued)
        return 0;
    int rc = osm__ptrs_push(groups, group);
    group->queued = !rc;
    return rc;
}

static int spread_dirt(struct osm_compose *compose, struct osm__ptrs *groups)
{
    for (size_t i = 0; i < compose->touched.len; i++) {
        struct osm__term *term = compose->touched.list[i];
        for (size_t g = 0; term->dirty.len && g < term->groups.len; g++) {
            struct osm__group *group = term->groups.list[g];
            if (queue_group(group, groups))
                return OSM_ENOMEM;
            for (size_t d = 0; !group->full && d < term->dirty.len; d++) {
                struct osm__target *target = term->dirty.list[d];
                if (osm__ptrs_push(&group->dirty, target))
                    return OSM_ENOMEM;
                target->refs++;
            }
        }
    }
    return 0;
}

/* Terms are freed where nothing uses them; dead groups have left them by now. */
static void settle(struct osm_compose *compose)
{
    for (size_t i = 0; i < compose->touched.len; i++) {
        struct osm__term *term = compose->touched.list[i];
        for (size_t d = 0; d < term->dirty.len; d++)
            osm__target_unref(term->dirty.list[d]);
        term->dirty.len = 0;
        term->touched = false;
        if (!term->links.len && !term->groups.len) {
            (void)osm_map_deln(&compose->terms, term->key, term->key_len);
            term_free(term);
        }
    }
    compose->touched.len = 0;
}

/* After a failure nothing of the lists can be trusted: touch all, match all, compose all. */
static int start_over(struct osm_compose *compose, struct osm__ptrs *rematch,
                      struct osm__ptrs *groups)
{
    osm_map_each (&compose->terms, e) {
        struct osm__term *term = e->value;
        if (!term->touched && osm__ptrs_push(&compose->touched, term))
            return OSM_ENOMEM;
        term->touched = true;
    }
    for (size_t i = 0; i < compose->readers.len; i++) {
        struct osm__reader *reader = compose->readers.list[i];
        if (!reader->queued && osm__ptrs_push(rematch, reader))
            return OSM_ENOMEM;
        reader->queued = true;
    }
    osm_map_each (&compose->groups, e) {
        struct osm__group *group = e->value;
        group->full = true;
        if (queue_group(group, groups))
            return OSM_ENOMEM;
    }
    return 0;
}

static int update(struct osm_compose *compose, const struct osm_reader *readers, size_t len,
                  struct osm_err *err)
{
    struct osm__ptrs rematch = {0}, groups = {0};
    int rc = osm__readers_set(compose, readers, len, &rematch, err);
    if (!rc && compose->all_dirty)
        rc = start_over(compose, &rematch, &groups);
    if (!rc)
        rc = match_terms(compose, &rematch);
    if (!rc)
        rc = osm__readers_match(compose, &rematch, &groups);
    if (!rc)
        rc = spread_dirt(compose, &groups);
    for (size_t i = 0; i < groups.len; i++) {
        struct osm__group *group = groups.list[i];
        group->queued = false;
        if (!rc && group->readers)
            rc = osm__group_compose(compose, group);
    }
    for (size_t i = 0; i < rematch.len; i++)
        ((struct osm__reader *)rematch.list[i])->queued = false;
    osm_map_each (&compose->groups, e) {
        if (!((struct osm__group *)e->value)->readers)
            osm__group_free(compose, e->value);
    }
    if (rc != OSM_EINVAL)
        compose->all_dirty = rc != 0;
    if (!rc)
        settle(compose);
    osm__ptrs_clear(&rematch);
    osm__ptrs_clear(&groups);
    return rc == OSM_EINVAL ? rc : rc ? osm_fail(err, rc, "composition: %s", osm_code_text(rc)) : 0;
}

static void proxies_free(struct osm_snapshot_proxy *list, size_t len)
{
    for (size_t i = 0; list && i < len; i++) {
        free_text(list[i].key);
        free_text(list[i].pod);
        free_text(list[i].ns);
        free_text(list[i].account);
        osm_class_unref(list[i].cls);
    }
    osm_free(list);
}

static struct osm_snapshot_proxy *proxies_of(const struct osm_compose *compose)
{
    struct osm_snapshot_proxy *list = osm_alloc_array(compose->readers.len, sizeof *list);
    for (size_t i = 0; list && i < compose->readers.len; i++) {
        const struct osm__reader *reader = compose->readers.list[i];
        list[i] = (struct osm_snapshot_proxy){osm_strdup(reader->key), osm_strdup(reader->pod),
                                              osm_strdup(reader->ns), osm_strdup(reader->account),
                                              osm_class_ref(reader->group->cls->cls)};
        if (!list[i].key || !list[i].pod || !list[i].ns || !list[i].account) {
            proxies_free(list, i + 1);
            return NULL;
        }
    }
    return list;
}

static int append_text(const char *text, size_t len, void *buf)
{
    return osm_buf_add(buf, text, len);
}

static int collect(struct osm_map *found, const json_t *reports)
{
    size_t i;
    json_t *report;
    json_array_foreach (reports, i, report) {
        struct osm_buf text = OSM_BUF_INIT(KEY_MAX);
        int rc = json_dump_callback(report, append_text, &text, JSON_COMPACT | JSON_SORT_KEYS)
                     ? OSM_ENOMEM
                     : 0;
        if (!rc)
            rc = osm_map_putn(found, text.data, text.len, report, NULL);
        osm_buf_clear(&text);
        if (rc)
            return rc;
    }
    return 0;
}

/* All that stands to be reported, once each, in a fixed order. */
static int report_all(struct osm_compose *compose, json_t *errors)
{
    struct osm_map found = OSM_MAP_INIT;
    int rc = 0;
    size_t n = 0;
    const char **keys = NULL;
    osm_map_each (&compose->groups, e) {
        const struct osm__group *group = e->value;
        for (size_t i = 0; !rc && group->reports && i < group->parts_len; i++) {
            const struct osm__part *part = &group->parts[i];
            rc = collect(&found, part->composed ? part->composed->reports : NULL);
            if (!rc)
                rc = collect(&found, part->excluded);
            if (!rc)
                rc = collect(&found, part->dangling);
        }
    }
    if (!rc && found.count) {
        keys = osm_map_sorted_keys(&found, &n);
        rc = keys ? 0 : OSM_ENOMEM;
    }
    for (size_t i = 0; !rc && i < n; i++)
        if (json_array_append(errors, osm_map_get(&found, keys[i])))
            rc = OSM_ENOMEM;
    osm_free(keys);
    osm_map_clear(&found);
    return rc;
}

int osm_compose_run(struct osm_compose *compose, const struct osm_reader *readers,
                    size_t readers_len, struct osm_snapshot_proxy **out, json_t *errors,
                    struct osm_err *err)
{
    int rc = update(compose, readers, readers_len, err);
    if (rc)
        return rc;
    struct osm_snapshot_proxy *proxies = proxies_of(compose);
    rc = proxies ? report_all(compose, errors) : OSM_ENOMEM;
    if (rc) {
        proxies_free(proxies, readers_len);
        return osm_fail(err, rc, "composition: %s", osm_code_text(rc));
    }
    *out = proxies;
    return 0;
}
