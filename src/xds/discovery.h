/* Discovery messages on the wire, both forms: requests decoded without copies of what nobody reads,
 * responses as parts that share the bytes of the resources. Pure. */
#pragma once

#include "base/buf.h"
#include "xds/stream.h"

enum { OSM_AGENT_VERSION_SIZE = 32 };

/* A decoded request. Its strings live in `memory`. */
struct osm_discovery_request {
    struct osm_stream_request request;
    const char *node_id, *user_agent;     /* "" where absent */
    char version[OSM_AGENT_VERSION_SIZE]; /* of the client, "1.36.4"; "" where absent */
    bool has_node;
    char *memory;
    const char **lists;
    struct osm_stream_claim *claims;
};

/** Errors: OSM_EPARSE, what is wrong; OSM_ENOMEM. */
OSM_MUST_USE int osm_discovery_decode(struct osm_discovery_request *out, enum osm_stream_mode mode,
                                      const void *data, size_t len, struct osm_err *err);
void osm_discovery_request_clear(struct osm_discovery_request *request);

/* An encoded response: its bytes are those of the parts, in order. */
struct osm_discovery_response {
    struct osm_buf text;
    struct osm_discovery_part {
        struct osm_bytes *body; /* a reference; NULL: text[from, from + len) */
        size_t from, len;
    } * parts;
    size_t parts_len;
    size_t len; /* of all */
};
OSM_MUST_USE int osm_discovery_encode(struct osm_discovery_response *out, enum osm_stream_mode mode,
                                      const struct osm_stream_response *response);
void osm_discovery_response_clear(struct osm_discovery_response *response);

/** The same secret under another name; version and secrecy stay. NULL: no memory, or not a valid
 * message. */
OSM_MUST_USE struct osm_resource *osm_discovery_rename_secret(const struct osm_resource *secret,
                                                              const char *name);
