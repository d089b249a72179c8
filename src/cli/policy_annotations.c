/* `osm policy annotations`: LuaCATS files by which an editor's language server completes and checks
 * policies, made from the bundle and from what is compiled in.
 *
 *   OUT/.luarc.json          the server's settings; OUT is what the editor opens as its workspace
 *   OUT/.osm/mesh.lua        lua/meta/mesh.lua, and behind it what the bundle declares
 *   OUT/.osm/envoy.lua       every message of Envoy's API
 *   OUT/.osm/mesh/NAME.lua   the modules of the runtime, for require("mesh.NAME")
 *   OUT/.osm/spec/           what specs begin with, and what busted gives them
 *   OUT/.osm/policies/       the modules that OUT lies over
 *
 * The folder has a dot so that OUT can be a folder of policies: a bundle leaves it out. Nothing in
 * it names a place of this machine. */
#include "cli/policy_priv.h"

#include "policy/encode/proto_annotate.h"
#include "policy/files.h"
#include "policy/sandbox/runtime.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX_BYTES = 64 << 20 };

static const char SETTINGS[] = ".luarc.json";

/* --- pieces --- */

/* The lines of a text as a comment. */
static void add_comment(struct osm_buf *out, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, "\n");
        (void)osm_buf_addf(out, "---%s%.*s\n", n ? " " : "", (int)n, text);
        text += n + (text[n] == '\n');
    }
}

static const char *or_any(const char *type)
{
    return *type ? type : "any";
}

/* "function Reader.name(a, b) end" with the tags above it; tables for the parts of a dotted name.
 */
static void add_function(struct osm_buf *out, const char *table, const json_t *entry,
                         const char *overload)
{
    const json_t *params = json_object_get(entry, "params");
    const char *name = osm_json_text(entry, "name"), *module = osm_json_text(entry, "module");
    size_t i;
    json_t *each;
    for (const char *dot = strchr(name, '.'); dot; dot = strchr(dot + 1, '.')) {
        int n = (int)(dot - name);
        (void)osm_buf_addf(out, "%s.%.*s = %s.%.*s or {}\n", table, n, name, table, n, name);
    }
    add_comment(out, osm_json_text(entry, "text"));
    if (*module)
        (void)osm_buf_addf(out, "---\n--- %s\n", module);
    json_array_foreach (params, i, each) {
        const char *text = osm_json_text(each, "text");
        (void)osm_buf_addf(out, "---@param %s %s%s%s\n", osm_json_text(each, "name"),
                           or_any(osm_json_text(each, "type")), *text ? " # " : "", text);
    }
    json_array_foreach (json_object_get(entry, "returns"), i, each) {
        const char *text = osm_json_text(each, "text"), *as = osm_json_text(each, "name");
        (void)osm_buf_addf(out, "---@return %s%s%s%s%s\n", or_any(osm_json_text(each, "type")),
                           *as ? " " : "", as, *text ? " # " : "", text);
    }
    if (overload)
        (void)osm_buf_addf(out, "---@overload fun(): %s\n", overload);
    (void)osm_buf_addf(out, "function %s.%s(", table, name);
    json_array_foreach (params, i, each) {
        const char *param = osm_json_text(each, "name");
        (void)osm_buf_addf(out, "%s%.*s", i ? ", " : "", (int)strcspn(param, "?"), param);
    }
    (void)osm_buf_add_str(out, ") end\n\n");
}

/* --- objects --- */

static void add_object_class(struct osm_buf *out, const char *name, const json_t *schema,
                             bool is_root);

/* The type of a value with this schema; an object's class is called @p name. */
static void add_value_type(struct osm_buf *out, const char *name, const json_t *schema)
{
    const char *type = osm_json_text(schema, "type");
    const json_t *values = json_object_get(schema, "enum"),
                 *items = json_object_get(schema, "items");
    const json_t *additional = json_object_get(schema, "additional");
    size_t i;
    json_t *each;
    bool listed = false;
    json_array_foreach ((json_t *)(uintptr_t)values, i, each) {
        if (json_is_string(each)) {
            (void)osm_buf_addf(out, "%s\"%s\"", listed ? "|" : "", json_string_value(each));
            listed = true;
        }
    }
    if (listed)
        return;
    if (json_object_get(schema, "properties")) {
        (void)osm_buf_add_str(out, name);
    } else if (items) {
        bool one = !json_object_get(items, "enum") &&
                   strcmp(osm_json_text(items, "type"), "int-or-string") != 0;
        (void)osm_buf_add_str(out, one ? "" : "(");
        add_value_type(out, name, items);
        (void)osm_buf_add_str(out, one ? "[]" : ")[]");
    } else if (additional) {
        (void)osm_buf_add_str(out, "table<string, ");
        add_value_type(out, name, additional);
        (void)osm_buf_add_char(out, '>');
    } else {
        (void)osm_buf_add_str(out, !strcmp(type, "int-or-string") ? "integer|string"
                                   : !strcmp(type, "object")      ? "table"
                                   : !strcmp(type, "array")       ? "any[]"
                                                                  : type);
    }
}

/* The schema of the objects that a value holds, itself or in lists and maps. */
static const json_t *inner_object(const json_t *schema)
{
    while (schema && !json_object_get(schema, "properties")) {
        const json_t *items = json_object_get(schema, "items");
        schema = items ? items : json_object_get(schema, "additional");
    }
    return schema;
}

static void add_object_class(struct osm_buf *out, const char *name, const json_t *schema,
                             bool is_root)
{
    static const char *const given[] = {"apiVersion", "kind", "metadata"};
    size_t i;
    json_t *each;
    json_array_foreach (json_object_get(schema, "properties"), i, each) {
        const json_t *inner = inner_object(json_object_get(each, "schema"));
        char *below = osm_strf("%s.%s", name, osm_json_text(each, "name"));
        if (!below)
            out->failed = OSM_ENOMEM;
        else if (inner)
            add_object_class(out, below, inner, false);
        osm_free(below);
    }
    (void)osm_buf_addf(out, "---@class %s\n", name);
    if (is_root)
        (void)osm_buf_add_str(out, "---@field apiVersion string\n---@field kind string\n"
                                   "---@field metadata mesh.Metadata\n");
    json_array_foreach (json_object_get(schema, "properties"), i, each) {
        const char *field = osm_json_text(each, "name");
        const json_t *type = json_object_get(each, "schema");
        bool known = false;
        for (size_t k = 0; k < sizeof given / sizeof *given; k++)
            known = known || (is_root && !strcmp(given[k], field));
        bool plain = !field[strspn(field, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                          "0123456789_")];
        bool optional = !json_is_true(json_object_get(each, "required")) ||
                        json_is_true(json_object_get(type, "nullable"));
        char *below = osm_strf("%s.%s", name, field);
        if (!below)
            out->failed = OSM_ENOMEM;
        if (known || !below) {
            osm_free(below);
            continue;
        }
        if (plain)
            (void)osm_buf_addf(out, "---@field %s%s ", field, optional ? "?" : "");
        else
            (void)osm_buf_addf(out, "---@field [\"%s\"] %s", field, optional ? "nil|" : "");
        add_value_type(out, below, type);
        (void)osm_buf_add_char(out, '\n');
        osm_free(below);
    }
    (void)osm_buf_add_char(out, '\n');
}

/* --- mesh.lua --- */

static void add_kind(struct osm_buf *out, const json_t *kind)
{
    char *name = osm_strf("mesh.kind.%s", osm_json_text(kind, "name"));
    json_t *entry =
        name ? json_pack(
                   "{s:s, s:s, s:s, s:[{s:s, s:s, s:s}, {s:s, s:s, s:s}], s:[{s:s+, s:s, s:s}]}",
                   "name", osm_json_text(kind, "name"), "text", osm_json_text(kind, "text"),
                   "module", osm_json_text(kind, "module"), "params", "name", "namespace", "type",
                   "string", "text", "the name alone where the kind has no namespace", "name",
                   "name?", "type", "string", "text", "", "returns", "type", name, "?", "name", "",
                   "text", "nil where it is absent or rejected")
             : NULL;
    if (entry) {
        add_object_class(out, name, json_object_get(kind, "schema"), true);
        add_function(out, "Reader", entry, "[string, string][]");
    } else {
        out->failed = OSM_ENOMEM;
    }
    json_decref(entry);
    osm_free(name);
}

/* Without annotated keys any key will do. */
static void add_index(struct osm_buf *out, const json_t *index)
{
    const json_t *params = json_object_get(index, "params");
    json_t *entry = json_copy((json_t *)(uintptr_t)index);
    json_t *returns =
        json_pack("[{s:s++, s:s, s:s}]", "type", "mesh.kind.", osm_json_text(index, "of"), "[]",
                  "name", "", "text", "sorted by namespace, name");
    struct osm_buf tuple = OSM_BUF_INIT(1024);
    size_t i;
    json_t *each;
    (void)osm_buf_add_char(&tuple, '[');
    json_array_foreach (params, i, each)
        (void)osm_buf_addf(&tuple, "%s%s", i ? ", " : "", osm_json_text(each, "type"));
    (void)osm_buf_add_char(&tuple, ']');
    (void)osm_buf_add_str(&tuple, "[]");
    int rc = entry && returns && !tuple.failed ? 0 : -1;
    if (!rc)
        rc = json_object_set(entry, "returns", returns);
    if (!rc && !json_array_size(params))
        rc = json_object_set_new(
            entry, "params",
            json_pack("[{s:s, s:s, s:s}]", "name", "...", "type", "mesh.Key", "text", ""));
    if (rc)
        out->failed = OSM_ENOMEM;
    else
        add_function(out, "Reader", entry, json_array_size(params) ? tuple.data : "mesh.Key[][]");
    json_decref(returns);
    json_decref(entry);
    osm_buf_clear(&tuple);
}

static const char *field_type(const char *field, const char *message)
{
    static const struct {
        const char *field, *type;
    } types[] = {
        {"audience", "mesh.Audience"},
        {"service_port", "[string, string, integer]"},
        {"accounts", "string[]|\"any\""},
        {"targets", "integer[]?"},
        {"header_rule", "string?"},
        {"alone", "boolean?"},
        {"at", "mesh.At?"},
        {"authorises", "boolean?"},
        {"tags", "string[]?"},
        {"sans", "string[]?"},
    };
    if (!strcmp(field, "message"))
        return message;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(types[i].field, field))
            return types[i].type;
    return "string";
}

static void add_form(struct osm_buf *out, const json_t *form)
{
    const json_t *fields = json_object_get(form, "fields");
    const char *name = osm_json_text(form, "name");
    bool either = false; /* a header rule stands for the message */
    size_t i;
    json_t *each;
    json_array_foreach ((json_t *)(uintptr_t)fields, i, each)
        either = either || !strcmp(json_string_value(each), "header_rule");
    (void)osm_buf_addf(out, "---@class mesh.Out.%s\n", name);
    json_array_foreach ((json_t *)(uintptr_t)fields, i, each) {
        const char *field = json_string_value(each);
        (void)osm_buf_addf(out, "---@field %s%s %s\n", field,
                           either && !strcmp(field, "message") ? "?" : "",
                           field_type(field, osm_json_text(form, "message")));
    }
    (void)osm_buf_add_char(out, '\n');
    add_comment(out, osm_json_text(form, "text"));
    (void)osm_buf_addf(out, "---@param item mesh.Out.%s\nfunction Out.%s(item) end\n\n", name,
                       name);
}

/* What an extension of this point is given. */
static const char *point_type(const char *point)
{
    static const struct {
        const char *point, *type;
    } types[] = {
        {"cluster", "envoy.config.cluster.v3.Cluster"},
        {"listener", "envoy.config.listener.v3.Listener"},
        {"listener_filters", "mesh.Filters"},
        {"filter_chain", "envoy.config.listener.v3.FilterChain"},
        {"network_filters", "mesh.Filters"},
        {"http_connection_manager",
         "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"},
        {"http_filters", "mesh.Filters"},
        {"route_configuration", "envoy.config.route.v3.RouteConfiguration"},
        {"virtual_host", "envoy.config.route.v3.VirtualHost"},
        {"route", "envoy.config.route.v3.Route"},
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(types[i].point, point))
            return types[i].type;
    return "table";
}

static void add_points(struct osm_buf *out, const json_t *points)
{
    size_t i;
    const json_t *each;
    json_array_foreach (points, i, each)
        (void)osm_buf_addf(out,
                           "---@class mesh.Extension.%s: mesh.Extension\n"
                           "---@field run fun(mesh: mesh.Reader, it: %s, at: mesh.At) # %s\n\n",
                           osm_json_text(each, "name"), point_type(osm_json_text(each, "name")),
                           osm_json_text(each, "text"));
    (void)osm_buf_add_str(out, "---@class (exact) mesh.Extends\n");
    json_array_foreach (points, i, each)
        (void)osm_buf_addf(out, "---@field %s? mesh.Extension.%s\n", osm_json_text(each, "name"),
                           osm_json_text(each, "name"));
    (void)osm_buf_add_char(out, '\n');
}

static void add_mesh(struct osm_buf *out, const json_t *description)
{
    size_t i;
    json_t *each;
    for (const struct osm_runtime_module *t = osm_runtime_texts; t->name; t++)
        if (!strcmp(t->name, "mesh.lua"))
            (void)osm_buf_add(out, t->text, t->len);
    (void)osm_buf_addf(out,
                       "\n--- What follows is written by `osm policy annotations` for the "
                       "policies with the digest %s.\n\n",
                       osm_json_text(description, "digest"));
    json_array_foreach (json_object_get(description, "kinds"), i, each)
        add_kind(out, each);
    json_array_foreach (json_object_get(description, "indexes"), i, each)
        add_index(out, each);
    json_array_foreach (json_object_get(description, "facts"), i, each)
        add_function(out, "Reader", each, NULL);
    json_array_foreach (json_object_get(description, "rules"), i, each)
        add_function(out, "Reader", each, NULL);
    json_array_foreach (json_object_get(description, "out"), i, each)
        add_form(out, each);
    add_points(out, json_object_get(description, "points"));
}

/* --- files --- */

static int put(struct osm__written *w, const char *name, const struct osm_buf *text,
               struct osm_err *err)
{
    if (text->failed)
        return osm_fail(err, text->failed, "%s: %s", name, osm_code_text(text->failed));
    return osm__written_put(w, name, text->data ? text->data : "", text->len, err);
}

static int put_runtime(struct osm__written *w, struct osm_err *err)
{
    int rc = 0;
    for (const struct osm_runtime_module *r = osm_runtime_docs; r->name && !rc; r++) {
        char *name = osm_strf(".osm/mesh/%s.lua", strchr(r->name, '.') + 1);
        rc = name ? osm__written_put(w, name, r->text, r->len, err)
                  : osm_fail(err, OSM_ENOMEM, "out of memory");
        osm_free(name);
    }
    for (const struct osm_runtime_module *t = osm_runtime_texts; t->name && !rc; t++)
        if (!strcmp(t->name, "world.lua"))
            rc = osm__written_put(w, ".osm/spec/world.lua", t->text, t->len, err);
    for (const struct osm_runtime_module *t = osm_runtime_init; t->name && !rc; t++)
        if (t->name[0] == '.') /* the settings, and what busted declares */
            rc = osm__written_put(w, t->name, t->text, t->len, err);
    return rc;
}

/* The modules that lie below the author's: what they declare is known then, also where this folder
 * is looked at on another machine. */
static int put_modules(struct osm__written *w, const struct osm_policy_files *files,
                       struct osm_err *err)
{
    int rc = 0;
    for (size_t i = 0; i < files->len && !rc; i++) {
        const struct osm_policy_file *f = &files->list[i];
        const char *end = strrchr(f->path, '.');
        if (!f->text || !end || strcmp(end, ".lua") != 0 || osm__policy_has_file(w->dir, f->path))
            continue;
        char *name = osm_strf(".osm/policies/%s", f->path);
        rc = name ? osm__written_put(w, name, f->text, f->len, err)
                  : osm_fail(err, OSM_ENOMEM, "out of memory");
        osm_free(name);
    }
    return rc;
}

static int put_below(struct osm__written *w, const struct osm__dirs *dirs, struct osm_err *err)
{
    char full[PATH_MAX], own[PATH_MAX];
    struct osm_policy_files *files = NULL;
    const char **below = osm_alloc_array(dirs->len + 1, sizeof *below);
    size_t n = 0;
    bool is_there = realpath(w->dir, own) != NULL;
    if (!below)
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    for (size_t i = 0; i < dirs->len; i++)
        if (!is_there || !realpath(dirs->list[i], full) || strcmp(full, own) != 0)
            below[n++] = dirs->list[i];
    int rc = n ? osm_policy_files_read(&files, below, err) : 0;
    if (!rc && files)
        rc = put_modules(w, files, err);
    osm_policy_files_unref(files);
    osm_free(below);
    return rc;
}

int osm__annotations_put(struct osm__written *w, const struct osm__dirs *dirs,
                         const json_t *description, struct osm_err *err)
{
    struct osm_buf mesh = OSM_BUF_INIT(FILE_MAX_BYTES), envoy = OSM_BUF_INIT(FILE_MAX_BYTES);
    add_mesh(&mesh, description);
    int rc = put(w, ".osm/mesh.lua", &mesh, err);
    if (!rc && osm_proto_annotate(&envoy))
        rc = osm_fail(err, OSM_ENOMEM, "out of memory");
    if (!rc)
        rc = put(w, ".osm/envoy.lua", &envoy, err);
    if (!rc)
        rc = put_runtime(w, err);
    if (!rc)
        rc = put_below(w, dirs, err);
    osm_buf_clear(&mesh);
    osm_buf_clear(&envoy);
    return rc;
}

/* What is the author's own stays as it is; of settings it is said what they need. */
int osm__annotations_tell_kept(const struct osm__written *w, struct osm_err *err)
{
    size_t i;
    const json_t *path;
    int rc = 0;
    json_array_foreach (w->kept, i, path) {
        struct osm_buf text = OSM_BUF_INIT(FILE_MAX_BYTES);
        const char *name = json_string_value(path);
        char *full = osm_strf("%s/%s", w->dir, name);
        bool is_settings = !strcmp(name, SETTINGS);
        if (!full)
            rc = osm_fail(err, OSM_ENOMEM, "out of memory");
        else if (is_settings && !rc)
            rc = osm_buf_read_file(&text, full, err);
        if (rc)
            (void)0; /* told by the caller */
        else if (!is_settings)
            (void)printf("%s: is yours and stays as it is\n", full);
        else if (!text.data || !strstr(text.data, "\".osm\""))
            (void)printf("%s: is there and stays: add \".osm\" to its workspace.library\n", full);
        osm_free(full);
        osm_buf_clear(&text);
    }
    return rc;
}

int osm__policy_annotations(const struct osm_cli *cli, const struct osm__dirs *dirs)
{
    struct osm_err err = {0};
    struct osm__written w = {0};
    json_t *description = NULL;
    if (!cli->out_dir) {
        (void)fprintf(stderr,
                      "osm: policy annotations: --out DIR is missing: where the files go\n");
        return OSM_EXIT_USAGE;
    }
    int rc = osm__policy_describe(cli, dirs, &description, &err);
    if (!rc)
        rc = osm__written_open(&w, cli->out_dir, &err);
    if (!rc)
        rc = osm__annotations_put(&w, dirs, description, &err);
    if (!rc)
        rc = osm__written_finish(&w, &err);
    if (!rc)
        rc = osm__annotations_tell_kept(&w, &err);
    osm__written_clear(&w);
    json_decref(description);
    return rc ? osm__policy_complain(&err) : 0;
}
