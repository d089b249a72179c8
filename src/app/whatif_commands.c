#include "app/whatif_commands.h"

#include "base/buf.h"
#include "whatif/preview.h"
#include "whatif/scratch.h"

#include <string.h>

enum { ANSWER_MAX_BYTES = 64 << 20 };

/* --- engines to throw away --- */

static const char *roots_pem(void *ud)
{
    const struct osm_app *app = ud;
    return osm_ca_roots_pem(app->ca);
}

int osm_whatif_start(struct osm_app *app, struct osm_err *err)
{
    const struct osm_app_config *config = &app->config;
    const struct osm_scratch_config scratch = {
        .loop = app->loop,
        .engine = {.mesh_name = config->mesh_name,
                   .osm_namespace = config->osm_namespace,
                   .trust_domain = config->trust_domain,
                   .memory_max_bytes = config->policy_memory_bytes},
        .roots_pem = roots_pem,
        .ud = app,
    };
    app->scratch = osm_scratch_new(&scratch);
    return app->scratch ? 0 : osm_fail(err, OSM_ENOMEM, "out of memory");
}

void osm_whatif_stop(struct osm_app *app)
{
    osm_scratch_free(osm_take_ptr(&app->scratch));
}

/* --- diff --- */

struct diff {
    struct osm_app *app;
    struct osm_control_request *request;
    json_t *args; /* shared with the request; references are atomic */
    struct osm_changes *objects;
    struct osm_snapshot *served;
    struct osm_policy_files *in_force;
    bool behind;
    struct osm_buf answer; /* JSON text, made on the engine's thread */
};

static bool diff_ready(void *ud)
{
    const struct diff *d = ud;
    return osm_app_settled(d->app);
}

static bool diff_wanted(void *ud)
{
    const struct diff *d = ud;
    return osm_control_alive(d->request);
}

static int diff_begin(void *ud, struct osm_policy_files **files, struct osm_err *err)
{
    struct diff *d = ud;
    struct osm_app *app = d->app;
    const json_t *policies = json_object_get(d->args, "policies");
    struct osm_policy_files *in_force = app->reload ? osm_reload_files(app->reload) : NULL;
    if (!app->snapshot || !in_force)
        return osm_fail(err, OSM_EBUSY,
                        "nothing is served yet that could be compared; `osm status` says why");
    d->objects = osm_store_all(app->store);
    d->served = osm_snapshot_ref(app->snapshot);
    d->in_force = osm_policy_files_ref(in_force);
    d->behind = !osm_app_settled(app);
    if (!d->objects)
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    if (policies)
        return osm_policy_files_from_json(files, policies, err);
    *files = osm_policy_files_ref(in_force);
    return 0;
}

static int append(const char *text, size_t len, void *buf)
{
    return osm_buf_add(buf, text, len);
}

static json_t *layers_of(const struct osm_policy_files *files)
{
    json_t *out = json_array();
    for (size_t i = 0; out && files->dirs[i]; i++)
        (void)json_array_append_new(out, json_string(files->dirs[i]));
    return out;
}

static int diff_work(void *ud, struct osm_engine *engine, const atomic_bool *canceled,
                     struct osm_err *err)
{
    struct diff *d = ud;
    const struct osm_app_config *config = &d->app->config; /* does not change */
    const struct osm_preview preview = {.objects = d->objects,
                                        .served = d->served,
                                        .manifests = json_object_get(d->args, "manifests"),
                                        .deletes = json_object_get(d->args, "deletes"),
                                        .mesh_name = config->mesh_name,
                                        .osm_namespace = config->osm_namespace,
                                        .whole = !strncmp(config->source, "dir:", 4),
                                        .guard_percent = config->policy_guard_percent,
                                        .canceled = canceled};
    json_t *out = NULL;
    int rc = osm_preview_run(&preview, engine, &out, err);
    if (rc)
        return rc;
    json_t *more = json_pack("{s:I, s:b, s:o}", "snapshot", (json_int_t)d->served->number, "behind",
                             d->behind, "layers", layers_of(d->in_force));
    if (!more || json_object_update(out, more))
        rc = osm_fail(err, OSM_ENOMEM, "out of memory");
    json_decref(more);
    if (!rc && json_dump_callback(out, append, &d->answer, JSON_COMPACT))
        rc = osm_fail(err, OSM_ELIMIT, "the difference has more than %d bytes as text",
                      ANSWER_MAX_BYTES);
    json_decref(out);
    return rc;
}

static void diff_free(struct diff *d)
{
    json_decref(d->args);
    osm_changes_free(d->objects);
    osm_snapshot_unref(d->served);
    osm_policy_files_unref(d->in_force);
    osm_buf_clear(&d->answer);
    osm_free(d);
}

static void diff_end(void *ud, int rc, const struct osm_err *err)
{
    struct diff *d = ud;
    size_t len = d->answer.len;
    if (rc)
        osm_control_fail(d->request, err);
    else
        osm_control_reply_text(d->request, osm_buf_take(&d->answer), len);
    diff_free(d);
}

void osm_diff_command(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm_app *app = ud;
    struct osm_err err = {0};
    struct diff *d = app->scratch ? osm_alloc(sizeof *d) : NULL;
    const struct osm_scratch_task task = {diff_ready, diff_begin,  diff_work,
                                          diff_end,   diff_wanted, d};
    int rc = d ? 0 : osm_fail(&err, OSM_EBUSY, "the daemon is starting");
    if (!rc) {
        *d = (struct diff){.app = app,
                           .request = request,
                           .args = json_incref((json_t *)(uintptr_t)args),
                           .answer = OSM_BUF_INIT(ANSWER_MAX_BYTES)};
        rc = osm_scratch_ask(app->scratch, &task, &err);
        if (rc)
            diff_free(d);
    }
    if (rc)
        osm_control_fail(request, &err);
}
