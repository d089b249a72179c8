/* Messages that are not written as a table of their fields: Any, times, wrappers, plain data. */
#include "base/utf8.h"
#include "policy/encode/proto_encode_priv.h"

#include <math.h>
#include <string.h>

int osm__proto_encode_any(struct osm__proto_encoder *e, struct osm__proto_node *node,
                          const struct osm__proto_value *v)
{
    if (v->type != OSM__VALUE_MAP && v->type != OSM__VALUE_TABLE)
        return osm__proto_expected(e, node, v, "a table with \"@type\"");
    int level = e->source->mark(e->source->ctx);
    size_t base = e->entries_len;
    struct osm__proto_value type = {.type_name = "nothing"}, content = type;
    const ProtobufCMessageDescriptor *message = NULL;
    char room[OSM_BUF_ROOM];
    struct osm_buf url = osm_buf_on(room, sizeof room, 1024);
    int rc = osm__proto_read_entries(e, node, v);
    if (rc || e->entries_len == base) /* {} is the empty Any */
        goto out;
    for (size_t i = base; i < e->entries_len; i++) {
        if (osm__proto_has_text(&e->entries[i].key, "@type"))
            type = e->entries[i].value;
        else if (osm__proto_has_text(&e->entries[i].key, "value"))
            content = e->entries[i].value;
    }
    node->field = "@type";
    node->field_len = 5;
    if (type.type != OSM__VALUE_STRING) {
        rc = osm__proto_refuse(e, node, OSM_EINVAL,
                               "expected the full name of a message, such as "
                               "\"envoy.config.cluster.v3.Cluster\", got %s",
                               type.type_name);
        goto out;
    }
    message = strlen(type.s) == type.len ? osm_proto_find(type.s) : NULL;
    if (!message) {
        rc = osm__proto_refuse(e, node, OSM_EINVAL, "no message \"%.200s\" is known", type.s);
        goto out;
    }
    (void)osm_buf_add_strs(&url, "type.googleapis.com/", message->name, NULL);
    if (url.failed) {
        rc = osm__proto_refuse(e, node, url.failed, "%s", osm_code_text(url.failed));
        goto out;
    }
    osm_wire_put_bytes(e->out, 1, url.data, url.len);
    node->field = NULL;
    size_t mark = osm_wire_open(e->out, 2), start = e->out->len;
    if (osm__proto_form(message) == OSM__FORM_FIELDS) {
        rc = osm__proto_encode_message(e, node, v, message, true);
    } else {
        node->field = "value";
        node->field_len = 5;
        for (size_t i = base; !rc && i < e->entries_len; i++)
            if (!osm__proto_has_text(&e->entries[i].key, "@type") &&
                !osm__proto_has_text(&e->entries[i].key, "value"))
                rc = osm__proto_refuse(e, node, OSM_EINVAL,
                                       "a %s in an Any has \"value\" and nothing else",
                                       message->name);
        if (!rc)
            rc = osm__proto_encode_message(e, node, &content, message, false);
    }
    if (!rc && e->out->len > start)
        osm_wire_close(e->out, mark);
    else if (!rc)
        osm__proto_truncate_to(e->out,
                               mark - 1); /* an empty value is left out: its tag is one byte */
out:
    osm_buf_clear(&url);
    e->entries_len = base;
    e->source->release(e->source->ctx, level);
    return rc;
}

int osm__proto_encode_time(struct osm__proto_encoder *e, struct osm__proto_node *node,
                           const struct osm__proto_value *v, bool duration)
{
    const char *what =
        duration ? "a duration such as \"1s\"" : "a timestamp such as \"2024-01-31T12:00:00Z\"";
    struct osm__proto_time t;
    if (v->type != OSM__VALUE_STRING)
        return osm__proto_expected(e, node, v, what);
    if (duration ? !osm__proto_parse_duration(v->s, v->len, &t)
                 : !osm__proto_parse_timestamp(v->s, v->len, &t))
        return osm__proto_refuse(e, node, OSM_EINVAL, "expected %s, got \"%.*s\"", what,
                                 (int)(v->len > 60 ? 60 : v->len), v->s);
    node->checks = duration && node->up ? node->up->checks : NULL;
    int rc = osm__proto_check_duration(e, node, t);
    if (rc)
        return rc;
    if (t.seconds) {
        osm_wire_put_tag(e->out, 1, OSM_WIRE_VARINT);
        osm_wire_put_varint(e->out, (uint64_t)t.seconds);
    }
    if (t.nanos) {
        osm_wire_put_tag(e->out, 2, OSM_WIRE_VARINT);
        osm_wire_put_varint(e->out, (uint64_t)(int64_t)t.nanos);
    }
    return 0;
}

/* A wrapper, Struct or ListValue around a plain value: the one field of the message takes the value
 * itself. */
int osm__proto_encode_only_field(struct osm__proto_encoder *e, struct osm__proto_node *node,
                                 const struct osm__proto_value *v)
{
    const ProtobufCFieldDescriptor *f = &node->message->fields[0];
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        const ProtobufCMessageDescriptor *entry = osm__proto_map_entry(f);
        return entry ? osm__proto_encode_map(e, node, f, entry, v)
                     : osm__proto_encode_list(e, node, f, v);
    }
    node->checks = node->up ? node->up->checks : NULL;
    return osm__proto_encode_scalar(e, node, f, v, true);
}

int osm__proto_encode_value(struct osm__proto_encoder *e, struct osm__proto_node *node,
                            const struct osm__proto_value *v)
{
    uint64_t bits;
    switch (v->type) {
    case OSM__VALUE_NONE:
        osm_wire_put_tag(e->out, 1, OSM_WIRE_VARINT);
        osm_wire_put_varint(e->out, 0);
        return 0;
    case OSM__VALUE_INT:
    case OSM__VALUE_DOUBLE:
        if (!isfinite(v->d))
            return osm__proto_refuse(e, node, OSM_EINVAL, "expected a finite number, got %g", v->d);
        osm_wire_put_tag(e->out, 2, OSM_WIRE_64);
        memcpy(&bits, &v->d, sizeof bits);
        osm_wire_put_fixed64(e->out, bits);
        return 0;
    case OSM__VALUE_STRING:
        if (!osm_utf8_valid(v->s, v->len))
            return osm__proto_refuse(e, node, OSM_EINVAL,
                                     "expected a string, got bytes that are not UTF-8");
        osm_wire_put_bytes(e->out, 3, v->s, v->len);
        return 0;
    case OSM__VALUE_BOOL:
        osm_wire_put_tag(e->out, 4, OSM_WIRE_VARINT);
        osm_wire_put_varint(e->out, v->b);
        return 0;
    case OSM__VALUE_MAP:
    case OSM__VALUE_LIST:
    case OSM__VALUE_TABLE: {
        bool list = v->type == OSM__VALUE_LIST || e->source->length(e->source->ctx, v) > 0;
        const ProtobufCFieldDescriptor *f =
            osm__proto_field(node->message, list ? "list_value" : "struct_value", list ? 10 : 12);
        return osm__proto_encode_nested(e, node, f->id, v, f->descriptor, false);
    }
    default:
        return osm__proto_expected(e, node, v, "plain data");
    }
}
