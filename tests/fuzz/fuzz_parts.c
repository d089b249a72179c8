/* A type and the bytes of a resource, taken apart. Each element lies in the bytes; they are sorted,
 * and found by their names; nothing is left out. */
#include "base/check.h"
#include "xds/parts.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    enum osm_xds_type type = data[0] & 1 ? OSM_XDS_LDS : OSM_XDS_RDS;
    struct osm_bytes *body = osm_bytes_new((const char *)data + 1, size - 1);
    struct osm_parts parts;
    OSM_REQUIRE(body);
    const uint8_t *bytes = (const uint8_t *)osm_bytes_data(body);
    if (!osm_parts_of(&parts, type, body)) {
        size_t total = parts.around.len;
        for (size_t i = 0; i < parts.len; i++) {
            const struct osm_part *p = &parts.list[i], *found = osm_parts_find(&parts, p->name);
            OSM_REQUIRE(p->data >= bytes && p->data + p->len <= bytes + osm_bytes_len(body));
            OSM_REQUIRE(!i || strcmp(parts.list[i - 1].name, p->name) <= 0);
            OSM_REQUIRE(found && !strcmp(found->name, p->name));
            total += p->len + 2; /* at least a tag and a length */
        }
        OSM_REQUIRE(total <= osm_bytes_len(body));
    }
    osm_parts_clear(&parts);
    osm_bytes_unref(body);
    return 0;
}
