#include "engine_world.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>

static _Noreturn void give_up(const char *why)
{
    (void)fprintf(stderr, "bench: %s\n", why);
    exit(1);
}

static struct osm_object *object(json_t *body)
{
    struct osm_err err = {0};
    struct osm_object *made = NULL;
    if (!body)
        give_up("out of memory");
    if (osm_object_new(&made, body, "bench", &err))
        give_up(err.msg);
    return made;
}

static json_t *text(const char *fmt, size_t i)
{
    char out[64];
    (void)snprintf(out, sizeof out, fmt, i);
    return json_string(out);
}

static json_t *space_of(size_t i)
{
    return text("n%zu", i / BENCH_SPACE);
}

static json_t *address(unsigned net, size_t i)
{
    return json_sprintf("%u.%u.%u.%u", net, (unsigned)(i >> 16) & 255, (unsigned)(i >> 8) & 255,
                        (unsigned)i & 255);
}

struct osm_object *bench_namespace(size_t space)
{
    return object(json_pack("{s:s, s:s, s:{s:o, s:{s:s}}}", "apiVersion", "v1", "kind", "Namespace",
                            "metadata", "name", text("n%zu", space), "labels",
                            "openservicemesh.io/monitored-by", "osm"));
}

struct osm_object *bench_service(size_t i, size_t number, const char *note)
{
    return object(
        json_pack("{s:s, s:s, s:{s:o, s:o, s:{s:s*}}, s:{s:o, s:{s:o}, s:[{s:s, s:i, s:i}]}}",
                  "apiVersion", "v1", "kind", "Service", "metadata", "name", text("s%zu", i),
                  "namespace", space_of(i), "labels", "note", note, "spec", "clusterIP",
                  address(10, number), "selector", "app", text("s%zu", i), "ports", "name", "http",
                  "port", BENCH_PORT, "targetPort", BENCH_POD_PORT));
}

struct osm_object *bench_pod(size_t i, size_t number)
{
    return object(json_pack(
        "{s:s, s:s, s:{s:o, s:o, s:{s:o, s:o}}, s:{s:o, s:[{s:s}]}, s:{s:s, s:o}}", "apiVersion",
        "v1", "kind", "Pod", "metadata", "name", text("p%zu", i), "namespace", space_of(i),
        "labels", "app", text("s%zu", i), "osm-proxy-uuid",
        text("00000000-0000-4000-8000-%012zx", i), "spec", "serviceAccountName", text("a%zu", i),
        "containers", "name", "c", "status", "phase", "Running", "podIP", address(11, number)));
}

struct osm_object *bench_replica(size_t i, size_t replica)
{
    char name[64], uuid[64];
    (void)snprintf(name, sizeof name, "p%zu-%zu", i, replica);
    (void)snprintf(uuid, sizeof uuid, "00000000-0000-4000-8%03zx-%012zx", replica, i);
    return object(
        json_pack("{s:s, s:s, s:{s:s, s:o, s:{s:o, s:s}}, s:{s:o, s:[{s:s}]}, s:{s:s, s:o}}",
                  "apiVersion", "v1", "kind", "Pod", "metadata", "name", name, "namespace",
                  space_of(i), "labels", "app", text("s%zu", i), "osm-proxy-uuid", uuid, "spec",
                  "serviceAccountName", text("a%zu", i), "containers", "name", "c", "status",
                  "phase", "Running", "podIP", address(20 + (unsigned)replica, i)));
}

struct osm_object *bench_group(size_t i)
{
    return object(json_pack(
        "{s:s, s:s, s:{s:o, s:o}, s:{s:[{s:s, s:s, s:[s]}, {s:s, s:s, s:[s,s]}]}}", "apiVersion",
        "specs.smi-spec.io/v1alpha4", "kind", "HTTPRouteGroup", "metadata", "name", text("g%zu", i),
        "namespace", space_of(i), "spec", "matches", "name", "read", "pathRegex", "/read/.*",
        "methods", "GET", "name", "write", "pathRegex", "/write", "methods", "POST", "PUT"));
}

struct osm_object *bench_target(size_t i, size_t k, size_t source, const char *note, size_t version)
{
    return object(json_pack(
        "{s:s, s:s, s:{s:o, s:o, s:o, s:{s:s*}}, s:{s:{s:s, s:o, s:o}, s:[{s:s, s:o, s:o}], "
        "s:[{s:s, s:o, s:[s]}]}}",
        "apiVersion", "access.smi-spec.io/v1alpha3", "kind", "TrafficTarget", "metadata", "name",
        text("t%zu", i * BENCH_TARGETS + k), "namespace", space_of(i), "resourceVersion",
        text("%zu", version), "annotations", "note", note, "spec", "destination", "kind",
        "ServiceAccount", "name", text("a%zu", i), "namespace", space_of(i), "sources", "kind",
        "ServiceAccount", "name", text("a%zu", source), "namespace", space_of(source), "rules",
        "kind", "HTTPRouteGroup", "name", text("g%zu", i), "matches", k % 2 ? "write" : "read"));
}

struct osm_object *bench_split(size_t apex, size_t weight)
{
    return object(json_pack("{s:s, s:s, s:{s:o, s:o}, s:{s:o, s:[{s:o, s:i}, {s:o, s:i}]}}",
                            "apiVersion", "split.smi-spec.io/v1alpha2", "kind", "TrafficSplit",
                            "metadata", "name", text("x%zu", apex), "namespace", space_of(apex),
                            "spec", "service", text("s%zu", apex), "backends", "service",
                            text("s%zu", apex), "weight", (int)weight, "service",
                            text("s%zu", apex + 1), "weight", 10));
}

/* Two of five callers are neighbours, the others are spread over the mesh. */
size_t bench_source(size_t n, size_t i, size_t k)
{
    static const size_t steps[BENCH_TARGETS] = {1, 3, 17, 131, 401};
    return (i + steps[k]) % n;
}

bool bench_is_split(size_t n, size_t i)
{
    return i % BENCH_SPLIT_EVERY == 0 && i + 1 < n;
}

void bench_world(size_t n, struct osm_object ***out, size_t *len)
{
    size_t spaces = (n + BENCH_SPACE - 1) / BENCH_SPACE, at = 0;
    struct osm_object **list = osm_alloc_array(spaces + n * (4 + BENCH_TARGETS), sizeof *list);
    if (!list)
        give_up("out of memory");
    for (size_t s = 0; s < spaces; s++)
        list[at++] = bench_namespace(s);
    for (size_t i = 0; i < n; i++) {
        list[at++] = bench_service(i, i, NULL);
        list[at++] = bench_pod(i, i);
        list[at++] = bench_group(i);
        for (size_t k = 0; k < BENCH_TARGETS; k++)
            list[at++] = bench_target(i, k, bench_source(n, i, k), NULL, 1);
        if (bench_is_split(n, i))
            list[at++] = bench_split(i, 90);
    }
    *out = list;
    *len = at;
}
