/* Shared by compose*.c.
 *
 *   item --links--> terms <--match-- readers        readers with equal sets of matched terms form a
 * group |                |                             a group has one part per target (resource)
 * that its terms reach v                v                             a part's bytes ("composed")
 * are shared by all groups that select the target         groups --> class                 same
 * items of the target; groups with equal resources share a class
 *
 * A change of an item makes (term, target) pairs dirty; the next run composes those parts of the
 * groups of those terms and no others. Where memory runs out in the middle, all_dirty makes the
 * next run do everything again. */
#pragma once

#include "base/buf.h"
#include "base/map.h"
#include "xds/compose.h"

struct osm__ptrs {
    void **list;
    size_t len, cap;
};
OSM_MUST_USE int osm__ptrs_push(struct osm__ptrs *v, void *item);
void osm__ptrs_clear(struct osm__ptrs *v);

struct osm__entry;
struct osm__group;

/* One resource, of all who may read it. Counted: by entries, composed, parts and dirty lists. */
struct osm__target {
    size_t refs;
    enum osm_xds_type type;
    char *key;        /* a character for the type, then the name */
    const char *name; /* into key */
    struct osm_compose *owner;
    struct osm__ptrs entries;
    size_t header_rules;     /* entries with one */
    struct osm_map composed; /* struct osm__composed_key -> struct osm__composed */
    uint64_t stamp;
};

struct osm__term {
    char *key;
    size_t key_len;
    uint64_t id;
    unsigned shape;                           /* which fields it has: OSM__BY_* */
    const char *pod, *service, *account, *ns; /* into key */
    struct osm__ptrs links, groups;
    struct osm__ptrs dirty; /* targets */
    bool alive;             /* had links when the readers were last matched */
    bool touched;           /* in the owner's list */
    uint64_t stamp;         /* of the group under way that holds it */
};
enum {
    OSM__BY_POD = 1,
    OSM__BY_SERVICE = 2,
    OSM__BY_ACCOUNT = 4,
    OSM__BY_NS = 8,
    OSM__SHAPES = 16
};

struct osm__link {
    struct osm__entry *entry;
    struct osm__term *term;
    int rank;
    size_t at; /* in term->links */
};

struct osm__entry {
    size_t refs;
    struct osm_item *item;
    struct osm__target *target;
    size_t at; /* in target->entries */
    struct osm__link *links;
    size_t links_len;
    struct osm_hash id; /* of all that composing it depends on */
    uint64_t stamp;     /* of the part under way that has it as a candidate */
};
void osm__entry_unref(struct osm__entry *entry);
void osm__target_unref(struct osm__target *target);
/** Of compose->targets; osm_free. NULL: no memory. */
char *osm__target_key(enum osm_xds_type type, const char *name);

/* What selects the same items gives the same bytes. */
struct osm__composed_key {
    struct osm_hash items;
    uint64_t headers; /* generation, where a header rule takes part */
};

struct osm__resource {
    struct osm_resource *resource;
    size_t uses;
    char *key;
    size_t key_len;
};

struct osm__composed {
    size_t refs;
    struct osm__target *target;
    struct osm__composed_key key;
    struct osm__resource *shared; /* NULL: not served */
    struct osm__header *header;   /* NULL: it has none, or that is an item's own */
    struct osm__ptrs referring;   /* winning entries that refer to others */
    json_t *reports;              /* NULL or an array */
};
void osm__composed_unref(struct osm__composed *composed);

struct osm__part {
    struct osm__target *target;
    struct osm__composed *composed;
    json_t *excluded; /* NULL, or reports of elements whose route configuration is not served */
    json_t *dangling; /* NULL, or reports of references to what is not served */
    bool dirty;
};

struct osm__class {
    struct osm_class *cls;
    struct osm_hash key;
    size_t uses;
};

struct osm__group {
    struct osm__term **terms; /* sorted by id */
    size_t terms_len;
    size_t links_len; /* of its terms, while it is composed */
    char *key;
    size_t readers;
    bool full;               /* compose every part */
    bool queued;             /* in the owner's list of groups to compose */
    struct osm__ptrs dirty;  /* targets */
    struct osm__part *parts; /* sorted by type, name */
    size_t parts_len;
    bool reports; /* a part has something to report */
    struct osm__class *cls;
};

struct osm__reader {
    char *text;                           /* holds all strings */
    const char *key, *pod, *ns, *account; /* pod and account: names */
    const char *pod_key, *account_key;    /* "ns/name" */
    const char **services;                /* "ns/name" */
    size_t services_len;
    struct osm__group *group;
    bool queued; /* to be matched again */
};

struct osm_compose {
    osm_compose_header_fn *header;
    osm_compose_header_gone_fn *gone;
    void *ud;
    uint64_t header_generation;
    struct osm_map headers; /* rule, resource, tags -> struct osm__header */
    struct osm_map items;   /* key -> struct osm__entry */
    struct osm_map targets, terms, groups, resources, classes;
    struct osm_map index;       /* what a term may name -> struct osm__ptrs of readers */
    struct osm__ptrs readers;   /* sorted by key */
    struct osm__ptrs touched;   /* terms */
    size_t shapes[OSM__SHAPES]; /* live terms of each shape */
    uint64_t next_term, stamp;
    bool all_dirty;
};

/* Lives while it is listed or a composed form has it; is listed while such a form of today's
 * generation has it. */
struct osm__header {
    struct osm_bytes *bytes; /* NULL: the rule failed */
    void *token;
    size_t uses;
    bool listed; /* in compose->headers */
    size_t key_len;
    char key[];
};
void osm__headers_clear(struct osm_compose *compose);

/** Composes the group's dirty parts and finds its class. Errors: OSM_ENOMEM; then all_dirty must be
 * set. */
OSM_MUST_USE int osm__group_compose(struct osm_compose *compose, struct osm__group *group);
void osm__group_free(struct osm_compose *compose, struct osm__group *group);

/* An item and how specific the term is by which the group reads it. */
struct osm__candidate {
    struct osm__entry *entry;
    int rank;
    bool withdrawn; /* takes its place and is not served: what it stands before must not show
                       through */
};
/** The composed form of these items; a new reference. Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm__composed_get(struct osm_compose *compose, struct osm__target *target,
                                   struct osm__candidate *candidates, size_t len,
                                   struct osm__composed **out);

/** Appends a report about @p entry to *list (made where NULL). Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm__report(json_t **list, const struct osm__entry *entry, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/** "cluster", "listener", ... */
const char *osm__type_word(enum osm_xds_type type);
/** Number of the repeated field whose elements are items; 0: the type has none. *word: "filter
 * chain". */
uint32_t osm__element_field(enum osm_xds_type type, const char **word);

/* Readers and groups (compose_reader.c). */
/** Takes over the readers; those that are new or changed are queued in @p rematch. Errors:
 * OSM_ENOMEM, OSM_EINVAL (order). */
OSM_MUST_USE int osm__readers_set(struct osm_compose *compose, const struct osm_reader *readers,
                                  size_t len, struct osm__ptrs *rematch, struct osm_err *err);
/** Queues the readers that @p term matches. */
OSM_MUST_USE int osm__readers_of(struct osm_compose *compose, const struct osm__term *term,
                                 struct osm__ptrs *rematch);
/** Puts each reader of the list into the group of the terms that match it; queues groups that are
 * new. */
OSM_MUST_USE int osm__readers_match(struct osm_compose *compose, struct osm__ptrs *rematch,
                                    struct osm__ptrs *groups);
void osm__group_leave_terms(struct osm__group *group);
void osm__readers_clear(struct osm_compose *compose);
/** Writes the key of a term into @p out. */
void osm__term_key(struct osm_buf *out, const char *pod, const char *service, const char *account,
                   const char *ns);
