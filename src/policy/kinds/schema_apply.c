/* A compiled schema against a value, in the API server's order: prune, default, then check. The
 * members of oneOf, anyOf, allOf and not only check. Where a node is closed nothing is pruned: what
 * it does not know is refused, for a mistyped field that is silently dropped may mean more than the
 * field that was meant. */
#include "policy/kinds/schema_priv.h"

#include "base/buf.h"
#include "base/map.h"
#include "base/nearest.h"

#include <math.h>
#include <string.h>

enum { IDENTITY_MAX_BYTES = 4 << 20 }; /* more than an API server stores of a whole object */

struct applier {
    struct osm_err *err;
    int depth;
    bool check_only, from_lua;
    bool *changes; /* not NULL: nothing is changed; set, and the walk stops, where it would be */
    osm_schema_refused_fn *refused; /* not NULL: is told of properties that are taken out */
    void *ud;
};

static int apply(struct applier *a, const struct osm__schema_node *n, json_t *value,
                 json_t **replacement, const struct osm__schema_at *at);

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "object";
    case JSON_ARRAY:
        return "array";
    case JSON_STRING:
        return "string";
    case JSON_INTEGER:
        return "integer";
    case JSON_REAL:
        return "number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "boolean";
    default:
        return "null";
    }
}

static int stop_at_change(struct applier *a)
{
    *a->changes = true;
    return OSM_EINVAL; /* nobody is told */
}

static int no_memory(struct applier *a, const struct osm__schema_at *at)
{
    return osm__schema_fail(at, a->err, OSM_ENOMEM, "%s", osm_code_text(OSM_ENOMEM));
}

/* ---- objects ---- */

/* What a property is checked by: its own schema, that of additional ones, or none; *keep: whether
 * it stays. */
static const struct osm__schema_node *node_of(const struct osm__schema_node *n, const char *name,
                                              bool *keep)
{
    const struct osm__schema_node *own = osm__schema_property(n, name);
    bool is_own_key = n->embedded && (!strcmp(name, "apiVersion") || !strcmp(name, "kind") ||
                                      !strcmp(name, "metadata"));
    *keep = own || n->additional || n->any_additional || n->preserve || is_own_key;
    return own ? own : n->additional;
}

/* What is unknown, and null where it may not be: that is the same as absent. Not so for an entry of
 * a map: its name says something too (a header that limits), which must not get lost; nor for what
 * only the forms below know. */
static bool is_pruned(const struct osm__schema_node *n, const struct osm__schema_node *own,
                      bool keep, const json_t *value)
{
    bool has_forms = n->any_of.len || n->one_of.len || n->all_of.len;
    bool null_matters = own ? own->nullable || own == n->additional : has_forms;
    return !keep || (json_is_null(value) && !null_matters);
}

static void prune(const struct osm__schema_node *n, json_t *object)
{
    void *next;
    for (void *it = json_object_iter(object); it; it = next) {
        bool keep;
        const struct osm__schema_node *own = node_of(n, json_object_iter_key(it), &keep);
        next = json_object_iter_next(object, it);
        if (is_pruned(n, own, keep, json_object_iter_value(it)))
            (void)json_object_del(object, json_object_iter_key(it));
    }
}

static int refuse_unknown(struct applier *a, const struct osm__schema_node *n, json_t *object,
                          const struct osm__schema_at *at)
{
    for (void *it = json_object_iter(object); it; it = json_object_iter_next(object, it)) {
        struct osm__schema_at here = {at, json_object_iter_key(it), 0};
        bool keep;
        (void)node_of(n, here.name, &keep);
        if (keep)
            continue;
        struct osm_nearest near = osm_nearest_start(here.name);
        for (size_t i = 0; i < n->properties_len; i++)
            osm_nearest_consider(&near, n->properties[i].name);
        return near.best ? osm__schema_fail(&here, a->err, OSM_EINVAL,
                                            "unknown field; did you mean %s?", near.best)
                         : osm__schema_fail(&here, a->err, OSM_EINVAL, "unknown field");
    }
    return 0;
}

static int add_defaults(struct applier *a, const struct osm__schema_node *n, json_t *object,
                        const struct osm__schema_at *at)
{
    for (size_t i = 0; i < n->properties_len; i++) {
        const struct osm__schema_property *p = &n->properties[i];
        if (!p->node->default_value || json_object_get(object, p->name))
            continue;
        if (a->changes)
            return stop_at_change(a);
        json_t *copy = json_deep_copy(p->node->default_value);
        if (json_object_set_new(object, p->name, copy))
            return no_memory(a, at);
    }
    return 0;
}

/* An object within an object says what it is, as any manifest does. */
static int check_embedded(struct applier *a, const json_t *object, const struct osm__schema_at *at)
{
    static const char *const texts[] = {"apiVersion", "kind"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct osm__schema_at here = {at, texts[i], 0};
        if (!json_string_length(json_object_get(object, texts[i])))
            return osm__schema_fail(&here, a->err, OSM_EINVAL, "must be a text that is not empty");
    }
    struct osm__schema_at here = {at, "metadata", 0};
    const json_t *metadata = json_object_get(object, here.name);
    return !metadata || json_is_object(metadata)
               ? 0
               : osm__schema_fail(&here, a->err, OSM_EINVAL, "expected object, got %s",
                                  type_name(metadata));
}

static int take_out(struct applier *a, json_t *object, const char *name)
{
    struct osm_err why = *a->err;
    *a->err = (struct osm_err){0};
    int rc = a->refused(a->ud, why.msg);
    (void)json_object_del(object, name);
    return rc;
}

static int apply_object(struct applier *a, const struct osm__schema_node *n, json_t *object,
                        const struct osm__schema_at *at)
{
    int rc = 0;
    size_t i;
    json_t *name;
    if (n->closed)
        rc = refuse_unknown(a, n, object, at);
    if (!rc && !a->check_only) {
        if (!a->changes)
            prune(n, object);
        rc = add_defaults(a, n, object, at);
    }
    void *next;
    for (void *it = json_object_iter(object); it && !rc; it = next) {
        bool keep;
        const struct osm__schema_node *own = node_of(n, json_object_iter_key(it), &keep);
        struct osm__schema_at here = {at, json_object_iter_key(it), 0};
        json_t *replacement = NULL;
        next = json_object_iter_next(object, it);
        if (a->changes && is_pruned(n, own, keep, json_object_iter_value(it)))
            return stop_at_change(a);
        if (!own)
            continue;
        rc = apply(a, own, json_object_iter_value(it), &replacement, &here);
        if (replacement && json_object_iter_set_new(object, it, replacement) && !rc)
            rc = no_memory(a, at);
        if (rc == OSM_EINVAL && a->refused && !a->check_only)
            rc = take_out(a, object, here.name);
    }
    json_array_foreach (n->required, i, name) {
        struct osm__schema_at here = {at, json_string_value(name), 0};
        if (!rc && !json_object_get(object, here.name))
            rc = osm__schema_fail(&here, a->err, OSM_EINVAL, "is required");
    }
    if (!rc && n->embedded)
        rc = check_embedded(a, object, at);
    if (!rc && json_object_size(object) < n->min_properties)
        rc = osm__schema_fail(at, a->err, OSM_EINVAL, "must have at least %zu properties",
                              n->min_properties);
    if (!rc && json_object_size(object) > n->max_properties)
        rc = osm__schema_fail(at, a->err, OSM_EINVAL, "must have at most %zu properties",
                              n->max_properties);
    return rc;
}

/* ---- lists ---- */

static int append_text(const char *text, size_t len, void *buf)
{
    return osm_buf_add(buf, text, len);
}

/* What must differ between the items of a list: the whole item, or its keys. */
static int identity_of(const struct osm__schema_node *n, const json_t *item, struct osm_buf *out)
{
    enum { FLAGS = JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS };
    size_t i;
    json_t *name;
    osm_buf_reset(out);
    if (n->is_set)
        return json_dump_callback(item, append_text, out, FLAGS) ? OSM_ENOMEM : 0;
    json_array_foreach (n->map_keys, i, name) {
        const json_t *value = json_object_get(item, json_string_value(name));
        if (value && json_dump_callback(value, append_text, out, FLAGS))
            return OSM_ENOMEM;
        (void)osm_buf_add_char(out, '\n'); /* no JSON text on one line holds it */
    }
    return out->failed;
}

static int check_unique(struct applier *a, const struct osm__schema_node *n, const json_t *list,
                        const struct osm__schema_at *at)
{
    struct osm_map seen = OSM_MAP_INIT; /* identity -> item */
    struct osm_buf text = OSM_BUF_INIT(IDENTITY_MAX_BYTES);
    size_t i;
    json_t *item;
    int rc = 0;
    json_array_foreach (list, i, item) {
        struct osm__schema_at here = {at, NULL, i};
        rc = identity_of(n, item, &text);
        if (!rc && osm_map_getn(&seen, text.data, text.len))
            rc = osm__schema_fail(&here, a->err, OSM_EINVAL, "is in the list already");
        else if (!rc)
            rc = osm_map_putn(&seen, text.data, text.len, item, NULL);
        if (rc)
            break;
    }
    if (rc && rc != OSM_EINVAL)
        rc = no_memory(a, at);
    osm_map_clear(&seen);
    osm_buf_clear(&text);
    return rc;
}

static int apply_array(struct applier *a, const struct osm__schema_node *n, json_t *list,
                       const struct osm__schema_at *at)
{
    int rc = 0;
    size_t len = json_array_size(list);
    if (len < n->min_items)
        return osm__schema_fail(at, a->err, OSM_EINVAL, "must have at least %zu items",
                                n->min_items);
    if (len > n->max_items)
        return osm__schema_fail(at, a->err, OSM_EINVAL, "must have at most %zu items",
                                n->max_items);
    for (size_t i = 0; i < len && !rc && n->items; i++) {
        struct osm__schema_at here = {at, NULL, i};
        json_t *replacement = NULL;
        rc = apply(a, n->items, json_array_get(list, i), &replacement, &here);
        if (replacement && json_array_set_new(list, i, replacement) && !rc)
            rc = no_memory(a, at);
    }
    if (!rc && (n->is_set || n->map_keys))
        rc = check_unique(a, n, list, at);
    return rc;
}

/* ---- scalars ---- */

static size_t code_points(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static int check_string(struct applier *a, const struct osm__schema_node *n, const json_t *value,
                        const struct osm__schema_at *at)
{
    const char *text = json_string_value(value);
    size_t len = code_points(text);
    if (len < n->min_length)
        return osm__schema_fail(at, a->err, OSM_EINVAL, "must be at least %zu characters long",
                                n->min_length);
    if (len > n->max_length)
        return osm__schema_fail(at, a->err, OSM_EINVAL, "must be at most %zu characters long",
                                n->max_length);
    if (n->regex && !osm_regex_matches(n->regex, text, json_string_length(value)))
        return osm__schema_fail(at, a->err, OSM_EINVAL, "does not match %s", n->pattern);
    return 0;
}

static int check_number(struct applier *a, const struct osm__schema_node *n, double value,
                        const struct osm__schema_at *at)
{
    if (n->has_minimum && (n->exclusive_minimum ? value <= n->minimum : value < n->minimum))
        return osm__schema_fail(at, a->err, OSM_EINVAL, "must be %s %.17g",
                                n->exclusive_minimum ? "more than" : "at least", n->minimum);
    if (n->has_maximum && (n->exclusive_maximum ? value >= n->maximum : value > n->maximum))
        return osm__schema_fail(at, a->err, OSM_EINVAL, "must be %s %.17g",
                                n->exclusive_maximum ? "less than" : "at most", n->maximum);
    if (n->is_int32 && (value < INT32_MIN || value > INT32_MAX))
        return osm__schema_fail(at, a->err, OSM_EINVAL, "must fit 32 bits");
    return 0;
}

/* 3.0 is an integer. It is replaced by 3, so that it is one for all who read it later. */
static bool as_integer(const json_t *value, json_int_t *out)
{
    if (json_is_integer(value)) {
        *out = json_integer_value(value);
        return true;
    }
    double d = json_is_real(value) ? json_real_value(value) : 0.5;
    if (floor(d) != d || fabs(d) > 0x1p53)
        return false;
    *out = (json_int_t)d;
    return true;
}

static int check_type(struct applier *a, const struct osm__schema_node *n, const json_t *value,
                      json_t **replacement, const struct osm__schema_at *at)
{
    static const char *const names[] = {"",        "object", "array",  "string",
                                        "integer", "number", "boolean"};
    json_int_t integer = 0;
    bool good = true;
    switch (n->type) {
    case OSM__SCHEMA_ANY:
        if (json_is_null(value))
            return osm__schema_fail(at, a->err, OSM_EINVAL, "must not be null");
        if (n->int_or_string && !json_is_string(value) && !as_integer(value, &integer))
            return osm__schema_fail(at, a->err, OSM_EINVAL, "expected integer or string, got %s",
                                    type_name(value));
        break;
    case OSM__SCHEMA_OBJECT:
        good = json_is_object(value);
        break;
    case OSM__SCHEMA_ARRAY:
        good = json_is_array(value);
        break;
    case OSM__SCHEMA_STRING:
        good = json_is_string(value);
        break;
    case OSM__SCHEMA_BOOLEAN:
        good = json_is_boolean(value);
        break;
    case OSM__SCHEMA_NUMBER:
        good = json_is_number(value);
        break;
    case OSM__SCHEMA_INTEGER:
        good = as_integer(value, &integer);
        break;
    }
    bool wants_integer = n->type == OSM__SCHEMA_INTEGER || n->int_or_string;
    if (good && wants_integer && json_is_real(value) && !a->check_only) {
        if (a->changes)
            return stop_at_change(a);
        *replacement = json_integer(integer);
        if (!*replacement)
            return no_memory(a, at);
    }
    if (!good)
        return osm__schema_fail(at, a->err, OSM_EINVAL, "expected %s, got %s", names[n->type],
                                type_name(value));
    return 0;
}

/* Lua has one empty table; the schema says whether it is a list or a map. */
static int replace_empty(struct applier *a, const struct osm__schema_node *n, const json_t *value,
                         json_t **replacement, const struct osm__schema_at *at)
{
    if (!a->from_lua)
        return 0;
    if (n->type == OSM__SCHEMA_OBJECT && json_is_array(value) && !json_array_size(value))
        *replacement = json_object();
    else if (n->type == OSM__SCHEMA_ARRAY && json_is_object(value) && !json_object_size(value))
        *replacement = json_array();
    else
        return 0;
    return *replacement ? 0 : no_memory(a, at);
}

static int check_enum(struct applier *a, const struct osm__schema_node *n, const json_t *value,
                      const struct osm__schema_at *at)
{
    size_t i;
    json_t *item;
    json_array_foreach (n->values, i, item)
        if (json_equal(item, value))
            return 0;
    struct osm_buf text = OSM_BUF_INIT(4096);
    (void)osm_buf_add_str(&text, "expected one of ");
    json_array_foreach (n->values, i, item) {
        (void)osm_buf_add_str(&text, i ? ", " : "");
        (void)json_dump_callback(item, append_text, &text, JSON_ENCODE_ANY | JSON_COMPACT);
    }
    if (json_is_string(value))
        (void)osm_buf_addf(&text, ", got \"%.80s\"", json_string_value(value));
    int rc = osm__schema_fail(at, a->err, OSM_EINVAL, "%s",
                              text.data ? text.data : "not one of the values that it may have");
    osm_buf_clear(&text);
    return rc;
}

/* ---- combinations ---- */

static size_t count_matches(struct applier *a, const struct osm__schema_nodes *nodes, json_t *value,
                            const struct osm__schema_at *at, struct osm_err *why)
{
    struct applier quiet = {
        .err = why, .depth = a->depth, .check_only = true, .from_lua = a->from_lua};
    size_t n = 0;
    for (size_t i = 0; i < nodes->len; i++) {
        json_t *none = NULL;
        n += !apply(&quiet, nodes->list[i], value, &none, at);
    }
    return n;
}

static int check_combinations(struct applier *a, const struct osm__schema_node *n, json_t *value,
                              const struct osm__schema_at *at)
{
    struct osm_err why = {0};
    size_t matches;
    if (n->all_of.len && count_matches(a, &n->all_of, value, at, &why) < n->all_of.len)
        return osm_fail(a->err, why.code, "%s", why.msg);
    if (n->any_of.len && !count_matches(a, &n->any_of, value, at, &why))
        return n->any_of.len == 1
                   ? osm_fail(a->err, why.code, "%s", why.msg)
                   : osm__schema_fail(at, a->err, OSM_EINVAL,
                                      "matches none of the %zu forms that it may have",
                                      n->any_of.len);
    if (n->one_of.len && (matches = count_matches(a, &n->one_of, value, at, &why)) != 1)
        return osm__schema_fail(at, a->err, OSM_EINVAL,
                                "must match exactly one of %zu forms, but matches %zu",
                                n->one_of.len, matches);
    struct osm__schema_nodes negated = {(struct osm__schema_node **)(uintptr_t)&n->negated,
                                        n->negated != NULL};
    if (count_matches(a, &negated, value, at, &why))
        return osm__schema_fail(at, a->err, OSM_EINVAL, "has a form that is not allowed");
    return 0;
}

static int apply(struct applier *a, const struct osm__schema_node *n, json_t *value,
                 json_t **replacement, const struct osm__schema_at *at)
{
    if (json_is_null(value) && n->nullable)
        return 0;
    if (a->depth >= OSM__SCHEMA_DEPTH)
        return osm__schema_fail(at, a->err, OSM_ELIMIT, "more than %d deep", OSM__SCHEMA_DEPTH);
    a->depth++;
    int rc = replace_empty(a, n, value, replacement, at);
    if (!rc && !*replacement)
        rc = check_type(a, n, value, replacement, at);
    json_t *now = *replacement ? *replacement : value;
    if (!rc && json_is_object(now))
        rc = apply_object(a, n, now, at);
    else if (!rc && json_is_array(now))
        rc = apply_array(a, n, now, at);
    else if (!rc && json_is_string(now))
        rc = check_string(a, n, now, at);
    else if (!rc && json_is_number(now))
        rc = check_number(a, n, json_number_value(now), at);
    if (!rc && n->values)
        rc = check_enum(a, n, now, at);
    if (!rc)
        rc = check_combinations(a, n, now, at);
    a->depth--;
    return rc;
}

int osm__schema_node_apply(const struct osm__schema_node *node, json_t *value, json_t **replacement,
                           bool from_lua, struct osm_err *err)
{
    struct applier a = {.err = err, .from_lua = from_lua};
    return apply(&a, node, value, replacement, NULL);
}

int osm__schema_node_tolerate(const struct osm__schema_node *node, json_t *value,
                              osm_schema_refused_fn *refused, void *ud, struct osm_err *err)
{
    struct applier a = {.err = err, .refused = refused, .ud = ud};
    json_t *replacement = NULL; /* an object is changed in place */
    return apply(&a, node, value, &replacement, NULL);
}

int osm__schema_node_check(const struct osm__schema_node *node, const json_t *value, bool *changes,
                           struct osm_err *err)
{
    struct applier a = {.err = err, .changes = changes};
    json_t *none = NULL;
    *changes = false;
    int rc = apply(&a, node, (json_t *)(uintptr_t)value, &none, NULL);
    return *changes ? 0 : rc;
}
