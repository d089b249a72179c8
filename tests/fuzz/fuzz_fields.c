/* Two values as JSON and a path, with a NUL between each. What a diff says leads to what differs,
 * and it says something exactly where the two are not equal; a path ends, and the form of it with
 * names leads to the same value. */
#include "base/check.h"
#include "whatif/fields.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FIELDS_MAX = 100000, PATH_MAX_BYTES = 1 << 16 };

static bool leads_to(const json_t *value, const char *path, const json_t *wanted)
{
    const json_t *found = NULL;
    int rc = osm_fields_at(value, path, &found);
    return !rc && json_equal((json_t *)(uintptr_t)found, (json_t *)(uintptr_t)wanted);
}

/* A name with a bracket in it may look like the end of a step. */
static bool has_brackets(const json_t *value)
{
    const char *key;
    json_t *member;
    size_t i;
    json_object_foreach ((json_t *)(uintptr_t)value, key, member)
        if (strchr(key, ']') || has_brackets(member))
            return true;
    json_array_foreach ((json_t *)(uintptr_t)value, i, member)
        if (has_brackets(member))
            return true;
    return json_is_string(value) && strchr(json_string_value(value), ']');
}

/* An index before the end is that of an element after the change. */
static bool leads_through_a_place(const char *path)
{
    struct osm_fields_step step;
    while (osm_fields_step(&path, &step) > 0)
        if (step.type == OSM_FIELDS_INDEX && *path)
            return true;
    return false;
}

static void compare(json_t *before, json_t *after)
{
    json_t *out = json_array(), *field;
    size_t more = 0, i;
    bool plain = !has_brackets(before) && !has_brackets(after);
    int rc = osm_fields_diff(before, after, "", out, FIELDS_MAX, &more);
    OSM_REQUIRE(rc == 0 || rc == OSM_ELIMIT);
    OSM_REQUIRE(rc || (json_array_size(out) > 0) == !json_equal(before, after));
    json_array_foreach (out, i, field) {
        const char *path = json_string_value(json_object_get(field, "path"));
        const char *change = json_string_value(json_object_get(field, "change"));
        const json_t *old = json_object_get(field, "before"),
                     *now = json_object_get(field, "after");
        OSM_REQUIRE(path && change);
        if (!strcmp(change, "moved"))
            continue; /* they are places */
        OSM_REQUIRE((old || now) && !(old && now && json_equal((json_t *)(uintptr_t)old, now)));
        OSM_REQUIRE(!plain || !now || leads_to(after, path, now));
        OSM_REQUIRE(!plain || now || leads_through_a_place(path) || leads_to(before, path, old));
    }
    json_decref(out);
}

static void follow(const json_t *value, const char *path)
{
    struct osm_buf normal = OSM_BUF_INIT(PATH_MAX_BYTES);
    struct osm_fields_step step;
    const char *at = path;
    const json_t *found = NULL;
    while (osm_fields_step(&at, &step) > 0)
        OSM_REQUIRE(at > path && at <= path + strlen(path));
    OSM_REQUIRE(osm_fields_within(path, path));
    int rc = osm_fields_at(value, path, &found);
    if (!osm_fields_normal(value, path, &normal) && !has_brackets(value))
        OSM_REQUIRE(!rc && leads_to(value, normal.data ? normal.data : "", found));
    osm_buf_clear(&normal);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *first = size ? memchr(data, 0, size) : NULL;
    const uint8_t *second = first ? memchr(first + 1, 0, size - (size_t)(first + 1 - data)) : NULL;
    if (!second)
        return 0;
    json_t *before = json_loadb((const char *)data, (size_t)(first - data), JSON_DECODE_ANY, NULL);
    json_t *after =
        json_loadb((const char *)first + 1, (size_t)(second - first) - 1, JSON_DECODE_ANY, NULL);
    char *path = strndup((const char *)second + 1, size - (size_t)(second + 1 - data));
    if (before && after) {
        compare(before, after);
        compare(after, before);
        compare(after, after);
        follow(after, path);
    }
    free(path);
    json_decref(before);
    json_decref(after);
    return 0;
}
