#include "install/install_priv.h"

#include "base/log.h"

static bool all_done(const struct osm_install *b)
{
    bool done = osm__part_is_done(&b->preset.part);
    for (size_t i = 0; i < b->crds_len && done; i++)
        done = osm__part_is_done(&b->crds[i].part);
    return done;
}

void osm__install_moved(struct osm_install *b)
{
    struct osm__part *preset = &b->preset.part;
    if (!osm__part_is_done(preset) && !preset->call)
        osm__part_wait(preset, 0, preset->begin);
    if (!b->told && all_done(b)) {
        b->told = true;
        osm_log(OSM_LOG_BOOTSTRAP, OSM_LOG_INFO, "all is there", OSM_U("definitions", b->crds_len));
    }
}

bool osm_install_done(const struct osm_install *b)
{
    return all_done(b);
}

static int add_status(json_t *parts, const struct osm__part *p)
{
    static const char *const words[] = {
        [OSM__PART_WORKING] = "working",     [OSM__PART_FAILED] = "failed",
        [OSM__PART_CREATED] = "created",     [OSM__PART_UPGRADED] = "upgraded",
        [OSM__PART_UNCHANGED] = "unchanged", [OSM__PART_NEWER] = "newer",
    };
    return json_array_append_new(parts, json_pack("{s:s, s:s, s:s}", "name", p->name, "state",
                                                  words[p->state], "reason", p->reason));
}

json_t *osm_install_status(const struct osm_install *b)
{
    json_t *parts = json_array();
    bool failed = b->preset.part.state == OSM__PART_FAILED;
    int rc = parts ? 0 : -1;
    for (size_t i = 0; i < b->crds_len && !rc; i++) {
        failed = failed || b->crds[i].part.state == OSM__PART_FAILED;
        rc = add_status(parts, &b->crds[i].part);
    }
    if (!rc)
        rc = add_status(parts, &b->preset.part);
    if (rc) {
        json_decref(parts);
        return NULL;
    }
    return json_pack("{s:s, s:o}", "state",
                     failed        ? "failed"
                     : all_done(b) ? "done"
                                   : "working",
                     "parts", parts);
}

int osm_install_start(struct osm_install **out, const struct osm_install_config *config,
                      struct osm_err *err)
{
    struct osm_install *b = osm_alloc(sizeof *b);
    size_t n = 0;
    while (osm_crd_files[n].name)
        n++;
    if (!b)
        return osm_fail(err, OSM_ENOMEM, "bootstrap");
    b->config = *config;
    b->crds = osm_alloc_array(n, sizeof *b->crds);
    int rc = b->crds ? osm__preset_init(&b->preset, b) : OSM_ENOMEM;
    for (; b->crds_len < n && !rc; b->crds_len++)
        rc = osm__crd_init(&b->crds[b->crds_len], b, &osm_crd_files[b->crds_len]);
    if (rc) {
        osm_install_stop(b);
        return osm_fail(err, rc, "bootstrap");
    }
    for (size_t i = 0; i < n; i++)
        osm__part_wait(&b->crds[i].part, 0, b->crds[i].part.begin);
    *out = b;
    return 0;
}

void osm_install_stop(struct osm_install *b)
{
    if (!b)
        return;
    b->stopping = true;
    for (size_t i = 0; i < b->crds_len; i++)
        osm__crd_clear(&b->crds[i]);
    osm__preset_clear(&b->preset);
    osm_free(b->crds);
    osm_free(b);
}
