#include "policy/host_settings.h"

#include "policy/memo/cells.h"
#include "policy/memo/value.h"
#include "policy/sandbox/sandbox.h"

static const char RULE[] = "host_settings";

static int l_take(lua_State *L)
{
    struct osm_engine *e = osm_engine_of(L);
    struct osm_err err = {0};
    json_t *answer = NULL;
    osm_cells_push(L, e->host_cell);
    if (osm_value_json(L, -1, RULE, &answer, &err))
        return luaL_error(L, "%s", err.msg);
    if (!json_is_object(answer)) {
        json_decref(answer);
        return 0;
    }
    json_decref(e->host_settings);
    e->host_settings = answer;
    return 0;
}

int osm_host_settings_bring(struct osm_engine *e)
{
    struct osm_decl *rule = osm_map_get(&e->names, RULE);
    struct osm_key none = {0};
    struct osm_err err = {0};
    const char *why;
    if (!rule || rule->type != OSM_DECL_RULE)
        return 0;
    if (!e->host_cell) {
        e->host_cell = osm_cells_get(e, rule, &none, &why);
        if (!e->host_cell)
            return OSM_ENOMEM;
        osm_cells_hold(e->host_cell);
    }
    osm_cells_bring(e, e->host_cell);
    if (e->abort)
        return OSM_ELUA;
    if (e->host_cell->failed || osm_hash_equal(e->host_cell->hash, e->host_seen))
        return 0;
    int rc = osm_lua_run(e, l_take, NULL, &err);
    if (!rc)
        e->host_seen = e->host_cell->hash;
    return e->abort ? OSM_ELUA : 0; /* else tried again by the next run */
}

void osm_host_settings_clear(struct osm_engine *e)
{
    json_decref(e->host_settings);
    e->host_settings = NULL;
    e->host_seen = (struct osm_hash){0, 0};
    e->host_cell = NULL;
}
