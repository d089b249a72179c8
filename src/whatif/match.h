/* What a proxy makes of a request by the matchers in its configuration (JSON, as osm_proto_decode
 * gives it). A form that is not known here is neither a match nor none: whoever asks says so,
 * instead of guessing. Pure. Thread: any. */
#pragma once

#include "base/buf.h"

#include <jansson.h>

enum osm_tri { OSM_NO, OSM_YES, OSM_UNKNOWN };

static inline enum osm_tri osm_tri_and(enum osm_tri a, enum osm_tri b)
{
    return a == OSM_NO || b == OSM_NO     ? OSM_NO
           : a == OSM_YES && b == OSM_YES ? OSM_YES
                                          : OSM_UNKNOWN;
}
static inline enum osm_tri osm_tri_or(enum osm_tri a, enum osm_tri b)
{
    return a == OSM_YES || b == OSM_YES ? OSM_YES
           : a == OSM_NO && b == OSM_NO ? OSM_NO
                                        : OSM_UNKNOWN;
}
static inline enum osm_tri osm_tri_not(enum osm_tri a)
{
    return a == OSM_UNKNOWN ? a : a == OSM_YES ? OSM_NO : OSM_YES;
}

struct osm_request {
    const char *principal; /* the name in the caller's certificate */
    unsigned port;         /* of the pod that it arrives at; 0: it does not arrive anywhere */
    /* HTTP only; NULL: a TCP connection, of which nobody asks for these */
    const char *method, *path; /* path: without the query */
    const char *host;          /* ":authority" */
    const json_t *headers;     /* {"x-user": "a"}, names in lower case; or NULL */
};

/** envoy.type.matcher.v3.StringMatcher; NULL text: there is none. */
enum osm_tri osm_match_string(const json_t *matcher, const char *text);
/** envoy.config.route.v3.HeaderMatcher. */
enum osm_tri osm_match_header(const json_t *matcher, const struct osm_request *request);
/** envoy.config.route.v3.RouteMatch. */
enum osm_tri osm_match_route(const json_t *match, const struct osm_request *request);
/** The virtual host of a route configuration that takes the request: by its exact name, by the
 * longest wildcard, by "*". NULL: none. Borrowed. */
const json_t *osm_match_host(const json_t *route_configuration, const struct osm_request *request);

/* What arrives at a listener. */
struct osm_arrival {
    const char *address; /* that it was meant for; NULL: any */
    unsigned port;
    const char *server_name; /* of TLS; NULL: it is none */
    const json_t *protocols; /* that TLS offers */
};
/** How well an envoy.config.listener.v3.FilterChainMatch fits: -1 not at all; else the number of
 * its criteria. The most specific chain is Envoy's choice too, and no two of ours fit alike. */
int osm_match_chain(const json_t *match, const struct osm_arrival *arrival);

/* What RBAC has decided. */
struct osm_verdict {
    enum osm_tri passes;
    const char *policy; /* the first that lets it pass, or that forbids it; borrowed; NULL: none */
    size_t permission;  /* of that policy, the first that matches */
};
/** envoy.config.rbac.v3.RBAC; NULL passes everybody. */
struct osm_verdict osm_match_rbac(const json_t *rules, const struct osm_request *request);
/** Whether one of the policy's principals is the caller. */
enum osm_tri osm_match_principals(const json_t *policy, const struct osm_request *request);
/** Appends to @p out what a policy asks for: its permissions ("GET|POST /buy"), its principals
 * ("caller.red.cluster.local"), some of each. */
void osm_match_describe_permissions(const json_t *policy, struct osm_buf *out);
void osm_match_describe_principals(const json_t *policy, struct osm_buf *out);
