/* What all parts do alike: a trial of several steps, each a request or a wait; after a failure
 * another trial, later each time. */
#include "install/install_priv.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

enum {
    BACKOFF_MS = 250,
    BACKOFF_MAX_MS = 30 * 1000,
    AGAIN_MS = 50,
    AWAIT_MS = 100,
    TELL_MS = 2000
};

static uint64_t jittered(uint64_t ms)
{
    uint32_t n = 0;
    (void)!getrandom(&n, sizeof n, 0);
    return ms / 2 + n % (ms / 2 + 1);
}

static void on_timer(void *ud)
{
    struct osm__part *p = ud;
    p->then(p);
}

int osm__part_init(struct osm__part *p, struct osm_install *install, const char *name,
                   void (*begin)(struct osm__part *p))
{
    *p = (struct osm__part){.install = install, .name = name, .begin = begin};
    p->timer = osm_timer_new(install->config.loop, on_timer, p);
    return p->timer ? 0 : OSM_ENOMEM;
}

void osm__part_clear(struct osm__part *p)
{
    osm_kube_cancel(p->call);
    osm_timer_free(p->timer);
}

void osm__part_wait(struct osm__part *p, uint64_t ms, void (*then)(struct osm__part *p))
{
    p->then = then;
    osm_timer_start(p->timer, ms, 0);
}

static void on_answer(void *ud, const struct osm_kube_answer *answer)
{
    struct osm__part *p = ud;
    if (!p->install->stopping)
        p->answered(p, answer);
}

void osm__part_ask(struct osm__part *p, const struct osm_kube_ask *ask,
                   void (*answered)(struct osm__part *p, const struct osm_kube_answer *a))
{
    struct osm_kube_ask request = *ask;
    struct osm_err err = {0};
    request.ud = p;
    request.done = on_answer;
    p->answered = answered;
    if (osm_kube_ask(&p->call, p->install->config.kube, &request, &err))
        osm__part_fail(p, err.msg, "");
}

static void say(const struct osm__part *p, enum osm_log_level level, const char *what)
{
    osm_log(OSM_LOG_BOOTSTRAP, level, what, OSM_S("obj", p->name), OSM_S("reason", p->reason));
}

void osm__part_fail(struct osm__part *p, const char *why, const char *hint)
{
    char reason[sizeof p->reason];
    uint64_t ms = (uint64_t)BACKOFF_MS << (p->failures < 7 ? p->failures : 7);
    (void)snprintf(reason, sizeof reason, "%.380s%s%.110s", why, *hint ? "; " : "", hint);
    bool is_news = p->state != OSM__PART_FAILED || strcmp(reason, p->reason) != 0;
    memcpy(p->reason, reason, sizeof reason);
    p->state = OSM__PART_FAILED;
    p->failures++;
    p->waiting_since_ms = 0;
    if (is_news)
        say(p, OSM_LOG_ERROR, "not there yet, trying again");
    osm__part_wait(p, jittered(ms > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : ms), p->begin);
}

void osm__part_refused(struct osm__part *p, const struct osm_kube_answer *a, const char *needs)
{
    osm__part_fail(p, a->why, osm_kube_lacks_right(a) ? needs : "");
}

void osm__part_again(struct osm__part *p)
{
    p->waiting_since_ms = 0;
    osm__part_wait(p, jittered(AGAIN_MS), p->begin);
}

void osm__part_await(struct osm__part *p, const char *why, void (*then)(struct osm__part *p))
{
    uint64_t now_ms = osm_now_ms();
    if (!p->waiting_since_ms) {
        p->waiting_since_ms = now_ms;
        p->is_told = false;
    }
    uint64_t waited_ms = now_ms - p->waiting_since_ms;
    bool is_late = waited_ms > p->install->config.deadline_ms;
    (void)snprintf(p->reason, sizeof p->reason, "%s", *why ? why : "the server is at work");
    if (is_late && p->state != OSM__PART_FAILED)
        say(p, OSM_LOG_ERROR, "not there in time, waiting on");
    else if (waited_ms > TELL_MS && !p->is_told)
        say(p, OSM_LOG_WARN, "waiting");
    p->is_told = p->is_told || waited_ms > TELL_MS;
    p->state = is_late ? OSM__PART_FAILED : OSM__PART_WORKING;
    osm__part_wait(p, AWAIT_MS + (waited_ms < 10000 ? waited_ms / 10 : 1000), then);
}

void osm__part_done(struct osm__part *p)
{
    static const char *const words[] = {
        [OSM__PART_CREATED] = "created",
        [OSM__PART_UPGRADED] = "upgraded",
        [OSM__PART_NEWER] = "left as it is",
    };
    bool is_change = p->outcome != OSM__PART_UNCHANGED;
    p->state = p->outcome;
    p->failures = 0;
    p->waiting_since_ms = 0;
    if (is_change)
        say(p, p->outcome == OSM__PART_NEWER ? OSM_LOG_WARN : OSM_LOG_INFO, words[p->outcome]);
    osm__install_moved(p->install);
}

bool osm__part_is_done(const struct osm__part *p)
{
    return p->state != OSM__PART_WORKING && p->state != OSM__PART_FAILED;
}
