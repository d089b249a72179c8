/* Requests as bytes, with changing views and answers between them, through the decoder into the
 * stream machine. The first byte picks the form; then come records: kind, length, bytes. Whatever
 * comes, the machine falls silent. */
#include "base/check.h"
#include "base/mem.h"
#include "xds/discovery.h"

#include <stdio.h>
#include <string.h>

enum { VIEWS = 4, RESPONSES_MAX = 64 };
enum { REQUEST, VIEW, ACCEPT, REFUSE, KINDS };

struct run {
    struct osm_stream *stream;
    struct osm_class *views[VIEWS];
    char nonces[OSM_XDS_TYPE_COUNT][OSM_NONCE_SIZE];
};

/* View i has the names a to d, those whose bit is set in a pattern; versions differ between views.
 */
static struct osm_class *make_view(unsigned i)
{
    static const unsigned present[VIEWS] = {0x0, 0xf, 0x5, 0xb};
    struct osm_class *cls = osm_class_new();
    OSM_REQUIRE(cls);
    for (int t = 0; t < OSM_XDS_TYPE_COUNT; t++) {
        cls->types[t].list = osm_alloc_array(4, sizeof *cls->types[t].list);
        OSM_REQUIRE(cls->types[t].list);
        for (unsigned n = 0; n < 4; n++) {
            char name[2] = {(char)('a' + n), '\0'}, text[2] = {(char)('0' + (i * n) % 3), '\0'};
            struct osm_bytes *body = osm_bytes_new(text, 1);
            struct osm_resource *r = body ? osm_resource_new_versioned(name, text, body) : NULL;
            OSM_REQUIRE(r);
            if (present[i] >> n & 1)
                cls->types[t].list[cls->types[t].len++] = r;
            else
                osm_resource_unref(r);
        }
    }
    return cls;
}

static void request(struct run *run, enum osm_stream_mode mode, const uint8_t *data, size_t len)
{
    struct osm_discovery_request r;
    if (osm_discovery_decode(&r, mode, data, len, NULL))
        return;
    (void)!osm_stream_request(run->stream, &r.request, NULL, NULL);
    osm_discovery_request_clear(&r);
}

static void answer(struct run *run, unsigned type, bool refused)
{
    char url[128];
    (void)snprintf(url, sizeof url, "type.googleapis.com/%s",
                   osm_xds_type_message((enum osm_xds_type)type));
    struct osm_stream_request r = {.type_url = url,
                                   .version = "",
                                   .nonce = run->nonces[type],
                                   .error = "no",
                                   .refused = refused};
    (void)!osm_stream_request(run->stream, &r, NULL, NULL);
}

static void look(struct run *run, unsigned view)
{
    struct osm_stream_secret secrets[] = {
        {"leaf", view % 2 ? run->views[1]->types[0].list[0] : NULL, false}, {"b", NULL, true}};
    (void)!osm_stream_set_view(run->stream, run->views[view], secrets, 2);
}

static void drain(struct run *run, enum osm_stream_mode mode)
{
    struct osm_stream_response r;
    for (int n = 0; osm_stream_next(run->stream, &r) > 0; n++) {
        struct osm_discovery_response wire;
        OSM_REQUIRE(n < RESPONSES_MAX);
        OSM_REQUIRE(strcmp(run->nonces[r.type], r.nonce) != 0);
        for (size_t i = 1; i < r.resources_len; i++)
            OSM_REQUIRE(strcmp(r.resources[i - 1]->name, r.resources[i]->name) < 0 ||
                        r.type == OSM_XDS_SDS);
        memcpy(run->nonces[r.type], r.nonce, OSM_NONCE_SIZE);
        if (!osm_discovery_encode(&wire, mode, &r))
            osm_discovery_response_clear(&wire);
        osm_stream_response_clear(&r);
    }
    (void)osm_stream_due(run->stream);
}

static void go(const uint8_t *data, size_t size)
{
    enum osm_stream_mode mode = data[0] % 2 ? OSM_STREAM_DELTA : OSM_STREAM_SOTW;
    struct run run = {.stream = osm_stream_new(mode, 1)};
    OSM_REQUIRE(run.stream);
    for (unsigned i = 0; i < VIEWS; i++)
        run.views[i] = make_view(i);
    look(&run, 1);
    for (size_t at = 1; at + 2 <= size;) {
        unsigned kind = data[at] % KINDS, len = data[at + 1];
        at += 2;
        if (kind == VIEW)
            look(&run, len % VIEWS);
        else if (kind != REQUEST)
            answer(&run, len % OSM_XDS_TYPE_COUNT, kind == REFUSE);
        else if (len > size - at)
            break;
        else
            request(&run, mode, data + at, len);
        at += kind == REQUEST ? len : 0;
        drain(&run, mode);
    }
    osm_stream_free(run.stream);
    for (unsigned i = 0; i < VIEWS; i++)
        osm_class_unref(run.views[i]);
}

static unsigned nibble(uint8_t c)
{
    return (c >= 'a' ? c - 'a' + 10u : c - '0' + 0u) & 15;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size && data[0] == 'h') {
        size_t len = (size - 1) / 2;
        uint8_t *bytes = osm_alloc(len);
        OSM_REQUIRE(bytes);
        for (size_t i = 0; i < len; i++)
            bytes[i] = (uint8_t)(nibble(data[1 + 2 * i]) << 4 | nibble(data[2 + 2 * i]));
        if (len)
            go(bytes, len);
        osm_free(bytes);
    } else if (size) {
        go(data, size);
    }
    OSM_REQUIRE(osm_mem_live() == 0);
    return 0;
}
