/* The MeshConfig that the mesh begins with: made of what the chart has put into a ConfigMap, once.
 * One that is there is an operator's, and never touched. */
#include "install/install_priv.h"

#include "base/json.h"

#include <stdio.h>
#include <string.h>

#define MESH_CONFIG "osm-mesh-config"
#define PRESET      "preset-mesh-config"
#define PRESET_KEY  "preset-mesh-config.json"

static const char NEEDS[] =
    "its role needs get and create of meshconfigs.config.openservicemesh.io, "
    "and get of the ConfigMap " PRESET;

static struct osm__preset *preset_of(struct osm__part *p)
{
    return (struct osm__preset *)p;
}

static void made(struct osm__part *p, const struct osm_kube_answer *a)
{
    char why[OSM_CRD_WHY_SIZE];
    if (a->status == 409) {
        osm__part_again(p);
    } else if (a->status == 422 || a->status == 400) {
        (void)snprintf(why, sizeof why, "ConfigMap " PRESET ", key " PRESET_KEY ": %.420s", a->why);
        osm__part_fail(p, why, "");
    } else if (a->rc || !a->object) {
        osm__part_refused(p, a, NEEDS);
    } else {
        p->outcome = OSM__PART_CREATED;
        p->reason[0] = '\0';
        osm__part_done(p);
    }
}

/* Errors: OSM_EPARSE, OSM_EINVAL, OSM_ENOENT; what, in *err. */
static int read_preset(const json_t *config, json_t **spec, struct osm_err *err)
{
    const json_t *data = json_object_get(config, "data");
    const json_t *text = json_object_get(data, PRESET_KEY);
    json_error_t where;
    if (!text)
        return osm_fail(err, OSM_ENOENT, "ConfigMap " PRESET " has no key " PRESET_KEY);
    json_t *value = json_loadb(json_string_value(text), json_string_length(text),
                               JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
    if (!value)
        return osm_fail(err, OSM_EPARSE,
                        "ConfigMap " PRESET ", key " PRESET_KEY ": line %d, column %d: %s",
                        where.line, where.column, where.text);
    if (!json_is_object(value)) {
        json_decref(value);
        return osm_fail(err, OSM_EINVAL,
                        "ConfigMap " PRESET ", key " PRESET_KEY
                        ": expected an object, the spec of a MeshConfig");
    }
    *spec = value;
    return 0;
}

static void make(struct osm__part *p, json_t *spec)
{
    const char *ns = p->install->config.osm_namespace;
    char *path = osm_strf("/apis/config.openservicemesh.io/v1alpha2/namespaces/%s/meshconfigs"
                          "?fieldManager=osm-bootstrap",
                          ns);
    json_t *body = json_pack("{s:s, s:s, s:{s:s, s:s}, s:O}", "apiVersion",
                             "config.openservicemesh.io/v1alpha2", "kind", "MeshConfig", "metadata",
                             "name", MESH_CONFIG, "namespace", ns, "spec", spec);
    if (!path || !body)
        osm__part_fail(p, osm_code_text(OSM_ENOMEM), "");
    else
        osm__part_ask(p,
                      &(struct osm_kube_ask){.verb = "create",
                                             .resource = "meshconfigs",
                                             .method = "POST",
                                             .path = path,
                                             .body = body},
                      made);
    json_decref(body);
    osm_free(path);
}

static void preset_known(struct osm__part *p, const struct osm_kube_answer *a)
{
    struct osm_err err = {0};
    json_t *spec = NULL;
    if (a->rc || !a->object)
        osm__part_fail(p, a->why,
                       osm_kube_lacks_right(a) ? NEEDS
                       : a->status == 404      ? "make it, or a MeshConfig " MESH_CONFIG
                                               : "");
    else if (read_preset(a->object, &spec, &err))
        osm__part_fail(p, err.msg, "mend it, or make a MeshConfig " MESH_CONFIG);
    else
        make(p, spec);
    json_decref(spec);
}

static bool definition_is_there(const struct osm_install *b)
{
    for (size_t i = 0; i < b->crds_len; i++)
        if (!strcmp(b->crds[i].part.name, "meshconfigs.config.openservicemesh.io"))
            return osm__part_is_done(&b->crds[i].part);
    return false;
}

static void looked(struct osm__part *p, const struct osm_kube_answer *a)
{
    if (!a->rc && a->status == 200) {
        p->outcome = OSM__PART_UNCHANGED;
        p->reason[0] = '\0';
        osm__part_done(p);
    } else if (a->status == 404) {
        osm__part_ask(p,
                      &(struct osm_kube_ask){.verb = "get",
                                             .resource = "configmaps",
                                             .path = preset_of(p)->config_path},
                      preset_known);
    } else {
        osm__part_refused(p, a, NEEDS);
    }
}

static void look(struct osm__part *p)
{
    if (definition_is_there(p->install))
        osm__part_ask(p,
                      &(struct osm_kube_ask){
                          .verb = "get", .resource = "meshconfigs", .path = preset_of(p)->path},
                      looked);
    /* else: it is called when the definition is */
}

int osm__preset_init(struct osm__preset *preset, struct osm_install *install)
{
    const char *ns = install->config.osm_namespace;
    *preset = (struct osm__preset){0};
    int rc = osm__part_init(&preset->part, install, "MeshConfig " MESH_CONFIG, look);
    preset->path = osm_strf("/apis/config.openservicemesh.io/v1alpha2/namespaces/%s/meshconfigs/%s",
                            ns, MESH_CONFIG);
    preset->config_path = osm_strf("/api/v1/namespaces/%s/configmaps/" PRESET, ns);
    return !rc && preset->path && preset->config_path ? 0 : OSM_ENOMEM;
}

void osm__preset_clear(struct osm__preset *preset)
{
    osm__part_clear(&preset->part);
    osm_free(preset->path);
    osm_free(preset->config_path);
}
