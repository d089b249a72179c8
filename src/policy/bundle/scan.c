/* Finds `mesh.name` in Lua source, outside of comments and strings, so that a name that nobody
 * declares is an error of the load and not of the day when that line first runs. */
#include "base/nearest.h"
#include "policy/bundle/bundle.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { ASKED_SIZE = 128 };

struct scan {
    const char *at, *end;
    int line;
};

static char peek(const struct scan *s, size_t ahead)
{
    return s->at + ahead < s->end ? s->at[ahead] : '\0';
}

static void step(struct scan *s)
{
    if (*s->at == '\n')
        s->line++;
    s->at++;
}

/* At "[[" or "[==[": its level; -1 where it is no long bracket. */
static int long_bracket(const struct scan *s)
{
    size_t i = 1;
    while (peek(s, i) == '=')
        i++;
    return peek(s, i) == '[' ? (int)i - 1 : -1;
}

static void skip_long(struct scan *s, int level)
{
    while (s->at < s->end) {
        if (*s->at == ']') {
            size_t i = 1;
            while (peek(s, i) == '=')
                i++;
            if (peek(s, i) == ']' && (int)i - 1 == level) {
                s->at += i + 1;
                return;
            }
        }
        step(s);
    }
}

static void skip_string(struct scan *s)
{
    char quote = *s->at;
    for (s->at++; s->at < s->end && *s->at != quote && *s->at != '\n'; step(s))
        if (*s->at == '\\' && s->at + 1 < s->end)
            step(s);
    if (s->at < s->end && *s->at == quote)
        s->at++;
}

static void skip_comment(struct scan *s)
{
    s->at += 2;
    int level = peek(s, 0) == '[' ? long_bracket(s) : -1;
    if (level >= 0) {
        skip_long(s, level);
        return;
    }
    while (s->at < s->end && *s->at != '\n')
        s->at++;
}

static bool word_char(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

static void skip_space(struct scan *s)
{
    while (s->at < s->end && isspace((unsigned char)*s->at))
        step(s);
}

/* Reads a word into @p out (cut at its size). */
static void read_word(struct scan *s, char out[64])
{
    size_t n = 0;
    for (; s->at < s->end && word_char(*s->at); s->at++)
        if (n < 63)
            out[n++] = *s->at;
    out[n] = '\0';
}

/* Whether some name begins with "<word>.". */
static bool is_prefix(const struct osm_engine *e, const char *word)
{
    size_t len = strlen(word);
    osm_map_each (&e->names, entry)
        if (!strncmp(entry->key, word, len) && entry->key[len] == '.')
            return true;
    return false;
}

/* Reads what is asked for: "backends", or "acme.quota" where names begin with "acme.". A prefix
 * alone, as in `local acme = mesh.acme`, is left to the day when it is used. */
static void read_asked(struct scan *s, const struct osm_engine *e, char out[ASKED_SIZE])
{
    char word[64];
    read_word(s, word);
    (void)snprintf(out, ASKED_SIZE, "%s", word);
    if (!is_prefix(e, word) && osm_map_has(&e->names, word))
        return;
    skip_space(s);
    if (peek(s, 0) != '.' || !word_char(peek(s, 1)))
        return;
    s->at++;
    read_word(s, word);
    size_t len = strlen(out);
    (void)snprintf(out + len, ASKED_SIZE - len, ".%s", word);
}

int osm_scan_names(const struct osm_engine *e, const struct osm_module *m, struct osm_err *err)
{
    struct scan s = {m->text, m->text + m->text_len, 1};
    char before = '\0'; /* the last character that was no space */
    while (s.at < s.end) {
        char c = *s.at, word[64];
        int level = c == '[' ? long_bracket(&s) : -1;
        if (c == '-' && peek(&s, 1) == '-') {
            skip_comment(&s);
        } else if (level >= 0) {
            skip_long(&s, level);
            before = ']';
        } else if (c == '"' || c == '\'') {
            skip_string(&s);
            before = '"';
        } else if (word_char(c)) {
            read_word(&s, word);
            bool field = before == '.' || before == ':';
            before = 'a';
            if (field || strcmp(word, "mesh") != 0)
                continue;
            skip_space(&s);
            if (peek(&s, 0) != '.' || peek(&s, 1) == '.')
                continue;
            s.at++;
            skip_space(&s);
            int line = s.line;
            char name[ASKED_SIZE];
            read_asked(&s, e, name);
            if (!name[0] || !strcmp(name, "reject") || osm_map_has(&e->names, name) ||
                is_prefix(e, name))
                continue;
            const char *near = osm_nearest_in(&e->names, name);
            return osm_fail(err, OSM_ELUA, "%s:%d: mesh.%s: nobody declares it%s%s%s", m->path,
                            line, name, near ? "; do you mean " : "", near ? near : "",
                            near ? "?" : "");
        } else if (c == '.' && peek(&s, 1) == '.') { /* joins texts, no field */
            s.at += 2;
            before = '~';
        } else {
            if (!isspace((unsigned char)c))
                before = c;
            step(&s);
        }
    }
    return 0;
}
