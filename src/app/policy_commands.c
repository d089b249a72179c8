#include "app/policy_commands.h"

#include "app/commands.h"

#include <string.h>

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

void osm_policy_reload_command(void *ud, struct osm_control_request *request, const json_t *args)
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
    if (soak_ms <= 0 || soak_ms > SOAK_MAX_MS)
        return osm_fail(err, OSM_EINVAL, "soak_ms: expected 1 to %d", SOAK_MAX_MS);
    int rc = osm_reload_canary_parse(out, text, err);
    out->soak_ms = (uint64_t)soak_ms;
    return rc;
}

void osm_policy_apply_command(void *ud, struct osm_control_request *request, const json_t *args)
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

void osm_policy_activate_command(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm_app *app = ud;
    struct osm_err err = {0};
    const char *digest = json_string_value(json_object_get(args, "digest"));
    if (is_ready(app, request))
        answer(app, request, osm_reload_activate(app->reload, digest, &err), &err);
}

void osm_policy_rollback_command(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm_app *app = ud;
    struct osm_err err = {0};
    const char *reason = json_string_value(json_object_get(args, "reason"));
    if (is_ready(app, request))
        answer(app, request,
               osm_reload_roll_back(app->reload, reason ? reason : "by command", &err), &err);
}

void osm_policy_list_command(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm_app *app = ud;
    struct osm_err err = {0};
    (void)args;
    if (is_ready(app, request))
        answer(app, request, 0, &err);
}

/* --- why --- */

struct why {
    struct osm_control_request *request;
    char *proxy, *resource, *element;
    int type; /* -1: whichever has it */
    enum osm_xds_type found;
    json_t *items;
    int rc;
    struct osm_err err;
};

static void why_free(struct why *w)
{
    osm_free(w->proxy);
    osm_free(w->resource);
    osm_free(w->element);
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

static void why_answered(void *ud)
{
    struct why *w = ud;
    if (w->rc)
        osm_control_fail(w->request, &w->err);
    else
        osm_control_reply(w->request,
                          json_pack("{s:s, s:s, s:O}", "type", osm_xds_type_short(w->found),
                                    "resource", w->resource, "items", w->items));
    why_free(w);
}

static int type_of(const char *text)
{
    for (int t = 0; text && t < OSM_XDS_TYPE_COUNT; t++)
        if (!strcasecmp(text, osm_xds_type_short((enum osm_xds_type)t)))
            return t;
    return text ? -2 : -1;
}

void osm_policy_why_command(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm_app *app = ud;
    struct osm_err err = {0};
    const char *element = json_string_value(json_object_get(args, "element"));
    const char *resource = json_string_value(json_object_get(args, "resource"));
    int type = type_of(json_string_value(json_object_get(args, "type")));
    if (!is_ready(app, request))
        return;
    const struct osm_snapshot_proxy *proxy =
        osm_app_find_proxy(app, json_string_value(json_object_get(args, "pod")), &err);
    if (proxy && !resource)
        (void)osm_fail(&err, OSM_EINVAL, "which resource? `osm proxy get config` lists them");
    else if (proxy && type == -2)
        (void)osm_fail(&err, OSM_EINVAL, "type: expected CDS, EDS, LDS, RDS or SDS");
    struct why *w = !proxy || err.code ? NULL : osm_alloc(sizeof *w);
    if (w) {
        *w = (struct why){.request = request,
                          .proxy = osm_strdup(proxy->key),
                          .resource = osm_strdup(resource),
                          .element = element ? osm_strdup(element) : NULL,
                          .type = type};
        int rc = w->proxy && w->resource && (w->element || !element)
                     ? osm_reload_ask(app->reload, ask_why, why_answered, w)
                     : OSM_ENOMEM;
        if (!rc)
            return;
        (void)osm_fail(&err, rc, "the policies cannot be asked now: %s", osm_code_text(rc));
        why_free(w);
    } else if (!err.code) {
        (void)osm_fail(&err, OSM_ENOMEM, "out of memory");
    }
    osm_control_fail(request, &err);
}
