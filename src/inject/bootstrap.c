/* Envoy's bootstrap, as block YAML with every value from outside as a quoted string.
 *
 * Choices that are not upstream's: delta instead of state-of-the-world ADS; the ADS server must
 * present ads.<trust domain> (else any workload's certificate could play the control plane); no TLS
 * session is kept (a resumed one would outlive its certificate); HTTP/2 pings tell a dead control
 * plane within 70 s; the programs of regular expressions may be larger than Envoy's 100
 * instructions, which a path with six parameters exceeds; certificate files are read again when the
 * mounted Secret's symlink is swapped.
 *
 * Drain time: a connection through a filter chain that has been removed lives on until then. 45 s
 * by default. It is a flag of Envoy, not a field of the bootstrap, so it is among the arguments. */
#include "inject/bootstrap.h"

#include "inject/bootstrap_priv.h"
#include "inject/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { DRAIN_TIME_DEFAULT_S = 45, REGEX_PROGRAM_SIZE_MAX = 4096, PATH_BYTES_MAX = 1024 };

static int check(const struct osm_bootstrap_config *c, struct osm_err *err)
{
    int rc = osm__check_name("proxy uuid", c->uuid, false, 36, err);
    if (!rc)
        rc = osm__check_name("service account", c->account, true, 253, err);
    if (!rc)
        rc = osm__check_name("namespace", c->ns, false, 63, err);
    if (!rc)
        rc = osm__check_name("control plane namespace", c->osm_namespace, false, 63, err);
    if (!rc)
        rc = osm__check_name("trust domain", c->trust_domain, true, 253, err);
    if (!rc && (c->ads_port < 1 || c->ads_port > 65535))
        rc = osm_fail(err, OSM_EINVAL, "ADS port: %d is not a port", c->ads_port);
    if (!rc && (!c->mount_path || c->mount_path[0] != '/' ||
                strlen(c->mount_path) > PATH_BYTES_MAX || strpbrk(c->mount_path, "\n\r")))
        rc =
            osm_fail(err, OSM_EINVAL, "mount path: must be absolute, on one line, at most %d bytes",
                     PATH_BYTES_MAX);
    if (!rc && c->drain_time_s < 0)
        rc = osm_fail(err, OSM_EINVAL, "drain time: %d s is negative", c->drain_time_s);
    for (size_t i = 0; !rc && i < c->probes_len; i++)
        rc = osm__bootstrap_probe_check(&c->probes[i], err);
    return rc;
}

static int finish(struct osm_buf *out, const char *what, struct osm_err *err)
{
    return out->failed
               ? osm_fail(err, out->failed, "%s: over %zu bytes, or out of memory", what, out->max)
               : 0;
}

/* "KEY: " and a quoted string; printf does the joining, JSON the quoting. */
static void add_quoted(struct osm_buf *out, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void add_quoted(struct osm_buf *out, const char *key, const char *fmt, ...)
{
    char text[PATH_BYTES_MAX + 512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof text) {
        if (!out->failed)
            out->failed = OSM_ELIMIT;
        return;
    }
    (void)osm_buf_add_str(out, key);
    (void)osm_buf_add_json_string(out, text);
    (void)osm_buf_add_char(out, '\n');
}

static void add_node_and_admin(struct osm_buf *out, const struct osm_bootstrap_config *c)
{
    (void)osm_buf_add_str(out, "node:\n");
    add_quoted(out, "  id: ", "%s", c->uuid);
    add_quoted(out, "  cluster: ", "%s.%s", c->account, c->ns);
    (void)osm_buf_add_str(
        out, "admin:\n"
             "  address:\n"
             "    socket_address: {address: 127.0.0.1, port_value: 15000}\n"
             "  access_log:\n"
             "  - name: envoy.access_loggers.stdout\n"
             "    typed_config:\n"
             "      \"@type\": "
             "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog\n"
             "layered_runtime:\n"
             "  layers:\n"
             "  - name: static\n"
             "    static_layer:\n");
    (void)osm_buf_addf(out, "      re2.max_program_size.error_level: %d\n", REGEX_PROGRAM_SIZE_MAX);
    (void)osm_buf_add_str(out, "  - name: admin\n"
                               "    admin_layer: {}\n"
                               "dynamic_resources:\n"
                               "  ads_config:\n"
                               "    api_type: DELTA_GRPC\n"
                               "    transport_api_version: V3\n"
                               "    set_node_on_first_message_only: true\n"
                               "    grpc_services:\n"
                               "    - envoy_grpc: {cluster_name: osm-controller}\n"
                               "  cds_config: {ads: {}, resource_api_version: V3}\n"
                               "  lds_config: {ads: {}, resource_api_version: V3}\n");
}

static void add_file_secret(struct osm_buf *out, const struct osm_bootstrap_config *c,
                            const char *indent, const char *name, const char *file)
{
    (void)osm_buf_addf(
        out, "%sname: %s\n%ssds_config:\n%s  resource_api_version: V3\n%s  path_config_source:\n",
        indent, name, indent, indent, indent);
    (void)osm_buf_addf(out, "%s    ", indent);
    add_quoted(out, "path: ", "%s/%s", c->mount_path, file);
    (void)osm_buf_addf(out, "%s    watched_directory: {", indent);
    (void)osm_buf_add_str(out, "path: ");
    (void)osm_buf_add_json_string(out, c->mount_path);
    (void)osm_buf_add_str(out, "}\n");
}

static void add_names(struct osm_buf *out, const char *key, const json_t *names)
{
    size_t i;
    const json_t *name;
    if (json_array_size(names))
        (void)osm_buf_add_str(out, key);
    json_array_foreach ((json_t *)(uintptr_t)names, i, name)
        add_quoted(out, "            - ", "%s", json_string_value(name));
}

static void add_controller_cluster(struct osm_buf *out, const struct osm_bootstrap_config *c)
{
    (void)osm_buf_add_str(
        out,
        "static_resources:\n"
        "  clusters:\n"
        "  - name: osm-controller\n"
        "    type: LOGICAL_DNS\n"
        "    dns_lookup_family: V4_ONLY\n"
        "    connect_timeout: 5s\n"
        "    upstream_connection_options:\n"
        "      tcp_keepalive: {keepalive_probes: 5, keepalive_time: 60, keepalive_interval: 5}\n"
        "    typed_extension_protocol_options:\n"
        "      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n"
        "        \"@type\": "
        "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n"
        "        explicit_http_config:\n"
        "          http2_protocol_options:\n"
        "            connection_keepalive: {interval: 60s, timeout: 10s}\n"
        "    load_assignment:\n"
        "      cluster_name: osm-controller\n"
        "      endpoints:\n"
        "      - lb_endpoints:\n"
        "        - endpoint:\n"
        "            address:\n"
        "              socket_address:\n");
    add_quoted(out, "                address: ", "osm-controller.%s.svc.cluster.local",
               c->osm_namespace);
    (void)osm_buf_addf(out, "                port_value: %d\n", c->ads_port);
    (void)osm_buf_add_str(
        out, "    transport_socket:\n"
             "      name: envoy.transport_sockets.tls\n"
             "      typed_config:\n"
             "        \"@type\": "
             "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\n");
    add_quoted(out, "        sni: ", "ads.%s", c->trust_domain);
    (void)osm_buf_add_str(out, "        max_session_keys: 0\n"
                               "        common_tls_context:\n"
                               "          alpn_protocols: [h2]\n"
                               "          tls_params:\n");
    add_quoted(out, "            tls_minimum_protocol_version: ", "%s",
               c->tls_minimum ? c->tls_minimum : "TLSv1_2");
    add_quoted(out, "            tls_maximum_protocol_version: ", "%s",
               c->tls_maximum ? c->tls_maximum : "TLSv1_3");
    add_names(out, "            cipher_suites:\n", c->cipher_suites);
    add_names(out, "            ecdh_curves:\n", c->ecdh_curves);
    (void)osm_buf_add_str(out, "          tls_certificate_sds_secret_configs:\n"
                               "          -\n");
    add_file_secret(out, c, "            ", "tls_sds", "tls_certificate_sds_secret.yaml");
    (void)osm_buf_add_str(out, "          validation_context_sds_secret_config:\n");
    add_file_secret(out, c, "            ", "validation_context_sds",
                    "validation_context_sds_secret.yaml");
}

int osm_bootstrap_yaml(struct osm_buf *out, const struct osm_bootstrap_config *config,
                       struct osm_err *err)
{
    int rc = check(config, err);
    if (rc)
        return rc;
    add_node_and_admin(out, config);
    add_controller_cluster(out, config);
    osm__bootstrap_add_probes(out, config);
    return finish(out, "bootstrap", err);
}

static void add_secret_head(struct osm_buf *out, const char *name)
{
    (void)osm_buf_addf(
        out,
        "resources:\n"
        "- \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret\n"
        "  name: %s\n",
        name);
}

int osm_bootstrap_tls_sds_yaml(struct osm_buf *out, const struct osm_bootstrap_config *config,
                               struct osm_err *err)
{
    int rc = check(config, err);
    if (rc)
        return rc;
    add_secret_head(out, "tls_sds");
    (void)osm_buf_add_str(out, "  tls_certificate:\n"
                               "    certificate_chain:\n");
    add_quoted(out, "      filename: ", "%s/sds_cert.pem", config->mount_path);
    (void)osm_buf_add_str(out, "    private_key:\n");
    add_quoted(out, "      filename: ", "%s/sds_key.pem", config->mount_path);
    (void)osm_buf_add_str(out, "    watched_directory:\n");
    add_quoted(out, "      path: ", "%s", config->mount_path);
    return finish(out, "certificate secret", err);
}

int osm_bootstrap_validation_sds_yaml(struct osm_buf *out,
                                      const struct osm_bootstrap_config *config,
                                      struct osm_err *err)
{
    int rc = check(config, err);
    if (rc)
        return rc;
    add_secret_head(out, "validation_context_sds");
    (void)osm_buf_add_str(out, "  validation_context:\n"
                               "    trusted_ca:\n");
    add_quoted(out, "      filename: ", "%s/cacert.pem", config->mount_path);
    (void)osm_buf_add_str(out, "    watched_directory:\n");
    add_quoted(out, "      path: ", "%s", config->mount_path);
    (void)osm_buf_add_str(out, "    match_typed_subject_alt_names:\n"
                               "    - san_type: DNS\n"
                               "      matcher:\n");
    add_quoted(out, "        exact: ", "ads.%s", config->trust_domain);
    return finish(out, "validation secret", err);
}

int osm_bootstrap_args(struct osm_buf *out, const struct osm_bootstrap_config *config,
                       struct osm_err *err)
{
    int rc = check(config, err);
    if (rc)
        return rc;
    (void)osm_buf_addf(out,
                       "--log-level\n%s\n"
                       "--config-path\n%s/bootstrap.yaml\n"
                       "--service-cluster\n%s.%s\n"
                       "--drain-time-s\n%d\n"
                       "--disable-hot-restart\n",
                       config->log_level ? config->log_level : "error", config->mount_path,
                       config->account, config->ns,
                       config->drain_time_s ? config->drain_time_s : DRAIN_TIME_DEFAULT_S);
    return finish(out, "arguments", err);
}
