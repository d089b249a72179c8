/* From the text of a schema to its compiled form. Every keyword is either understood or refused. */
#include "policy/kinds/schema_priv.h"

#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { STEP_MAX_BYTES = 100 }; /* of a name in a path: names of map entries are from outside */

struct osm_schema {
    struct osm__schema_node *root;
};

/* ---- paths ---- */

static void print_path(struct osm_buf *out, const struct osm__schema_at *at)
{
    if (!at)
        return;
    print_path(out, at->up);
    const char *more = at->name && strlen(at->name) > STEP_MAX_BYTES ? "..." : "";
    if (at->name && (!at->name[0] || at->name[strcspn(at->name, "./[]\" ")])) /* as a label's */
        (void)osm_buf_addf(out, "[\"%.*s%s\"]", (int)STEP_MAX_BYTES, at->name, more);
    else if (at->name)
        (void)osm_buf_addf(out, "%s%.*s%s", out->len ? "." : "", (int)STEP_MAX_BYTES, at->name,
                           more);
    else
        (void)osm_buf_addf(out, "[%zu]", at->index);
}

int osm__schema_fail(const struct osm__schema_at *at, struct osm_err *err, int code,
                     const char *fmt, ...)
{
    char what[320];
    struct osm_buf path = OSM_BUF_INIT(16 * 1024);
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    print_path(&path, at);
    if (path.len)
        (void)osm_fail(err, code, "%s: %s", path.data, what);
    else
        (void)osm_fail(err, code, "%s", what);
    osm_buf_clear(&path);
    return code;
}

/* ---- nodes ---- */

static struct osm__schema_node *node_new(void)
{
    struct osm__schema_node *node = osm_alloc(sizeof *node);
    if (node)
        *node = (struct osm__schema_node){
            .max_length = SIZE_MAX, .max_items = SIZE_MAX, .max_properties = SIZE_MAX};
    return node;
}

static void node_free(struct osm__schema_node *node);

static void nodes_clear(struct osm__schema_nodes *nodes)
{
    for (size_t i = 0; i < nodes->len; i++)
        node_free(nodes->list[i]);
    osm_free(nodes->list);
}

static void node_free(struct osm__schema_node *node)
{
    if (!node)
        return;
    for (size_t i = 0; i < node->properties_len; i++) {
        osm_free(node->properties[i].name);
        node_free(node->properties[i].node);
    }
    osm_free(node->properties);
    node_free(node->items);
    node_free(node->additional);
    node_free(node->negated);
    nodes_clear(&node->one_of);
    nodes_clear(&node->any_of);
    nodes_clear(&node->all_of);
    json_decref(node->required);
    json_decref(node->values);
    json_decref(node->default_value);
    json_decref(node->map_keys);
    osm_regex_free(node->regex);
    osm_free(node->pattern);
    osm_free(node);
}

const struct osm__schema_node *osm__schema_property(const struct osm__schema_node *node,
                                                    const char *name)
{
    for (size_t i = 0; i < node->properties_len; i++)
        if (!strcmp(node->properties[i].name, name))
            return node->properties[i].node;
    return NULL;
}

/* ---- keywords ---- */

struct compiler {
    const struct osm__schema_at *at;
    struct osm_err *err;
    int depth;
};

static int compile(struct compiler *c, const json_t *text, struct osm__schema_node **out);

static int wrong(struct compiler *c, const char *keyword, const char *wanted)
{
    return osm__schema_fail(c->at, c->err, OSM_EINVAL, "schema: %s: expected %s", keyword, wanted);
}

static int no_memory(struct compiler *c)
{
    return osm__schema_fail(c->at, c->err, OSM_ENOMEM, "schema: %s", osm_code_text(OSM_ENOMEM));
}

static int get_bool(struct compiler *c, const char *key, const json_t *value, bool *out)
{
    if (!json_is_boolean(value))
        return wrong(c, key, "a boolean");
    *out = json_is_true(value);
    return 0;
}

static int get_number(struct compiler *c, const char *key, const json_t *value, double *out,
                      bool *has)
{
    if (!json_is_number(value))
        return wrong(c, key, "a number");
    *out = json_number_value(value);
    *has = true;
    return 0;
}

static int get_size(struct compiler *c, const char *key, const json_t *value, size_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return wrong(c, key, "an integer of at least 0");
    *out = (size_t)json_integer_value(value);
    return 0;
}

static int get_copy(struct compiler *c, const json_t *value, json_t **out)
{
    *out = json_deep_copy(value);
    return *out ? 0 : no_memory(c);
}

static int get_type(struct compiler *c, const json_t *value, enum osm__schema_type *out)
{
    static const char *const names[] = {"",        "object", "array",  "string",
                                        "integer", "number", "boolean"};
    for (size_t i = 1; json_is_string(value) && i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i], json_string_value(value))) {
            *out = (enum osm__schema_type)i;
            return 0;
        }
    return wrong(c, "type", "one of object, array, string, integer, number, boolean");
}

static int get_names(struct compiler *c, const char *key, const json_t *value, json_t **out)
{
    size_t i;
    json_t *name;
    if (!json_is_array(value))
        return wrong(c, key, "a list of names");
    json_array_foreach (value, i, name)
        if (!json_is_string(name))
            return wrong(c, key, "a list of names");
    return get_copy(c, value, out);
}

static int get_properties(struct compiler *c, const json_t *value, struct osm__schema_node *node)
{
    if (!json_is_object(value))
        return wrong(c, "properties", "an object");
    const struct osm__schema_at *up = c->at;
    node->properties = osm_alloc_array(json_object_size(value), sizeof *node->properties);
    if (!node->properties)
        return no_memory(c);
    int rc = 0;
    json_t *object =
        (json_t *)(uintptr_t)value; /* jansson iterates through a pointer to non-const */
    for (void *it = json_object_iter(object); it && !rc; it = json_object_iter_next(object, it)) {
        struct osm__schema_property *p = &node->properties[node->properties_len];
        p->name = osm_strdup(json_object_iter_key(it));
        if (!p->name) {
            rc = no_memory(c);
            break;
        }
        node->properties_len++;
        struct osm__schema_at at = {up, p->name, 0};
        c->at = &at;
        rc = compile(c, json_object_iter_value(it), &p->node);
        c->at = up;
    }
    return rc;
}

static int get_nodes(struct compiler *c, const char *key, const json_t *value,
                     struct osm__schema_nodes *out)
{
    if (!json_is_array(value) || !json_array_size(value))
        return wrong(c, key, "a list of schemas");
    out->list = osm_alloc_array(json_array_size(value), sizeof *out->list);
    if (!out->list)
        return no_memory(c);
    for (size_t i = 0; i < json_array_size(value); i++) {
        int rc = compile(c, json_array_get(value, i), &out->list[i]);
        if (rc)
            return rc;
        out->len++;
    }
    return 0;
}

static int get_additional(struct compiler *c, const json_t *value, struct osm__schema_node *node)
{
    if (json_is_boolean(value)) {
        node->any_additional = json_is_true(value);
        node->closed = !node->any_additional;
        return 0;
    }
    return compile(c, value, &node->additional);
}

static int get_pattern(struct compiler *c, const json_t *value, struct osm__schema_node *node)
{
    struct osm_err why = {0};
    if (!json_is_string(value))
        return wrong(c, "pattern", "a regular expression");
    node->pattern = osm_strdup(json_string_value(value));
    if (!node->pattern)
        return no_memory(c);
    int rc = osm_regex_new(&node->regex, node->pattern, &why);
    return rc ? osm__schema_fail(c->at, c->err, rc, "schema: pattern: %s", why.msg) : 0;
}

static int get_format(struct compiler *c, const json_t *value, struct osm__schema_node *node)
{
    const char *format = json_string_value(value);
    if (!format)
        return wrong(c, "format", "a name");
    node->is_int32 = !strcmp(format, "int32");
    if (node->is_int32 || !strcmp(format, "int64") || !strcmp(format, "float") ||
        !strcmp(format, "double"))
        return 0;
    return osm__schema_fail(c->at, c->err, OSM_ENOTSUP, "schema: not supported: format %s", format);
}

static int get_list_type(struct compiler *c, const json_t *value, struct osm__schema_node *node)
{
    const char *type = json_string_value(value);
    node->is_set = type && !strcmp(type, "set");
    return node->is_set || (type && (!strcmp(type, "map") || !strcmp(type, "atomic")))
               ? 0
               : wrong(c, "x-kubernetes-list-type", "one of atomic, set, map");
}

static bool is_ignored(const char *key)
{
    static const char *const keys[] = {"description", "title", "example", "externalDocs",
                                       "x-kubernetes-map-type"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(key, keys[i]))
            return true;
    return false;
}

static int get_keyword(struct compiler *c, struct osm__schema_node *n, const char *key,
                       const json_t *value)
{
#define IS(name) (!strcmp(key, (name)))
    if (IS("type"))
        return get_type(c, value, &n->type);
    if (IS("properties"))
        return get_properties(c, value, n);
    if (IS("required"))
        return get_names(c, key, value, &n->required);
    if (IS("items"))
        return compile(c, value, &n->items);
    if (IS("additionalProperties"))
        return get_additional(c, value, n);
    if (IS("enum"))
        return json_is_array(value) && json_array_size(value) ? get_copy(c, value, &n->values)
                                                              : wrong(c, key, "a list of values");
    if (IS("default"))
        return get_copy(c, value, &n->default_value);
    if (IS("pattern"))
        return get_pattern(c, value, n);
    if (IS("format"))
        return get_format(c, value, n);
    if (IS("minimum"))
        return get_number(c, key, value, &n->minimum, &n->has_minimum);
    if (IS("maximum"))
        return get_number(c, key, value, &n->maximum, &n->has_maximum);
    if (IS("x-kubernetes-list-type"))
        return get_list_type(c, value, n);
    if (IS("x-kubernetes-list-map-keys"))
        return get_names(c, key, value, &n->map_keys);
    if (IS("oneOf"))
        return get_nodes(c, key, value, &n->one_of);
    if (IS("anyOf"))
        return get_nodes(c, key, value, &n->any_of);
    if (IS("allOf"))
        return get_nodes(c, key, value, &n->all_of);
    if (IS("not"))
        return compile(c, value, &n->negated);
    const struct {
        const char *name;
        bool *out;
    } flags[] = {{"nullable", &n->nullable},
                 {"exclusiveMinimum", &n->exclusive_minimum},
                 {"exclusiveMaximum", &n->exclusive_maximum},
                 {"x-kubernetes-preserve-unknown-fields", &n->preserve},
                 {"x-kubernetes-embedded-resource", &n->embedded},
                 {"x-kubernetes-int-or-string", &n->int_or_string}};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (IS(flags[i].name))
            return get_bool(c, key, value, flags[i].out);
    const struct {
        const char *name;
        size_t *out;
    } sizes[] = {{"minLength", &n->min_length},         {"maxLength", &n->max_length},
                 {"minItems", &n->min_items},           {"maxItems", &n->max_items},
                 {"minProperties", &n->min_properties}, {"maxProperties", &n->max_properties}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (IS(sizes[i].name))
            return get_size(c, key, value, sizes[i].out);
#undef IS
    return is_ignored(key)
               ? 0
               : osm__schema_fail(c->at, c->err, OSM_ENOTSUP, "schema: not supported: %s", key);
}

/* A default that its own schema refuses would make every object invalid that leaves it out. */
static int check_default(struct compiler *c, const struct osm__schema_node *node)
{
    json_t *copy = json_deep_copy(node->default_value), *replacement = NULL;
    struct osm_err why = {0};
    int rc = copy ? osm__schema_node_apply(node, copy, &replacement, false, &why) : OSM_ENOMEM;
    json_decref(replacement);
    json_decref(copy);
    return rc ? osm__schema_fail(c->at, c->err, rc, "schema: default: %s",
                                 copy ? why.msg : osm_code_text(rc))
              : 0;
}

static int compile(struct compiler *c, const json_t *text, struct osm__schema_node **out)
{
    if (!json_is_object(text))
        return osm__schema_fail(c->at, c->err, OSM_EINVAL, "schema: expected an object");
    if (c->depth >= OSM__SCHEMA_DEPTH)
        return osm__schema_fail(c->at, c->err, OSM_ELIMIT, "schema: more than %d deep",
                                OSM__SCHEMA_DEPTH);
    struct osm__schema_node *node = node_new();
    if (!node)
        return no_memory(c);
    int rc = 0;
    c->depth++;
    json_t *object = (json_t *)(uintptr_t)text;
    for (void *it = json_object_iter(object); it && !rc; it = json_object_iter_next(object, it))
        rc = get_keyword(c, node, json_object_iter_key(it), json_object_iter_value(it));
    if (!rc && node->default_value)
        rc = check_default(c, node);
    c->depth--;
    if (rc)
        node_free(node);
    else
        *out = node;
    return rc;
}

/* The API server knows these of every object, whatever the schema says of them. */
static int keep_own_keys(struct compiler *c, struct osm__schema_node *root)
{
    static const char *const keys[] = {"apiVersion", "kind", "metadata"};
    enum { N = sizeof keys / sizeof *keys };
    struct osm__schema_property *grown =
        osm_realloc_array(root->properties, root->properties_len + N, sizeof *grown);
    if (!grown)
        return no_memory(c);
    root->properties = grown;
    for (size_t k = 0; k < N; k++) {
        size_t i = 0;
        while (i < root->properties_len && strcmp(grown[i].name, keys[k]) != 0)
            i++;
        struct osm__schema_node *any = node_new();
        char *name = i < root->properties_len ? NULL : osm_strdup(keys[k]);
        if (!any || (i == root->properties_len && !name)) {
            node_free(any);
            osm_free(name);
            return no_memory(c);
        }
        any->preserve = true;
        if (i == root->properties_len) {
            grown[root->properties_len++] = (struct osm__schema_property){name, any};
        } else {
            node_free(grown[i].node);
            grown[i].node = any;
        }
    }
    return 0;
}

int osm_schema_new(struct osm_schema **out, const json_t *openapi, struct osm_err *err)
{
    struct compiler c = {.err = err};
    struct osm_schema *schema = osm_alloc(sizeof *schema);
    if (!schema)
        return no_memory(&c);
    int rc = compile(&c, openapi, &schema->root);
    if (!rc && schema->root->type != OSM__SCHEMA_OBJECT)
        rc = osm_fail(err, OSM_EINVAL, "schema: the root must be of type object");
    if (!rc)
        rc = keep_own_keys(&c, schema->root);
    if (rc)
        osm_schema_free(schema);
    else
        *out = schema;
    return rc;
}

void osm_schema_free(struct osm_schema *schema)
{
    if (!schema)
        return;
    node_free(schema->root);
    osm_free(schema);
}

int osm_schema_apply(const struct osm_schema *schema, json_t *value, struct osm_err *err)
{
    json_t *replacement = NULL; /* an object is changed in place */
    return osm__schema_node_apply(schema->root, value, &replacement, false, err);
}

int osm_schema_apply_tolerantly(const struct osm_schema *schema, json_t *value,
                                osm_schema_refused_fn *refused, void *ud, struct osm_err *err)
{
    return osm__schema_node_tolerate(schema->root, value, refused, ud, err);
}

int osm_schema_check(const struct osm_schema *schema, const json_t *value, bool *changes,
                     struct osm_err *err)
{
    return osm__schema_node_check(schema->root, value, changes, err);
}

int osm_schema_apply_lua(const struct osm_schema *schema, json_t *value, struct osm_err *err)
{
    json_t *replacement = NULL;
    return osm__schema_node_apply(schema->root, value, &replacement, true, err);
}

json_t *osm_schema_describe(const struct osm_schema *schema)
{
    return osm__schema_node_describe(schema->root);
}
