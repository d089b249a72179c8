#include "xds/parts.h"

#include "base/mem.h"
#include "xds/compose_priv.h"
#include "xds/wire.h"

#include <stdlib.h>
#include <string.h>

enum { AROUND_MAX_BYTES = 64 << 20 };

struct form {
    enum osm_xds_type type;
    uint32_t name, direction; /* numbers of fields, of an element and of the whole; 0: none */
    const char *field, *message;
};

static const struct form forms[] = {
    {OSM_XDS_LDS, 7, 16, "filter_chains", "envoy.config.listener.v3.FilterChain"},
    {OSM_XDS_RDS, 1, 0, "virtual_hosts", "envoy.config.route.v3.VirtualHost"},
};

static const struct form *form_of(enum osm_xds_type type)
{
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (forms[i].type == type)
            return &forms[i];
    return NULL;
}

const char *osm_parts_field(enum osm_xds_type type, const char **message)
{
    const struct form *form = form_of(type);
    if (form && message)
        *message = form->message;
    return form ? form->field : NULL;
}

/* The last occurrence of a text field counts. */
static int name_of(const struct form *form, const uint8_t *data, size_t len, char **out)
{
    struct osm_wire_reader reader = {data, data + len};
    struct osm_wire_field field;
    const uint8_t *name = data;
    size_t name_len = 0;
    int rc;
    while ((rc = osm_wire_next(&reader, &field)) == 1)
        if (field.field == form->name && field.type == OSM_WIRE_BYTES) {
            name = field.data;
            name_len = field.len;
        }
    if (rc)
        return rc;
    *out = osm_strndup(name_len ? (const char *)name : "", name_len);
    return *out ? 0 : OSM_ENOMEM;
}

static int add(struct osm_parts *out, const struct form *form, const struct osm_wire_field *field)
{
    if (!(out->len & (out->len - 1))) {
        struct osm_part *grown =
            osm_realloc_array(out->list, out->len ? out->len * 2 : 1, sizeof *grown);
        if (!grown)
            return OSM_ENOMEM;
        out->list = grown;
    }
    struct osm_part part = {NULL, field->data, field->len};
    int rc = name_of(form, field->data, field->len, &part.name);
    if (!rc)
        out->list[out->len++] = part;
    return rc;
}

static int by_name(const void *a, const void *b)
{
    const struct osm_part *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : (x->data > y->data) - (x->data < y->data);
}

int osm_parts_of(struct osm_parts *out, enum osm_xds_type type, const struct osm_bytes *body)
{
    const struct form *form = form_of(type);
    const uint8_t *data = osm_bytes_data(body);
    struct osm_wire_reader reader = {data, data + osm_bytes_len(body)};
    struct osm_wire_field field;
    const uint8_t *from = reader.at;
    int rc;
    *out = (struct osm_parts){.around = OSM_BUF_INIT(AROUND_MAX_BYTES)};
    if (!form)
        return OSM_EPARSE;
    for (; (rc = osm_wire_next(&reader, &field)) == 1; from = reader.at) {
        if (field.field == osm__element_field(type, NULL) && field.type == OSM_WIRE_BYTES)
            rc = add(out, form, &field);
        else
            rc = osm_buf_add(&out->around, from, (size_t)(reader.at - from));
        if (form->direction && field.field == form->direction)
            out->direction = (uint32_t)field.number;
        if (rc)
            break;
    }
    if (rc) {
        osm_parts_clear(out);
        return rc;
    }
    if (out->len)
        qsort(out->list, out->len, sizeof *out->list, by_name);
    return 0;
}

void osm_parts_clear(struct osm_parts *parts)
{
    for (size_t i = 0; i < parts->len; i++)
        osm_free(parts->list[i].name);
    osm_free(parts->list);
    osm_buf_clear(&parts->around);
    parts->list = NULL;
    parts->len = 0;
}

static int against_name(const void *name, const void *part)
{
    return strcmp(name, ((const struct osm_part *)part)->name);
}

const struct osm_part *osm_parts_find(const struct osm_parts *parts, const char *name)
{
    return parts->len ? bsearch(name, parts->list, parts->len, sizeof *parts->list, against_name)
                      : NULL;
}
