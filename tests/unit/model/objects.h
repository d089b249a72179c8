/* Objects for tests, written as YAML. */
#pragma once

#include "base/log.h"
#include "base/yaml.h"
#include "model/object.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* The only object of a text; the test fails where there is none. */
static inline struct osm_object *object_of(const char *yaml)
{
    struct osm_yaml_docs docs = {NULL, 0};
    struct osm_object *object = NULL;
    struct osm_err err = {0};
    int rc = osm_yaml_parse(yaml, strlen(yaml), &docs, NULL, &err);
    if (rc)
        fail_msg("%s in:\n%s", err.msg, yaml);
    assert_int_equal(docs.len, 1);
    rc = osm_object_new(&object, json_incref(docs.list[0].value), "test.yaml:1", &err);
    if (rc)
        fail_msg("%s in:\n%s", err.msg, yaml);
    osm_yaml_docs_clear(&docs);
    return object;
}

/* Every allocation of jansson counts too, so that a lost reference is seen without a sanitizer. */
static inline int count_json(void **state)
{
    (void)state;
    json_object_seed(1);
    osm_log_set_level(OSM_LOG_TOPIC_COUNT, OSM_LOG_OFF); /* malformed objects are meant */
    json_set_alloc_funcs(osm_alloc, osm_free);
    return 0;
}

static inline int nothing_is_left(void **state)
{
    (void)state;
    assert_int_equal(osm_mem_live(), 0);
    return 0;
}
