#include "app/policy_commands.h"

#include "app/commands.h"
#include "app/whatif_commands.h"
#include "base/buf.h"
#include "base/json.h"
#include "debug/render.h"
#include "whatif/field_why.h"

#include <string.h>

enum { WHY_MAX_BYTES = 16 << 20 };

static bool is_ready(const struct osm_app *app, struct osm_control_request *request)
{
    struct osm_err err = {0};
    if (app->reload && app->synced)
        return true;
    (void)osm_fail(&err, OSM_EBUSY, "the daemon is starting: its source has not been read yet");
    osm_control_fail(request, &err);
    return false;
}

static void outcome_known(void *ud, const json_t *outcome)
{
    json_t *copy = outcome ? json_deep_copy(outcome) : NULL;
    struct osm_err err = {0};
    if (copy)
        osm_control_reply(ud, copy);
    else
        osm_control_fail(ud, (osm_fail(&err, OSM_ENOMEM,
                                       "out of memory: `osm policy list` says "
                                       "what has become of it"),
                              &err));
}

static void reload(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm_app *app = ud;
    if (is_ready(app, request))
        osm_reload_now(app->reload, json_is_true(json_object_get(args, "force")), outcome_known,
                       request);
}

enum { APPLIED_DIRS_MAX = 8, SOAK_MAX_MS = 24 * 3600 * 1000 };

/* *out: the paths, of which there are fewer than APPLIED_DIRS_MAX; borrowed. */
static int take_dirs(const char *out[APPLIED_DIRS_MAX], const json_t *dirs, struct osm_err *err)
{
    size_t n = json_array_size(dirs);
    bool ok = n > 0 && n < APPLIED_DIRS_MAX;
    for (size_t i = 0; ok && i < n; i++) {
        out[i] = json_string_value(json_array_get(dirs, i));
        ok = out[i] && out[i][0] == '/';
    }
    return ok ? 0
              : osm_fail(err, OSM_EINVAL, "dirs: expected 1 to %d absolute paths of directories",
                         APPLIED_DIRS_MAX - 1);
}

static int take_canary(struct osm_reload_canary *out, const json_t *args, struct osm_err *err)
{
    const char *text = json_string_value(json_object_get(args, "canary"));
    const json_t *soak = json_object_get(args, "soak_ms");
    json_int_t soak_ms = soak ? json_integer_value(soak) : OSM_RELOAD_SOAK_MS;
    if (!text)
        return soak ? osm_fail(err, OSM_EINVAL, "soak_ms: without a canary nothing soaks") : 0;
    int rc = osm_reload_canary_parse(out, text, err);
    out->soak_ms = (uint64_t)soak_ms;
    return rc;
}

static void apply(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm_app *app = ud;
    struct osm_err err = {0};
    const char *dirs[APPLIED_DIRS_MAX] = {0};
    struct osm_reload_application what = {.dirs = dirs,
                                          .force = json_is_true(json_object_get(args, "force"))};
    if (!is_ready(app, request))
        return;
    if (take_dirs(dirs, json_object_get(args, "dirs"), &err) ||
        take_canary(&what.canary, args, &err))
        osm_control_fail(request, &err);
    else
        osm_reload_apply(app->reload, &what, outcome_known, request);
}

/* The generations as they are after a command, or its error. */
static void answer(struct osm_app *app, struct osm_control_request *request, int rc,
                   struct osm_err *err)
{
    json_t *status = rc ? NULL : osm_reload_status(app->reload);
    if (!rc && !status)
        (void)osm_fail(err, OSM_ENOMEM, "out of memory");
    if (status)
        osm_control_reply(request, status);
    else
        osm_control_fail(request, err);
}

static void activate(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm_app *app = ud;
    struct osm_err err = {0};
    const char *digest = json_string_value(json_object_get(args, "digest"));
    if (is_ready(app, request))
        answer(app, request, osm_reload_activate(app->reload, digest, &err), &err);
}

static void rollback(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm_app *app = ud;
    struct osm_err err = {0};
    const char *reason = json_string_value(json_object_get(args, "reason"));
    if (is_ready(app, request))
        answer(app, request,
               osm_reload_roll_back(app->reload, reason ? reason : "by command", &err), &err);
}

static void list(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm_app *app = ud;
    struct osm_err err = {0};
    (void)args;
    if (is_ready(app, request))
        answer(app, request, 0, &err);
}

/* What has become of each generation, the oldest first. */
static void history(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm_app *app = ud;
    struct osm_err err = {0};
    (void)args;
    if (!is_ready(app, request))
        return;
    json_t *status = osm_reload_status(app->reload), *list = json_array();
    const json_t *generations = json_object_get(status, "generations");
    int rc = status && list ? 0 : OSM_ENOMEM;
    for (size_t i = json_array_size(generations); !rc && i; i--)
        rc = json_array_append(list, json_array_get(generations, i - 1));
    json_decref(status);
    if (!rc) {
        osm_control_reply(request, json_pack("{s:o}", "log", list));
        return;
    }
    json_decref(list);
    (void)osm_fail(&err, OSM_ENOMEM, "out of memory");
    osm_control_fail(request, &err);
}

/* --- why --- */

struct why {
    struct osm_app *app;
    struct osm_control_request *request;
    struct osm_snapshot *served;
    char *proxy, *resource, *element;
    char *field; /* NULL: of the whole resource, or the element */
    int type;    /* -1: whichever has it */
    uint64_t generation;
    char *digest; /* of the policies that say so */
    enum osm_xds_type found;
    json_t *items;
    int rc;
    struct osm_err err;
};

static void why_free(struct why *w)
{
    osm_free(w->proxy);
    osm_free(w->digest);
    osm_free(w->resource);
    osm_free(w->element);
    osm_free(w->field);
    osm_snapshot_unref(w->served);
    json_decref(w->items);
    osm_free(w);
}

static void ask_why(void *ud, struct osm_engine *engine)
{
    struct why *w = ud;
    w->rc = osm_fail(&w->err, OSM_EBUSY, "the policies are being replaced; again in a moment");
    for (int t = 0; engine && w->rc && t < OSM_XDS_TYPE_COUNT; t++) {
        const struct osm_why_question question = {w->proxy, (enum osm_xds_type)t, w->resource,
                                                  w->element, true};
        if (w->type >= 0 && w->type != t)
            continue;
        w->found = question.type;
        w->rc = osm_engine_why(engine, &question, &w->items, &w->err);
        if (w->rc && w->rc != OSM_ENOENT)
            return;
    }
}

/* Who has given it its value is asked of an engine that is thrown away. */
static void ask_field(struct why *w)
{
    const struct osm_snapshot_proxy *proxy = osm_snapshot_find(w->served, w->proxy);
    struct osm_resource *resource = osm_class_find(proxy->cls, w->found, w->resource);
    if (resource) {
        osm_whatif_field(w->app, w->request, w->found, resource, w->field, w->items);
        return;
    }
    (void)osm_fail(&w->err, OSM_ENOENT, "%s \"%.200s\": is not served",
                   osm_xds_type_short(w->found), w->resource);
    osm_control_fail(w->request, &w->err);
}

static void why_answered(void *ud)
{
    struct why *w = ud;
    if (w->rc)
        osm_control_fail(w->request, &w->err);
    else if (w->field)
        ask_field(w);
    else
        osm_control_reply(
            w->request, json_pack("{s:s, s:s, s:I, s:s, s:O}", "type", osm_xds_type_short(w->found),
                                  "resource", w->resource, "generation", (json_int_t)w->generation,
                                  "digest", w->digest, "items", w->items));
    why_free(w);
}

static int type_of(const char *text)
{
    for (int t = 0; text && t < OSM_XDS_TYPE_COUNT; t++)
        if (!strcasecmp(text, osm_xds_type_short((enum osm_xds_type)t)))
            return t;
    return -1;
}

/* The first type that has a resource of this name, with such a field (@p path NULL: any); -1: none
 * has. */
static int type_with(const struct osm_snapshot_proxy *proxy, const char *resource, int type,
                     const char *path)
{
    for (int t = 0; proxy && t < OSM_XDS_TYPE_COUNT; t++)
        if ((type < 0 || type == t) && osm_class_find(proxy->cls, (enum osm_xds_type)t, resource) &&
            (!path || osm_field_is_path((enum osm_xds_type)t, path)))
            return t;
    return -1;
}

/* @p proxy: NULL: of whichever. */
static int start_why(struct osm_app *app, struct osm_control_request *request,
                     const struct osm_snapshot_proxy *proxy, const json_t *args,
                     struct osm_err *err)
{
    const char *element = json_string_value(json_object_get(args, "element")),
               *resource = osm_json_text(args, "resource");
    int type = type_of(json_string_value(json_object_get(args, "type")));
    int with_field = element ? type_with(proxy, resource, type, element) : -1;
    const char *field = with_field >= 0 ? element : NULL;
    int with_name = field ? with_field : type_with(proxy, resource, type, NULL);
    struct why *w = osm_alloc(sizeof *w);
    if (!w)
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    element = field ? NULL : element;
    *w = (struct why){.app = app,
                      .request = request,
                      .served = app->snapshot ? osm_snapshot_ref(app->snapshot) : NULL,
                      .proxy = proxy ? osm_strdup(proxy->key) : NULL,
                      .resource = osm_strdup(resource),
                      .element = element ? osm_strdup(element) : NULL,
                      .field = field ? osm_strdup(field) : NULL,
                      .type = with_name >= 0 ? with_name : type};
    const struct osm_policy_files *files = osm_reload_files(app->reload, &w->generation);
    w->digest = osm_strdup(files ? files->digest : "");
    int rc = (w->proxy || !proxy) && w->resource && (w->element || !element) &&
                     (w->field || !field) && w->digest
                 ? osm_reload_ask(app->reload, ask_why, why_answered, w)
                 : OSM_ENOMEM;
    if (!rc)
        return 0;
    why_free(w);
    return osm_fail(err, rc, "the policies cannot be asked now: %s", osm_code_text(rc));
}

static void why(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm_app *app = ud;
    struct osm_err err = {0};
    if (!is_ready(app, request))
        return;
    const struct osm_snapshot_proxy *proxy =
        osm_app_find_proxy(app, json_string_value(json_object_get(args, "pod")), &err);
    if (!proxy || start_why(app, request, proxy, args, &err))
        osm_control_fail(request, &err);
}

static void xds_why(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm_app *app = ud;
    struct osm_err err = {0};
    if (is_ready(app, request) && start_why(app, request, NULL, args, &err))
        osm_control_fail(request, &err);
}

static void add_item(struct osm_buf *out, const json_t *item)
{
    size_t i;
    const json_t *object, *step;
    const char *element = osm_json_text(item, "element"),
               *extended = osm_json_text(item, "extended");
    (void)osm_buf_addf(out, "  %s%s%s\n    said at %s%s%s%s\n", osm_json_text(item, "item"),
                       *element ? "  makes " : "", element, osm_json_text(item, "place"),
                       *extended ? ", changed by " : "", extended,
                       json_is_true(json_object_get(item, "authorises")) ? "; authorises" : "");
    json_array_foreach (json_object_get(item, "because"), i, object) {
        const char *origin = osm_json_text(object, "origin");
        const char *version = osm_json_text(object, "resource_version");
        size_t k;
        (void)osm_buf_addf(out, "    <- %s%s%s%s%s", osm_json_text(object, "object"),
                           *origin ? "  " : "", origin, *version ? "  rv " : "", version);
        json_array_foreach (json_object_get(object, "through"), k, step)
            if (k) /* the first is the emitter, which is the item's own */
                (void)osm_buf_addf(out, "%s%s", k > 1 ? " > " : "  by ", json_string_value(step));
        (void)osm_buf_add_char(out, '\n');
    }
    if (json_is_true(json_object_get(item, "more")))
        (void)osm_buf_add_str(out, "    <- and more objects\n");
}

static void add_value(struct osm_buf *out, const json_t *value)
{
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    (void)osm_buf_add_str(out, text ? text : "absent");
    osm_free(text);
}

/* Who has given one field its value. */
static void add_field(struct osm_buf *out, const json_t *field)
{
    size_t i;
    const json_t *step;
    (void)osm_buf_addf(out, "  %s = ", osm_json_text(field, "path"));
    add_value(out, json_object_get(field, "value"));
    if (json_is_true(json_object_get(field, "host")))
        (void)osm_buf_add_str(out, "\n    filled in by the daemon itself");
    json_array_foreach (json_object_get(field, "steps"), i, step) {
        const char *by = osm_json_text(step, "by");
        (void)osm_buf_addf(out, "\n    %s%s at %s: ", *by ? "changed by " : "said", by,
                           osm_json_text(step, "place"));
        add_value(out, json_object_get(step, "after"));
    }
    (void)osm_buf_add_char(out, '\n');
}

static int why_text(struct osm_buf *out, const json_t *data)
{
    struct osm_buf text = OSM_BUF_INIT(WHY_MAX_BYTES);
    size_t i;
    const json_t *item;
    (void)osm_buf_addf(&text, "%s %s  gen %d (%.6s)\n", osm_json_text(data, "type"),
                       osm_json_text(data, "resource"),
                       (int)json_integer_value(json_object_get(data, "generation")),
                       osm_json_text(data, "digest"));
    if (json_object_get(data, "field"))
        add_field(&text, json_object_get(data, "field"));
    json_array_foreach (json_object_get(data, "items"), i, item)
        add_item(&text, item);
    if (text.failed)
        out->failed = text.failed;
    else
        (void)osm_render_text(out, text.data);
    osm_buf_clear(&text);
    return out->failed;
}

static const struct osm_control_arg reload_args[] = {
    {.name = "force",
     .type = OSM_ARG_FLAG,
     .help = "also what was rejected, quarantined or would be held"},
    {.name = NULL},
};
static const struct osm_control_arg apply_args[] = {
    {.name = "dirs",
     .type = OSM_ARG_TEXTS,
     .required = true,
     .help = "absolute paths; each lies over those before it"},
    {.name = "canary",
     .type = OSM_ARG_TEXT,
     .help = "serves these proxies first: 5% of them, or label=KEY=VALUE of their pods"},
    {.name = "soak_ms",
     .type = OSM_ARG_INTEGER,
     .min = 1,
     .max = SOAK_MAX_MS,
     .help = "how long, before they serve all; 30000 by default"},
    {.name = "force",
     .type = OSM_ARG_FLAG,
     .help = "also what was rejected, quarantined or would be held"},
    {.name = NULL},
};
static const struct osm_control_arg activate_args[] = {
    {.name = "digest",
     .type = OSM_ARG_TEXT,
     .help = "its beginning, to be sure which; whichever is held by default"},
    {.name = NULL},
};
static const struct osm_control_arg rollback_args[] = {
    {.name = "reason", .type = OSM_ARG_LINE, .help = "what the quarantine will say"},
    {.name = NULL},
};
static const struct osm_control_arg why_args[] = {
    {.name = "pod",
     .type = OSM_ARG_TEXT,
     .required = true,
     .complete = OSM_COMPLETE_POD,
     .help = "NAMESPACE/POD"},
    {.name = "resource",
     .type = OSM_ARG_TEXT,
     .required = true,
     .complete = OSM_COMPLETE_RESOURCE,
     .help = "its name; `osm proxy get config` lists them"},
    {.name = "element",
     .type = OSM_ARG_TEXT,
     .help = "only virtual hosts and filter chains whose name holds this; or a field, such as "
             "connect_timeout or virtual_hosts[0].routes[0]"},
    {.name = "type",
     .type = OSM_ARG_TEXT,
     .choices = "CDS EDS LDS RDS SDS",
     .help = "the first that has it by default"},
    {.name = NULL},
};
static const struct osm_control_arg xds_why_args[] = {
    {.name = "resource", .type = OSM_ARG_TEXT, .required = true, .help = "its name"},
    {.name = "element",
     .type = OSM_ARG_TEXT,
     .help = "only virtual hosts and filter chains whose name holds this"},
    {.name = "type",
     .type = OSM_ARG_TEXT,
     .choices = "CDS EDS LDS RDS SDS",
     .help = "the first that has it by default"},
    {.name = NULL},
};
const struct osm_control_command osm_policy_commands[] = {
    {.name = "policy.list",
     .handler = list,
     .help = "the generations of the policies, what is held and why"},
    {.name = "policy.log",
     .handler = history,
     .help = "what has become of each generation, the oldest first"},
    {.name = "xds.why",
     .handler = xds_why,
     .text = why_text,
     .args = xds_why_args,
     .help = "who said a resource that any proxy is served: generation, module and line, objects"},
    {.name = "policy.why",
     .handler = why,
     .text = why_text,
     .args = why_args,
     .help = "who said what a pod's proxy is served, and from which objects it follows"},
    {.name = "policy.reload",
     .handler = reload,
     .role = OSM_ROLE_OPERATE,
     .deadline_ms = OSM_CONTROL_PATIENT,
     .args = reload_args,
     .help = "takes over what is in the directories now"},
    {.name = "policy.apply",
     .handler = apply,
     .role = OSM_ROLE_OPERATE,
     .deadline_ms = OSM_CONTROL_PATIENT,
     .args = apply_args,
     .help = "takes over the policies of other directories, with a canary first if asked for"},
    {.name = "policy.activate",
     .handler = activate,
     .role = OSM_ROLE_OPERATE,
     .args = activate_args,
     .help = "lets policies that are held take over"},
    {.name = "policy.rollback",
     .handler = rollback,
     .role = OSM_ROLE_OPERATE,
     .args = rollback_args,
     .help = "goes back to the generation before, and quarantines this one"},
    {.name = NULL},
};
