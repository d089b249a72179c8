/* Static listeners and clusters by which the kubelet's probes get past the mesh's mutual TLS, which
 * a kubelet cannot speak. One listener per kind of probe, and on it one route per container:
 *
 *   15901 --TLS, where there are both---> tcp_proxy --------------------------> 127.0.0.1:port
 *     '----plain--> /osm-liveness-probe/<container> --path and timeout of the probe-->
 * 127.0.0.1:port
 *
 * TLS that is passed on says nothing of the container it is for: a kind has one such probe. To
 * further containers Envoy itself speaks TLS, and trusts any certificate, as a kubelet does.
 *
 * A request has a connection of its own, again like a kubelet's: one that is kept might be closed
 * by the container just then, and a healthy container would seem ill. */
#include "inject/bootstrap_priv.h"
#include "inject/check.h"

#include <stdio.h>
#include <string.h>

enum { PATH_BYTES_MAX = 2048, PORT_FIRST = 15901 };

const char *osm_probe_name(enum osm_probe_kind kind)
{
    static const char *const names[] = {"liveness", "readiness", "startup"};
    return names[kind];
}

int osm_probe_port(enum osm_probe_kind kind)
{
    return PORT_FIRST + (int)kind;
}

void osm_probe_path(struct osm_buf *out, enum osm_probe_kind kind, const char *container)
{
    (void)osm_buf_add_strs(out, "/osm-", osm_probe_name(kind), "-probe/", container, NULL);
}

int osm__bootstrap_probe_check(const struct osm_bootstrap_probe *probe, struct osm_err *err)
{
    const char *path = probe->path;
    int rc = osm__check_name("name of the container", probe->container, false, 63, err);
    if (!rc && !probe->port)
        rc = osm_fail(err, OSM_EINVAL, "container %s: 0 is not a port", probe->container);
    if (rc || probe->way == OSM_PROBE_TLS_THROUGH)
        return rc;
    if (!path || path[0] != '/' || strlen(path) > PATH_BYTES_MAX)
        return osm_fail(err, OSM_EINVAL,
                        "container %s: path of the %s probe: must begin with / and have at most %d "
                        "bytes",
                        probe->container, osm_probe_name(probe->kind), PATH_BYTES_MAX);
    for (const char *c = path; *c; c++)
        if (*c <= ' ' || *c > '~')
            return osm_fail(err, OSM_EINVAL, "container %s: path of the %s probe: is not encoded",
                            probe->container, osm_probe_name(probe->kind));
    return 0;
}

static void add_cluster_name(struct osm_buf *out, const struct osm_bootstrap_probe *p)
{
    (void)osm_buf_add_strs(out, "\"", p->container, "_", osm_probe_name(p->kind), "_cluster\"",
                           NULL);
}

static void add_cluster(struct osm_buf *out, const struct osm_bootstrap_probe *p)
{
    (void)osm_buf_add_str(out, "  - name: ");
    add_cluster_name(out, p);
    (void)osm_buf_add_str(
        out, "\n"
             "    type: STATIC\n"
             "    connect_timeout: 1s\n"
             "    typed_extension_protocol_options:\n"
             "      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n"
             "        \"@type\": "
             "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n"
             "        common_http_protocol_options: {max_requests_per_connection: 1}\n"
             "        explicit_http_config: {http_protocol_options: {}}\n"
             "    load_assignment:\n"
             "      cluster_name: ");
    add_cluster_name(out, p);
    (void)osm_buf_addf(out,
                       "\n"
                       "      endpoints:\n"
                       "      - lb_endpoints:\n"
                       "        - endpoint:\n"
                       "            address:\n"
                       "              socket_address: {address: 127.0.0.1, port_value: %d}\n",
                       p->port);
    if (p->way == OSM_PROBE_TLS_FROM_HERE)
        (void)osm_buf_add_str(
            out,
            "    transport_socket:\n"
            "      name: envoy.transport_sockets.tls\n"
            "      typed_config:\n"
            "        \"@type\": "
            "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\n"
            "        common_tls_context:\n"
            "          tls_params: {tls_maximum_protocol_version: TLSv1_3}\n");
}

/* As the mesh's own listeners log; TCP has a part of the fields. */
static const char *const tcp_fields[] = {"start_time",
                                         "%START_TIME%",
                                         "requested_server_name",
                                         "%REQUESTED_SERVER_NAME%",
                                         "upstream_cluster",
                                         "%UPSTREAM_CLUSTER%",
                                         "response_flags",
                                         "%RESPONSE_FLAGS%",
                                         "bytes_received",
                                         "%BYTES_RECEIVED%",
                                         "bytes_sent",
                                         "%BYTES_SENT%",
                                         "duration",
                                         "%DURATION%",
                                         "upstream_host",
                                         "%UPSTREAM_HOST%",
                                         NULL};
static const char *const http_fields[] = {"method",
                                          "%REQ(:METHOD)%",
                                          "path",
                                          "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
                                          "protocol",
                                          "%PROTOCOL%",
                                          "response_code",
                                          "%RESPONSE_CODE%",
                                          "response_code_details",
                                          "%RESPONSE_CODE_DETAILS%",
                                          "time_to_first_byte",
                                          "%RESPONSE_DURATION%",
                                          "upstream_service_time",
                                          "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
                                          "x_forwarded_for",
                                          "%REQ(X-FORWARDED-FOR)%",
                                          "user_agent",
                                          "%REQ(USER-AGENT)%",
                                          "request_id",
                                          "%REQ(X-REQUEST-ID)%",
                                          "authority",
                                          "%REQ(:AUTHORITY)%",
                                          NULL};

static void add_fields(struct osm_buf *out, const char *const *fields)
{
    for (; *fields; fields += 2)
        (void)osm_buf_add_strs(out, "                  ", fields[0], ": \"", fields[1], "\"\n",
                               NULL);
}

static void add_access_log(struct osm_buf *out, bool is_http)
{
    (void)osm_buf_add_str(
        out, "          access_log:\n"
             "          - name: envoy.access_loggers.stdout\n"
             "            typed_config:\n"
             "              \"@type\": "
             "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog\n"
             "              log_format:\n"
             "                json_format:\n");
    add_fields(out, tcp_fields);
    if (is_http)
        add_fields(out, http_fields);
}

static void add_match(struct osm_buf *out, bool both, const char *transport)
{
    if (both)
        (void)osm_buf_add_strs(out, "    - filter_chain_match: {transport_protocol: ", transport,
                               "}\n      filters:\n", NULL);
    else
        (void)osm_buf_add_str(out, "    - filters:\n");
}

static void add_tls_chain(struct osm_buf *out, const struct osm_bootstrap_probe *p, bool both)
{
    add_match(out, both, "tls");
    (void)osm_buf_add_str(
        out, "      - name: envoy.filters.network.tcp_proxy\n"
             "        typed_config:\n"
             "          \"@type\": "
             "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy\n"
             "          stat_prefix: health_probes_https\n"
             "          cluster: ");
    add_cluster_name(out, p);
    (void)osm_buf_add_char(out, '\n');
    add_access_log(out, false);
}

static void add_route(struct osm_buf *out, const struct osm_bootstrap_probe *p)
{
    (void)osm_buf_add_str(out, "              - match: {path: \"");
    osm_probe_path(out, p->kind, p->container);
    (void)osm_buf_add_str(out, "\"}\n"
                               "                route:\n"
                               "                  cluster: ");
    add_cluster_name(out, p);
    (void)osm_buf_add_str(out, "\n                  prefix_rewrite: ");
    (void)osm_buf_add_json_string(out, p->path);
    (void)osm_buf_addf(out, "\n                  timeout: %ds\n", p->timeout_s);
}

static void add_http_chain(struct osm_buf *out, const struct osm_bootstrap_config *c,
                           enum osm_probe_kind kind, bool both)
{
    add_match(out, both, "raw_buffer");
    (void)osm_buf_add_str(
        out, "      - name: envoy.filters.network.http_connection_manager\n"
             "        typed_config:\n"
             "          \"@type\": type.googleapis.com/envoy.extensions.filters.network."
             "http_connection_manager.v3.HttpConnectionManager\n"
             "          stat_prefix: health_probes_http\n");
    add_access_log(out, true);
    (void)osm_buf_add_str(out,
                          "          http_filters:\n"
                          "          - name: envoy.filters.http.router\n"
                          "            typed_config:\n"
                          "              \"@type\": "
                          "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router\n"
                          "          route_config:\n"
                          "            name: local_route\n"
                          "            virtual_hosts:\n"
                          "            - name: local_service\n"
                          "              domains: [\"*\"]\n"
                          "              routes:\n");
    for (size_t i = 0; i < c->probes_len; i++)
        if (c->probes[i].kind == kind && c->probes[i].way != OSM_PROBE_TLS_THROUGH)
            add_route(out, &c->probes[i]);
}

static void add_listener(struct osm_buf *out, const struct osm_bootstrap_config *c,
                         enum osm_probe_kind kind, bool has_http,
                         const struct osm_bootstrap_probe *tls)
{
    bool both = has_http && tls;
    (void)osm_buf_addf(out,
                       "  - name: %s_listener\n"
                       "    address:\n"
                       "      socket_address: {address: 0.0.0.0, port_value: %d}\n",
                       osm_probe_name(kind), osm_probe_port(kind));
    if (both)
        (void)osm_buf_add_str(out,
                              "    listener_filters:\n"
                              "    - name: envoy.filters.listener.tls_inspector\n"
                              "      typed_config:\n"
                              "        \"@type\": "
                              "type.googleapis.com/"
                              "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector\n");
    (void)osm_buf_add_str(out, "    filter_chains:\n");
    if (tls)
        add_tls_chain(out, tls, both);
    if (has_http)
        add_http_chain(out, c, kind, both);
}

void osm__bootstrap_add_probes(struct osm_buf *out, const struct osm_bootstrap_config *config)
{
    if (!config->probes_len)
        return;
    for (size_t i = 0; i < config->probes_len; i++)
        add_cluster(out, &config->probes[i]);
    (void)osm_buf_add_str(out, "  listeners:\n");
    for (int kind = 0; kind < OSM_PROBE_KIND_COUNT; kind++) {
        const struct osm_bootstrap_probe *tls = NULL;
        bool has_http = false;
        for (size_t i = 0; i < config->probes_len; i++) {
            const struct osm_bootstrap_probe *p = &config->probes[i];
            if ((int)p->kind != kind)
                continue;
            if (p->way == OSM_PROBE_TLS_THROUGH)
                tls = p;
            else
                has_http = true;
        }
        if (tls || has_http)
            add_listener(out, config, (enum osm_probe_kind)kind, has_http, tls);
    }
}
