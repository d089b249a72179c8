#include "app/config.h"

#include "base/log.h"
#include "base/options.h"
#include "debug/registry.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    OPTIONS = 41,
    POLICY_MEBIBYTES_MIN = 64,
    RSA_BITS = 2048,
    ADS_CERT_VALIDITY_S = 30 * 24 * 3600,
    DRAIN_TIME_MAX_S = 3600
};

/* The table for one parse; `at` is written through it. */
static void describe(struct osm_option out[OPTIONS], struct osm_app_config *at)
{
    const struct osm_option options[OPTIONS] = {
        {"source", 0, "SOURCE",
         "where objects come from: dir:PATH, a directory of manifests, watched; kubernetes, an API "
         "server",
         &at->source, NULL, true},
        {"kubeconfig", 0, "FILE",
         "of --source kubernetes (default: in a pod its service account, else $KUBECONFIG, else "
         "~/.kube/config)",
         &at->kubeconfig, NULL, false},
        {"kube-account-dir", 0, "DIR",
         "where a pod finds token and ca.crt of its service account (default "
         "/var/run/secrets/kubernetes.io/serviceaccount)",
         &at->kube_account_dir, NULL, false},
        {"kube-context", 0, "NAME", "which context of the kubeconfig (default: its current one)",
         &at->kube_context, NULL, false},
        {"kube-silence", 0, "DURATION",
         "after how long without a byte a watch of the API server is begun anew; bookmarks come "
         "about every minute (default 90s)",
         &at->kube_silence, NULL, false},
        {"roles", 0, "ROLES",
         "what this daemon does, with commas: controller, serve proxies; injector, give new pods "
         "their sidecar; bootstrap, make the definitions and the MeshConfig that an API server has "
         "to have (default controller)",
         &at->roles_text, NULL, false},
        {"bootstrap-deadline", 0, "DURATION",
         "what the API server has not done by then the role bootstrap calls failed, and waits on "
         "(default 1m)",
         &at->bootstrap_deadline, NULL, false},
        {"injector-listen", 0, "HOST:PORT",
         "where the API server asks about new pods; HTTPS (default 0.0.0.0:9090)",
         &at->injector_listen, NULL, false},
        {"webhook-config-name", 0, "NAME",
         "the MutatingWebhookConfiguration that the role injector writes (default "
         "osm-webhook-MESH)",
         &at->webhook_config, NULL, false},
        {"webhook-timeout", 0, "SECONDS",
         "how long the API server waits for the injector; 1 to 30 (default 20)",
         &at->webhook_timeout, NULL, false},
        {"osm-container-pull-policy", 0, "POLICY",
         "of the mesh's own containers in a pod: Always, IfNotPresent or Never (default "
         "IfNotPresent)",
         &at->pull_policy, NULL, false},
        {"injector-orphans", 0, "DURATION",
         "a sidecar's Secret whose pod has not come by then is deleted; longer than an API server "
         "may take over one (default 2m)",
         &at->injector_orphans, NULL, false},
        {"state-dir", 0, "DIR",
         "root certificate and key, policies last in force; created 0700 (role controller)",
         &at->state_dir, NULL, true},
        {"ca-bundle-secret-name", 0, "NAME",
         "root certificate and key are in this Secret of the control plane's namespace, shared by "
         "all replicas; made when there is none (default: in the state directory)",
         &at->ca_secret, NULL, false},
        {"policies", 0, "DIR...",
         "the Lua policy modules; given again: a directory of your own that lies over them",
         at->policies_dirs, NULL, true},
        {"policy-memory", 0, "SIZE",
         "what the policies may hold, such as 2Gi; 64Mi to 1Ti (default 512Mi)", &at->policy_memory,
         NULL, false},
        {"preview-memory", 0, "SIZE",
         "an engine is kept ready for `osm diff` and `osm policy diff` while the policies in force "
         "take no more than this, as it takes as much again; 1Mi to 1Ti, or 0: never (default "
         "256Mi)",
         &at->preview_memory, NULL, false},
        {"policy-guard", 0, "SHARE",
         "changed policies that take away more of what is served wait for `osm policy activate` "
         "(default 30%)",
         &at->policy_guard, NULL, false},
        {"policy-watch", 0, "DURATION",
         "how long after a change refusals of the proxies roll it back (default 30s)",
         &at->policy_watch, NULL, false},
        {"policy-canary", 0, "WHOM",
         "changed policies serve these proxies first: 5% of them, or label=KEY=VALUE of their pods "
         "(default: all at once)",
         &at->policy_canary_text, NULL, false},
        {"policy-soak", 0, "DURATION", "how long, before they serve all (default 30s)",
         &at->policy_soak, NULL, false},
        {"memory-limit", 0, "SIZE",
         "further proxies are refused while the process holds more than this; 64Mi to 1Ti "
         "(default: "
         "no limit)",
         &at->memory_limit, NULL, false},
        {"ads-listen", 0, "HOST:PORT", "xDS for the sidecars (default 0.0.0.0:15128)",
         &at->ads_listen, NULL, false},
        {"mesh-name", 0, "NAME",
         "namespaces labelled openservicemesh.io/monitored-by=NAME join (default osm)",
         &at->mesh_name, NULL, false},
        {"osm-namespace", 0, "NS", "the control plane's own namespace (default osm-system)",
         &at->osm_namespace, NULL, false},
        {"trust-domain", 0, "DOMAIN", "the last part of every identity (default cluster.local)",
         &at->trust_domain, NULL, false},
        {"service-cert-key", 0, "KIND",
         "keys of service certificates: p256, or rsa of the MeshConfig's certKeyBitSize (default "
         "p256)",
         &at->service_cert_key, NULL, false},
        {"service-cert-lead", 0, "DURATION",
         "renew them so long before they end, such as 30m (default: a third of their life)",
         &at->service_cert_lead, NULL, false},
        {"ads-cert-validity", 0, "DURATION",
         "validity of this server's own certificate, renewed when two thirds are over (default "
         "720h)",
         &at->ads_cert_validity, NULL, false},
        {"sidecar-drain-time", 0, "DURATION",
         "how long a sidecar that starts now lets open connections live whose filter chain has "
         "changed or gone; 1s to 1h (default 45s)",
         &at->sidecar_drain_time, NULL, false},
        {"control-socket", 0, "PATH",
         "where the osm command reaches this daemon (default STATE_DIR/control.sock)",
         &at->control_socket, NULL, false},
        {"http-address", 0, "ADDRESS:PORT",
         "health, metrics and version; off: nowhere (default 127.0.0.1:9091)", &at->http_address,
         NULL, false},
        {"debug-address", 0, "ADDRESS:PORT",
         "the HTTP debug server, on the loopback only; off: never (default: 127.0.0.1:9092, while "
         "the MeshConfig's enableDebugServer is true)",
         &at->debug_address, NULL, false},
        {"debug-socket", 0, "PATH",
         "a console for `osm debug --socket PATH`, in a directory of its own (0700)",
         &at->debug_socket, NULL, false},
        {"debug-role", 0, "ROLE",
         "what the debug consoles may do: view, or operate: also change things (default view)",
         &at->debug_role, NULL, false},
        {"debug-console", 0, "HOST:PORT", "the console on a loopback address too",
         &at->debug_console, NULL, false},
        {"debug-token-file", 0, "FILE",
         "what a session of --debug-console must show first: one line, the file 0600",
         &at->debug_token_file, NULL, false},
        {"verbosity", 'v', "LEVEL",
         "trace, debug, info, warn, error, fatal or disabled (default info)", &at->verbosity, NULL,
         false},
        {"version", 0, NULL, "print the version and end", NULL, &at->version, false},
        {"help", 'h', NULL, "print this and end", NULL, &at->help, false},
        {NULL, 0, NULL, NULL, NULL, NULL, false},
    };
    memcpy(out, options, sizeof options);
}

/* Mesh name and namespace become label values and DNS labels. */
static int check_label(const char *flag, const char *value, struct osm_err *err)
{
    size_t n = strlen(value);
    bool ok = n >= 1 && n <= 63 && isalnum((unsigned char)value[0]) &&
              isalnum((unsigned char)value[n - 1]);
    for (size_t i = 0; ok && i < n; i++)
        ok =
            islower((unsigned char)value[i]) || isdigit((unsigned char)value[i]) || value[i] == '-';
    if (ok)
        return 0;
    return osm_fail(
        err, OSM_EINVAL,
        "--%s %s: expected at most 63 of a-z, 0-9 and '-', with a letter or digit at both ends",
        flag, value);
}

static int check_domain(const char *value, struct osm_err *err)
{
    char label[64];
    for (const char *at = value;; at++) {
        size_t n = strcspn(at, ".");
        if (n == 0 || n >= sizeof label || strlen(value) > 128)
            return osm_fail(err, OSM_EINVAL,
                            "--trust-domain %s: expected a DNS name such as cluster.local", value);
        memcpy(label, at, n);
        label[n] = '\0';
        if (check_label("trust-domain", label, err))
            return osm_fail(err, OSM_EINVAL,
                            "--trust-domain %s: expected a DNS name such as cluster.local", value);
        at += n;
        if (!*at)
            return 0;
    }
}

/* A whole number with Mi or Gi, as Kubernetes writes quantities of memory. */
static int parse_memory(const char *flag, const char *text, uintmax_t min_mebibytes, size_t *out,
                        struct osm_err *err)
{
    enum { MEBIBYTES_MAX = 1024 * 1024 };
    uintmax_t mebibytes = 0;
    const char *p = text;
    for (; isdigit((unsigned char)*p) && mebibytes <= MEBIBYTES_MAX; p++)
        mebibytes = mebibytes * 10 + (uintmax_t)(*p - '0');
    if (!strcmp(p, "Gi"))
        mebibytes *= 1024;
    else if (!strcmp(p, "Ti"))
        mebibytes *= (uintmax_t)1024 * 1024;
    else if (strcmp(p, "Mi") != 0)
        mebibytes = 0;
    if (mebibytes < min_mebibytes || mebibytes > MEBIBYTES_MAX)
        return osm_fail(err, OSM_EINVAL, "--%s %s: expected %juMi to 1Ti, such as 512Mi or 2Gi",
                        flag, text, min_mebibytes);
    *out = (size_t)mebibytes << 20;
    return 0;
}

/* "90s", "30m", "12h": one number and its unit. */
static int parse_duration(const char *flag, const char *text, int64_t *out_s, struct osm_err *err)
{
    enum { SECONDS_MAX = 10 * 365 * 24 * 3600 };
    char *end = NULL;
    errno = 0;
    intmax_t number = isdigit((unsigned char)text[0]) ? strtoimax(text, &end, 10) : 0;
    intmax_t unit_s = !end || strlen(end) != 1 ? 0
                      : *end == 's'            ? 1
                      : *end == 'm'            ? 60
                      : *end == 'h'            ? 3600
                                               : 0;
    if (errno || number < 1 || !unit_s || number > SECONDS_MAX / unit_s)
        return osm_fail(err, OSM_EINVAL,
                        "--%s %s: expected a duration from 1s to ten years, such "
                        "as 90s, 30m or 12h",
                        flag, text);
    *out_s = (int64_t)(number * unit_s);
    return 0;
}

static int parse_certificates(struct osm_app_config *c, struct osm_err *err)
{
    int rc = 0;
    c->ads_cert_validity_s = ADS_CERT_VALIDITY_S;
    if (!strcmp(c->service_cert_key, "rsa"))
        c->service_cert_rsa_bits = RSA_BITS;
    else if (strcmp(c->service_cert_key, "p256") != 0)
        rc = osm_fail(err, OSM_EINVAL, "--service-cert-key %s: expected p256 or rsa",
                      c->service_cert_key);
    if (!rc && c->service_cert_lead)
        rc =
            parse_duration("service-cert-lead", c->service_cert_lead, &c->service_cert_lead_s, err);
    if (!rc && c->ads_cert_validity)
        rc =
            parse_duration("ads-cert-validity", c->ads_cert_validity, &c->ads_cert_validity_s, err);
    return rc;
}

static int parse_drain_time(struct osm_app_config *c, struct osm_err *err)
{
    int rc =
        parse_duration("sidecar-drain-time", c->sidecar_drain_time, &c->sidecar_drain_time_s, err);
    if (!rc && c->sidecar_drain_time_s > DRAIN_TIME_MAX_S)
        rc = osm_fail(err, OSM_EINVAL, "--sidecar-drain-time %s: expected 1s to 1h",
                      c->sidecar_drain_time);
    return rc;
}

static int parse_share(const char *flag, const char *text, unsigned *out_percent,
                       struct osm_err *err)
{
    char *end = NULL;
    unsigned long percent = isdigit((unsigned char)text[0]) ? strtoul(text, &end, 10) : 0;
    if (!end || strcmp(end, "%") != 0 || percent > 100)
        return osm_fail(err, OSM_EINVAL, "--%s %s: expected a share from 0%% to 100%%", flag, text);
    *out_percent = (unsigned)percent;
    return 0;
}

static int parse_policies(struct osm_app_config *c, struct osm_err *err)
{
    int64_t soak_s = 0;
    int rc = parse_share("policy-guard", c->policy_guard, &c->policy_guard_percent, err);
    if (!rc)
        rc = parse_duration("policy-watch", c->policy_watch, &c->policy_watch_s, err);
    if (!rc)
        rc = parse_duration("policy-soak", c->policy_soak, &soak_s, err);
    if (!rc && c->policy_canary_text) {
        rc = osm_reload_canary_parse(&c->policy_canary, c->policy_canary_text, err);
        c->policy_canary.soak_ms = (uint64_t)soak_s * 1000;
        if (rc)
            osm_err_prepend(err, "--policy-canary: ");
    }
    return rc;
}

static int check_debug(const struct osm_app_config *c, struct osm_err *err)
{
    if (osm_role_parse(c->debug_role) < 0)
        return osm_fail(err, OSM_EINVAL, "--debug-role %s: expected view or operate",
                        c->debug_role);
    if (c->debug_console && !c->debug_token_file)
        return osm_fail(err, OSM_EINVAL,
                        "--debug-console %s needs --debug-token-file: what its sessions must show",
                        c->debug_console);
    if (c->debug_token_file && !c->debug_console)
        return osm_fail(err, OSM_EINVAL, "--debug-token-file is for --debug-console");
    return 0;
}

static int parse_roles(struct osm_app_config *c, struct osm_err *err)
{
    static const struct {
        const char *name;
        unsigned role;
    } known[] = {{"controller", OSM_APP_CONTROLLER},
                 {"injector", OSM_APP_INJECTOR},
                 {"bootstrap", OSM_APP_BOOTSTRAP}};
    enum { KNOWN = sizeof known / sizeof *known };
    for (const char *at = c->roles_text;; at++) {
        size_t n = strcspn(at, ","), i = 0;
        while (i < KNOWN && (strlen(known[i].name) != n || memcmp(known[i].name, at, n) != 0))
            i++;
        if (i == KNOWN)
            return osm_fail(err, OSM_EINVAL,
                            "--roles %s: there is no role \"%.*s\"; there are controller, "
                            "injector and bootstrap, with a comma between them",
                            c->roles_text, (int)n, at);
        c->roles |= known[i].role;
        at += n;
        if (!*at)
            return 0;
    }
}

/* As Open Service Mesh's injector took them. */
static int parse_injector(struct osm_app_config *c, struct osm_err *err)
{
    enum { TIMEOUT_MAX_S = 30 };
    char *end = NULL;
    const char *policy = c->pull_policy;
    uintmax_t timeout_s =
        isdigit((unsigned char)*c->webhook_timeout) ? strtoumax(c->webhook_timeout, &end, 10) : 0;
    int rc = parse_duration("injector-orphans", c->injector_orphans, &c->injector_orphans_s, err);
    if (rc)
        return rc;
    if (!end || *end || timeout_s < 1 || timeout_s > TIMEOUT_MAX_S)
        return osm_fail(err, OSM_EINVAL, "--webhook-timeout %s: expected seconds, 1 to %d",
                        c->webhook_timeout, TIMEOUT_MAX_S);
    if (strcmp(policy, "Always") != 0 && strcmp(policy, "IfNotPresent") != 0 &&
        strcmp(policy, "Never") != 0)
        return osm_fail(err, OSM_EINVAL,
                        "--osm-container-pull-policy %s: expected Always, IfNotPresent or Never",
                        policy);
    c->webhook_timeout_s = (int64_t)timeout_s;
    int n = c->webhook_config
                ? snprintf(c->webhook_name, sizeof c->webhook_name, "%s", c->webhook_config)
                : snprintf(c->webhook_name, sizeof c->webhook_name, "osm-webhook-%s", c->mesh_name);
    if (n < 1 || (size_t)n >= sizeof c->webhook_name ||
        strspn(c->webhook_name, "abcdefghijklmnopqrstuvwxyz0123456789-.") != (size_t)n)
        return osm_fail(err, OSM_EINVAL, "--webhook-config-name %s: expected a DNS name",
                        c->webhook_config);
    return 0;
}

/* What only one of the roles needs is not asked of the others. */
static int check_required(struct osm_option options[OPTIONS], const struct osm_app_config *c,
                          struct osm_err *err)
{
    for (size_t i = 0; options[i].name; i++)
        if (!strcmp(options[i].name, "state-dir") || !strcmp(options[i].name, "policies"))
            options[i].required = c->roles & OSM_APP_CONTROLLER;
    return osm_options_require(options, err);
}

static int check_source(struct osm_app_config *c, struct osm_err *err)
{
    bool is_cluster = !strcmp(c->source, "kubernetes");
    if (!is_cluster && (c->roles & OSM_APP_BOOTSTRAP))
        return osm_fail(err, OSM_EINVAL, "--roles bootstrap is for --source kubernetes");
    if (!is_cluster && (c->roles & OSM_APP_INJECTOR))
        return osm_fail(err, OSM_EINVAL, "--roles injector is for --source kubernetes");
    if ((c->roles & OSM_APP_INJECTOR) && !(c->roles & OSM_APP_CONTROLLER) && !c->ca_secret)
        return osm_fail(err, OSM_EINVAL,
                        "--roles %s: name the Secret whose roots the controllers use: "
                        "--ca-bundle-secret-name",
                        c->roles_text);
    if (!is_cluster && c->ca_secret)
        return osm_fail(err, OSM_EINVAL, "--ca-bundle-secret-name is for --source kubernetes");
    if (!is_cluster && strncmp(c->source, "dir:", 4) != 0)
        return osm_fail(err, OSM_EINVAL, "--source %s: expected dir:PATH or kubernetes", c->source);
    if (!is_cluster && (c->kubeconfig || c->kube_context || c->kube_account_dir))
        return osm_fail(err, OSM_EINVAL, "--%s is for --source kubernetes",
                        c->kubeconfig     ? "kubeconfig"
                        : c->kube_context ? "kube-context"
                                          : "kube-account-dir");
    if (c->kube_account_dir && (c->kubeconfig || c->kube_context))
        return osm_fail(err, OSM_EINVAL, "--kube-account-dir is for a pod, without a kubeconfig");
    return parse_duration("kube-silence", c->kube_silence, &c->kube_silence_s, err);
}

int osm_app_config_parse(struct osm_app_config *out, int argc, char **argv, struct osm_err *err)
{
    struct osm_app_config config = {
        .roles_text = "controller",
        .bootstrap_deadline = "1m",
        .injector_listen = "0.0.0.0:9090",
        .webhook_timeout = "20",
        .pull_policy = "IfNotPresent",
        .injector_orphans = "2m",
        .ads_listen = "0.0.0.0:15128",
        .kube_silence = "90s",
        .mesh_name = "osm",
        .osm_namespace = "osm-system",
        .trust_domain = "cluster.local",
        .policy_memory = "512Mi",
        .preview_memory = "256Mi",
        .policy_guard = "30%",
        .policy_watch = "30s",
        .policy_soak = "30s",
        .sidecar_drain_time = "45s",
        .service_cert_key = "p256",
        .http_address = "127.0.0.1:9091",
        .debug_role = "view",
        .verbosity = "info",
    };
    struct osm_option options[OPTIONS];
    const char **words = NULL;
    size_t words_len = 0;
    describe(options, &config);
    int rc = osm_options_parse(options, argc, argv, &words, &words_len, err);
    if (!rc && words_len)
        rc = osm_fail(err, OSM_EINVAL, "%s: only flags are expected; --help lists them", words[0]);
    osm_free(words);
    if (rc)
        return rc;
    if (!config.help && !config.version) {
        rc = parse_roles(&config, err);
        if (!rc)
            rc = check_required(options, &config, err);
        if (!rc)
            rc = check_source(&config, err);
        if (!rc)
            rc = parse_duration("bootstrap-deadline", config.bootstrap_deadline,
                                &config.bootstrap_deadline_s, err);
        if (!rc && config.ca_secret)
            rc = check_label("ca-bundle-secret-name", config.ca_secret, err);
        if (!rc)
            rc = check_label("mesh-name", config.mesh_name, err);
        if (!rc)
            rc = check_label("osm-namespace", config.osm_namespace, err);
        if (!rc)
            rc = parse_injector(&config, err);
        if (!rc)
            rc = check_domain(config.trust_domain, err);
        if (!rc)
            rc = parse_memory("policy-memory", config.policy_memory, POLICY_MEBIBYTES_MIN,
                              &config.policy_memory_bytes, err);
        if (!rc && strcmp(config.preview_memory, "0") != 0)
            rc = parse_memory("preview-memory", config.preview_memory, 1,
                              &config.preview_memory_bytes, err);
        if (!rc && config.memory_limit)
            rc = parse_memory("memory-limit", config.memory_limit, POLICY_MEBIBYTES_MIN,
                              &config.memory_limit_bytes, err);
        if (!rc)
            rc = parse_policies(&config, err);
        if (!rc)
            rc = parse_certificates(&config, err);
        if (!rc)
            rc = check_debug(&config, err);
        if (!rc)
            rc = parse_drain_time(&config, err);
        if (!rc && osm_log_level_parse(config.verbosity) < 0)
            rc = osm_fail(
                err, OSM_EINVAL,
                "--verbosity %s: expected trace, debug, info, warn, error, fatal or disabled",
                config.verbosity);
    }
    if (!rc)
        *out = config;
    return rc;
}

void osm_app_config_help(void)
{
    struct osm_app_config unused = {0};
    struct osm_option options[OPTIONS];
    describe(options, &unused);
    (void)printf(
        "osm-controller: the control plane of Open Service Mesh (%s)\n\n"
        "  osm-controller --source dir:PATH|kubernetes --state-dir DIR --policies DIR [--policies "
        "YOURS] [flags]\n\n",
        OSM_VERSION);
    osm_options_help(options, stdout);
}
