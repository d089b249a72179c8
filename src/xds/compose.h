/* From items to resources: which items a proxy reads, and the resources that they make. Pure; on
 * the policy thread.
 *
 * An item is a whole resource, the header of a composite one, or one element of its repeated field
 * (a virtual host, a filter chain). Its audience is a list of terms whose fields are ANDed; the
 * terms are ORed. For one (resource, element) the most specific term wins (pod and account > pod >
 * service and account > account or service > namespace > everyone); equal rank with unequal bytes
 * is reported and the lesser item key wins. Proxies with an equal set of items are one class,
 * composed, hashed and checked once and kept while it has a reader. */
#pragma once

#include "base/bytes.h"
#include "xds/snapshot.h"

struct osm_term {
    const char *pod;     /* "ns/name"; NULL: any */
    const char *service; /* "ns/name" */
    const char *account; /* "ns/name" */
    const char *ns;
    /* all NULL: everyone */
};

enum osm_item_part { OSM_ITEM_WHOLE, OSM_ITEM_HEADER, OSM_ITEM_ELEMENT };

/* A name that an item's bytes mention and that the same class must be served. */
enum osm_ref_kind { OSM_REF_CLUSTER, OSM_REF_ROUTE_CONFIG, OSM_REF_SECRET, OSM_REF_EDS };
struct osm_item_ref {
    int kind;         /* enum osm_ref_kind */
    const char *name; /* OSM_REF_EDS: "" is the item's own resource name */
};

/* Immutable once added; strings and arrays are owned by the item (osm_item_free). */
struct osm_item {
    const char *key; /* unique: "module.emitter(keys)#n"; breaks ties, appears in reports */
    enum osm_xds_type type;
    enum osm_item_part part;
    const char *resource; /* "outbound-listener" */
    const char *element;  /* element name, NULL for whole and header */
    bool alone;           /* header: serve it even without elements */
    bool authorises;      /* denies when withdrawn: never kept stale */
    const char *unique;   /* element: what no other element of the resource may share, NULL none: a
                             chain's match bytes (hash hex) */
    const char *const *domains; /* virtual host: its domains, NULL-terminated or NULL */
    const char *const *tags;    /* element: what a header may depend on, NULL-terminated or NULL */
    const char *header_rule; /* header: its message depends on the tags of the class's elements: the
                                name of a rule; body is NULL then */
    const char *place;       /* "policies/envoy/clusters.lua:14" */
    const char *extended;    /* the extensions that changed the message, "acme/retry, acme/tags";
                                NULL none */
    struct osm_term *audience;
    size_t audience_len;
    struct osm_item_ref *refs;
    size_t refs_len;
    struct osm_bytes *body; /* whole or header: the message; element: the element's message
                               (composition adds tag and length) */
};
void osm_item_free(struct osm_item *item);

/* A reader, as the world knows it. Strings borrowed for the call. */
struct osm_reader {
    const char *key, *pod, *ns, *account; /* pod: name */
    const char *const *services;          /* names in ns */
    size_t services_len;
};

/* Makes the header of a composite resource from the sorted, distinct tags of its elements in one
 * class. *out (NULL before) stays NULL where an error was reported: the resource is left out. The
 * answer is memoised by (rule, resource, tags) until no class has such a resource any more, or
 * osm_compose_forget_headers. What is put into *token (NULL before), in every case, comes back
 * then. Errors: OSM_ELIMIT the tags are more than the rule can be asked with (composition reports
 * it); others end the run, and the next asks again. */
typedef int osm_compose_header_fn(void *ud, const struct osm_item *header, const char *const *tags,
                                  size_t tags_len, struct osm_bytes **out, void **token);
/* The header with this token is not in use any more. */
typedef void osm_compose_header_gone_fn(void *ud, void *token);

struct osm_compose;
OSM_MUST_USE struct osm_compose *osm_compose_new(osm_compose_header_fn *header,
                                                 osm_compose_header_gone_fn *gone, void *ud);
/** What a header rule read has changed: ask again. */
void osm_compose_forget_headers(struct osm_compose *compose);
void osm_compose_free(struct osm_compose *compose);
/** Adds or replaces the item with this key (taken in every case). */
OSM_MUST_USE int osm_compose_put(struct osm_compose *compose, struct osm_item *item);
/** Whether a run could compose anything otherwise than the last one, for the same readers. */
bool osm_compose_dirty(const struct osm_compose *compose);
/** How many items there are. */
size_t osm_compose_items(const struct osm_compose *compose);
/** Calls fn for each item that the proxy's resource is made of, in no order, those included that
 * lose to a more specific one; @p proxy (osm_proxy_key) NULL: of anybody's. Errors: OSM_ENOENT
 * there is none; OSM_ENOMEM. */
typedef void osm_compose_item_fn(void *ud, const struct osm_item *item);
OSM_MUST_USE int osm_compose_items_of(const struct osm_compose *compose, const char *proxy,
                                      enum osm_xds_type type, const char *name,
                                      osm_compose_item_fn *fn, void *ud);
/** Removes; nothing happens where absent. */
void osm_compose_remove(struct osm_compose *compose, const char *key);
/** Composes for all readers (sorted by key). *out gets the proxies (array and strings: caller, as
 * osm_snapshot wants them). Reports go to
 *  @p errors (a json array of {"where", "message", "module", "line"}): duplicate domains, equal
 * chain matches, equal rank with unequal bytes, references to what the class is not served. Only
 * readers whose terms meet a changed item, or who changed, are composed again. */
OSM_MUST_USE int osm_compose_run(struct osm_compose *compose, const struct osm_reader *readers,
                                 size_t readers_len, struct osm_snapshot_proxy **out,
                                 json_t *errors, struct osm_err *err);
