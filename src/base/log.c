#include "base/log.h"

#include "base/buf.h"
#include "base/clock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { RECORD_MAX_BYTES = 16 * 1024, REPEAT_SLOTS = 64, REPEATS_PER_SECOND = 20 };

static const char *const topic_names[] = {
#define X(id, name, doc) name,
    OSM_LOG_TOPICS(X)
#undef X
};
static const char *const topic_docs[] = {
#define X(id, name, doc) doc,
    OSM_LOG_TOPICS(X)
#undef X
};
static const char *const level_names[] = {"trace", "debug", "info",    "warn",
                                          "error", "fatal", "disabled"};

static atomic_int levels[OSM_LOG_TOPIC_COUNT] = {
#define X(id, name, doc) OSM_LOG_INFO,
    OSM_LOG_TOPICS(X)
#undef X
};
static atomic_int log_fd = STDERR_FILENO;

/* Message texts are literals, so their address stands for them. */
static struct {
    const char *message;
    uint64_t window_ms;
    unsigned count, suppressed;
} repeats[REPEAT_SLOTS];
static pthread_mutex_t repeats_lock = PTHREAD_MUTEX_INITIALIZER;

int osm_log_on(enum osm_log_topic topic, enum osm_log_level level)
{
    return (int)level >= atomic_load_explicit(&levels[topic], memory_order_relaxed);
}

void osm_log_set_level(enum osm_log_topic topic, enum osm_log_level level)
{
    for (int i = 0; i < OSM_LOG_TOPIC_COUNT; i++)
        if (topic == OSM_LOG_TOPIC_COUNT || (int)topic == i)
            atomic_store(&levels[i], (int)level);
}

enum osm_log_level osm_log_level_of(enum osm_log_topic topic)
{
    return (enum osm_log_level)atomic_load(&levels[topic]);
}

const char *osm_log_topic_name(enum osm_log_topic topic)
{
    return topic_names[topic];
}

const char *osm_log_topic_doc(enum osm_log_topic topic)
{
    return topic_docs[topic];
}

const char *osm_log_level_name(enum osm_log_level level)
{
    return level_names[level];
}

int osm_log_topic_parse(const char *word)
{
    for (int i = 0; i < OSM_LOG_TOPIC_COUNT; i++)
        if (!strcmp(word, topic_names[i]))
            return i;
    return -1;
}

int osm_log_level_parse(const char *word)
{
    for (int i = 0; i <= OSM_LOG_OFF; i++)
        if (!strcmp(word, level_names[i]))
            return i;
    return -1;
}

void osm_log_set_fd(int fd)
{
    atomic_store(&log_fd, fd);
}

/* Returns 0 when the record must be held back; else *suppressed is how many were since the last. */
static int may_pass(const char *message, unsigned *suppressed)
{
    size_t slot = ((uintptr_t)message >> 3) % REPEAT_SLOTS;
    uint64_t now_ms = osm_now_ms();
    int pass = 1;
    *suppressed = 0;
    pthread_mutex_lock(&repeats_lock);
    if (repeats[slot].message != message || now_ms - repeats[slot].window_ms >= 1000) {
        *suppressed = repeats[slot].message == message ? repeats[slot].suppressed : 0;
        repeats[slot].message = message;
        repeats[slot].window_ms = now_ms;
        repeats[slot].count = repeats[slot].suppressed = 0;
    }
    if (++repeats[slot].count > REPEATS_PER_SECOND) {
        repeats[slot].suppressed++;
        pass = 0;
    }
    pthread_mutex_unlock(&repeats_lock);
    return pass;
}

void osm__log(enum osm_log_topic topic, enum osm_log_level level, const char *message,
              const struct osm_log_field *fields)
{
    unsigned suppressed = 0;
    if (topic != OSM_LOG_AUDIT && !may_pass(message, &suppressed) && level != OSM_LOG_FATAL)
        return;

    char time_text[40] = "";
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    if (gmtime_r(&now.tv_sec, &tm)) {
        size_t n = strftime(time_text, sizeof time_text, "%Y-%m-%dT%H:%M:%S", &tm);
        (void)snprintf(time_text + n, sizeof time_text - n, ".%03ldZ", now.tv_nsec / 1000000);
    }
    struct osm_buf line = OSM_BUF_INIT(RECORD_MAX_BYTES);
    (void)osm_buf_addf(&line, "{\"level\":\"%s\",\"component\":\"%s\",\"time\":\"%s\",\"message\":",
                       level_names[level], topic_names[topic], time_text);
    (void)osm_buf_add_json_string(&line, message);
    for (const struct osm_log_field *f = fields; f->key; f++) {
        (void)osm_buf_add_str(&line, ",");
        (void)osm_buf_add_json_string(&line, f->key);
        (void)osm_buf_add_str(&line, ":");
        switch (f->type) {
        case OSM_LOG_STR:
            if (f->value.str)
                (void)osm_buf_add_json_string(&line, f->value.str);
            else
                (void)osm_buf_add_str(&line, "null");
            break;
        case OSM_LOG_INT:
            (void)osm_buf_addf(&line, "%lld", (long long)f->value.i);
            break;
        case OSM_LOG_UINT:
            (void)osm_buf_addf(&line, "%llu", (unsigned long long)f->value.u);
            break;
        case OSM_LOG_DOUBLE:
            (void)osm_buf_addf(&line, "%.6g", f->value.d);
            break;
        }
    }
    if (suppressed)
        (void)osm_buf_addf(&line, ",\"suppressed\":%u", suppressed);
    (void)osm_buf_add_str(&line, "}\n");
    if (line.failed) { /* too long or no memory: the message is a literal and fits */
        osm_buf_reset(&line);
        (void)osm_buf_addf(&line,
                           "{\"level\":\"%s\",\"component\":\"%s\",\"time\":\"%s\",\"message\":",
                           level_names[level], topic_names[topic], time_text);
        (void)osm_buf_add_json_string(&line, message);
        (void)osm_buf_add_str(&line, ",\"left_out\":\"fields over the limit\"}\n");
    }
    if (line.len && write(atomic_load(&log_fd), line.data, line.len) < 0) {
        /* Nowhere left to say it. */
    }
    osm_buf_clear(&line);
}
