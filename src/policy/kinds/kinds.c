#include "policy/kinds/kinds.h"

#include "model/store.h"
#include "policy/kinds/schema.h"
#include "policy/memo/cells.h"
#include "policy/memo/key.h"
#include "policy/memo/value.h"
#include "policy/sandbox/sandbox.h"

#include <stdlib.h>
#include <string.h>

enum {
    PATH_MAX_BYTES = 1024,
    LABEL_MAX_BYTES = 1024,
    KEYS_MAX_BYTES = 256 * 1024,
    TYPE_MAX_BYTES = 512
};

/* --- taking an object in --- */

struct intake {
    struct osm_engine *e;
    struct osm_thing *thing;
    size_t version;
    const char *stage; /* where a Lua error comes from */
    const struct osm_module *by;
    bool lifted; /* paths are those of the newest form now */
    bool rejected;
    json_t *refused; /* of a tolerant kind: path -> reason */
    int rc;
};

static void label_of(const struct osm_object *o, struct osm_buf *out)
{
    (void)osm_buf_add_strs(out, o->kind, " ", o->ns, o->ns[0] ? "/" : "", o->name, NULL);
}

/* Whether the manifest, written in an older version, has nothing where this path of the newest form
 * begins. */
static bool is_foreign_path(const struct intake *in, const char *path)
{
    char first[64] = "";
    size_t len = strcspn(path, ".[");
    if (!in->lifted || !len || len >= sizeof first)
        return false;
    memcpy(first, path, len);
    return !json_object_get(in->thing->object->body, first);
}

static int add_reject(struct intake *in, const char *path, const char *reason)
{
    struct osm_thing *t = in->thing;
    struct osm_buf label = OSM_BUF_INIT(LABEL_MAX_BYTES);
    label_of(t->object, &label);
    char *long_reason =
        is_foreign_path(in, path)
            ? osm_strf("%s (the path is that of %s, which the object was lifted to)", reason,
                       t->kind->versions[0])
            : NULL;
    json_t *reject =
        json_pack("{s:s?, s:o, s:o, s:o, s:s}", "object", label.data, "path", osm_text_json(path),
                  "reason", osm_text_json(long_reason ? long_reason : reason), "origin",
                  osm_text_json(t->object->origin), "by", in->by ? in->by->name : "schema");
    osm_buf_clear(&label);
    osm_free(long_reason);
    if (!t->rejects)
        t->rejects = json_array();
    in->rejected = true;
    return json_array_append_new(t->rejects, reject) ? OSM_ENOMEM : 0;
}

/* "spec.backends[0].weight: is not a number": path and reason. */
static int reject_text(struct intake *in, const char *text)
{
    const char *colon = strstr(text, ": ");
    char path[PATH_MAX_BYTES] = "";
    if (colon && (size_t)(colon - text) < sizeof path) {
        memcpy(path, text, (size_t)(colon - text));
        text = colon + 2;
    }
    return add_reject(in, path, text);
}

static int check_schema(struct intake *in, int rc, const struct osm_err *err)
{
    if (!rc)
        return 0;
    return rc == OSM_ENOMEM ? rc : reject_text(in, err->msg);
}

/* reject(path, reason) */
static int l_reject(lua_State *L)
{
    struct intake *in = lua_touserdata(L, lua_upvalueindex(1));
    struct osm_engine *e = osm_engine_of(L);
    if (!in || e->nest != 1 ||
        e->frames[0].serial != (uint64_t)lua_tointeger(L, lua_upvalueindex(2)))
        return luaL_error(L, "reject can only be called within what it was given to");
    char text[PATH_MAX_BYTES];
    struct osm_buf path = OSM_BUF_INIT(PATH_MAX_BYTES - 1);
    const char *why = osm_value_path(L, 1, &path);
    size_t len = path.len < sizeof text ? path.len : 0;
    memcpy(text, path.data ? path.data : "", len);
    text[len] = '\0';
    osm_buf_clear(&path);
    if (why)
        return luaL_error(L, "reject: %s", why);
    size_t reason_len;
    const char *reason = luaL_checklstring(L, 2, &reason_len);
    osm_sandbox_charge(L, 10 + reason_len / 16);
    /* The object is left out anyhow: further reasons are not kept. It is no error of the policy. */
    if (json_array_size(in->thing->rejects) < OSM_REJECTS_MAX)
        in->rc = add_reject(in, text, reason);
    return 0;
}

static void push_reject(lua_State *L, struct intake *in)
{
    lua_pushlightuserdata(L, in);
    lua_pushinteger(L, (lua_Integer)osm_top(in->e)->serial);
    lua_pushcclosure(L, l_reject, 2);
}

/* What a lift may not change: who the object is. A lift that gave it another name or namespace
 * would move a grant. */
static int keep_identity(const struct osm_thing *t, json_t *lifted)
{
    const char *group = t->kind->group;
    json_t *metadata = json_object_get(t->body, "metadata");
    int rc = json_object_set_new(
        lifted, "apiVersion",
        json_sprintf("%s%s%s", group, group[0] ? "/" : "", t->kind->versions[0]));
    rc |= json_object_set_new(lifted, "kind", json_string(t->object->kind));
    rc |= json_object_set(lifted, "metadata", metadata);
    return rc ? OSM_ENOMEM : 0;
}

/* Lifts an older form: from[version](object, reject) -> object, or nil and a reason. */
static void lift(lua_State *L, struct intake *in)
{
    struct osm_thing *t = in->thing;
    struct osm_err err = {0};
    json_t *lifted = NULL;
    in->stage = "from";
    lua_rawgeti(L, LUA_REGISTRYINDEX, t->kind->from[in->version]);
    osm_value_push(L, t->body);
    push_reject(L, in);
    lua_call(L, 2, 2);
    if (in->rc || in->rejected)
        return;
    if (lua_isnil(L, -2)) {
        in->rc = add_reject(in, "",
                            lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1)
                                                           : "cannot be lifted to the newest form");
        return;
    }
    lua_pop(L, 1);
    int rc = osm_value_json(L, -1, "the lifted object", &lifted, &err);
    lua_pop(L, 1);
    if (rc == OSM_ENOMEM)
        in->rc = rc;
    if (rc)
        luaL_error(L, "%s", err.msg);
    if (json_is_array(lifted) && !json_array_size(lifted)) { /* an empty table: no field is set */
        json_decref(lifted);
        lifted = json_object();
    }
    bool is_object = json_is_object(lifted);
    in->rc = is_object ? keep_identity(t, lifted) : 0;
    json_decref(t->body);
    t->body = lifted;
    in->lifted = true;
    if (!is_object)
        luaL_error(L, "from: an object is expected");
    in->by = NULL;
    if (!in->rc && t->kind->schemas[0])
        in->rc = check_schema(in, osm_schema_apply_lua(t->kind->schemas[0], lifted, &err), &err);
    in->by = t->kind->module;
}

void osm__thing_handed(struct osm_engine *e, struct osm_thing *t)
{
    if (e->proven)
        return;
    if (!t->hashed)
        t->made = osm_json_hash(t->body); /* now that the processor has all of it at hand */
    t->hashed = true;
    if (t->handed == e->run)
        return;
    t->handed = e->run;
    t->prev_handed = NULL;
    t->next_handed = e->handed_things;
    if (t->next_handed)
        t->next_handed->prev_handed = t;
    e->handed_things = t;
}

/* What is taken in again may be replaced by a change of the same run. */
static void leave_handed(struct osm_engine *e, const struct osm_thing *t)
{
    if (!e->handed_things || t->handed != e->run)
        return;
    if (t->prev_handed)
        t->prev_handed->next_handed = t->next_handed;
    else
        e->handed_things = t->next_handed;
    if (t->next_handed)
        t->next_handed->prev_handed = t->prev_handed;
}

void osm__thing_push(lua_State *L, struct osm_thing *t)
{
    struct osm_engine *e = osm_engine_of(L);
    if (t->ref == LUA_NOREF) {
        char label[LABEL_MAX_BYTES];
        struct osm_buf text = osm_buf_on(label, sizeof label, LABEL_MAX_BYTES - 1);
        label_of(t->object, &text);
        osm_value_push(L, t->body);
        t->hashed = false;
        osm_identity_set(L, t->hash, label, t->object->origin);
        t->ref = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    osm__thing_handed(e, t);
    lua_rawgeti(L, LUA_REGISTRYINDEX, t->ref);
}

/* The keys that one index of the kind gives the object, appended to the scratch as (its place,
 * length, bytes). */
static void collect_keys(lua_State *L, struct intake *in, uint32_t at)
{
    struct osm_engine *e = in->e;
    const struct osm_decl *index = in->thing->kind->indexes[at];
    in->stage = "keys";
    in->by = index->module;
    lua_rawgeti(L, LUA_REGISTRYINDEX, index->fn);
    osm__thing_push(L, in->thing);
    lua_call(L, 1, 1);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        return;
    }
    if (!lua_istable(L, -1))
        luaL_error(L, "index %s: keys must return a list of keys", index->name);
    lua_Unsigned n = lua_rawlen(L, -1);
    for (lua_Unsigned i = 1; i <= n; i++) {
        struct osm_key key;
        unsigned char bytes[OSM_KEY_BYTES];
        lua_rawgeti(L, -1, (lua_Integer)i);
        const char *why = osm_key_from_value(L, -1, &key);
        uint32_t len = why ? 0 : (uint32_t)osm_key_encode(&key, bytes);
        if (!len)
            luaL_error(L, "index %s: key %d: %s", index->name, (int)i,
                       why ? why : "is longer than 1,000 bytes");
        (void)osm_buf_add(&e->keys_scratch, &at, sizeof at);
        (void)osm_buf_add(&e->keys_scratch, &len, sizeof len);
        if (osm_buf_add(&e->keys_scratch, bytes, len)) {
            if (e->keys_scratch.failed == OSM_ENOMEM)
                e->abort = OSM_ABORT_NOMEM;
            luaL_error(L, "index %s: too many keys for one object", index->name);
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

static int l_take_in(lua_State *L)
{
    struct intake *in = lua_touserdata(L, 1);
    struct osm_thing *t = in->thing;
    struct osm_decl *kind = t->kind;
    in->by = kind->module;
    if (kind->from[in->version] != LUA_NOREF)
        lift(L, in);
    if (in->rc || in->rejected)
        return 0;
    if (kind->accept != LUA_NOREF) {
        in->stage = "accept";
        lua_rawgeti(L, LUA_REGISTRYINDEX, kind->accept);
        osm__thing_push(L, t);
        push_reject(L, in);
        lua_call(L, 2, 0);
    }
    for (uint32_t i = 0; !in->rc && !in->rejected && i < kind->indexes_len; i++)
        collect_keys(L, in, i);
    return 0;
}

static int note_error(struct intake *in, const char *message, const char *module, int line)
{
    struct osm_buf label = OSM_BUF_INIT(LABEL_MAX_BYTES);
    (void)osm_buf_addf(&label, "%s of ", in->stage ? in->stage : "intake");
    label_of(in->thing->object, &label);
    in->thing->error =
        json_pack("{s:s?, s:o, s:s, s:i}", "where", label.data, "message", osm_text_json(message),
                  "module", module[0] ? module : in->by->path, "line", line);
    osm_buf_clear(&label);
    return in->thing->error ? 0 : OSM_ENOMEM;
}

static int enter_buckets(struct intake *in)
{
    struct osm_engine *e = in->e;
    int rc = 0;
    for (size_t at = 0; !rc && at < e->keys_scratch.len;) {
        uint32_t index, len;
        memcpy(&index, e->keys_scratch.data + at, sizeof index);
        memcpy(&len, e->keys_scratch.data + at + sizeof index, sizeof len);
        at += sizeof index + sizeof len;
        rc = osm__bucket_add(e, in->thing->kind->indexes[index],
                             (const unsigned char *)e->keys_scratch.data + at, len, in->thing);
        at += len;
    }
    return rc;
}

/* What is not part of an object's hash must not be readable either. The rest is the object's own,
 * shared with it: whoever changes it makes a copy. */
static json_t *visible_body(const struct osm_decl *kind, const struct osm_object *o)
{
    json_t *body = json_copy((json_t *)(uintptr_t)o->body); /* jansson counts, no more */
    const json_t *all = json_object_get(body, "metadata");
    json_t *metadata = json_is_object(all) ? json_copy((json_t *)(uintptr_t)all) : NULL;
    if (json_is_object(all) && json_object_set_new(body, "metadata", metadata)) {
        json_decref(body);
        return NULL;
    }
    if (!kind->status)
        (void)json_object_del(body, "status");
    if (kind->tolerant)
        (void)json_object_del(body, "refused"); /* ours to say */
    (void)json_object_del(metadata, "managedFields");
    (void)json_object_del(metadata, "resourceVersion");
    (void)json_object_del(metadata, "generation");
    if (kind->hides_labels) {
        (void)json_object_del(metadata, "labels");
        (void)json_object_del(metadata, "annotations");
    }
    return body;
}

/* Most objects are what their schema wants them to be, and stay shared. */
static int apply_schema(struct osm_thing *t, const struct osm_schema *schema, struct osm_err *err)
{
    bool changes;
    int rc = osm_schema_check(schema, t->body, &changes, err);
    if (rc || !changes)
        return rc;
    json_t *copy = json_deep_copy(t->body);
    if (!copy)
        return osm_fail(err, OSM_ENOMEM, "%s", osm_code_text(OSM_ENOMEM));
    json_decref(t->body);
    t->body = copy;
    return osm_schema_apply(schema, copy, err);
}

/* What is wrong stays readable for the rules, which may have to close what it was meant to close.
 */
static int note_refused(void *ud, const char *text)
{
    struct intake *in = ud;
    const char *colon = strstr(text, ": ");
    int rc = reject_text(in, text);
    in->rejected = false;
    if (!rc &&
        json_object_setn_new(in->refused, text, colon ? (size_t)(colon - text) : strlen(text),
                             json_string(colon ? colon + 2 : "")))
        rc = OSM_ENOMEM;
    return rc;
}

/* Of a tolerant kind: the object without what is wrong in it. */
static int tolerate(struct intake *in, const struct osm_schema *schema, struct osm_err *err)
{
    struct osm_thing *t = in->thing;
    json_t *copy = json_deep_copy(t->body), *refused = json_object();
    if (!copy || !refused) {
        json_decref(copy);
        json_decref(refused);
        return osm_fail(err, OSM_ENOMEM, "%s", osm_code_text(OSM_ENOMEM));
    }
    json_decref(t->body);
    t->body = copy;
    *err = (struct osm_err){0};
    in->refused = refused;
    int rc = osm_schema_apply_tolerantly(schema, copy, note_refused, in, err);
    in->refused = NULL;
    if (json_object_set_new(copy, "refused", refused) && !rc)
        rc = osm_fail(err, OSM_ENOMEM, "%s", osm_code_text(OSM_ENOMEM));
    return rc;
}

static int take_in(struct osm_engine *e, struct osm_thing *t)
{
    struct osm_decl *kind = t->kind;
    struct intake in = {.e = e, .thing = t};
    while (kind->versions[in.version] &&
           strcmp(kind->versions[in.version], t->object->version) != 0)
        in.version++;
    if (!kind->versions[in.version]) {
        struct osm_buf text = OSM_BUF_INIT(LABEL_MAX_BYTES);
        (void)osm_buf_addf(&text, "version %s is not known here, but", t->object->version);
        for (size_t i = 0; kind->versions[i]; i++)
            (void)osm_buf_addf(&text, "%s %s", i ? "," : "", kind->versions[i]);
        in.by = kind->module;
        int rc = add_reject(&in, "apiVersion", text.data ? text.data : "unknown version");
        osm_buf_clear(&text);
        if (rc || !kind->tolerant)
            return rc;
        in.rejected = false; /* what of it the newest version can say counts */
        in.version = 0;
    }
    t->body = visible_body(kind, t->object);
    if (!t->body)
        return OSM_ENOMEM;
    struct osm_err err = {0};
    struct osm_schema *schema = kind->schemas[in.version];
    int rc = schema ? apply_schema(t, schema, &err) : 0;
    if (rc == OSM_EINVAL && kind->tolerant)
        rc = tolerate(&in, schema, &err);
    rc = check_schema(&in, rc, &err);
    if (rc || in.rejected)
        return rc;
    osm_buf_reset(&e->keys_scratch);
    if (kind->accept != LUA_NOREF || kind->indexes_len || kind->from[in.version] != LUA_NOREF) {
        char *message = NULL, module[256];
        int line = 0;
        if (!osm_frame_push(e, NULL, true))
            return OSM_ELIMIT;
        rc = osm_lua_call(e, l_take_in, &in, &message, module, &line);
        osm_frame_pop(e);
        if (rc && !e->abort) {
            rc = note_error(&in, message, module, line);
            in.rejected = true;
        }
        osm_free(message);
        if (rc)
            return e->abort == OSM_ABORT_NOMEM ? OSM_ENOMEM : rc;
    }
    if (in.rc || in.rejected)
        return in.rc;
    t->present = true;
    osm__keys_add(e, kind, t->key, t->key_len);
    return enter_buckets(&in);
}

/* --- the things of a kind --- */

static size_t thing_key(const struct osm_object *o, unsigned char out[OSM_KEY_BYTES])
{
    struct osm_key key = {0};
    if (o->ns[0])
        key.at[key.n++] = (struct osm_scalar){.type = OSM_SCALAR_STR, .str = o->ns};
    key.at[key.n++] = (struct osm_scalar){.type = OSM_SCALAR_STR, .str = o->name};
    return osm_key_encode(&key, out);
}

static void drop_table(struct osm_engine *e, struct osm_thing *t)
{
    luaL_unref(e->L, LUA_REGISTRYINDEX, t->ref);
    t->ref = LUA_NOREF;
}

static void thing_free(struct osm_thing *t)
{
    if (!t)
        return;
    osm_object_unref(t->object);
    json_decref(t->body);
    json_decref(t->rejects);
    json_decref(t->error);
    osm_free(t->buckets);
    osm_free(t);
}

static int tell(struct osm_engine *e, struct osm_thing *t)
{
    struct osm_things *all = &e->telling_things;
    if (all->len == all->cap) {
        size_t cap = all->cap ? all->cap * 2 : 16;
        struct osm_thing **grown = osm_realloc_array(all->list, cap, sizeof(struct osm_thing *));
        if (!grown)
            return OSM_ENOMEM;
        all->list = grown;
        all->cap = cap;
    }
    all->list[all->len++] = t;
    t->telling_at = all->len;
    e->reports_changed = true;
    return 0;
}

static void stop_telling(struct osm_engine *e, struct osm_thing *t)
{
    struct osm_things *all = &e->telling_things;
    if (!t->telling_at)
        return;
    struct osm_thing *moved = all->list[--all->len];
    all->list[t->telling_at - 1] = moved;
    moved->telling_at = t->telling_at;
    e->reports_changed = true;
}

static void remove_thing(struct osm_engine *e, struct osm_decl *kind, const unsigned char *key,
                         size_t len)
{
    struct osm_thing *t = osm_map_deln(&kind->objects, key, len);
    if (!t)
        return;
    if (t->present)
        osm__keys_remove(e, kind, key, len);
    osm__buckets_leave(e, t);
    leave_handed(e, t);
    stop_telling(e, t);
    drop_table(e, t);
    thing_free(t);
}

int osm_kinds_change(struct osm_engine *e, struct osm_object *old, struct osm_object *now)
{
    const struct osm_object *any = now ? now : old;
    char room[OSM_BUF_ROOM];
    struct osm_buf type = osm_buf_on(room, sizeof room, TYPE_MAX_BYTES);
    (void)osm_buf_add_strs(&type, any->group, "/", any->kind, NULL);
    int failed = type.failed; /* too long: no kind of ours */
    struct osm_decl *kind = failed ? NULL : osm_map_get(&e->kinds_by_type, type.data);
    osm_buf_clear(&type);
    if (failed == OSM_ENOMEM)
        return OSM_ENOMEM;
    unsigned char key[OSM_KEY_BYTES];
    size_t len = kind ? thing_key(any, key) : 0;
    if (!len)
        return 0;
    struct osm_hash hash = now ? osm_hash_fold(osm_hash_bytes(now->key, strlen(now->key)),
                                               kind->hides_labels ? now->core : now->content)
                               : (struct osm_hash){0, 0};
    if (now && kind->status)
        hash = osm_hash_fold(hash, now->status);
    struct osm_thing *known = osm_map_getn(&kind->objects, key, len);
    if (now && known && osm_hash_equal(known->hash, hash)) {
        osm_object_unref(known->object);
        known->object = osm_object_ref(now);
        return 0;
    }
    osm_cells_touch(e, kind, key, len);
    remove_thing(e, kind, key, len);
    if (!now)
        return 0;
    struct osm_thing *t = osm_alloc(sizeof *t + len);
    if (!t || osm_map_putn(&kind->objects, key, len, t, NULL)) {
        osm_free(t);
        return OSM_ENOMEM;
    }
    t->object = osm_object_ref(now);
    t->kind = kind;
    t->ref = LUA_NOREF;
    t->key_len = len;
    memcpy(t->key, key, len);
    t->hash = hash;
    int rc = take_in(e, t);
    if (!t->present)
        drop_table(e, t);
    if (!rc && (t->rejects || t->error))
        rc = tell(e, t);
    if (rc)
        remove_thing(e, kind, key, len); /* half of it must not pass for known */
    return rc;
}

/* --- again, by other functions (rebind.c) --- */

int osm_kinds_put_off(struct osm_engine *e, struct osm_decl *kind)
{
    struct osm_objects *again = &e->again;
    size_t first = again->len, more = kind->objects.count;
    if (again->len + more > again->cap) {
        size_t cap = again->len + more;
        struct osm_object **grown = osm_realloc_array(again->list, cap, sizeof *grown);
        if (!grown)
            return OSM_ENOMEM;
        again->list = grown;
        again->cap = cap;
    }
    osm_map_each (&kind->objects, entry)
        again->list[again->len++] = osm_object_ref(((struct osm_thing *)entry->value)->object);
    for (size_t i = first; i < again->len; i++) {
        unsigned char key[OSM_KEY_BYTES];
        size_t len = thing_key(again->list[i], key);
        osm_cells_touch(e, kind, key, len);
        remove_thing(e, kind, key, len);
    }
    return 0;
}

int osm_kinds_take_again(struct osm_engine *e)
{
    int rc = 0;
    for (size_t i = 0; i < e->again.len && !rc && !e->abort; i++) {
        struct osm_object *object = e->again.list[i];
        if (object)
            rc = osm_kinds_change(e, NULL, object);
    }
    osm_kinds_again_clear(e);
    return rc;
}

void osm_kinds_again_clear(struct osm_engine *e)
{
    for (size_t i = 0; i < e->again.len; i++)
        osm_object_unref(e->again.list[i]);
    osm_free(e->again.list);
    e->again = (struct osm_objects){0};
}

int osm_engine_watch_status(const struct osm_engine *e, struct osm_store_reader *reader)
{
    int rc = 0;
    osm_map_each (&e->kinds_by_type, entry)
        if (!rc && ((const struct osm_decl *)entry->value)->status)
            rc = osm_store_reader_watch_status(reader, entry->key);
    return rc;
}

void osm_kinds_clear(struct osm_decl *decl)
{
    osm_map_each (&decl->objects, entry)
        thing_free(entry->value);
    osm_map_clear(&decl->objects);
    osm_map_each (&decl->buckets, entry)
        osm__bucket_free(entry->value);
    osm_map_clear(&decl->buckets);
}

void osm_kinds_check_mutations(struct osm_engine *e,
                               void (*changed)(void *ud, struct osm_thing *thing), void *ud)
{
    for (struct osm_thing *t = e->handed_things; t; t = t->next_handed) {
        struct osm_hash now = {0, 0};
        if (t->ref == LUA_NOREF)
            continue;
        lua_rawgeti(e->L, LUA_REGISTRYINDEX, t->ref);
        int rc = osm_value_content_hash(e->L, -1, &now);
        lua_pop(e->L, 1);
        if (!rc && osm_hash_equal(now, t->made))
            continue;
        changed(ud, t);
        drop_table(e, t);
    }
}
