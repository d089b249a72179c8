/* The Secret of one sidecar. */
#include "base/base64.h"
#include "inject/admission_priv.h"
#include "inject/files.h"
#include "inject/mesh_config.h"

#include <string.h>

enum {
    SECRET_MAX_BYTES = 1 << 20, /* what Kubernetes takes of all values together, as they were before
                                   base64 */
    VALUE_MAX_BYTES = 2 * SECRET_MAX_BYTES
};

struct writing {
    json_t *data;
    size_t bytes;
};

void osm_webhook_wipe_secret(json_t *secret)
{
    const char *key;
    json_t *value;
    json_object_foreach (json_object_get(secret, "data"), key, value)
        if (json_string_length(value))
            explicit_bzero((char *)(uintptr_t)json_string_value(value), json_string_length(value));
}

static int add_value(void *ud, const char *name, const char *text, bool secret, struct osm_err *err)
{
    struct writing *w = ud;
    size_t len = strlen(text);
    w->bytes += len;
    if (w->bytes > SECRET_MAX_BYTES)
        return osm_fail(err, OSM_ELIMIT,
                        "the files of the sidecar do not fit into a Secret, which holds %d bytes: "
                        "%s has %zu: give the pod fewer probes, or shorter paths to them",
                        SECRET_MAX_BYTES, name, len);
    struct osm_buf encoded = OSM_BUF_INIT(VALUE_MAX_BYTES);
    encoded.secret = secret;
    int rc = osm_base64_encode(&encoded, text, len);
    if (!rc && json_object_set_new(w->data, name, json_string(encoded.data ? encoded.data : "")))
        rc = OSM_ENOMEM;
    osm_buf_clear(&encoded);
    return rc ? osm_fail(err, rc, "%s: %s", name, osm_code_text(rc)) : 0;
}

static json_t *empty_secret(const struct osm_admission *a, const struct osm_injector *injector)
{
    return json_pack("{s:s, s:s, s:{s:s+, s:s, s:{s:s, s:s, s:s, s:s}}, s:s, s:{}}", "apiVersion",
                     "v1", "kind", "Secret", "metadata", "name", OSM__SECRET, a->id.uuid,
                     "namespace", a->ns, "labels", "app.kubernetes.io/name", "openservicemesh.io",
                     "app.kubernetes.io/instance", injector->mesh_name, "app.kubernetes.io/version",
                     OSM_VERSION, OSM__UUID_LABEL, a->id.uuid, "type", "Opaque", "data");
}

static int make(json_t **out, const struct osm_admission *a, const struct osm_injector *injector,
                const struct osm_sidecar_settings *settings, struct osm_sidecar_files *files,
                struct osm_err *err)
{
    files->bootstrap = (struct osm_bootstrap_config){
        .uuid = a->id.uuid,
        .account = a->id.account,
        .ns = a->id.ns,
        .osm_namespace = injector->osm_namespace,
        .trust_domain = injector->trust_domain,
        .ads_port = injector->ads_port,
        .mount_path = "/etc/envoy",
        .tls_minimum = settings->tls_minimum,
        .tls_maximum = settings->tls_maximum,
        .cipher_suites = settings->cipher_suites,
        .ecdh_curves = settings->ecdh_curves,
        .probes = a->probes,
        .probes_len = a->probes_len,
    };
    json_t *made = empty_secret(a, injector);
    struct writing w = {.data = json_object_get(made, "data")};
    int rc = made ? osm_sidecar_files_list(files, add_value, &w, err)
                  : osm_fail(err, OSM_ENOMEM, "Secret of a sidecar");
    if (rc) {
        osm_webhook_wipe_secret(made);
        json_decref(made);
    } else {
        *out = made;
    }
    return rc;
}

int osm_admission_inject(struct osm_admission *a, const struct osm_injector *injector,
                         const json_t *mesh_config, const char *cert_chain_pem, const char *key_pem,
                         const char *roots_pem, json_t **secret, struct osm_err *err)
{
    struct osm_err own = {0};
    struct osm_sidecar_settings settings = {0};
    struct osm_sidecar_files files = {
        .cert_chain_pem = cert_chain_pem, .key_pem = key_pem, .roots_pem = roots_pem};
    if (a->outcome != OSM_ADMISSION_INJECT || a->dry_run)
        return 0;
    int rc = osm_sidecar_settings_read(&settings, mesh_config, &own);
    if (!rc)
        rc = make(secret, a, injector, &settings, &files, &own);
    osm_sidecar_settings_clear(&settings);
    if (!rc)
        return 0;
    osm_admission_deny(a, own.msg);
    return osm_fail(err, rc, "%s", own.msg);
}
