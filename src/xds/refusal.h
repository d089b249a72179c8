/* A proxy has refused a response. */
#pragma once

#include "xds/snapshot.h"

/* Borrowed for the call that it is given to. */
struct osm_refusal {
    const char *proxy; /* osm_proxy_key */
    enum osm_xds_type type;
    const struct osm_resource *const *resources; /* what may be to blame, as it was sent (bodies may
                                                    be gone); at least one; one alone is to blame */
    size_t len;
    bool whole; /* they are all that there is of the type, changed or not (state of the world); else
                   only what was new to the proxy */
    const char *error; /* the proxy's words; for people */
    uint64_t since; /* number of the published snapshot with which it began to refuse this type */
};
