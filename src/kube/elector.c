#include "kube/elector.h"

#include "base/clock.h"
#include "base/log.h"
#include "kube/lease.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

enum { DEADLINE_MS = 4000, RELEASE_MS = 1500, BODY_MAX = 256 * 1024 };

struct osm_elector {
    struct osm_loop *loop;
    struct osm_kube *kube;
    char *ns, *name, *folder; /* folder: where the Leases are */
    char identity[160];
    struct osm_lease lease;
    struct osm_timer *timer, *end; /* the next request; leading is over */
    struct osm_kube_call *call;
    bool told; /* what changed() was told last */
    bool was_failing;
    void (*changed)(void *ud, bool leads);
    void (*set_back)(void *ud);
    void *ud;
    osm_task_fn *stopped;
    void *stopped_ud;
};

static uint32_t any_number(void)
{
    uint32_t n = 0;
    (void)!getrandom(&n, sizeof n, 0);
    return n;
}

static void tell(struct osm_elector *e)
{
    uint64_t now_ms = osm_now_ms();
    bool leads = !e->stopped && osm_lease_leads(&e->lease, now_ms);
    if (leads)
        osm_timer_start(e->end, osm_lease_until(&e->lease) - now_ms, 0);
    if (leads == e->told)
        return;
    e->told = leads;
    if (e->stopped)
        return;
    osm_log(OSM_LOG_CORE, leads ? OSM_LOG_INFO : OSM_LOG_WARN,
            leads ? "this replica writes what only one may write"
                  : "this replica no longer writes what only one may write",
            OSM_S("lease", e->name), OSM_S("identity", e->identity),
            OSM_S("error", e->lease.failure));
    e->changed(e->ud, leads);
}

static void on_end(void *ud)
{
    tell(ud);
}

static void ask_later(struct osm_elector *e)
{
    osm_timer_start(e->timer, osm_lease_wait(&e->lease, osm_now_ms()), 0);
}

static void tell_failure(struct osm_elector *e)
{
    bool fails = *e->lease.failure;
    if (fails && !e->was_failing)
        osm_log(OSM_LOG_CORE, OSM_LOG_WARN,
                "the Lease of the control plane cannot be read or written; until then no statuses "
                "and no Events about objects are",
                OSM_S("lease", e->name), OSM_S("error", e->lease.failure));
    e->was_failing = fails;
}

static void answered(struct osm_elector *e, const struct osm_kube_result *result)
{
    json_t *object = result->status >= 200 && result->status < 300 && result->body->data
                         ? json_loadb(result->body->data, result->body->len, 0, NULL)
                         : NULL;
    osm_lease_answered(&e->lease, result->rc ? 0 : result->status, object, result->message,
                       result->retry_after_s, osm_now_ms(), any_number());
    json_decref(object);
    if (e->lease.set_back)
        e->set_back(e->ud);
    e->lease.set_back = false;
}

static void on_done(void *ud, const struct osm_kube_result *result)
{
    struct osm_elector *e = ud;
    e->call = NULL;
    if (e->stopped) {
        osm_timer_start(e->timer, 0, 0);
        return;
    }
    if (result->rc == OSM_ECANCELED)
        return;
    answered(e, result);
    tell_failure(e);
    tell(e);
    ask_later(e);
}

/* Errors: OSM_ENOMEM, and those of osm_kube_start. */
static int start_request(struct osm_elector *e, struct osm_err *err)
{
    static const struct {
        const char *verb, *method, *type;
    } how[] = {
        [OSM_LEASE_GET] = {"get", "GET", NULL},
        [OSM_LEASE_CREATE] = {"create", "POST", "application/json"},
        [OSM_LEASE_UPDATE] = {"patch", "PATCH", "application/merge-patch+json"},
        [OSM_LEASE_RELEASE] = {"patch", "PATCH", "application/merge-patch+json"},
    };
    enum osm_lease_step step = e->lease.step;
    struct osm_buf body = OSM_BUF_INIT(4096);
    char *path =
        step == OSM_LEASE_CREATE ? osm_strdup(e->folder) : osm_strf("%s/%s", e->folder, e->name);
    int rc = path ? osm_lease_ask(&e->lease, e->ns, e->name, osm_now_ms(), osm_wall_us(), &body)
                  : OSM_ENOMEM;
    const struct osm_kube_request request = {.verb = how[step].verb,
                                             .resource = "leases",
                                             .method = how[step].method,
                                             .path = path,
                                             .content_type = how[step].type,
                                             .body = body.data,
                                             .body_len = body.len,
                                             .deadline_ms = step == OSM_LEASE_RELEASE ? RELEASE_MS
                                                                                      : DEADLINE_MS,
                                             .body_max = BODY_MAX,
                                             .ud = e,
                                             .done = on_done};
    if (!rc)
        rc = osm_kube_start(&e->call, e->kube, &request, err);
    osm_buf_clear(&body);
    osm_free(path);
    return rc;
}

static void on_timer(void *ud)
{
    struct osm_elector *e = ud;
    struct osm_err err = {0};
    if (e->stopped) {
        osm_task_fn *stopped = e->stopped;
        stopped(e->stopped_ud);
        return;
    }
    if (e->call || !start_request(e, &err))
        return;
    osm_lease_answered(&e->lease, 0, NULL, err.msg, -1, osm_now_ms(), any_number());
    tell_failure(e);
    tell(e);
    ask_later(e);
}

bool osm_elector_leads(const struct osm_elector *e)
{
    return !e->stopped && osm_lease_leads(&e->lease, osm_now_ms());
}

const char *osm_elector_holder(const struct osm_elector *e)
{
    return e->lease.holder;
}

const char *osm_elector_failure(const struct osm_elector *e)
{
    return e->lease.failure;
}

int osm_elector_start(struct osm_elector **out, const struct osm_elector_config *config,
                      struct osm_err *err)
{
    struct osm_elector *e = osm_alloc(sizeof *e);
    if (!e)
        return osm_fail(err, OSM_ENOMEM, "lease");
    e->loop = config->loop;
    e->kube = config->kube;
    e->changed = config->changed;
    e->set_back = config->set_back;
    e->ud = config->ud;
    e->ns = osm_strdup(config->ns);
    e->name = osm_strdup(config->name);
    e->folder = osm_strf("/apis/coordination.k8s.io/v1/namespaces/%s/leases", config->ns);
    e->timer = osm_timer_new(config->loop, on_timer, e);
    e->end = osm_timer_new(config->loop, on_end, e);
    (void)snprintf(e->identity, sizeof e->identity, "%.100s_%08x%08x", config->identity,
                   any_number(), any_number());
    osm_lease_init(&e->lease, &osm_lease_defaults, e->identity);
    if (!e->ns || !e->name || !e->folder || !e->timer || !e->end) {
        osm_elector_free(e);
        return osm_fail(err, OSM_ENOMEM, "lease");
    }
    osm_timer_start(e->timer, 0, 0);
    *out = e;
    return 0;
}

void osm_elector_stop(struct osm_elector *e, osm_task_fn *done, void *ud)
{
    struct osm_err err = {0};
    bool may_hold = osm_lease_release(&e->lease, osm_now_ms());
    osm_kube_cancel(e->call);
    e->stopped = done;
    e->stopped_ud = ud;
    osm_timer_stop(e->end);
    osm_timer_stop(e->timer);
    if (!may_hold || start_request(e, &err))
        osm_timer_start(e->timer, 0, 0);
}

static void nothing(void *ud)
{
    (void)ud;
}

void osm_elector_free(struct osm_elector *e)
{
    if (!e)
        return;
    e->stopped = e->stopped ? e->stopped : nothing; /* nobody hears of it */
    osm_kube_cancel(e->call);
    osm_timer_free(e->timer);
    osm_timer_free(e->end);
    osm_free(e->ns);
    osm_free(e->name);
    osm_free(e->folder);
    osm_free(e);
}
