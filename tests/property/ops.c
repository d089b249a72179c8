#include "property.h"

#include "base/yaml.h"

#include <string.h>

static struct op *append(struct ops *ops)
{
    if (ops->len == ops->cap) {
        ops->cap = ops->cap ? ops->cap * 2 : 64;
        ops->list = osm_realloc_array(ops->list, ops->cap, sizeof *ops->list);
        OSM_REQUIRE(ops->list);
    }
    ops->list[ops->len] = (struct op){0};
    return &ops->list[ops->len++];
}

void ops_put(struct ops *ops, json_t *body)
{
    struct op *op = append(ops);
    OSM_REQUIRE(body);
    op->type = OP_PUT;
    op->body = body;
}

void ops_delete(struct ops *ops, const char *key)
{
    struct op *op = append(ops);
    op->type = OP_DELETE;
    op->key = osm_strdup(key);
    OSM_REQUIRE(op->key);
}

void ops_add(struct ops *ops, enum op_type type)
{
    append(ops)->type = type;
}

void ops_copy(struct ops *ops, const struct ops *all, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        struct op *op = append(ops);
        *op = all->list[i];
        json_incref(op->body);
        if (op->key) {
            op->key = osm_strdup(op->key);
            OSM_REQUIRE(op->key);
        }
    }
}

void ops_clear(struct ops *ops)
{
    for (size_t i = 0; i < ops->len; i++) {
        json_decref(ops->list[i].body);
        osm_free(ops->list[i].key);
    }
    osm_free(ops->list);
    *ops = (struct ops){0};
}

struct osm_object *object_of(const json_t *body)
{
    struct osm_object *object = NULL;
    json_t *copy = json_deep_copy(body);
    OSM_REQUIRE(copy);
    return osm_object_new(&object, copy, "property", NULL) ? NULL : object;
}

static void print_deletion(const char *key, struct osm_buf *out)
{
    const char *kind = strchr(key, '/'), *ns = kind ? strchr(kind + 1, '/') : NULL;
    const char *name = ns ? strchr(ns + 1, '/') : NULL;
    if (name)
        (void)osm_buf_addf(out, "mesh:delete(\"%.*s\", \"%.*s\", \"%s\")\n", (int)(ns - kind - 1),
                           kind + 1, (int)(name - ns - 1), ns + 1, name + 1);
}

void ops_print(const struct ops *ops, struct osm_buf *out)
{
    for (size_t i = 0; i < ops->len; i++) {
        const struct op *op = &ops->list[i];
        bool opens = !i || ops->list[i - 1].type != OP_PUT;
        bool closes = i + 1 == ops->len || ops->list[i + 1].type != OP_PUT;
        switch (op->type) {
        case OP_PUT:
            (void)osm_buf_add_str(out, opens ? "mesh:apply [[\n" : "---\n");
            (void)osm_yaml_write(out, op->body);
            if (closes)
                (void)osm_buf_add_str(out, "]]\n");
            break;
        case OP_DELETE:
            print_deletion(op->key, out);
            break;
        case OP_SWAP:
            (void)osm_buf_add_str(out, "-- the other bundle\n");
            break;
        case OP_RUN:
            (void)osm_buf_add_str(out, "mesh:number() -- a run\n");
            break;
        default:
            break;
        }
    }
}
