/* What a module declares: its table, checked field by field. An unknown field is an error with the
 * nearest name, so that a typing mistake is never a rule that is silently not there. Tables are
 * read in the order of their keys, so that declarations have the same order in every state. */
#include "policy/bundle/declare_priv.h"

#include "policy/bundle/extend.h"
#include "policy/kinds/schema.h"
#include "policy/memo/value.h"
#include "policy/sandbox/sandbox.h"

#include "base/nearest.h"
#include "base/yaml.h"

#include <ctype.h>
#include <string.h>

enum { VERSIONS_MAX = 8 };

int osm__declare_line(const struct osm_module *m, const char *word)
{
    size_t n = strlen(word);
    int line = 1;
    for (const char *p = m->text; *p; p++) {
        if (*p == '\n')
            line++;
        bool starts = p == m->text || !(isalnum((unsigned char)p[-1]) || p[-1] == '_');
        if (!starts || strncmp(p, word, n) != 0)
            continue;
        const char *after = p + n + strspn(p + n, "\"']"); /* ["acme.quota"] = */
        after += strspn(after, " \t");
        if (*after == '=' && after[1] != '=')
            return line;
    }
    return 1;
}

_Noreturn void osm__declare_fail(lua_State *L, struct osm__reading *r, const char *word,
                                 const char *text)
{
    luaL_error(L, "%s:%d: %s", r->m->path, osm__declare_line(r->m, word), text);
    __builtin_unreachable();
}

void osm__declare_each(lua_State *L, struct osm__reading *r, const char *what,
                       void (*each)(lua_State *L, struct osm__reading *r, const char *name))
{
    int table = lua_gettop(L);
    if (!lua_istable(L, table))
        osm__declare_fail(
            L, r, what,
            lua_pushfstring(L, "%s must be a table, got %s", what, luaL_typename(L, table)));
    lua_pushcfunction(L, osm_sandbox_pairs);
    lua_pushvalue(L, table);
    lua_call(L, 1, 1);
    for (;;) {
        lua_pushvalue(L, table + 1);
        lua_call(L, 0, 2);
        if (lua_isnil(L, -2))
            break;
        if (lua_type(L, -2) != LUA_TSTRING)
            osm__declare_fail(L, r, what, lua_pushfstring(L, "%s: names are strings", what));
        each(L, r, lua_tostring(L, -2));
        lua_settop(L, table + 1);
    }
    lua_settop(L, table);
}

void osm__declare_check_field(lua_State *L, struct osm__reading *r, const char *const *known,
                              const char *name)
{
    for (const char *const *k = known; *k; k++)
        if (!strcmp(*k, name))
            return;
    const char *near = osm_nearest_of(known, name);
    const char *text = near
                           ? lua_pushfstring(L, "%s: there is no field \"%s\"; do you mean \"%s\"?",
                                             r->what, name, near)
                           : lua_pushfstring(L, "%s: there is no field \"%s\"", r->what, name);
    osm__declare_fail(L, r, name, text);
}

static bool is_word(const char *text, size_t len)
{
    bool fine = len && (isalpha((unsigned char)text[0]) || text[0] == '_');
    for (size_t i = 0; i < len; i++)
        fine = fine && (isalnum((unsigned char)text[i]) || text[i] == '_');
    return fine;
}

/* "backends", or "acme.quota" for what an operator declares. */
static void check_name(lua_State *L, struct osm__reading *r, const char *name)
{
    size_t len = strlen(name), first = strcspn(name, ".");
    bool dotted = first < len;
    if (!is_word(name, first) || (dotted && !is_word(name + first + 1, len - first - 1)) ||
        len > 60)
        osm__declare_fail(L, r, name,
                          lua_pushfstring(L,
                                          "\"%s\" cannot be a name here: letters, digits and _, "
                                          "with at most one dot, at most 60",
                                          name));
}

/* What others may ask for by name. A file that an operator adds keeps out of the way of names that
 * a later release may declare. */
static void check_own_name(lua_State *L, struct osm__reading *r, const char *name)
{
    check_name(L, r, name);
    if (r->m->added && !strchr(name, '.'))
        osm__declare_fail(
            L, r, name,
            lua_pushfstring(L,
                            "\"%s\": a name that this directory adds holds a dot, such as "
                            "\"acme.%s\", so that no later release can declare it too",
                            name, name));
}

static struct osm_decl *declare(lua_State *L, struct osm__reading *r, enum osm_decl_type type,
                                const char *name)
{
    struct osm_err err = {0};
    check_own_name(L, r, name);
    struct osm_decl *d = osm_bundle_declare(r->e, type, name, r->m, &err);
    if (!d)
        luaL_error(L, "%s", err.msg);
    d->line = osm__declare_line(r->m, name);
    return d;
}

int osm__declare_function(lua_State *L, struct osm__reading *r, const char *what, int *line)
{
    lua_Debug ar;
    if (lua_type(L, -1) != LUA_TFUNCTION)
        osm__declare_fail(L, r, what,
                          lua_pushfstring(L, "%s: %s must be a function, got %s", r->what, what,
                                          luaL_typename(L, -1)));
    lua_pushvalue(L, -1);
    if (lua_getinfo(L, ">S", &ar) && ar.linedefined > 0 && line)
        *line = ar.linedefined;
    lua_pushvalue(L, -1);
    return luaL_ref(L, LUA_REGISTRYINDEX);
}

static char *take_string(lua_State *L, struct osm__reading *r, const char *what)
{
    if (lua_type(L, -1) != LUA_TSTRING)
        osm__declare_fail(L, r, what,
                          lua_pushfstring(L, "%s: %s must be a string, got %s", r->what, what,
                                          luaL_typename(L, -1)));
    char *text = osm_strdup(lua_tostring(L, -1));
    if (!text)
        luaL_error(L, "out of memory");
    return text;
}

/* --- kinds --- */

static void read_versions(lua_State *L, struct osm__reading *r)
{
    struct osm_decl *d = r->decl;
    lua_Unsigned n = lua_istable(L, -1) ? lua_rawlen(L, -1) : 0;
    if (n < 1 || n > VERSIONS_MAX)
        osm__declare_fail(
            L, r, "versions",
            lua_pushfstring(L,
                            "%s: versions must be a list of one to eight versions, preferred first",
                            r->what));
    d->versions = osm_alloc_array(n + 1, sizeof *d->versions);
    d->schemas = osm_alloc_array(n + 1, sizeof(struct osm_schema *));
    d->from = osm_alloc_array(n + 1, sizeof *d->from);
    if (!d->versions || !d->schemas || !d->from)
        luaL_error(L, "out of memory");
    for (lua_Unsigned i = 0; i < n; i++) {
        d->from[i] = LUA_NOREF;
        lua_rawgeti(L, -1, (lua_Integer)i + 1);
        d->versions[i] = take_string(L, r, "versions");
        lua_pop(L, 1);
    }
}

static void read_from(lua_State *L, struct osm__reading *r, const char *version)
{
    for (size_t i = 0; r->decl->versions[i]; i++) {
        if (strcmp(r->decl->versions[i], version) != 0)
            continue;
        if (!i)
            osm__declare_fail(
                L, r, "from",
                lua_pushfstring(L, "%s: from.%s: objects are lifted to this version, not from it",
                                r->what, version));
        r->decl->from[i] = osm__declare_function(L, r, "from", NULL);
        return;
    }
    osm__declare_fail(
        L, r, "from",
        lua_pushfstring(L, "%s: from.%s: versions does not list it", r->what, version));
}

static int parse_schema_file(struct osm__reading *r, const char *path, json_t **out,
                             struct osm_err *err)
{
    struct osm_yaml_docs docs = {0};
    struct osm_yaml_place place = {0};
    const struct osm_policy_file *file = osm_policy_files_find(r->e->files, path);
    int rc = 0;
    if (path[0] == '/' || strstr(path, ".."))
        rc = osm_fail(err, OSM_EINVAL, "is not below the bundle's folder");
    else if (!file)
        rc = osm_fail(err, OSM_ENOENT, "no such file in the bundle (its name ends in .yaml)");
    else if (!file->text)
        rc = osm_fail(err, OSM_ELIMIT, "has more than %d bytes", OSM_POLICY_FILE_MAX_BYTES);
    else {
        rc = osm_bundle_check_replaced(r->e, file, err);
        if (!rc)
            rc = osm_yaml_parse(file->text, file->len, &docs, &place, err);
    }
    if (!rc && docs.len != 1)
        rc = osm_fail(err, OSM_EINVAL, "holds %zu documents instead of one", docs.len);
    if (rc || !docs.list)
        osm_err_prepend(err, "%s: ", path);
    else
        *out = json_incref(docs.list[0].value);
    osm_yaml_docs_clear(&docs);
    return rc;
}

/* A CustomResourceDefinition has a schema for each version; a bare schema describes the first. */
static int make_schemas(struct osm_decl *d, const json_t *source, struct osm_err *err)
{
    const json_t *versions = json_object_get(json_object_get(source, "spec"), "versions");
    const char *kind = json_string_value(json_object_get(source, "kind"));
    if (!kind || strcmp(kind, "CustomResourceDefinition") != 0)
        return osm_schema_new(&d->schemas[0], source, err);
    for (size_t i = 0; d->versions[i]; i++) {
        size_t k;
        const json_t *version, *openapi = NULL;
        json_array_foreach ((json_t *)(uintptr_t)versions, k, version) {
            const char *name = json_string_value(json_object_get(version, "name"));
            if (name && !strcmp(name, d->versions[i]))
                openapi = json_object_get(json_object_get(version, "schema"), "openAPIV3Schema");
        }
        int rc = openapi ? osm_schema_new(&d->schemas[i], openapi, err)
                         : osm_fail(err, OSM_EINVAL, "the definition has no schema for version %s",
                                    d->versions[i]);
        if (rc)
            return rc;
    }
    return 0;
}

static void read_schema(lua_State *L, struct osm__reading *r)
{
    struct osm_err err = {0};
    json_t *source = NULL;
    int rc = lua_type(L, -1) == LUA_TSTRING
                 ? parse_schema_file(r, lua_tostring(L, -1), &source, &err)
             : lua_istable(L, -1)
                 ? osm_value_json(L, -1, "schema", &source, &err)
                 : osm_fail(&err, OSM_EINVAL, "must be a table or the path of a YAML file");
    if (!rc)
        rc = make_schemas(r->decl, source, &err);
    if (!rc)
        r->decl->schema_hash = osm_json_hash(source);
    json_decref(source);
    if (rc)
        osm__declare_fail(L, r, "schema", lua_pushfstring(L, "%s: schema: %s", r->what, err.msg));
}

static void check_kind_field(lua_State *L, struct osm__reading *r, const char *name)
{
    static const char *const known[] = {"group",  "versions", "schema",   "from", "accept",
                                        "status", "labels",   "tolerant", NULL};
    osm__declare_check_field(L, r, known, name);
}

static void read_kind(lua_State *L, struct osm__reading *r, const char *name)
{
    int table = lua_gettop(L);
    r->what = lua_pushfstring(L, "kind %s", name);
    lua_pushvalue(L, table);
    osm__declare_each(L, r, r->what, check_kind_field);
    struct osm_decl *d = r->decl = declare(L, r, OSM_DECL_KIND, name);
    lua_getfield(L, table, "versions");
    read_versions(L, r);
    if (lua_getfield(L, table, "group") == LUA_TNIL)
        lua_pushstring(L, "");
    d->group = take_string(L, r, "group");
    if (lua_getfield(L, table, "schema") != LUA_TNIL)
        read_schema(L, r);
    if (lua_getfield(L, table, "from") != LUA_TNIL)
        osm__declare_each(L, r, "from", read_from);
    for (size_t i = 1; d->versions[i]; i++)
        if (d->from[i] == LUA_NOREF)
            osm__declare_fail(
                L, r, "versions",
                lua_pushfstring(
                    L,
                    "%s: versions lists %s, but from.%s is missing: a function that lifts it to %s",
                    r->what, d->versions[i], d->versions[i], d->versions[0]));
    if (lua_getfield(L, table, "accept") != LUA_TNIL)
        d->accept = osm__declare_function(L, r, "accept", &d->line);
    int status = lua_getfield(L, table, "status");
    if (status != LUA_TNIL && status != LUA_TBOOLEAN)
        osm__declare_fail(L, r, "status",
                          lua_pushfstring(L, "%s: status must be true or false, got %s", r->what,
                                          luaL_typename(L, -1)));
    d->status = lua_toboolean(L, -1);
    if (lua_getfield(L, table, "labels") != LUA_TNIL && !lua_isboolean(L, -1))
        osm__declare_fail(L, r, "labels",
                          lua_pushfstring(L, "%s: labels must be true or false, got %s", r->what,
                                          luaL_typename(L, -1)));
    d->hides_labels = lua_isboolean(L, -1) && !lua_toboolean(L, -1);
    if (lua_getfield(L, table, "tolerant") != LUA_TNIL && !lua_isboolean(L, -1))
        osm__declare_fail(L, r, "tolerant",
                          lua_pushfstring(L, "%s: tolerant must be true or false, got %s", r->what,
                                          luaL_typename(L, -1)));
    d->tolerant = lua_toboolean(L, -1);
    const char *dot = strchr(d->name, '.'); /* acme.Quota: a Quota in the manifests */
    lua_pushfstring(L, "%s/%s", d->group, dot ? dot + 1 : d->name);
    const char *type = lua_tostring(L, -1);
    if (osm_map_put(&r->e->kinds_by_type, type, d, NULL))
        luaL_error(L, "out of memory");
}

/* --- indexes, rules, emitters --- */

static void check_index_field(lua_State *L, struct osm__reading *r, const char *name)
{
    static const char *const known[] = {"of", "keys", NULL};
    osm__declare_check_field(L, r, known, name);
}

static void read_index(lua_State *L, struct osm__reading *r, const char *name)
{
    int table = lua_gettop(L);
    r->what = lua_pushfstring(L, "index %s", name);
    lua_pushvalue(L, table);
    osm__declare_each(L, r, r->what, check_index_field);
    struct osm_decl *d = r->decl = declare(L, r, OSM_DECL_INDEX, name);
    lua_getfield(L, table, "of");
    d->each_name = take_string(L, r, "of");
    lua_getfield(L, table, "keys");
    d->fn = osm__declare_function(L, r, "keys", &d->line);
}

static void read_rule(lua_State *L, struct osm__reading *r, const char *name)
{
    int value = lua_gettop(L);
    r->what = lua_pushfstring(L, "rule %s", name);
    r->decl = declare(L, r, OSM_DECL_RULE, name);
    lua_pushvalue(L, value);
    r->decl->fn = osm__declare_function(L, r, name, &r->decl->line);
}

static void check_emit_field(lua_State *L, struct osm__reading *r, const char *name)
{
    static const char *const known[] = {"each", "run", NULL};
    osm__declare_check_field(L, r, known, name);
}

static void read_emit(lua_State *L, struct osm__reading *r, const char *name)
{
    int table = lua_gettop(L);
    r->what = lua_pushfstring(L, "emitter %s", name);
    lua_pushvalue(L, table);
    osm__declare_each(L, r, r->what, check_emit_field);
    check_name(L, r, name);
    /* Emitters have names of their own, within their module: "envoy/clusters.clusters". */
    const char *full = lua_pushfstring(L, "%s.%s", r->m->name, name);
    struct osm_err err = {0};
    struct osm_decl *d = r->decl = osm_bundle_declare(r->e, OSM_DECL_EMIT, full, r->m, &err);
    if (!d)
        luaL_error(L, "%s", err.msg);
    d->line = osm__declare_line(r->m, name);
    lua_getfield(L, table, "each");
    d->each_name = take_string(L, r, "each");
    lua_getfield(L, table, "run");
    d->fn = osm__declare_function(L, r, "run", &d->line);
}

/* --- a module --- */

static const char *const sections[] = {"api",  "kinds",   "indexes", "rules",
                                       "emit", "extends", "wraps",   NULL};

static void check_section(lua_State *L, struct osm__reading *r, const char *name)
{
    osm__declare_check_field(L, r, sections, name);
}

static int l_declare(lua_State *L)
{
    static const struct {
        const char *name;
        void (*each)(lua_State *L, struct osm__reading *r, const char *name);
    } readers[] = {{"kinds", read_kind},
                   {"indexes", read_index},
                   {"rules", read_rule},
                   {"emit", read_emit},
                   {"extends", osm__declare_extension},
                   {"wraps", osm__declare_wrap}};
    struct osm__reading *r = lua_touserdata(L, 1);
    bool declares = false;
    lua_settop(L, 0);
    luaL_checkstack(L, 40, "module");
    lua_rawgeti(L, LUA_REGISTRYINDEX, r->m->ref);
    for (size_t i = 0; lua_istable(L, 1) && sections[i]; i++) {
        lua_pushstring(L, sections[i]);
        declares = lua_rawget(L, 1) != LUA_TNIL || declares;
        lua_pop(L, 1);
    }
    if (!declares)
        return 0;
    r->what = "the module";
    osm__declare_each(L, r, "the module", check_section);
    if (lua_getfield(L, 1, "api") != LUA_TNUMBER)
        osm__declare_fail(L, r, "M", "a module that declares something says api = 1");
    if (!lua_isinteger(L, -1) || lua_tointeger(L, -1) != 1)
        osm__declare_fail(L, r, "api", "this host speaks api = 1 only");
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++) {
        lua_settop(L, 1);
        if (lua_getfield(L, 1, readers[i].name) != LUA_TNIL)
            osm__declare_each(L, r, readers[i].name, readers[i].each);
    }
    return 0;
}

int osm_bundle_declare_module(struct osm_engine *e, struct osm_module *m, struct osm_err *err)
{
    struct osm__reading r = {.e = e, .m = m};
    return osm_lua_run(e, l_declare, &r, err);
}

static int unknown_name(struct osm_engine *e, struct osm_decl *d, const char *field,
                        struct osm_err *err)
{
    const char *near = osm_nearest_in(&e->names, d->each_name);
    return osm_fail(err, OSM_ELUA, "%s:%d: %s: %s = \"%s\": nobody declares it%s%s%s",
                    d->module->path, d->line, d->name, field, d->each_name,
                    near ? "; do you mean " : "", near ? near : "", near ? "?" : "");
}

static int link_index(struct osm_engine *e, struct osm_decl *d, struct osm_err *err)
{
    struct osm_decl *kind = osm_map_get(&e->names, d->each_name);
    if (!kind)
        return unknown_name(e, d, "of", err);
    if (kind->type != OSM_DECL_KIND)
        return osm_fail(err, OSM_ELUA, "%s:%d: index %s: of = \"%s\" is no kind", d->module->path,
                        d->line, d->name, d->each_name);
    struct osm_decl **grown =
        osm_realloc_array(kind->indexes, kind->indexes_len + 1, sizeof(struct osm_decl *));
    if (!grown)
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    kind->indexes = grown;
    kind->indexes[kind->indexes_len++] = d;
    d->of = kind;
    return 0;
}

/* mesh.acme cannot be both an answer and the place of acme.quota. */
static int check_prefixes(struct osm_engine *e, struct osm_err *err)
{
    for (size_t i = 0; i < e->decls_len; i++) {
        const struct osm_decl *d = e->decls[i];
        size_t first = strcspn(d->name, ".");
        if (d->type == OSM_DECL_EMIT || !d->name[first])
            continue;
        const struct osm_decl *taken = osm_map_getn(&e->names, d->name, first);
        if (taken || (first == 6 && !strncmp(d->name, "reject", 6)))
            return osm_fail(err, OSM_ELUA, "%s:%d: %s: \"%.*s\" is a name of its own, in %s",
                            d->module->path, d->line, d->name, (int)first, d->name,
                            taken && taken->module ? taken->module->path : "the host");
    }
    return 0;
}

/* Labels and annotations change often, and for others: a bundle in which neither word stands
 * anywhere, not even in a comment, does not see them, and their changes run nothing. To note each
 * read of them instead would need tables that are none. */
static void hide_unread_labels(struct osm_engine *e)
{
    for (size_t i = 0; i < e->modules_len; i++)
        if (strstr(e->modules[i].text, "labels") || strstr(e->modules[i].text, "annotations"))
            return;
    for (size_t i = 0; i < e->decls_len; i++)
        e->decls[i]->hides_labels = true;
}

int osm_bundle_link(struct osm_engine *e, struct osm_err *err)
{
    int rc = check_prefixes(e, err);
    hide_unread_labels(e);
    if (!rc)
        rc = osm_extend_link(e, err);
    for (size_t i = 0; i < e->decls_len && !rc; i++) {
        struct osm_decl *d = e->decls[i];
        if (d->type == OSM_DECL_INDEX)
            rc = link_index(e, d, err);
        if (d->type != OSM_DECL_EMIT)
            continue;
        d->each = osm_map_get(&e->names, d->each_name);
        if (!d->each)
            rc = unknown_name(e, d, "each", err);
        else if (d->each->type == OSM_DECL_FACT && d->each->params[0])
            rc = osm_fail(err, OSM_ELUA, "%s:%d: %s: each = \"%s\": this fact takes a key",
                          d->module->path, d->line, d->name, d->each_name);
    }
    return rc;
}
