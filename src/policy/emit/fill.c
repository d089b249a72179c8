/* What C fills into items: the addresses of ready endpoints and today's roots. Neither enters Lua,
 * so a moved pod runs no rule. */
#include "policy/emit/emit.h"

#include "policy/memo/cells.h"
#include "xds/secret.h"
#include "xds/wire.h"

#include <stdlib.h>
#include <string.h>

/* Field numbers of envoy.config.endpoint.v3 and envoy.config.core.v3. */
enum {
    CLA_CLUSTER_NAME = 1,
    CLA_ENDPOINTS = 2,
    LOCALITY_ENDPOINTS_LOCALITY = 1,
    LOCALITY_ENDPOINTS_LB_ENDPOINTS = 2,
    LOCALITY_ZONE = 2,
    LB_ENDPOINT_ENDPOINT = 1,
    ENDPOINT_ADDRESS = 1,
    ADDRESS_SOCKET_ADDRESS = 1,
    SOCKET_ADDRESS_ADDRESS = 2,
    SOCKET_ADDRESS_PORT = 3,
};

static int by_text(const void *key, const void *slot)
{
    return strcmp(key, *(char *const *)slot);
}

static int by_number(const void *a, const void *b)
{
    const uint16_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static bool allowed(const struct osm_emitted *m, const struct osm_endpoint *endpoint)
{
    if (m->ports && (!m->ports_len || !bsearch(&endpoint->port, m->ports, m->ports_len,
                                               sizeof *m->ports, by_number)))
        return false;
    return m->any_account || (m->names_len && bsearch(endpoint->account, m->names, m->names_len,
                                                      sizeof *m->names, by_text));
}

static void put_endpoint(struct osm_buf *out, const struct osm_endpoint *endpoint)
{
    size_t lb = osm_wire_open(out, LOCALITY_ENDPOINTS_LB_ENDPOINTS);
    size_t inner = osm_wire_open(out, LB_ENDPOINT_ENDPOINT);
    size_t address = osm_wire_open(out, ENDPOINT_ADDRESS);
    size_t socket = osm_wire_open(out, ADDRESS_SOCKET_ADDRESS);
    osm_wire_put_bytes(out, SOCKET_ADDRESS_ADDRESS, endpoint->address, strlen(endpoint->address));
    osm_wire_put_tag(out, SOCKET_ADDRESS_PORT, OSM_WIRE_VARINT);
    osm_wire_put_varint(out, endpoint->port);
    osm_wire_close(out, socket);
    osm_wire_close(out, address);
    osm_wire_close(out, inner);
    osm_wire_close(out, lb);
}

/* One locality (zone "local", priority 0) with the ready endpoints of the accounts and at the ports
 * that are allowed; without any, an assignment without endpoints, never none at all: Envoy would
 * wait for it. */
static struct osm_bytes *fill_endpoints(struct osm_engine *e, const struct osm_emitted *m)
{
    struct osm_endpoint *endpoints = NULL;
    size_t n = 0;
    if (osm_world_endpoints(e->world, m->ns, m->service, m->port, &endpoints, &n))
        return NULL;
    struct osm_buf out = OSM_BUF_INIT(OSM_MESSAGE_MAX);
    struct osm_bytes *bytes = NULL;
    size_t locality = 0;
    bool any = false;
    osm_wire_put_bytes(&out, CLA_CLUSTER_NAME, m->item->resource, strlen(m->item->resource));
    for (size_t i = 0; i < n; i++) {
        if (!allowed(m, &endpoints[i]))
            continue;
        if (!any) {
            locality = osm_wire_open(&out, CLA_ENDPOINTS);
            size_t zone = osm_wire_open(&out, LOCALITY_ENDPOINTS_LOCALITY);
            osm_wire_put_bytes(&out, LOCALITY_ZONE, "local", 5);
            osm_wire_close(&out, zone);
        }
        any = true;
        put_endpoint(&out, &endpoints[i]);
    }
    if (any)
        osm_wire_close(&out, locality);
    if (!out.failed)
        bytes = osm_bytes_new(out.data, out.len);
    osm_buf_clear(&out);
    osm_free(endpoints);
    return bytes;
}

static struct osm_bytes *fill_roots(struct osm_engine *e, const struct osm_emitted *m)
{
    struct osm_resource *secret = osm_secret_validation(
        m->item->resource, e->roots_pem, (const char *const *)m->names, m->names_len);
    struct osm_bytes *bytes = secret ? osm_bytes_ref(secret->body) : NULL;
    osm_resource_unref(secret);
    return bytes;
}

static const char *copy(const char *text, bool *failed)
{
    char *made = text ? osm_strdup(text) : NULL;
    *failed = *failed || (text && !made);
    return made;
}

/* What is filled has no element, tags or references. */
static struct osm_item *clone(const struct osm_item *item, struct osm_bytes *body)
{
    bool failed = false;
    struct osm_item *made = osm_alloc(sizeof *made);
    if (!made)
        return NULL;
    made->type = item->type;
    made->part = item->part;
    made->authorises = item->authorises;
    made->key = copy(item->key, &failed);
    made->resource = copy(item->resource, &failed);
    made->place = copy(item->place, &failed);
    made->audience = osm_alloc_array(item->audience_len, sizeof *made->audience);
    failed = failed || !made->audience;
    for (size_t i = 0; !failed && i < item->audience_len; i++) {
        const struct osm_term *t = &item->audience[i];
        made->audience_len = i + 1;
        made->audience[i] = (struct osm_term){copy(t->pod, &failed), copy(t->service, &failed),
                                              copy(t->account, &failed), copy(t->ns, &failed)};
    }
    if (failed) {
        osm_item_free(made);
        return NULL;
    }
    made->body = osm_bytes_ref(body);
    return made;
}

int osm_fill_put(struct osm_engine *e, struct osm_emitted *m)
{
    struct osm_bytes *body = m->fill == OSM_FILL_ROOTS ? fill_roots(e, m) : fill_endpoints(e, m);
    if (!body)
        return OSM_ENOMEM;
    int rc = 0;
    if (!m->put || !osm_hash_equal(m->body, osm_bytes_hash(body))) {
        struct osm_item *item = clone(m->item, body);
        rc = item ? osm_compose_put(e->compose, item) : OSM_ENOMEM;
        m->put = true;
        m->body = osm_bytes_hash(body);
    }
    osm_bytes_unref(body);
    return rc;
}

static int fill_cell(struct osm_engine *e, struct osm_cell *c, bool roots)
{
    int rc = 0;
    for (size_t n = 0; c->emission && !rc && n < c->emission->len; n++) {
        struct osm_emitted *m = &c->emission->list[n];
        if (m->put && m->fill == (roots ? OSM_FILL_ROOTS : OSM_FILL_ENDPOINTS))
            rc = osm_fill_put(e, m);
    }
    return rc;
}

/* An emitter in error keeps its assignments, and their addresses go on following the pods; what was
 * withdrawn stays so. */
int osm_fill_all(struct osm_engine *e)
{
    int rc = 0;
    for (size_t i = 0; i < e->refill.len; i++) {
        e->refill.list[i]->refill = false;
        if (!rc)
            rc = fill_cell(e, e->refill.list[i], false);
    }
    e->refill.len = 0;
    for (size_t i = 0; e->filled_roots != e->roots_version && i < e->decls_len; i++)
        for (size_t k = 0; k < e->decls[i]->emit_cells_len && !rc; k++)
            rc = fill_cell(e, e->decls[i]->emit_cells[k], true);
    e->filled_roots = e->roots_version;
    return rc;
}
