#include "app/commands.h"

#include "app/ca_reload.h"
#include "app/ca_secret.h"
#include "app/complete_command.h"
#include "app/console.h"
#include "app/debug_commands.h"
#include "app/eval_commands.h"
#include "app/http.h"
#include "app/leaves.h"
#include "app/policy_commands.h"
#include "app/policy_profile.h"
#include "app/sidecar.h"
#include "app/whatif_commands.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/map.h"
#include "policy/encode/proto.h"

#include <stdio.h>
#include <string.h>

enum { WAIT_DEFAULT_MS = 30 * 1000, WAIT_MAX_MS = 3600 * 1000, CONTROL_SESSIONS_MAX = 16 };

/* --- status --- */

/* Pods that should have a proxy connected and have none, as "namespace/pod", sorted. */
static json_t *missing_proxies(const struct osm_app *app, const json_t *streams)
{
    json_t *missing = json_array();
    struct osm_map connected = OSM_MAP_INIT, pods = OSM_MAP_INIT;
    size_t at, n = 0;
    json_t *stream;
    int rc = 0;
    char proxy[OSM_PROXY_KEY_SIZE];
    json_array_foreach (streams, at, stream)
        rc |= osm_map_put(
            &connected,
            osm_proxy_key(proxy, osm_json_text(stream, "uuid"), osm_json_text(stream, "namespace")),
            stream, NULL);
    for (size_t i = 0; app->snapshot && i < app->snapshot->proxies_len && !rc; i++) {
        const struct osm_snapshot_proxy *p = &app->snapshot->proxies[i];
        char *pod = osm_map_has(&connected, p->key) ? NULL : osm_strf("%s/%s", p->ns, p->pod);
        if (pod)
            rc |= osm_map_put(&pods, pod, missing, NULL);
        osm_free(pod);
    }
    const char **names = osm_map_sorted_keys(&pods, &n);
    for (size_t i = 0; names && i < n; i++)
        (void)json_array_append_new(missing, json_string(names[i]));
    osm_free(names);
    osm_map_clear(&connected);
    osm_map_clear(&pods);
    return missing;
}

static json_t *or_empty(json_t *array)
{
    return array ? json_incref(array) : json_array();
}

static json_t *root_status(const struct osm_app *app)
{
    json_t *root = osm_ca_status(app->ca);
    const char *problem = app->ca_secret ? osm_ca_secret_problem(app->ca_secret) : "";
    if (*problem)
        (void)json_object_set_new(root, "problem", json_string(problem));
    return root;
}

static void status(void *ud, struct osm_control_request *request, const json_t *args)
{
    (void)args;
    struct osm_app *app = ud;
    json_t *streams = app->ads ? osm_ads_status(app->ads) : json_array();
    const struct osm_snapshot *s = app->snapshot;
    osm_control_reply(
        request,
        json_pack(
            "{s:s, s:s, s:s, s:I, s:o*, s:I, s:I, s:I, s:I, s:b, s:s?, s:o, s:o, s:o, s:o, s:O*, "
            "s:o, s:o*, s:s, s:s, s:o*, s:o*, s:o*}",
            "version", OSM_VERSION, "mesh", app->config.mesh_name, "osm_namespace",
            app->config.osm_namespace, "uptime_s",
            (json_int_t)((osm_now_ms() - app->started_ms) / 1000), "source",
            app->source ? osm_source_status(app->source) : NULL, "snapshot",
            (json_int_t)(s ? s->number : 0), "heard_us", (json_int_t)app->heard_us, "published_us",
            (json_int_t)app->published_us, "applied_us", (json_int_t)app->applied_us, "settled",
            osm_app_settled(app), "policy_error",
            app->reload ? osm_reload_error(app->reload) : NULL, "missing",
            missing_proxies(app, streams), "proxies", streams, "rejects",
            or_empty(s ? s->rejects : NULL), "errors", or_empty(s ? s->errors : NULL), "policy",
            s ? s->policy : NULL, "root", root_status(app), "policies",
            app->reload ? osm_reload_status(app->reload) : NULL, "http", osm_app_http_address(app),
            "debug", osm_app_debug_address(app), "feedback",
            app->feedback ? osm_feedback_status(app->feedback) : NULL, "bootstrap",
            app->bootstrap ? osm_install_status(app->bootstrap) : NULL, "injector",
            app->webhook ? osm_webhook_status(app->webhook) : NULL));
}

/* --- wait --- */

struct osm_waiter {
    struct osm_waiter *next;
    struct osm_app *app;
    struct osm_control_request *request;
    struct osm_timer *deadline;
    bool connected; /* also until every pod with a sidecar has a stream */
    bool refreshed; /* the source has told all that was in it when the question came */
};

static void waiter_remove(struct osm_waiter *w)
{
    struct osm_waiter **at = &w->app->waiters;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    if (w->app->source)
        osm_source_forget(w->app->source, w);
    osm_timer_free(w->deadline);
    osm_free(w);
}

/* Files of which the last good objects serve, or none. */
static size_t source_errors(const struct osm_app *app)
{
    json_t *status = app->source ? osm_source_status(app->source) : NULL;
    size_t n = json_array_size(json_object_get(status, "errors"));
    json_decref(status);
    return n;
}

static void answer(struct osm_waiter *w, int code, const char *why_not)
{
    struct osm_app *app = w->app;
    struct osm_control_request *request = w->request;
    size_t streams = 0, nacked = 0;
    bool applied = app->ads && osm_ads_applied(app->ads, &streams, &nacked);
    waiter_remove(w);
    if (why_not) {
        struct osm_err err;
        osm_control_fail(request, (osm_fail(&err, code, "%s", why_not), &err));
        return;
    }
    osm_control_reply(request,
                      json_pack("{s:b, s:I, s:I, s:I, s:I}", "applied", applied, "source_errors",
                                (json_int_t)source_errors(app), "snapshot",
                                (json_int_t)(app->snapshot ? app->snapshot->number : 0), "proxies",
                                (json_int_t)streams, "nacked", (json_int_t)nacked));
}

static void waiter_deadline(void *ud)
{
    struct osm_waiter *w = ud;
    struct osm_app *app = w->app;
    size_t streams = 0, nacked = 0;
    if (app->reload && osm_reload_error(app->reload))
        answer(w, OSM_ETIMEDOUT,
               "not applied in time: the policy run fails; `osm status` says why");
    else if (!w->refreshed)
        answer(w, OSM_ETIMEDOUT,
               "not applied in time: not everything that is in the source is known yet; `osm "
               "status` says more");
    else if (!osm_app_settled(app))
        answer(w, OSM_ETIMEDOUT, "not applied in time: the change has not been translated yet");
    else if (!osm_ads_applied(app->ads, &streams, &nacked))
        answer(w, OSM_ETIMEDOUT,
               "not applied in time: a proxy has not answered; `osm status` lists them");
    else
        answer(w, OSM_ETIMEDOUT,
               "not all proxies have connected in time; `osm status` lists the missing ones");
}

static bool all_connected(const struct osm_app *app)
{
    json_t *streams = osm_ads_status(app->ads);
    json_t *missing = missing_proxies(app, streams);
    bool all = json_array_size(missing) == 0;
    json_decref(missing);
    json_decref(streams);
    return all;
}

void osm_app_wake_waiters(struct osm_app *app)
{
    size_t streams, nacked;
    bool done = app->waiters && app->ads && osm_app_settled(app) &&
                osm_ads_applied(app->ads, &streams, &nacked);
    for (struct osm_waiter *w = app->waiters, *next; w; w = next) {
        next = w->next;
        if (!osm_control_alive(w->request) ||
            (done && w->refreshed && (!w->connected || all_connected(app))))
            answer(w, 0, NULL);
    }
}

static void waiter_refreshed(void *ud, const char *failure)
{
    struct osm_waiter *w = ud;
    struct osm_app *app = w->app;
    if (failure) {
        char text[600];
        (void)snprintf(text, sizeof text, "not applied: the source has failed: %s", failure);
        answer(w, OSM_EIO, text);
        return;
    }
    w->refreshed = true;
    osm_reload_flush(app->reload);
    osm_app_wake_waiters(app);
}

static void wait_applied(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm_app *app = ud;
    struct osm_err err = {0};
    const json_t *timeout = json_object_get(args, "timeout_ms");
    json_int_t timeout_ms = timeout ? json_integer_value(timeout) : WAIT_DEFAULT_MS;
    struct osm_waiter *w = NULL;
    if (!app->source)
        (void)osm_fail(&err, OSM_EBUSY, "the daemon is starting");
    else if (!(w = osm_alloc(sizeof *w)) ||
             !(w->deadline = osm_timer_new(app->loop, waiter_deadline, w)))
        (void)osm_fail(&err, OSM_ENOMEM, "wait");
    if (err.code) {
        osm_free(w);
        osm_control_fail(request, &err);
        return;
    }
    w->app = app;
    w->request = request;
    w->connected = json_is_true(json_object_get(args, "connected"));
    w->next = app->waiters;
    app->waiters = w;
    osm_timer_start(w->deadline, (uint64_t)timeout_ms, 0);
    osm_source_refresh(app->source, waiter_refreshed, w); /* what was written before counts */
}

/* --- proxies --- */

static bool is_of_mesh(const struct osm_app *app, const char *ns, size_t len)
{
    char *key = osm_strf("/Namespace//%.*s", (int)len, ns);
    const struct osm_object *object = key ? osm_store_get(app->store, key) : NULL;
    const char *mesh = object ? osm_json_str_at(object->body, "metadata", "labels",
                                                "openservicemesh.io/monitored-by", NULL)
                              : NULL;
    osm_free(key);
    return mesh && !strcmp(mesh, app->config.mesh_name);
}

/* The object of "namespace/pod", or NULL with the error. */
static struct osm_object *find_pod(const struct osm_app *app, const char *name, struct osm_err *err)
{
    const char *slash = name ? strchr(name, '/') : NULL;
    if (!slash || !slash[1] || slash == name || strchr(slash + 1, '/')) {
        (void)osm_fail(err, OSM_EINVAL, "expected NAMESPACE/POD, got %.128s",
                       name ? name : "nothing");
        return NULL;
    }
    char *key = osm_strf("/Pod/%s", name);
    struct osm_object *pod = key ? osm_store_get(app->store, key) : NULL;
    osm_free(key);
    if (!pod && is_of_mesh(app, name, (size_t)(slash - name)))
        (void)osm_fail(err, OSM_ENOENT, "no pod %.128s in the source", name);
    else if (!pod)
        (void)osm_fail(err, OSM_ENOENT,
                       "no pod %.128s in the mesh: its namespace has no label "
                       "openservicemesh.io/monitored-by: %s",
                       name, app->config.mesh_name);
    return pod;
}

struct bootstrap {
    struct osm_app *app;
    struct osm_control_request *request;
    json_t *args;
};

static void bootstrap_refreshed(void *ud, const char *failure)
{
    struct bootstrap *b = ud;
    struct osm_err err = {0};
    json_t *files = NULL;
    (void)failure; /* then what is known counts */
    const struct osm_object *pod =
        find_pod(b->app, json_string_value(json_object_get(b->args, "pod")), &err);
    if (!pod ||
        osm_sidecar_files(b->app, pod, json_string_value(json_object_get(b->args, "mount_path")),
                          &files, &err))
        osm_control_fail(b->request, &err);
    else
        osm_control_reply(b->request, files);
    json_decref(b->args);
    osm_free(b);
}

static void proxy_bootstrap(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm_app *app = ud;
    struct osm_err err = {0};
    struct bootstrap *b = osm_alloc(sizeof *b);
    if (!b) {
        (void)osm_fail(&err, OSM_ENOMEM, "bootstrap");
        osm_control_fail(request, &err);
        return;
    }
    *b = (struct bootstrap){app, request, json_incref((json_t *)(uintptr_t)args)};
    if (app->source)
        osm_source_refresh(app->source, bootstrap_refreshed, b); /* a pod written just now counts */
    else
        bootstrap_refreshed(b, NULL);
}

static int decode_into(json_t *list, enum osm_xds_type type, const struct osm_resource *resource,
                       struct osm_err *err)
{
    const ProtobufCMessageDescriptor *descriptor = osm_proto_find(osm_xds_type_message(type));
    json_t *decoded = NULL;
    int rc = osm_proto_decode(descriptor, osm_bytes_data(resource->body),
                              osm_bytes_len(resource->body), &decoded, err);
    if (!rc && json_array_append_new(list, decoded))
        rc = osm_fail(err, OSM_ENOMEM, "configuration");
    return rc;
}

const struct osm_snapshot_proxy *osm_app_find_proxy(const struct osm_app *app, const char *name,
                                                    struct osm_err *err)
{
    const struct osm_object *pod = find_pod(app, name, err);
    const char *uuid =
        pod ? osm_json_str_at(pod->body, "metadata", "labels", "osm-proxy-uuid", NULL) : NULL;
    char key[OSM_PROXY_KEY_SIZE];
    const struct osm_snapshot_proxy *proxy =
        uuid && app->snapshot ? osm_snapshot_find(app->snapshot, osm_proxy_key(key, uuid, pod->ns))
                              : NULL;
    if (proxy)
        return proxy;
    if (pod)
        (void)osm_fail(err, OSM_ENOENT,
                       "%s/%s has no proxy: it needs the label osm-proxy-uuid, which no other pod "
                       "of its namespace may have, and a monitored namespace",
                       pod->ns, pod->name);
    return NULL;
}

json_t *osm_app_proxy_config(const struct osm_app *app, const struct osm_snapshot_proxy *proxy,
                             const char *type, struct osm_err *err)
{
    json_t *out = json_object();
    int rc = out ? 0 : osm_fail(err, OSM_ENOMEM, "configuration");
    for (int t = 0; !rc && t < OSM_XDS_TYPE_COUNT; t++) {
        const char *name = osm_xds_type_short((enum osm_xds_type)t);
        if (type && strcasecmp(type, name) != 0)
            continue;
        json_t *list = json_array();
        (void)json_object_set_new(out, name, list);
        for (size_t i = 0; !rc && i < proxy->cls->types[t].len; i++)
            rc = decode_into(list, (enum osm_xds_type)t, proxy->cls->types[t].list[i], err);
        const struct osm_resource *leaf =
            t == OSM_XDS_SDS ? osm_leaves_get(app->leaves, proxy->ns, proxy->account) : NULL;
        if (leaf && !rc)
            rc = decode_into(list, OSM_XDS_SDS, leaf, err);
    }
    if (!rc)
        return out;
    json_decref(out);
    return NULL;
}

static void proxy_config(void *ud, struct osm_control_request *request, const json_t *args)
{
    const struct osm_app *app = ud;
    struct osm_err err = {0};
    const struct osm_snapshot_proxy *proxy =
        osm_app_find_proxy(app, json_string_value(json_object_get(args, "pod")), &err);
    const char *type = json_string_value(json_object_get(args, "type"));
    json_t *out = proxy ? osm_app_proxy_config(app, proxy, type, &err) : NULL;
    if (out)
        osm_control_reply(request, out);
    else
        osm_control_fail(request, &err);
}

static const struct osm_control_arg wait_args[] = {
    {.name = "timeout_ms",
     .type = OSM_ARG_INTEGER,
     .min = 1,
     .max = WAIT_MAX_MS,
     .help = "give up after it; 30000 by default"},
    {.name = "connected",
     .type = OSM_ARG_FLAG,
     .help = "also until every pod with a sidecar has connected"},
    {.name = NULL},
};
static const struct osm_control_arg bootstrap_args[] = {
    {.name = "pod",
     .type = OSM_ARG_TEXT,
     .required = true,
     .complete = OSM_COMPLETE_POD,
     .help = "NAMESPACE/POD"},
    {.name = "mount_path", .type = OSM_ARG_TEXT, .help = "where Envoy will find the files"},
    {.name = NULL},
};
static const struct osm_control_arg config_args[] = {
    {.name = "pod",
     .type = OSM_ARG_TEXT,
     .required = true,
     .complete = OSM_COMPLETE_POD,
     .help = "NAMESPACE/POD"},
    {.name = "type",
     .type = OSM_ARG_TEXT,
     .choices = "CDS EDS LDS RDS SDS",
     .help = "only resources of this type"},
    {.name = NULL},
};
static const struct osm_control_arg profile_args[] = {
    {.name = "seconds",
     .type = OSM_ARG_INTEGER,
     .min = 1,
     .max = OSM_PROFILE_MAX_S,
     .help = "look so long, line by line; else what has been counted so far"},
    {.name = NULL},
};
static const struct osm_control_command commands[] = {
    {.name = "status",
     .handler = status,
     .help = "proxies and what they have applied, rejected objects, rules in error"},
    {.name = "wait",
     .handler = wait_applied,
     .deadline_ms = OSM_CONTROL_PATIENT,
     .args = wait_args,
     .help = "until every connected proxy has applied what is in the source"},
    {.name = "proxy.bootstrap",
     .handler = proxy_bootstrap,
     .role = OSM_ROLE_OPERATE,
     .secret = true,
     .args = bootstrap_args,
     .help = "the files a sidecar starts from, with a certificate of its own"},
    {.name = "proxy.config",
     .handler = proxy_config,
     .args = config_args,
     .help = "what the pod's proxy is served"},
    {.name = "policy.profile",
     .handler = osm_policy_profile_command,
     .deadline_ms = OSM_CONTROL_PATIENT,
     .args = profile_args,
     .help = "what rules and emitters cost"},
    {.name = NULL},
};

int osm_app_control_start(struct osm_app *app, struct osm_err *err)
{
    char *path = app->config.control_socket ? osm_strdup(app->config.control_socket)
                                            : osm_strf("%s/control.sock", app->config.state_dir);
    app->commands = osm_registry_new();
    int rc = path && app->commands ? 0 : osm_fail(err, OSM_ENOMEM, "control socket");
    if (!rc)
        rc = osm_registry_add(app->commands, commands, app, err);
    if (!rc)
        rc = osm_registry_add(app->commands, osm_ca_commands, app, err);
    if (!rc)
        rc = osm_registry_add(app->commands, osm_policy_commands, app, err);
    if (!rc)
        rc = osm_registry_add(app->commands, osm_whatif_commands, app, err);
    if (!rc)
        rc = osm_registry_add(app->commands, osm_eval_commands, app, err);
    if (!rc)
        rc = osm_registry_add(app->commands, osm_debug_commands, app, err);
    if (!rc)
        rc = osm_registry_add(app->commands, osm_complete_commands, app, err);
    if (!rc && !(app->evaluators = osm_app_evaluators_new(app)))
        rc = osm_fail(err, OSM_ENOMEM, "control socket");
    if (!rc) {
        const struct osm_control_config config = {.loop = app->loop,
                                                  .path = path,
                                                  .registry = app->commands,
                                                  .large = true,
                                                  .role = OSM_ROLE_OPERATE,
                                                  .sessions_max = CONTROL_SESSIONS_MAX};
        rc = osm_control_start(&app->control, &config, err);
    }
    if (!rc)
        rc = osm_app_consoles_start(app, err);
    osm_free(path);
    return rc;
}

void osm_app_control_stop(struct osm_app *app)
{
    while (app->waiters)
        answer(app->waiters, OSM_ETIMEDOUT, "the daemon is stopping");
    osm_app_consoles_stop(app);
    osm_policy_profile_stop(app);
    osm_control_stop(osm_take_ptr(&app->control));
    osm_evaluators_free(osm_take_ptr(&app->evaluators));
}
