/* Discovery messages: the fields of requests that are used, and responses that are not copied
 * together. */
#include "xds/discovery.h"

#include "xds/wire.h"

#include <stdio.h>
#include <string.h>

enum { SHARE_FROM_BYTES = 1024, TEXT_MAX_BYTES = 512 * 1024 * 1024 };

/* ---- requests ---- */

/* Which field has which number; 0: this form has it not. */
struct request_form {
    uint32_t version, node, names, unsubscribe, claims, type_url, nonce, error;
};
static const struct request_form forms[] = {
    [OSM_STREAM_SOTW] =
        {.version = 1, .node = 2, .names = 3, .type_url = 4, .nonce = 5, .error = 6},
    [OSM_STREAM_DELTA] = {.node = 1,
                          .type_url = 2,
                          .names = 3,
                          .unsubscribe = 4,
                          .claims = 5,
                          .nonce = 6,
                          .error = 7},
};

struct decoder {
    struct osm_discovery_request *out;
    char *memory; /* free part; a field's text and its NUL fit into what its tag, length and text
                     took */
};

static const char *take_text(struct decoder *d, const struct osm_wire_field *f)
{
    if (f->type != OSM_WIRE_BYTES || memchr(f->data, 0, f->len))
        return NULL;
    char *text = d->memory;
    if (f->len)
        memcpy(text, f->data, f->len);
    text[f->len] = '\0';
    d->memory += f->len + 1;
    return text;
}

/* Into a nested message. */
static bool enter(const struct osm_wire_field *f, struct osm_wire_reader *out)
{
    if (f->type != OSM_WIRE_BYTES)
        return false;
    *out = (struct osm_wire_reader){f->data, f->data + f->len};
    return true;
}

/* BuildVersion: its `version` of three numbers. */
static bool read_version(struct decoder *d, const struct osm_wire_field *f)
{
    struct osm_wire_reader r, numbers;
    struct osm_wire_field in, number;
    uint32_t parts[4] = {0};
    int rc;
    if (!enter(f, &r))
        return false;
    while ((rc = osm_wire_next(&r, &in)) > 0) {
        if (in.field != 1)
            continue;
        if (!enter(&in, &numbers))
            return false;
        while ((rc = osm_wire_next(&numbers, &number)) > 0)
            if (number.field <= 3 && number.type == OSM_WIRE_VARINT)
                parts[number.field] = (uint32_t)number.number;
        if (rc)
            return false;
        (void)snprintf(d->out->version, sizeof d->out->version, "%u.%u.%u", parts[1], parts[2],
                       parts[3]);
    }
    return rc == 0;
}

static bool read_node(struct decoder *d, const struct osm_wire_field *f)
{
    struct osm_wire_reader r;
    struct osm_wire_field in;
    int rc;
    if (!enter(f, &r))
        return false;
    d->out->has_node = true;
    while ((rc = osm_wire_next(&r, &in)) > 0) {
        const char **to = in.field == 1   ? &d->out->node_id
                          : in.field == 6 ? &d->out->user_agent
                                          : NULL;
        if (to && !(*to = take_text(d, &in)))
            return false;
        if (in.field == 8 && !read_version(d, &in))
            return false;
    }
    return rc == 0;
}

static bool read_error(struct decoder *d, const struct osm_wire_field *f)
{
    struct osm_wire_reader r;
    struct osm_wire_field in;
    int rc;
    if (!enter(f, &r))
        return false;
    d->out->request.refused = true;
    while ((rc = osm_wire_next(&r, &in)) > 0)
        if (in.field == 2 && !(d->out->request.error = take_text(d, &in)))
            return false;
    return rc == 0;
}

static bool read_claim(struct decoder *d, const struct osm_wire_field *f)
{
    struct osm_wire_reader r;
    struct osm_wire_field in;
    struct osm_stream_claim claim = {"", ""};
    int rc;
    if (!enter(f, &r))
        return false;
    while ((rc = osm_wire_next(&r, &in)) > 0) {
        const char **to = in.field == 1 ? &claim.name : in.field == 2 ? &claim.version : NULL;
        if (to && !(*to = take_text(d, &in)))
            return false;
    }
    d->out->claims[d->out->request.claims_len++] = claim;
    return rc == 0;
}

/* How many of each list there are, so that each is one allocation. */
static bool count(const struct request_form *form, struct osm_wire_reader r, size_t *names,
                  size_t *unsubscribe, size_t *claims)
{
    struct osm_wire_field f;
    int rc;
    *names = *unsubscribe = *claims = 0;
    while ((rc = osm_wire_next(&r, &f)) > 0) {
        *names += f.field == form->names;
        *unsubscribe += f.field == form->unsubscribe;
        *claims += f.field == form->claims;
    }
    return rc == 0;
}

static bool read_request_field(struct decoder *d, const struct request_form *form,
                               const struct osm_wire_field *f)
{
    struct osm_stream_request *r = &d->out->request;
    const char **names = (const char **)(uintptr_t)r->names;
    const char **unsubscribe = (const char **)(uintptr_t)r->unsubscribe;
    if (f->field == form->node)
        return read_node(d, f);
    if (f->field == form->error)
        return read_error(d, f);
    if (f->field == form->claims)
        return read_claim(d, f);
    const char **to = f->field == form->version       ? &r->version
                      : f->field == form->type_url    ? &r->type_url
                      : f->field == form->nonce       ? &r->nonce
                      : f->field == form->names       ? &names[r->names_len++]
                      : f->field == form->unsubscribe ? &unsubscribe[r->unsubscribe_len++]
                                                      : NULL;
    if (!to)
        return true;
    const char *text = take_text(d, f);
    *to = text ? text : "";
    return text;
}

int osm_discovery_decode(struct osm_discovery_request *out, enum osm_stream_mode mode,
                         const void *data, size_t len, struct osm_err *err)
{
    const struct request_form *form = &forms[mode];
    struct osm_discovery_request w = {.node_id = "", .user_agent = ""};
    struct osm_wire_reader r = {data, (const unsigned char *)data + len};
    size_t names, unsubscribe, claims;
    if (!len)
        r.at = r.end = (const unsigned char *)"";
    if (!count(form, r, &names, &unsubscribe, &claims))
        return osm_fail(err, OSM_EPARSE, "the request is not a valid message");
    w.request.type_url = w.request.version = w.request.nonce = w.request.error = "";
    w.memory = osm_alloc(len + 1);
    w.lists = osm_alloc_array(names + unsubscribe, sizeof *w.lists);
    w.claims = osm_alloc_array(claims, sizeof *w.claims);
    if (!w.memory || !w.lists || !w.claims) {
        osm_discovery_request_clear(&w);
        return osm_fail(err, OSM_ENOMEM, "request of %zu bytes", len);
    }
    w.request.names = w.lists;
    w.request.unsubscribe = w.lists + names;
    w.request.claims = w.claims;
    struct decoder d = {&w, w.memory};
    struct osm_wire_field f;
    while (osm_wire_next(&r, &f) > 0)
        if (!read_request_field(&d, form, &f)) {
            osm_discovery_request_clear(&w);
            return osm_fail(err, OSM_EPARSE, "field %u of the request is not valid",
                            (unsigned)f.field);
        }
    *out = w;
    return 0;
}

void osm_discovery_request_clear(struct osm_discovery_request *w)
{
    osm_free(w->memory);
    osm_free(w->lists);
    osm_free(w->claims);
    *w = (struct osm_discovery_request){0};
}

/* ---- responses ---- */

static size_t varint_len(uint64_t value)
{
    size_t n = 1;
    for (; value >= 0x80; value >>= 7)
        n++;
    return n;
}

/* Of a length-delimited field with a number below 16. */
static size_t field_len(size_t len)
{
    return 1 + varint_len(len) + len;
}

static void put_head(struct osm_buf *b, uint32_t number, size_t len)
{
    osm_wire_put_tag(b, number, OSM_WIRE_BYTES);
    osm_wire_put_varint(b, len);
}

static void put_text(struct osm_buf *b, uint32_t number, const char *text)
{
    osm_wire_put_bytes(b, number, text, strlen(text));
}

struct encoder {
    struct osm_discovery_response out;
    size_t text_from; /* where the text of the part that is being written begins */
    size_t cap;
};

static void end_text(struct encoder *e)
{
    size_t len = e->out.text.len - e->text_from;
    if (len)
        e->out.parts[e->out.parts_len++] = (struct osm_discovery_part){NULL, e->text_from, len};
    e->text_from = e->out.text.len;
}

static void put_body(struct encoder *e, struct osm_bytes *body)
{
    size_t len = osm_bytes_len(body);
    if (len < SHARE_FROM_BYTES && !osm_bytes_secret(body)) {
        (void)osm_buf_add(&e->out.text, osm_bytes_data(body), len);
        return;
    }
    end_text(e);
    e->out.parts[e->out.parts_len++] = (struct osm_discovery_part){osm_bytes_ref(body), 0, len};
    e->out.len += len;
}

/* Field 2 of a response: an Any, in the delta form inside a Resource. */
static void put_resource(struct encoder *e, enum osm_stream_mode mode, const char *type_url,
                         const struct osm_resource *r)
{
    struct osm_buf *b = &e->out.text;
    size_t body = osm_bytes_len(r->body);
    size_t any = field_len(strlen(type_url)) + field_len(body);
    if (mode == OSM_STREAM_DELTA) {
        put_head(b, 2, field_len(strlen(r->name)) + field_len(strlen(r->version)) + field_len(any));
        put_text(b, 3, r->name);
        put_text(b, 1, r->version);
    }
    put_head(b, 2, any);
    put_text(b, 1, type_url);
    put_head(b, 2, body);
    put_body(e, r->body);
}

int osm_discovery_encode(struct osm_discovery_response *out, enum osm_stream_mode mode,
                         const struct osm_stream_response *response)
{
    struct encoder e = {.out = {.text = OSM_BUF_INIT(TEXT_MAX_BYTES)}};
    char type_url[128] = "type.googleapis.com/";
    const char *message = osm_xds_type_message(response->type);
    memcpy(type_url + strlen(type_url), message, strlen(message) + 1);
    e.out.parts = osm_alloc_array(response->resources_len * 2 + 1, sizeof *e.out.parts);
    if (!e.out.parts)
        return OSM_ENOMEM;
    struct osm_buf *b = &e.out.text;
    put_text(b, 1, response->version);
    put_text(b, 4, type_url);
    put_text(b, 5, response->nonce);
    for (size_t i = 0; i < response->removed_len; i++)
        put_text(b, 6, response->removed[i]);
    for (size_t i = 0; i < response->resources_len; i++)
        put_resource(&e, mode, type_url, response->resources[i]);
    end_text(&e);
    e.out.len += b->len;
    if (b->failed) {
        int rc = b->failed;
        osm_discovery_response_clear(&e.out);
        return rc;
    }
    *out = e.out;
    return 0;
}

void osm_discovery_response_clear(struct osm_discovery_response *out)
{
    for (size_t i = 0; i < out->parts_len; i++)
        osm_bytes_unref(out->parts[i].body);
    osm_free(out->parts);
    osm_buf_clear(&out->text);
    *out = (struct osm_discovery_response){0};
}

/* ---- secrets ---- */

struct osm_resource *osm_discovery_rename_secret(const struct osm_resource *secret,
                                                 const char *name)
{
    struct osm_resource *renamed = NULL;
    const unsigned char *data = osm_bytes_data(secret->body);
    struct osm_buf b = OSM_BUF_SECRET_INIT(16 * 1024 * 1024);
    struct osm_wire_reader r = {data, data + osm_bytes_len(secret->body)};
    struct osm_wire_field f;
    int rc;
    put_text(&b, 1, name);
    for (const unsigned char *from = r.at; (rc = osm_wire_next(&r, &f)) > 0; from = r.at)
        if (f.field != 1)
            (void)osm_buf_add(&b, from, (size_t)(r.at - from));
    if (rc == 0 && !b.failed) {
        struct osm_bytes *body = osm_bytes_new_secret(b.data, b.len);
        if (body)
            renamed = osm_resource_new_versioned(name, secret->version, body);
    }
    osm_buf_clear(&b);
    return renamed;
}
