/* What a peer of a console sends: the first byte is how it is cut, and whether a token is due; the
 * rest are its bytes. However they are cut, the lines are the same; each is then read as a typed
 * line and as a JSON request, up to the check of its arguments; and what is said of it is rendered.
 */
#include "base/check.h"
#include "debug/framing.h"
#include "debug/render.h"
#include "debug/words.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void handler(void *ud, struct osm_control_request *request, const json_t *args)
{
    (void)ud;
    (void)request;
    (void)args;
}

static const struct osm_control_arg args[] = {
    {.name = "node", .type = OSM_ARG_TEXT, .required = true, .help = ""},
    {.name = "type", .type = OSM_ARG_TEXT, .choices = "CDS EDS", .help = ""},
    {.name = "count", .type = OSM_ARG_INTEGER, .min = 1, .max = 10, .help = ""},
    {.name = "dry_run", .type = OSM_ARG_FLAG, .help = ""},
    {.name = "keys", .type = OSM_ARG_KEYS, .help = ""},
    {.name = NULL},
};
static const struct osm_control_arg line_args[] = {
    {.name = "names", .type = OSM_ARG_TEXT, .help = ""},
    {.name = "code", .type = OSM_ARG_LINE, .help = ""},
    {.name = NULL},
};
static const struct osm_control_command table[] = {
    {.name = "a", .handler = handler, .args = args, .help = ""},
    {.name = "a.b", .handler = handler, .args = line_args, .help = ""},
    {.name = NULL},
};

static void check(const struct osm_control_command *command, const json_t *given)
{
    struct osm_err err = {0};
    int rc = osm_registry_check(command, given, &err);
    OSM_REQUIRE(!rc == !err.code);
    struct osm_buf out = OSM_BUF_INIT(16 << 20);
    int rendered = osm_render(&out, given);
    OSM_REQUIRE(rendered || !out.data || !strchr(out.data, '\x1b'));
    osm_buf_clear(&out);
}

static void read_typed(const struct osm_registry *registry, const char *line)
{
    struct osm_err err = {0};
    const char *rest = NULL;
    json_t *given = NULL;
    const struct osm_control_command *command = osm_words_command(registry, line, &rest);
    if (command && !osm_words_args(command, rest, &given, &err))
        check(command, given);
    if (!command)
        osm_free(osm_words_nearest(registry, line));
    json_decref(given);
}

static void read_json(const struct osm_frame *frame)
{
    json_t *message = json_loadb(frame->text, frame->len, JSON_REJECT_DUPLICATES, NULL);
    const json_t *given = json_object_get(message, "args");
    if (json_is_object(given))
        check(&table[0], given);
    json_decref(message);
}

static int drain(struct osm_framing *f, struct osm_buf *lines)
{
    struct osm_frame frame;
    int rc;
    while ((rc = osm_framing_next(f, &frame)) > 0) {
        OSM_REQUIRE(frame.len <= OSM_FRAME_MAX_BYTES && !frame.text[frame.len]);
        (void)osm_buf_add(lines, frame.text, frame.len);
        (void)osm_buf_add_char(lines, frame.is_token ? '\1' : '\n');
    }
    return rc;
}

/* All lines of the bytes, fed in pieces of so many. */
static int feed(const uint8_t *data, size_t size, size_t piece, bool token, struct osm_buf *lines)
{
    struct osm_framing f = OSM_FRAMING_INIT(token);
    int rc = 0;
    for (size_t at = 0; !rc && at < size; at += piece) {
        size_t n = size - at < piece ? size - at : piece;
        OSM_REQUIRE(!osm_framing_add(&f, (const char *)data + at, n));
        rc = drain(&f, lines);
    }
    f.ended = true;
    if (!rc)
        rc = drain(&f, lines);
    OSM_REQUIRE(rc || !osm_framing_waits(&f));
    osm_framing_clear(&f);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct osm_registry *registry;
    struct osm_err err = {0};
    if (!registry) {
        registry = osm_registry_new();
        OSM_REQUIRE(registry && !osm_registry_add(registry, table, NULL, &err));
    }
    if (!size)
        return 0;
    bool token = data[0] & 1;
    size_t piece = (size_t)(data[0] >> 1) + 1;
    struct osm_buf whole = OSM_BUF_INIT(64 << 20), pieces = OSM_BUF_INIT(64 << 20);
    int rc = feed(data + 1, size - 1, OSM_FRAME_CHUNK_BYTES, token, &whole);
    OSM_REQUIRE(rc == feed(data + 1, size - 1, piece, token, &pieces));
    OSM_REQUIRE(whole.len == pieces.len &&
                (!whole.len || !memcmp(whole.data, pieces.data, whole.len)));
    for (size_t at = 0; at < whole.len;) {
        const char *end = memchr(whole.data + at, '\n', whole.len - at);
        size_t len = end ? (size_t)(end - whole.data) - at : whole.len - at;
        whole.data[at + len] = '\0';
        const struct osm_frame frame = {whole.data + at, len, false};
        read_typed(registry, frame.text);
        read_json(&frame);
        at += len + 1;
    }
    osm_buf_clear(&whole);
    osm_buf_clear(&pieces);
    return 0;
}
