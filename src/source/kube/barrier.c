/* Is everything known that the server has at this moment?
 *
 * A round: what there is (discovery), then until every kind that is there has been listed, then of
 * each kind a list of names and versions, read from the newest state, beside its watch. Once each
 * object of it has been seen in that version or a newer one, and what it does not hold has been
 * seen to go, the kind is current. (The resourceVersion of the list alone would not do: a watch
 * with nothing to say tells how far it is once a minute.) Kinds that may not be read are passed
 * over; one that cannot be read ends the round as failed, unless the server says to come again
 * (429: it is starting, or has much to do), which whoever waits has set a time for. */
#include "source/kube/kube_priv.h"

#include "base/clock.h"

#include <stdio.h>
#include <string.h>

enum { PAGE = 500, AGAIN_MS = 1000, AGAIN_MAX_S = 30 };

/* Whoever is told may forget others, or ask again. */
static void answer(struct kube *source, struct osm__kube_waiter *list, const char *failure)
{
    struct osm__kube_waiter **at = &source->barrier.over;
    while (*at)
        at = &(*at)->next;
    *at = list;
    while (source->barrier.over) {
        struct osm__kube_waiter *w = source->barrier.over;
        source->barrier.over = w->next;
        w->done(w->ud, failure);
        osm_free(w);
    }
}

/* --- the list of one kind --- */

static void probe(struct osm__kube_kind *k);

static int on_object(void *ud, const char *type, json_t *object)
{
    struct osm__kube_kind *k = ud;
    char id[OSM_KUBE_ID_SIZE];
    const char *version =
        json_string_value(json_object_get(json_object_get(object, "metadata"), "resourceVersion"));
    (void)type;
    int rc = osm_kube_id(object, id)
                 ? osm_reflector_expect_object(&k->reflector, id,
                                               osm_kube_version(version ? version : ""))
                 : 0;
    json_decref(object);
    return rc;
}

static int on_bad(void *ud, const char *name, const char *reason)
{
    (void)ud;
    (void)name;
    (void)reason;
    return 0;
}

static int on_data(void *ud, const char *bytes, size_t len)
{
    struct osm__kube_kind *k = ud;
    return osm_kube_stream_feed(&k->probe_stream, bytes, len, NULL);
}

static void end_round(struct kube *source, const char *failure)
{
    struct osm__kube_waiter *list = source->barrier.now;
    source->barrier.now = NULL;
    source->barrier.look = 0;
    source->barrier.probing = false;
    for (size_t i = 0; i < source->kinds_len; i++) {
        struct osm__kube_kind *k = source->kinds[i];
        osm_timer_stop(k->probe_again);
        osm_kube_cancel(k->probe);
        osm_free(osm_take_ptr(&k->probe_token));
        osm_reflector_expect_nothing(&k->reflector);
    }
    answer(source, list, failure);
}

static void probe_later(struct osm__kube_kind *k, int64_t retry_after_s)
{
    int64_t after_s = retry_after_s < AGAIN_MAX_S ? retry_after_s : AGAIN_MAX_S;
    osm_timer_start(k->probe_again, after_s > 0 ? (uint64_t)after_s * 1000 : AGAIN_MS, 0);
}

void osm__barrier_probe_again(void *ud)
{
    struct osm__kube_kind *k = ud;
    if (osm_reflector_expect(&k->reflector)) { /* from the beginning */
        end_round(k->source, osm_code_text(OSM_ENOMEM));
        osm__kube_changed(k->source);
    } else {
        probe(k);
    }
}

static void on_done(void *ud, const struct osm_kube_result *result)
{
    struct osm__kube_kind *k = ud;
    struct osm_kube_stream *stream = &k->probe_stream;
    int rc = result->rc, status = result->status;
    k->probe = NULL;
    if (!rc && status == 200)
        rc = osm_kube_stream_end(stream, NULL);
    osm_free(osm_take_ptr(&k->probe_token));
    bool ok = !rc && status == 200, more = ok && stream->continue_token;
    uint64_t version = osm_kube_version(stream->resource_version);
    bool is_past = ok && osm_reflector_expect_is_past(&k->reflector, version);
    if (more)
        k->probe_token = osm_take_ptr(&stream->continue_token);
    else if (ok && !is_past)
        rc = osm_reflector_expect_end(&k->reflector, version);
    osm_kube_stream_clear(stream);
    if (result->rc == OSM_ECANCELED)
        return;
    if (is_past) { /* the end of a list from there will do, of each kind */
        osm_source_kube_set_back(&k->source->source);
    } else if (more) {
        probe(k);
    } else if (status == 429) {
        probe_later(k, result->retry_after_s);
    } else if (rc || !ok) {
        char failure[512], name[160];
        osm__kind_name(k, name, sizeof name);
        (void)snprintf(failure, sizeof failure, "%s cannot be listed: HTTP %d %s", name, status,
                       result->message);
        end_round(k->source, failure);
    }
    osm__kube_changed(k->source);
}

static void probe(struct osm__kube_kind *k)
{
    const struct osm_kube_stream_callbacks callbacks = {k, on_object, on_bad};
    struct osm_err err = {0};
    char *path = osm_strf("%s?limit=%d%s%s", k->path, PAGE, k->probe_token ? "&continue=" : "",
                          k->probe_token ? k->probe_token : "");
    osm_kube_stream_init(&k->probe_stream, OSM_KUBE_LIST, &callbacks);
    const struct osm_kube_request request = {.verb = "list",
                                             .resource = k->plural,
                                             .path = path,
                                             .accept = osm__kube_metadata_list,
                                             .idle_ms = OSM__KUBE_DEADLINE_MS,
                                             .ud = k,
                                             .data = on_data,
                                             .done = on_done};
    int rc = path ? osm_kube_start(&k->probe, k->source->api, &request, &err) : OSM_ENOMEM;
    osm_free(path);
    if (rc)
        end_round(k->source, err.code ? err.msg : osm_code_text(rc));
}

/* --- rounds --- */

static void start_round(struct kube *source)
{
    struct osm__kube_barrier *b = &source->barrier;
    b->now = b->next;
    b->next = NULL;
    b->probing = false;
    b->look = osm__look_now(&source->look);
    b->began_ms = osm_now_ms();
    for (size_t i = 0; i < source->kinds_len; i++)
        osm__kind_hurry(source->kinds[i]); /* what failed before may be over */
}

/* Why a round cannot go on; NULL: it can. */
static const char *obstacle(const struct kube *source, char *text, size_t size)
{
    if (source->look.failing_since_ms && !source->look.under_way &&
        source->look.began >= source->barrier.look && source->look.good < source->barrier.look)
        return source->look.error;
    for (size_t i = 0; i < source->kinds_len; i++) {
        const struct osm__kube_kind *k = source->kinds[i];
        char name[160];
        bool is_asked = k->call || k->reflector.asked_ms < source->barrier.began_ms;
        if (k->use != OSM__KUBE_OBJECTS || !osm__kind_failing(k) || is_asked || k->reflector.busy)
            continue;
        osm__kind_name(k, name, sizeof name);
        (void)snprintf(text, size, "%s cannot be read: %s", name, k->reflector.failure);
        return text;
    }
    return NULL;
}

static bool all_settled(const struct kube *source)
{
    for (size_t i = 0; i < source->kinds_len; i++)
        if (source->kinds[i]->use == OSM__KUBE_OBJECTS && !osm__kind_settled(source->kinds[i]))
            return false;
    return true;
}

static bool is_probed(const struct osm__kube_kind *k)
{
    return k->use == OSM__KUBE_OBJECTS && k->running && k->reflector.synced && !k->reflector.denied;
}

static void start_probes(struct kube *source)
{
    source->barrier.probing = true;
    for (size_t i = 0; i < source->kinds_len && source->barrier.look; i++) {
        struct osm__kube_kind *k = source->kinds[i];
        if (!is_probed(k))
            continue;
        if (osm_reflector_expect(&k->reflector)) {
            end_round(source, osm_code_text(OSM_ENOMEM));
            return;
        }
        probe(k);
    }
}

void osm__barrier_move(struct kube *source)
{
    struct osm__kube_barrier *b = &source->barrier;
    char text[512];
    if (!b->look && b->next)
        start_round(source);
    if (!b->look)
        return;
    const char *why_not = obstacle(source, text, sizeof text);
    if (why_not) {
        char failure[512];
        (void)snprintf(failure, sizeof failure, "%s", why_not);
        end_round(source, failure);
        osm__kube_changed(source); /* for those who wait for the next */
        return;
    }
    if (source->look.good < b->look || !all_settled(source))
        return;
    if (!b->probing)
        start_probes(source);
    for (size_t i = 0; i < source->kinds_len && b->look; i++)
        if (!osm_reflector_met(&source->kinds[i]->reflector))
            return;
    if (b->look)
        end_round(source, NULL);
    if (b->next)
        osm__kube_changed(source);
}

void osm__barrier_ask(struct kube *source, osm_source_refreshed_fn *done, void *ud)
{
    struct osm__kube_waiter *w, **at = &source->barrier.next;
    if (!done)
        return;
    w = osm_alloc(sizeof *w);
    if (!w) {
        done(ud, osm_code_text(OSM_ENOMEM));
        return;
    }
    w->done = done;
    w->ud = ud;
    while (*at)
        at = &(*at)->next;
    *at = w;
    osm__kube_changed(source);
}

static void forget(struct osm__kube_waiter **at, const void *ud)
{
    while (*at) {
        struct osm__kube_waiter *w = *at;
        if (w->ud == ud) {
            *at = w->next;
            osm_free(w);
        } else {
            at = &w->next;
        }
    }
}

void osm__barrier_forget(struct kube *source, void *ud)
{
    forget(&source->barrier.now, ud);
    forget(&source->barrier.next, ud);
    forget(&source->barrier.over, ud);
}

void osm__barrier_clear(struct kube *source)
{
    struct osm__kube_waiter *next = source->barrier.next;
    source->barrier.next = NULL;
    end_round(source, "the source is stopped");
    answer(source, next, "the source is stopped");
}
