#include "source/source_priv.h"

#include "base/mem.h"

void osm_source_stop(struct osm_source *source)
{
    if (source)
        source->stop(source);
}

json_t *osm_source_status(const struct osm_source *source)
{
    return source->status(source);
}

void osm_source_refresh(struct osm_source *source, osm_source_refreshed_fn *done, void *ud)
{
    source->refresh(source, done, ud);
}

void osm_source_forget(struct osm_source *source, void *ud)
{
    if (source->forget)
        source->forget(source, ud);
}

bool osm_source_want(struct osm_source *source, const json_t *kinds)
{
    return source->want ? source->want(source, kinds) : true;
}

const char *osm_source_failure(const struct osm_source *source)
{
    return source->failure(source);
}

struct osm_outside *osm_source_outside(const struct osm_source *source)
{
    return source->outside ? source->outside(source) : osm_alloc(sizeof(struct osm_outside));
}
