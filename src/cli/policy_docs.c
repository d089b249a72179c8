/* `osm policy docs`: the page of all that a policy can ask and say, as Markdown: lua/meta/guide.md
 * and behind it what osm_engine_describe knows. policies/README.md is this page of the shipped
 * policies. -o json: the description itself. */
#include "cli/policy_priv.h"

#include "policy/sandbox/runtime.h"

#include <stdio.h>
#include <string.h>

enum { PAGE_MAX_BYTES = 16 << 20 };

static const json_t *list_of(const json_t *description, const char *list)
{
    return json_object_get(description, list);
}

static bool is_of(const json_t *entry, const char *module)
{
    return !strcmp(osm_json_text(entry, "module"), module);
}

/* A cell of a table: the first sentence on one line, no bar. */
static void add_cell(struct osm_buf *out, const char *text)
{
    for (const char *at = text; *at; at++) {
        if (at > text && at[-1] == '.' && (*at == ' ' || *at == '\n'))
            return;
        (void)osm_buf_addf(out, *at == '|' ? "\\%c" : "%c", *at == '\n' ? ' ' : *at);
    }
}

/* `name(a: string, b: integer): answer` */
static void add_signature(struct osm_buf *out, const char *prefix, const json_t *entry,
                          const char *answer)
{
    const json_t *params = json_object_get(entry, "params");
    const json_t *returns = json_object_get(entry, "returns");
    size_t i;
    json_t *each;
    (void)osm_buf_addf(out, "`%s%s(", prefix, osm_json_text(entry, "name"));
    json_array_foreach ((json_t *)(uintptr_t)params, i, each) {
        const char *type = osm_json_text(each, "type");
        (void)osm_buf_addf(out, "%s%s%s%s", i ? ", " : "", osm_json_text(each, "name"),
                           *type ? ": " : "", type);
    }
    (void)osm_buf_add_char(out, ')');
    if (answer)
        (void)osm_buf_addf(out, ": %s", answer);
    json_array_foreach ((json_t *)(uintptr_t)returns, i, each)
        if (!answer)
            (void)osm_buf_addf(out, "%s%s", i ? ", " : ": ", osm_json_text(each, "type"));
    (void)osm_buf_add_char(out, '`');
}

/* What is said of parameters and answers beyond their types. */
static void add_remarks(struct osm_buf *out, const json_t *entry)
{
    size_t i;
    json_t *each;
    json_array_foreach (json_object_get(entry, "params"), i, each)
        if (*osm_json_text(each, "text"))
            (void)osm_buf_addf(out, " `%s`: %s.", osm_json_text(each, "name"),
                               osm_json_text(each, "text"));
    json_array_foreach (json_object_get(entry, "returns"), i, each)
        if (*osm_json_text(each, "text"))
            (void)osm_buf_addf(out, " Answer: %s.", osm_json_text(each, "text"));
}

static void add_text(struct osm_buf *out, const char *text)
{
    for (; *text; text++)
        (void)osm_buf_add_char(out, *text == '\n' ? ' ' : *text);
}

/* --- the table of names --- */

static void add_names(struct osm_buf *out, const json_t *description, const char *list,
                      const char *what)
{
    size_t i;
    json_t *each;
    json_array_foreach ((json_t *)(uintptr_t)list_of(description, list), i, each) {
        const char *module = osm_json_text(each, "module");
        (void)osm_buf_addf(out, "| `%s` | %s | ", osm_json_text(each, "name"), what);
        if (*module)
            (void)osm_buf_addf(out, "[%s](%s) | ", module, module);
        else
            (void)osm_buf_add_str(out, "the host | ");
        add_cell(out, osm_json_text(each, "text"));
        (void)osm_buf_add_str(out, " |\n");
    }
}

/* --- a module --- */

static void add_kinds(struct osm_buf *out, const json_t *description, const char *module)
{
    size_t i, k;
    json_t *each, *version;
    json_array_foreach ((json_t *)(uintptr_t)list_of(description, "kinds"), i, each) {
        const char *group = osm_json_text(each, "group");
        if (!is_of(each, module))
            continue;
        (void)osm_buf_addf(out, "* kind `mesh.%s(namespace, name)`: %s%s",
                           osm_json_text(each, "name"), *group ? group : "the core group", ", ");
        json_array_foreach (json_object_get(each, "versions"), k, version)
            (void)osm_buf_addf(out, "%s%s", k ? ", " : "", json_string_value(version));
        (void)osm_buf_add_str(out, ". ");
        add_text(out, osm_json_text(each, "text"));
        (void)osm_buf_add_char(out, '\n');
    }
}

static void add_indexes(struct osm_buf *out, const json_t *description, const char *module)
{
    size_t i;
    json_t *each;
    json_array_foreach ((json_t *)(uintptr_t)list_of(description, "indexes"), i, each) {
        char *answer = osm_strf("%s[]", osm_json_text(each, "of"));
        if (is_of(each, module)) {
            (void)osm_buf_add_str(out, "* index ");
            add_signature(out, "mesh.", each, answer);
            (void)osm_buf_add_str(out, ": ");
            add_text(out, osm_json_text(each, "text"));
            (void)osm_buf_add_char(out, '\n');
        }
        osm_free(answer);
    }
}

static void add_rules(struct osm_buf *out, const json_t *description, const char *module)
{
    size_t i;
    json_t *each;
    json_array_foreach ((json_t *)(uintptr_t)list_of(description, "rules"), i, each) {
        if (!is_of(each, module))
            continue;
        (void)osm_buf_add_str(out, "* rule ");
        add_signature(out, "mesh.", each, NULL);
        (void)osm_buf_add_str(out, ": ");
        add_text(out, osm_json_text(each, "text"));
        add_remarks(out, each);
        (void)osm_buf_add_char(out, '\n');
    }
}

static void add_emitters(struct osm_buf *out, const json_t *description, const char *module)
{
    size_t i;
    json_t *each;
    json_array_foreach ((json_t *)(uintptr_t)list_of(description, "emitters"), i, each) {
        const char *name = osm_json_text(each, "name"), *dot = strchr(name, '.');
        if (!is_of(each, module))
            continue;
        (void)osm_buf_addf(out, "* emitter `%s`, for each of `%s`%s", dot ? dot + 1 : name,
                           osm_json_text(each, "each"), *osm_json_text(each, "text") ? ": " : "");
        add_text(out, osm_json_text(each, "text"));
        (void)osm_buf_add_char(out, '\n');
    }
}

static void add_names_of(struct osm_buf *out, const char *label, const json_t *names)
{
    size_t i;
    json_t *each;
    json_array_foreach ((json_t *)(uintptr_t)names, i, each)
        (void)osm_buf_addf(out, "%s`%s`", i ? ", " : label, json_string_value(each));
}

/* What a module adds to the work of others. */
static void add_joins(struct osm_buf *out, const json_t *description, const char *module,
                      const char *list, const char *does)
{
    size_t i;
    json_t *each;
    json_array_foreach ((json_t *)(uintptr_t)list_of(description, list), i, each) {
        if (!is_of(each, module))
            continue;
        (void)osm_buf_addf(out, "* %s `%s`", does, osm_json_text(each, "name"));
        add_names_of(out, ", after ", json_object_get(each, "after"));
        add_names_of(out, ", before ", json_object_get(each, "before"));
        add_names_of(out, ", requires ", json_object_get(each, "requires"));
        (void)osm_buf_add_str(out, *osm_json_text(each, "text") ? ": " : "");
        add_text(out, osm_json_text(each, "text"));
        (void)osm_buf_add_char(out, '\n');
    }
}

static void add_types(struct osm_buf *out, const json_t *module)
{
    const json_t *types = json_object_get(module, "types");
    size_t i, k;
    json_t *each, *line;
    if (!json_array_size(types))
        return;
    (void)osm_buf_add_str(out, "\n```lua\n");
    json_array_foreach ((json_t *)(uintptr_t)types, i, each) {
        if (i)
            (void)osm_buf_add_char(out, '\n');
        json_array_foreach (json_object_get(each, "lines"), k, line)
            (void)osm_buf_addf(out, "%s\n", json_string_value(line));
    }
    (void)osm_buf_add_str(out, "```\n");
}

static void add_functions(struct osm_buf *out, const json_t *module)
{
    size_t i;
    json_t *each;
    json_array_foreach (json_object_get(module, "functions"), i, each) {
        (void)osm_buf_add_str(out, "* function ");
        add_signature(out, "", each, NULL);
        (void)osm_buf_add_str(out, *osm_json_text(each, "text") ? ": " : "");
        add_text(out, osm_json_text(each, "text"));
        add_remarks(out, each);
        (void)osm_buf_add_char(out, '\n');
    }
}

static void add_module(struct osm_buf *out, const json_t *description, const json_t *module)
{
    const char *path = osm_json_text(module, "path");
    (void)osm_buf_addf(out, "\n### [%s](%s)\n\n", path, path);
    (void)osm_buf_addf(out, "%s\n\n", osm_json_text(module, "text"));
    size_t before = out->len;
    add_kinds(out, description, path);
    add_indexes(out, description, path);
    add_rules(out, description, path);
    add_emitters(out, description, path);
    add_joins(out, description, path, "extensions", "extends");
    add_joins(out, description, path, "wraps", "wraps");
    if (out->len == before)
        (void)osm_buf_addf(out, "Declares nothing; other modules call it: `require(\"%s\")`.\n\n",
                           osm_json_text(module, "name"));
    add_functions(out, module);
    add_types(out, module);
}

/* --- what the host gives --- */

static void add_facts(struct osm_buf *out, const json_t *description)
{
    size_t i;
    json_t *each;
    (void)osm_buf_add_str(out,
                          "\n## Facts of the host\n\nDerived from Services, pods and endpoints, "
                          "and asked for like all else.\n\n");
    json_array_foreach ((json_t *)(uintptr_t)list_of(description, "facts"), i, each) {
        (void)osm_buf_add_str(out, "* ");
        add_signature(out, "mesh.", each, NULL);
        (void)osm_buf_addf(out, ": %s\n", osm_json_text(each, "text"));
    }
}

static void add_forms(struct osm_buf *out, const json_t *description)
{
    size_t i, k;
    json_t *each, *field;
    (void)osm_buf_add_str(
        out,
        "\n## What an emitter says\n\nEach call takes one table. `audience` says which proxies are "
        "told: \"everyone\", or a list of terms such as `{ account = \"shop/cart\" }`.\n\n");
    json_array_foreach ((json_t *)(uintptr_t)list_of(description, "out"), i, each) {
        const char *message = osm_json_text(each, "message");
        (void)osm_buf_addf(out, "* `out.%s { ", osm_json_text(each, "name"));
        json_array_foreach (json_object_get(each, "fields"), k, field)
            (void)osm_buf_addf(out, "%s%s", k ? ", " : "", json_string_value(field));
        (void)osm_buf_addf(out, " }`%s%s%s: %s\n", *message ? " with `" : "", message,
                           *message ? "`" : "", osm_json_text(each, "text"));
    }
}

static void add_points(struct osm_buf *out, const json_t *description)
{
    size_t i, k;
    json_t *point, *each;
    (void)osm_buf_add_str(out, "\n## Extension points\n\nWhere another module joins in, by name: "
                               "`M.extends = { <point> = { "
                               "run = function(mesh, it, at) ... end } }`. `at` is what the "
                               "emitter says of the place. Where "
                               "accounts may get variants, `vary = function(mesh, at)` answers `{ "
                               "[\"namespace/account\"] = "
                               "variant }`, and `run` finds the variant in `at.variant`.\n\n");
    json_array_foreach ((json_t *)(uintptr_t)list_of(description, "points"), i, point) {
        const char *name = osm_json_text(point, "name");
        bool any = false;
        (void)osm_buf_addf(
            out, "* `%s` of `out.%s`: %s%s", name, osm_json_text(point, "form"),
            osm_json_text(point, "text"),
            json_is_true(json_object_get(point, "varies")) ? "; accounts may get variants" : "");
        json_array_foreach ((json_t *)(uintptr_t)list_of(description, "extensions"), k, each) {
            if (strcmp(osm_json_text(each, "name"), name) != 0)
                continue;
            (void)osm_buf_addf(out, "%s[%s](%s)", any ? ", " : ". Extended by ",
                               osm_json_text(each, "module"), osm_json_text(each, "module"));
            any = true;
        }
        (void)osm_buf_add_char(out, '\n');
    }
}

static void add_runtime(struct osm_buf *out, const json_t *description)
{
    size_t i;
    json_t *module;
    (void)osm_buf_add_str(out, "\n## Helpers of the runtime\n");
    json_array_foreach ((json_t *)(uintptr_t)list_of(description, "runtime"), i, module) {
        (void)osm_buf_addf(out, "\n### `require(\"%s\")`\n\n%s\n\n", osm_json_text(module, "name"),
                           osm_json_text(module, "text"));
        add_functions(out, module);
    }
}

static void add_page(struct osm_buf *out, const json_t *description)
{
    size_t i;
    json_t *each;
    for (const struct osm_runtime_module *t = osm_runtime_texts; t->name; t++)
        if (!strcmp(t->name, "guide.md"))
            (void)osm_buf_add(out, t->text, t->len);
    (void)osm_buf_add_str(
        out, "\n## Names that can be asked for\n\n| mesh. | is | of | says |\n|---|---|---|---|\n");
    add_names(out, description, "kinds", "kind");
    add_names(out, description, "indexes", "index");
    add_names(out, description, "facts", "fact");
    add_names(out, description, "rules", "rule");
    add_facts(out, description);
    (void)osm_buf_add_str(out, "\n## Modules\n");
    json_array_foreach ((json_t *)(uintptr_t)list_of(description, "modules"), i, each)
        add_module(out, description, each);
    add_forms(out, description);
    add_points(out, description);
    add_runtime(out, description);
}

int osm__policy_docs(const struct osm_cli *cli, const struct osm__dirs *dirs)
{
    struct osm_err err = {0};
    struct osm_buf page = OSM_BUF_INIT(PAGE_MAX_BYTES);
    json_t *description = NULL;
    int rc = osm__policy_describe(cli, dirs, &description, &err);
    if (!rc && cli->output && !strcmp(cli->output, "json")) {
        rc = json_dumpf(description, stdout, JSON_INDENT(2));
        (void)putchar('\n');
    } else if (!rc) {
        add_page(&page, description);
        rc = page.failed;
        if (!rc)
            (void)fwrite(page.data, 1, page.len, stdout);
    }
    if (rc && !err.code)
        (void)osm_fail(&err, OSM_EIO, "the page: %s", osm_code_text(page.failed));
    if (!rc && (fflush(stdout) || ferror(stdout))) /* a long page is written before the flush */
        rc = osm_fail(&err, OSM_EIO, "the page cannot be written");
    osm_buf_clear(&page);
    json_decref(description);
    return rc ? osm__policy_complain(&err) : 0;
}
