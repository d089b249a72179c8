#include "kube/writer.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

enum { CALLS_MAX = 4, DEADLINE_MS = 10 * 1000, ANSWER_MAX = 1 << 20, BODY_MAX = 64 * 1024 };

struct sending {
    struct osm_writer *writer;
    struct osm_outbox_slot *slot;
    struct osm_kube_call *call; /* NULL: this place is free */
};

struct osm_writer {
    struct osm_writer_config config;
    struct osm_outbox outbox;
    struct osm_timer *timer;
    struct sending sending[CALLS_MAX];
    bool dropping; /* nobody is told */
    char failure[320];
};

static void go_on(struct osm_writer *w);

static uint32_t any_number(void)
{
    uint32_t n = 0;
    (void)!getrandom(&n, sizeof n, 0);
    return n;
}

/* --- ends --- */

static void note_failure(struct osm_writer *w, const char *key, enum osm_outbox_outcome outcome,
                         int status, const char *message)
{
    bool was_failing = *w->failure;
    if (outcome == OSM_OUTBOX_GONE)
        return;
    if (outcome == OSM_OUTBOX_DONE) {
        if (was_failing)
            osm_log(OSM_LOG_SOURCE, OSM_LOG_INFO, "is written to the API server again",
                    OSM_S("what", w->config.what));
        w->failure[0] = '\0';
        return;
    }
    if (status)
        (void)snprintf(w->failure, sizeof w->failure, "HTTP %d: %s", status, message);
    else
        (void)snprintf(w->failure, sizeof w->failure, "%s", message);
    (void)osm_utf8_repair(w->failure);
    if (!was_failing)
        osm_log(OSM_LOG_SOURCE, OSM_LOG_WARN,
                "cannot be written to the API server; the mesh does not need it",
                OSM_S("what", w->config.what), OSM_S("obj", key), OSM_S("error", w->failure));
}

static void ended(struct osm_writer *w, struct osm_outbox_slot *slot, int status,
                  const char *message, int64_t retry_after_s)
{
    enum osm_outbox_outcome outcome = osm_outbox_outcome_of(status, message);
    char *key = osm_strdup(slot->key);
    bool dropped = slot->dropped;
    note_failure(w, slot->key, outcome, status, message);
    osm_outbox_sent(&w->outbox, slot, outcome, retry_after_s, osm_now_ms(), any_number());
    if (key && !dropped && w->config.done)
        w->config.done(w->config.ud, key, outcome);
    osm_free(key);
}

static void on_done(void *ud, const struct osm_kube_result *result)
{
    struct sending *s = ud;
    struct osm_writer *w = s->writer;
    s->call = NULL;
    if (w->dropping)
        return;
    bool is_success = result->status >= 200 && result->status < 300;
    bool is_object = is_success && !result->rc && result->body->data && *result->body->data == '{';
    if (is_success && !is_object) /* something between us and the server, perhaps */
        ended(w, s->slot, 0, result->rc ? result->message : "the answer is no object", -1);
    else
        ended(w, s->slot, result->status, result->message, result->retry_after_s);
    go_on(w);
}

/* --- sending --- */

static int add_text(const char *text, size_t len, void *ud)
{
    return osm_buf_add(ud, text, len) ? -1 : 0;
}

static int start_request(struct osm_writer *w, struct sending *s, const struct osm_write *write,
                         struct osm_err *err)
{
    struct osm_buf body = OSM_BUF_INIT(BODY_MAX);
    if (json_dump_callback(write->body, add_text, &body, JSON_COMPACT)) {
        osm_buf_clear(&body);
        return osm_fail(err, OSM_ENOMEM, "%s", osm_code_text(OSM_ENOMEM));
    }
    const struct osm_kube_request request = {.verb = "patch",
                                             .resource = w->config.resource,
                                             .method = "PATCH",
                                             .path = write->path,
                                             .content_type = write->content_type,
                                             .body = body.data,
                                             .body_len = body.len,
                                             .deadline_ms = DEADLINE_MS,
                                             .body_max = ANSWER_MAX,
                                             .ud = s,
                                             .done = on_done};
    int rc = osm_kube_start(&s->call, w->config.kube, &request, err);
    osm_buf_clear(&body);
    return rc;
}

static void send(struct osm_writer *w, struct sending *s, struct osm_outbox_slot *slot)
{
    struct osm_write write = {0};
    struct osm_err err = {0};
    s->writer = w;
    s->slot = slot;
    if (!w->config.make(w->config.ud, slot->key, &write))
        osm_outbox_unsent(&w->outbox, slot);
    else if (start_request(w, s, &write, &err))
        ended(w, slot, 0, err.msg, -1);
    osm_free(write.path);
    json_decref(write.body);
}

static void go_on(struct osm_writer *w)
{
    uint64_t wait_ms = UINT64_MAX;
    for (size_t i = 0; i < CALLS_MAX && w->config.may(w->config.ud); i++) {
        while (!w->sending[i].call) {
            struct osm_outbox_slot *slot = osm_outbox_next(&w->outbox, osm_now_ms(), &wait_ms);
            if (!slot)
                break;
            send(w, &w->sending[i], slot);
        }
        if (!w->sending[i].call)
            break;
    }
    if (wait_ms != UINT64_MAX)
        osm_timer_start(w->timer, wait_ms ? wait_ms : 1, 0);
}

static void on_timer(void *ud)
{
    go_on(ud);
}

/* --- from outside --- */

void osm_writer_put(struct osm_writer *w, const char *key)
{
    (void)osm_outbox_put(&w->outbox, key);
    osm_writer_wake(w);
}

bool osm_writer_drop(struct osm_writer *w, const char *key)
{
    return osm_outbox_drop(&w->outbox, key);
}

void osm_writer_drop_all(struct osm_writer *w)
{
    w->dropping = true;
    for (size_t i = 0; i < CALLS_MAX; i++)
        osm_kube_cancel(w->sending[i].call);
    w->dropping = false;
    osm_outbox_clear(&w->outbox);
}

void osm_writer_wake(struct osm_writer *w)
{
    osm_timer_start(w->timer, 0, 0); /* after what else is put in this turn */
}

size_t osm_writer_waiting(const struct osm_writer *w)
{
    return w->outbox.waiting;
}

const char *osm_writer_failure(const struct osm_writer *w)
{
    return w->failure;
}

int osm_writer_new(struct osm_writer **out, const struct osm_writer_config *config,
                   struct osm_err *err)
{
    struct osm_writer *w = osm_alloc(sizeof *w);
    if (w)
        w->timer = osm_timer_new(config->loop, on_timer, w);
    if (!w || !w->timer) {
        osm_free(w);
        return osm_fail(err, OSM_ENOMEM, "writer");
    }
    w->config = *config;
    osm_outbox_init(&w->outbox, config->limits, osm_now_ms());
    *out = w;
    return 0;
}

void osm_writer_free(struct osm_writer *w)
{
    if (!w)
        return;
    osm_writer_drop_all(w);
    osm_timer_free(w->timer);
    osm_free(w);
}
