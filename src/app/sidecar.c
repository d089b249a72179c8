#include "app/sidecar.h"

#include "inject/files.h"
#include "model/names.h"

#include <string.h>

enum {
    FILE_MAX_BYTES = 256 * 1024,
    PROXY_VALIDITY_S =
        87600 * 3600 /* nothing renews it while the pod lives; cut to the root's end */
};

static int add_text(json_t *files, const char *name, const char *content, bool secret,
                    struct osm_err *err)
{
    if (json_object_set_new(files, name,
                            json_pack("{s:s, s:b}", "content", content, "secret", secret)))
        return osm_fail(err, OSM_ENOMEM, "%s", name);
    return 0;
}

static int add_file(void *files, const char *name, const char *content, bool secret,
                    struct osm_err *err)
{
    return add_text(files, name, content, secret, err);
}

static int add_mounted(const struct osm_app *app, json_t *files, const struct osm_proxy_id *id,
                       const struct osm_bootstrap_config *config, struct osm_err *err)
{
    struct osm_leaf *leaf = NULL;
    char *name = osm_proxy_common_name(id, app->config.trust_domain);
    struct osm_leaf_request request = {OSM_LEAF_PROXY, name, id->uuid, PROXY_VALIDITY_S, 0};
    int rc = name ? osm_ca_issue(app->ca, &request, &leaf, err)
                  : osm_fail(err, OSM_ENOMEM, "certificate");
    if (!rc)
        rc = osm_sidecar_files_list(&(struct osm_sidecar_files){*config, osm_leaf_chain_pem(leaf),
                                                                osm_leaf_key_pem(leaf),
                                                                osm_ca_roots_pem(app->ca)},
                                    add_file, files, err);
    osm_leaf_unref(leaf);
    osm_free(name);
    return rc;
}

static int add_arguments(json_t *files, const struct osm_bootstrap_config *config,
                         struct osm_err *err)
{
    struct osm_buf text = OSM_BUF_INIT(FILE_MAX_BYTES);
    int rc = osm_bootstrap_args(&text, config, err);
    if (!rc)
        rc = add_text(files, "envoy.args", text.data, false, err);
    osm_buf_clear(&text);
    return rc;
}

static int add_iptables(const struct osm_app *app, json_t *files, const struct osm_object *pod,
                        struct osm_err *err)
{
    struct osm_buf text = OSM_BUF_INIT(FILE_MAX_BYTES);
    char *key = osm_strf("config.openservicemesh.io/MeshConfig/%s/osm-mesh-config",
                         app->config.osm_namespace);
    if (!key)
        return osm_fail(err, OSM_ENOMEM, "iptables.sh");
    const struct osm_object *mesh_config = osm_store_get(app->store, key);
    int rc = osm_sidecar_init_script(&text, mesh_config ? mesh_config->body : NULL, pod->body, err);
    if (!rc)
        rc = add_text(files, "iptables.sh", text.data, false, err);
    osm_buf_clear(&text);
    osm_free(key);
    return rc;
}

/* The uuid label and the account, checked. */
static int identify(struct osm_proxy_id *id, const struct osm_object *pod, struct osm_err *err)
{
    const char *uuid = osm_json_str_at(pod->body, "metadata", "labels", "osm-proxy-uuid", NULL);
    const char *account = osm_pod_account(pod);
    if (!uuid || !osm_uuid_valid(uuid))
        return osm_fail(err, OSM_EINVAL, "pod %s/%s: its label osm-proxy-uuid %s", pod->ns,
                        pod->name,
                        uuid ? "is no uuid (8-4-4-4-12 hex digits)"
                             : "is missing: the mesh gives no sidecar to it");
    if (strlen(account) >= sizeof id->account || strlen(pod->ns) >= sizeof id->ns)
        return osm_fail(err, OSM_EINVAL,
                        "pod %s/%s: name of the service account or namespace too long", pod->ns,
                        pod->name);
    memcpy(id->uuid, uuid, sizeof id->uuid);
    for (char *c = id->uuid; *c; c++)
        if (*c >= 'A' && *c <= 'F')
            *c = (char)(*c - 'A' + 'a');
    memcpy(id->account, account, strlen(account) + 1);
    memcpy(id->ns, pod->ns, strlen(pod->ns) + 1);
    return 0;
}

int osm_sidecar_files(struct osm_app *app, const struct osm_object *pod, const char *mount_path,
                      json_t **files, struct osm_err *err)
{
    struct osm_proxy_id id = {0};
    int rc = identify(&id, pod, err);
    if (rc)
        return rc;
    struct osm_bootstrap_config config = {
        .uuid = id.uuid,
        .account = id.account,
        .ns = id.ns,
        .osm_namespace = app->config.osm_namespace,
        .trust_domain = app->config.trust_domain,
        .ads_port = app->ads_port,
        .mount_path = mount_path ? mount_path : "/etc/envoy",
        .tls_minimum = app->settings.tls_minimum,
        .tls_maximum = app->settings.tls_maximum,
        .cipher_suites = app->settings.cipher_suites,
        .ecdh_curves = app->settings.ecdh_curves,
        .log_level = app->settings.sidecar_log_level,
        .drain_time_s = (int)app->config.sidecar_drain_time_s,
    };
    json_t *out = json_object();
    rc = out ? add_mounted(app, out, &id, &config, err) : osm_fail(err, OSM_ENOMEM, "sidecar");
    if (!rc)
        rc = add_arguments(out, &config, err);
    if (!rc)
        rc = add_iptables(app, out, pod, err);
    if (rc)
        json_decref(out);
    else
        *files = out;
    return rc;
}
