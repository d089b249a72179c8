/* A matcher as JSON, a NUL, and the text of a request, asked of every kind of matcher. A matcher
 * that says yes where its opposite does too would let somebody guess. */
#include "base/check.h"
#include "whatif/match.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TEXT_MAX = 1 << 16 };

static void ask(json_t *matcher, const char *text)
{
    json_t *headers = json_pack("{s:s%}", "x-user", text, strlen(text));
    const struct osm_request http = {.principal = text,
                                     .port = 80,
                                     .method = "GET",
                                     .path = text,
                                     .host = text,
                                     .headers = headers},
                             tcp = {.principal = text, .port = 80};
    const struct osm_arrival arrival = {.address = text, .port = 80, .server_name = text};
    struct osm_buf out = OSM_BUF_INIT(TEXT_MAX);
    (void)osm_match_string(matcher, text);
    (void)osm_match_string(matcher, NULL);
    enum osm_tri is = osm_match_header(matcher, &http);
    json_t *opposite = json_is_object(matcher) ? json_deep_copy(matcher) : NULL;
    if (opposite && !json_object_get(matcher, "invert_match")) {
        (void)json_object_set_new(opposite, "invert_match", json_true());
        OSM_REQUIRE(is != OSM_YES || osm_match_header(opposite, &http) != OSM_YES);
    }
    json_decref(opposite);
    (void)osm_match_route(matcher, &http);
    (void)osm_match_host(matcher, &http);
    (void)osm_match_chain(matcher, &arrival);
    const json_t *policies = json_object_get(matcher, "policies"), *policy;
    const char *name;
    struct osm_verdict verdict = osm_match_rbac(matcher, &http);
    OSM_REQUIRE(!verdict.policy || json_object_get(policies, verdict.policy));
    (void)osm_match_rbac(matcher, &tcp);
    json_object_foreach ((json_t *)(uintptr_t)policies, name, policy) {
        (void)osm_match_principals(policy, &http);
        osm_match_describe_permissions(policy, &out);
        osm_match_describe_principals(policy, &out);
    }
    osm_buf_clear(&out);
    json_decref(headers);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *split = size ? memchr(data, 0, size) : NULL;
    if (!split)
        return 0;
    json_t *matcher = json_loadb((const char *)data, (size_t)(split - data), 0, NULL);
    char *text = strndup((const char *)split + 1, size - (size_t)(split + 1 - data));
    if (matcher)
        ask(matcher, text);
    free(text);
    json_decref(matcher);
    return 0;
}
