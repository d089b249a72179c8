/* The commands that a console knows: each module says what its commands are called, who may use
 * them, what they take and what for, and everything else follows from that: the check of arguments
 * before a handler sees them, help, how a typed line becomes a request, completion, and the tests
 * that try every command in every role. Thread: loop. */
#pragma once

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct osm_control_request;

/* What a session may do. Ordered: each includes those before it. */
enum osm_role {
    OSM_ROLE_VIEW,    /* looks, changes nothing */
    OSM_ROLE_OPERATE, /* changes what the daemon does: reload, roll back, log levels */
};
/** "view", "operate". */
const char *osm_role_name(enum osm_role role);
/** -1: no such role. */
int osm_role_parse(const char *word);

/* type, word in help, what a handler gets */
#define OSM_CONTROL_ARG_TYPES(X)                                                                   \
    X(TEXT, "text", "a text that is not empty")                                                    \
    X(INTEGER, "integer", "a whole number from min to max (both 0: any)")                          \
    X(FLAG, "flag", "true or false; typed as --name")                                              \
    X(TEXTS, "texts", "an array of texts; typed as all words that are left")                       \
    X(KEYS, "keys",                                                                                \
      "an array of texts, whole numbers and booleans; typed as all words that are "                \
      "left")                                                                                      \
    X(LINE, "line", "a text, may be empty or have many lines; typed as the rest of the line")      \
    X(DATA, "data", "any JSON value; typed as --name JSON")

enum osm_control_arg_type {
#define X(id, word, doc) OSM_ARG_##id,
    OSM_CONTROL_ARG_TYPES(X)
#undef X
};

/* What the words of an argument are taken from, for whoever completes them. */
enum osm_control_complete {
    OSM_COMPLETE_CHOICES, /* `choices`, if any */
    OSM_COMPLETE_COMMAND,
    OSM_COMPLETE_NAMESPACE,
    OSM_COMPLETE_POD,      /* NAMESPACE/POD of a proxy */
    OSM_COMPLETE_RESOURCE, /* a name of what that pod's proxy is served */
    OSM_COMPLETE_MESH,     /* a name that can be asked as mesh.NAME */
    OSM_COMPLETE_KEYS,     /* keys of objects */
    OSM_COMPLETE_TOPIC,    /* of the log */
    OSM_COMPLETE_LUA,      /* mesh.NAME, and keys of objects within its parentheses */
};

struct osm_control_arg {
    const char *name; /* "timeout_ms"; NULL ends a list */
    enum osm_control_arg_type type;
    bool required;
    const char *help;    /* a few words */
    const char *choices; /* "CDS EDS LDS RDS SDS": the texts that it may be, in any case; NULL: any
                            text */
    int64_t min, max;    /* of an integer, inclusive */
    enum osm_control_complete complete;
};

/** @p args is an object, borrowed for the call, and as the command's schema says: what is required
 * is there, nothing unknown is, types and choices are right. The handler must answer the request
 * exactly once, now or later. */
typedef void osm_control_handler_fn(void *ud, struct osm_control_request *request,
                                    const json_t *args);

/** Renders an answer's data for a person; lines end with '\n'. Errors: those of the buffer. */
struct osm_buf;
typedef int osm_control_text_fn(struct osm_buf *out, const json_t *data);

#define OSM_CONTROL_PATIENT UINT32_MAX

struct osm_control_command {
    const char *name; /* "proxy.config"; typed with spaces. NULL ends a table */
    osm_control_handler_fn *handler;
    enum osm_role role; /* the least that may use it */
    bool secret;        /* the answer holds a key: its buffers are wiped, the log omits arguments */
    bool large;     /* a request may have OSM_FRAME_LARGE_MAX_BYTES, where the socket lets it; the
                       log omits arguments */
    bool quiet;     /* a session asks it by itself: the log has it at the level debug */
    bool continues; /* {"incomplete": true} as answer asks for another line of the question */
    /* For the answer; 0: ten seconds; OSM_CONTROL_PATIENT: the handler's own. */
    uint32_t deadline_ms;
    osm_control_text_fn *text;          /* NULL: osm_render */
    const struct osm_control_arg *args; /* in the order of typing; NULL: takes none */
    const char *help;                   /* one line */
};

struct osm_registry;

/** NULL: no memory. */
OSM_MUST_USE struct osm_registry *osm_registry_new(void);
/** NULL is accepted. */
void osm_registry_free(struct osm_registry *registry);
/** Adds a table, which must outlive the registry; its handlers get @p ud. Errors: OSM_EEXIST two
 * commands of one name; OSM_ENOMEM. */
OSM_MUST_USE int osm_registry_add(struct osm_registry *registry,
                                  const struct osm_control_command *table, void *ud,
                                  struct osm_err *err);
/** *ud: what its table was added with. NULL: no such command. Borrowed. */
const struct osm_control_command *osm_registry_find(const struct osm_registry *registry,
                                                    const char *name, void **ud);
/** The nearest name, for a mistyped one; NULL: none is near. Borrowed. */
const char *osm_registry_nearest(const struct osm_registry *registry, const char *name);
/** Holds @p args (an object) to the command's schema. Errors: OSM_EINVAL naming the argument. */
OSM_MUST_USE int osm_registry_check(const struct osm_control_command *command, const json_t *args,
                                    struct osm_err *err);
/** What the command takes and is for: {"name", "role", "help", "args": [{"name", "type",
 * "required", "help", "choices", "min", "max"}]}; the last three where there are any. Owns: caller.
 * NULL: no memory. */
json_t *osm_registry_describe(const struct osm_control_command *command);
/** All of them, sorted by name. */
json_t *osm_registry_describe_all(const struct osm_registry *registry);
