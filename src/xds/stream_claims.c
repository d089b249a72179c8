/* What a client that comes again says it has. */
#include "xds/stream_priv.h"

int osm__take_claims(struct osm__type *t, const struct osm_stream_request *r)
{
    if (!r->claims_len)
        return 0;
    t->claims = true;
    if (t->wildcard) {
        const char **names = osm_alloc_array(r->claims_len, sizeof *names);
        if (!names)
            return OSM_ENOMEM;
        for (size_t i = 0; i < r->claims_len; i++)
            names[i] = r->claims[i].name;
        int rc = osm__take_names(t, names, r->claims_len, &(struct osm__names_how){0});
        osm_free(names);
        if (rc)
            return rc;
    }
    for (size_t i = 0; i < r->claims_len; i++) {
        struct osm__entry *e = osm__entry_find(t, r->claims[i].name);
        if (!e)
            continue;
        struct osm_resource *claimed =
            osm_resource_new_versioned(r->claims[i].name, r->claims[i].version, NULL);
        if (!claimed)
            return OSM_ENOMEM;
        osm_resource_unref(e->resource);
        e->resource = claimed;
        e->state = t->distrusted ? OSM__UNKNOWN : OSM__HAS;
    }
    t->acked = !t->distrusted;
    t->acked_version = osm__type_version(t);
    return 0;
}

void osm__ask_for_warming(struct osm_stream *stream)
{
    const struct osm__type *eds = &stream->types[OSM_XDS_EDS];
    for (size_t i = 0; i < eds->len; i++) {
        const struct osm__entry *cluster =
            osm__entry_find(&stream->types[OSM_XDS_CDS], eds->entries[i].resource->name);
        if (cluster && cluster->seq)
            eds->entries[i].ask = true;
    }
}
