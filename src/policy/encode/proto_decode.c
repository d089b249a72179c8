/* The decoder: wire bytes to JSON by a message's descriptor. The bytes are not trusted: lengths are
 * checked by the reader, depth and size here. What the API marks as sensitive comes out as
 * "[redacted]", whoever asks.
 *
 * A singular message that occurs more than once is the concatenation of its occurrences, as
 * protobuf has it. */
#include "base/utf8.h"
#include "policy/encode/proto_priv.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INPUT_MAX = 64 << 20 };

static const char REDACTED[] = "[redacted]";

struct decoder {
    struct osm_err *err;
    int depth;
    bool secret; /* inside a sensitive field */
};

static int decode_message(struct decoder *d, const ProtobufCMessageDescriptor *message,
                          const void *data, size_t len, json_t **out);

static int malformed(struct decoder *d, const ProtobufCMessageDescriptor *message, const char *what)
{
    return osm_fail(d->err, OSM_EPARSE, "%s: %s", message->name, what);
}

static int no_memory(struct decoder *d)
{
    return osm_fail(d->err, OSM_ENOMEM, "%s", osm_code_text(OSM_ENOMEM));
}

/* The fields that the API annotates as sensitive; the compiled descriptors do not carry the
 * annotation. */
static bool is_sensitive(const ProtobufCMessageDescriptor *message, const char *field)
{
    static const struct {
        const char *message, *field;
    } rows[] = {
        {"envoy.config.core.v3.GrpcService.GoogleGrpc.SslCredentials", "private_key"},
        {"envoy.config.grpc_credential.v3.FileBasedMetadataConfig", "secret_data"},
        {"envoy.config.trace.v3.ClientConfig", "backend_token"},
        {"envoy.extensions.common.aws.v3.AssumeRoleWithWebIdentityCredentialProvider",
         "web_identity_token_data_source"},
        {"envoy.extensions.common.aws.v3.CredentialsFileCredentialProvider",
         "credentials_data_source"},
        {"envoy.extensions.common.aws.v3.IAMRolesAnywhereCredentialProvider", "private_key"},
        {"envoy.extensions.common.aws.v3.InlineCredentialProvider", "secret_access_key"},
        {"envoy.extensions.common.aws.v3.InlineCredentialProvider", "session_token"},
        {"envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth", "credentials"},
        {"envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuthPerRoute", "credentials"},
        {"envoy.extensions.filters.http.aws_lambda.v3.Credentials", "secret_access_key"},
        {"envoy.extensions.filters.http.aws_lambda.v3.Credentials", "session_token"},
        {"envoy.extensions.filters.http.basic_auth.v3.BasicAuth", "users"},
        {"envoy.extensions.filters.http.basic_auth.v3.BasicAuthPerRoute", "users"},
        {"envoy.extensions.filters.http.ext_authz.v3.CheckSettings", "context_extensions"},
        {"envoy.extensions.filters.network.redis_proxy.v3.RedisProtocolOptions", "auth_password"},
        {"envoy.extensions.filters.network.redis_proxy.v3.RedisProtocolOptions", "auth_username"},
        {"envoy.extensions.filters.network.redis_proxy.v3.RedisProtocolOptions.Credential",
         "auth_password"},
        {"envoy.extensions.filters.network.redis_proxy.v3.RedisProtocolOptions.Credential",
         "auth_username"},
        {"envoy.extensions.filters.network.redis_proxy.v3.RedisProxy", "downstream_auth_password"},
        {"envoy.extensions.filters.network.redis_proxy.v3.RedisProxy", "downstream_auth_passwords"},
        {"envoy.extensions.filters.network.redis_proxy.v3.RedisProxy", "downstream_auth_username"},
        {"envoy.extensions.grpc_service.call_credentials.file_based_metadata.v3."
         "FileBasedMetadataCallCredentials",
         "secret_data"},
        {"envoy.extensions.transport_sockets.tls.v3.GenericSecret", "secret"},
        {"envoy.extensions.transport_sockets.tls.v3.GenericSecret", "secrets"},
        {"envoy.extensions.transport_sockets.tls.v3.PrivateKeyProvider", "typed_config"},
        {"envoy.extensions.transport_sockets.tls.v3.TlsCertificate", "password"},
        {"envoy.extensions.transport_sockets.tls.v3.TlsCertificate", "pkcs12"},
        {"envoy.extensions.transport_sockets.tls.v3.TlsCertificate", "private_key"},
        {"envoy.extensions.transport_sockets.tls.v3.TlsSessionTicketKeys", "keys"},
        {"envoy.service.redis_auth.v3.RedisProxyExternalAuthRequest", "password"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!strcmp(rows[i].field, field) && !strcmp(rows[i].message, message->name))
            return true;
    return false;
}

/* Where the secret lies is no secret. */
static bool is_place(const ProtobufCMessageDescriptor *message, const char *field)
{
    return !strcmp(message->name, "envoy.config.core.v3.DataSource") &&
           (!strcmp(field, "filename") || !strcmp(field, "environment_variable"));
}

/* ---- scalars ---- */

static json_t *base64(const uint8_t *data, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = osm_alloc_array(len / 3 + 1, 4);
    size_t n = 0;
    if (!text)
        return NULL;
    for (size_t i = 0; i < len; i += 3) {
        uint32_t bits = (uint32_t)data[i] << 16 | (i + 1 < len ? (uint32_t)data[i + 1] << 8 : 0) |
                        (i + 2 < len ? data[i + 2] : 0u);
        text[n++] = digits[bits >> 18];
        text[n++] = digits[bits >> 12 & 63];
        text[n++] = i + 1 < len ? digits[bits >> 6 & 63] : '=';
        text[n++] = i + 2 < len ? digits[bits & 63] : '=';
    }
    json_t *json = json_stringn(text, n);
    osm_free(text);
    return json;
}

static json_t *signed_number(int64_t value)
{
    return json_integer(value);
}

/* Integers that JSON's reader cannot hold go as text, which the encoder reads too. */
static json_t *unsigned_number(uint64_t value)
{
    return value <= INT64_MAX ? json_integer((json_int_t)value) : json_sprintf("%" PRIu64, value);
}

static json_t *real(double value)
{
    if (isnan(value))
        return json_string("NaN");
    if (isinf(value))
        return json_string(value > 0 ? "Infinity" : "-Infinity");
    if (floor(value) == value && fabs(value) < 0x1p53 && !(value == 0 && signbit(value)))
        return json_integer((json_int_t)value);
    return json_real(value);
}

/* The shortest decimal that gives the same float, not the digits of its double. */
static json_t *narrow_real(float value)
{
    char text[32];
    if (!isfinite(value))
        return real((double)value);
    for (int digits = 6; digits <= 9; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value)
            break;
    }
    return real(strtod(text, NULL));
}

static json_t *number(const ProtobufCFieldDescriptor *f, uint64_t bits)
{
    double wide;
    float narrow;
    uint32_t low = (uint32_t)bits;
    switch (f->type) {
    case PROTOBUF_C_TYPE_BOOL:
        return json_boolean(bits != 0);
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return signed_number((int32_t)low);
    case PROTOBUF_C_TYPE_SINT32:
        return signed_number((int32_t)(low >> 1 ^ (0 - (low & 1))));
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return signed_number((int64_t)bits);
    case PROTOBUF_C_TYPE_SINT64:
        return signed_number((int64_t)(bits >> 1 ^ (0 - (bits & 1))));
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return unsigned_number(low);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return unsigned_number(bits);
    case PROTOBUF_C_TYPE_FLOAT:
        memcpy(&narrow, &low, sizeof narrow);
        return narrow_real(narrow);
    case PROTOBUF_C_TYPE_DOUBLE:
        memcpy(&wide, &bits, sizeof wide);
        return real(wide);
    case PROTOBUF_C_TYPE_ENUM: {
        const ProtobufCEnumValue *value = osm__proto_enum_value(f->descriptor, (int32_t)low);
        return value ? json_string(value->name) : signed_number((int32_t)low);
    }
    default:
        return NULL;
    }
}

/* One value of the field, whose wire type fits. */
static int decode_value(struct decoder *d, const ProtobufCMessageDescriptor *message,
                        const ProtobufCFieldDescriptor *f, const struct osm_wire_field *wire,
                        json_t **out)
{
    bool outer = d->secret;
    json_t *json = NULL;
    int rc = 0;
    d->secret = outer || is_sensitive(message, f->name);
    if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
        rc = decode_message(d, f->descriptor, wire->data, wire->len, &json);
    } else if (f->type == PROTOBUF_C_TYPE_STRING || f->type == PROTOBUF_C_TYPE_BYTES) {
        bool text = osm_utf8_valid((const char *)wire->data, wire->len);
        if (d->secret && !is_place(message, f->name))
            json = json_string(REDACTED);
        else if (text)
            json = json_stringn((const char *)wire->data, wire->len);
        else if (f->type == PROTOBUF_C_TYPE_BYTES)
            json = json_pack("{s:o}", "base64", base64(wire->data, wire->len));
        else
            rc = malformed(d, message, "a string is not UTF-8");
    } else {
        json = number(f, wire->number);
    }
    d->secret = outer;
    if (!rc && !json)
        rc = no_memory(d);
    if (!rc)
        *out = json;
    return rc;
}

/* ---- fields ---- */

static int append(struct decoder *d, json_t *object, const char *name, json_t *item)
{
    json_t *list = json_object_get(object, name);
    if (!list) {
        list = json_array();
        if (json_object_set_new(object, name, list)) {
            json_decref(item);
            return no_memory(d);
        }
    }
    return json_array_append_new(list, item) ? no_memory(d) : 0;
}

static int decode_packed(struct decoder *d, const ProtobufCFieldDescriptor *f,
                         const struct osm_wire_field *wire,
                         const ProtobufCMessageDescriptor *message, json_t *object)
{
    struct osm_wire_reader reader = {wire->data, wire->data + wire->len};
    enum osm_wire_type type = osm__proto_wire_type(f->type);
    for (;;) {
        uint64_t bits;
        int rc = type == OSM_WIRE_VARINT
                     ? osm_wire_next_varint(&reader, &bits)
                     : osm_wire_next_fixed(&reader, type == OSM_WIRE_32 ? 4 : 8, &bits);
        if (!rc)
            return 0;
        if (rc < 0)
            return malformed(d, message, "a packed field is cut off");
        rc = append(d, object, f->name, number(f, bits));
        if (rc)
            return rc;
    }
}

static json_t *default_value(const ProtobufCFieldDescriptor *f)
{
    if (f->type == PROTOBUF_C_TYPE_STRING || f->type == PROTOBUF_C_TYPE_BYTES)
        return json_string("");
    return number(f, 0);
}

/* The last occurrence of each of key and value counts; what is absent has its default. */
static int decode_map_entry(struct decoder *d, const ProtobufCMessageDescriptor *entry,
                            const struct osm_wire_field *wire, const char *name, json_t *object)
{
    json_t *values[2] = {NULL, NULL}, *map = json_object_get(object, name);
    struct osm_wire_reader reader = {wire->data, wire->data + wire->len};
    struct osm_wire_field at;
    char text[32];
    int rc;
    while ((rc = osm_wire_next(&reader, &at)) == 1) {
        if (at.field < 1 || at.field > 2 ||
            at.type != osm__proto_wire_type(entry->fields[at.field - 1].type))
            continue;
        json_t *value;
        bool secret = d->secret;
        d->secret = secret && at.field == 2; /* keys are names */
        rc = decode_value(d, entry, &entry->fields[at.field - 1], &at, &value);
        d->secret = secret;
        if (rc)
            goto out;
        json_decref(values[at.field - 1]);
        values[at.field - 1] = value;
    }
    if (rc < 0) {
        rc = malformed(d, entry, "an entry is cut off");
        goto out;
    }
    if (!values[0])
        values[0] = default_value(&entry->fields[0]);
    if (!values[1] && entry->fields[1].type == PROTOBUF_C_TYPE_MESSAGE)
        rc = decode_message(d, entry->fields[1].descriptor, "", 0, &values[1]);
    else if (!values[1])
        values[1] = default_value(&entry->fields[1]);
    if (rc)
        goto out;
    const char *key = json_string_value(values[0]);
    size_t key_len = json_string_length(values[0]);
    if (json_is_boolean(values[0])) {
        key = json_is_true(values[0]) ? "true" : "false";
        key_len = strlen(key);
    } else if (json_is_integer(values[0])) {
        (void)snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(values[0]));
        key = text;
        key_len = strlen(key);
    }
    if (!map) {
        map = json_object();
        if (json_object_set_new(object, name, map))
            map = NULL;
    }
    if (!map || !key || !values[1]) {
        rc = no_memory(d);
        goto out;
    }
    if (memchr(key, 0, key_len)) {
        rc = malformed(d, entry, "a key holds NUL");
        goto out;
    }
    if (json_object_setn_new(map, key, key_len, osm_take_ptr(&values[1])))
        rc = no_memory(d);
out:
    json_decref(values[0]);
    json_decref(values[1]);
    return rc;
}

/* Where a singular message has been seen. It is decoded once, after the last field. */
struct seen {
    const uint8_t *from, *end;  /* from its first occurrence to behind its last */
    struct osm_wire_field wire; /* the last */
    size_t count;
};

/* Setting one member of a oneof unsets the others. */
static void unset_others(const ProtobufCMessageDescriptor *message,
                         const ProtobufCFieldDescriptor *f, json_t *object, struct seen *seen)
{
    for (unsigned i = 0; f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF && i < message->n_fields; i++) {
        const ProtobufCFieldDescriptor *other = &message->fields[i];
        if (other == f || !(other->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) ||
            other->quantifier_offset != f->quantifier_offset)
            continue;
        (void)json_object_del(object, other->name);
        seen[i].count = 0;
    }
}

static int decode_seen(struct decoder *d, const ProtobufCMessageDescriptor *message,
                       const ProtobufCFieldDescriptor *f, const struct seen *seen, json_t *object)
{
    struct osm_buf joined = OSM_BUF_SECRET_INIT(INPUT_MAX);
    struct osm_wire_field whole = seen->wire, at;
    struct osm_wire_reader reader = {seen->from, seen->end};
    json_t *value = NULL;
    if (seen->count > 1) {
        while (osm_wire_next(&reader, &at) == 1)
            if (at.field == f->id && at.type == OSM_WIRE_BYTES)
                (void)osm_buf_add(&joined, at.data, at.len);
        whole.data = (const uint8_t *)(joined.data ? joined.data : "");
        whole.len = joined.len;
    }
    int rc = joined.failed ? no_memory(d) : decode_value(d, message, f, &whole, &value);
    if (!rc && json_object_set_new(object, f->name, value))
        rc = no_memory(d);
    osm_buf_clear(&joined);
    return rc;
}

/* @p start: where the field's tag is. */
static int decode_field(struct decoder *d, const ProtobufCMessageDescriptor *message,
                        const ProtobufCFieldDescriptor *f, const struct osm_wire_field *wire,
                        const uint8_t *start, json_t *object, struct seen *seen)
{
    bool repeated = f->label == PROTOBUF_C_LABEL_REPEATED;
    enum osm_wire_type type = osm__proto_wire_type(f->type);
    json_t *value = NULL;
    if (repeated && wire->type == OSM_WIRE_BYTES && type != OSM_WIRE_BYTES)
        return decode_packed(d, f, wire, message, object);
    if (wire->type != type)
        return 0; /* as an unknown field */
    const ProtobufCMessageDescriptor *entry = osm__proto_map_entry(f);
    if (entry) {
        bool outer = d->secret;
        d->secret = outer || is_sensitive(message, f->name);
        int rc = decode_map_entry(d, entry, wire, f->name, object);
        d->secret = outer;
        return rc;
    }
    if (repeated) {
        int rc = decode_value(d, message, f, wire, &value);
        return rc ? rc : append(d, object, f->name, value);
    }
    unset_others(message, f, object, seen);
    struct seen *own = &seen[f - message->fields];
    if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
        if (!own->count++)
            own->from = start;
        own->end = wire->data + wire->len;
        own->wire = *wire;
        value = json_null(); /* keeps its place among the keys */
    } else {
        int rc = decode_value(d, message, f, wire, &value);
        if (rc)
            return rc;
    }
    return json_object_set_new(object, f->name, value) ? no_memory(d) : 0;
}

static int decode_fields(struct decoder *d, const ProtobufCMessageDescriptor *message,
                         const void *data, size_t len, json_t **out)
{
    struct osm_wire_reader reader = {data, (const uint8_t *)data + len};
    struct osm_wire_field wire;
    json_t *object = json_object();
    struct seen *seen = osm_alloc_array(message->n_fields, sizeof *seen);
    const uint8_t *start = reader.at;
    int rc = object && seen ? 0 : no_memory(d);
    while (!rc && (rc = osm_wire_next(&reader, &wire)) == 1) {
        const ProtobufCFieldDescriptor *f =
            protobuf_c_message_descriptor_get_field(message, wire.field);
        rc = f ? decode_field(d, message, f, &wire, start, object, seen) : 0;
        start = reader.at;
    }
    if (rc == OSM_EPARSE && !d->err->code)
        rc = malformed(d, message, "cut off, or not in the wire format");
    for (unsigned i = 0; !rc && i < message->n_fields; i++)
        if (seen[i].count)
            rc = decode_seen(d, message, &message->fields[i], &seen[i], object);
    if (rc)
        json_decref(object);
    else
        *out = object;
    osm_free(seen);
    return rc;
}

/* ---- messages with a form of their own ---- */

static int decode_any(struct decoder *d, const ProtobufCMessageDescriptor *message,
                      const void *data, size_t len, json_t **out)
{
    struct osm_wire_reader reader = {data, (const uint8_t *)data + len};
    struct osm_wire_field wire, url = {0}, value = {0};
    json_t *object = NULL, *content = NULL;
    char *name = NULL;
    int rc;
    while ((rc = osm_wire_next(&reader, &wire)) == 1) {
        if (wire.field == 1 && wire.type == OSM_WIRE_BYTES)
            url = wire;
        else if (wire.field == 2 && wire.type == OSM_WIRE_BYTES)
            value = wire;
    }
    if (rc < 0 || !osm_utf8_valid((const char *)url.data, url.len) ||
        (url.len && memchr(url.data, 0, url.len)))
        return malformed(d, message, "not an Any");
    if (!url.len && !value.len) {
        *out = json_object();
        return *out ? 0 : no_memory(d);
    }
    name = osm_strndup(url.len ? (const char *)url.data : "", url.len);
    if (!name)
        return no_memory(d);
    const ProtobufCMessageDescriptor *type = osm_proto_find(name);
    if (!type)
        content = d->secret ? json_string(REDACTED) : base64(value.data, value.len);
    else
        rc = decode_message(d, type, value.len ? value.data : (const uint8_t *)"", value.len,
                            &content);
    if (!rc && !content)
        rc = no_memory(d);
    if (rc)
        goto out;
    object = json_pack("{s:s}", "@type", name);
    if (!object)
        rc = no_memory(d);
    else if (type && osm__proto_form(type) == OSM__FORM_FIELDS)
        rc = json_object_update(object, content) ? no_memory(d) : 0;
    else
        rc = json_object_set(object, "value", content) ? no_memory(d) : 0;
    if (!rc)
        *out = osm_take_ptr(&object);
out:
    json_decref(object);
    json_decref(content);
    osm_free(name);
    return rc;
}

static int decode_time(struct decoder *d, const ProtobufCMessageDescriptor *message,
                       const void *data, size_t len, bool duration, json_t **out)
{
    struct osm_wire_reader reader = {data, (const uint8_t *)data + len};
    struct osm_wire_field wire;
    struct osm__proto_time t = {0, 0};
    char text[OSM__PROTO_TIME_SIZE];
    int rc;
    while ((rc = osm_wire_next(&reader, &wire)) == 1) {
        if (wire.field == 1 && wire.type == OSM_WIRE_VARINT)
            t.seconds = (int64_t)wire.number;
        else if (wire.field == 2 && wire.type == OSM_WIRE_VARINT)
            t.nanos = (int32_t)(uint32_t)wire.number;
    }
    if (rc < 0 ||
        !(duration ? osm__proto_print_duration(t, text) : osm__proto_print_timestamp(t, text)))
        return malformed(d, message, "out of range");
    *out = json_string(text);
    return *out ? 0 : no_memory(d);
}

/* The content of a message, as the JSON that its form has. */
static int decode_message(struct decoder *d, const ProtobufCMessageDescriptor *message,
                          const void *data, size_t len, json_t **out)
{
    enum osm__proto_form form = osm__proto_form(message);
    json_t *object = NULL;
    if (d->depth >= OSM__PROTO_DEPTH)
        return osm_fail(d->err, OSM_EPARSE, "%s: more than %d messages deep", message->name,
                        OSM__PROTO_DEPTH);
    d->depth++;
    int rc;
    switch (form) {
    case OSM__FORM_ANY:
        rc = decode_any(d, message, data, len, out);
        break;
    case OSM__FORM_DURATION:
    case OSM__FORM_TIMESTAMP:
        rc = decode_time(d, message, data, len, form == OSM__FORM_DURATION, out);
        break;
    case OSM__FORM_FIELDS:
        rc = decode_fields(d, message, data, len, out);
        break;
    default: { /* one field, which stands for the message */
        rc = decode_fields(d, message, data, len, &object);
        if (rc)
            break;
        void *at = json_object_iter(object);
        json_t *only = at ? json_incref(json_object_iter_value(at)) : NULL;
        if (!only)
            only = form == OSM__FORM_WRAPPER  ? default_value(&message->fields[0])
                   : form == OSM__FORM_STRUCT ? json_object()
                   : form == OSM__FORM_LIST   ? json_array()
                                              : json_null();
        else if (form == OSM__FORM_VALUE && json_is_string(only) &&
                 !strcmp(json_object_iter_key(at), "null_value"))
            only = (json_decref(only), json_null());
        *out = only;
        rc = only ? 0 : no_memory(d);
        json_decref(object);
        break;
    }
    }
    d->depth--;
    return rc;
}

int osm_proto_decode(const ProtobufCMessageDescriptor *descriptor, const void *data, size_t len,
                     json_t **out, struct osm_err *err)
{
    struct osm_err own = {0};
    struct decoder d = {.err = &own};
    if (len > INPUT_MAX)
        return osm_fail(err, OSM_EPARSE, "%s: larger than %d bytes", descriptor->name, INPUT_MAX);
    int rc = decode_message(&d, descriptor, data, len, out);
    if (rc)
        (void)osm_fail(err, rc, "%s", own.msg);
    return rc;
}
