/* What a simulated sidecar knows: the resources that it has, and the names that these make it ask
 * for, of any ADS server's clusters and listeners. */
#pragma once

#include "base/hash.h"
#include "sidecar.h"

/* A resource that has come, or whose name has been asked for. Clusters and listeners keep what they
 * name; the rest is kept as long as somebody names it. */
struct load_name {
    char *text, *version; /* version NULL: the server has none */
    struct osm_hash body;
    struct load_ref {
        int type;
        struct load_name *name;
    } * refs;
    size_t refs_len, named_by;
    uint32_t sweep;
    bool sent, answered;
};

/* All but clusters and listeners are asked for by name. */
static inline bool known_is_wildcard(int type)
{
    return type == LOAD_CDS || type == LOAD_LDS;
}

bool known_is_asked_for(int type, const struct load_name *n);
/** A resource has come: @p any holds it, its name is its first field in all five types. */
void known_take(struct sidecar *s, int type, const uint8_t *any, size_t len, const void *version,
                size_t version_len);
/** The server has it no longer; what somebody names stays asked for. NULL: nothing. */
void known_drop(struct sidecar *s, int type, struct load_name *n);
void known_free(struct load_name *n);
/** Replaces an allocated text. */
void known_set_text(char **to, const void *data, size_t len);
