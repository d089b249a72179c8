#include "whatif/room.h"

#include <string.h>

static void room_free(struct osm__room *room)
{
    if (room->kept)
        room->drop(room->kept);
    osm_free(room->roots_pem);
    osm_free(room);
}

int osm__room_new(struct osm__room **out, const struct osm_scratch_config *config,
                  struct osm_policy_files *files, bool proven, void (*drop)(void *kept),
                  const struct osm_policy_callbacks *callbacks, struct osm_err *err)
{
    struct osm_engine_config engine = config->engine;
    struct osm__room *room = osm_alloc(sizeof *room);
    char *roots_pem = room ? osm_strdup(config->roots_pem(config->ud)) : NULL;
    if (!roots_pem) {
        osm_free(room);
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    }
    room->roots_pem = roots_pem;
    room->drop = drop;
    atomic_init(&room->canceled, false);
    engine.files = files;
    engine.roots_pem = roots_pem;
    engine.yields = true;
    engine.proven = proven;
    engine.canceled = &room->canceled;
    int rc = osm_policy_start(&room->policy, config->loop, &engine, callbacks, err);
    if (rc)
        room_free(room);
    else
        *out = room;
    return rc;
}

void osm__room_discard(struct osm__room *room)
{
    if (!room)
        return;
    osm_policy_discard(room->policy);
    room_free(room);
}

void osm__room_stop(struct osm__room *room)
{
    if (!room)
        return;
    atomic_store(&room->canceled, true);
    osm_policy_stop(room->policy);
    room_free(room);
}

static int take_roots(struct osm__room *room, struct osm_engine *engine,
                      struct osm__room_terms *terms, struct osm_err *err)
{
    if (!strcmp(room->roots_pem, terms->roots_pem))
        return 0;
    if (osm_engine_set_roots(engine, terms->roots_pem))
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    osm_free(room->roots_pem);
    room->roots_pem = osm_take_ptr(&terms->roots_pem);
    return 0;
}

int osm__room_settle(struct osm__room *room, struct osm_engine *engine,
                     struct osm__room_terms *terms, bool *fits, struct osm_err *err)
{
    int rc = take_roots(room, engine, terms, err);
    *fits = !rc && osm_policy_files_same(osm_engine_files(engine), terms->files);
    if (rc || *fits)
        return rc;
    return osm_engine_rebind(engine, terms->files, terms->proven, fits, err);
}

bool osm__room_look(struct osm__room *room, const struct osm_engine *engine)
{
    json_t *figures = osm_engine_figures(engine);
    room->bytes = (size_t)json_integer_value(json_object_get(figures, "bytes"));
    json_decref(figures);
    return osm_engine_lost(engine) || osm_engine_stained(engine);
}
