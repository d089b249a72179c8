/* JSON patch (RFC 6902) as far as the injector uses it, and strict: what is replaced or removed,
 * and whatever a value is put into, must be there. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { JSON_PATCH_WHY = 512 };

static inline void json_patch_unescape(char *key)
{
    char *to = key;
    for (; *key; key++) {
        if (*key == '~') {
            key++;
            *to++ = *key == '1' ? '/' : '~';
        } else {
            *to++ = *key;
        }
    }
    *to = '\0';
}

static inline size_t json_patch_index(const json_t *array, const char *key)
{
    return !strcmp(key, "-") ? json_array_size(array) : (size_t)strtoul(key, NULL, 10);
}

static inline json_t *json_patch_step(json_t *at, const char *key)
{
    return json_is_object(at) ? json_object_get(at, key)
                              : json_array_get(at, json_patch_index(at, key));
}

static inline int json_patch_put(json_t *at, const char *key, const char *what, json_t *value)
{
    size_t index = json_patch_index(at, key);
    bool is_there = json_patch_step(at, key) != NULL;
    if (!strcmp(what, "remove"))
        return json_is_object(at) ? json_object_del(at, key) : json_array_remove(at, index);
    if (!strcmp(what, "replace") && !is_there)
        return -1;
    if (json_is_object(at))
        return json_object_set(at, key, value);
    return !strcmp(what, "replace") ? json_array_set(at, index, value)
                                    : json_array_insert(at, index, value);
}

static inline int json_patch_one(json_t *doc, const json_t *op)
{
    const char *what = json_string_value(json_object_get(op, "op"));
    const char *path = json_string_value(json_object_get(op, "path"));
    json_t *at = doc;
    char key[256];
    if (!what || !path || path[0] != '/')
        return -1;
    for (;;) {
        const char *next = strchr(path + 1, '/');
        (void)snprintf(key, sizeof key, "%.*s", next ? (int)(next - path - 1) : 255, path + 1);
        json_patch_unescape(key);
        if (!next)
            return json_patch_put(at, key, what, json_object_get(op, "value"));
        at = json_patch_step(at, key);
        path = next;
    }
}

/* The patched document, or NULL and why; @p doc stays. */
static inline json_t *json_patch(const json_t *doc, const json_t *ops, char why[JSON_PATCH_WHY])
{
    json_t *made = json_deep_copy(doc);
    size_t i;
    const json_t *op;
    json_array_foreach ((json_t *)(uintptr_t)ops, i, op) {
        json_t *own = json_deep_copy(op); /* its value is changed by later ones */
        int rc = json_patch_one(made, own);
        if (rc)
            (void)snprintf(why, JSON_PATCH_WHY, "operation %zu, at %.400s", i,
                           json_string_value(json_object_get(own, "path")));
        json_decref(own);
        if (rc) {
            json_decref(made);
            return NULL;
        }
    }
    return made;
}
