#include "cli/policy_objects.h"

#include "source/source.h"

static void put(void *ud, struct osm_object *object)
{
    struct osm__objects *o = ud;
    if (osm_store_put(o->store, object))
        o->failed = true;
}

static void gone(void *ud, const char *key)
{
    struct osm__objects *o = ud;
    (void)osm_store_delete(o->store, key);
}

static void synced(void *ud)
{
    (void)ud;
}

static int read_all(struct osm__objects *o, const char *dir, struct osm_err *err)
{
    struct osm_loop *loop = NULL;
    struct osm_source *source = NULL;
    int rc = osm_loop_new(&loop, err);
    if (!rc)
        rc = osm_source_dir_start(&source, loop, dir,
                                  &(struct osm_source_sink){o, put, gone, synced}, err);
    if (!rc) {
        osm_source_refresh(source, NULL, NULL); /* a directory: at once */
        const char *failure = osm_source_failure(source);
        json_t *status = osm_source_status(source);
        if (failure)
            rc = osm_fail(err, OSM_EIO, "%s", failure);
        else if (!status)
            rc = osm_fail(err, OSM_ENOMEM, "out of memory");
        o->problems = json_incref(json_object_get(status, "errors"));
        json_decref(status);
    }
    osm_source_stop(source);
    osm_loop_free(loop);
    return rc;
}

int osm__objects_open(struct osm__objects *o, const char *dir, struct osm_err *err)
{
    *o = (struct osm__objects){.store = osm_store_new()};
    o->reader = o->store ? osm_store_reader_new(o->store) : NULL;
    int rc = o->reader ? 0 : osm_fail(err, OSM_ENOMEM, "out of memory");
    if (!rc && dir)
        rc = read_all(o, dir, err);
    if (!rc && o->failed)
        rc = osm_fail(err, OSM_ENOMEM, "out of memory");
    return rc;
}

void osm__objects_close(struct osm__objects *o)
{
    osm_store_reader_free(o->reader);
    osm_store_free(o->store);
    json_decref(o->problems);
    *o = (struct osm__objects){0};
}
