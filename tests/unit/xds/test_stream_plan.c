/* Random histories: a model proxy, in both forms of the protocol, with delays in both directions,
 * refusals, reconnects and changing views. When all is quiet it has exactly the view; and as long
 * as it refuses no clusters and keeps its stream, no route that it has names a cluster that it
 * lacks. */
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

enum { NAMES = 6, QUEUE = 512, TEXT = 48 };

/* Content of one type: text[i] is the version of name i, "" where absent. A route's version names
 * its clusters ("3:c0c2"), a listener's its routes. */
struct content {
    char text[OSM_XDS_TYPE_COUNT][NAMES][TEXT];
};

struct request {
    int type;
    char version[OSM_VERSION_SIZE], nonce[OSM_NONCE_SIZE];
    bool refused;
    char names[NAMES + 1][8];
    size_t names_len;
    char unsubscribe[NAMES][8];
    size_t unsubscribe_len;
    char claims[NAMES][2][TEXT];
    size_t claims_len;
};

struct model {
    enum osm_stream_mode mode;
    struct osm_stream *stream;
    uint64_t random, tag, version;
    struct content view, has;
    bool named[OSM_XDS_TYPE_COUNT][NAMES], asked[OSM_XDS_TYPE_COUNT];
    char nonce[OSM_XDS_TYPE_COUNT][OSM_NONCE_SIZE], last[OSM_XDS_TYPE_COUNT][OSM_VERSION_SIZE];
    struct osm_stream_response down[QUEUE];
    size_t down_head, down_tail;
    struct request up[QUEUE];
    size_t up_head, up_tail;
    bool refuses, refuses_clusters, reconnects, quiet;
    unsigned responses;
};

static const char letters[OSM_XDS_TYPE_COUNT] = {'c', 'c', 'l', 'r', 's'};

static unsigned pick(struct model *m, unsigned n)
{
    m->random ^= m->random << 13;
    m->random ^= m->random >> 7;
    m->random ^= m->random << 17;
    return (unsigned)((m->random >> 11) % n);
}

static void name_of(int type, int i, char out[8])
{
    (void)snprintf(out, 8, "%c%d", letters[type], i);
}

/* References of a version text, after the colon. */
static bool refers(const char *text, int type, int i)
{
    char name[8];
    name_of(type, i, name);
    const char *colon = strchr(text, ':');
    return colon && strstr(colon, name);
}

static void make_view(struct model *m)
{
    struct content *v = &m->view;
    for (int type = 0; type < OSM_XDS_TYPE_COUNT; type++)
        for (int i = 0; i < NAMES; i++)
            if (pick(m, 3) == 0 ||
                m->quiet) /* at the end all is new, so that nothing stays refused */
                (void)snprintf(v->text[type][i], TEXT, pick(m, 3) ? "%llu" : "",
                               (unsigned long long)++m->version);
    for (int i = 0; i < NAMES; i++)
        if (!v->text[OSM_XDS_CDS][i][0])
            v->text[OSM_XDS_EDS][i][0] = '\0';
    static const int layers[][2] = {{OSM_XDS_RDS, OSM_XDS_CDS}, {OSM_XDS_LDS, OSM_XDS_RDS}};
    for (int k = 0; k < 2; k++) {
        int upper = layers[k][0], lower = layers[k][1];
        for (int i = 0; i < NAMES; i++) {
            char *text = v->text[upper][i];
            bool broken = false;
            for (int j = 0; j < NAMES; j++)
                broken = broken || (refers(text, lower, j) && !v->text[lower][j][0]);
            if (!text[0] || (strchr(text, ':') && !broken))
                continue;
            size_t n = (size_t)snprintf(text, TEXT, "%llu:", (unsigned long long)++m->version);
            for (int j = 0; j < NAMES; j++)
                if (v->text[lower][j][0] && pick(m, 3) == 0)
                    n += (size_t)snprintf(text + n, TEXT - n, "%c%d", letters[lower], j);
        }
    }
}

static void give_view(struct model *m)
{
    struct osm_class *cls = osm_class_new();
    assert_non_null(cls);
    for (int type = 0; type < OSM_XDS_TYPE_COUNT; type++) {
        cls->types[type].list = osm_alloc_array(NAMES, sizeof *cls->types[type].list);
        for (int i = 0; i < NAMES; i++) {
            const char *text = m->view.text[type][i];
            char name[8];
            name_of(type, i, name);
            if (text[0])
                cls->types[type].list[cls->types[type].len++] =
                    osm_resource_new_versioned(name, text, osm_bytes_new(text, strlen(text)));
        }
    }
    assert_int_equal(0, osm_stream_set_view(m->stream, cls, NULL, 0));
    osm_class_unref(cls);
}

/* ---- the proxy ---- */

static bool wants(const struct model *m, int type, int i)
{
    switch (type) {
    case OSM_XDS_EDS:
        return m->has.text[OSM_XDS_CDS][i][0] != '\0';
    case OSM_XDS_RDS:
        for (int l = 0; l < NAMES; l++)
            if (refers(m->has.text[OSM_XDS_LDS][l], OSM_XDS_RDS, i))
                return true;
        return false;
    case OSM_XDS_SDS:
        return i < 2;
    default:
        return false;
    }
}

static struct request *push_request(struct model *m, int type)
{
    struct request *r = &m->up[m->up_tail++ % QUEUE];
    assert_true(m->up_tail - m->up_head < QUEUE);
    *r = (struct request){.type = type};
    return r;
}

static void add_names(struct model *m, struct request *r, bool all)
{
    for (int i = 0; i < NAMES; i++) {
        bool want = wants(m, r->type, i), had = m->named[r->type][i];
        if (want && (all || !had))
            name_of(r->type, i, r->names[r->names_len++]);
        if (!want && had && !all)
            name_of(r->type, i, r->unsubscribe[r->unsubscribe_len++]);
        if (!want && had)
            m->has.text[r->type][i][0] = '\0';
        m->named[r->type][i] = want;
    }
}

/* Asks for what it needs now and has not asked for; an answer, if @p nonce. */
static void speak(struct model *m, int type, const char *nonce, bool refused)
{
    bool changed = !m->asked[type] || nonce;
    for (int i = 0; i < NAMES; i++)
        changed = changed || wants(m, type, i) != m->named[type][i];
    if (!changed)
        return;
    struct request *r = push_request(m, type);
    bool first = !m->asked[type];
    m->asked[type] = true;
    r->refused = refused;
    bool sotw = m->mode == OSM_STREAM_SOTW;
    if (sotw)
        memcpy(r->nonce, m->nonce[type], sizeof r->nonce);
    else
        (void)snprintf(r->nonce, sizeof r->nonce, "%s", nonce ? nonce : "");
    memcpy(r->version, m->last[type], sizeof r->version);
    if (first && !sotw)
        for (int i = 0; i < NAMES; i++)
            if (m->has.text[type][i][0]) {
                name_of(type, i, r->claims[r->claims_len][0]);
                memcpy(r->claims[r->claims_len++][1], m->has.text[type][i], TEXT);
            }
    if (type != OSM_XDS_CDS && type != OSM_XDS_LDS)
        add_names(m, r, sotw || first);
}

static void speak_all(struct model *m)
{
    for (int type = 0; type < OSM_XDS_TYPE_COUNT; type++)
        speak(m, type, NULL, false);
}

static void check_routes(const struct model *m)
{
    if (m->refuses_clusters || m->reconnects)
        return;
    for (int r = 0; r < NAMES; r++)
        for (int c = 0; c < NAMES; c++)
            if (refers(m->has.text[OSM_XDS_RDS][r], OSM_XDS_CDS, c) &&
                !m->has.text[OSM_XDS_CDS][c][0])
                fail_msg("route r%d=%s without cluster c%d", r, m->has.text[OSM_XDS_RDS][r], c);
}

static void apply(struct model *m, const struct osm_stream_response *r)
{
    char(*has)[TEXT] = m->has.text[r->type];
    if (m->mode == OSM_STREAM_SOTW && (r->type == OSM_XDS_CDS || r->type == OSM_XDS_LDS))
        memset(has, 0, sizeof m->has.text[r->type]);
    for (size_t i = 0; i < r->resources_len; i++) {
        int at = r->resources[i]->name[1] - '0';
        if (r->type == OSM_XDS_CDS || r->type == OSM_XDS_LDS || m->named[r->type][at])
            (void)snprintf(has[at], TEXT, "%s", r->resources[i]->version);
    }
    for (size_t i = 0; i < r->removed_len; i++)
        has[r->removed[i][1] - '0'][0] = '\0';
}

static void receive(struct model *m)
{
    struct osm_stream_response *r = &m->down[m->down_head++ % QUEUE];
    m->responses++;
    bool refuse = !m->quiet && m->refuses && (r->type != OSM_XDS_CDS || m->refuses_clusters) &&
                  pick(m, 5) == 0;
    memcpy(m->nonce[r->type], r->nonce, OSM_NONCE_SIZE);
    if (!refuse) {
        memcpy(m->last[r->type], r->version, OSM_VERSION_SIZE);
        apply(m, r);
        if (r->type == OSM_XDS_CDS ||
            r->type == OSM_XDS_LDS) { /* these first: the answer says that it needs nothing more */
            speak(m, OSM_XDS_EDS, NULL, false);
            speak(m, OSM_XDS_RDS, NULL, false);
        }
    }
    speak(m, r->type, r->nonce, refuse);
    check_routes(m);
    osm_stream_response_clear(r);
}

/* ---- the wire ---- */

static void deliver(struct model *m)
{
    const struct request *in = &m->up[m->up_head++ % QUEUE];
    char url[128];
    (void)snprintf(url, sizeof url, "type.googleapis.com/%s",
                   osm_xds_type_message((enum osm_xds_type)in->type));
    const char *names[NAMES + 1], *gone[NAMES];
    struct osm_stream_claim claims[NAMES];
    for (size_t i = 0; i < in->names_len; i++)
        names[i] = in->names[i];
    for (size_t i = 0; i < in->unsubscribe_len; i++)
        gone[i] = in->unsubscribe[i];
    for (size_t i = 0; i < in->claims_len; i++)
        claims[i] = (struct osm_stream_claim){in->claims[i][0], in->claims[i][1]};
    struct osm_stream_request r = {.type_url = url,
                                   .version = in->version,
                                   .nonce = in->nonce,
                                   .refused = in->refused,
                                   .error = "no",
                                   .names = names,
                                   .names_len = in->names_len,
                                   .unsubscribe = gone,
                                   .unsubscribe_len = in->unsubscribe_len,
                                   .claims = claims,
                                   .claims_len = in->claims_len};
    assert_int_equal(0, osm_stream_request(m->stream, &r, NULL, NULL));
}

static bool send_one(struct model *m)
{
    assert_true(m->down_tail - m->down_head < QUEUE);
    int rc = osm_stream_next(m->stream, &m->down[m->down_tail % QUEUE]);
    assert_true(rc >= 0);
    m->down_tail += (size_t)rc;
    return rc;
}

static void drop_wire(struct model *m)
{
    while (m->down_head < m->down_tail)
        osm_stream_response_clear(&m->down[m->down_head++ % QUEUE]);
    m->up_head = m->up_tail;
}

static void connect_again(struct model *m)
{
    drop_wire(m);
    osm_stream_free(m->stream);
    m->stream = osm_stream_new(m->mode, ++m->tag);
    assert_non_null(m->stream);
    give_view(m);
    memset(m->asked, 0, sizeof m->asked);
    memset(m->nonce, 0, sizeof m->nonce);
    speak_all(m);
}

static void settle(struct model *m)
{
    for (unsigned i = 0;; i++) {
        assert_true(i < 2000); /* else it never falls silent */
        bool moved = send_one(m);
        while (m->down_head < m->down_tail)
            receive(m);
        while (m->up_head < m->up_tail) {
            deliver(m);
            moved = true;
        }
        if (!moved)
            return;
    }
}

static void check_equal(const struct model *m)
{
    for (int type = 0; type < OSM_XDS_TYPE_COUNT; type++)
        for (int i = 0; i < NAMES; i++) {
            bool mine = type == OSM_XDS_CDS || type == OSM_XDS_LDS || m->named[type][i];
            const char *want = mine ? m->view.text[type][i] : "", *has = m->has.text[type][i];
            /* The state of the world takes clusters and listeners away, the rest falls with them.
             */
            if (m->mode == OSM_STREAM_SOTW && type != OSM_XDS_CDS && type != OSM_XDS_LDS &&
                !want[0])
                continue;
            if (strcmp(want, has) != 0)
                fail_msg("%s %d: the view has [%s], the proxy [%s]",
                         osm_xds_type_short((enum osm_xds_type)type), i, want, has);
        }
}

static void run_history(enum osm_stream_mode mode, uint64_t seed)
{
    struct model *m = calloc(1, sizeof *m);
    assert_non_null(m);
    m->mode = mode;
    m->random = seed * 0x9e3779b97f4a7c15u + 1;
    m->refuses = seed % 2;
    m->refuses_clusters = seed % 4 == 3;
    m->reconnects = seed % 3 == 2;
    make_view(m);
    connect_again(m);
    for (int i = 0; i < 400; i++) {
        unsigned what = pick(m, 100);
        if (what < 8) {
            make_view(m);
            give_view(m);
        } else if (what < 45) {
            (void)send_one(m);
        } else if (what < 75) {
            if (m->down_head < m->down_tail)
                receive(m);
        } else if (what < 99) {
            if (m->up_head < m->up_tail)
                deliver(m);
        } else if (m->reconnects) {
            connect_again(m);
        }
    }
    m->quiet = true;
    settle(m);
    make_view(m);
    give_view(m);
    settle(m);
    check_equal(m);
    assert_false(osm_stream_due(m->stream));
    assert_false(osm_stream_refused(m->stream));
    assert_true(m->responses > 10);
    drop_wire(m);
    osm_stream_free(m->stream);
    free(m);
}

static void test_random_state_of_the_world_histories_converge(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 600; seed++)
        run_history(OSM_STREAM_SOTW, seed);
}

static void test_random_delta_histories_converge(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 600; seed++)
        run_history(OSM_STREAM_DELTA, seed);
}

static int no_memory_left_behind(void **state)
{
    (void)state;
    return osm_mem_live() == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_state_of_the_world_histories_converge),
        cmocka_unit_test(test_random_delta_histories_converge),
    };
    return cmocka_run_group_tests(tests, NULL, no_memory_left_behind);
}
