/* Objects of the kinds that the bundle declares, and the indexes over them.
 *
 * An object exists for rules once its version is known, its schema fits, `from` has lifted it,
 * `accept` has not rejected it, and every index could say its keys; otherwise it is absent
 * everywhere, and the reason is a reject (bad data) or an error (bad program). Without this
 * all-or-nothing, half of an object would be seen by one rule and not by another.
 *
 * Rules see neither status nor what changes by itself (managedFields, resourceVersion, generation).
 * A kind that declares `labels = false` hides labels and annotations too. That is for kinds whose
 * owner alone reads them: an extension that looks for an annotation there finds none. What rules do
 * not see is no change: nothing is taken in again, and no rule runs. */
#pragma once

#include "policy/engine_priv.h"

struct osm_thing {
    struct osm_object *object;
    struct osm_decl *kind;
    bool present;
    struct osm_hash hash; /* kind, key, content */
    json_t *body;         /* what rules see: defaults filled in, lifted */
    int ref;              /* its table, LUA_NOREF not made yet */
    bool hashed;          /* this has been filled in: */
    struct osm_hash made; /* of the body that the table was made from */
    uint64_t handed;      /* run */
    struct osm_thing *next_handed, *prev_handed;
    json_t *rejects;             /* as in a snapshot; NULL none */
    json_t *error;               /* as in a snapshot; NULL none */
    struct osm_bucket **buckets; /* that hold it */
    size_t buckets_len, buckets_cap;
    size_t telling_at; /* 1 + place in engine->telling_things; 0: not in it */
    size_t key_len;
    unsigned char key[];
};

struct osm_bucket {
    struct osm_thing **list; /* sorted by namespace, name */
    size_t len, cap;
    struct osm_hash sum; /* of the members' hashes */
    struct osm_decl *index;
    size_t key_len;
    unsigned char key[];
};

/** Takes in one change of what is visible. Errors: OSM_ENOMEM, OSM_ELUA when the state is lost. */
OSM_MUST_USE int osm_kinds_change(struct osm_engine *e, struct osm_object *old,
                                  struct osm_object *now);
void osm_kinds_clear(struct osm_decl *decl);
/** Takes all objects of the kind out; the next run takes them in, by the kind that then reads them.
 * Not while one is under way. Errors: OSM_ENOMEM; some of them are lost then. */
OSM_MUST_USE int osm_kinds_put_off(struct osm_engine *e, struct osm_decl *kind);
/** Takes in what was put off. Errors: as osm_kinds_change. */
OSM_MUST_USE int osm_kinds_take_again(struct osm_engine *e);
/** Forgets what was put off. */
void osm_kinds_again_clear(struct osm_engine *e);
/** Today's hash of an input cell. */
struct osm_hash osm_kinds_object_hash(struct osm_decl *kind, const unsigned char *key, size_t len);
struct osm_hash osm_kinds_bucket_hash(struct osm_decl *index, const unsigned char *key, size_t len);
struct osm_hash osm_kinds_keys_hash(struct osm_decl *decl);
/** Pushes today's value. [-0, +1, m] */
void osm_kinds_push_object(lua_State *L, struct osm_decl *kind, const unsigned char *key,
                           size_t len);
void osm_kinds_push_bucket(lua_State *L, struct osm_decl *index, const unsigned char *key,
                           size_t len);
void osm_kinds_push_keys(lua_State *L, struct osm_decl *decl);
/** Somebody gets the bucket's table, as it was made, in this run. */
void osm_kinds_bucket_handed(struct osm_engine *e, struct osm_decl *index, const unsigned char *key,
                             size_t len);
/** Re-hashes the tables handed out in this run; changed(ud, thing) for each that somebody wrote
 * into (its table is made anew). */
void osm_kinds_check_mutations(struct osm_engine *e,
                               void (*changed)(void *ud, struct osm_thing *thing), void *ud);

/* --- kinds_index.c --- */
void osm__keys_add(struct osm_engine *e, struct osm_decl *decl, const unsigned char *key,
                   size_t len);
void osm__keys_remove(struct osm_engine *e, struct osm_decl *decl, const unsigned char *key,
                      size_t len);
/** Enters the thing into the bucket of this key. Errors: OSM_ENOMEM. */
OSM_MUST_USE int osm__bucket_add(struct osm_engine *e, struct osm_decl *index,
                                 const unsigned char *key, size_t len, struct osm_thing *thing);
/** Takes the thing out of all buckets. */
void osm__buckets_leave(struct osm_engine *e, struct osm_thing *thing);
void osm__bucket_free(struct osm_bucket *bucket);
/** Somebody gets its table in this run: writes into it are looked for. */
void osm__thing_handed(struct osm_engine *e, struct osm_thing *thing);
/** Pushes its table, the same for all who ask. [-0, +1, m] */
void osm__thing_push(lua_State *L, struct osm_thing *thing);
