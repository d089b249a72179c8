/* A schema, a NUL, and a value, both as JSON. What a schema has accepted it accepts again and
 * leaves as it is. A look says what applying does, and touches nothing. */
#include "base/check.h"
#include "policy/kinds/schema.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(const struct osm_schema *schema, const json_t *value)
{
    struct osm_err looked = {0}, applied = {0};
    bool changes = false;
    json_t *before = json_deep_copy(value), *after = json_deep_copy(value);
    int rc = osm_schema_check(schema, value, &changes, &looked);
    OSM_REQUIRE(json_equal(before, value));
    int apply_rc = osm_schema_apply(schema, after, &applied);
    OSM_REQUIRE(changes ? !rc : rc == apply_rc && !strcmp(looked.msg, applied.msg));
    if (!apply_rc)
        OSM_REQUIRE(changes == !json_equal(before, after));
    json_decref(before);
    json_decref(after);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *split = size ? memchr(data, 0, size) : NULL;
    if (!split)
        return 0;
    json_t *openapi = json_loadb((const char *)data, (size_t)(split - data), 0, NULL);
    json_t *value = json_loadb((const char *)split + 1, size - (size_t)(split - data) - 1, 0, NULL);
    struct osm_schema *schema = NULL;
    struct osm_err err = {0};
    bool can = openapi && value && !osm_schema_new(&schema, openapi, &err);
    if (can)
        look(schema, value);
    if (can && !osm_schema_apply(schema, value, &err)) {
        json_t *copy = json_deep_copy(value);
        int rc = osm_schema_apply(schema, value, &err);
        OSM_REQUIRE(!rc);
        OSM_REQUIRE(!copy || json_equal(copy, value));
        json_decref(copy);
    }
    osm_schema_free(schema);
    json_decref(openapi);
    json_decref(value);
    return 0;
}
