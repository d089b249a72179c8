/* Bytes as messages and JSON as messages. The first byte chooses: the lower bits the type, the
 * highest one which way round. What has been decoded and can be encoded again is stable: encoding
 * what comes back gives the same bytes. */
#include "base/check.h"
#include "policy/proto.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OUT_MAX = 16 << 20 };

static void go_round(const ProtobufCMessageDescriptor *type, json_t *json)
{
    struct osm_buf once = OSM_BUF_INIT(OUT_MAX), twice = OSM_BUF_INIT(OUT_MAX);
    json_t *back = NULL;
    struct osm_err err = {0};
    if (!osm_proto_encode_json(json, type, OSM_PROTO_RULES_IGNORED, &once, NULL, NULL, &err)) {
        int rc = osm_proto_decode(type, once.data ? once.data : "", once.len, &back, &err);
        OSM_REQUIRE(!rc);
        /* What is redacted does not come back. */
        if (!osm_proto_encode_json(back, type, OSM_PROTO_RULES_IGNORED, &twice, NULL, NULL, &err)) {
            char *text = json_dumps(back, JSON_ENCODE_ANY);
            OSM_REQUIRE(
                !text || strstr(text, "[redacted]") ||
                (once.len == twice.len && (!once.len || !memcmp(once.data, twice.data, once.len))));
            free(text);
        }
    }
    json_decref(back);
    osm_buf_clear(&once);
    osm_buf_clear(&twice);
}

static unsigned nibble(uint8_t c)
{
    return c >= 'a' ? c - 'a' + 10u : c - '0' + 0u;
}

static json_t *decode(const ProtobufCMessageDescriptor *type, bool hex, const uint8_t *data,
                      size_t size)
{
    struct osm_buf bytes = OSM_BUF_INIT(OUT_MAX);
    json_t *json = NULL;
    for (size_t i = 0; hex && i + 1 < size; i += 2)
        (void)osm_buf_add_char(&bytes,
                               (char)(uint8_t)(nibble(data[i]) << 4 | (nibble(data[i + 1]) & 15)));
    if (!hex)
        (void)osm_buf_add(&bytes, data, size);
    if (bytes.failed ||
        osm_proto_decode(type, bytes.data ? bytes.data : "", bytes.len, &json, NULL))
        json = NULL;
    osm_buf_clear(&bytes);
    return json;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const types[] = {"envoy.config.cluster.v3.Cluster",
                                        "envoy.config.endpoint.v3.ClusterLoadAssignment",
                                        "envoy.config.listener.v3.Listener",
                                        "envoy.config.route.v3.RouteConfiguration",
                                        "envoy.extensions.transport_sockets.tls.v3.Secret",
                                        "google.protobuf.Any",
                                        "google.protobuf.Struct",
                                        "envoy.admin.v3.CertificateDetails"};
    if (!size)
        return 0;
    const ProtobufCMessageDescriptor *type = osm_proto_find(types[data[0] & 7]);
    json_t *json = NULL;
    OSM_REQUIRE(type);
    if (data[0] >= 'a' && data[0] <= 'z')
        json = json_loadb((const char *)data + 1, size - 1, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    else
        json = decode(type, data[0] >= '0' && data[0] <= '9', data + 1, size - 1);
    if (json)
        go_round(type, json);
    json_decref(json);
    return 0;
}
