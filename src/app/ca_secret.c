#include "app/ca_secret.h"

#include "base/base64.h"
#include "base/json.h"
#include "base/log.h"
#include "kube/ask.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

enum {
    TEXT_MAX_BYTES = 64 << 10,
    PERIOD_MS = 10 * 1000,
    BACKOFF_MS = 250,
};

static const char CERT[] = "ca.crt", KEY[] = "private.key", PASSIVE[] = "passive.crt";

struct osm_ca_secret {
    struct osm_ca_secret_config config;
    struct osm_timer *timer;
    struct osm_kube_call *call;
    char *path, *collection;
    char taken[96]; /* uid and resourceVersion of what is in use; "" nothing is */
    char problem[640];
    unsigned failures; /* in a row */
    bool stopping, again;
    bool conflict; /* in this look one was there that had not been seen */
    void (*done)(void *ud, const struct osm_err *err); /* who waits; NULL: nobody */
    void *done_ud;
};

static void look(struct osm_ca_secret *s);

static void on_timer(void *ud)
{
    look(ud);
}

/* --- the end of a look --- */

static void tell(struct osm_ca_secret *s, const struct osm_err *err)
{
    void (*done)(void *ud, const struct osm_err *err) = s->done;
    s->done = NULL;
    if (done)
        done(s->done_ud, err);
}

static void ended(struct osm_ca_secret *s, const struct osm_err *err)
{
    char problem[sizeof s->problem] = "";
    uint64_t ms = PERIOD_MS;
    uint32_t random = 0;
    if (err->code)
        (void)snprintf(problem, sizeof problem, "Secret %s/%s: %s", s->config.ns, s->config.name,
                       err->msg);
    bool is_news = strcmp(problem, s->problem) != 0;
    memcpy(s->problem, problem, sizeof problem);
    if (is_news && *problem)
        osm_log(OSM_LOG_CA, OSM_LOG_ERROR,
                *s->taken ? "roots not taken, those in use stay" : "no roots yet, trying again",
                OSM_S("reason", problem));
    else if (is_news)
        osm_log(OSM_LOG_CA, OSM_LOG_INFO, "the Secret of the roots is as it should be");
    s->conflict = false;
    s->failures = err->code ? s->failures + 1 : 0;
    if (s->failures && s->failures < 6)
        ms = (uint64_t)BACKOFF_MS << s->failures;
    if (s->again) { /* whoever waits has asked after this look had begun */
        s->again = false;
        look(s);
        return;
    }
    (void)!getrandom(&random, sizeof random, 0);
    osm_timer_start(s->timer, ms / 2 + random % (ms / 2), 0);
    tell(s, err);
}

static void failed(struct osm_ca_secret *s, int code, const char *why)
{
    struct osm_err err = {0};
    (void)osm_fail(&err, code, "%s", why);
    ended(s, &err);
}

static void refused(struct osm_ca_secret *s, const struct osm_kube_answer *a)
{
    struct osm_err err = {0};
    (void)osm_fail(&err, OSM_EIO, "%s%s", a->why,
                   osm_kube_lacks_right(a) ? "; the role of this account needs get and create of it"
                                           : "");
    ended(s, &err);
}

/* --- reading --- */

/* Errors: OSM_ENOENT; OSM_EPARSE with the key. */
static int decode(const json_t *data, const char *key, struct osm_buf *out, struct osm_err *err)
{
    json_t *text = json_object_get(data, key);
    if (!json_is_string(text))
        return osm_fail(err, OSM_ENOENT,
                        "has no key %s: put the whole pair back, or delete the Secret for a new "
                        "root, which no running proxy trusts",
                        key);
    int rc = osm_base64_decode(out, json_string_value(text), json_string_length(text));
    osm_kube_wipe(text);
    return rc ? osm_fail(err, rc, "%s: %s", key,
                         rc == OSM_EPARSE ? "is no base64" : osm_code_text(rc))
              : 0;
}

static int read_roots(const struct osm_ca_secret *s, json_t *secret, struct osm_ca **out,
                      struct osm_err *err)
{
    struct osm_buf cert = OSM_BUF_INIT(TEXT_MAX_BYTES), passive = OSM_BUF_INIT(TEXT_MAX_BYTES),
                   key = OSM_BUF_SECRET_INIT(TEXT_MAX_BYTES);
    const json_t *data = json_object_get(secret, "data");
    bool has_passive = json_object_get(data, PASSIVE) != NULL;
    int rc = decode(data, KEY, &key, err); /* in any case: it is wiped there */
    if (!rc)
        rc = decode(data, CERT, &cert, err);
    if (!rc && has_passive)
        rc = decode(data, PASSIVE, &passive, err);
    if (!rc) {
        const struct osm_ca_texts texts = {&cert, &key, has_passive ? &passive : NULL};
        rc = osm_ca_read(out, &texts, s->config.trust_domain, err);
    }
    osm_buf_clear(&cert);
    osm_buf_clear(&key);
    osm_buf_clear(&passive);
    return rc;
}

static void found(struct osm_ca_secret *s, json_t *secret)
{
    const json_t *metadata = json_object_get(secret, "metadata");
    struct osm_err err = {0};
    struct osm_ca *ca = NULL;
    char version[sizeof s->taken];
    (void)snprintf(version, sizeof version, "%.48s %.40s", osm_json_text(metadata, "uid"),
                   osm_json_text(metadata, "resourceVersion"));
    if (!strcmp(version, s->taken)) {
        osm_kube_wipe(json_object_get(json_object_get(secret, "data"), KEY));
        ended(s, &err);
        return;
    }
    if (!read_roots(s, secret, &ca, &err) && !s->config.take(s->config.ud, ca, &err))
        memcpy(s->taken, version, sizeof version);
    ended(s, &err);
}

/* --- making --- */

static void made(void *ud, const struct osm_kube_answer *a)
{
    struct osm_ca_secret *s = ud;
    if (s->stopping)
        return;
    if (a->status == 409 && !s->conflict) { /* another one has been faster: its root counts */
        s->conflict = true;
        look(s);
    } else if (a->rc || !a->object) {
        refused(s, a);
    } else {
        osm_log(OSM_LOG_CA, OSM_LOG_INFO, "root created", OSM_S("obj", s->config.name),
                OSM_S("ns", s->config.ns));
        found(s, a->object);
    }
}

/* NULL: no memory. */
static json_t *describe(const struct osm_ca_secret *s, const struct osm_ca *ca, struct osm_err *err)
{
    struct osm_buf cert = OSM_BUF_INIT(TEXT_MAX_BYTES), key = OSM_BUF_SECRET_INIT(TEXT_MAX_BYTES),
                   cert64 = OSM_BUF_INIT(TEXT_MAX_BYTES),
                   key64 = OSM_BUF_SECRET_INIT(TEXT_MAX_BYTES);
    json_t *body = NULL;
    if (!osm_ca_write(ca, &cert, &key, err) && !osm_base64_encode(&cert64, cert.data, cert.len) &&
        !osm_base64_encode(&key64, key.data, key.len))
        body = json_pack("{s:s, s:s, s:s, s:{s:s, s:s, s:{s:s}}, s:{s:s, s:s}}", "apiVersion", "v1",
                         "kind", "Secret", "type", "Opaque", "metadata", "name", s->config.name,
                         "namespace", s->config.ns, "labels", "app.kubernetes.io/name",
                         "openservicemesh.io", "data", CERT, cert64.data, KEY, key64.data);
    osm_buf_clear(&cert);
    osm_buf_clear(&key);
    osm_buf_clear(&cert64);
    osm_buf_clear(&key64);
    return body;
}

static void make(struct osm_ca_secret *s)
{
    struct osm_err err = {0};
    struct osm_ca *ca = NULL;
    json_t *body = NULL;
    int rc = osm_ca_make(&ca, s->config.trust_domain, &err);
    if (!rc && !(body = describe(s, ca, &err)))
        rc = osm_fail(&err, OSM_ENOMEM, "root");
    if (!rc)
        rc = osm_kube_ask(&s->call, s->config.kube,
                          &(struct osm_kube_ask){.verb = "create",
                                                 .resource = "secrets",
                                                 .method = "POST",
                                                 .path = s->collection,
                                                 .body = body,
                                                 .secret = true,
                                                 .ud = s,
                                                 .done = made},
                          &err);
    osm_kube_wipe(json_object_get(json_object_get(body, "data"), KEY));
    json_decref(body);
    osm_ca_unref(ca);
    if (rc)
        ended(s, &err);
}

/* --- looking --- */

static void looked(void *ud, const struct osm_kube_answer *a)
{
    struct osm_ca_secret *s = ud;
    if (s->stopping)
        return;
    if (a->status == 404 && !*s->taken)
        make(s);
    else if (a->status == 404)
        failed(s, OSM_ENOENT,
               "is gone: a replica that starts now makes a new root, which no proxy of this one "
               "trusts; put it back from a backup, or restart all replicas and then all pods");
    else if (a->rc || !a->object)
        refused(s, a);
    else
        found(s, a->object);
}

static void look(struct osm_ca_secret *s)
{
    struct osm_err err = {0};
    osm_timer_stop(s->timer);
    if (osm_kube_ask(&s->call, s->config.kube,
                     &(struct osm_kube_ask){.verb = "get",
                                            .resource = "secrets",
                                            .path = s->path,
                                            .secret = true,
                                            .ud = s,
                                            .done = looked},
                     &err))
        ended(s, &err);
}

int osm_ca_secret_ask(struct osm_ca_secret *s, void (*done)(void *ud, const struct osm_err *err),
                      void *ud, struct osm_err *err)
{
    if (s->done)
        return osm_fail(err, OSM_EBUSY, "the roots are being read already");
    s->done = done;
    s->done_ud = ud;
    if (s->call)
        s->again = true;
    else
        osm_timer_start(s->timer, 0, 0);
    return 0;
}

const char *osm_ca_secret_problem(const struct osm_ca_secret *s)
{
    return s->problem;
}

/* --- life --- */

int osm_ca_secret_start(struct osm_ca_secret **out, const struct osm_ca_secret_config *config,
                        struct osm_err *err)
{
    struct osm_ca_secret *s = osm_alloc(sizeof *s);
    if (!s)
        return osm_fail(err, OSM_ENOMEM, "CA");
    s->config = *config;
    s->timer = osm_timer_new(config->loop, on_timer, s);
    s->collection = osm_strf("/api/v1/namespaces/%s/secrets", config->ns);
    s->path = osm_strf("/api/v1/namespaces/%s/secrets/%s", config->ns, config->name);
    if (!s->timer || !s->path || !s->collection) {
        osm_ca_secret_stop(s);
        return osm_fail(err, OSM_ENOMEM, "CA");
    }
    osm_timer_start(s->timer, 0, 0);
    *out = s;
    return 0;
}

void osm_ca_secret_stop(struct osm_ca_secret *s)
{
    struct osm_err err = {0};
    if (!s)
        return;
    s->stopping = true;
    osm_kube_cancel(s->call);
    (void)osm_fail(&err, OSM_ECANCELED, "the daemon is stopping");
    tell(s, &err);
    osm_timer_free(s->timer);
    osm_free(s->path);
    osm_free(s->collection);
    osm_free(s);
}
