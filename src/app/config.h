/* What the daemon was started with. */
#pragma once

#include "base/err.h"
#include "base/options.h"

#include <stdbool.h>

struct osm_app_config {
    const char *source;                                   /* "dir:PATH" */
    const char *policies_dirs[OSM_OPTION_VALUES_MAX + 1]; /* NULL-terminated */
    const char *state_dir, *ads_listen, *mesh_name, *osm_namespace, *trust_domain;
    const char *policy_memory; /* "512Mi" */
    size_t policy_memory_bytes;
    const char *control_socket; /* default: STATE_DIR/control.sock */
    const char *verbosity;
    bool help, version;
};

/** Parses the command line. Errors: OSM_EINVAL, ready to print. Strings are borrowed from argv. */
OSM_MUST_USE int osm_app_config_parse(struct osm_app_config *out, int argc, char **argv,
                                      struct osm_err *err);
void osm_app_config_help(void);
