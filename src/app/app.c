#include "app/app.h"

#include "app/ca_secret.h"
#include "app/commands.h"
#include "app/http.h"
#include "app/injector.h"
#include "app/leaves.h"
#include "app/roots.h"
#include "app/trim.h"
#include "app/whatif_commands.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "debug/profile.h"
#include "source/kube.h"
#include "whatif/scratch.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* --- source -> store -> policies --- */

bool osm_app_settled(const struct osm_app *app)
{
    return app->synced && app->source && !osm_source_failure(app->source) && app->reload &&
           osm_reload_settled(app->reload) && app->snapshot;
}

static void flush_posted(void *ud)
{
    struct osm_app *app = ud;
    app->flush_posted = false;
    if (app->stopping)
        return;
    if (app->reload)
        osm_reload_flush(app->reload);
    osm_evaluators_changed(app->evaluators);
    osm_feedback_changed(app->feedback);
}

/* Objects come in a row: one flush for all that this turn of the loop brings. */
static void flush_soon(struct osm_app *app)
{
    if (!app->flush_posted)
        app->flush_posted = osm_loop_post(app->loop, flush_posted, app) == 0;
}

/* "pod-added", as Open Service Mesh called them. */
static void count_event(const char *kind, const char *ns, const char *what)
{
    char type[80];
    size_t n = 0;
    for (; kind[n] && n < sizeof type - 16; n++)
        type[n] = (char)tolower((unsigned char)kind[n]);
    (void)snprintf(type + n, sizeof type - n, "-%s", what);
    osm_metric_add(OSM_METRIC_OBJECT_EVENTS, OSM_LABELS(type, ns), 1);
}

static void source_put(void *ud, struct osm_object *object)
{
    struct osm_app *app = ud;
    count_event(object->kind, object->ns,
                osm_store_get(app->store, object->key) ? "updated" : "added");
    if (osm_store_put(app->store, object))
        osm_log(OSM_LOG_MODEL, OSM_LOG_ERROR, "object lost: out of memory");
    app->heard_us = osm_wall_us();
    flush_soon(app);
}

static void source_gone(void *ud, const char *key)
{
    struct osm_app *app = ud;
    const struct osm_object *object = osm_store_get(app->store, key);
    if (object)
        count_event(object->kind, object->ns, "deleted");
    (void)osm_store_delete(app->store, key);
    app->heard_us = osm_wall_us();
    flush_soon(app);
}

static void source_synced(void *ud)
{
    struct osm_app *app = ud;
    app->synced = true;
    osm_reload_synced(app->reload);
}

/* Once for each bundle: nobody has to act at once, but somebody should know. */
static void tell_warnings(const struct osm_snapshot *now, const struct osm_snapshot *before)
{
    const json_t *digest = json_object_get(now->policy, "digest");
    if (before && json_equal(digest, json_object_get(before->policy, "digest")))
        return;
    size_t i;
    json_t *warning;
    json_array_foreach (json_object_get(now->policy, "warnings"), i, warning)
        osm_log(OSM_LOG_POLICY, OSM_LOG_WARN,
                json_string_value(json_object_get(warning, "message")),
                OSM_S("module", json_string_value(json_object_get(warning, "module"))));
}

static struct osm_leaves_rules leaves_rules(const struct osm_app *app)
{
    int flag_bits = app->settings.no_rsa ? 0 : app->config.service_cert_rsa_bits;
    return (struct osm_leaves_rules){
        .validity_s = app->settings.service_cert_validity_s,
        .lead_s = app->config.service_cert_lead_s,
        .rsa_bits = app->settings.rsa_bits ? app->settings.rsa_bits : flag_bits,
    };
}

static void take_settings(struct osm_app *app, const struct osm_snapshot *snapshot)
{
    struct osm_err err = {0};
    bool had_no_rsa = app->settings.no_rsa;
    if (snapshot->host == app->settings.owned)
        return;
    if (osm_host_settings_take(&app->settings, snapshot->host, &err)) {
        osm_log(OSM_LOG_POLICY, OSM_LOG_ERROR, "settings not used, the last ones stay",
                OSM_S("error", err.msg));
        return;
    }
    const char *level = app->settings.log_level ? app->settings.log_level : app->config.verbosity;
    osm_log_set_level(OSM_LOG_TOPIC_COUNT, (enum osm_log_level)osm_log_level_parse(level));
    if (app->settings.no_rsa && !had_no_rsa && app->config.service_cert_rsa_bits)
        osm_log(OSM_LOG_CA, OSM_LOG_WARN,
                "--service-cert-key rsa has no effect: no cipher of the MeshConfig's "
                "spec.sidecar.cipherSuites is for RSA keys");
    struct osm_leaves_rules rules = leaves_rules(app);
    osm_leaves_set_rules(app->leaves, &rules);
    if (app->ads) {
        osm_ads_set_leaf_kind(app->ads, osm_leaves_kind(&rules));
        osm_ads_set_limit(app->ads, app->settings.proxies_max);
    }
    if (app->ads && app->ads_leaf_is_rsa != app->settings.rsa_only)
        osm_app_renew_ads_leaf(
            app); /* on the loop: a new RSA key, once, when the ciphers ask for it */
    osm_app_http_settings(app);
}

static void publish(void *ud, struct osm_snapshot *snapshot)
{
    struct osm_app *app = ud;
    tell_warnings(snapshot, app->snapshot);
    take_settings(app, snapshot);
    osm_snapshot_unref(app->snapshot);
    app->snapshot = osm_snapshot_ref(snapshot);
    osm_log(OSM_LOG_POLICY, OSM_LOG_INFO, "snapshot", OSM_U("snap", snapshot->number),
            OSM_U("proxies", snapshot->proxies_len),
            OSM_U("rejects", json_array_size(snapshot->rejects)),
            OSM_U("errors", json_array_size(snapshot->errors)),
            OSM_I("run_us", json_integer_value(json_object_get(snapshot->policy, "run_us"))));
    app->applied_us = 0;
    app->published_us = osm_wall_us();
    app->published_at_us = osm_now_us();
    osm_metric_add(OSM_METRIC_BROADCASTS, NULL, 1);
    if (app->ads)
        osm_ads_publish(app->ads, snapshot);
    osm_app_wake_waiters(app);
    osm_feedback_changed(app->feedback);
}

static void policies_changed(void *ud)
{
    struct osm_app *app = ud;
    osm_app_wake_waiters(app);
    osm_feedback_changed(app->feedback);
    if (app->scratch)
        osm_scratch_wake(app->scratch);
    osm_evaluators_changed(app->evaluators);
}

static const char *roots_pem(void *ud)
{
    const struct osm_app *app = ud;
    return osm_ca_roots_pem(app->ca);
}

static bool want_kinds(void *ud, const json_t *kinds)
{
    const struct osm_app *app = ud;
    if (app->feedback)
        osm_feedback_kinds(app->feedback, kinds);
    return app->source ? osm_source_want(app->source, kinds) : true;
}

static void policies_noted(void *ud, const char *digest, const char *state, const char *reason)
{
    const struct osm_app *app = ud;
    osm_feedback_noted(app->feedback, digest, state, reason);
}

static bool is_connected(void *ud, const char *proxy)
{
    const struct osm_app *app = ud;
    return app->ads && osm_ads_connected(app->ads, proxy);
}

static const char *version_of(void *ud, const char *proxy, size_t *like_it)
{
    const struct osm_app *app = ud;
    if (like_it)
        *like_it = 0;
    return app->ads ? osm_ads_version(app->ads, proxy, like_it) : "";
}

static int start_policies(struct osm_app *app, struct osm_err *err)
{
    const struct osm_app_config *config = &app->config;
    const struct osm_reload_config reload = {
        .loop = app->loop,
        .store = app->store,
        .dirs = config->policies_dirs,
        .state_dir = config->state_dir,
        .guard_percent = config->policy_guard_percent,
        .watch_ms = (uint64_t)config->policy_watch_s * 1000,
        .canary = config->policy_canary,
        .engine = {.mesh_name = config->mesh_name,
                   .osm_namespace = config->osm_namespace,
                   .trust_domain = config->trust_domain,
                   .memory_max_bytes = config->policy_memory_bytes},
    };
    const struct osm_reload_callbacks callbacks = {app,        publish,       policies_changed,
                                                   roots_pem,  want_kinds,    is_connected,
                                                   version_of, policies_noted};
    return osm_reload_start(&app->reload, &reload, &callbacks, err);
}

/* --- proxies --- */

/* The live pod of this sidecar. Of two pods of a namespace with one uuid neither has it, but one
 * that is served already keeps it. */
static struct osm_object *pod_of(const struct osm_app *app, const char *proxy)
{
    const struct osm_snapshot_proxy *known =
        app->snapshot ? osm_snapshot_find(app->snapshot, proxy) : NULL;
    if (!known)
        return osm_store_pod_of_proxy(app->store, proxy);
    char *path = osm_strf("/Pod/%s/%s", known->ns, known->pod);
    struct osm_object *pod = path ? osm_store_get(app->store, path) : NULL;
    const char *label =
        pod ? osm_json_str_at(pod->body, "metadata", "labels", "osm-proxy-uuid", NULL) : NULL;
    char now[OSM_PROXY_KEY_SIZE];
    osm_free(path);
    return label && !strcmp(osm_proxy_key(now, label, pod->ns), proxy) ? pod : NULL;
}

static int not_admitted(const char *code, int rc)
{
    osm_metric_add(OSM_METRIC_ERRORS, OSM_LABELS(code), 1);
    return rc;
}

static int admit(void *ud, const struct osm_proxy_id *id, struct osm_err *err)
{
    const struct osm_app *app = ud;
    char proxy[OSM_PROXY_KEY_SIZE];
    const struct osm_object *pod = pod_of(app, osm_proxy_key(proxy, id->uuid, id->ns));
    if (!pod)
        return not_admitted("E5002",
                            osm_fail(err, OSM_EACCES,
                                     "no pod of namespace %s (or more than one) has the label "
                                     "osm-proxy-uuid=%s",
                                     id->ns, id->uuid));
    const char *account = osm_pod_account(pod);
    if (strcmp(account, id->account) != 0)
        return not_admitted("E5010",
                            osm_fail(err, OSM_EACCES,
                                     "certificate is for service account %s, pod %s/%s has %s",
                                     id->account, pod->ns, pod->name, account));
    return 0;
}

static void want_leaf(void *ud, const char *ns, const char *account)
{
    struct osm_app *app = ud;
    osm_leaves_want(app->leaves, ns, account);
}

static void leaf_ready(void *ud, const char *ns, const char *account, struct osm_resource *secret)
{
    struct osm_app *app = ud;
    if (app->ads)
        osm_ads_set_leaf(app->ads, ns, account, secret);
}

static bool leaf_in_use(void *ud, const char *ns, const char *account)
{
    const struct osm_app *app = ud;
    for (size_t i = 0; app->snapshot && i < app->snapshot->proxies_len; i++)
        if (!strcmp(app->snapshot->proxies[i].ns, ns) &&
            !strcmp(app->snapshot->proxies[i].account, account))
            return true;
    return false;
}

static void refused(void *ud, const struct osm_refusal *refusal)
{
    const struct osm_app *app = ud;
    if (app->reload)
        osm_reload_refused(app->reload, refusal);
}

static void restarted(void *ud, const char *proxy, uint64_t since)
{
    const struct osm_app *app = ud;
    if (app->reload)
        osm_reload_restarted(app->reload, proxy, since);
}

static void proxies_changed(void *ud)
{
    struct osm_app *app = ud;
    size_t streams, nacked;
    if (!app->applied_us && app->snapshot && osm_ads_applied(app->ads, &streams, &nacked) &&
        streams) {
        app->applied_us = osm_wall_us();
        osm_metric_observe(OSM_METRIC_APPLY_TIME, NULL,
                           (double)(osm_now_us() - app->published_at_us) / 1e6);
    }
    osm_app_wake_waiters(app);
}

/* --- life cycle --- */

static int listen_port(const char *listen, int *port, struct osm_err *err)
{
    const char *colon = strrchr(listen, ':');
    char *end = NULL;
    errno = 0;
    uintmax_t number = colon && colon[1] ? strtoumax(colon + 1, &end, 10) : 0;
    if (!number || number > 65535 || errno || *end)
        return osm_fail(err, OSM_EINVAL, "--ads-listen %s: expected HOST:PORT", listen);
    *port = (int)number;
    return 0;
}

/* Who we are to the API server: what was named, else as a pod, else as kubectl finds it. */
static int find_cluster(struct osm_kube_config *out, const struct osm_app_config *config,
                        struct osm_err *err)
{
    const char *named = config->kubeconfig, *home = getenv("HOME");
    bool is_pod = getenv("KUBERNETES_SERVICE_HOST") != NULL;
    if (config->kube_account_dir || (!named && !config->kube_context && is_pod))
        return osm_kube_config_in_cluster(out, config->kube_account_dir, err);
    if (!named)
        named = getenv("KUBECONFIG");
    if (named && *named)
        return osm_kube_config_load(out, named, config->kube_context, err);
    char *path = osm_strf("%s/.kube/config", home ? home : "");
    int rc = path ? osm_kube_config_load(out, path, config->kube_context, err)
                  : osm_fail(err, OSM_ENOMEM, "start");
    osm_free(path);
    return rc;
}

static const struct osm_snapshot *newest_snapshot(void *ud)
{
    const struct osm_app *app = ud;
    return app->snapshot;
}

static bool is_settled(void *ud)
{
    return osm_app_settled(ud);
}

static int start_feedback(struct osm_app *app, struct osm_err *err)
{
    const struct osm_feedback_config config = {.loop = app->loop,
                                               .source = app->source,
                                               .store = app->store,
                                               .mesh_name = app->config.mesh_name,
                                               .osm_namespace = app->config.osm_namespace,
                                               .pod = getenv("CONTROLLER_POD_NAME"),
                                               .ud = app,
                                               .snapshot = newest_snapshot,
                                               .settled = is_settled};
    return osm_feedback_start(&app->feedback, &config, err);
}

static int start_source(struct osm_app *app, struct osm_err *err)
{
    const struct osm_source_sink sink = {app, source_put, source_gone, source_synced};
    const char *source = app->config.source;
    if (!strncmp(source, "dir:", 4))
        return osm_source_dir_start(&app->source, app->loop, source + 4, &sink, err);
    struct osm_kube_config cluster = {0};
    const struct osm_source_kube_options options = {
        .mesh_name = app->config.mesh_name,
        .osm_namespace = app->config.osm_namespace,
        .silence_ms = (uint64_t)app->config.kube_silence_s * 1000,
    };
    int rc = find_cluster(&cluster, &app->config, err);
    if (!rc)
        rc = osm_source_kube_start(&app->source, app->loop, &cluster, &options, &sink, err);
    osm_kube_config_clear(&cluster);
    return rc ? rc : start_feedback(app, err);
}

static void tell_started(const struct osm_app *app)
{
    const struct osm_app_config *config = &app->config;
    osm_log(OSM_LOG_CORE, OSM_LOG_INFO, "started", OSM_S("version", OSM_VERSION),
            OSM_S("roles", config->roles_text), OSM_S("mesh", config->mesh_name),
            OSM_S("ads", app->ads ? config->ads_listen : NULL),
            OSM_S("http", osm_app_http_address(app)), OSM_S("debug", osm_app_debug_address(app)),
            OSM_S("source", config->source), OSM_S("policies", config->policies_dirs[0]),
            OSM_S("root", app->ca ? osm_ca_fingerprint(app->ca) : NULL));
}

/* Everything that needs the CA. */
static int start_serving(struct osm_app *app, struct osm_err *err)
{
    const struct osm_app_config *config = &app->config;
    struct osm_leaves_rules rules = leaves_rules(app);
    app->leaves = osm_leaves_new(app->loop, app->ca, config->trust_domain, &rules,
                                 &(struct osm_leaves_callbacks){app, leaf_ready, leaf_in_use});
    if (!app->leaves)
        return osm_fail(err, OSM_ENOMEM, "start");
    int rc = osm_app_control_start(app, err);
    if (!rc)
        rc = osm_app_issue_ads_leaf(app, err);
    if (!rc)
        rc = start_policies(app, err);
    if (!rc)
        rc = osm_whatif_start(app, err);
    if (!rc) {
        struct osm_ads_config ads = {
            .listen = config->ads_listen,
            .trust_domain = config->trust_domain,
            .chain_pem = osm_leaf_chain_pem(app->ads_leaf),
            .key_pem = osm_leaf_key_pem(app->ads_leaf),
            .roots_pem = osm_ca_roots_pem(app->ca),
            .leaf_lead_s = config->service_cert_lead_s,
            .memory_max_bytes = config->memory_limit_bytes,
        };
        rc = osm_ads_start(
            &app->ads, app->loop, &ads,
            &(struct osm_ads_callbacks){app, admit, want_leaf, refused, restarted, proxies_changed},
            err);
    }
    if (!rc)
        rc = osm_app_http_debug_start(app, err);
    return rc ? rc : start_source(app, err);
}

static int start_with_roots(struct osm_app *app, struct osm_err *err)
{
    int rc = app->config.roles & OSM_APP_CONTROLLER ? start_serving(app, err) : 0;
    return rc ? rc : osm_app_injector_start(app, err);
}

static void stop(void *ud);

/* The roots of the Secret: the first ones, or others. */
static int secret_taken(void *ud, struct osm_ca *ca, struct osm_err *err)
{
    struct osm_app *app = ud;
    if (app->ca)
        return osm_app_take_ca(app, ca, err);
    app->ca = ca;
    if (start_with_roots(app, err)) {
        osm_log(OSM_LOG_CORE, OSM_LOG_FATAL, "cannot start", OSM_S("error", err->msg));
        app->failed = true;
        *err = (struct osm_err){0};
        if (osm_loop_post(app->loop, stop, app))
            osm_loop_stop(app->loop);
        return 0;
    }
    tell_started(app);
    return 0;
}

/* What is written to the API server, and read from it besides the objects of the mesh. */
static int start_cluster(struct osm_app *app, struct osm_err *err)
{
    const struct osm_app_config *config = &app->config;
    struct osm_kube_config cluster = {0};
    int rc = 0;
    if (!config->ca_secret && !(config->roles & (OSM_APP_BOOTSTRAP | OSM_APP_INJECTOR)))
        return 0;
    rc = find_cluster(&cluster, config, err);
    if (!rc)
        rc = osm_kube_new(&app->kube, app->loop, &cluster, err);
    osm_kube_config_clear(&cluster);
    if (!rc && (config->roles & OSM_APP_BOOTSTRAP))
        rc = osm_install_start(
            &app->bootstrap,
            &(struct osm_install_config){app->loop, app->kube, config->osm_namespace,
                                         (uint64_t)config->bootstrap_deadline_s * 1000},
            err);
    if (!rc && config->ca_secret && (config->roles & (OSM_APP_CONTROLLER | OSM_APP_INJECTOR)))
        rc = osm_ca_secret_start(&app->ca_secret,
                                 &(struct osm_ca_secret_config){
                                     app->loop, app->kube, config->osm_namespace, config->ca_secret,
                                     config->trust_domain, app, secret_taken},
                                 err);
    return rc;
}

static int start(struct osm_app *app, struct osm_err *err)
{
    const struct osm_app_config *config = &app->config;
    bool serves = config->roles & OSM_APP_CONTROLLER;
    bool has_roots = config->roles & (OSM_APP_CONTROLLER | OSM_APP_INJECTOR);
    bool waits = has_roots && config->ca_secret; /* for the roots; then it goes on */
    int rc = has_roots ? listen_port(config->ads_listen, &app->ads_port, err) : 0;
    if (!rc && has_roots && !waits)
        rc = osm_ca_open(&app->ca, &(struct osm_ca_config){config->state_dir, config->trust_domain},
                         err);
    if (!rc && waits && serves && mkdir(config->state_dir, S_IRWXU) && errno != EEXIST)
        rc = osm_fail(err, OSM_EIO, "state directory %s: cannot be created: %s", config->state_dir,
                      strerror(errno));
    if (rc)
        return rc;
    app->store = osm_store_new();
    app->ads_leaf_timer = osm_timer_new(app->loop, osm_app_look_at_ads_leaf, app);
    app->settings = osm_host_settings_default();
    app->trim = osm_trim_start(app->loop, config->memory_limit_bytes);
    if (!app->store || !app->ads_leaf_timer || !app->trim)
        return osm_fail(err, OSM_ENOMEM, "start");
    rc = osm_app_http_start(app, err);
    if (!rc)
        rc = start_cluster(app, err);
    if (!rc && has_roots && !waits)
        rc = start_with_roots(app, err);
    if (!rc && !waits)
        tell_started(app);
    return rc;
}

static void part_stopped(void *ud)
{
    struct osm_app *app = ud;
    if (!--app->still_stopping)
        osm_loop_stop(app->loop);
}

static void ads_stopped(void *ud)
{
    struct osm_app *app = ud;
    app->ads = NULL;
    part_stopped(app);
}

static void stop_parts(void *ud)
{
    struct osm_app *app = ud;
    osm_source_stop(osm_take_ptr(&app->source));
    osm_install_stop(osm_take_ptr(&app->bootstrap));
    osm_ca_secret_stop(osm_take_ptr(&app->ca_secret));
    osm_kube_free(osm_take_ptr(&app->kube));
    osm_app_control_stop(app);
    osm_whatif_stop(app);
    osm_reload_stop(osm_take_ptr(&app->reload));
    osm_leaves_free(osm_take_ptr(&app->leaves));
    osm_timer_free(osm_take_ptr(&app->ads_leaf_timer));
    osm_trim_free(osm_take_ptr(&app->trim));
    app->still_stopping = 1 + (app->ads != NULL);
    osm_profile_cancel();
    osm_app_http_stop(app, part_stopped, app);
    if (app->ads)
        osm_ads_stop(app->ads, ads_stopped, app);
}

static void webhook_stopped(void *ud)
{
    struct osm_app *app = ud;
    app->webhook = NULL;
    struct osm_feedback *feedback = osm_take_ptr(&app->feedback);
    if (feedback) /* writes to where objects come from, and lets its Lease go */
        osm_feedback_stop(feedback, stop_parts, app);
    else
        stop_parts(app);
}

static void stop(void *ud)
{
    struct osm_app *app = ud;
    if (app->stopping)
        return;
    app->stopping = true;
    osm_log(OSM_LOG_CORE, OSM_LOG_INFO, "stopping");
    if (app->webhook) /* answers what is under way */
        osm_webhook_stop(app->webhook, webhook_stopped, app);
    else
        webhook_stopped(app);
}

int osm_app_run(const struct osm_app_config *config)
{
    struct osm_app app = {.config = *config, .started_ms = osm_now_ms()};
    struct osm_err err = {0};
    if (osm_loop_new(&app.loop, &err)) {
        osm_log(OSM_LOG_CORE, OSM_LOG_FATAL, "cannot start", OSM_S("error", err.msg));
        return 1;
    }
    if (osm_loop_on_terminate(app.loop, stop, &app) || start(&app, &err)) {
        osm_log(OSM_LOG_CORE, OSM_LOG_FATAL, "cannot start", OSM_S("error", err.msg));
        app.failed = true;
        if (osm_loop_post(app.loop, stop, &app))
            return 1;
    }
    int open_handles = osm_loop_run(app.loop);
    osm_loop_free(app.loop); /* runs what was posted late, before what it may touch goes */
    osm_registry_free(app.commands);
    osm_snapshot_unref(app.snapshot);
    osm_store_free(app.store);
    osm_leaf_unref(app.ads_leaf);
    osm_ca_unref(app.ca);
    osm_host_settings_free(&app.settings);
    osm_metrics_clear();
    if (!app.failed)
        osm_log(OSM_LOG_CORE, OSM_LOG_INFO, "stopped", OSM_I("open_handles", open_handles));
    return app.failed ? 1 : 0;
}
