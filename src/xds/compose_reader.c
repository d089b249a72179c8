/* Readers, the terms that match them, and the groups of those who match the same. */
#include "xds/compose_priv.h"

#include <stdlib.h>
#include <string.h>

enum { KEY_MAX = 64 * 1024 };

static void reader_free(struct osm__reader *r)
{
    if (!r)
        return;
    osm_free(r->services);
    osm_free(r->text);
    osm_free(r);
}

/* Appends text and NUL; where it begins goes to *at, as an offset until the buffer stands still. */
static size_t keep(struct osm_buf *out, const char *ns, const char *name)
{
    size_t at = out->len;
    if (ns)
        (void)osm_buf_add_strs(out, ns, "/", NULL);
    (void)osm_buf_add(out, name, strlen(name) + 1);
    return at;
}

static struct osm__reader *reader_new(const struct osm_reader *from)
{
    struct osm_buf text = OSM_BUF_INIT(1u << 20);
    struct osm__reader *r = osm_alloc(sizeof *r);
    size_t *at = osm_alloc_array(6 + from->services_len, sizeof *at);
    if (!r || !at)
        goto fail;
    r->services = osm_alloc_array(from->services_len, sizeof *r->services);
    at[0] = keep(&text, NULL, from->key);
    at[1] = keep(&text, NULL, from->pod);
    at[2] = keep(&text, NULL, from->ns);
    at[3] = keep(&text, NULL, from->account);
    at[4] = keep(&text, from->ns, from->pod);
    at[5] = keep(&text, from->ns, from->account);
    for (size_t i = 0; i < from->services_len; i++)
        at[6 + i] = keep(&text, from->ns, from->services[i]);
    if (!r->services || text.failed)
        goto fail;
    r->text = osm_buf_take(&text);
    r->key = r->text + at[0];
    r->pod = r->text + at[1];
    r->ns = r->text + at[2];
    r->account = r->text + at[3];
    r->pod_key = r->text + at[4];
    r->account_key = r->text + at[5];
    for (size_t i = 0; i < from->services_len; i++)
        r->services[i] = r->text + at[6 + i];
    r->services_len = from->services_len;
    osm_free(at);
    return r;
fail:
    osm_free(at);
    osm_buf_clear(&text);
    reader_free(r);
    return NULL;
}

static bool same(const struct osm__reader *r, const struct osm_reader *from)
{
    size_t ns = strlen(r->ns) + 1;
    if (strcmp(r->pod, from->pod) != 0 || strcmp(r->ns, from->ns) != 0 ||
        strcmp(r->account, from->account) != 0 || r->services_len != from->services_len)
        return false;
    for (size_t i = 0; i < r->services_len; i++)
        if (strcmp(r->services[i] + ns, from->services[i]) != 0)
            return false;
    return true;
}

/* ---- the index from what a term may name to readers ---- */

/* *out: NULL where no reader has the name. Errors: OSM_ENOMEM, OSM_ELIMIT. */
static int index_get(const struct osm_compose *compose, char tag, const char *name,
                     struct osm__ptrs **out)
{
    char room[OSM_BUF_ROOM];
    struct osm_buf key = osm_buf_on(room, sizeof room, KEY_MAX);
    (void)osm_buf_add_char(&key, tag);
    int rc = osm_buf_add_str(&key, name);
    *out = rc ? NULL : osm_map_get(&compose->index, key.data);
    osm_buf_clear(&key);
    return rc;
}

static int index_add(struct osm_compose *compose, char tag, const char *name,
                     struct osm__reader *reader)
{
    char room[OSM_BUF_ROOM];
    struct osm_buf key = osm_buf_on(room, sizeof room, KEY_MAX);
    struct osm__ptrs *list = NULL;
    (void)osm_buf_add_char(&key, tag);
    int rc = osm_buf_add_str(&key, name);
    if (rc)
        goto out;
    list = osm_map_get(&compose->index, key.data);
    if (!list) {
        list = osm_alloc(sizeof *list);
        rc = list ? osm_map_put(&compose->index, key.data, list, NULL) : OSM_ENOMEM;
        if (rc) {
            osm_free(list);
            goto out;
        }
    }
    rc = osm__ptrs_push(list, reader);
out:
    osm_buf_clear(&key);
    return rc;
}

static void index_clear(struct osm_compose *compose)
{
    osm_map_each (&compose->index, e) {
        osm__ptrs_clear(e->value);
        osm_free(e->value);
    }
    osm_map_clear(&compose->index);
}

static int index_reader(struct osm_compose *compose, struct osm__reader *reader)
{
    int rc = index_add(compose, 'p', reader->pod_key, reader);
    if (!rc)
        rc = index_add(compose, 'a', reader->account_key, reader);
    if (!rc)
        rc = index_add(compose, 'n', reader->ns, reader);
    for (size_t i = 0; !rc && i < reader->services_len; i++)
        rc = index_add(compose, 's', reader->services[i], reader);
    return rc;
}

/* Where there is no memory for the key the empty list stays; it does no harm. */
static void index_remove(struct osm_compose *compose, char tag, const char *name)
{
    char room[OSM_BUF_ROOM];
    struct osm_buf key = osm_buf_on(room, sizeof room, KEY_MAX);
    (void)osm_buf_add_char(&key, tag);
    if (!osm_buf_add_str(&key, name)) {
        struct osm__ptrs *list = osm_map_del(&compose->index, key.data);
        if (list)
            osm__ptrs_clear(list);
        osm_free(list);
    }
    osm_buf_clear(&key);
}

static int index_drop(struct osm_compose *compose, char tag, const char *name,
                      const struct osm__reader *reader)
{
    struct osm__ptrs *list;
    int rc = index_get(compose, tag, name, &list);
    for (size_t i = 0; list && i < list->len; i++) {
        if (list->list[i] != reader)
            continue;
        list->list[i] = list->list[--list->len];
        break;
    }
    if (list && !list->len)
        index_remove(compose, tag, name);
    return rc;
}

/* Where it fails the reader may still be in the index. */
static int unindex_reader(struct osm_compose *compose, const struct osm__reader *reader)
{
    int rc = index_drop(compose, 'p', reader->pod_key, reader);
    if (!rc)
        rc = index_drop(compose, 'a', reader->account_key, reader);
    if (!rc)
        rc = index_drop(compose, 'n', reader->ns, reader);
    for (size_t i = 0; !rc && i < reader->services_len; i++)
        rc = index_drop(compose, 's', reader->services[i], reader);
    return rc;
}

/* ---- the set of readers ---- */

int osm__readers_set(struct osm_compose *compose, const struct osm_reader *readers, size_t len,
                     struct osm__ptrs *rematch, struct osm_err *err)
{
    struct osm__ptrs *old = &compose->readers;
    struct osm__ptrs fresh = {0}, made = {0}, gone = {0};
    int rc = 0;
    size_t o = 0;
    for (size_t i = 0; i < len && !rc; i++) {
        if (i && strcmp(readers[i - 1].key, readers[i].key) >= 0) {
            rc = osm_fail(err, OSM_EINVAL,
                          "composition: readers are not sorted by key, or one is there twice");
            break;
        }
        int order = -1;
        while (!rc && o < old->len &&
               (order = strcmp(((struct osm__reader *)old->list[o])->key, readers[i].key)) < 0)
            rc = osm__ptrs_push(&gone, old->list[o++]);
        struct osm__reader *known = o < old->len && !order ? old->list[o++] : NULL;
        if (!rc && known && same(known, &readers[i])) {
            rc = osm__ptrs_push(&fresh, known);
            continue;
        }
        if (!rc && known)
            rc = osm__ptrs_push(&gone, known);
        struct osm__reader *r = rc ? NULL : reader_new(&readers[i]);
        if (!rc && (!r || osm__ptrs_push(&made, r))) {
            reader_free(r);
            rc = OSM_ENOMEM;
        }
        if (!rc)
            rc = osm__ptrs_push(&fresh, r);
    }
    while (!rc && o < old->len)
        rc = osm__ptrs_push(&gone, old->list[o++]);
    if (rc) {
        for (size_t i = 0; i < made.len; i++)
            reader_free(made.list[i]);
        osm__ptrs_clear(&fresh);
        goto out;
    }
    bool rebuild = compose->all_dirty;
    for (size_t i = 0; i < gone.len && !rebuild; i++)
        if (unindex_reader(compose, gone.list[i]))
            rebuild = true; /* it must not stay in the index: it is freed below */
    if (rebuild)
        index_clear(compose);
    for (size_t i = 0; i < gone.len; i++) {
        struct osm__reader *r = gone.list[i];
        if (r->group)
            r->group->readers--;
        reader_free(r);
    }
    osm__ptrs_clear(old);
    *old = fresh;
    struct osm__ptrs *add = rebuild ? old : &made;
    for (size_t i = 0; i < add->len && !rc; i++)
        rc = index_reader(compose, add->list[i]);
    for (size_t i = 0; i < made.len && !rc; i++) {
        rc = osm__ptrs_push(rematch, made.list[i]);
        ((struct osm__reader *)made.list[i])->queued = !rc;
    }
out:
    osm__ptrs_clear(&made);
    osm__ptrs_clear(&gone);
    return rc;
}

static bool matches(const struct osm__term *term, const struct osm__reader *r)
{
    if ((term->pod && strcmp(term->pod, r->pod_key) != 0) ||
        (term->account && strcmp(term->account, r->account_key) != 0) ||
        (term->ns && strcmp(term->ns, r->ns) != 0))
        return false;
    for (size_t i = 0; term->service && i < r->services_len; i++)
        if (!strcmp(term->service, r->services[i]))
            return true;
    return !term->service;
}

int osm__readers_of(struct osm_compose *compose, const struct osm__term *term,
                    struct osm__ptrs *rematch)
{
    const char *name = term->pod       ? term->pod
                       : term->service ? term->service
                       : term->account ? term->account
                                       : term->ns;
    char tag = term->pod ? 'p' : term->service ? 's' : term->account ? 'a' : 'n';
    struct osm__ptrs *list = &compose->readers;
    int rc = name ? index_get(compose, tag, name, &list) : 0;
    if (rc)
        return rc;
    for (size_t i = 0; list && i < list->len; i++) {
        struct osm__reader *r = list->list[i];
        if (r->queued || !matches(term, r))
            continue;
        if (osm__ptrs_push(rematch, r))
            return OSM_ENOMEM;
        r->queued = true;
    }
    return 0;
}

/* ---- groups ---- */

static int by_id(const void *a, const void *b)
{
    const struct osm__term *x = *(struct osm__term *const *)a, *y = *(struct osm__term *const *)b;
    return (x->id > y->id) - (x->id < y->id);
}

static int add_term(struct osm_compose *compose, struct osm_buf *key, const struct osm__reader *r,
                    unsigned shape, const char *service, struct osm__ptrs *terms)
{
    osm_buf_reset(key);
    osm__term_key(key, shape & OSM__BY_POD ? r->pod_key : NULL, service,
                  shape & OSM__BY_ACCOUNT ? r->account_key : NULL,
                  shape & OSM__BY_NS ? r->ns : NULL);
    if (!osm_buf_reserve(key, 0))
        return OSM_ENOMEM;
    struct osm__term *term = osm_map_getn(&compose->terms, key->data, key->len);
    return term && term->alive ? osm__ptrs_push(terms, term) : 0;
}

/* Only shapes that some live term has are looked for. */
static int terms_of(struct osm_compose *compose, const struct osm__reader *r,
                    struct osm__ptrs *terms)
{
    char room[OSM_BUF_ROOM];
    struct osm_buf key = osm_buf_on(room, sizeof room, KEY_MAX);
    int rc = 0;
    terms->len = 0;
    for (unsigned shape = 0; shape < OSM__SHAPES && !rc; shape++) {
        if (!compose->shapes[shape])
            continue;
        if (!(shape & OSM__BY_SERVICE))
            rc = add_term(compose, &key, r, shape, NULL, terms);
        for (size_t i = 0; shape & OSM__BY_SERVICE && i < r->services_len && !rc; i++)
            rc = add_term(compose, &key, r, shape, r->services[i], terms);
    }
    osm_buf_clear(&key);
    if (rc || !terms->len)
        return rc;
    qsort(terms->list, terms->len, sizeof *terms->list, by_id);
    size_t kept = 1;
    for (size_t i = 1; i < terms->len; i++) /* a service that is named twice */
        if (terms->list[i] != terms->list[kept - 1])
            terms->list[kept++] = terms->list[i];
    terms->len = kept;
    return 0;
}

void osm__group_leave_terms(struct osm__group *group)
{
    for (size_t i = 0; i < group->terms_len; i++) {
        struct osm__ptrs *groups = &group->terms[i]->groups;
        for (size_t g = 0; g < groups->len; g++) {
            if (groups->list[g] != group)
                continue;
            groups->list[g] = groups->list[--groups->len];
            break;
        }
    }
}

static struct osm__group *group_new(struct osm_compose *compose, const struct osm__ptrs *terms,
                                    const char *key)
{
    struct osm__group *group = osm_alloc(sizeof *group);
    if (!group)
        return NULL;
    *group = (struct osm__group){.full = true};
    group->key = osm_strdup(key);
    group->terms = osm_alloc_array(terms->len, sizeof *group->terms);
    if (!group->key || !group->terms || osm_map_put(&compose->groups, key, group, NULL))
        goto fail;
    for (size_t i = 0; i < terms->len; i++) {
        struct osm__term *term = terms->list[i];
        if (osm__ptrs_push(&term->groups, group)) {
            (void)osm_map_del(&compose->groups, key);
            goto fail;
        }
        group->terms[group->terms_len++] = term;
    }
    return group;
fail:
    osm__group_leave_terms(group);
    osm_free(group->terms);
    osm_free(group->key);
    osm_free(group);
    return NULL;
}

/* The group of those terms; it is queued where it is new. */
static struct osm__group *group_get(struct osm_compose *compose, const struct osm__ptrs *terms,
                                    struct osm__ptrs *groups)
{
    char room[OSM_BUF_ROOM];
    struct osm_buf key = osm_buf_on(room, sizeof room, 1u << 20);
    struct osm__group *group = NULL;
    for (size_t i = 0; i < terms->len; i++) {
        (void)osm_buf_add_int(&key, (int64_t)((struct osm__term *)terms->list[i])->id);
        (void)osm_buf_add_char(&key, ',');
    }
    if (!osm_buf_reserve(&key, 0))
        goto out;
    group = osm_map_get(&compose->groups, key.data);
    if (!group)
        group = group_new(compose, terms, key.data);
    if (group && group->full && !group->queued) {
        if (osm__ptrs_push(groups, group))
            group = NULL; /* stays in the map without readers, and is swept */
        else
            group->queued = true;
    }
out:
    osm_buf_clear(&key);
    return group;
}

int osm__readers_match(struct osm_compose *compose, struct osm__ptrs *rematch,
                       struct osm__ptrs *groups)
{
    struct osm__ptrs terms = {0};
    int rc = 0;
    for (size_t i = 0; i < rematch->len && !rc; i++) {
        struct osm__reader *r = rematch->list[i];
        rc = terms_of(compose, r, &terms);
        struct osm__group *group = rc ? NULL : group_get(compose, &terms, groups);
        if (!group) {
            rc = OSM_ENOMEM;
            break;
        }
        group->readers++;
        if (r->group)
            r->group->readers--;
        r->group = group;
    }
    osm__ptrs_clear(&terms);
    return rc;
}

void osm__readers_clear(struct osm_compose *compose)
{
    index_clear(compose);
    for (size_t i = 0; i < compose->readers.len; i++)
        reader_free(compose->readers.list[i]);
    osm__ptrs_clear(&compose->readers);
}
