#include "xds/denial.h"

#include "base/buf.h"
#include "xds/wire.h"

#include "envoy/config/route/v3/route.pb-c.h"

#include <string.h>

enum { NAME_MAX_BYTES = 1 << 16 };

struct osm_resource *osm_denial_routes(const char *name)
{
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name(
        &envoy__config__route__v3__route_configuration__descriptor, "name");
    struct osm_buf out = OSM_BUF_INIT(NAME_MAX_BYTES);
    struct osm_resource *routes = NULL;
    osm_wire_put_bytes(&out, field->id, name, strlen(name));
    struct osm_bytes *body = out.failed ? NULL : osm_bytes_new(out.data, out.len);
    if (body)
        routes = osm_resource_new(name, body);
    osm_buf_clear(&out);
    return routes;
}
