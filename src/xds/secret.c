/* See secret.h. The two messages are small, so they are written field by field; the numbers come
 * from the descriptors. */
#include "xds/secret.h"

#include "base/buf.h"
#include "xds/wire.h"

#include "envoy/extensions/transport_sockets/tls/v3/common.pb-c.h"
#include "envoy/extensions/transport_sockets/tls/v3/secret.pb-c.h"

#include <string.h>

enum { SECRET_MAX = 1 << 20 };

static const ProtobufCMessageDescriptor *const SECRET =
    &envoy__extensions__transport_sockets__tls__v3__secret__descriptor;
static const ProtobufCMessageDescriptor *const CERTIFICATE =
    &envoy__extensions__transport_sockets__tls__v3__tls_certificate__descriptor;
static const ProtobufCMessageDescriptor *const VALIDATION =
    &envoy__extensions__transport_sockets__tls__v3__certificate_validation_context__descriptor;
static const ProtobufCMessageDescriptor *const SAN =
    &envoy__extensions__transport_sockets__tls__v3__subject_alt_name_matcher__descriptor;
static const ProtobufCMessageDescriptor *const STRING_MATCHER =
    &envoy__type__matcher__v3__string_matcher__descriptor;
static const ProtobufCMessageDescriptor *const DATA_SOURCE =
    &envoy__config__core__v3__data_source__descriptor;

/* A name that is not there would be a field 0, which the buffer's reader refuses: the tests would
 * see it. */
static uint32_t field(const ProtobufCMessageDescriptor *message, const char *name)
{
    const ProtobufCFieldDescriptor *f =
        protobuf_c_message_descriptor_get_field_by_name(message, name);
    return f ? f->id : 0;
}

static void put_text(struct osm_buf *out, const ProtobufCMessageDescriptor *message,
                     const char *name, const char *text)
{
    osm_wire_put_bytes(out, field(message, name), text, strlen(text));
}

static void put_inline(struct osm_buf *out, const ProtobufCMessageDescriptor *message,
                       const char *name, const char *text)
{
    size_t mark = osm_wire_open(out, field(message, name));
    put_text(out, DATA_SOURCE, "inline_bytes", text);
    osm_wire_close(out, mark);
}

struct osm_resource *osm_secret_certificate(const char *name, const char *version,
                                            const char *chain_pem, const char *key_pem)
{
    struct osm_buf out = OSM_BUF_SECRET_INIT(SECRET_MAX);
    struct osm_resource *resource = NULL;
    put_text(&out, SECRET, "name", name);
    size_t mark = osm_wire_open(&out, field(SECRET, "tls_certificate"));
    put_inline(&out, CERTIFICATE, "certificate_chain", chain_pem);
    put_inline(&out, CERTIFICATE, "private_key", key_pem);
    osm_wire_close(&out, mark);
    struct osm_bytes *body = out.failed ? NULL : osm_bytes_new_secret(out.data, out.len);
    if (body)
        resource = osm_resource_new_versioned(name, version, body);
    osm_buf_clear(&out);
    return resource;
}

struct osm_resource *osm_secret_validation(const char *name, const char *roots_pem,
                                           const char *const *sans, size_t sans_len)
{
    struct osm_buf out = OSM_BUF_INIT(SECRET_MAX);
    struct osm_resource *resource = NULL;
    put_text(&out, SECRET, "name", name);
    size_t mark = osm_wire_open(&out, field(SECRET, "validation_context"));
    put_inline(&out, VALIDATION, "trusted_ca", roots_pem);
    for (size_t i = 0; i < sans_len; i++) {
        size_t san = osm_wire_open(&out, field(VALIDATION, "match_typed_subject_alt_names"));
        osm_wire_put_tag(&out, field(SAN, "san_type"), OSM_WIRE_VARINT);
        osm_wire_put_varint(
            &out,
            ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__SUBJECT_ALT_NAME_MATCHER__SAN_TYPE__DNS);
        size_t matcher = osm_wire_open(&out, field(SAN, "matcher"));
        put_text(&out, STRING_MATCHER, "exact", sans[i]);
        osm_wire_close(&out, matcher);
        osm_wire_close(&out, san);
    }
    osm_wire_close(&out, mark);
    struct osm_bytes *body = out.failed ? NULL : osm_bytes_new(out.data, out.len);
    if (body)
        resource = osm_resource_new(name, body);
    osm_buf_clear(&out);
    return resource;
}
