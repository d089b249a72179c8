/* What a loaded bundle offers, as JSON. Everything comes from the bundle itself: declarations from
 * the engine, names of parameters from the functions, types and texts from the doc comments above
 * them, so that nothing has to be written down twice. Beside name, text, module and line:
 *
 *   modules   types: [{"name", "line", "lines"}] that its comments declare; functions: what those
 *             who `require` it may call
 *   kinds     group, versions, schema (as osm_schema_describe, of the first version; or null)
 *   indexes   of; params: the parts of a key
 *   rules     params without `mesh`; a type is "" where the comment does not say it. A rule that is
 *             wrapped is told as it is written; who wraps it is in wraps
 *   wraps     name: of the rule
 *   points    form, varies: where the emitters let others join in
 *   extensions  name: of the point; varies, after, before, requires
 *   emitters  each
 *   out       message, fields
 *   runtime   functions: of a module of lua/mesh/ */
#include "policy/bundle/bundle.h"
#include "policy/bundle/doc.h"
#include "policy/bundle/extend.h"
#include "policy/emit/emit.h"
#include "policy/kinds/facts.h"
#include "policy/kinds/schema.h"
#include "policy/sandbox/runtime.h"
#include "policy/sandbox/sandbox.h"

#include <stdlib.h>
#include <string.h>

enum { PARAMS_MAX = 8 };

/* --- names of parameters --- */

struct question {
    int fn;      /* reference */
    json_t *out; /* of names */
};

static int l_parameters(lua_State *L)
{
    const struct question *q = lua_touserdata(L, 1);
    for (int i = 1; i <= PARAMS_MAX; i++) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, q->fn);
        const char *name = lua_getlocal(L, NULL, i);
        if (!name)
            break;
        if (json_array_append_new(q->out, json_string(name)))
            return luaL_error(L, "out of memory");
    }
    return 0;
}

/* The parameters of a function behind the first, with what the doc comment says of each. */
static json_t *parameters(struct osm_engine *e, int fn, const json_t *documented)
{
    struct question q = {fn, json_array()};
    json_t *params = json_array();
    bool failed = !q.out || !params || osm_lua_run(e, l_parameters, &q, NULL);
    for (size_t i = 1; !failed && i < json_array_size(q.out); i++) {
        const char *name = json_string_value(json_array_get(q.out, i));
        size_t k;
        json_t *said = NULL, *each;
        json_array_foreach ((json_t *)(uintptr_t)documented, k, each) {
            const char *other = json_string_value(json_object_get(each, "name"));
            size_t n = strlen(name);
            if (!strncmp(other, name, n) && (!other[n] || !strcmp(other + n, "?")))
                said = each;
        }
        failed = json_array_append_new(params, said ? json_incref(said)
                                                    : json_pack("{s:s, s:s, s:s}", "name", name,
                                                                "type", "", "text", "")) != 0;
    }
    json_decref(q.out);
    if (!failed)
        return params;
    json_decref(params);
    return NULL;
}

/* --- indexes: what a key is made of --- */

/* The types in "[string, integer][]"; an empty list where it is none. */
static json_t *tuple_types(const char *type)
{
    json_t *types = json_array();
    size_t n = strlen(type);
    bool tuple = n > 4 && type[0] == '[' && !strcmp(type + n - 3, "][]");
    for (const char *at = type + 1; types && tuple && at < type + n - 3;) {
        at += strspn(at, " ");
        size_t len = strcspn(at, ",]");
        if (json_array_append_new(types, json_stringn(at, len))) {
            json_decref(types);
            return NULL;
        }
        at += len + 1;
    }
    return types;
}

/* From "---@return [string, string][] # namespace, name" above the function `keys`. */
static json_t *key_parts(const json_t *returns)
{
    const json_t *first = json_array_get(returns, 0);
    const char *type = json_string_value(json_object_get(first, "type"));
    const char *names = json_string_value(json_object_get(first, "text"));
    json_t *types = tuple_types(type ? type : ""), *parts = json_array(), *each;
    bool failed = !types || !parts;
    size_t i;
    json_array_foreach (types, i, each) {
        size_t n = names ? strcspn(names, ", ;") : 0;
        char *numbered = n ? osm_strndup(names, n) : osm_strf("key%zu", i + 1);
        failed = failed || !numbered ||
                 json_array_append_new(parts, json_pack("{s:s, s:O, s:s}", "name", numbered, "type",
                                                        each, "text", ""));
        osm_free(numbered);
        if (names)
            names += n + strspn(names + n, ", ");
    }
    json_decref(types);
    if (!failed)
        return parts;
    json_decref(parts);
    return NULL;
}

/* --- one declaration --- */

/* The doc comment of a declaration, with name, module and line. */
static json_t *placed(const struct osm_decl *d, const char *word)
{
    int line = d->line;
    if (d->type != OSM_DECL_RULE)
        line = osm_doc_line_of(d->module->text, word, line);
    json_t *doc = osm_doc_above(d->module->text, line);
    if (doc && !json_object_set_new(doc, "name", json_string(d->name)) &&
        !json_object_set_new(doc, "module", json_string(d->module->path)) &&
        !json_object_set_new(doc, "line", json_integer(line)))
        return doc;
    json_decref(doc);
    return NULL;
}

/* Adds the members to a doc, which is taken; NULL where either is. */
static json_t *with(json_t *doc, json_t *members)
{
    if (doc && members && !json_object_update(doc, members)) {
        json_decref(members);
        return doc;
    }
    json_decref(doc);
    json_decref(members);
    return NULL;
}

static json_t *describe_kind(const struct osm_decl *d)
{
    json_t *versions = json_array();
    for (size_t i = 0; versions && d->versions[i]; i++) {
        if (json_array_append_new(versions, json_string(d->versions[i]))) {
            json_decref(versions);
            return NULL;
        }
    }
    return with(placed(d, d->name),
                json_pack("{s:s, s:o, s:o}", "group", d->group, "versions", versions, "schema",
                          d->schemas[0] ? osm_schema_describe(d->schemas[0]) : json_null()));
}

static json_t *describe_index(const struct osm_decl *d)
{
    json_t *keys = osm_doc_above(d->module->text, d->line);
    json_t *parts = key_parts(json_object_get(keys, "returns"));
    json_decref(keys);
    return with(placed(d, d->name), json_pack("{s:s, s:o}", "of", d->each_name, "params", parts));
}

/* A wrapped rule is called "grants of smi/access" in reports; it is asked for as "grants". */
static json_t *public_name(const struct osm_decl *d)
{
    return json_stringn(d->name, strcspn(d->name, " "));
}

static json_t *describe_rule(struct osm_engine *e, const struct osm_decl *d)
{
    json_t *doc = placed(d, d->name);
    json_t *params = parameters(e, d->fn, json_object_get(doc, "params"));
    return with(doc, json_pack("{s:o, s:o}", "name", public_name(d), "params", params));
}

static json_t *describe_emitter(const struct osm_decl *d)
{
    const char *dot = strrchr(d->name, '.'); /* "envoy/clusters.local_clusters" */
    return with(placed(d, dot ? dot + 1 : d->name), json_pack("{s:s}", "each", d->each_name));
}

/* --- joins --- */

static json_t *texts(char *const *list)
{
    json_t *out = json_array();
    for (size_t i = 0; out && list && list[i]; i++) {
        if (json_array_append_new(out, json_string(list[i]))) {
            json_decref(out);
            return NULL;
        }
    }
    return out;
}

static json_t *describe_join(const struct osm_join *j)
{
    return with(osm_doc_above(j->module->text, j->line),
                json_pack("{s:s, s:s, s:i, s:b, s:o, s:o, s:o}", "name", j->target, "module",
                          j->module->path, "line", j->line, "varies", j->vary != LUA_NOREF, "after",
                          texts(j->after), "before", texts(j->before), "requires",
                          texts(j->requires)));
}

/* --- all of them --- */

static const char *const lists[] = {
    [OSM_DECL_KIND] = "kinds", [OSM_DECL_INDEX] = "indexes", [OSM_DECL_FACT] = "facts",
    [OSM_DECL_RULE] = "rules", [OSM_DECL_EMIT] = "emitters",
};

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct osm_decl *const *)a)->name, (*(struct osm_decl *const *)b)->name);
}

static int add(json_t *out, const char *list, json_t *entry)
{
    json_t *entries = json_object_get(out, list);
    if (!entries) {
        entries = json_array();
        if (json_object_set_new(out, list, entries)) {
            json_decref(entry);
            return OSM_ENOMEM;
        }
    }
    return json_array_append_new(entries, entry) ? OSM_ENOMEM : 0;
}

static int describe_declarations(struct osm_engine *e, json_t *out)
{
    int rc = 0;
    struct osm_decl **sorted = osm_alloc_array(e->decls_len + 1, sizeof(struct osm_decl *));
    if (!sorted)
        return OSM_ENOMEM;
    for (size_t i = 0; i < e->decls_len; i++)
        sorted[i] = e->decls[i];
    qsort(sorted, e->decls_len, sizeof(struct osm_decl *), by_name);
    for (size_t i = 0; i < e->decls_len && !rc; i++) {
        const struct osm_decl *d = sorted[i];
        json_t *entry = NULL;
        if (d->original) /* a wrap, which is told as one */
            continue;
        switch (d->type) {
        case OSM_DECL_KIND:
            entry = describe_kind(d);
            break;
        case OSM_DECL_INDEX:
            entry = describe_index(d);
            break;
        case OSM_DECL_FACT:
            entry = osm_fact_describe(d);
            break;
        case OSM_DECL_RULE:
            entry = describe_rule(e, d);
            break;
        case OSM_DECL_EMIT:
            entry = describe_emitter(d);
            break;
        }
        rc = add(out, lists[d->type], entry);
    }
    osm_free(sorted);
    return rc;
}

static int describe_modules(const struct osm_engine *e, json_t *out)
{
    int rc = 0;
    for (size_t i = 0; i < e->modules_len && !rc; i++) {
        const struct osm_module *m = &e->modules[i];
        rc = add(out, "modules",
                 json_pack("{s:s, s:s, s:o, s:o, s:o}", "name", m->name, "path", m->path, "text",
                           osm_doc_head(m->text), "types", osm_doc_types(m->text), "functions",
                           osm_doc_functions(m->text)));
    }
    return rc;
}

static int describe_joins(const struct osm_engine *e, json_t *out)
{
    int rc = 0;
    for (const struct osm_point *p = osm_points; p->name && !rc; p++)
        rc = add(out, "points",
                 json_pack("{s:s, s:s, s:s, s:b}", "name", p->name, "text", p->text, "form",
                           p->form, "varies", p->varies));
    for (size_t i = 0; i < e->joins_len && !rc; i++)
        rc = add(out, e->joins[i]->type == OSM_JOIN_WRAPS ? "wraps" : "extensions",
                 describe_join(e->joins[i]));
    return rc;
}

static int describe_runtime(json_t *out)
{
    int rc = 0;
    for (const struct osm_runtime_module *r = osm_runtime_docs; r->name && !rc; r++)
        rc = add(out, "runtime",
                 json_pack("{s:s, s:o, s:o}", "name", r->name, "text", osm_doc_head(r->text),
                           "functions", osm_doc_functions(r->text)));
    return rc;
}

json_t *osm_engine_kinds(const struct osm_engine *e)
{
    json_t *kinds = json_array();
    for (size_t i = 0; kinds && i < e->decls_len; i++) {
        const struct osm_decl *d = e->decls[i];
        const char *dot = strchr(d->name, '.'); /* acme.Quota: a Quota in the manifests */
        json_t *versions = d->type == OSM_DECL_KIND ? json_array() : NULL;
        for (size_t n = 0; versions && d->versions[n]; n++)
            (void)json_array_append_new(versions, json_string(d->versions[n]));
        if (versions)
            (void)json_array_append_new(kinds, json_pack("{s:s, s:s, s:o}", "kind",
                                                         dot ? dot + 1 : d->name, "group", d->group,
                                                         "versions", versions));
    }
    return kinds;
}

int osm_engine_describe(struct osm_engine *e, json_t **out, struct osm_err *err)
{
    json_t *made = json_pack("{s:s, s:[], s:[], s:[], s:[], s:[], s:[], s:[], s:[]}", "digest",
                             e->files->digest, "modules", "kinds", "indexes", "facts", "rules",
                             "emitters", "wraps", "extensions");
    json_t *forms = osm_emit_describe();
    int rc = made && forms && !json_object_set(made, "out", forms) ? 0 : OSM_ENOMEM;
    json_decref(forms);
    if (!rc)
        rc = describe_modules(e, made);
    if (!rc)
        rc = describe_declarations(e, made);
    if (!rc)
        rc = describe_joins(e, made);
    if (!rc)
        rc = describe_runtime(made);
    if (rc) {
        json_decref(made);
        return osm_fail(err, e->abort ? OSM_ELUA : rc, "out of memory");
    }
    *out = made;
    return 0;
}
