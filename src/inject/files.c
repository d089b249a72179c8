#include "inject/files.h"

#include "inject/exclusions.h"
#include "inject/iptables.h"

enum { FILE_MAX_BYTES = 4 << 20 }; /* as many and as long probes as are taken */

typedef int writer_fn(struct osm_buf *out, const struct osm_bootstrap_config *config,
                      struct osm_err *err);

int osm_sidecar_files_list(const struct osm_sidecar_files *files, osm_sidecar_file_fn *each,
                           void *ud, struct osm_err *err)
{
    static const struct {
        const char *name;
        writer_fn *write;
    } written[] = {
        {"bootstrap.yaml", osm_bootstrap_yaml},
        {"tls_certificate_sds_secret.yaml", osm_bootstrap_tls_sds_yaml},
        {"validation_context_sds_secret.yaml", osm_bootstrap_validation_sds_yaml},
    };
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof written / sizeof *written; i++) {
        struct osm_buf text = OSM_BUF_INIT(FILE_MAX_BYTES);
        rc = written[i].write(&text, &files->bootstrap, err);
        if (!rc)
            rc = each(ud, written[i].name, text.data, false, err);
        osm_buf_clear(&text);
    }
    if (!rc)
        rc = each(ud, "sds_cert.pem", files->cert_chain_pem, false, err);
    if (!rc)
        rc = each(ud, "sds_key.pem", files->key_pem, true, err);
    if (!rc)
        rc = each(ud, "cacert.pem", files->roots_pem, false, err);
    return rc;
}

int osm_sidecar_init_script(struct osm_buf *out, const json_t *mesh_config, const json_t *pod,
                            struct osm_err *err)
{
    struct osm_exclusions exclusions = {0};
    int rc = osm_exclusions_read(&exclusions, mesh_config, pod, err);
    if (!rc)
        rc = osm_iptables_script(out, &exclusions.config, err);
    osm_exclusions_clear(&exclusions);
    return rc;
}
