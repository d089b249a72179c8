/* Random histories of a stream against a model of an Envoy: whatever views, refusals, subscriptions
 * and reconnections come in whatever order, once all is answered the client has exactly what it
 * subscribes to and does not refuse, is told no more, and what it refuses is known by name.
 *
 * OSM_RANDOM_RUNS says how many histories (default 4000), OSM_RANDOM_SEED which one alone, with its
 * events on stderr. */
#include "base/mem.h"
#include "xds/stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    NAMES = 6,
    TYPES = OSM_XDS_TYPE_COUNT,
    QUEUE = 16,
    WIRE = 128,
    STEPS = 60,
    RUNS = 4000,
    QUIET_AFTER = 400
};
enum { VERSION_SIZE = 12 };

/* One response on its way to the client, or taken and waiting for its answer. */
struct told {
    int type;
    bool refused;
    char nonce[OSM_NONCE_SIZE], version[OSM_VERSION_SIZE];
    char has[NAMES][VERSION_SIZE]; /* "": not in it */
    bool gone[NAMES];
};

struct client_type {
    bool asked, wildcard;
    bool wants[NAMES];
    char has[NAMES][VERSION_SIZE]; /* "": nothing */
    bool warming[NAMES];           /* EDS: its cluster has been told since */
    bool refused;             /* on this stream: what it has is no longer known to the server */
    struct told queue[QUEUE]; /* not answered yet */
    size_t len;
    char nonce[OSM_NONCE_SIZE], version[OSM_VERSION_SIZE]; /* of the newest that was answered */
};

struct history {
    enum osm_stream_mode mode;
    uint64_t random;
    unsigned long seed;
    bool talks;
    struct osm_stream *stream;
    struct osm_class *cls;
    char view[TYPES][NAMES][VERSION_SIZE];
    unsigned versions;
    uint64_t tags;
    struct client_type types[TYPES];
    struct told wire[WIRE]; /* on their way, in this order, whatever their type */
    size_t wire_len;
    unsigned responses;
};

static uint32_t roll(struct history *h, uint32_t n)
{
    h->random = h->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(h->random >> 33) % n;
}

static void say(const struct history *h, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (h->talks)
        (void)vfprintf(stderr, format, args);
    va_end(args);
}

#define DEFY(h, ...)                                                                               \
    do {                                                                                           \
        (void)fprintf(stderr, "OSM_RANDOM_SEED=%lu: ", (h)->seed);                                 \
        fail_msg(__VA_ARGS__);                                                                     \
    } while (0)

static const char *short_of(int type)
{
    return osm_xds_type_short((enum osm_xds_type)type);
}

/* "x": refused, and what else is in the response is taken; "y": nothing of the response is. */
static bool is_bad(const char *version)
{
    return strpbrk(version, "xy") != NULL;
}

static bool has_wildcard(int type)
{
    return type == OSM_XDS_CDS || type == OSM_XDS_LDS;
}

static bool wants(const struct client_type *t, int n)
{
    return t->wildcard || t->wants[n];
}

/* --- views --- */

static struct osm_class *class_of(const struct history *h)
{
    struct osm_class *cls = osm_class_new();
    assert_non_null(cls);
    for (int t = 0; t < TYPES; t++) {
        cls->types[t].list = osm_alloc_array(NAMES, sizeof *cls->types[t].list);
        assert_non_null(cls->types[t].list);
        for (int n = 0; n < NAMES; n++) {
            const char name[] = {(char)('a' + n), '\0'}, *version = h->view[t][n];
            if (!version[0])
                continue;
            struct osm_bytes *body = osm_bytes_new(version, strlen(version));
            assert_non_null(body);
            struct osm_resource *r = osm_resource_new_versioned(name, version, body);
            assert_non_null(r);
            cls->types[t].list[cls->types[t].len++] = r;
        }
    }
    return cls;
}

static void show(struct history *h)
{
    struct osm_class *cls = class_of(h);
    assert_int_equal(osm_stream_set_view(h->stream, cls, NULL, 0), 0);
    osm_class_unref(h->cls);
    h->cls = cls;
}

static void change_view(struct history *h)
{
    say(h, "view");
    for (uint32_t i = 1 + roll(h, 4); i; i--) {
        int t = (int)roll(h, TYPES), n = (int)roll(h, NAMES);
        char *version = h->view[t][n];
        if (roll(h, 3) == 0)
            version[0] = '\0';
        else if (roll(h, 5) == 0) /* as it was some time ago */
            (void)snprintf(version, VERSION_SIZE, "%u", 1 + roll(h, h->versions));
        else
            (void)snprintf(version, VERSION_SIZE, "%u%s", ++h->versions, roll(h, 5) ? "" : "x");
        say(h, " %s %c=%s", short_of(t), 'a' + n, version);
    }
    say(h, "\n");
    show(h);
}

/* --- what the server says --- */

static void hear(struct history *h, const struct osm_stream_response *r)
{
    assert_true(h->wire_len < WIRE);
    struct told *told = &h->wire[h->wire_len++];
    *told = (struct told){.type = (int)r->type};
    memcpy(told->nonce, r->nonce, sizeof told->nonce);
    memcpy(told->version, r->version, sizeof told->version);
    say(h, "  < %s", short_of((int)r->type));
    for (size_t i = 0; i < r->resources_len; i++) {
        int n = r->resources[i]->name[0] - 'a';
        (void)snprintf(told->has[n], VERSION_SIZE, "%s", r->resources[i]->version);
        say(h, " %c=%s", 'a' + n, told->has[n]);
    }
    for (size_t i = 0; i < r->removed_len; i++) {
        told->gone[r->removed[i][0] - 'a'] = true;
        say(h, " -%s", r->removed[i]);
    }
    say(h, "\n");
}

/* At most so many responses; returns how many came. */
static unsigned listen_for(struct history *h, unsigned most)
{
    struct osm_stream_response r;
    unsigned n = 0;
    while (n < most && osm_stream_next(h->stream, &r) == 1) {
        hear(h, &r);
        osm_stream_response_clear(&r);
        n++;
        if (++h->responses > QUIET_AFTER)
            DEFY(h, "it never falls silent");
    }
    return n;
}

/* --- what the client says --- */

static void request(struct history *h, int type, struct osm_stream_request *r)
{
    char url[128];
    enum osm_stream_verdict verdict;
    struct osm_err err = {0};
    (void)snprintf(url, sizeof url, "type.googleapis.com/%s",
                   osm_xds_type_message((enum osm_xds_type)type));
    r->type_url = url;
    if (osm_stream_request(h->stream, r, &verdict, &err))
        DEFY(h, "%s", err.msg);
}

static const char *const letters[NAMES] = {"a", "b", "c", "d", "e", "f"};

/* Names of the state of the world: all of them, each time. */
static size_t names_of(const struct client_type *t, const char *names[NAMES])
{
    size_t len = 0;
    for (int n = 0; n < NAMES && !t->wildcard; n++)
        if (t->wants[n])
            names[len++] = letters[n];
    return len;
}

static void say_names(struct history *h, int type, const char *const *names, size_t len,
                      const char *const *unsubscribe, size_t unsubscribe_len)
{
    struct client_type *t = &h->types[type];
    struct osm_stream_request r = {.version = "", .nonce = "", .error = ""};
    const char *all[NAMES];
    if (h->mode == OSM_STREAM_SOTW) {
        r.names = all;
        r.names_len = names_of(t, all);
        r.nonce = t->nonce;
        r.version = t->version;
    } else {
        r.names = names;
        r.names_len = len;
        r.unsubscribe = unsubscribe;
        r.unsubscribe_len = unsubscribe_len;
    }
    request(h, type, &r);
}

/* The first request of a type; of the incremental form with what the client has. */
static void begin(struct history *h, int type)
{
    struct client_type *t = &h->types[type];
    struct osm_stream_request r = {.version = "", .nonce = "", .error = ""};
    struct osm_stream_claim claims[NAMES];
    const char *names[NAMES];
    if (t->refused)
        osm_stream_distrust(h->stream, (enum osm_xds_type)type);
    t->refused = false;
    r.names = names;
    r.names_len = names_of(t, names);
    r.version = h->mode == OSM_STREAM_SOTW ? t->version : "";
    for (int n = 0; n < NAMES && h->mode == OSM_STREAM_DELTA; n++)
        if (t->has[n][0])
            claims[r.claims_len++] = (struct osm_stream_claim){letters[n], t->has[n]};
    r.claims = claims;
    say(h, "begin %s%s", short_of(type), t->wildcard ? " *" : "");
    for (size_t i = 0; i < r.names_len; i++)
        say(h, " %s", names[i]);
    for (size_t i = 0; i < r.claims_len; i++)
        say(h, " claims %s=%s", claims[i].name, claims[i].version);
    say(h, "\n");
    t->asked = true;
    request(h, type, &r);
}

static void ask_or_leave(struct history *h, int type)
{
    struct client_type *t = &h->types[type];
    int n = (int)roll(h, NAMES);
    if (!t->asked) {
        t->wildcard = has_wildcard(type) && roll(h, 3);
        for (int i = 0; i < NAMES && !t->wildcard; i++)
            t->wants[i] = roll(h, 2);
        t->wants[n] = !t->wildcard;
        begin(h, type);
        return;
    }
    if (t->wildcard)
        return;
    /* The state of the world does not hear of a name that comes again before the newest is
     * answered. */
    if (h->mode == OSM_STREAM_SOTW && t->wants[n] && (t->len || h->wire_len))
        return;
    t->wants[n] = !t->wants[n];
    say(h, "%s %s %c\n", t->wants[n] ? "subscribe" : "unsubscribe", short_of(type), 'a' + n);
    if (!t->wants[n])
        t->has[n][0] = '\0';
    if (t->wants[n])
        say_names(h, type, &letters[n], 1, NULL, 0);
    else
        say_names(h, type, NULL, 0, &letters[n], 1);
}

/* Of what it refuses an Envoy takes the good part, unless some of it cannot be read at all. */
static void take(struct history *h, int type, const struct told *told)
{
    struct client_type *t = &h->types[type];
    bool whole = h->mode == OSM_STREAM_SOTW && has_wildcard(type);
    for (int n = 0; n < NAMES; n++)
        if (wants(t, n) && strchr(told->has[n], 'y'))
            return;
    for (int n = 0; n < NAMES; n++) {
        if (!wants(t, n))
            continue;
        if (told->has[n][0] && !is_bad(told->has[n])) {
            if (type == OSM_XDS_CDS && strcmp(t->has[n], told->has[n]) != 0)
                h->types[OSM_XDS_EDS].warming[n] = true;
            memcpy(t->has[n], told->has[n], VERSION_SIZE);
            if (type == OSM_XDS_EDS)
                t->warming[n] = false;
        }
        if ((told->gone[n] || (whole && !told->has[n][0])))
            t->has[n][0] = '\0';
    }
}

static void arrive(struct history *h)
{
    if (!h->wire_len)
        return;
    struct told told = h->wire[0];
    struct client_type *t = &h->types[told.type];
    memmove(&h->wire[0], &h->wire[1], --h->wire_len * sizeof h->wire[0]);
    for (int n = 0; n < NAMES; n++)
        told.refused = told.refused || (wants(t, n) && is_bad(told.has[n]));
    say(h, "arrives %s%s\n", short_of(told.type), told.refused ? ", is refused" : "");
    take(h, told.type, &told);
    t->refused = t->refused || told.refused;
    assert_true(t->len < QUEUE);
    t->queue[t->len++] = told;
}

/* Later: an Envoy accepts clusters when they are warm. */
static void answer(struct history *h, int type)
{
    struct client_type *t = &h->types[type];
    if (!t->len)
        return;
    const struct told told = t->queue[0];
    struct osm_stream_request r = {
        .version = "", .nonce = told.nonce, .refused = told.refused, .error = ""};
    const char *names[NAMES];
    memmove(&t->queue[0], &t->queue[1], --t->len * sizeof t->queue[0]);
    memcpy(t->nonce, told.nonce, sizeof t->nonce);
    if (!told.refused)
        memcpy(t->version, told.version, sizeof t->version);
    if (h->mode == OSM_STREAM_SOTW) {
        r.version = t->version;
        r.names = names;
        r.names_len = names_of(t, names);
    }
    r.error = r.refused ? "does not please" : "";
    say(h, "%s %s\n", r.refused ? "refuse" : "accept", short_of(type));
    request(h, type, &r);
}

static void connect_again(struct history *h)
{
    struct client_type *eds = &h->types[OSM_XDS_EDS];
    say(h, "again\n");
    /* Clusters may wait for endpoints that are lost. */
    if (osm_stream_type_state(h->stream, OSM_XDS_EDS).due)
        eds->refused = true;
    osm_stream_free(h->stream);
    h->stream = osm_stream_new(h->mode, ++h->tags);
    assert_non_null(h->stream);
    h->wire_len = 0;
    bool late = roll(h, 2);
    if (!late)
        show(h);
    for (int i = 0; i < TYPES; i++) {
        struct client_type *t = &h->types[i];
        const char *names[NAMES];
        t->len = 0;
        t->nonce[0] = '\0';
        if (has_wildcard(i) && !t->wildcard && !names_of(t, names))
            *t = (struct client_type){0}; /* no names would mean all */
        if (t->asked)
            begin(h, i);
    }
    if (late)
        show(h);
}

static void step(struct history *h)
{
    int type = (int)roll(h, TYPES);
    switch (roll(h, 12)) {
    case 0:
    case 1:
        change_view(h);
        break;
    case 2:
        ask_or_leave(h, type);
        break;
    case 3:
        if (!roll(h, 6))
            connect_again(h);
        break;
    case 4:
        if (!roll(h, 4))
            osm_stream_stop_waiting(h->stream);
        break;
    case 5:
    case 6:
    case 7:
        arrive(h);
        break;
    default:
        answer(h, type);
        break;
    }
    if (roll(h, 4))
        h->responses = 0;
    (void)listen_for(h, roll(h, 4));
}

/* --- how it must end --- */

/* A refused state of the world is kept back whole until its type changes; it may hold what the view
 * has no more, as long as something may refer to that. */
static bool is_refused(const struct history *h, int type)
{
    return osm_stream_type_state(h->stream, (enum osm_xds_type)type).nacked;
}

static bool refuses_any(const struct history *h, int type)
{
    const struct client_type *t = &h->types[type];
    for (int n = 0; n < NAMES; n++)
        if (t->asked && wants(t, n) && is_bad(h->view[type][n]))
            return true;
    return false;
}

static void expect_type(const struct history *h, int type, bool removals_wait)
{
    const struct client_type *t = &h->types[type];
    if (!t->asked || (h->mode == OSM_STREAM_SOTW && is_refused(h, type)))
        return;
    for (int n = 0; n < NAMES; n++) {
        const char *wanted = h->view[type][n];
        bool can_take = h->mode == OSM_STREAM_DELTA || has_wildcard(type);
        if (!wants(t, n) || is_bad(wanted) ||
            (!wanted[0] && (!can_take || (removals_wait && type != OSM_XDS_LDS))))
            continue;
        if (strcmp(wanted, t->has[n]) != 0)
            DEFY(h, "%s %c: the client has \"%s\", not \"%s\"", short_of(type), 'a' + n, t->has[n],
                 wanted);
        if (type == OSM_XDS_EDS && wanted[0] && t->warming[n] && h->view[OSM_XDS_CDS][n][0])
            DEFY(h, "EDS %c: its cluster waits for it", 'a' + n);
    }
}

struct blamed {
    bool names[NAMES];
};

static void note_blamed(void *ud, const struct osm_resource *resource)
{
    struct blamed *blamed = ud;
    blamed->names[resource->name[0] - 'a'] = true;
}

static void expect_blame(const struct history *h, int type)
{
    const struct client_type *t = &h->types[type];
    struct blamed blamed = {0};
    if (!t->asked || h->mode != OSM_STREAM_DELTA)
        return;
    osm_stream_each_blamed(h->stream, (enum osm_xds_type)type, note_blamed, &blamed);
    for (int n = 0; n < NAMES; n++) {
        bool bad = wants(t, n) && is_bad(h->view[type][n]);
        if (bad != blamed.names[n])
            DEFY(h, "%s %c is %s", short_of(type), 'a' + n,
                 bad ? "to blame, and is not known" : "blamed, and is good");
    }
}

static void settle(struct history *h)
{
    say(h, "settle\n");
    h->responses = 0;
    for (bool more = true; more;) {
        more = listen_for(h, QUEUE / 2);
        while (h->wire_len)
            arrive(h);
        for (int i = 0; i < TYPES; i++) {
            more = more || h->types[i].len;
            while (h->types[i].len)
                answer(h, i);
        }
    }
    bool refuses = false, asked = false;
    for (int i = 0; i < TYPES; i++) {
        refuses = refuses || refuses_any(h, i);
        asked = asked || h->types[i].asked;
    }
    if (asked && osm_stream_due(h->stream))
        DEFY(h, "it is silent, and something is due");
    bool told = osm_stream_refused(h->stream);
    if (asked && (h->mode == OSM_STREAM_DELTA ? told != refuses : refuses && !told))
        DEFY(h, "a refusal is %s", refuses ? "not told" : "told, and there is none");
    for (int i = 0; i < TYPES; i++) {
        expect_type(h, i, osm_stream_refused(h->stream));
        expect_blame(h, i);
    }
}

static void run(enum osm_stream_mode mode, unsigned long seed, bool talks)
{
    struct history *h = osm_alloc(sizeof *h);
    assert_non_null(h);
    h->mode = mode;
    h->seed = seed;
    h->talks = talks;
    h->random = seed * 2654435761u + 1;
    h->stream = osm_stream_new(mode, ++h->tags);
    assert_non_null(h->stream);
    h->versions = 1;
    for (int i = 0; i < STEPS; i++) {
        step(h);
        if (!roll(h, 20) && h->cls)
            settle(h);
    }
    change_view(h);
    settle(h);
    osm_stream_free(h->stream);
    osm_class_unref(h->cls);
    osm_free(h);
    assert_int_equal(osm_mem_live(), 0);
}

static unsigned long number_of(const char *name, unsigned long otherwise)
{
    const char *text = getenv(name);
    return text ? strtoul(text, NULL, 10) : otherwise;
}

static void run_all(enum osm_stream_mode mode)
{
    unsigned long only = number_of("OSM_RANDOM_SEED", 0), runs = number_of("OSM_RANDOM_RUNS", RUNS);
    if (only)
        run(mode, only, true);
    for (unsigned long seed = 1; !only && seed <= runs; seed++)
        run(mode, seed, false);
}

static void test_delta_ends_in_what_the_view_says(void **state)
{
    (void)state;
    run_all(OSM_STREAM_DELTA);
}

static void test_sotw_ends_in_what_the_view_says(void **state)
{
    (void)state;
    run_all(OSM_STREAM_SOTW);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_delta_ends_in_what_the_view_says),
        cmocka_unit_test(test_sotw_ends_in_what_the_view_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
