/* What may go out next. A walk over the view and the entries of a type, both sorted by name, judges
 * each name once; the counts of a walk are kept until something changes. Gates between the types
 * decide what may go; making a response first allocates everything and then commits, so that
 * running out of memory changes nothing. */
#include "xds/stream_priv.h"

#include <string.h>

enum judgement {
    NOTHING,
    ADD,     /* new, changed, or asked for */
    SUSPECT, /* part of what was refused, to be sent in a group of its own */
    GONE,    /* the client has it, or may have it; the view does not */
    TELL,    /* delta: asked for, and does not exist */
    WAITING  /* a secret that will come */
};

struct step {
    const char *name;
    struct osm_resource *resource; /* of the view; NULL: absent, or to come */
    struct osm__entry *entry;      /* NULL: none yet */
    uint32_t group;                /* of a suspect */
    enum judgement what;
    bool unreferenced; /* absent from the view, and may go without waiting */
};

struct walk {
    const struct osm_stream *stream;
    const struct osm__type *t;
    struct osm__cursor cursor;
    struct osm__item item;
    bool have_item;
    size_t at;
};

static struct walk walk_begin(const struct osm_stream *stream, enum osm_xds_type type)
{
    struct walk w = {
        .stream = stream, .t = &stream->types[type], .cursor = {&stream->view, type, 0, 0}};
    w.have_item = osm__cursor_next(&w.cursor, &w.item);
    return w;
}

static bool lacks(const struct osm__entry *e)
{
    return e->state == OSM__LACKS || e->state == OSM__LEAVING;
}

static enum judgement judge_present(const struct osm__entry *e, const struct osm_resource *r)
{
    if (!e || lacks(e))
        return ADD;
    if (e->state == OSM__UNKNOWN)
        return e->held && !e->ask ? NOTHING : e->group ? SUSPECT : ADD;
    if (e->ask)
        return ADD;
    return strcmp(e->resource->version, r->version) != 0 ? ADD : NOTHING;
}

static enum judgement judge_absent(const struct walk *w, const struct osm__entry *e)
{
    bool sotw = w->stream->mode == OSM_STREAM_SOTW;
    bool can_take = !sotw || w->cursor.type == OSM_XDS_CDS || w->cursor.type == OSM_XDS_LDS;
    if (e->state == OSM__HAS || (e->state == OSM__UNKNOWN && !e->held))
        return can_take ? GONE : NOTHING;
    bool asked = e->named || e->ask; /* ask without named: given up, but part of a wildcard */
    return e->state == OSM__LACKS && !sotw && asked && !e->told ? TELL : NOTHING;
}

/* The client has been sent no listener and no route since the cluster came: nothing of it can refer
 * to the cluster. */
static bool unreferenced(const struct walk *w, const struct osm__entry *e)
{
    const struct osm__type *lds = &w->stream->types[OSM_XDS_LDS];
    const struct osm__type *rds = &w->stream->types[OSM_XDS_RDS];
    return w->cursor.type == OSM_XDS_CDS && lds->ever_sent && lds->last_seq < e->since &&
           (rds->ever_sent || !rds->subscribed) && rds->last_seq < e->since;
}

static struct step step_absent(const struct walk *w, struct osm__entry *e)
{
    return (struct step){.name = e->resource->name,
                         .entry = e,
                         .what = judge_absent(w, e),
                         .unreferenced = unreferenced(w, e)};
}

/* The next name that is subscribed to or has an entry. */
static bool walk_next(struct walk *w, struct step *out)
{
    for (;;) {
        struct osm__entry *e = w->at < w->t->len ? &w->t->entries[w->at] : NULL;
        if (!w->have_item && !e)
            return false;
        int order = !w->have_item ? 1 : !e ? -1 : strcmp(w->item.name, e->resource->name);
        struct osm__item item = w->item;
        if (order <= 0)
            w->have_item = osm__cursor_next(&w->cursor, &w->item);
        if (order >= 0)
            w->at++;
        if (order > 0) {
            *out = step_absent(w, e);
            return true;
        }
        if (order < 0)
            e = NULL;
        if (!(e && e->named) && !(w->t->wildcard && !item.by_name_only)) {
            if (!e)
                continue;
            *out = step_absent(w, e);
            return true;
        }
        *out = (struct step){item.name, item.resource, e, e ? e->group : 0, WAITING, false};
        if (item.resource)
            out->what = judge_present(e, item.resource);
        else if (e && !lacks(e))
            out->what = NOTHING;
        return true;
    }
}

static void plan(struct osm_stream *stream, enum osm_xds_type type)
{
    struct osm__type *t = &stream->types[type];
    if (t->planned)
        return;
    t->adds = t->urgent = t->gone = t->tell = t->waiting = 0;
    t->next_group = 0;
    t->planned = true;
    if (!t->subscribed || !stream->view.cls)
        return;
    struct walk w = walk_begin(stream, type);
    for (struct step s; walk_next(&w, &s);) {
        t->adds += s.what == ADD;
        t->urgent += s.what == ADD && (!s.entry || s.entry->ask || lacks(s.entry));
        if (s.what == SUSPECT && (!t->next_group || s.group < t->next_group))
            t->next_group = s.group;
        t->gone += s.what == GONE;
        t->tell += s.what == TELL;
        t->waiting += s.what == WAITING;
    }
}

static void plan_all(struct osm_stream *stream)
{
    for (int i = 0; i < OSM_XDS_TYPE_COUNT; i++)
        plan(stream, (enum osm_xds_type)i);
}

struct osm_hash osm__type_version(const struct osm__type *t)
{
    struct osm_hash chain[3] = {{0, 0}};
    for (size_t i = 0; i < t->len; i++) {
        const struct osm__entry *e = &t->entries[i];
        if (lacks(e))
            continue;
        chain[1] = osm_hash_bytes(e->resource->name, strlen(e->resource->name));
        chain[2] = osm_hash_bytes(e->resource->version, strlen(e->resource->version));
        chain[0] = osm_hash_bytes(chain, sizeof chain);
    }
    return chain[0];
}

/* ---- gates ---- */

/* No cluster that LDS or RDS may refer to is unsent or unanswered. */
static bool clusters_ready(const struct osm_stream *stream)
{
    const struct osm__type *cds = &stream->types[OSM_XDS_CDS];
    if (!cds->subscribed)
        return true;
    if (cds->adds || cds->owed)
        return false;
    for (unsigned i = 0; i < cds->inflight_len; i++)
        if (cds->inflight[i].adds && cds->inflight[i].seq > stream->waived)
            return false;
    return true;
}

/* LDS, RDS. */
static bool may_follow_clusters(const struct osm_stream *stream, const struct osm__type *t)
{
    const struct osm__type *cds = &stream->types[OSM_XDS_CDS];
    bool newcomer = !t->ever_sent && !t->claims && !cds->claims && !cds->ever_answered;
    return newcomer || clusters_ready(stream);
}

static bool settled(const struct osm_stream *stream, enum osm_xds_type type)
{
    const struct osm__type *t = &stream->types[type];
    if (!t->subscribed)
        return !t->expected;
    return !t->adds && !t->owed && !t->gone && !t->inflight_len && !t->nacked;
}

/* Nothing that is still there can refer to what goes now. */
static bool may_remove(const struct osm_stream *stream, enum osm_xds_type type)
{
    switch (type) {
    case OSM_XDS_LDS:
        return true;
    case OSM_XDS_RDS:
        return settled(stream, OSM_XDS_LDS);
    case OSM_XDS_SDS:
        return settled(stream, OSM_XDS_CDS) && settled(stream, OSM_XDS_LDS) &&
               settled(stream, OSM_XDS_RDS);
    case OSM_XDS_EDS:
        return may_remove(stream, OSM_XDS_CDS) && !stream->types[OSM_XDS_CDS].gone;
    case OSM_XDS_CDS:
    case OSM_XDS_TYPE_COUNT:
        break;
    }
    return settled(stream, OSM_XDS_LDS) && settled(stream, OSM_XDS_RDS);
}

/* May additions and changes of the type go now? */
static bool may_add(const struct osm_stream *stream, enum osm_xds_type type)
{
    const struct osm__type *t = &stream->types[type];
    const struct osm__type *lds = &stream->types[OSM_XDS_LDS], *rds = &stream->types[OSM_XDS_RDS];
    switch (type) {
    case OSM_XDS_LDS:
        return (t->adds || t->owed || t->tell || t->gone) && may_follow_clusters(stream, t);
    case OSM_XDS_RDS:
        return (t->adds || t->owed || t->tell) && may_follow_clusters(stream, t);
    case OSM_XDS_SDS:
        return t->urgent || t->tell || t->owed || (t->adds && !lds->adds && !rds->adds);
    case OSM_XDS_CDS:
    case OSM_XDS_EDS:
    case OSM_XDS_TYPE_COUNT:
        break;
    }
    return t->adds || t->owed || t->tell;
}

/* May a group of what was refused go now? It holds nothing back: the refusal was an answer. */
static bool may_try_again(const struct osm_stream *stream, enum osm_xds_type type)
{
    const struct osm__type *t = &stream->types[type];
    bool follows = type == OSM_XDS_LDS || type == OSM_XDS_RDS;
    return t->next_group && (!follows || may_follow_clusters(stream, t));
}

/* ---- responses ---- */

/* What a response is to hold. */
struct selection {
    bool remove;    /* tells also what goes */
    uint32_t group; /* of what was refused; 0: all that is not in one */
};

void osm_stream_response_clear(struct osm_stream_response *response)
{
    for (size_t i = 0; i < response->resources_len; i++)
        osm_resource_unref(response->resources[i]);
    for (size_t i = 0; i < response->removed_len; i++)
        osm_free(response->removed[i]);
    osm_free(response->resources);
    osm_free(response->removed);
    *response = (struct osm_stream_response){0};
}

/* Is it away after the response? A new cluster that was refused, and is not wanted any more, must
 * not spoil the next response too. */
static bool goes(const struct step *s, struct selection pick)
{
    return s->what == GONE && !pick.group && (pick.remove || s->unreferenced);
}

/* Is the step's resource part of the response, and in which form? */
static struct osm_resource *carried(const struct osm_stream *stream, const struct step *s,
                                    struct selection pick)
{
    if (stream->mode == OSM_STREAM_DELTA)
        return (pick.group ? s->what == SUSPECT && s->group == pick.group : s->what == ADD)
                   ? s->resource
                   : NULL;
    if (s->what == GONE)
        return goes(s, pick) ? NULL : s->entry->resource;
    return s->resource;
}

static bool told(const struct step *s, struct selection pick)
{
    return goes(s, pick) || (s->what == TELL && !pick.group);
}

static bool told_gone(const struct osm_stream *stream, const struct step *s, struct selection pick)
{
    return stream->mode == OSM_STREAM_DELTA && told(s, pick);
}

static int collect(const struct osm_stream *stream, enum osm_xds_type type, struct selection pick,
                   struct osm_stream_response *r, size_t *entries_len)
{
    size_t resources = 0, removed = 0, entries = 0;
    struct walk w = walk_begin(stream, type);
    for (struct step s; walk_next(&w, &s); entries++) {
        resources += carried(stream, &s, pick) != NULL;
        removed += told_gone(stream, &s, pick);
    }
    *entries_len = entries;
    r->resources = osm_alloc_array(resources, sizeof *r->resources);
    r->removed = osm_alloc_array(removed, sizeof *r->removed);
    if (!r->resources || !r->removed)
        return OSM_ENOMEM;
    w = walk_begin(stream, type);
    for (struct step s; walk_next(&w, &s);) {
        struct osm_resource *body = carried(stream, &s, pick);
        if (body)
            r->resources[r->resources_len++] = osm_resource_ref(body);
        if (told_gone(stream, &s, pick)) {
            r->removed[r->removed_len] = osm_strdup(s.name);
            if (!r->removed[r->removed_len])
                return OSM_ENOMEM;
            r->removed_len++;
        }
    }
    return 0;
}

/* The entry of a step once the response with number @p seq is out. Returns false when the client
 * need not be remembered to know the name. References move from the old entry or are taken. */
static bool entry_after(const struct osm_stream *stream, const struct step *s,
                        struct selection pick, uint64_t seq, struct osm__entry *out)
{
    struct osm_resource *body = carried(stream, s, pick);
    *out = s->entry ? *s->entry : (struct osm__entry){0};
    if (body) {
        if (out->resource != body) {
            osm_resource_unref(out->resource);
            out->resource = osm_resource_ref(body);
        }
        if (!s->entry || lacks(s->entry))
            out->since = seq;
        out->seq = seq;
        out->group = pick.group;
        out->state = OSM__HAS;
        out->ask = out->held = out->told = false;
        return true;
    }
    if (!s->entry)
        return false; /* a secret to come, of the wildcard; or not part of the group */
    if (told(s, pick)) {
        out->state =
            s->what == GONE && stream->mode == OSM_STREAM_DELTA ? OSM__LEAVING : OSM__LACKS;
        out->seq = seq;
        out->ask = out->held = false;
        out->told = true;
    }
    if (out->state == OSM__LACKS && !out->named) {
        osm_resource_unref(out->resource);
        return false;
    }
    return true;
}

static int respond(struct osm_stream *stream, enum osm_xds_type type, struct selection pick,
                   struct osm_stream_response *out)
{
    struct osm__type *t = &stream->types[type];
    struct osm_stream_response r = {.type = type};
    size_t cap, len = 0;
    int rc = collect(stream, type, pick, &r, &cap);
    struct osm__entry *fresh = rc ? NULL : osm_alloc_array(cap, sizeof *fresh);
    if (!fresh) {
        osm_stream_response_clear(&r);
        return OSM_ENOMEM;
    }
    uint64_t seq = ++stream->seq;
    bool adds = !pick.group && t->adds > 0;
    struct osm__type *eds = &stream->types[OSM_XDS_EDS];
    struct walk w = walk_begin(stream, type);
    for (struct step s; walk_next(&w, &s);) {
        bool again =
            stream->mode == OSM_STREAM_SOTW ? s.what == ADD : carried(stream, &s, pick) != NULL;
        if (type == OSM_XDS_CDS && again) {
            struct osm__entry *warms = osm__entry_find(eds, s.name);
            if (warms)
                warms->ask = true;
        }
        if (entry_after(stream, &s, pick, seq, &fresh[len]))
            len++;
    }
    osm_free(t->entries);
    t->entries = fresh;
    t->len = len;
    t->planned = eds->planned = false;
    t->owed = t->owed && pick.group;
    t->ever_sent = true;
    t->last_seq = seq;
    struct osm__sent sent = {seq, osm__type_version(t), t->epoch, adds, r.resources_len == 1};
    if (stream->mode == OSM_STREAM_SOTW && t->inflight_len) {
        /* Only the newest nonce counts; what the one before added is not answered yet either. */
        sent.adds = sent.adds || t->inflight[0].adds;
        t->inflight_len = 0;
    }
    t->inflight[t->inflight_len++] = sent;
    (void)osm_hash_hex(sent.version, r.version);
    osm__nonce(stream, seq, r.nonce);
    *out = r;
    return 1;
}

int osm_stream_next(struct osm_stream *stream, struct osm_stream_response *out)
{
    if (!stream->view.cls)
        return 0;
    plan_all(stream);
    for (int i = 0; i < OSM_XDS_TYPE_COUNT; i++) {
        enum osm_xds_type type = (enum osm_xds_type)i;
        const struct osm__type *t = &stream->types[type];
        bool full = stream->mode == OSM_STREAM_DELTA && t->inflight_len == OSM__INFLIGHT_MAX;
        if (!t->subscribed || full)
            continue;
        if (may_add(stream, type))
            return respond(stream, type, (struct selection){.remove = may_remove(stream, type)},
                           out);
        if (may_try_again(stream, type))
            return respond(stream, type, (struct selection){.group = t->next_group}, out);
    }
    static const enum osm_xds_type removal[] = {OSM_XDS_RDS, OSM_XDS_CDS, OSM_XDS_EDS, OSM_XDS_SDS};
    for (size_t i = 0; i < sizeof removal / sizeof removal[0]; i++) {
        const struct osm__type *t = &stream->types[removal[i]];
        bool full = stream->mode == OSM_STREAM_DELTA && t->inflight_len == OSM__INFLIGHT_MAX;
        if (t->gone && !full && may_remove(stream, removal[i]))
            return respond(stream, removal[i], (struct selection){.remove = true}, out);
    }
    return 0;
}

/* ---- what is left ---- */

/* A removal that only a refusal holds back cannot be waited for. */
static bool removal_refused(const struct osm_stream *stream, enum osm_xds_type type)
{
    const struct osm__type *t = stream->types;
    bool upper = t[OSM_XDS_LDS].nacked || (type != OSM_XDS_RDS && t[OSM_XDS_RDS].nacked);
    return type != OSM_XDS_LDS && (upper || (type == OSM_XDS_SDS && t[OSM_XDS_CDS].nacked));
}

static bool type_due(struct osm_stream *stream, enum osm_xds_type type)
{
    const struct osm__type *t = &stream->types[type];
    plan_all(stream);
    if (!t->subscribed)
        return t->expected;
    return !stream->view.cls || t->adds || t->next_group || t->owed || t->tell || t->waiting ||
           t->inflight_len || (t->gone && !removal_refused(stream, type));
}

bool osm_stream_due(struct osm_stream *stream)
{
    bool any = false;
    for (int i = 0; i < OSM_XDS_TYPE_COUNT; i++) {
        any = any || stream->types[i].subscribed;
        if (type_due(stream, (enum osm_xds_type)i))
            return true;
    }
    return !any;
}

bool osm_stream_waits(struct osm_stream *stream)
{
    plan_all(stream);
    const struct osm__type *lds = &stream->types[OSM_XDS_LDS], *rds = &stream->types[OSM_XDS_RDS];
    return (lds->adds || lds->gone || lds->next_group || rds->adds || rds->next_group) &&
           !clusters_ready(stream);
}

struct osm_stream_type_state osm_stream_type_state(struct osm_stream *stream,
                                                   enum osm_xds_type type)
{
    const struct osm__type *t = &stream->types[type];
    struct osm_stream_type_state state = {.subscribed = t->subscribed,
                                          .due = type_due(stream, type),
                                          .acked = t->acked,
                                          .nacked = t->nacked,
                                          .error = t->nacked && t->error ? t->error : ""};
    if (t->acked)
        (void)osm_hash_hex(t->acked_version, state.acked_version);
    if (t->nacked)
        (void)osm_hash_hex(t->nacked_version, state.nacked_version);
    return state;
}
