#include "kube/credentials.h"

#include "base/base64.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "loop/process.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
    FILE_MAX_BYTES = 1 << 20,
    TOKEN_MAX_BYTES = 64 << 10,
    INFO_MAX_BYTES = 64 << 10,
    FILES_AGE_MS = 10 * 1000, /* files are looked at again after it */
    PLUGIN_MS = 60 * 1000,    /* a plugin may take as long */
    PLUGIN_PAUSE_MS = 5000,   /* after one that failed */
    PLUGIN_AGAIN_MS = 2000,   /* after one that worked, but the server refused what it gave */
    EXPIRY_LEAD_S = 30,
};

/* A file, or what was given in its place. */
struct material {
    const char *path, *given;
    char *text;
};

struct osm_kube_credentials {
    struct osm_loop *loop;
    const struct osm_kube_config *config;
    void (*changed)(void *ud);
    void *ud;
    struct material ca, cert, key, token;
    char *authorization;
    uint64_t read_ms; /* 0: has to be read */
    struct osm_process *plugin;
    bool plugin_answered;
    uint64_t asked_ms; /* when the plugin was; 0: never, or it has to be asked */
    int64_t expires_s; /* of what it gave; 0: it does not say */
    char plugin_error[256];
};

static void wipe(char *text)
{
    if (text)
        osm_free_secret(text, strlen(text));
}

int64_t osm_kube_time(const char *text)
{
    static const char form[] = "0000-00-00T00:00:00";
    int at[6] = {0}, n = 0;
    for (size_t i = 0; i < sizeof form - 1; i++) {
        bool digit = text[i] >= '0' && text[i] <= '9';
        if (form[i] != '0' ? text[i] != form[i] : !digit)
            return -1;
        if (form[i] == '0')
            at[n] = at[n] * 10 + (text[i] - '0');
        else
            n++;
    }
    struct tm tm = {.tm_year = at[0] - 1900,
                    .tm_mon = at[1] - 1,
                    .tm_mday = at[2],
                    .tm_hour = at[3],
                    .tm_min = at[4],
                    .tm_sec = at[5]};
    const char *zone = text + sizeof form - 1;
    if (*zone == '.')
        zone += 1 + strspn(zone + 1, "0123456789");
    int offset_s = 0;
    if (*zone == '+' || *zone == '-') {
        for (int i = 1; i < 6; i++)
            if (i == 3 ? zone[i] != ':' : zone[i] < '0' || zone[i] > '9')
                return -1;
        offset_s = ((zone[1] - '0') * 10 + zone[2] - '0') * 3600 +
                   ((zone[4] - '0') * 10 + zone[5] - '0') * 60;
        offset_s = *zone == '-' ? -offset_s : offset_s;
    } else if (strcmp(zone, "Z") != 0) {
        return -1;
    }
    return (int64_t)timegm(&tm) - offset_s;
}

/* --- files --- */

/* A file that cannot be read at the moment changes nothing while something was read before. */
static int material_read(struct material *m, size_t max, struct osm_err *err)
{
    struct osm_buf text = OSM_BUF_SECRET_INIT(max);
    if (!m->path) {
        if (m->text || !m->given)
            return 0;
        m->text = osm_strdup(m->given);
        return m->text ? 0 : osm_fail(err, OSM_ENOMEM, "credentials");
    }
    int rc = osm_buf_read_file(&text, m->path, err);
    if (!rc && memchr(text.data ? text.data : "", '\0', text.len))
        rc = osm_fail(err, OSM_EPARSE, "%s: is no text", m->path);
    while (!rc && text.data && text.len &&
           (text.data[text.len - 1] == '\n' || text.data[text.len - 1] == '\r'))
        text.data[--text.len] = '\0';
    if (!rc && !text.len)
        rc = osm_fail(err, OSM_EPARSE, "%s: is empty", m->path);
    if (rc && m->text) {
        osm_log(OSM_LOG_SOURCE, OSM_LOG_WARN, "credentials not read again; those from before count",
                OSM_S("error", err ? err->msg : ""));
        if (err)
            *err = (struct osm_err){0};
        rc = 0;
    } else if (!rc) {
        char *taken = osm_buf_take(&text);
        wipe(m->text);
        m->text = taken;
    }
    osm_buf_clear(&text);
    return rc;
}

static int set_authorization(struct osm_kube_credentials *c, struct osm_err *err)
{
    if (c->token.text && strpbrk(c->token.text, "\r\n"))
        return osm_fail(err, OSM_EPARSE, "the token has more than one line");
    wipe(osm_take_ptr(&c->authorization));
    if (c->token.text)
        c->authorization = osm_strf("Authorization: Bearer %s", c->token.text);
    return c->token.text && !c->authorization ? osm_fail(err, OSM_ENOMEM, "credentials") : 0;
}

static int read_files(struct osm_kube_credentials *c, struct osm_err *err)
{
    uint64_t now_ms = osm_now_ms();
    if (c->read_ms && now_ms - c->read_ms < FILES_AGE_MS)
        return 0;
    int rc = material_read(&c->ca, FILE_MAX_BYTES, err);
    if (!rc)
        rc = material_read(&c->cert, FILE_MAX_BYTES, err);
    if (!rc)
        rc = material_read(&c->key, FILE_MAX_BYTES, err);
    if (!rc)
        rc = material_read(&c->token, TOKEN_MAX_BYTES, err);
    if (!rc)
        rc = set_authorization(c, err);
    c->read_ms = rc ? 0 : now_ms ? now_ms : 1;
    return rc;
}

/* --- plugin --- */

/* Takes over what the plugin gave. */
static int take_answer(struct osm_kube_credentials *c, const json_t *answer, struct osm_err *err)
{
    const json_t *status = json_object_get(answer, "status");
    const char *token = osm_json_text(status, "token");
    const char *cert = osm_json_text(status, "clientCertificateData");
    const char *key = osm_json_text(status, "clientKeyData");
    const char *expires = osm_json_text(status, "expirationTimestamp");
    if (strcmp(osm_json_text(answer, "kind"), "ExecCredential") != 0)
        return osm_fail(err, OSM_EPARSE, "has printed no ExecCredential");
    if (strcmp(osm_json_text(answer, "apiVersion"), c->config->exec.api_version) != 0)
        return osm_fail(err, OSM_EPARSE, "has printed another apiVersion than %s",
                        c->config->exec.api_version);
    if (!*token && !*cert)
        return osm_fail(err, OSM_EPARSE, "has given neither a token nor a certificate");
    if (!*cert != !*key)
        return osm_fail(err, OSM_EPARSE, "has given half of a certificate and its key");
    c->expires_s = *expires ? osm_kube_time(expires) : 0;
    if (c->expires_s < 0)
        return osm_fail(err, OSM_EPARSE, "status.expirationTimestamp: %.40s is no time", expires);
    wipe(osm_take_ptr(&c->token.text));
    if (*token && !(c->token.text = osm_strdup(token)))
        return osm_fail(err, OSM_ENOMEM, "credentials");
    if (*cert) {
        wipe(c->cert.text);
        wipe(c->key.text);
        c->cert.text = osm_strdup(cert);
        c->key.text = osm_strdup(key);
        if (!c->cert.text || !c->key.text)
            return osm_fail(err, OSM_ENOMEM, "credentials");
    }
    return set_authorization(c, err);
}

static void plugin_done(void *ud, const struct osm_process_result *result)
{
    struct osm_kube_credentials *c = ud;
    struct osm_err err = {0};
    int rc = result->rc;
    c->plugin = NULL;
    if (rc == OSM_ECANCELED)
        return;
    if (rc) {
        (void)osm_fail(&err, rc, "%s", result->error);
    } else {
        json_t *answer =
            json_loadb(result->out->data ? result->out->data : "", result->out->len, 0, NULL);
        rc = answer ? take_answer(c, answer, &err)
                    : osm_fail(&err, OSM_EPARSE, "has printed no JSON");
        json_decref(answer);
    }
    c->plugin_answered = !rc;
    (void)snprintf(c->plugin_error, sizeof c->plugin_error, "%.200s", err.msg);
    c->changed(c->ud);
}

static int append(const char *bytes, size_t len, void *ud)
{
    return osm_buf_add(ud, bytes, len) ? -1 : 0;
}

/* What the plugin may want to know. */
static char *exec_info(const struct osm_kube_credentials *c)
{
    const struct osm_kube_config *config = c->config;
    json_t *cluster =
        json_pack("{s:s, s:b, s:s*}", "server", config->server, "insecure-skip-tls-verify",
                  config->insecure, "proxy-url", config->proxy);
    json_t *info = json_pack("{s:s, s:s, s:{s:b, s:o*}}", "apiVersion", config->exec.api_version,
                             "kind", "ExecCredential", "spec", "interactive", 0, "cluster",
                             config->exec.wants_cluster ? json_incref(cluster) : NULL);
    json_decref(cluster);
    struct osm_buf text = OSM_BUF_INIT(INFO_MAX_BYTES);
    (void)osm_buf_add_str(&text, "KUBERNETES_EXEC_INFO=");
    char *env =
        info && !json_dump_callback(info, append, &text, JSON_COMPACT) ? osm_buf_take(&text) : NULL;
    json_decref(info);
    osm_buf_clear(&text);
    return env;
}

static size_t list_len(char *const *list)
{
    size_t n = 0;
    while (list && list[n])
        n++;
    return n;
}

static int ask_plugin(struct osm_kube_credentials *c, struct osm_err *err)
{
    const struct osm_kube_exec *exec = &c->config->exec;
    size_t args = list_len(exec->args), vars = list_len(exec->env);
    const char **argv = osm_alloc_array(args + 2, sizeof *argv);
    const char **env = osm_alloc_array(vars + 2, sizeof *env);
    char *info = exec_info(c);
    int rc = argv && env && info ? 0 : osm_fail(err, OSM_ENOMEM, "credentials");
    if (!rc) {
        argv[0] = exec->command;
        for (size_t i = 0; i < args; i++)
            argv[i + 1] = exec->args[i];
        env[0] = info;
        for (size_t i = 0; i < vars; i++)
            env[i + 1] = exec->env[i];
        const struct osm_process_config config = {.argv = argv,
                                                  .env = env,
                                                  .output_max = FILE_MAX_BYTES,
                                                  .deadline_ms = PLUGIN_MS,
                                                  .secret = true,
                                                  .ud = c,
                                                  .done = plugin_done};
        rc = osm_process_start(&c->plugin, c->loop, &config, err);
        if (rc && exec->hint && err) {
            size_t n = strlen(err->msg);
            (void)snprintf(err->msg + n, sizeof err->msg - n, " (%.200s)", exec->hint);
        }
    }
    osm_free(argv);
    osm_free(env);
    osm_free(info);
    c->asked_ms = osm_now_ms();
    c->plugin_answered = false;
    (void)snprintf(c->plugin_error, sizeof c->plugin_error, "%.200s", rc ? err->msg : "");
    return rc;
}

static int get_of_plugin(struct osm_kube_credentials *c, struct osm_err *err)
{
    uint64_t since_ms = osm_now_ms() - c->asked_ms;
    if (c->plugin)
        return OSM_EBUSY;
    if (c->plugin_answered && (!c->expires_s || c->expires_s - EXPIRY_LEAD_S > osm_wall_s()))
        return 0;
    if (c->plugin_answered && c->expires_s > osm_wall_s() && since_ms < PLUGIN_PAUSE_MS)
        return 0; /* it has just been asked, and gives none that lives longer */
    if (!c->plugin_answered && c->asked_ms && since_ms < PLUGIN_PAUSE_MS)
        return osm_fail(err, OSM_EACCES, "credential plugin %.100s: %s", c->config->exec.command,
                        c->plugin_error);
    int rc = ask_plugin(c, err);
    if (rc)
        osm_err_prepend(err, "credential plugin: ");
    return rc ? rc : OSM_EBUSY;
}

/* --- what is shown --- */

int osm_kube_credentials_get(struct osm_kube_credentials *c, struct osm_kube_identity *out,
                             struct osm_err *err)
{
    int rc = read_files(c, err);
    if (!rc && c->config->exec.command)
        rc = get_of_plugin(c, err);
    if (rc)
        return rc;
    *out = (struct osm_kube_identity){
        .tls = {c->ca.text, c->cert.text, c->key.text, c->config->insecure},
        .authorization = c->authorization,
    };
    return 0;
}

void osm_kube_credentials_refused(struct osm_kube_credentials *c)
{
    c->read_ms = 0;
    if (c->config->exec.command && !c->plugin && osm_now_ms() - c->asked_ms >= PLUGIN_AGAIN_MS) {
        c->plugin_answered = false;
        c->asked_ms = 0;
    }
}

int osm_kube_credentials_new(struct osm_kube_credentials **out, struct osm_loop *loop,
                             const struct osm_kube_config *config, void (*changed)(void *ud),
                             void *ud, struct osm_err *err)
{
    struct osm_kube_credentials *c = osm_alloc(sizeof *c);
    if (!c)
        return osm_fail(err, OSM_ENOMEM, "credentials");
    *c = (struct osm_kube_credentials){
        .loop = loop,
        .config = config,
        .changed = changed,
        .ud = ud,
        .ca = {config->ca_file, config->ca, NULL},
        .cert = {config->cert_file, config->cert, NULL},
        .key = {config->key_file, config->key, NULL},
        .token = {config->token_file, config->token, NULL},
    };
    *out = c;
    return 0;
}

void osm_kube_credentials_free(struct osm_kube_credentials *c)
{
    if (!c)
        return;
    if (c->plugin)
        osm_process_cancel(c->plugin);
    osm_free(c->ca.text);
    osm_free(c->cert.text);
    wipe(c->key.text);
    wipe(c->token.text);
    wipe(c->authorization);
    osm_free(c);
}
