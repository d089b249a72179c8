#include "app/eval_commands.h"

#include "app/eval_diff.h"

#include "base/buf.h"
#include "base/json.h"
#include "debug/render.h"

enum { ROWS_MAX_BYTES = 4 << 20 };

/* --- the copies --- */

static struct osm_policy_files *files_in_force(void *ud, uint64_t *generation)
{
    const struct osm_app *app = ud;
    return app->reload && app->synced ? osm_reload_files(app->reload, generation) : NULL;
}

static const char *roots_pem(void *ud)
{
    const struct osm_app *app = ud;
    return osm_ca_roots_pem(app->ca);
}

static struct osm_snapshot *served(void *ud)
{
    const struct osm_app *app = ud;
    return app->snapshot;
}

struct osm_evaluators *osm_app_evaluators_new(struct osm_app *app)
{
    const struct osm_evaluators_config config = {
        .loop = app->loop,
        .store = app->store,
        .engine = {.mesh_name = app->config.mesh_name,
                   .osm_namespace = app->config.osm_namespace,
                   .trust_domain = app->config.trust_domain,
                   .memory_max_bytes = app->config.policy_memory_bytes},
        .files = files_in_force,
        .roots_pem = roots_pem,
        .served = served,
        .diff = osm_eval_diff,
        .ud = app,
    };
    return osm_evaluators_new(&config);
}

static void end_evaluator(void *ud)
{
    osm_evaluator_end(ud);
}

/* That of the request's session; NULL: @p err. */
static struct osm_evaluator *evaluator_of(const struct osm_app *app,
                                          struct osm_control_request *request, struct osm_err *err)
{
    struct osm_evaluator *ev = osm_control_kept(request);
    if (ev || osm_evaluator_new(&ev, app->evaluators, err))
        return ev;
    osm_control_keep(request, ev, end_evaluator);
    return ev;
}

/* --- eval, mesh, trace --- */

static void evaluated(void *ud, json_t *answer, const struct osm_err *err)
{
    if (err)
        osm_control_fail(ud, err);
    else
        osm_control_reply(ud, answer);
}

static void ask(struct osm_app *app, struct osm_control_request *request,
                const struct osm_evaluation *what)
{
    struct osm_err err = {0};
    struct osm_evaluator *ev = evaluator_of(app, request, &err);
    if (!ev || osm_evaluator_ask(ev, what, evaluated, request, &err))
        osm_control_fail(request, &err);
}

static void eval(void *ud, struct osm_control_request *request, const json_t *args)
{
    const struct osm_evaluation what = {.type = OSM_EVALUATE_LINE,
                                        .text = osm_json_text(args, "code")};
    ask(ud, request, &what);
}

static void mesh(void *ud, struct osm_control_request *request, const json_t *args)
{
    const struct osm_evaluation what = {.type = OSM_EVALUATE_ASK,
                                        .text = osm_json_text(args, "name"),
                                        .keys = json_object_get(args, "keys")};
    ask(ud, request, &what);
}

static void trace(void *ud, struct osm_control_request *request, const json_t *args)
{
    const struct osm_evaluation what = {.type = OSM_EVALUATE_TRACE,
                                        .text = osm_json_text(args, "name"),
                                        .keys = json_object_get(args, "keys")};
    ask(ud, request, &what);
}

static void add_note(struct osm_buf *out, const json_t *data)
{
    if (!*osm_json_text(data, "note"))
        return;
    (void)osm_buf_add_str(out, "-- ");
    (void)osm_render_text(out, osm_json_text(data, "note"));
    (void)osm_buf_add_char(out, '\n');
}

static int answer_text(struct osm_buf *out, const json_t *data)
{
    const json_t *diff = json_object_get(data, "diff");
    add_note(out, data);
    (void)osm_render_text(out, osm_json_text(data, "text"));
    return diff ? osm_eval_diff_text(out, diff) : out->failed;
}

static void add_run(struct osm_buf *rows, const json_t *run, int depth)
{
    size_t i;
    const json_t *read;
    json_int_t times = json_integer_value(json_object_get(run, "times"));
    const json_t *instructions = json_object_get(run, "instructions");
    for (int k = 0; k < depth; k++)
        (void)osm_buf_add_str(rows, "  ");
    (void)osm_render_text(rows, osm_json_text(run, "name"));
    (void)osm_buf_addf(rows, "\t%s", osm_json_text(run, "how"));
    if (times)
        (void)osm_buf_addf(rows, " x%d", (int)times);
    (void)osm_buf_addf(rows, "\t%" JSON_INTEGER_FORMAT "\t%" JSON_INTEGER_FORMAT "\t",
                       json_integer_value(json_object_get(run, "us")),
                       json_integer_value(json_object_get(run, "own_us")));
    if (instructions)
        (void)osm_buf_addf(rows, "%" JSON_INTEGER_FORMAT, json_integer_value(instructions));
    (void)osm_buf_add_char(rows, '\n');
    json_array_foreach (json_object_get(run, "reads"), i, read)
        add_run(rows, read, depth + 1);
}

static int trace_text(struct osm_buf *out, const json_t *data)
{
    struct osm_buf rows = OSM_BUF_INIT(ROWS_MAX_BYTES);
    json_int_t more = json_integer_value(json_object_get(data, "more"));
    add_note(out, data);
    (void)osm_buf_add_str(&rows, "EVALUATED\tHOW\tUS\tOWN US\tINSTRUCTIONS\n");
    add_run(&rows, json_object_get(data, "run"), 0);
    if (rows.failed)
        out->failed = rows.failed;
    else
        (void)osm_render_table(out, rows.data);
    osm_buf_clear(&rows);
    if (more)
        (void)osm_buf_addf(out, "and %" JSON_INTEGER_FORMAT " more\n", more);
    if (*osm_json_text(data, "error"))
        (void)osm_buf_add_str(out, "error: ");
    (void)osm_render_text(out, osm_json_text(data, "error"));
    return osm_render_text(out, *osm_json_text(data, "error")
                                    ? "\n"
                                    : osm_json_text(json_object_get(data, "answer"), "text"));
}

/* --- watch --- */

struct watching {
    struct osm_control_request *request;
    struct osm_evaluator_watch *watch;
};

static void tell(void *ud, const json_t *answer, const struct osm_err *err)
{
    const struct watching *w = ud;
    json_t *news = err ? json_pack("{s:o}", "text", json_sprintf("error: %s\n", err->msg))
                       : json_deep_copy(answer);
    (void)osm_control_tell(w->request, news);
}

static void stop_watching(void *ud)
{
    struct watching *w = ud;
    osm_evaluator_watch_stop(w->watch);
    osm_control_reply(w->request, NULL);
    osm_free(w);
}

static void watch(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm_err err = {0};
    const struct osm_evaluation what = {.type = OSM_EVALUATE_LINE,
                                        .text = osm_json_text(args, "code")};
    struct osm_evaluator *ev = evaluator_of(ud, request, &err);
    struct watching *w = ev ? osm_alloc(sizeof *w) : NULL;
    if (ev && !w)
        (void)osm_fail(&err, OSM_ENOMEM, "out of memory");
    if (w)
        w->request = request;
    if (!w || osm_evaluator_watch(&w->watch, ev, &what, tell, w, &err)) {
        osm_free(w);
        osm_control_fail(request, &err);
        return;
    }
    osm_control_on_cancel(request, stop_watching, w);
}

static const struct osm_control_arg eval_args[] = {
    {.name = "code",
     .type = OSM_ARG_LINE,
     .required = true,
     .complete = OSM_COMPLETE_LUA,
     .help = "Lua: an expression or statements; `mesh` as in policies; pp(value) prints in full; "
             "override(rule, function) tries another rule, diff() says what that would change"},
    {.name = NULL},
};
static const struct osm_control_arg ask_args[] = {
    {.name = "name",
     .type = OSM_ARG_TEXT,
     .required = true,
     .complete = OSM_COMPLETE_MESH,
     .help = "of a kind, an index, a fact or a rule, such as backends"},
    {.name = "keys",
     .type = OSM_ARG_KEYS,
     .complete = OSM_COMPLETE_KEYS,
     .help = "what it is asked with, such as shop cart 80"},
    {.name = NULL},
};
static const struct osm_control_arg watch_args[] = {
    {.name = "code",
     .type = OSM_ARG_LINE,
     .required = true,
     .complete = OSM_COMPLETE_LUA,
     .help = "a Lua expression, such as mesh.backends(\"shop\", \"cart\")"},
    {.name = NULL},
};
const struct osm_control_command osm_eval_commands[] = {
    {.name = "eval",
     .handler = eval,
     .continues = true,
     .text = answer_text,
     .args = eval_args,
     .help = "runs Lua in a copy of policies and objects; what it defines is this session's alone"},
    {.name = "mesh",
     .handler = mesh,
     .text = answer_text,
     .args = ask_args,
     .help = "asks what a policy may ask, as mesh.NAME(KEYS...)"},
    {.name = "trace",
     .handler = trace,
     .text = trace_text,
     .args = ask_args,
     .help = "one evaluation: what it reads, what the memo knew, the time"},
    {.name = "watch",
     .handler = watch,
     .deadline_ms = OSM_CONTROL_PATIENT,
     .text = answer_text,
     .args = watch_args,
     .help = "says the answer whenever it changes, until the next line"},
    {.name = NULL},
};
