/* The mesh that the engine is measured on: N Services with one pod, one account and one
 * HTTPRouteGroup each, five TrafficTargets per account, a TrafficSplit for every twentieth Service,
 * a hundred Services to a namespace. The same for the same N, in every run. */
#pragma once

#include "model/object.h"

enum {
    BENCH_SPACE = 100, /* Services in a namespace */
    BENCH_TARGETS = 5, /* per account */
    BENCH_SPLIT_EVERY = 20,
    BENCH_PORT = 80, /* of every Service */
    BENCH_POD_PORT = 8080,
};

/* Every maker ends the program where there is no memory. The caller owns the object. */
struct osm_object *bench_namespace(size_t space);
/** @p number: of the ClusterIP, so that two of them differ; @p note: a label's value, NULL none. */
struct osm_object *bench_service(size_t i, size_t number, const char *note);
struct osm_object *bench_pod(size_t i, size_t address);
/** Another pod of Service i, @p replica from 1, below 16. */
struct osm_object *bench_replica(size_t i, size_t replica);
struct osm_object *bench_group(size_t i);
/** Target k of account i lets account @p source call it. @p note: an annotation's value, NULL none;
 * @p version: its resourceVersion. */
struct osm_object *bench_target(size_t i, size_t k, size_t source, const char *note,
                                size_t version);
struct osm_object *bench_split(size_t apex, size_t weight);

/** The account that may call account @p i by its target @p k, of n. */
size_t bench_source(size_t n, size_t i, size_t k);
/** Whether Service i of n is split between itself and the next one. */
bool bench_is_split(size_t n, size_t i);
/** All objects of a mesh of n Services. *out: references and array are the caller's. */
void bench_world(size_t n, struct osm_object ***out, size_t *len);
