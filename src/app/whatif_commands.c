#include "app/whatif_commands.h"

#include "base/buf.h"
#include "base/log.h"
#include "debug/registry.h"
#include "whatif/field_why.h"
#include "whatif/preview.h"
#include "whatif/scratch.h"
#include "whatif/why_not.h"

#include <string.h>

enum { ANSWER_MAX_BYTES = 64 << 20 };

/* --- engines beside the live one --- */

static const char *roots_pem(void *ud)
{
    const struct osm_app *app = ud;
    return osm_ca_roots_pem(app->ca);
}

static bool make_ready(void *ud, struct osm_scratch_task *task);

int osm_whatif_start(struct osm_app *app, struct osm_err *err)
{
    const struct osm_app_config *config = &app->config;
    const struct osm_scratch_config scratch = {
        .loop = app->loop,
        .engine = {.mesh_name = config->mesh_name,
                   .osm_namespace = config->osm_namespace,
                   .trust_domain = config->trust_domain,
                   .memory_max_bytes = config->policy_memory_bytes,
                   .notes_steps = true,
                   .thorough = true},
        .roots_pem = roots_pem,
        .make_ready = config->preview_memory_bytes ? make_ready : NULL,
        .ud = app,
        .keep_bytes = config->preview_memory_bytes,
    };
    app->scratch = osm_scratch_new(&scratch);
    return app->scratch ? 0 : osm_fail(err, OSM_ENOMEM, "out of memory");
}

void osm_whatif_stop(struct osm_app *app)
{
    osm_scratch_free(osm_take_ptr(&app->scratch));
}

/* --- a question, from the socket to the engine's thread and back --- */

struct asked;
/* On the engine's thread. *out: the answer. */
typedef int work_fn(struct asked *asked, struct osm_engine *engine, const atomic_bool *canceled,
                    void **kept, json_t **out, struct osm_err *err);

struct asked {
    struct osm_app *app;
    struct osm_control_request *request;
    work_fn *work;
    void (*drop)(void *kept);
    json_t *args; /* shared with the request, as all of it is: references are atomic */
    struct osm_changes *objects;
    struct osm_outside *outside;
    struct osm_snapshot *served;
    bool others; /* it is about other policies than those in force */
    bool behind;
    json_t *layers;        /* the directories of the policies in force */
    bool bare;             /* the rules are not laid over those that are shipped */
    struct osm_buf answer; /* JSON text, made on the engine's thread */
    /* of a field */
    enum osm_xds_type type;
    struct osm_resource *resource;
};

static bool ready(void *ud)
{
    const struct asked *a = ud;
    return osm_app_settled(a->app);
}

static bool wanted(void *ud)
{
    const struct asked *a = ud;
    return osm_control_alive(a->request);
}

/* Somebody gave the directory of his own rules alone, perhaps. */
static bool has_no_file_of(const struct osm_policy_files *files,
                           const struct osm_policy_files *in_force, size_t layer)
{
    size_t below = 0;
    for (size_t i = 0; i < in_force->len; i++) {
        const struct osm_policy_file *f = &in_force->list[i];
        bool lies_there = f->layer == layer || (f->below && f->below_layer == layer);
        below += lies_there;
        if (lies_there && osm_policy_files_find(files, f->path))
            return false;
    }
    return below > 0;
}

static json_t *layers_of(const struct osm_policy_files *files)
{
    json_t *out = json_array();
    for (size_t i = 0; out && files->dirs[i]; i++)
        (void)json_array_append_new(out, json_string(files->dirs[i]));
    return out;
}

static void forget_begun(struct asked *a)
{
    osm_changes_free(osm_take_ptr(&a->objects));
    osm_outside_free(osm_take_ptr(&a->outside));
    osm_snapshot_unref(osm_take_ptr(&a->served));
    json_decref(osm_take_ptr(&a->layers));
    osm_buf_reset(&a->answer);
}

static int begin(void *ud, struct osm_policy_files **files, struct osm_err *err)
{
    struct asked *a = ud;
    forget_begun(a);
    struct osm_app *app = a->app;
    const json_t *policies = json_object_get(a->args, "policies");
    uint64_t generation;
    struct osm_policy_files *in_force =
        app->reload ? osm_reload_files(app->reload, &generation) : NULL;
    if (!app->snapshot || !in_force)
        return osm_fail(err, OSM_EBUSY, "nothing is served yet; `osm status` says why");
    a->objects = osm_store_all(app->store);
    a->outside = osm_source_outside(app->source);
    a->served = osm_snapshot_ref(app->snapshot);
    a->layers = layers_of(in_force);
    a->behind = !osm_app_settled(app);
    if (!a->objects || !a->outside || !a->layers)
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    if (!policies) {
        *files = osm_policy_files_ref(in_force);
        return 0;
    }
    int rc = osm_policy_files_from_json(files, policies, err);
    if (rc)
        osm_err_prepend(err, "policies: ");
    a->bare = !rc && has_no_file_of(*files, in_force, 0);
    a->others = !rc && strcmp((*files)->digest, in_force->digest) != 0;
    return rc;
}

/* What the serving engine would have found is among its errors. */
static bool proven(void *ud, const struct osm_policy_files *files)
{
    const struct asked *a = ud;
    (void)files;
    return !a->others && json_array_size(a->served->errors) == 0;
}

static int append(const char *text, size_t len, void *buf)
{
    return osm_buf_add(buf, text, len);
}

static int work(void *ud, struct osm_engine *engine, const atomic_bool *canceled, void **kept,
                struct osm_err *err)
{
    struct asked *a = ud;
    json_t *out = NULL;
    int rc = a->work(a, engine, canceled, kept, &out, err);
    if (!rc && json_dump_callback(out, append, &a->answer, JSON_COMPACT))
        rc = osm_fail(err, OSM_ELIMIT, "the answer has more than %d bytes as text",
                      ANSWER_MAX_BYTES);
    json_decref(out);
    return rc;
}

static void asked_free(struct asked *a)
{
    forget_begun(a);
    json_decref(a->args);
    osm_resource_unref(a->resource);
    osm_buf_clear(&a->answer);
    osm_free(a);
}

static void end(void *ud, int rc, const struct osm_err *err)
{
    struct asked *a = ud;
    size_t len = a->answer.len;
    if (rc)
        osm_control_fail(a->request, err);
    else
        osm_control_reply_text(a->request, osm_buf_take(&a->answer), len);
    asked_free(a);
}

/* Takes @p asked, which holds what is its own. */
static void ask(struct osm_app *app, struct osm_control_request *request, const struct asked *asked)
{
    struct osm_err err = {0};
    struct asked *a = osm_alloc(sizeof *a);
    const struct osm_scratch_task task = {ready, begin, proven, work, asked->drop, end, wanted, a};
    if (!a || !asked->args || !app->scratch) {
        (void)(app->scratch ? osm_fail(&err, OSM_ENOMEM, "out of memory")
                            : osm_fail(&err, OSM_EBUSY, "the daemon is starting"));
        json_decref(asked->args);
        osm_resource_unref(asked->resource);
        osm_free(a);
    } else {
        *a = *asked;
        a->app = app;
        a->request = request;
        a->answer = (struct osm_buf)OSM_BUF_INIT(ANSWER_MAX_BYTES);
        if (osm_scratch_ask(app->scratch, &task, &err))
            asked_free(a);
    }
    if (err.code)
        osm_control_fail(request, &err);
}

/* --- diff --- */

static int diff_by(struct asked *a, struct osm_engine *engine, const atomic_bool *canceled,
                   void **kept, json_t **out, struct osm_err *err)
{
    const struct osm_app_config *config = &a->app->config; /* does not change */
    const struct osm_preview preview = {.objects = a->objects,
                                        .served = a->served,
                                        .manifests = json_object_get(a->args, "manifests"),
                                        .deletes = json_object_get(a->args, "deletes"),
                                        .mesh_name = config->mesh_name,
                                        .osm_namespace = config->osm_namespace,
                                        .outside = a->outside,
                                        .whole = !strncmp(config->source, "dir:", 4),
                                        .in_force = !a->others,
                                        .guard_percent = config->policy_guard_percent,
                                        .canceled = canceled,
                                        .kept = kept};
    int rc = osm_preview_run(&preview, engine, out, err);
    json_t *more = rc ? NULL
                      : json_pack("{s:I, s:b, s:b, s:O}", "snapshot", (json_int_t)a->served->number,
                                  "behind", a->behind, "bare", a->bare, "layers", a->layers);
    if (!rc && (!more || json_object_update(*out, more)))
        rc = osm_fail(err, OSM_ENOMEM, "out of memory");
    json_decref(more);
    return rc;
}

static int diff(struct asked *a, struct osm_engine *engine, const atomic_bool *canceled,
                void **kept, json_t **out, struct osm_err *err)
{
    if (a->drop)
        return diff_by(a, engine, canceled, kept, out, err);
    void *own = NULL;
    int rc = diff_by(a, engine, canceled, &own, out, err);
    if (own)
        osm_preview_drop(own);
    return rc;
}

static void diff_command(void *ud, struct osm_control_request *request, const json_t *args)
{
    bool fresh = json_is_true(json_object_get(args, "fresh"));
    const struct asked asked = {.work = diff,
                                .drop = fresh ? NULL : osm_preview_drop,
                                .args = json_incref((json_t *)(uintptr_t)args)};
    ask(ud, request, &asked);
}

/* --- ready before anybody asks --- */

static int prepare(void *ud, struct osm_engine *engine, const atomic_bool *canceled, void **kept,
                   struct osm_err *err)
{
    const struct asked *a = ud;
    const struct osm_preview preview = {
        .objects = a->objects, .in_force = true, .canceled = canceled, .kept = kept};
    return osm_preview_prepare(&preview, engine, err);
}

static void prepared(void *ud, int rc, const struct osm_err *err)
{
    if (rc)
        osm_log(OSM_LOG_POLICY, OSM_LOG_DEBUG, "no engine is ready for previews",
                OSM_S("error", err->msg));
    asked_free(ud);
}

static bool always(void *ud)
{
    (void)ud;
    return true;
}

/* It takes as much again as the live one. */
static bool make_ready(void *ud, struct osm_scratch_task *task)
{
    struct osm_app *app = ud;
    json_int_t bytes =
        app->snapshot ? json_integer_value(json_object_get(app->snapshot->policy, "bytes")) : 0;
    if (!bytes)
        return false;
    if ((size_t)bytes > app->config.preview_memory_bytes) {
        osm_log(OSM_LOG_POLICY, OSM_LOG_INFO,
                "no engine is kept ready for previews: --preview-memory is less than what the "
                "policies take",
                OSM_I("bytes", bytes));
        return false;
    }
    struct asked *a = osm_alloc(sizeof *a);
    if (!a)
        return false;
    a->app = app;
    *task = (struct osm_scratch_task){ready,    begin,  proven, prepare, osm_preview_drop,
                                      prepared, always, a};
    return true;
}

/* --- why: one field --- */

static int field_why(struct asked *a, struct osm_engine *engine, const atomic_bool *canceled,
                     void **kept, json_t **out, struct osm_err *err)
{
    const struct osm_field_question question = {a->type, a->resource,
                                                json_string_value(json_object_get(a->args, "path")),
                                                json_object_get(a->args, "items"), a->objects};
    json_t *field = NULL;
    (void)kept;
    (void)canceled; /* one emitter is asked: its own budget ends it */
    int rc = osm_field_why(&question, engine, &field, err);
    if (rc)
        return rc;
    *out = json_pack("{s:s, s:s, s:[O], s:o}", "type", osm_xds_type_short(a->type), "resource",
                     a->resource->name, "items", json_object_get(field, "item"), "field", field);
    return *out ? 0 : osm_fail(err, OSM_ENOMEM, "out of memory");
}

void osm_whatif_field(struct osm_app *app, struct osm_control_request *request,
                      enum osm_xds_type type, struct osm_resource *resource, const char *path,
                      json_t *items)
{
    const struct asked asked = {.work = field_why,
                                .args = json_pack("{s:s, s:O}", "path", path, "items", items),
                                .type = type,
                                .resource = osm_resource_ref(resource)};
    ask(app, request, &asked);
}

/* --- why not --- */

static int why_not(struct asked *a, struct osm_engine *engine, const atomic_bool *canceled,
                   void **kept, json_t **out, struct osm_err *err)
{
    const struct osm_why_not question = {
        .served = a->served,
        .objects = a->objects,
        .outside = a->outside,
        .trust_domain = a->app->config.trust_domain,
        .caller = json_string_value(json_object_get(a->args, "caller")),
        .service = json_string_value(json_object_get(a->args, "service")),
        .port = (unsigned)json_integer_value(json_object_get(a->args, "port")),
        .method = json_string_value(json_object_get(a->args, "method")),
        .path = json_string_value(json_object_get(a->args, "path")),
        .headers = json_object_get(a->args, "headers"),
    };
    (void)kept;
    (void)canceled; /* a few rules are asked: their own budgets end them */
    return osm_why_not(&question, engine, out, err);
}

static void why_not_command(void *ud, struct osm_control_request *request, const json_t *args)
{
    const struct asked asked = {.work = why_not, .args = json_incref((json_t *)(uintptr_t)args)};
    ask(ud, request, &asked);
}

static const struct osm_control_arg diff_args[] = {
    {.name = "policies",
     .type = OSM_ARG_DATA,
     .help = "other ones, {\"digest\", \"dirs\", \"files\"}; those in force by default"},
    {.name = "manifests",
     .type = OSM_ARG_DATA,
     .help = "[{\"name\", \"text\"}]: applied over the objects"},
    {.name = "deletes",
     .type = OSM_ARG_TEXTS,
     .help = "objects that would be gone: KIND/NAMESPACE/NAME"},
    {.name = "fresh",
     .type = OSM_ARG_FLAG,
     .help = "by an engine of its own, not by the one that is kept ready"},
    {.name = NULL},
};
static const struct osm_control_arg why_not_args[] = {
    {.name = "caller",
     .type = OSM_ARG_TEXT,
     .required = true,
     .complete = OSM_COMPLETE_POD,
     .help = "NAMESPACE/POD, or NAMESPACE/ACCOUNT"},
    {.name = "service",
     .type = OSM_ARG_TEXT,
     .required = true,
     .help = "NAME.NAMESPACE, or NAMESPACE/NAME"},
    {.name = "method", .type = OSM_ARG_TEXT, .help = "of the request; GET by default"},
    {.name = "path", .type = OSM_ARG_TEXT, .help = "of the request; / by default"},
    {.name = "port",
     .type = OSM_ARG_INTEGER,
     .min = 1,
     .max = 65535,
     .help = "of the Service; its only one, or 80, by default"},
    {.name = "headers", .type = OSM_ARG_DATA, .help = "of the request: {NAME: VALUE}"},
    {.name = NULL},
};
const struct osm_control_command osm_whatif_commands[] = {
    {.name = "diff",
     .handler = diff_command,
     .large = true,
     .deadline_ms = OSM_CONTROL_PATIENT,
     .args = diff_args,
     .help = "what would change under other policies, other objects, or both; nothing does"},
    {.name = "policy.why_not",
     .handler = why_not_command,
     .deadline_ms = OSM_CONTROL_PATIENT,
     .args = why_not_args,
     .help = "may one call another, and if not, which layer denies"},
    {.name = NULL},
};
