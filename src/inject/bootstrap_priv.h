/* The part of the bootstrap that answers the kubelet's probes. */
#pragma once

#include "inject/bootstrap.h"

OSM_MUST_USE int osm__bootstrap_probe_check(const struct osm_bootstrap_probe *probe,
                                            struct osm_err *err);
/** Appends clusters to those of static_resources, and its listeners. */
void osm__bootstrap_add_probes(struct osm_buf *out, const struct osm_bootstrap_config *config);
