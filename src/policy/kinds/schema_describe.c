/* A compiled schema as JSON, for annotations and the page of references. */
#include "policy/kinds/schema_priv.h"

#include <string.h>

static const char *const type_names[] = {
    [OSM__SCHEMA_ANY] = "any",         [OSM__SCHEMA_OBJECT] = "object",
    [OSM__SCHEMA_ARRAY] = "array",     [OSM__SCHEMA_STRING] = "string",
    [OSM__SCHEMA_INTEGER] = "integer", [OSM__SCHEMA_NUMBER] = "number",
    [OSM__SCHEMA_BOOLEAN] = "boolean",
};

static bool is_required(const struct osm__schema_node *node, const char *name)
{
    size_t i;
    json_t *each;
    json_array_foreach (node->required, i, each)
        if (json_is_string(each) && !strcmp(json_string_value(each), name))
            return true;
    return false;
}

static json_t *properties_of(const struct osm__schema_node *node)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < node->properties_len; i++) {
        const struct osm__schema_property *p = &node->properties[i];
        if (json_array_append_new(list, json_pack("{s:s, s:b, s:o}", "name", p->name, "required",
                                                  is_required(node, p->name), "schema",
                                                  osm__schema_node_describe(p->node)))) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *osm__schema_node_describe(const struct osm__schema_node *node)
{
    json_t *out =
        json_pack("{s:s}", "type", node->int_or_string ? "int-or-string" : type_names[node->type]);
    bool failed = !out;
    if (!failed && node->nullable)
        failed = json_object_set_new(out, "nullable", json_true()) != 0;
    if (!failed && node->values)
        failed = json_object_set(out, "enum", node->values) != 0;
    if (!failed && node->items)
        failed = json_object_set_new(out, "items", osm__schema_node_describe(node->items)) != 0;
    if (!failed && node->additional)
        failed = json_object_set_new(out, "additional",
                                     osm__schema_node_describe(node->additional)) != 0;
    if (!failed && node->properties_len)
        failed = json_object_set_new(out, "properties", properties_of(node)) != 0;
    if (!failed)
        return out;
    json_decref(out);
    return NULL;
}
