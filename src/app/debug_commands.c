#include "app/debug_commands.h"

#include "app/ca_reload.h"
#include "app/commands.h"
#include "base/json.h"
#include "base/log.h"
#include "base/map.h"
#include "whatif/scratch.h"

#include <string.h>

static void reply_or_fail(struct osm_control_request *request, json_t *data, struct osm_err *err)
{
    if (!data && !err->code)
        (void)osm_fail(err, OSM_ENOMEM, "out of memory");
    if (data)
        osm_control_reply(request, data);
    else
        osm_control_fail(request, err);
}

static const struct osm_snapshot *newest(const struct osm_app *app, struct osm_err *err)
{
    if (!app->snapshot)
        (void)osm_fail(err, OSM_EBUSY, "nothing has been translated yet; `status` says why");
    return app->snapshot;
}

/* --- what is served --- */

static json_t *proxy_row(const struct osm_snapshot_proxy *p)
{
    json_t *row =
        json_pack("{s:o, s:s}", "pod", json_sprintf("%s/%s", p->ns, p->pod), "account", p->account);
    for (int t = 0; row && t < OSM_XDS_TYPE_COUNT; t++)
        if (json_object_set_new(row, osm_xds_type_short((enum osm_xds_type)t),
                                json_integer((json_int_t)p->cls->types[t].len))) {
            json_decref(row);
            return NULL;
        }
    return row;
}

static int by_pod(const void *a, const void *b)
{
    const struct osm_snapshot_proxy *x = *(const struct osm_snapshot_proxy *const *)a;
    const struct osm_snapshot_proxy *y = *(const struct osm_snapshot_proxy *const *)b;
    int ns = strcmp(x->ns, y->ns);
    return ns ? ns : strcmp(x->pod, y->pod);
}

/* Of one namespace, or of all (NULL); sorted by pod. */
static json_t *proxy_rows(const struct osm_snapshot *s, const char *ns)
{
    const struct osm_snapshot_proxy **sorted = osm_alloc_array(s->proxies_len + 1, sizeof *sorted);
    json_t *rows = sorted ? json_array() : NULL;
    size_t n = 0;
    for (size_t i = 0; rows && i < s->proxies_len; i++)
        if (!ns || !strcmp(ns, s->proxies[i].ns))
            sorted[n++] = &s->proxies[i];
    if (rows)
        qsort(sorted, n, sizeof *sorted, by_pod);
    for (size_t i = 0; rows && i < n; i++)
        if (json_array_append_new(rows, proxy_row(sorted[i]))) {
            json_decref(rows);
            rows = NULL;
        }
    osm_free(sorted);
    return rows;
}

static void snapshot(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm_app *app = ud;
    struct osm_err err = {0};
    uint64_t generation = 0;
    const struct osm_snapshot *s = newest(app, &err);
    json_t *rows = s ? proxy_rows(s, json_string_value(json_object_get(args, "namespace"))) : NULL;
    if (rows && app->reload)
        (void)osm_reload_files(app->reload, &generation);
    reply_or_fail(request,
                  rows ? json_pack("{s:I, s:I, s:s, s:b, s:I, s:I, s:I, s:o}", "snapshot",
                                   (json_int_t)s->number, "generation", (json_int_t)generation,
                                   "digest", osm_json_text(s->policy, "digest"), "settled",
                                   osm_app_settled(app), "objects",
                                   (json_int_t)osm_store_count(app->store), "rejects",
                                   (json_int_t)json_array_size(s->rejects), "errors",
                                   (json_int_t)json_array_size(s->errors), "proxies", rows)
                       : NULL,
                  &err);
}

/* "NACK", "due", the beginning of the version that the proxy has, "-" where it never asked. */
static json_t *state_of(const json_t *type)
{
    const char *acked = osm_json_text(type, "acked");
    if (json_is_string(json_object_get(type, "nacked")))
        return json_string("NACK");
    if (json_is_true(json_object_get(type, "due")))
        return json_string("due");
    return !*acked                               ? json_string("-")
           : strspn(acked, "0") == strlen(acked) ? json_string("empty")
                                                 : json_sprintf("%.8s", acked);
}

static json_t *node_row(const json_t *stream)
{
    const json_t *types = json_object_get(stream, "types");
    json_t *row = json_pack(
        "{s:o, s:s, s:s, s:O?, s:O?}", "node",
        json_sprintf("%s/%s", osm_json_text(stream, "namespace"), osm_json_text(stream, "pod")),
        "account", osm_json_text(stream, "account"), "mode", osm_json_text(stream, "mode"),
        "connected_s", json_object_get(stream, "connected_s"), "snapshot",
        json_object_get(stream, "snapshot"));
    for (int t = 0; row && t < OSM_XDS_TYPE_COUNT; t++) {
        const char *name = osm_xds_type_short((enum osm_xds_type)t);
        (void)json_object_set_new(row, name, state_of(json_object_get(types, name)));
    }
    if (row)
        (void)json_object_set_new(row, "uuid", json_string(osm_json_text(stream, "uuid")));
    return row;
}

static void xds_nodes(void *ud, struct osm_control_request *request, const json_t *args)
{
    const struct osm_app *app = ud;
    struct osm_err err = {0};
    json_t *streams = app->ads ? osm_ads_status(app->ads) : json_array(), *stream;
    json_t *rows = streams ? json_array() : NULL;
    size_t i;
    (void)args;
    json_array_foreach (streams, i, stream)
        if (rows && json_array_append_new(rows, node_row(stream))) {
            json_decref(rows);
            rows = NULL;
        }
    json_decref(streams);
    reply_or_fail(request, rows ? json_pack("{s:o}", "nodes", rows) : NULL, &err);
}

static void xds_show(void *ud, struct osm_control_request *request, const json_t *args)
{
    const struct osm_app *app = ud;
    struct osm_err err = {0};
    const struct osm_snapshot_proxy *proxy =
        newest(app, &err) ? osm_app_find_proxy(app, osm_json_text(args, "node"), &err) : NULL;
    const char *type = json_string_value(json_object_get(args, "type"));
    reply_or_fail(request, proxy ? osm_app_proxy_config(app, proxy, type, &err) : NULL, &err);
}

/* --- the daemon itself --- */

static void ca_status(void *ud, struct osm_control_request *request, const json_t *args)
{
    const struct osm_app *app = ud;
    struct osm_err err = {0};
    (void)args;
    json_t *status = osm_ca_status(app->ca);
    if (status && app->ads_leaf)
        (void)json_object_set_new(status, "ads_certificate",
                                  json_pack("{s:s, s:I}", "key",
                                            app->ads_leaf_is_rsa ? "RSA" : "P-256", "not_after",
                                            (json_int_t)osm_leaf_not_after(app->ads_leaf)));
    if (status)
        (void)json_object_set_new(status, "secrets_applied",
                                  json_boolean(app->ads && osm_ads_secrets_applied(app->ads)));
    reply_or_fail(request, status, &err);
}

static json_t *levels(void)
{
    json_t *rows = json_array();
    for (int i = 0; rows && i < OSM_LOG_TOPIC_COUNT; i++) {
        enum osm_log_topic topic = (enum osm_log_topic)i;
        if (json_array_append_new(rows,
                                  json_pack("{s:s, s:s, s:s}", "topic", osm_log_topic_name(topic),
                                            "level", osm_log_level_name(osm_log_level_of(topic)),
                                            "what", osm_log_topic_doc(topic)))) {
            json_decref(rows);
            return NULL;
        }
    }
    return rows ? json_pack("{s:o}", "topics", rows) : NULL;
}

static void log_levels(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm_err err = {0};
    (void)ud;
    (void)args;
    reply_or_fail(request, levels(), &err);
}

static void log_set(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm_err err = {0};
    const char *topic = osm_json_text(args, "topic"), *level = osm_json_text(args, "level");
    int number = !strcmp(topic, "all") ? OSM_LOG_TOPIC_COUNT : osm_log_topic_parse(topic);
    int to = osm_log_level_parse(level);
    (void)ud;
    if (number < 0)
        (void)osm_fail(&err, OSM_EINVAL, "%.64s: no such topic; `log` lists them", topic);
    else if (to < 0)
        (void)osm_fail(&err, OSM_EINVAL, "%.64s: no such level (in small letters)", level);
    else
        osm_log_set_level((enum osm_log_topic)number, (enum osm_log_level)to);
    reply_or_fail(request, err.code ? NULL : levels(), &err);
}

struct handles {
    struct osm_map counts; /* type -> size_t[2]: idle, active */
    bool failed;
};

static void count_handle(void *ud, const char *type, bool active)
{
    struct handles *h = ud;
    size_t *count = osm_map_get(&h->counts, type);
    if (!count) {
        count = osm_alloc_array(2, sizeof *count);
        if (!count || osm_map_put(&h->counts, type, count, NULL)) {
            osm_free(count);
            h->failed = true;
            return;
        }
    }
    count[active]++;
}

static void handles(void *ud, struct osm_control_request *request, const json_t *args)
{
    const struct osm_app *app = ud;
    struct osm_err err = {0};
    struct handles h = {.counts = OSM_MAP_INIT};
    size_t n = 0;
    (void)args;
    osm_loop_each_handle(app->loop, count_handle, &h);
    const char **types = osm_map_sorted_keys(&h.counts, &n);
    json_t *rows = types && !h.failed ? json_array() : NULL;
    for (size_t i = 0; rows && i < n; i++) {
        const size_t *count = osm_map_get(&h.counts, types[i]);
        (void)json_array_append_new(rows,
                                    json_pack("{s:s, s:I, s:I}", "type", types[i], "active",
                                              (json_int_t)count[1], "idle", (json_int_t)count[0]));
    }
    osm_free(types);
    osm_map_each (&h.counts, e)
        osm_free(e->value);
    osm_map_clear(&h.counts);
    reply_or_fail(request, rows ? json_pack("{s:o}", "handles", rows) : NULL, &err);
}

static void mem(void *ud, struct osm_control_request *request, const json_t *args)
{
    const struct osm_app *app = ud;
    struct osm_err err = {0};
    struct osm_mem_heap heap = osm_mem_measure_heap();
    const json_t *policy = app->snapshot ? app->snapshot->policy : NULL;
    (void)args;
    reply_or_fail(
        request,
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "resident_bytes",
                  (json_int_t)osm_mem_resident(), "heap_used_bytes", (json_int_t)heap.used_bytes,
                  "heap_free_bytes", (json_int_t)heap.free_bytes, "mapped_bytes",
                  (json_int_t)heap.mapped_bytes, "allocations", (json_int_t)osm_mem_live(),
                  "lua_bytes", json_integer_value(json_object_get(policy, "lua_bytes")), "cells",
                  json_integer_value(json_object_get(policy, "cells")), "objects",
                  (json_int_t)(app->store ? osm_store_count(app->store) : 0), "preview_ready",
                  app->scratch && osm_scratch_is_ready(app->scratch)),
        &err);
}

static const struct osm_control_arg snapshot_args[] = {
    {.name = "namespace",
     .type = OSM_ARG_TEXT,
     .complete = OSM_COMPLETE_NAMESPACE,
     .help = "only its proxies"},
    {.name = NULL},
};
static const struct osm_control_arg show_args[] = {
    {.name = "node",
     .type = OSM_ARG_TEXT,
     .required = true,
     .complete = OSM_COMPLETE_POD,
     .help = "NAMESPACE/POD; `snapshot` lists them"},
    {.name = "type",
     .type = OSM_ARG_TEXT,
     .choices = "CDS EDS LDS RDS SDS",
     .help = "only resources of this type"},
    {.name = NULL},
};
static const struct osm_control_arg log_args[] = {
    {.name = "topic",
     .type = OSM_ARG_TEXT,
     .required = true,
     .complete = OSM_COMPLETE_TOPIC,
     .help = "one that `log` lists, or all"},
    {.name = "level",
     .type = OSM_ARG_TEXT,
     .required = true,
     .choices = "trace debug info warn error fatal disabled",
     .help = "this and what is worse is logged"},
    {.name = NULL},
};
const struct osm_control_command osm_debug_commands[] = {
    {.name = "snapshot",
     .handler = snapshot,
     .args = snapshot_args,
     .help = "what is served: its number, its policies, how much each proxy gets"},
    {.name = "xds.nodes",
     .handler = xds_nodes,
     .help = "connected proxies, and what each has applied"},
    {.name = "xds.show",
     .handler = xds_show,
     .args = show_args,
     .help = "what a proxy is served, decoded; keys are left out"},
    {.name = "ca.status", .handler = ca_status, .help = "who signs, who is trusted, until when"},
    {.name = "log", .handler = log_levels, .help = "the topics of the log, and their levels"},
    {.name = "log.set",
     .handler = log_set,
     .role = OSM_ROLE_OPERATE,
     .args = log_args,
     .help = "another level, until the MeshConfig's osmLogLevel or a restart changes it"},
    {.name = "handles", .handler = handles, .help = "what the event loop holds open, by type"},
    {.name = "mem", .handler = mem, .help = "memory of the process and of the policies"},
    {.name = NULL},
};
