/* Which lines are behind a resource that proxies have refused: what the refused generation said of
 * it and the one before did not. Asked of both engines after the roll-back, which waits for
 * nothing. */
#include "reload/reload_priv.h"

#include "base/buf.h"
#include "base/json.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>

enum { PLACES_MAX = 5, TEXT_MAX_BYTES = 2048 };

struct osm__blame {
    struct osm_reload *reload;      /* loop thread; NULL: it has been stopped */
    struct osm_generation *refused; /* ended once it has answered */
    uint64_t id;
    char digest[OSM_POLICY_DIGEST_SIZE];
    char *reason, *resource;
    enum osm_xds_type type;
    json_t *said, *before; /* items; NULL: nothing */
};

static void blame_free(struct osm__blame *b)
{
    osm_free(b->reason);
    osm_free(b->resource);
    json_decref(b->said);
    json_decref(b->before);
    osm_free(b);
}

static void look(struct osm__blame *b, struct osm_engine *engine, json_t **out)
{
    struct osm_why_question question = {.type = b->type, .resource = b->resource};
    struct osm_err err = {0};
    if (!engine || osm_engine_why(engine, &question, out, &err))
        *out = NULL; /* the one before may well say nothing of it */
}

static void ask_refused(void *ud, struct osm_engine *engine)
{
    struct osm__blame *b = ud;
    look(b, engine, &b->said);
}

static void ask_before(void *ud, struct osm_engine *engine)
{
    struct osm__blame *b = ud;
    look(b, engine, &b->before);
}

static bool has(const json_t *items, const json_t *item)
{
    size_t i;
    const json_t *other;
    json_array_foreach ((json_t *)(uintptr_t)items, i, other)
        if (!strcmp(osm_json_text(other, "item"), osm_json_text(item, "item")) &&
            !strcmp(osm_json_text(other, "hash"), osm_json_text(item, "hash")))
            return true;
    return false;
}

/* "envoy/listeners.lua:184, extended by acme/log (filter chain "x")": once each, the first few. */
static void add_places(struct osm_buf *out, const struct osm__blame *b)
{
    size_t i, n = 0;
    const json_t *item;
    struct osm_map told = OSM_MAP_INIT;
    json_array_foreach (b->said, i, item) {
        const char *extended = osm_json_text(item, "extended"),
                   *element = osm_json_text(item, "element");
        char *place = osm_strf("%s%s%s", osm_json_text(item, "place"),
                               *extended ? ", extended by " : "", extended);
        if (!has(b->before, item) && place && !osm_map_has(&told, place)) {
            if (osm_map_put(&told, place, out, NULL) || n++ == PLACES_MAX) {
                osm_free(place);
                break;
            }
            (void)osm_buf_addf(out, "%s%s", n > 1 ? "; " : "", place);
            if (*element)
                (void)osm_buf_addf(out, " (\"%.100s\")", element);
        }
        osm_free(place);
    }
    osm_map_clear(&told);
}

static void conclude(struct osm__blame *b)
{
    struct osm_reload *r = b->reload;
    struct osm_buf places = OSM_BUF_INIT(TEXT_MAX_BYTES);
    add_places(&places, b);
    if (places.len && places.data && !places.failed) {
        char *reason = osm_strf("%s; said at %s", b->reason, places.data);
        osm_log(OSM_LOG_POLICY, OSM_LOG_ERROR, "what was refused was said here",
                OSM_U("gen", b->id), OSM_S("resource", b->resource), OSM_S("places", places.data));
        if (reason)
            osm__record_explain(r, b->id, b->digest, reason);
        osm_free(reason);
    }
    osm_buf_clear(&places);
    r->callbacks.changed(r->callbacks.ud);
}

static void before_answered(void *ud)
{
    struct osm__blame *b = ud;
    if (b->reload) {
        b->reload->blame = NULL;
        conclude(b);
    }
    blame_free(b);
}

static void refused_answered(void *ud)
{
    struct osm__blame *b = ud;
    if (!b->reload) { /* which has ended the generation */
        blame_free(b);
        return;
    }
    osm_generation_end(osm_take_ptr(&b->refused));
    if (!b->reload->active || osm_generation_ask(b->reload->active, ask_before, before_answered, b))
        before_answered(b);
}

void osm__reload_blame(struct osm_reload *r, struct osm_generation *refused, const char *reason)
{
    char *resource = osm_take_ptr(&r->refused_name);
    struct osm__blame *b = resource && !r->blame ? osm_alloc(sizeof *b) : NULL;
    if (b) {
        *b = (struct osm__blame){.reload = r,
                                 .refused = refused,
                                 .id = osm_generation_id(refused),
                                 .reason = osm_strdup(reason),
                                 .resource = osm_take_ptr(&resource),
                                 .type = r->refused_type};
        memcpy(b->digest, osm_generation_files(refused)->digest, sizeof b->digest);
    }
    osm_free(resource);
    if (!b || !b->reason || osm_generation_ask(refused, ask_refused, refused_answered, b)) {
        if (b)
            blame_free(b);
        osm_generation_end(refused);
        return;
    }
    r->blame = b;
}

void osm__reload_stop_blame(struct osm_reload *r)
{
    struct osm__blame *b = osm_take_ptr(&r->blame);
    if (!b)
        return;
    b->reload = NULL;
    osm_generation_end_now(
        osm_take_ptr(&b->refused)); /* its answer comes in here, or has been posted */
}
