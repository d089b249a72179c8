/* What a kubelet's tcpSocket probe has become: an HTTP request whose header Original-Tcp-Port names
 * a port of the pod, answered by connecting to it. A kubelet itself would only meet the sidecar,
 * which accepts every connection. */
#pragma once

#include "http/http.h"

struct osm_healthcheck {
    struct osm_loop *loop;
    const char *host;          /* where the pod's containers listen: an IPv4 address */
    uint64_t connect_ms;       /* how long at most, should the asker wait: 0: 30 s */
    struct osm__check *checks; /* begun and not answered; NULL at first */
};

/** Routes for osm_http_listen, whose ud is the struct: /osm-healthcheck says 200 the port takes a
 * connection, 404 it does not for as
 * long as the asker waits, 400 there is no port in the header. */
extern const struct osm_http_route osm_healthcheck_routes[];

/** Answers 503 to all that is not answered yet. Call it after osm_http_stop. */
void osm_healthcheck_stop(struct osm_healthcheck *healthcheck);
