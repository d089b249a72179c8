/* Any bytes through the YAML reader; what is accepted is written and read again, and turned into an
 * object. What is JSON too, and read by both readers, means the same to both. */
#include "base/buf.h"
#include "base/check.h"
#include "base/yaml.h"
#include "model/object.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_and_read(const json_t *value)
{
    struct osm_yaml_docs docs = {NULL, 0};
    struct osm_buf text = OSM_BUF_INIT(64 << 20);
    OSM_REQUIRE(osm_yaml_write(&text, value) == 0);
    OSM_REQUIRE(osm_yaml_parse(text.data, text.len, &docs, NULL, NULL) == 0);
    OSM_REQUIRE(docs.len == 1 && json_equal(docs.list[0].value, value));
    osm_yaml_docs_clear(&docs);
    osm_buf_clear(&text);
}

/* Only to YAML a key "<<" is a merge, and a document that is null none. */
static void compare_with_json(const uint8_t *data, size_t size, const struct osm_yaml_docs *docs)
{
    json_t *json =
        json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
    if (json && !json_is_null(json) && !memmem(data, size, "<<", 2))
        OSM_REQUIRE(docs->len == 1 && json_equal(docs->list[0].value, json));
    json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct osm_yaml_docs docs = {NULL, 0};
    struct osm_yaml_place place = {0, 0};
    struct osm_err err = {0};
    int rc = osm_yaml_parse((const char *)data, size, &docs, &place, &err);
    OSM_REQUIRE(rc == 0 || rc == OSM_EPARSE || rc == OSM_ELIMIT);
    OSM_REQUIRE((rc == 0) == (err.code == 0));
    if (!rc)
        compare_with_json(data, size, &docs);
    for (size_t i = 0; i < docs.len; i++) {
        struct osm_object *object = NULL;
        write_and_read(docs.list[i].value);
        rc = osm_object_new(&object, json_incref(docs.list[i].value), "fuzz", &err);
        OSM_REQUIRE(rc == 0 || rc == OSM_EINVAL);
        osm_object_unref(object);
    }
    osm_yaml_docs_clear(&docs);
    return 0;
}
