/* Any bytes through the YAML reader; what is accepted is written and read again, and turned into an
 * object. */
#include "base/buf.h"
#include "base/check.h"
#include "base/yaml.h"
#include "model/object.h"

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct osm_yaml_docs docs = {NULL, 0};
    struct osm_yaml_place place = {0, 0};
    struct osm_err err = {0};
    int rc = osm_yaml_parse((const char *)data, size, &docs, &place, &err);
    OSM_REQUIRE(rc == 0 || rc == OSM_EPARSE || rc == OSM_ELIMIT);
    OSM_REQUIRE((rc == 0) == (err.code == 0));
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
