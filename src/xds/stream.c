/* Requests and views: what the client subscribes to, has, and has refused. */
#include "xds/stream_priv.h"

#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool has_wildcard(enum osm_xds_type type)
{
    return type == OSM_XDS_CDS || type == OSM_XDS_LDS;
}

static void entries_free(struct osm__type *t)
{
    for (size_t i = 0; i < t->len; i++)
        osm_resource_unref(t->entries[i].resource);
    osm_free(t->entries);
    t->entries = NULL;
    t->len = 0;
}

static void view_clear(struct osm__view *view)
{
    osm_class_unref(view->cls);
    for (size_t i = 0; i < view->secrets_len; i++) {
        osm_free(view->secrets[i].name);
        osm_resource_unref(view->secrets[i].resource);
    }
    *view = (struct osm__view){0};
}

struct osm_stream *osm_stream_new(enum osm_stream_mode mode, uint64_t tag)
{
    struct osm_stream *stream = osm_alloc(sizeof *stream);
    if (!stream)
        return NULL;
    stream->mode = mode;
    stream->tag = tag;
    return stream;
}

void osm_stream_free(struct osm_stream *stream)
{
    if (!stream)
        return;
    view_clear(&stream->view);
    for (int i = 0; i < OSM_XDS_TYPE_COUNT; i++) {
        entries_free(&stream->types[i]);
        osm_free(stream->types[i].error);
    }
    osm_free(stream);
}

enum osm_stream_mode osm_stream_mode(const struct osm_stream *stream)
{
    return stream->mode;
}

void osm__nonce(const struct osm_stream *stream, uint64_t seq, char out[OSM_NONCE_SIZE])
{
    (void)snprintf(out, OSM_NONCE_SIZE, "%llx-%llu", (unsigned long long)stream->tag,
                   (unsigned long long)seq);
}

static int name_against(const void *name, const void *entry)
{
    return strcmp(name, ((const struct osm__entry *)entry)->resource->name);
}

struct osm__entry *osm__entry_find(const struct osm__type *t, const char *name)
{
    return t->len ? bsearch(name, t->entries, t->len, sizeof *t->entries, name_against) : NULL;
}

/* Refused, and not accepted since: what was sent again and has no answer is that still. */
static bool any_refused(const struct osm__type *t)
{
    for (size_t i = 0; i < t->len; i++)
        if (t->entries[i].state == OSM__UNKNOWN ||
            (t->entries[i].state == OSM__HAS && t->entries[i].group))
            return true;
    return false;
}

static bool takes_by_omission(const struct osm_stream *stream, enum osm_xds_type type)
{
    return stream->mode == OSM_STREAM_SOTW && has_wildcard(type);
}

/* A refusal stands while there is something that it made unknown; once that is not wanted any more,
 * it is void. A refused state of the world may also have taken clusters or listeners away by
 * leaving them out: that one stands while any are wanted. */
static void review_refusal(struct osm_stream *stream, enum osm_xds_type type)
{
    struct osm__type *t = &stream->types[type];
    bool by_omission = takes_by_omission(stream, type) && (t->wildcard || t->len);
    if (!by_omission && !t->inflight_len && !any_refused(t))
        t->nacked = false;
}

static void all_unplanned(struct osm_stream *stream)
{
    for (int i = 0; i < OSM_XDS_TYPE_COUNT; i++)
        stream->types[i].planned = false;
}

/* ---- views ---- */

bool osm__cursor_next(struct osm__cursor *c, struct osm__item *out)
{
    const struct osm_class *cls = c->view->cls;
    struct osm_resource *r =
        cls && c->at < cls->types[c->type].len ? cls->types[c->type].list[c->at] : NULL;
    bool secret = c->type == OSM_XDS_SDS && c->secret_at < c->view->secrets_len;
    int order = !r ? 1 : !secret ? -1 : strcmp(r->name, c->view->secrets[c->secret_at].name);
    if (!r && !secret)
        return false;
    if (order <= 0)
        c->at++;
    if (order < 0) {
        *out = (struct osm__item){r->name, r, false};
        return true;
    }
    size_t i = c->secret_at++;
    *out = (struct osm__item){c->view->secrets[i].name, c->view->secrets[i].resource,
                              c->view->secrets[i].by_name_only};
    return true;
}

static bool next_subscribed(const struct osm__type *t, struct osm__cursor *c, struct osm__item *out)
{
    while (osm__cursor_next(c, out)) {
        if (t->wildcard && !out->by_name_only)
            return true;
        const struct osm__entry *e = osm__entry_find(t, out->name);
        if (e && e->named)
            return true;
    }
    return false;
}

/* Has the content that the client subscribes to changed between two views? */
static bool differs(const struct osm__type *t, enum osm_xds_type type, const struct osm__view *a,
                    const struct osm__view *b)
{
    struct osm__cursor ca = {a, type, 0, 0}, cb = {b, type, 0, 0};
    for (;;) {
        struct osm__item ia, ib;
        bool more_a = next_subscribed(t, &ca, &ia), more_b = next_subscribed(t, &cb, &ib);
        if (!more_a || !more_b)
            return more_a != more_b;
        if (strcmp(ia.name, ib.name) != 0 || !ia.resource != !ib.resource ||
            (ia.resource && strcmp(ia.resource->version, ib.resource->version) != 0))
            return true;
    }
}

static bool in_view(const struct osm__view *view, enum osm_xds_type type, const char *name)
{
    if (type == OSM_XDS_SDS)
        for (size_t i = 0; i < view->secrets_len; i++)
            if (!strcmp(view->secrets[i].name, name))
                return true;
    return view->cls && osm_class_find(view->cls, type, name);
}

static bool same_view(const struct osm__view *view, const struct osm_class *cls,
                      const struct osm_stream_secret *secrets, size_t len)
{
    if (view->cls != cls || view->secrets_len != len)
        return false;
    for (size_t i = 0; i < len; i++) {
        bool found = false;
        for (size_t k = 0; k < len; k++)
            found = found || (!strcmp(view->secrets[k].name, secrets[i].name) &&
                              view->secrets[k].resource == secrets[i].resource);
        if (!found)
            return false;
    }
    return true;
}

int osm_stream_set_view(struct osm_stream *stream, struct osm_class *cls,
                        const struct osm_stream_secret *secrets, size_t len)
{
    if (len > OSM_STREAM_SECRETS_MAX)
        return OSM_ELIMIT;
    if (same_view(&stream->view, cls, secrets, len))
        return 0;
    struct osm__view fresh = {0};
    for (size_t i = 0; i < len; i++) {
        size_t at = fresh.secrets_len;
        char *name = osm_strdup(secrets[i].name);
        if (!name) {
            view_clear(&fresh);
            return OSM_ENOMEM;
        }
        for (; at && strcmp(fresh.secrets[at - 1].name, name) > 0; at--)
            fresh.secrets[at] = fresh.secrets[at - 1];
        fresh.secrets[at].name = name;
        fresh.secrets[at].resource =
            secrets[i].resource ? osm_resource_ref(secrets[i].resource) : NULL;
        fresh.secrets[at].by_name_only = secrets[i].by_name_only;
        fresh.secrets_len++;
    }
    fresh.cls = osm_class_ref(cls);

    for (int i = 0; i < OSM_XDS_TYPE_COUNT; i++) {
        struct osm__type *t = &stream->types[i];
        enum osm_xds_type type = (enum osm_xds_type)i;
        if (!t->subscribed)
            continue;
        if (differs(t, type, &stream->view, &fresh)) {
            t->epoch++;
            for (size_t k = 0; k < t->len; k++)
                t->entries[k].held = false;
        }
        /* The state of the world cannot take these away: lacking, once they come back. */
        if (stream->mode == OSM_STREAM_SOTW && !has_wildcard(type))
            for (size_t k = 0; k < t->len; k++)
                if (!in_view(&fresh, type, t->entries[k].resource->name))
                    t->entries[k].state = OSM__LACKS;
        review_refusal(stream, type);
    }
    view_clear(&stream->view);
    stream->view = fresh;
    all_unplanned(stream);
    return 0;
}

/* ---- subscriptions ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void touch(struct osm__entry *e, const struct osm__names_how *how)
{
    e->named = e->named || how->named;
    e->ask = e->ask || how->ask;
    if (how->ask)
        e->told = false;
}

int osm__take_names(struct osm__type *t, const char *const *names, size_t n,
                    const struct osm__names_how *how)
{
    int rc = OSM_ENOMEM;
    if (n > OSM__NAMES_MAX)
        return OSM_ELIMIT;
    size_t len = 0, sorted_len = 0, named = 0;
    struct osm__entry *fresh = osm_alloc_array(t->len + n, sizeof *fresh);
    bool *made = osm_alloc_array(t->len + n, sizeof *made);
    const char **sorted = osm_alloc_array(n, sizeof *sorted);
    if (!fresh || !made || !sorted)
        goto out;
    for (size_t i = 0; i < n; i++)
        if (names[i][0] && strcmp(names[i], "*") != 0)
            sorted[sorted_len++] = names[i];
    if (sorted_len)
        qsort(sorted, sorted_len, sizeof *sorted, by_text);

    for (size_t i = 0, k = 0; i < t->len || k < sorted_len;) {
        int order = i == t->len       ? 1
                    : k == sorted_len ? -1
                                      : strcmp(t->entries[i].resource->name, sorted[k]);
        struct osm__entry *e = &fresh[len];
        if (order <= 0) {
            *e = t->entries[i++];
            if (how->only)
                e->named = false;
        } else {
            e->resource = osm_resource_new_versioned(sorted[k], "", NULL);
            if (!e->resource)
                goto out;
            made[len] = true;
        }
        if (order >= 0) {
            touch(e, how);
            for (const char *name = sorted[k]; k < sorted_len && !strcmp(sorted[k], name);)
                k++;
        }
        named += e->named;
        len++;
    }
    if (named > OSM__NAMES_MAX) {
        rc = OSM_ELIMIT;
        goto out;
    }
    osm_free(t->entries);
    t->entries = osm_take_ptr(&fresh);
    t->len = len;
    len = 0;
    rc = 0;
out:
    for (size_t i = 0; fresh && made && i < len; i++)
        if (made[i])
            osm_resource_unref(fresh[i].resource);
    osm_free(fresh);
    osm_free(made);
    osm_free(sorted);
    return rc;
}

/* Forgets what is not subscribed to any more. */
static void forget_unsubscribed(struct osm__type *t)
{
    size_t len = 0;
    for (size_t i = 0; i < t->len; i++) {
        if (t->entries[i].named || t->wildcard)
            t->entries[len++] = t->entries[i];
        else
            osm_resource_unref(t->entries[i].resource);
    }
    t->len = len;
}

static bool contains_star(const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(names[i], "*"))
            return true;
    return false;
}

/* ---- answers ---- */

static void keep_error(struct osm__type *t, const char *text)
{
    osm_free(t->error);
    t->error = text ? osm_strndup(text, strnlen(text, OSM_STREAM_ERROR_SIZE - 1)) : NULL;
    if (t->error)
        (void)osm_utf8_repair(t->error);
}

static void accepted(struct osm__type *t, const struct osm__sent *sent)
{
    size_t len = 0;
    osm__suspects_accepted(t, sent->seq);
    for (size_t i = 0; i < t->len; i++) {
        struct osm__entry *e = &t->entries[i];
        if (e->state == OSM__LEAVING && e->seq == sent->seq)
            e->state = OSM__LACKS;
        if (e->state == OSM__LACKS && !e->named && !e->ask)
            osm_resource_unref(e->resource);
        else
            t->entries[len++] = *e;
    }
    t->len = len;
    t->acked = true;
    t->acked_version = sent->version;
    t->nacked = any_refused(t); /* refused earlier, not sent again yet */
    if (!t->nacked)
        keep_error(t, NULL);
}

static void refused(struct osm_stream *stream, enum osm_xds_type type, const struct osm__sent *sent,
                    const char *error)
{
    struct osm__type *t = &stream->types[type];
    for (size_t i = 0; i < t->len; i++) {
        struct osm__entry *e = &t->entries[i];
        if (e->seq != sent->seq || (e->state != OSM__HAS && e->state != OSM__LEAVING))
            continue;
        /* A removal is not what is refused, but may have been lost with it: it goes again, without
         * what was. */
        bool removal = e->state == OSM__LEAVING;
        if (removal)
            e->seq = 0;
        e->state = OSM__UNKNOWN;
        e->held = sent->epoch == t->epoch && !(removal && sent->adds);
    }
    if (stream->mode == OSM_STREAM_DELTA)
        osm__suspects_refused(t, sent);
    t->refused_seq = sent->seq;
    t->nacked_version = sent->version;
    t->nacked = any_refused(t) || takes_by_omission(stream, type);
    keep_error(t, error);
}

static enum osm_stream_verdict take_answer(struct osm_stream *stream, enum osm_xds_type type,
                                           const struct osm_stream_request *r)
{
    struct osm__type *t = &stream->types[type];
    for (unsigned i = 0; i < t->inflight_len; i++) {
        char nonce[OSM_NONCE_SIZE];
        osm__nonce(stream, t->inflight[i].seq, nonce);
        if (strcmp(nonce, r->nonce) != 0)
            continue;
        const struct osm__sent sent = t->inflight[i];
        t->inflight_len--;
        memmove(&t->inflight[i], &t->inflight[i + 1],
                (t->inflight_len - i) * sizeof t->inflight[0]);
        t->ever_answered = true;
        if (r->refused)
            refused(stream, type, &sent, r->error);
        else
            accepted(t, &sent);
        return r->refused ? OSM_STREAM_NACK : OSM_STREAM_ACK;
    }
    return OSM_STREAM_STALE;
}

/* ---- requests ---- */

static int take_sotw_names(struct osm__type *t, enum osm_xds_type type,
                           const struct osm_stream_request *r)
{
    int rc = osm__take_names(t, r->names, r->names_len,
                             &(struct osm__names_how){.named = true, .only = true});
    if (rc)
        return rc;
    t->explicit_names = t->explicit_names || r->names_len;
    t->wildcard = contains_star(r->names, r->names_len) ||
                  (!r->names_len && has_wildcard(type) && !t->explicit_names);
    forget_unsubscribed(t);
    return 0;
}

static int sotw_request(struct osm_stream *stream, enum osm_xds_type type,
                        const struct osm_stream_request *r, enum osm_stream_verdict *verdict)
{
    struct osm__type *t = &stream->types[type];
    char nonce[OSM_NONCE_SIZE];
    osm__nonce(stream, t->last_seq, nonce);
    /* A refusal answers something, even without a nonce: sending again would go round in circles.
     */
    bool first = !t->ever_sent || (!r->nonce[0] && !r->refused);
    if (!first && strcmp(nonce, r->nonce) != 0) {
        *verdict = OSM_STREAM_STALE;
        return 0;
    }
    if (!first) {
        *verdict = take_answer(stream, type, r);
        if (*verdict == OSM_STREAM_STALE) /* answered before: only the names are new */
            *verdict = OSM_STREAM_QUIET;
        return take_sotw_names(t, type, r);
    }
    int rc = take_sotw_names(t, type, r);
    if (rc)
        return rc;
    if (!t->subscribed)
        t->claims = r->version[0];
    t->owed = has_wildcard(type) && (t->wildcard || t->len);
    for (size_t i = 0; i < t->len; i++)
        t->entries[i].ask = true;
    return 0;
}

static void unsubscribe(struct osm__type *t, const char *name)
{
    if (!strcmp(name, "*")) {
        t->wildcard = t->owed = false;
        return;
    }
    struct osm__entry *e = osm__entry_find(t, name);
    if (!e || !e->named)
        return;
    e->named = false;
    /* Still part of the wildcard: the client must learn whether it stays. */
    e->ask = t->wildcard;
    e->told = e->told && !e->ask;
}

static int delta_request(struct osm_stream *stream, enum osm_xds_type type,
                         const struct osm_stream_request *r, enum osm_stream_verdict *verdict)
{
    struct osm__type *t = &stream->types[type];
    bool star = contains_star(r->names, r->names_len);
    bool first = !t->subscribed;
    if (!first && r->nonce[0])
        *verdict = take_answer(stream, type, r);
    int rc = osm__take_names(t, r->names, r->names_len,
                             &(struct osm__names_how){.named = true, .ask = !first});
    if (rc)
        return rc;
    if (first) {
        t->wildcard = star || (!r->names_len && has_wildcard(type));
        t->owed = t->wildcard && !r->claims_len;
        rc = osm__take_claims(t, r);
        if (rc)
            return rc;
        if (type == OSM_XDS_EDS)
            osm__ask_for_warming(stream);
    } else if (star) {
        t->wildcard = t->owed = true;
        for (size_t i = 0; i < t->len; i++)
            t->entries[i].ask = true;
    }
    /* After the subscriptions: who says "*" in both lists asks for nothing. */
    for (size_t i = 0; i < r->unsubscribe_len; i++)
        unsubscribe(t, r->unsubscribe[i]);
    forget_unsubscribed(t);
    return 0;
}

int osm_stream_request(struct osm_stream *stream, const struct osm_stream_request *request,
                       enum osm_stream_verdict *verdict, struct osm_err *err)
{
    enum osm_stream_verdict ignored;
    if (!verdict)
        verdict = &ignored;
    *verdict = OSM_STREAM_QUIET;
    if (!request->type_url[0])
        return osm_fail(err, OSM_EINVAL, "the request has no type_url");
    int type = osm_xds_type_parse(request->type_url);
    if (type < 0) {
        *verdict = OSM_STREAM_UNKNOWN_TYPE;
        return 0;
    }
    int rc = stream->mode == OSM_STREAM_SOTW
                 ? sotw_request(stream, (enum osm_xds_type)type, request, verdict)
                 : delta_request(stream, (enum osm_xds_type)type, request, verdict);
    if (rc)
        return osm_fail(err, rc, "%s request: %s (at most %d names)",
                        osm_xds_type_short((enum osm_xds_type)type), osm_code_text(rc),
                        OSM__NAMES_MAX);
    stream->types[type].subscribed = true;
    review_refusal(stream, (enum osm_xds_type)type);
    all_unplanned(stream);
    return 0;
}

void osm_stream_stop_waiting(struct osm_stream *stream)
{
    stream->waived = stream->types[OSM_XDS_CDS].last_seq;
}

void osm_stream_distrust(struct osm_stream *stream, enum osm_xds_type type)
{
    stream->types[type].distrusted = true;
}

void osm_stream_expect(struct osm_stream *stream, enum osm_xds_type type)
{
    stream->types[type].expected = true;
}

bool osm_stream_refused(const struct osm_stream *stream)
{
    for (int i = 0; i < OSM_XDS_TYPE_COUNT; i++)
        if (stream->types[i].nacked)
            return true;
    return false;
}

void osm_stream_each_refused(const struct osm_stream *stream, enum osm_xds_type type,
                             osm_stream_refused_fn *fn, void *ud)
{
    const struct osm__type *t = &stream->types[type];
    for (size_t i = 0; i < t->len; i++)
        if (t->entries[i].state == OSM__UNKNOWN && t->entries[i].seq == t->refused_seq)
            fn(ud, t->entries[i].resource);
}

void osm_stream_each_blamed(const struct osm_stream *stream, enum osm_xds_type type,
                            osm_stream_refused_fn *fn, void *ud)
{
    const struct osm__type *t = &stream->types[type];
    if (stream->mode == OSM_STREAM_SOTW) {
        osm_stream_each_refused(stream, type, fn, ud);
        return;
    }
    for (size_t i = 0; i < t->len; i++)
        if (t->entries[i].state == OSM__UNKNOWN && t->entries[i].group && t->entries[i].held)
            fn(ud, t->entries[i].resource);
}

bool osm_stream_asks(const struct osm_stream *stream, enum osm_xds_type type, const char *name)
{
    const struct osm__type *t = &stream->types[type];
    const struct osm__entry *e = osm__entry_find(t, name);
    return t->subscribed && (t->wildcard || (e && e->named));
}

const char *osm_stream_has(const struct osm_stream *stream, enum osm_xds_type type,
                           const char *name)
{
    const struct osm__entry *e = osm__entry_find(&stream->types[type], name);
    return e && e->state == OSM__HAS ? e->resource->version : NULL;
}
