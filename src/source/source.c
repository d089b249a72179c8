#include "source/source_priv.h"

void osm_source_stop(struct osm_source *source)
{
    if (source)
        source->stop(source);
}

json_t *osm_source_status(const struct osm_source *source)
{
    return source->status(source);
}

void osm_source_refresh(struct osm_source *source)
{
    source->refresh(source);
}

const char *osm_source_failure(const struct osm_source *source)
{
    return source->failure(source);
}
