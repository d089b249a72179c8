/* What is counted, in the text format of Prometheus (0.0.4).
 *
 * Names, types and meanings are one list. What happens now and then is counted where it happens,
 * from any thread, and kept here; what is there to be looked at is collected when somebody asks, by
 * osm_metrics_begin and osm_metrics_sample. Counting never fails: without memory, or over the limit
 * of series, the event is left out, and that is counted. */
#pragma once

#include "base/buf.h"

/* id, type, name, its labels with commas between, help */
#define OSM_METRICS(X)                                                                             \
    X(OBJECT_EVENTS, COUNTER, "osm_k8s_api_event_count", "type,namespace",                         \
      "Objects that the source has added, updated or deleted.")                                    \
    X(SOURCE_UP, GAUGE, "osm_source_up", "",                                                       \
      "1 where the source of the objects can be read, 0 where what it last gave serves.")          \
    X(SOURCE_KIND_UP, GAUGE, "osm_source_kind_up", "kind,state",                                   \
      "Kinds of objects that an API server is asked for: 1 where all of them are known.")          \
    X(KUBE_REQUESTS, COUNTER, "osm_kube_request_total", "verb,resource,code",                      \
      "Requests to the API server, by what it answered.")                                          \
    X(KUBE_WRITES, COUNTER, "osm_kube_write_total", "what,outcome",                                \
      "Statuses and Events written to the API server: done, gone, later, denied or busy.")         \
    X(KUBE_WRITES_WAITING, GAUGE, "osm_kube_writes_waiting", "what",                               \
      "Statuses and Events that are still to be written.")                                         \
    X(LEADER, GAUGE, "osm_leader", "", "1 in the replica that writes statuses and Events.")        \
    X(WEBHOOK_RESPONSES, COUNTER, "osm_admission_webhook_response_total", "kind,success",          \
      "Questions of the API server about new objects, by whether they were let in.")               \
    X(NAMESPACES, GAUGE, "osm_resource_namespace_count", "", "Namespaces that are monitored.")     \
    X(PROXIES, GAUGE, "osm_proxy_connect_count", "", "Proxies that are connected.")                \
    X(PROXIES_MISSING, GAUGE, "osm_proxies_missing", "",                                           \
      "Pods that should have a proxy connected and have none.")                                    \
    X(PROXY_RECONNECTS, COUNTER, "osm_proxy_reconnect_count", "",                                  \
      "Streams of proxies that had one before.")                                                   \
    X(PROXIES_REJECTED, COUNTER, "osm_proxy_max_connections_rejected", "",                         \
      "Streams refused for the limits on proxies and memory.")                                     \
    X(PROXY_SENT, COUNTER, "osm_proxy_response_send_success_count", "proxy_uuid,identity,type",    \
      "Responses sent to a proxy.")                                                                \
    X(PROXY_NOT_SENT, COUNTER, "osm_proxy_response_send_error_count", "proxy_uuid,identity,type",  \
      "Responses that could not be sent to a proxy.")                                              \
    X(PROXY_REQUESTS, COUNTER, "osm_proxy_xds_request_count", "proxy_uuid,identity,type",          \
      "Requests of a proxy: subscriptions and answers.")                                           \
    X(PROXY_UPDATE_TIME, HISTOGRAM, "osm_proxy_config_update_time", "resource_type,success",       \
      "Seconds from a response to the proxy's answer; success says whether it took it.")           \
    X(NACKS, COUNTER, "osm_proxy_nack_total", "type", "Responses that a proxy has refused.")       \
    X(BROADCASTS, COUNTER, "osm_proxy_broadcast_event_count", "",                                  \
      "Snapshots published to all proxies.")                                                       \
    X(SNAPSHOT, GAUGE, "osm_snapshot_number", "", "The newest snapshot that was published.")       \
    X(APPLY_TIME, HISTOGRAM, "osm_snapshot_apply_time_seconds", "",                                \
      "Seconds from a snapshot until every connected proxy had answered it.")                      \
    X(CERTS_ISSUED, COUNTER, "osm_cert_issued_count", "", "Service certificates issued.")          \
    X(CERT_TIME, HISTOGRAM, "osm_cert_issued_time", "",                                            \
      "Seconds to make a service certificate, its key included.")                                  \
    X(CERT_ENDS, GAUGE, "osm_cert_expiry_timestamp_seconds", "kind",                               \
      "When the daemon's own certificate (ads) and the root that signs (root) end.")               \
    X(ERRORS, COUNTER, "osm_error_err_code_count", "err_code",                                     \
      "Errors by Open Service Mesh's codes.")                                                      \
    X(POLICY_GENERATION, GAUGE, "osm_policy_generation", "digest,state",                           \
      "Generations of the policies by number, as osm policy list shows them.")                     \
    X(POLICY_RELOADS, COUNTER, "osm_policy_reload_total", "outcome",                               \
      "How often a generation of the policies came into a state, as osm policy list names them.")  \
    X(POLICY_RUN_TIME, HISTOGRAM, "osm_policy_run_time_seconds", "",                               \
      "Seconds per run of the policies: those in force, and those on their way or standing by.")   \
    X(POLICY_REJECTS, GAUGE, "osm_policy_rejected_objects", "",                                    \
      "What the policies leave out of the objects, as osm status lists it.")                       \
    X(POLICY_ERRORS, GAUGE, "osm_policy_rule_errors", "",                                          \
      "Rules of the active policies in error.")                                                    \
    X(FEATURE_FLAGS, GAUGE, "osm_feature_flag_enabled", "feature_flag",                            \
      "Whether a feature flag of the MeshConfig is on.")                                           \
    X(READY, GAUGE, "osm_ready", "", "1 where /health/ready answers 200.")                         \
    X(HTTP_RESPONSES, COUNTER, "osm_http_response_total", "code,method,path",                      \
      "HTTP requests answered.")                                                                   \
    X(HTTP_DURATION, HISTOGRAM, "osm_http_response_duration", "code,method,path",                  \
      "Seconds until an HTTP request was answered.")                                               \
    X(LOOP_LAG, HISTOGRAM, "osm_loop_lag_seconds", "",                                             \
      "How much later than due a timer of the event loop fires, looked at each second.")           \
    X(VERSION, GAUGE, "osm_version_info", "version,build_date,git_commit",                         \
      "1, by the version that runs.")                                                              \
    X(SERIES_LOST, COUNTER, "osm_metrics_lost_total", "",                                          \
      "Events not counted: out of memory, or too many values of a label.")                         \
    X(RESIDENT, GAUGE, "process_resident_memory_bytes", "", "Resident memory.")                    \
    X(VIRTUAL, GAUGE, "process_virtual_memory_bytes", "", "Virtual memory.")                       \
    X(CPU, COUNTER, "process_cpu_seconds_total", "", "User and system time.")                      \
    X(THREADS, GAUGE, "process_threads", "", "Threads.")                                           \
    X(OPEN_FDS, GAUGE, "process_open_fds", "", "Open file descriptors.")                           \
    X(MAX_FDS, GAUGE, "process_max_fds", "", "The limit of open file descriptors.")                \
    X(STARTED, GAUGE, "process_start_time_seconds", "", "When the process began, since 1970.")

enum osm_metric {
#define X(id, type, name, labels, help) OSM_METRIC_##id,
    OSM_METRICS(X)
#undef X
        OSM_METRIC_COUNT
};

enum { OSM_METRIC_LABELS_MAX = 3, OSM_METRIC_SERIES_MAX = 4096 };

/* The values of a metric's labels, in their order; borrowed for the call. NULL where it has none.
 */
#define OSM_LABELS(...) ((const char *const[OSM_METRIC_LABELS_MAX]){__VA_ARGS__})

/** To a counter. Any thread. */
void osm_metric_add(enum osm_metric metric, const char *const *labels, uint64_t n);
/** To a histogram of seconds. Any thread. */
void osm_metric_observe(enum osm_metric metric, const char *const *labels, double seconds);
/** What a counter, or the number of observations of a histogram, has come to; 0 where there is no
 * such series. */
uint64_t osm_metric_get(enum osm_metric metric, const char *const *labels);

/** All that is kept here. */
void osm_metrics_write(struct osm_buf *out);
/** A metric that is collected: once, then its samples. */
void osm_metrics_begin(struct osm_buf *out, enum osm_metric metric);
void osm_metrics_sample(struct osm_buf *out, enum osm_metric metric, const char *const *labels,
                        double value);
/** Forgets everything. For tests, and for who looks for leaks. */
void osm_metrics_clear(void);
