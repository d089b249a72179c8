/* One line of JSON per record on stderr: level, component, time, message, then the fields.
 *
 *   osm_log(OSM_LOG_XDS, OSM_LOG_INFO, "stream opened", OSM_S("node", uuid), OSM_U("snap",
 * number));
 *
 * Arguments are not evaluated when the level is off. Any thread; a record is one write(2). A
 * repeated (topic, message) is held back after 20 in a second, and the next one that passes says
 * how many were "suppressed"; of the topic "audit" nothing is. Keys with a fixed meaning: gen,
 * snap, node (proxy uuid), obj (Kind ns/name), error. Secrets have no formatter: never pass one. */
#pragma once

#include <stdint.h>

/* topic, name in the record, what it covers */
#define OSM_LOG_TOPICS(X)                                                                          \
    X(CORE, "core", "start, stop, life cycle")                                                     \
    X(SOURCE, "source", "objects read from a directory or an API server")                          \
    X(BOOTSTRAP, "bootstrap", "definitions and objects that the mesh needs in an API server")      \
    X(MODEL, "model", "the object store and what is derived from it")                              \
    X(POLICY, "policy", "bundles, rules, rejects")                                                 \
    X(XDS, "xds", "streams of the proxies")                                                        \
    X(INJECT, "injector", "sidecars for new pods")                                                 \
    X(CA, "ca", "roots and certificates")                                                          \
    X(CONTROL, "control", "the local sockets")                                                     \
    X(AUDIT, "audit", "every command on a local socket: who, in which role, what, how it went")    \
    X(HTTP, "http", "health, metrics and debug endpoints")

enum osm_log_topic {
#define X(id, name, doc) OSM_LOG_##id,
    OSM_LOG_TOPICS(X)
#undef X
        OSM_LOG_TOPIC_COUNT
};

enum osm_log_level {
    OSM_LOG_TRACE,
    OSM_LOG_DEBUG,
    OSM_LOG_INFO,
    OSM_LOG_WARN,
    OSM_LOG_ERROR,
    OSM_LOG_FATAL,
    OSM_LOG_OFF
};

struct osm_log_field {
    const char *key; /* NULL ends a list */
    enum { OSM_LOG_STR, OSM_LOG_INT, OSM_LOG_UINT, OSM_LOG_DOUBLE } type;
    union {
        const char *str; /* NULL prints null */
        int64_t i;
        uint64_t u;
        double d;
    } value;
};

#define OSM_S(k, v) ((struct osm_log_field){(k), OSM_LOG_STR, {.str = (v)}})
#define OSM_I(k, v) ((struct osm_log_field){(k), OSM_LOG_INT, {.i = (int64_t)(v)}})
#define OSM_U(k, v) ((struct osm_log_field){(k), OSM_LOG_UINT, {.u = (uint64_t)(v)}})
#define OSM_D(k, v) ((struct osm_log_field){(k), OSM_LOG_DOUBLE, {.d = (v)}})

#define osm_log(topic, level, ...)                                                                 \
    do {                                                                                           \
        if (osm_log_on((topic), (level)))                                                          \
            osm__log_call((topic), (level), __VA_ARGS__, ((struct osm_log_field){0}));             \
    } while (0)
#define osm__log_call(topic, level, message, ...)                                                  \
    osm__log((topic), (level), (message), (const struct osm_log_field[]){__VA_ARGS__})

int osm_log_on(enum osm_log_topic topic, enum osm_log_level level);
void osm__log(enum osm_log_topic topic, enum osm_log_level level, const char *message,
              const struct osm_log_field *fields);

/** Level for one topic, or for all with OSM_LOG_TOPIC_COUNT. Default: info. Any thread. */
void osm_log_set_level(enum osm_log_topic topic, enum osm_log_level level);
/** What is on for the topic: this level and those above. Any thread. */
enum osm_log_level osm_log_level_of(enum osm_log_topic topic);
/** "policy"; what it covers. */
const char *osm_log_topic_name(enum osm_log_topic topic);
const char *osm_log_topic_doc(enum osm_log_topic topic);
/** "debug". */
const char *osm_log_level_name(enum osm_log_level level);
/** "policy" -> topic; -1 for an unknown word. */
int osm_log_topic_parse(const char *word);
/** "debug" -> level; -1 for an unknown word. */
int osm_log_level_parse(const char *word);
/** Where records go; default 2. Tests use it. */
void osm_log_set_fd(int fd);
