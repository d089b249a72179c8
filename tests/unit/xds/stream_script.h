/* Drives the stream machine by scripts: one line is one event or one expectation.
 *
 *   view CDS a=1 b=1 LDS l=1   the view is now this (name=version)
 *   leaf x=1 y=?               the reader's own secrets; ? = to come; a leading ~ = only by name
 *   first T names...           state of the world: version "" and nonce ""
 *   foreign T names...         a version and a nonce that this stream never gave
 *   ack T names...  nack T names...    with the newest nonce
 *   stale T names...  stale-nack T     with the one before the newest
 *   nonceless-nack T            refuses without a nonce
 *   cross T U                  answers T with the newest nonce of U
 *   claim T a=1 ...            delta: initial_resource_versions of the next sub or foreign
 *   sub T names...  unsub T names...   delta
 *   dack T names...  dnack T   delta: answers the oldest unanswered response
 *   dnack-last T               delta: refuses the newest
 *   again T                    delta: accepts once more what was answered last
 *   again-nack T               delta: refuses what was answered last
 *   distrust T                 what it will claim is not believed
 *   expect T                   the client is known to subscribe to it
 *   type URL                   a request for this type, which is none of ours
 *   was stale|ack|nack|quiet   what the last request was
 * In requests of the delta form, names after a "!" are unsubscribed from.
 *
 *   < T a=1 b=2 -c             the next response: exactly these resources, removed ones with a dash
 *   -                          nothing more to send
 *   due | idle | refused | accepted | waits
 *   patience                   the transport waits no longer
 */
#pragma once

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

enum { MAX = 64 };

struct client {
    struct osm_stream *stream;
    struct {
        char nonces[MAX][OSM_NONCE_SIZE]; /* in the order received */
        size_t nonces_len, answered;
        char version[OSM_VERSION_SIZE];
        struct osm_stream_claim claims[MAX];
        size_t claims_len;
    } types[OSM_XDS_TYPE_COUNT];
    char seen[512][OSM_NONCE_SIZE];
    size_t seen_len;
    struct osm_class *cls;
    char *words[MAX];
    size_t words_len;
    enum osm_stream_verdict verdict; /* of the last request */
};

static int type_of(const char *word)
{
    for (int i = 0; i < OSM_XDS_TYPE_COUNT; i++)
        if (!strcmp(word, osm_xds_type_short((enum osm_xds_type)i)))
            return i;
    return -1;
}

static void url_of(int type, char *out, size_t size)
{
    (void)snprintf(out, size, "type.googleapis.com/%s",
                   osm_xds_type_message((enum osm_xds_type)type));
}

static struct osm_resource *resource_of(const char *name, const char *version)
{
    struct osm_bytes *body = osm_bytes_new(version, strlen(version));
    assert_non_null(body);
    struct osm_resource *r = osm_resource_new_versioned(name, version, body);
    assert_non_null(r);
    return r;
}

/* "a=1" -> name and version in place */
static char *split(char *word)
{
    char *eq = strchr(word, '=');
    assert_non_null(eq);
    *eq = '\0';
    return eq + 1;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct osm_resource *const *)a)->name,
                  (*(struct osm_resource *const *)b)->name);
}

static struct osm_class *class_of(char **words, size_t n)
{
    struct osm_class *cls = osm_class_new();
    assert_non_null(cls);
    for (int t = 0; t < OSM_XDS_TYPE_COUNT; t++) {
        cls->types[t].list = osm_alloc_array(MAX, sizeof *cls->types[t].list);
        assert_non_null(cls->types[t].list);
    }
    int type = -1;
    for (size_t i = 0; i < n; i++) {
        if (type_of(words[i]) >= 0) {
            type = type_of(words[i]);
            continue;
        }
        char *version = split(words[i]);
        cls->types[type].list[cls->types[type].len++] = resource_of(words[i], version);
    }
    for (int t = 0; t < OSM_XDS_TYPE_COUNT; t++)
        qsort(cls->types[t].list, cls->types[t].len, sizeof *cls->types[t].list, by_name);
    return cls;
}

static void do_view(struct client *c)
{
    struct osm_class *cls = class_of(c->words + 1, c->words_len - 1);
    assert_int_equal(0, osm_stream_set_view(c->stream, cls, NULL, 0));
    osm_class_unref(c->cls);
    c->cls = cls;
}

static void do_leaf(struct client *c)
{
    struct osm_stream_secret secrets[OSM_STREAM_SECRETS_MAX] = {{0}};
    size_t n = c->words_len - 1;
    for (size_t i = 0; i < n; i++) {
        char *word = c->words[i + 1];
        secrets[i].by_name_only = word[0] == '~';
        secrets[i].name = word + secrets[i].by_name_only;
        const char *version = split(word);
        if (version[0] != '?')
            secrets[i].resource = resource_of(secrets[i].name, version);
    }
    assert_int_equal(0, osm_stream_set_view(c->stream, c->cls, secrets, n));
    for (size_t i = 0; i < n; i++)
        osm_resource_unref(secrets[i].resource);
}

static enum osm_stream_verdict do_request(struct client *c)
{
    const char *word = c->words[0];
    int type = type_of(c->words[1]);
    assert_true(type >= 0);
    char url[128];
    url_of(type, url, sizeof url);
    struct osm_stream_request r = {.type_url = url, .version = "", .nonce = "", .error = ""};
    size_t n = c->types[type].nonces_len;
    if (!strcmp(word, "foreign")) {
        r.version = "7";
        r.nonce = "x";
    }
    if (!strcmp(word, "ack") || !strcmp(word, "nack") || !strcmp(word, "dnack-last")) {
        assert_true(n > 0);
        r.nonce = c->types[type].nonces[n - 1];
        r.version = c->types[type].version;
    }
    if (!strncmp(word, "stale", 5)) {
        assert_true(n > 1);
        r.nonce = c->types[type].nonces[n - 2];
    }
    if (!strncmp(word, "again", 5)) {
        assert_true(c->types[type].answered > 0);
        r.nonce = c->types[type].nonces[c->types[type].answered - 1];
    }
    if (!strcmp(word, "cross")) {
        int other = type_of(c->words[2]);
        assert_true(other >= 0 && c->types[other].nonces_len > 0);
        r.nonce = c->types[other].nonces[c->types[other].nonces_len - 1];
    }
    if (!strcmp(word, "dack") || !strcmp(word, "dnack")) {
        assert_true(c->types[type].answered < n);
        r.nonce = c->types[type].nonces[c->types[type].answered++];
    }
    if (strstr(word, "nack")) {
        r.refused = true;
        r.error = "does not please";
    }
    if (!strcmp(word, "unsub")) {
        r.unsubscribe = (const char *const *)c->words + 2;
        r.unsubscribe_len = c->words_len - 2;
    } else if (strcmp(word, "cross") != 0) {
        r.names = (const char *const *)c->words + 2;
        while (2 + r.names_len < c->words_len && strcmp(r.names[r.names_len], "!") != 0)
            r.names_len++;
        if (2 + r.names_len < c->words_len) {
            r.unsubscribe = r.names + r.names_len + 1;
            r.unsubscribe_len = c->words_len - 3 - r.names_len;
        }
    }
    if (!strcmp(word, "sub") || !strcmp(word, "foreign")) {
        r.claims = c->types[type].claims;
        r.claims_len = c->types[type].claims_len;
        c->types[type].claims_len = 0;
    }
    enum osm_stream_verdict verdict;
    struct osm_err err = {0};
    int rc = osm_stream_request(c->stream, &r, &verdict, &err);
    if (rc)
        fail_msg("%s: %s", word, err.msg);
    return verdict;
}

static void do_other_type(struct client *c)
{
    struct osm_stream_request r = {
        .type_url = c->words[1], .version = "", .nonce = "", .error = ""};
    enum osm_stream_verdict verdict;
    assert_int_equal(0, osm_stream_request(c->stream, &r, &verdict, NULL));
    if (verdict != OSM_STREAM_UNKNOWN_TYPE)
        fail_msg("%s is taken for a type of ours", c->words[1]);
}

static void check_verdict(const struct client *c, int at)
{
    static const char *const names[] = {[OSM_STREAM_QUIET] = "quiet",
                                        [OSM_STREAM_ACK] = "ack",
                                        [OSM_STREAM_NACK] = "nack",
                                        [OSM_STREAM_STALE] = "stale"};
    if (strcmp(names[c->verdict], c->words[1]) != 0)
        fail_msg("line %d: expected %s, was %s", at, c->words[1], names[c->verdict]);
}

static void note_nonce(struct client *c, const struct osm_stream_response *r)
{
    for (size_t i = 0; i < c->seen_len; i++)
        assert_string_not_equal(c->seen[i], r->nonce);
    assert_true(c->seen_len < 512);
    (void)snprintf(c->seen[c->seen_len++], OSM_NONCE_SIZE, "%s", r->nonce);
    size_t *n = &c->types[r->type].nonces_len;
    assert_true(*n < MAX);
    (void)snprintf(c->types[r->type].nonces[(*n)++], OSM_NONCE_SIZE, "%s", r->nonce);
    (void)snprintf(c->types[r->type].version, OSM_VERSION_SIZE, "%s", r->version);
}

static void describe(const struct osm_stream_response *r, char *out, size_t size)
{
    int n = snprintf(out, size, "< %s", osm_xds_type_short(r->type));
    for (size_t i = 0; i < r->resources_len; i++)
        n += snprintf(out + n, size - (size_t)n, " %s=%s", r->resources[i]->name,
                      r->resources[i]->version);
    for (size_t i = 0; i < r->removed_len; i++)
        n += snprintf(out + n, size - (size_t)n, " -%s", r->removed[i]);
}

static void expect_next(struct client *c, const char *line, int at)
{
    char got[1024] = "-";
    struct osm_stream_response r;
    int rc = osm_stream_next(c->stream, &r);
    assert_true(rc >= 0);
    if (rc) {
        describe(&r, got, sizeof got);
        note_nonce(c, &r);
        osm_stream_response_clear(&r);
    }
    if (strcmp(line, got) != 0)
        fail_msg("line %d: expected [%s], got [%s]", at, line, got);
}

static void step(struct client *c, char *line, int at)
{
    if (line[0] == '<' || !strcmp(line, "-")) {
        expect_next(c, line, at);
        return;
    }
    c->words_len = 0;
    char *save = NULL;
    for (char *w = strtok_r(line, " ", &save); w; w = strtok_r(NULL, " ", &save))
        c->words[c->words_len++] = w;
    const char *word = c->words[0];
    if (!strcmp(word, "view")) {
        do_view(c);
    } else if (!strcmp(word, "leaf")) {
        do_leaf(c);
    } else if (!strcmp(word, "claim")) {
        int type = type_of(c->words[1]);
        for (size_t i = 2; i < c->words_len; i++) {
            static char kept[OSM_XDS_TYPE_COUNT][MAX][32];
            size_t k = c->types[type].claims_len++;
            (void)snprintf(kept[type][k], sizeof kept[type][k], "%s", c->words[i]);
            const char *version = split(kept[type][k]);
            c->types[type].claims[k] = (struct osm_stream_claim){kept[type][k], version};
        }
    } else if (!strcmp(word, "due") || !strcmp(word, "idle")) {
        if (osm_stream_due(c->stream) != (word[0] == 'd'))
            fail_msg("line %d: not %s", at, word);
    } else if (!strcmp(word, "refused") || !strcmp(word, "accepted")) {
        if (osm_stream_refused(c->stream) != (word[0] == 'r'))
            fail_msg("line %d: not %s", at, word);
    } else if (!strcmp(word, "waits")) {
        assert_true(osm_stream_waits(c->stream));
    } else if (!strcmp(word, "patience")) {
        osm_stream_stop_waiting(c->stream);
    } else if (!strcmp(word, "distrust")) {
        osm_stream_distrust(c->stream, (enum osm_xds_type)type_of(c->words[1]));
    } else if (!strcmp(word, "expect")) {
        osm_stream_expect(c->stream, (enum osm_xds_type)type_of(c->words[1]));
    } else if (!strcmp(word, "type")) {
        do_other_type(c);
    } else if (!strcmp(word, "was")) {
        check_verdict(c, at);
    } else {
        c->verdict = do_request(c);
        if (!strncmp(word, "stale", 5) || !strncmp(word, "again", 5))
            assert_int_equal(OSM_STREAM_STALE, c->verdict);
        else if (!strcmp(word, "nack") || !strncmp(word, "dnack", 5))
            assert_int_equal(OSM_STREAM_NACK, c->verdict);
    }
}

static struct client *client_new(enum osm_stream_mode mode)
{
    struct client *c = calloc(1, sizeof *c);
    assert_non_null(c);
    c->stream = osm_stream_new(mode, 0x5);
    assert_non_null(c->stream);
    c->cls = class_of(NULL, 0);
    return c;
}

static void client_free(struct client *c)
{
    osm_stream_free(c->stream);
    osm_class_unref(c->cls);
    free(c);
}

static void run(enum osm_stream_mode mode, const char *script)
{
    struct client *c = client_new(mode);
    char *text = strdup(script), *save = NULL;
    int at = 1;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save), at++)
        step(c, line, at);
    client_free(c);
    free(text);
}

static inline void sotw(const char *script)
{
    run(OSM_STREAM_SOTW, script);
}

static inline void delta(const char *script)
{
    run(OSM_STREAM_DELTA, script);
}

static int no_memory_left_behind(void **state)
{
    (void)state;
    return osm_mem_live() == 0 ? 0 : -1;
}
