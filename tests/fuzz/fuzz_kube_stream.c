/* Any bytes as what an API server answers: a list, or a watch. However the text is cut into pieces,
 * the same objects come out of it; and what they make of a reflector leaves nothing behind. */
#include "base/check.h"
#include "kube/reflector.h"
#include "kube/stream.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct reading {
    struct osm_reflector reflector;
    size_t told, kept;
    uint64_t sum; /* of all that came out of the stream, in its order */
    bool feeds;   /* the reflector, too */
};

static int on_put(void *ud, const char *id, json_t *object, void **data)
{
    struct reading *r = ud;
    OSM_REQUIRE(*id && json_is_object(object));
    json_decref(object);
    r->kept += !*data;
    *data = r;
    return 0;
}

static void on_gone(void *ud, const char *id, void *data)
{
    struct reading *r = ud;
    OSM_REQUIRE(*id && data == r);
    r->kept--;
}

static uint32_t on_random(void *ud)
{
    (void)ud;
    return 7;
}

static void add(struct reading *r, const char *text)
{
    for (const char *c = text ? text : "-"; *c; c++)
        r->sum = r->sum * 1099511628211u ^ (unsigned char)*c;
    r->sum = r->sum * 1099511628211u ^ 0x100;
}

static int on_object(void *ud, const char *type, json_t *object)
{
    struct reading *r = ud;
    char *text = json_dumps(object, JSON_COMPACT);
    json_free_t free_text;
    r->told++;
    add(r, type);
    add(r, text);
    json_get_alloc_funcs(NULL, &free_text);
    free_text(text);
    if (r->feeds)
        return osm_reflector_object(&r->reflector, type, object);
    json_decref(object);
    return 0;
}

static int on_bad(void *ud, const char *name, const char *reason)
{
    struct reading *r = ud;
    r->told++;
    add(r, name);
    add(r, reason);
    return r->feeds ? osm_reflector_bad(&r->reflector, name, reason) : 0;
}

/* Reads all of it in pieces of @p piece bytes; how that ended. */
static int read_in(struct reading *r, enum osm_kube_stream_form form, const char *text, size_t size,
                   size_t piece)
{
    const struct osm_kube_stream_callbacks callbacks = {r, on_object, on_bad};
    struct osm_kube_stream stream;
    struct osm_err err = {0};
    int rc = 0;
    osm_kube_stream_init(&stream, form, &callbacks);
    for (size_t at = 0; at < size && !rc; at += piece)
        rc = osm_kube_stream_feed(&stream, text + at, size - at < piece ? size - at : piece, &err);
    OSM_REQUIRE((rc == 0) == (err.code == 0));
    int end = rc ? rc : osm_kube_stream_end(&stream, &err);
    if (r->feeds) {
        const struct osm_reflector_end how = {.rc = end,
                                              .status = 200,
                                              .reason = "",
                                              .message = err.msg,
                                              .retry_after_s = -1,
                                              .resource_version = stream.resource_version,
                                              .continue_token = stream.continue_token};
        osm_reflector_ended(&r->reflector, &how, 1000);
    }
    osm_kube_stream_clear(&stream);
    return end;
}

static void follow(enum osm_kube_stream_form form, const char *text, size_t size)
{
    struct reading r = {.feeds = true};
    const struct osm_reflector_callbacks callbacks = {&r, on_put, on_gone, on_random};
    struct osm_buf query = OSM_BUF_INIT(1 << 20);
    osm_reflector_init(&r.reflector, &osm_reflector_defaults, &callbacks);
    for (int round = 0; round < 3; round++) { /* what it leaves is where the next begins */
        r.reflector.step = form == OSM_KUBE_LIST ? OSM_REFLECT_LIST : r.reflector.step;
        osm_buf_reset(&query);
        OSM_REQUIRE(!osm_reflector_ask(&r.reflector, 1000, &query));
        (void)read_in(&r, form, text, size, size);
        OSM_REQUIRE(r.kept == r.reflector.known.count);
    }
    osm_reflector_clear(&r.reflector);
    OSM_REQUIRE(r.kept == 0);
    osm_buf_clear(&query);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    for (int form = OSM_KUBE_LIST; size && form <= OSM_KUBE_WATCH; form++) {
        struct reading whole = {.told = 0}, bytes = {.told = 0}, pieces = {.told = 0};
        int rc = read_in(&whole, (enum osm_kube_stream_form)form, text, size, size);
        OSM_REQUIRE(rc == read_in(&bytes, (enum osm_kube_stream_form)form, text, size, 1));
        OSM_REQUIRE(rc == read_in(&pieces, (enum osm_kube_stream_form)form, text, size, 7));
        OSM_REQUIRE(whole.told == bytes.told && whole.sum == bytes.sum);
        OSM_REQUIRE(whole.told == pieces.told && whole.sum == pieces.sum);
        follow((enum osm_kube_stream_form)form, text, size);
    }
    return 0;
}
