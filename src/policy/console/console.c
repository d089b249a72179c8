#include "policy/console/console_priv.h"

#include "policy/console/locals.h"
#include "policy/console/pretty.h"
#include "policy/memo/value.h"
#include "policy/mesh_api.h"
#include "policy/sandbox/sandbox.h"

#include "base/utf8.h"

#include <string.h>

enum {
    LINE_MS = 1000,
    MEMORY_BYTES = 16 << 20,
    PRINTED_MAX_BYTES = 4 << 20,
};

/* --- limits --- */

void osm__console_begin(struct osm_engine *e)
{
    e->run++;
    e->prints = 0;
    e->handed.len = 0;
    e->handed_things = NULL;
    e->deadline_ms = e->now_ms() + e->console->limits.line_ms;
    e->console->wants_diff = false;
    osm_buf_reset(&e->console->printed);
}

int osm__console_lost(const struct osm_engine *e, struct osm_err *err)
{
    const struct osm_console_limits *limits = &e->console->limits;
    if (e->abort == OSM_ABORT_STUCK)
        return osm_fail(err, OSM_ELIMIT,
                        "stopped after %u ms; a console's line may take no longer. What its lines "
                        "have defined is gone",
                        limits->line_ms);
    if (e->abort == OSM_ABORT_LUA_MEMORY)
        return osm_fail(err, OSM_ELIMIT,
                        "stopped: it needs more than %zu MiB beyond the copy of the mesh. What its "
                        "lines have defined is gone",
                        limits->memory_bytes >> 20);
    return osm_fail(err, OSM_ENOMEM, "out of memory");
}

/* What is asked for stays in the memo, as long as there is room. */
static void make_room(struct osm_engine *e)
{
    const struct osm_console *c = e->console;
    if (e->memory < c->copy_bytes + c->limits.memory_bytes / 2)
        return;
    osm_cells_collect(e);
    (void)lua_gc(e->L, LUA_GCCOLLECT);
}

/* --- opening --- */

static int l_print(lua_State *L);
static int l_pp(lua_State *L);
static int l_override(lua_State *L);
static int l_diff(lua_State *L);

/* What no line has defined: a function of the library, or nil. */
static int l_look_up(lua_State *L)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, osm_engine_of(L)->base_ref);
    lua_pushvalue(L, 2);
    (void)lua_rawget(L, -2);
    return 1;
}

static int l_open(lua_State *L)
{
    struct osm_engine *e = osm_engine_of(L);
    static const luaL_Reg own[] = {
        {"print", l_print}, {"pp", l_pp}, {"override", l_override}, {"diff", l_diff}, {NULL, NULL}};
    lua_createtable(L, 0, 8);
    lua_rawgeti(L, LUA_REGISTRYINDEX, e->mesh_ref);
    lua_setfield(L, -2, "mesh");
    luaL_setfuncs(L, own, 0);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, l_look_up);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    e->console->env = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

int osm_console_open(struct osm_engine *e, const struct osm_console_limits *limits,
                     struct osm_err *err)
{
    struct osm_console *c = osm_alloc(sizeof *c);
    if (c)
        c->cell = osm_alloc(sizeof *c->cell);
    if (!c || !c->cell) {
        osm_free(c);
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    }
    static char name[] = "console";
    c->limits = *limits;
    if (!c->limits.line_ms)
        c->limits.line_ms = LINE_MS;
    if (!c->limits.memory_bytes)
        c->limits.memory_bytes = MEMORY_BYTES;
    c->module = (struct osm_module){.name = name, .path = name, .ref = LUA_NOREF};
    c->decl = (struct osm_decl){.type = OSM_DECL_RULE,
                                .id = UINT32_MAX,
                                .name = name,
                                .module = &c->module,
                                .fn = LUA_NOREF,
                                .accept = LUA_NOREF};
    *c->cell = (struct osm_cell){.decl = &c->decl, .type = OSM_CELL_RULE, .ref = LUA_NOREF};
    c->printed = (struct osm_buf)OSM_BUF_INIT(PRINTED_MAX_BYTES);
    e->console = c;
    return osm_lua_run(e, l_open, NULL, err);
}

void osm_console_free(struct osm_console *c)
{
    if (!c)
        return;
    osm_buf_clear(&c->printed);
    osm_free(c->cell);
    osm_free(c);
}

int osm_console_update(struct osm_engine *e, const struct osm_changes *changes, struct osm_err *err)
{
    struct osm_console *c = e->console;
    size_t before = c->copy_bytes ? e->memory : 0;
    e->memory_max = SIZE_MAX / 2; /* as much as there are objects: those in force have them too */
    int rc = osm_engine_take_in(e, changes, err);
    if (rc)
        return rc;
    if (!c->copy_bytes)
        (void)lua_gc(e->L, LUA_GCCOLLECT);
    c->copy_bytes = e->memory > before ? c->copy_bytes + e->memory - before : c->copy_bytes;
    e->memory_max = c->copy_bytes + c->limits.memory_bytes;
    make_room(e);
    return 0;
}

/* --- printing --- */

static int l_print(lua_State *L)
{
    struct osm_buf *out = &osm_engine_of(L)->console->printed;
    int n = lua_gettop(L);
    for (int i = 1; i <= n; i++) {
        (void)osm_buf_add_str(out, i > 1 ? " " : "");
        if (lua_type(L, i) == LUA_TSTRING)
            (void)osm_buf_add(out, lua_tostring(L, i), lua_rawlen(L, i));
        else
            osm_console_pretty(L, i, false, out);
    }
    (void)osm_buf_add_char(out, '\n');
    return out->failed ? luaL_error(L, "prints more than %d bytes", PRINTED_MAX_BYTES) : 0;
}

static int l_pp(lua_State *L)
{
    struct osm_buf *out = &osm_engine_of(L)->console->printed;
    luaL_checkany(L, 1);
    int n = lua_gettop(L);
    for (int i = 1; i <= n; i++) {
        osm_console_pretty(L, i, true, out);
        (void)osm_buf_add_char(out, '\n');
    }
    return out->failed ? luaL_error(L, "prints more than %d bytes", PRINTED_MAX_BYTES) : 0;
}

/* --- trying a rule --- */

/* override(name, fn): the rule's answers are fn's from now on; gives what they were before. */
static int l_override(lua_State *L)
{
    struct osm_engine *e = osm_engine_of(L);
    struct osm_err err = {0};
    const char *name = luaL_checkstring(L, 1);
    struct osm_decl *decl = osm_engine_find_name(e, name, &err);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    if (!decl)
        return luaL_error(L, "%s", err.msg);
    if (decl->type != OSM_DECL_RULE)
        return luaL_error(L, "override: %s is no rule", name);
    if (!e->impure && !(e->impure = json_array())) /* nobody need look for state: it is wanted */
        return luaL_error(L, "out of memory");
    lua_rawgeti(L, LUA_REGISTRYINDEX, decl->fn);
    lua_pushvalue(L, 2);
    int fn = luaL_ref(L, LUA_REGISTRYINDEX);
    luaL_unref(L, LUA_REGISTRYINDEX, decl->fn);
    decl->fn = fn;
    osm_map_each (&e->cells, entry) {
        struct osm_cell *cell = entry->value;
        if (cell->decl == decl)
            osm_cells_doubt(e, cell);
    }
    return 1;
}

/* diff(): is made when the line is over; a run within one is none. */
static int l_diff(lua_State *L)
{
    osm_engine_of(L)->console->wants_diff = true;
    return 0;
}

int osm_console_run(struct osm_engine *e, struct osm_snapshot **out, struct osm_err *err)
{
    struct osm_console *c = e->console;
    struct osm_changes none = {NULL, 0};
    struct osm_snapshot *made = NULL;
    size_t before = e->memory;
    e->memory_max = SIZE_MAX / 2; /* as those in force need it */
    int rc = osm_engine_run(e, &none, &made, err);
    if (rc)
        return rc;
    osm_snapshot_unref(made);
    *out = osm_snapshot_ref(e->last);
    c->copy_bytes += e->memory > before ? e->memory - before : 0;
    e->memory_max = c->copy_bytes + c->limits.memory_bytes;
    return 0;
}

/* --- lines --- */

struct line {
    const char *text, *shared; /* `shared`: with its locals for the next lines */
    struct osm_cell *cell;     /* instead of a text: what it answers */
    json_t *value;
    bool incomplete;
};

/* The text of an error that says that the source ends too early. */
static bool wants_more(lua_State *L)
{
    static const char eof[] = "<eof>";
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    return text && len >= sizeof eof - 1 && !strcmp(text + len - (sizeof eof - 1), eof);
}

/* Pushes the line as a function; false: it goes on. */
static bool push_line(lua_State *L, const struct line *line)
{
    const char *expression = lua_pushfstring(L, "return %s", line->text);
    if (luaL_loadbufferx(L, expression, strlen(expression), "=console", "t") == LUA_OK)
        return true;
    lua_pop(L, 1);
    if (luaL_loadbufferx(L, line->shared, strlen(line->shared), "=console", "t") == LUA_OK)
        return true;
    if (wants_more(L))
        return false;
    (void)lua_error(L);
    return false;
}

/* Prints what is on the stack from slot @p first on, and keeps the first as JSON. */
static void take_answers(lua_State *L, int first, struct line *line)
{
    struct osm_buf *out = &osm_engine_of(L)->console->printed;
    int last = lua_gettop(L);
    if (last >= first && !lua_isnil(L, first) &&
        osm_value_json(L, first, "the answer", &line->value, NULL))
        line->value = NULL;
    for (int i = first; i <= last; i++) {
        osm_console_pretty(L, i, false, out);
        (void)osm_buf_add_char(out, '\n');
    }
}

static int l_line(lua_State *L)
{
    struct line *line = lua_touserdata(L, 1);
    const struct osm_engine *e = osm_engine_of(L);
    lua_settop(L, 0);
    if (line->cell) {
        osm_cells_push(L, line->cell);
    } else if (push_line(L, line)) {
        lua_replace(L, 1);
        lua_settop(L, 1);
        lua_rawgeti(L, LUA_REGISTRYINDEX, e->console->env);
        lua_setupvalue(L, 1, 1);
        lua_call(L, 0, LUA_MULTRET);
    } else {
        line->incomplete = true;
        return 0;
    }
    take_answers(L, 1, line);
    return 0;
}

/* What has been printed; bytes that are no text become '?'. */
static json_t *printed_text(struct osm_buf *printed)
{
    for (size_t i = 0; i < printed->len; i++)
        if (!printed->data[i])
            printed->data[i] = '?';
    return json_string(printed->data ? osm_utf8_repair(printed->data) : "");
}

static json_t *answer_of(struct osm_engine *e, struct line *line)
{
    if (line->incomplete)
        return json_pack("{s:b}", "incomplete", 1);
    return json_pack("{s:o, s:o, s:o*}", "text", printed_text(&e->console->printed), "value",
                     line->value ? json_incref(line->value) : json_null(), "diff",
                     e->console->wants_diff ? json_true() : NULL);
}

static int run_line(struct osm_engine *e, struct line *line, json_t **out, struct osm_err *err)
{
    char *message = NULL, module[256];
    int at = 0;
    struct osm_frame *f = osm_frame_push(e, e->console->cell, true);
    int rc = f ? osm_lua_call(e, l_line, line, &message, module, &at) : OSM_ELIMIT;
    if (f)
        osm_frame_pop(e);
    if (e->abort && e->abort < OSM_ABORT_NOMEM)
        e->abort = OSM_ABORT_NONE; /* of rules: they are in error, and so is whoever asked */
    if (e->abort)
        rc = osm__console_lost(e, err);
    else if (rc)
        (void)osm_fail(err, rc, "%s", message ? message : "out of memory");
    else if (!(*out = answer_of(e, line)))
        rc = osm_fail(err, OSM_ENOMEM, "out of memory");
    osm_free(message);
    json_decref(line->value);
    if (!e->abort)
        make_room(e);
    return rc;
}

int osm_console_eval(struct osm_engine *e, const char *text, json_t **out, struct osm_err *err)
{
    char *shared = osm_console_share_locals(text);
    if (!shared)
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    osm__console_begin(e);
    struct line line = {.text = text, .shared = shared};
    int rc = run_line(e, &line, out, err);
    osm_free(shared);
    return rc;
}

/* --- questions --- */

int osm__console_cell(struct osm_engine *e, const char *name, const json_t *keys,
                      struct osm_cell **out, struct osm_err *err)
{
    struct osm_key key;
    const char *why = NULL;
    struct osm_decl *decl = osm_engine_find_name(e, name, err);
    if (!decl)
        return OSM_ENOENT;
    why = osm_engine_key(keys, &key);
    if (!why)
        why = osm_mesh_check_key(decl, &key);
    *out = why ? NULL : osm_cells_get(e, decl, &key, &why);
    if (e->abort)
        return osm__console_lost(e, err);
    return *out ? 0 : osm_fail(err, OSM_EINVAL, "mesh.%s: %s", name, why);
}

int osm__console_answer(struct osm_engine *e, struct osm_cell *cell, json_t **out,
                        struct osm_err *err)
{
    struct line line = {.cell = cell};
    return run_line(e, &line, out, err);
}

int osm_console_ask(struct osm_engine *e, const char *name, const json_t *keys, json_t **out,
                    struct osm_err *err)
{
    struct osm_cell *cell;
    osm__console_begin(e);
    int rc = osm__console_cell(e, name, keys, &cell, err);
    if (rc)
        return rc;
    osm_cells_bring(e, cell);
    if (e->abort)
        return osm__console_lost(e, err);
    if (cell->failed)
        return osm_fail(err, OSM_ELUA, "%s", cell->error);
    return osm__console_answer(e, cell, out, err);
}

json_t *osm_console_names(const struct osm_engine *e)
{
    size_t n = 0;
    const char **names = osm_map_sorted_keys(&e->names, &n);
    json_t *list = names ? json_array() : NULL;
    for (size_t i = 0; list && i < n; i++)
        if (json_array_append_new(list, json_string(names[i]))) {
            json_decref(list);
            list = NULL;
        }
    osm_free(names);
    return list;
}
