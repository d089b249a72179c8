/* What the daemon was started with. */
#pragma once

#include "base/err.h"
#include "base/options.h"
#include "reload/reload.h"

#include <stdbool.h>
#include <stdint.h>

/* What a daemon does of all that there is. */
enum osm_app_role {
    OSM_APP_CONTROLLER = 1 << 0, /* CA and xDS: serves proxies */
    OSM_APP_BOOTSTRAP = 1 << 1,  /* definitions and objects that an API server has to have */
    OSM_APP_INJECTOR = 1 << 2,   /* gives new pods their sidecar */
};

struct osm_app_config {
    const char *roles_text;                /* "controller,injector,bootstrap" */
    unsigned roles;                        /* of enum osm_app_role */
    const char *source;                    /* "dir:PATH" or "kubernetes" */
    const char *kubeconfig, *kube_context; /* NULL: as in a pod, or as kubectl */
    const char *kube_account_dir;          /* NULL: where Kubernetes puts it */
    const char *kube_silence;
    int64_t kube_silence_s;         /* derived */
    const char *ca_secret;          /* NULL: the CA is in the state_dir */
    const char *bootstrap_deadline; /* "1m" */
    int64_t bootstrap_deadline_s;
    const char *injector_listen, *webhook_config, *pull_policy;
    char webhook_name[254];      /* derived; of the MutatingWebhookConfiguration */
    const char *webhook_timeout; /* "20", seconds */
    int64_t webhook_timeout_s;
    const char *injector_orphans; /* "2m" */
    int64_t injector_orphans_s;
    const char *policies_dirs[OSM_OPTION_VALUES_MAX + 1]; /* NULL-terminated */
    const char *state_dir, *ads_listen, *mesh_name, *osm_namespace, *trust_domain;
    const char *policy_memory; /* "512Mi" */
    size_t policy_memory_bytes;
    const char *preview_memory; /* "256Mi", "0" */
    size_t preview_memory_bytes;
    const char *policy_guard, *policy_watch, *policy_canary_text, *policy_soak;
    unsigned policy_guard_percent;
    int64_t policy_watch_s;
    struct osm_reload_canary policy_canary;
    const char *memory_limit; /* "2Gi"; NULL: none */
    size_t memory_limit_bytes;
    const char *service_cert_key;                      /* "p256" or "rsa" */
    int service_cert_rsa_bits;                         /* 0: P-256 */
    const char *service_cert_lead, *ads_cert_validity; /* "30m"; NULL: the defaults */
    int64_t service_cert_lead_s;                       /* 0: a third of their life */
    int64_t ads_cert_validity_s;
    const char *sidecar_drain_time; /* "45s" */
    int64_t sidecar_drain_time_s;
    const char *control_socket; /* default: STATE_DIR/control.sock */
    const char *http_address;   /* "off": none */
    const char *debug_address;  /* NULL: DEFAULT, while the MeshConfig asks; "off": never */
    const char *debug_socket;   /* NULL: none */
    const char *debug_role;     /* "view" or "operate": of both debug consoles */
    const char *debug_console;  /* "HOST:PORT"; NULL: none */
    const char *debug_token_file;
    const char *verbosity;
    bool help, version;
};

/** Parses the command line. Errors: OSM_EINVAL, ready to print. Strings are borrowed from argv. */
OSM_MUST_USE int osm_app_config_parse(struct osm_app_config *out, int argc, char **argv,
                                      struct osm_err *err);
void osm_app_config_help(void);
