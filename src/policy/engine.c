#include "policy/engine.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/nearest.h"

#include "policy/bundle/bundle.h"
#include "policy/bundle/extend.h"
#include "policy/bundle/purity.h"
#include "policy/emit/emit.h"
#include "policy/host_settings.h"
#include "policy/kinds/facts.h"
#include "policy/kinds/kinds.h"
#include "policy/memo/cells.h"
#include "policy/memo/key.h"
#include "policy/memo/value.h"
#include "policy/mesh_api.h"
#include "policy/profile.h"
#include "policy/report.h"
#include "policy/sandbox/sandbox.h"

#include <string.h>

enum {
    MEMORY_DEFAULT = 512 << 20,
    SCRATCH_MAX = 64 << 20,
    TAGS_MAX_BYTES = 4096,
    STATE_CHECK_EVERY = 64
};

/* --- life --- */

static int l_make_tables(lua_State *L)
{
    osm_mesh_api_make(L);
    osm_emit_make_out(L);
    osm_extend_make(L);
    return 0;
}

int osm__engine_load(struct osm_engine *e, struct osm_err *err)
{
    int rc = osm_facts_declare(e, err);
    if (!rc)
        rc = osm_bundle_load(e, err);
    if (!rc)
        rc = osm_lua_run(e, l_make_tables, NULL, err);
    if (!rc)
        rc = osm_purity_take(e, &e->pure, err);
    return rc;
}

static int make_header(void *ud, const struct osm_item *header, const char *const *tags,
                       size_t tags_len, struct osm_bytes **out, void **token);
static void drop_header(void *ud, void *token);

static int copy_config(struct osm_engine *e, const struct osm_engine_config *config)
{
    e->mesh_name = osm_strdup(config->mesh_name);
    e->osm_namespace = osm_strdup(config->osm_namespace);
    e->trust_domain = osm_strdup(config->trust_domain);
    e->roots_pem = osm_strdup(config->roots_pem ? config->roots_pem : "");
    e->memory_max = config->memory_max_bytes ? config->memory_max_bytes : MEMORY_DEFAULT;
    e->now_ms = config->now_ms ? config->now_ms : osm_now_ms;
    e->began_ns = osm_now_ns();
    e->keys_scratch = (struct osm_buf)OSM_BUF_INIT(SCRATCH_MAX);
    e->encoded = (struct osm_buf)OSM_BUF_INIT(OSM_MESSAGE_MAX);
    e->cells = (struct osm_map)OSM_MAP_INIT_BORROWS;
    e->run = 1;
    e->thorough = config->thorough;
    e->canceled = config->canceled;
    e->stopping = config->stopping;
    e->notes_steps = config->notes_steps;
    e->proven = config->proven;
    if (!e->mesh_name || !e->osm_namespace || !e->trust_domain || !e->roots_pem)
        return OSM_ENOMEM;
    e->settings = json_pack("{s:s, s:s, s:s}", "mesh_name", e->mesh_name, "osm_namespace",
                            e->osm_namespace, "trust_domain", e->trust_domain);
    struct osm_world_config world = {e->mesh_name, e->osm_namespace};
    e->world = osm_world_new(&world);
    e->compose = osm_compose_new(make_header, drop_header, e);
    return e->settings && e->world && e->compose ? 0 : OSM_ENOMEM;
}

int osm_engine_new(struct osm_engine **out, const struct osm_engine_config *config,
                   struct osm_err *err)
{
    struct osm_engine *e = osm_alloc(sizeof *e);
    if (!e)
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    int rc = copy_config(e, config);
    if (rc) {
        (void)osm_fail(err, rc, "out of memory");
        goto out;
    }
    if (config->files)
        e->files = osm_policy_files_ref(config->files);
    else
        rc = osm_policy_files_read(&e->files, config->policies_dirs, err);
    e->deadline_ms = e->now_ms() + OSM_WALL_MAX_MS;
    if (!rc)
        rc = osm_sandbox_open(e, err);
    if (!rc)
        rc = osm__engine_load(e, err);
    if (!rc)
        *out = osm_take_ptr(&e);
out:
    osm_engine_free(e);
    return rc;
}

void osm_engine_free(struct osm_engine *e)
{
    if (!e)
        return;
    /* Composition first: cells then have nothing to take out of it one by one. */
    osm_compose_free(e->compose);
    e->compose = NULL;
    osm_cells_clear(e);
    osm_profile_free(e);
    osm_host_settings_clear(e);
    osm_purity_free(e->pure);
    json_decref(e->impure);
    osm_bundle_free(e);
    osm_console_free(e->console);
    osm_kinds_again_clear(e);
    osm_sandbox_close(e);
    osm_world_free(e->world);
    osm_snapshot_unref(e->last);
    osm_buf_clear(&e->keys_scratch);
    osm_buf_clear(&e->encoded);
    osm_free(e->telling_things.list);
    json_decref(e->cell_rejects);
    json_decref(e->cell_errors);
    json_decref(e->settings);
    json_decref(e->warnings);
    osm_policy_files_unref(e->files);
    osm_free(e->mesh_name);
    osm_free(e->osm_namespace);
    osm_free(e->trust_domain);
    osm_free(e->roots_pem);
    osm_free(e);
}

int osm_engine_set_roots(struct osm_engine *e, const char *roots_pem)
{
    char *copy = osm_strdup(roots_pem);
    if (!copy)
        return OSM_ENOMEM;
    osm_free(e->roots_pem);
    e->roots_pem = copy;
    e->roots_version++;
    return 0;
}

/* --- failures that end the engine --- */

int osm__engine_lost(struct osm_engine *e, struct osm_err *err)
{
    switch (e->abort) {
    case OSM_ABORT_LUA_MEMORY:
        return osm_fail(
            err, OSM_ELUA,
            "the policies need more than %zu bytes of memory; --policy-memory gives more",
            e->memory_max);
    case OSM_ABORT_STUCK:
        return osm_fail(err, OSM_ELUA, "a run of the policies has taken longer than %d s",
                        (e->last ? OSM_WALL_MAX_MS : OSM_WALL_FIRST_MS) / 1000);
    case OSM_ABORT_NONE:
    case OSM_ABORT_CYCLE:
    case OSM_ABORT_DEPTH:
    case OSM_ABORT_NOMEM:
    default:
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    }
}

/* --- headers that depend on their content --- */

struct header_question {
    struct osm_cell *cell;
    const char *resource;
    struct osm_bytes *bytes;
};

static int l_encode_header(lua_State *L)
{
    struct header_question *q = lua_touserdata(L, 1);
    struct osm_err err = {0};
    osm_cells_push(L, q->cell);
    if (!lua_istable(L, -1))
        return luaL_error(L, "listener \"%s\": its header rule must answer a message, got %s",
                          q->resource, luaL_typename(L, -1));
    q->bytes = osm_emit_encode_header(L, lua_gettop(L), q->resource, &err);
    if (!q->bytes)
        return luaL_error(L, "listener \"%s\": %s", q->resource, err.msg);
    return 0;
}

/* Once for each header that composition has of it. False: no memory. */
static bool keep_header(struct osm_engine *e, struct osm_cell *cell)
{
    if (!osm_cells_push_to(e, &e->headers, cell))
        return false;
    osm_cells_hold(cell);
    return true;
}

/* For composition: header->header_rule asked as rule(mesh, resource, "tag,tag"). */
static int make_header(void *ud, const struct osm_item *header, const char *const *tags,
                       size_t tags_len, struct osm_bytes **out, void **token)
{
    struct osm_engine *e = ud;
    struct osm_buf joined = OSM_BUF_INIT(TAGS_MAX_BYTES);
    struct osm_err err = {0};
    const char *why = NULL;
    for (size_t i = 0; i < tags_len; i++)
        (void)osm_buf_addf(&joined, "%s%s", i ? "," : "", tags[i]);
    if (joined.failed) {
        int rc = joined.failed;
        osm_buf_clear(&joined);
        return rc;
    }
    struct osm_key key = {.n = 2};
    key.at[0] = (struct osm_scalar){.type = OSM_SCALAR_STR, .str = header->resource};
    key.at[1] = (struct osm_scalar){.type = OSM_SCALAR_STR, .str = joined.data ? joined.data : ""};
    struct osm_decl *rule = osm_map_get(&e->names, header->header_rule);
    struct header_question q = {.resource = header->resource};
    q.cell = osm_cells_get(e, rule, &key, &why);
    osm_buf_clear(&joined);
    if (!q.cell)
        return e->abort ? OSM_ENOMEM : OSM_ELIMIT;
    if (!keep_header(e, q.cell))
        return OSM_ENOMEM;
    *token = q.cell;
    osm_cells_bring(e, q.cell);
    if (e->abort)
        return OSM_ELUA;
    osm_free(q.cell->header_error);
    q.cell->header_error = NULL;
    if (!q.cell->failed && osm_lua_run(e, l_encode_header, &q, &err) && !e->abort)
        q.cell->header_error = osm_strdup(err.msg);
    osm_cells_note_telling(e, q.cell);
    if (q.bytes) {
        osm_bytes_unref(q.cell->header);
        q.cell->header = osm_bytes_ref(q.bytes);
    } else if (e->anew) {
        osm_bytes_unref(q.cell->header);
        q.cell->header = NULL;
    } else if (q.cell->header) { /* it grants nothing, so its last good form serves */
        q.bytes = osm_bytes_ref(q.cell->header);
    }
    *out = q.bytes;
    return e->abort ? OSM_ELUA : 0;
}

/* For composition: no class has this header any more, so its cell is not held for it. */
static void drop_header(void *ud, void *token)
{
    struct osm_engine *e = ud;
    if (!token)
        return;
    osm_cells_remove_from(&e->headers, token);
    osm_cells_release(e, token);
}

/* Composition memoises headers; they are asked for again when any of them, or what it was made
 * from, has changed. */
static void check_headers(struct osm_engine *e)
{
    bool changed = false;
    for (size_t i = 0; i < e->headers.len && !e->abort; i++) {
        struct osm_hash before = e->headers.list[i]->hash;
        osm_cells_bring(e, e->headers.list[i]);
        changed = changed || !osm_hash_equal(before, e->headers.list[i]->hash);
    }
    if (!changed || e->abort)
        return;
    osm_compose_forget_headers(e->compose);
}

/* --- a run --- */

struct intake {
    struct osm_engine *e;
    int rc;
};

static void on_visible(void *ud, struct osm_object *old, struct osm_object *now)
{
    struct intake *in = ud;
    if (!in->rc && !in->e->abort)
        in->rc = osm_kinds_change(in->e, old, now);
}

static int compose(struct osm_engine *e, struct osm_snapshot_proxy **proxies, size_t *n,
                   json_t *errors, struct osm_err *err)
{
    const struct osm_world_proxy *list = osm_world_proxies(e->world, n);
    struct osm_reader *readers = list ? osm_alloc_array(*n, sizeof *readers) : NULL;
    if (!readers)
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    for (size_t i = 0; i < *n; i++)
        readers[i] = (struct osm_reader){.key = list[i].key,
                                         .pod = list[i].pod,
                                         .ns = list[i].ns,
                                         .account = list[i].account,
                                         .services = list[i].services,
                                         .services_len = list[i].services_len};
    int rc = osm_compose_run(e->compose, readers, *n, proxies, errors, err);
    osm_free(readers);
    return rc;
}

/* Looking for state walks all modules; what evaluations were handed is looked at after each run. */
static bool looks_for_state(const struct osm_engine *e)
{
#ifdef OSM_DEBUG
    (void)e;
    return true;
#else
    return e->thorough || !e->looked || e->run % STATE_CHECK_EVERY == 0;
#endif
}

/* Rules that keep state between calls. What is found stays: nothing undoes it but another bundle.
 */
static int look_for_state(struct osm_engine *e, struct osm_err *err)
{
    json_t *changes = e->impure ? NULL : json_array();
    if (e->impure)
        return 0;
    int rc = changes ? osm_purity_compare(e, e->pure, changes, err)
                     : osm_fail(err, OSM_ENOMEM, "out of memory");
    if (!rc && json_array_size(changes))
        e->impure = json_incref(changes);
    json_decref(changes);
    return e->abort ? osm__engine_lost(e, err) : rc;
}

int osm_engine_check_pure(struct osm_engine *e, struct osm_err *err)
{
    if (e->abort)
        return osm__engine_lost(e, err);
    int rc = look_for_state(e, err);
    const json_t *first = json_array_get(e->impure, 0);
    if (rc || !first)
        return rc;
    return osm_fail(err, OSM_ELUA, "%s:%d: %s", json_string_value(json_object_get(first, "module")),
                    (int)json_integer_value(json_object_get(first, "line")),
                    json_string_value(json_object_get(first, "message")));
}

int osm_engine_take_in(struct osm_engine *e, const struct osm_changes *changes, struct osm_err *err)
{
    struct intake in = {.e = e, .rc = osm_kinds_take_again(e)};
    int rc = osm_world_apply(e->world, changes, on_visible, &in);
    if (rc || in.rc || e->abort)
        return rc == OSM_ENOMEM || in.rc == OSM_ENOMEM ? osm_fail(err, OSM_ENOMEM, "out of memory")
                                                       : osm__engine_lost(e, err);
    rc = osm_world_settle(e->world, osm_cells_touch_topic, e);
    if (rc)
        return osm_fail(err, rc, "out of memory");
    osm_cells_look_up_touched(e);
    return e->abort ? osm__engine_lost(e, err) : 0;
}

int osm_engine_take(struct osm_engine *e, const struct osm_changes *changes, struct osm_err *err)
{
    if (e->abort)
        return osm__engine_lost(e, err);
    e->run++;
    e->handed_things = NULL;
    e->deadline_ms = e->now_ms() + OSM_WALL_FIRST_MS;
    return osm_engine_take_in(e, changes, err);
}

static int evaluate(struct osm_engine *e, const struct osm_changes *changes, struct osm_err *err)
{
    int rc = osm_engine_take_in(e, changes, err);
    if (rc)
        return rc;
    rc = osm_emit_run_all(e);
    if (!rc && !e->abort)
        rc = osm_host_settings_bring(e);
    if (!rc && !e->abort)
        check_headers(e);
    if (e->abort)
        return osm__engine_lost(e, err);
    if (!rc)
        rc = osm_fill_all(e);
    return rc ? osm_fail(err, rc, "out of memory") : 0;
}

static void doubt_unfinished(struct osm_engine *e)
{
    for (size_t i = 0; i < e->unfinished.len; i++)
        osm_cells_doubt(e, e->unfinished.list[i]);
    e->unfinished.len = 0;
}

static int run(struct osm_engine *e, const struct osm_changes *changes, struct osm_snapshot **out,
               struct osm_err *err)
{
    uint64_t start_us = osm_now_us();
    *out = NULL;
    struct osm_snapshot_proxy *proxies = NULL;
    size_t proxies_len = 0;
    if (e->abort)
        return osm__engine_lost(e, err);
    e->run++;
    e->rules_run = e->cells_verified = 0;
    e->prints = 0;
    e->handed.len = 0;
    e->handed_things = NULL;
    uint64_t start_ms = e->now_ms();
    e->deadline_ms = start_ms + (uint64_t)(e->last ? OSM_WALL_MAX_MS : OSM_WALL_FIRST_MS);
    int rc = evaluate(e, changes, err);
    if (!rc && e->unfinished.len) { /* a pause of the machine heals at once */
        struct osm_changes none = {NULL, 0};
        doubt_unfinished(e);
        rc = evaluate(e, &none, err);
        doubt_unfinished(e); /* what still does not end is for the next run */
    }
    if (rc)
        return rc;
    if (e->last && !e->rules_run && !e->reports_changed && !e->lost.len && !e->handed_things &&
        !osm_compose_dirty(e->compose) && !osm_world_proxies_changed(e->world) &&
        !osm_world_reports_changed(e->world)) {
        e->run_us = osm_now_us() - start_us;
        return 0;
    }
    json_t *errors = json_array();
    rc = errors ? compose(e, &proxies, &proxies_len, errors, err)
                : osm_fail(err, OSM_ENOMEM, "out of memory");
    if (e->abort)
        rc = osm__engine_lost(e, err);
    if (rc) {
        json_decref(errors);
        return rc;
    }
    if (!e->proven)
        osm_cells_check_mutations(e);
    if (!e->last)
        osm_sandbox_has_run(e);
    if (e->rules_run && looks_for_state(e)) {
        e->looked = true;
        rc = look_for_state(e, err);
    }
    if (!rc && e->impure && json_array_extend(errors, e->impure))
        rc = osm_fail(err, OSM_ENOMEM, "out of memory");
    if (rc) {
        json_decref(errors);
        osm_report_free_proxies(proxies, proxies_len);
        return rc;
    }
    e->run_us = osm_now_us() - start_us;
    if (e->now_ms() - start_ms > OSM_WALL_SOFT_MS)
        osm_log(OSM_LOG_POLICY, OSM_LOG_WARN, "a run has taken long", OSM_U("run_us", e->run_us),
                OSM_U("rules_run", e->rules_run));
    return osm_report_snapshot(e, proxies, proxies_len, errors, out, err);
}

int osm_engine_run(struct osm_engine *e, const struct osm_changes *changes,
                   struct osm_snapshot **out, struct osm_err *err)
{
    osm_mem_grows(!e->last); /* the first run makes everything */
    int rc = run(e, changes, out, err);
    osm_mem_grows(false);
    e->anew = false;
    e->proven = false; /* what comes next is not what the other engine has evaluated */
    return rc;
}

void osm_engine_begin_anew(struct osm_engine *e)
{
    bool kept = false;
    e->anew = true;
    osm_emit_forget_kept(e);
    for (size_t i = 0; i < e->headers.len; i++)
        kept = kept || e->headers.list[i]->header_error || e->headers.list[i]->failed;
    if (kept)
        osm_compose_forget_headers(e->compose);
}

const struct osm_policy_files *osm_engine_files(const struct osm_engine *e)
{
    return e->files;
}

bool osm_engine_lost(const struct osm_engine *e)
{
    return e->abort != OSM_ABORT_NONE;
}

bool osm_engine_stained(const struct osm_engine *e)
{
    return e->impure || e->stained;
}

bool osm_engine_rest(struct osm_engine *e)
{
    return !e->abort && osm_sandbox_collect(e);
}

/* --- one question --- */

const char *osm_engine_key(const json_t *keys, struct osm_key *out)
{
    size_t i;
    const json_t *v;
    *out = (struct osm_key){0};
    if (keys && !json_is_array(keys))
        return "keys are a list";
    if (json_array_size(keys) > OSM_KEYS_MAX)
        return "a key has at most three parts";
    json_array_foreach ((json_t *)(uintptr_t)keys, i, v) {
        struct osm_scalar *s = &out->at[out->n++];
        if (json_is_string(v) && strlen(json_string_value(v)) == json_string_length(v))
            *s = (struct osm_scalar){.type = OSM_SCALAR_STR, .str = json_string_value(v)};
        else if (json_is_integer(v))
            *s = (struct osm_scalar){.type = OSM_SCALAR_INT, .i = json_integer_value(v)};
        else if (json_is_boolean(v))
            *s = (struct osm_scalar){.type = OSM_SCALAR_BOOL, .i = json_is_true(v)};
        else
            return "a key is a string, an integer or a boolean";
    }
    return NULL;
}

struct osm_decl *osm_engine_find_name(const struct osm_engine *e, const char *name,
                                      struct osm_err *err)
{
    struct osm_decl *d = osm_map_get(&e->names, name);
    const char *near = d ? NULL : osm_nearest_in(&e->names, name);
    if (!d)
        (void)osm_fail(err, OSM_ENOENT, "mesh.%.100s: nobody declares it%s%s%s", name,
                       near ? "; do you mean " : "", near ? near : "", near ? "?" : "");
    return d;
}

struct question {
    struct osm_cell *cell;
    json_t *answer;
    int rc;
    struct osm_err *err;
};

static int l_answer(lua_State *L)
{
    struct question *q = lua_touserdata(L, 1);
    osm_cells_push(L, q->cell);
    q->rc = osm_value_json(L, -1, "the answer", &q->answer, q->err);
    return 0;
}

int osm_engine_ask(struct osm_engine *e, const char *name, const json_t *keys, json_t **out,
                   struct osm_err *err)
{
    struct osm_decl *d = osm_map_get(&e->names, name);
    struct osm_key key;
    if (e->abort)
        return osm__engine_lost(e, err);
    if (!d)
        return osm_fail(err, OSM_ENOENT, "%s: nobody declares it", name);
    const char *why = osm_engine_key(keys, &key);
    if (!why)
        why = osm_mesh_check_key(d, &key);
    if (why)
        return osm_fail(err, OSM_EINVAL, "%s: %s", name, why);
    e->deadline_ms = e->now_ms() + OSM_WALL_MAX_MS;
    struct question q = {.cell = osm_cells_get(e, d, &key, &why), .err = err};
    if (!q.cell)
        return osm_fail(err, e->abort ? OSM_ENOMEM : OSM_EINVAL, "%s: %s", name, why);
    osm_cells_bring(e, q.cell);
    if (e->abort)
        return osm__engine_lost(e, err);
    if (q.cell->failed)
        return osm_fail(err, OSM_ELUA, "%s", q.cell->error);
    int rc = osm_lua_run(e, l_answer, &q, err);
    if (e->abort) {
        json_decref(q.answer);
        return osm__engine_lost(e, err);
    }
    if (!rc)
        rc = q.rc;
    if (!rc)
        *out = q.answer;
    return rc;
}
