/* The `out` table: what an emitter says becomes an item at once, encoded and checked, so that a
 * mistake is an error of that line. */
#include "base/map.h"
#include "base/nearest.h"
#include "policy/emit/emit_priv.h"

#include "policy/bundle/extend.h"
#include "policy/emit/steps.h"
#include "policy/memo/cells.h"
#include "policy/sandbox/sandbox.h"

#include <string.h>

static const struct osm__form forms[] = {
    {"cluster",
     OSM_XDS_CDS,
     OSM_ITEM_WHOLE,
     "name",
     NULL,
     "envoy.config.cluster.v3.Cluster",
     NULL,
     OSM_FILL_NONE,
     {"name", "audience", "message", "at"},
     "A whole cluster. The message leaves out `name`."},
    {"load_assignment",
     OSM_XDS_EDS,
     OSM_ITEM_WHOLE,
     "cluster",
     NULL,
     NULL,
     NULL,
     OSM_FILL_ENDPOINTS,
     {"cluster", "audience", "service_port", "accounts", "targets"},
     "A whole load assignment: the host fills in the addresses of the ready endpoints of the "
     "Service port whose account is listed (plain names, in the namespace of the Service), and "
     "whose own port is, where `targets` lists ports of pods."},
    {"listener",
     OSM_XDS_LDS,
     OSM_ITEM_HEADER,
     "name",
     NULL,
     "envoy.config.listener.v3.Listener",
     "filter_chains",
     OSM_FILL_NONE,
     {"name", "audience", "message", "header_rule", "alone", "at"},
     "What is around the chains of a listener. Served when a chain of it is, or `alone`. The "
     "message leaves out `name` and `filter_chains`; `header_rule` instead of it names a "
     "rule that is asked as `rule(mesh, resource name, tags of the chains joined by \",\")` "
     "and answers the message."},
    {"filter_chain",
     OSM_XDS_LDS,
     OSM_ITEM_ELEMENT,
     "listener",
     "name",
     "envoy.config.listener.v3.FilterChain",
     NULL,
     OSM_FILL_NONE,
     {"listener", "name", "audience", "message", "tags", "authorises", "at"},
     "One chain of a listener. Its tags reach the header rule of the listener. What "
     "authorises is withdrawn when its emitter fails."},
    {"route_configuration",
     OSM_XDS_RDS,
     OSM_ITEM_HEADER,
     "name",
     NULL,
     "envoy.config.route.v3.RouteConfiguration",
     "virtual_hosts",
     OSM_FILL_NONE,
     {"name", "audience", "message", "alone", "at"},
     "What is around the virtual hosts of a route table. Served when a host of it is, or "
     "`alone`. The message leaves out `name` and `virtual_hosts`."},
    {"virtual_host",
     OSM_XDS_RDS,
     OSM_ITEM_ELEMENT,
     "route_configuration",
     "name",
     "envoy.config.route.v3.VirtualHost",
     NULL,
     OSM_FILL_NONE,
     {"route_configuration", "name", "audience", "message", "authorises", "at"},
     "One virtual host of a route table. What authorises is withdrawn when its emitter "
     "fails."},
    {"validation_context",
     OSM_XDS_SDS,
     OSM_ITEM_WHOLE,
     "name",
     NULL,
     NULL,
     NULL,
     OSM_FILL_ROOTS,
     {"name", "audience", "sans"},
     "A secret that says whom to trust: the roots of today and, with `sans`, the exact DNS "
     "names that are allowed. Every proxy is served the secret \"service-cert\", its own "
     "certificate, without being asked for."},
};

static void free_texts(char **texts)
{
    for (size_t i = 0; texts && texts[i]; i++)
        osm_free(texts[i]);
    osm_free(texts);
}

void osm_emitted_clear(struct osm_emitted *m)
{
    osm_item_free(m->item);
    osm_free(m->key);
    osm_free(m->ns);
    osm_free(m->service);
    free_texts(m->names);
    osm_free(m->ports);
    *m = (struct osm_emitted){0};
}

struct osm_bytes *osm_emit_encode_header(lua_State *L, int index, const char *name,
                                         struct osm_err *err)
{
    return osm__item_encode_header(L, &forms[2], index, name, err);
}

/* --- the calls --- */

static void check_fields(lua_State *L, const struct osm__form *form)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
        bool known = false;
        const char *field = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
        if (!field)
            luaL_error(L, "out.%s: expected a table with named fields", form->name);
        for (size_t i = 0; form->fields[i]; i++)
            known = known || !strcmp(form->fields[i], field);
        if (known)
            continue;
        const char *near = osm_nearest_of(form->fields, field);
        if (near)
            luaL_error(L, "out.%s: there is no field \"%s\"; do you mean \"%s\"?", form->name,
                       field, near);
        luaL_error(L, "out.%s: there is no field \"%s\"", form->name, field);
    }
}

static struct osm_emission *emission_of(lua_State *L, const struct osm__form *form)
{
    struct osm_frame *f = osm_top(osm_engine_of(L));
    if (!f || !f->emission)
        luaL_error(L, "out.%s: only an emitter can say this, while it runs", form->name);
    return f->emission;
}

/* Pushes "envoy/clusters.lua:14", the line of the emitter; "" where it has none. [-0, +1, m] */
static void push_place(lua_State *L)
{
    lua_Debug ar;
    if (!lua_getstack(L, 1, &ar) || !lua_getinfo(L, "Sl", &ar) || ar.currentline <= 0)
        lua_pushliteral(L, "");
    else
        lua_pushfstring(L, "%s:%d", ar.source[0] == '@' ? ar.source + 1 : ar.source,
                        ar.currentline);
}

/* Fills in emission->building; an error leaves it to the next call or to the end of the evaluation.
 */
static int l_build(lua_State *L)
{
    const struct osm__form *form = lua_touserdata(L, lua_upvalueindex(1));
    struct osm_emission *emission = emission_of(L, form);
    osm__item_read(L, form, &emission->building);
    return 0;
}

static int keep(struct osm_emission *emission)
{
    if (emission->len == emission->cap) {
        size_t cap = emission->cap ? emission->cap * 2 : 4;
        struct osm_emitted *grown = osm_realloc_array(emission->list, cap, sizeof *grown);
        if (!grown)
            return OSM_ENOMEM;
        emission->list = grown;
        emission->cap = cap;
    }
    emission->building.order = emission->len;
    emission->list[emission->len++] = emission->building;
    emission->building = (struct osm_emitted){0};
    return 0;
}

/* (item, by): one item as it is to be; upvalues: the form, and the line of the emitter. */
static int l_say(lua_State *L)
{
    const struct osm__form *form = lua_touserdata(L, lua_upvalueindex(1));
    const char *place = lua_tostring(L, lua_upvalueindex(2)), *by = lua_tostring(L, 2);
    struct osm_emission *emission = emission_of(L, form);
    osm_emitted_clear(&emission->building);
    if (emission->len >= OSM_ITEMS_MAX)
        return luaL_error(L, "%s%sout.%s: more than %d items for one key", place,
                          *place ? ": " : "", form->name, OSM_ITEMS_MAX);
    struct osm_item *item = emission->building.item = osm_alloc(sizeof *item);
    if (!item)
        return luaL_error(L, "out of memory");
    item->type = form->type;
    item->part = form->part;
    emission->building.fill = form->fill;
    item->place = osm_strdup(place);
    item->extended = by ? osm_strdup(by) : NULL;
    osm_sandbox_charge(L, 100);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushcclosure(L, l_build, 1);
    lua_pushvalue(L, 1);
    int status = lua_pcall(L, 1, 0, 0);
    if (status != LUA_OK) {
        if (status == LUA_ERRMEM || lua_type(L, -1) != LUA_TSTRING)
            return lua_error(L);
        const char *name = item->element ? item->element : item->resource ? item->resource : "?";
        lua_pushfstring(L, "%s%s%s \"%s\": %s%s%s%s", place, *place ? ": " : "", form->name, name,
                        lua_tostring(L, -1), by ? " (changed by " : "", by ? by : "",
                        by ? ")" : "");
        return lua_error(L);
    }
    size_t bytes = item->body ? osm_bytes_len(item->body) : 0;
    if (bytes > OSM_EMISSION_MAX - emission->bytes)
        return luaL_error(L, "%s%sout.%s: more than %d MiB of messages for one key", place,
                          *place ? ": " : "", form->name, OSM_EMISSION_MAX >> 20);
    emission->bytes += bytes;
    osm_sandbox_charge(L, bytes / 64);
    emission->building.authorises = item->authorises;
    if (!item->place || (by && !item->extended) || keep(emission))
        return luaL_error(L, "out of memory");
    return 0;
}

/* out.<form>{ ... } */
static int l_out(lua_State *L)
{
    const struct osm__form *form = lua_touserdata(L, lua_upvalueindex(1));
    emission_of(L, form)->forms |= 1U << (form - forms);
    check_fields(L, form);
    lua_settop(L, 1);
    int at = lua_getfield(L, 1, "at");
    if (at != LUA_TNIL && at != LUA_TTABLE)
        return luaL_error(L, "out.%s: at: expected a table, got %s", form->name,
                          luaL_typename(L, -1));
    lua_settop(L, 1);
    push_place(L);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, -2);
    lua_pushcclosure(L, l_say, 2);
    osm_steps_call(L, form->message, 1);
    if (!osm_extend_has(osm_engine_of(L), form->name)) {
        lua_pushvalue(L, 1);
        lua_call(L, 1, 0);
        osm_steps_said(L, 0);
        return 0;
    }
    osm_extend_push(L, form->name, 1);
    lua_Unsigned n = lua_rawlen(L, 3);
    for (lua_Unsigned i = 1; i <= n; i++) {
        lua_pushvalue(L, 2);
        lua_rawgeti(L, 3, (lua_Integer)i);
        lua_getfield(L, -1, "item");
        lua_getfield(L, -2, "by");
        lua_remove(L, -3);
        lua_call(L, 2, 0);
        osm_steps_said(L, (size_t)i - 1);
    }
    return 0;
}

unsigned osm_emit_form(const char *name)
{
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (!strcmp(forms[i].name, name))
            return 1U << i;
    return 0;
}

static int l_unknown_out(lua_State *L)
{
    const char *names[sizeof forms / sizeof *forms + 1] = {NULL};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        names[i] = forms[i].name;
    const char *name = osm_sandbox_name(L, 2);
    const char *near = osm_nearest_of(names, name);
    if (near)
        return luaL_error(L, "there is no out.%s; do you mean out.%s?", name, near);
    return luaL_error(L, "there is no out.%s", name);
}

void osm_emit_make_out(lua_State *L)
{
    lua_createtable(L, 0, (int)(sizeof forms / sizeof *forms));
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        lua_pushlightuserdata(L, (void *)(uintptr_t)&forms[i]);
        lua_pushcclosure(L, l_out, 1);
        lua_setfield(L, -2, forms[i].name);
    }
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, l_unknown_out);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    osm_sandbox_freeze(L, "out");
    osm_engine_of(L)->out_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

json_t *osm_emit_describe(void)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < sizeof forms / sizeof *forms; i++) {
        json_t *fields = json_array();
        bool failed = !fields;
        for (size_t k = 0; !failed && forms[i].fields[k]; k++)
            failed = json_array_append_new(fields, json_string(forms[i].fields[k])) != 0;
        if (failed ||
            json_array_append_new(list, json_pack("{s:s, s:s, s:s?, s:O}", "name", forms[i].name,
                                                  "text", forms[i].doc, "message", forms[i].message,
                                                  "fields", fields))) {
            json_decref(list);
            list = NULL;
        }
        json_decref(fields);
    }
    return list;
}
