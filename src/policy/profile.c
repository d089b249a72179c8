#include "policy/profile.h"

#include "base/clock.h"
#include "base/utf8.h"
#include "policy/bundle/bundle.h"
#include "policy/memo/cells.h"
#include "policy/sandbox/runtime.h"

#include <stdlib.h>
#include <string.h>

enum {
    ALWAYS_FOLLOWED = 16, /* runs of each rule, from the first on */
    LEVELS_MAX = 8,       /* C functions between a helper and its Lua caller: pcall, sort */
    TEXT_MAX_BYTES = 120,
};

struct osm_line {
    char *path; /* "smi/split.lua" */
    int line;
    uint64_t count, ns;
};

struct osm_profile {
    unsigned every;
    uint64_t began_ns;
    struct osm_cost *base; /* by declaration, of when it began */
    size_t base_len;
    struct osm_map lines; /* struct line_key -> struct osm_line */
};

struct line_key {
    const char *source; /* one text for all functions of a module, as long as the state lives */
    intptr_t line;      /* without padding */
};

/* --- paying --- */

static bool is_followed(const struct osm_profile *p, const struct osm_decl *d, uint64_t *weight)
{
    uint64_t runs = d->cost.runs - (d->id < p->base_len ? p->base[d->id].runs : 0);
    *weight = runs < ALWAYS_FOLLOWED ? 1 : p->every;
    return runs < ALWAYS_FOLLOWED || runs % p->every == 0;
}

static void pay_line(struct osm_frame *f, uint64_t now_ns)
{
    if (f->line)
        f->line->ns += (now_ns - f->line_since_ns) * f->weight;
    f->line_since_ns = now_ns;
}

struct osm_frame *osm_profile_enter(struct osm_engine *e, struct osm_frame *f)
{
    struct osm_frame *caller = e->paying;
    uint64_t now_ns = osm_now_ns();
    if (caller) {
        caller->cell->decl->cost.ns += now_ns - e->paid_ns;
        pay_line(caller, now_ns);
    }
    e->paid_ns = now_ns;
    e->paying = f;
    f->line = NULL;
    f->followed = e->profile && is_followed(e->profile, f->cell->decl, &f->weight);
    return caller;
}

void osm_profile_leave(struct osm_engine *e, struct osm_frame *f, struct osm_frame *caller)
{
    struct osm_cost *cost = &f->cell->decl->cost;
    uint64_t now_ns = osm_now_ns();
    cost->runs++;
    cost->instructions += (uint64_t)(OSM_BUDGET - f->budget);
    cost->ns += now_ns - e->paid_ns;
    pay_line(f, now_ns);
    if (caller)
        caller->line_since_ns = now_ns;
    e->paid_ns = now_ns;
    e->paying = caller;
    e->evaluated = f->cell;
}

int osm_profile_first_look(const struct osm_cell *cell)
{
    return 1 + (int)(osm_hash_bytes(cell->key, cell->key_len).lo % OSM_HOOK_COUNT);
}

/* --- lines --- */

int osm_profile_mask(const struct osm_frame *f)
{
    return f->followed ? LUA_MASKLINE | LUA_MASKRET : 0;
}

/* NULL: no memory; the line's time is nobody's then. */
static struct osm_line *find_line(struct osm_profile *p, const lua_Debug *ar)
{
    const struct line_key key = {ar->source, ar->currentline};
    struct osm_line *line = osm_map_getn(&p->lines, &key, sizeof key);
    if (line)
        return line;
    line = osm_alloc(sizeof *line);
    char *path = osm_strdup(ar->source + (ar->source[0] == '@' || ar->source[0] == '='));
    if (line && path && !osm_map_putn(&p->lines, &key, sizeof key, line, NULL)) {
        line->path = path;
        line->line = ar->currentline;
        return line;
    }
    osm_free(line);
    osm_free(path);
    return NULL;
}

/* The Lua function that goes on once the one of @p ar has returned. */
static bool find_caller(lua_State *L, lua_Debug *caller)
{
    for (int level = 1; level < LEVELS_MAX && lua_getstack(L, level, caller); level++)
        if (lua_getinfo(L, "Sl", caller) && caller->currentline > 0)
            return true;
    return false;
}

/* The time in here is not the policy's: the line pays up to the event, the next one from its end.
 */
void osm_profile_event(struct osm_engine *e, struct osm_frame *f, lua_State *L, lua_Debug *ar)
{
    lua_Debug caller;
    uint64_t begin_ns = osm_now_ns();
    if (!f->followed || !e->profile || !lua_getinfo(L, "S", ar))
        return;
    pay_line(f, begin_ns);
    if (ar->event == LUA_HOOKLINE) {
        f->line = find_line(e->profile, ar);
        if (f->line)
            f->line->count += f->weight;
    } else if (ar->what[0] != 'C' && find_caller(L, &caller)) {
        f->line = find_line(e->profile, &caller);
    }
    uint64_t end_ns = osm_now_ns();
    f->line_since_ns = end_ns;
    e->paid_ns += end_ns - begin_ns;
}

/* --- from begin to end --- */

static void profile_free(struct osm_profile *p)
{
    if (!p)
        return;
    osm_map_each (&p->lines, entry) {
        struct osm_line *line = entry->value;
        osm_free(line->path);
        osm_free(line);
    }
    osm_map_clear(&p->lines);
    osm_free(p->base);
    osm_free(p);
}

void osm_profile_free(struct osm_engine *e)
{
    profile_free(osm_take_ptr(&e->profile));
}

int osm_engine_profile_begin(struct osm_engine *e, unsigned every, struct osm_err *err)
{
    if (e->profile)
        return osm_fail(err, OSM_EBUSY, "a profile is being taken already");
    struct osm_profile *p = osm_alloc(sizeof *p);
    if (p)
        *p = (struct osm_profile){.every = every ? every : 1,
                                  .began_ns = osm_now_ns(),
                                  .base = osm_alloc_array(e->decls_len, sizeof *p->base),
                                  .base_len = e->decls_len};
    if (!p || !p->base) {
        profile_free(p);
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < e->decls_len; i++)
        p->base[i] = e->decls[i]->cost;
    e->profile = p;
    return 0;
}

/* --- telling --- */

static int by_time(const void *a, const void *b)
{
    json_int_t x = json_integer_value(json_object_get(*(json_t *const *)a, "us")),
               y = json_integer_value(json_object_get(*(json_t *const *)b, "us"));
    return (x < y) - (x > y);
}

/* The entries of @p list (taken), those with the most time first. */
static json_t *sorted(json_t *list)
{
    size_t n = json_array_size(list), i;
    json_t *entry, **order = osm_alloc_array(n + 1, sizeof *order), *out = json_array();
    bool failed = !list || !order || !out;
    json_array_foreach (list, i, entry)
        if (order)
            order[i] = entry;
    if (!failed && n)
        qsort(order, n, sizeof *order, by_time);
    for (i = 0; i < n && !failed; i++)
        failed = json_array_append(out, order[i]) != 0;
    osm_free(order);
    json_decref(list);
    if (!failed)
        return out;
    json_decref(out);
    return NULL;
}

static json_t *rules_json(const struct osm_engine *e, const struct osm_profile *p)
{
    static const struct osm_cost none = {0};
    json_t *list = json_array();
    bool failed = !list;
    for (size_t i = 0; i < e->decls_len && !failed; i++) {
        const struct osm_decl *d = e->decls[i];
        const struct osm_cost *base = p && i < p->base_len ? &p->base[i] : &none;
        uint64_t runs = d->cost.runs - base->runs, hits = d->cost.hits - base->hits;
        if (!runs && !hits)
            continue;
        failed = json_array_append_new(
                     list, json_pack("{s:s, s:b, s:s, s:i, s:I, s:I, s:I, s:I}", "name", d->name,
                                     "emitter", d->type == OSM_DECL_EMIT, "module",
                                     d->module ? d->module->path : "", "line", d->line, "runs",
                                     (json_int_t)runs, "hits", (json_int_t)hits, "instructions",
                                     (json_int_t)(d->cost.instructions - base->instructions), "us",
                                     (json_int_t)((d->cost.ns - base->ns) / 1000))) != 0;
    }
    if (!failed)
        return sorted(list);
    json_decref(list);
    return NULL;
}

/* The line as it stands in the source, without what surrounds it. */
static char *text_of(const struct osm_engine *e, const struct osm_line *line)
{
    const struct osm_runtime_module *runtime = osm_runtime_find(line->path);
    const char *text = runtime ? runtime->text : NULL;
    for (size_t i = 0; i < e->modules_len && !text; i++)
        if (!strcmp(e->modules[i].path, line->path))
            text = e->modules[i].text;
    for (int n = 1; text && n < line->line; n++) {
        text = strchr(text, '\n');
        text += text ? 1 : 0;
    }
    text = text ? text + strspn(text, " \t") : "";
    size_t len = strcspn(text, "\n");
    return osm_strndup(text, len < TEXT_MAX_BYTES ? len : TEXT_MAX_BYTES);
}

static json_t *lines_json(const struct osm_engine *e, const struct osm_profile *p)
{
    json_t *list = json_array();
    bool failed = !list;
    osm_map_each (&p->lines, entry) {
        const struct osm_line *line = entry->value;
        char *text = failed ? NULL : text_of(e, line);
        failed = failed || !text ||
                 json_array_append_new(
                     list, json_pack("{s:s, s:i, s:s, s:I, s:I}", "module", line->path, "line",
                                     line->line, "text", osm_utf8_repair(text), "runs",
                                     (json_int_t)line->count, "us", (json_int_t)(line->ns / 1000)));
        osm_free(text);
    }
    if (!failed)
        return sorted(list);
    json_decref(list);
    return NULL;
}

static json_int_t us_since(uint64_t began_ns)
{
    return (json_int_t)((osm_now_ns() - began_ns) / 1000);
}

json_t *osm_engine_costs(const struct osm_engine *e)
{
    return json_pack("{s:I, s:o}", "us", us_since(e->began_ns), "rules", rules_json(e, NULL));
}

json_t *osm_engine_profile_end(struct osm_engine *e)
{
    struct osm_profile *p = osm_take_ptr(&e->profile);
    if (!p)
        return NULL;
    json_t *out = json_pack("{s:I, s:o, s:o}", "us", us_since(p->began_ns), "rules",
                            rules_json(e, p), "lines", lines_json(e, p));
    profile_free(p);
    return out;
}
