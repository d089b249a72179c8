/* Finds `mesh.name` in Lua source, outside of comments and strings, so that a name that nobody
 * declares is an error of the load and not of the day when that line first runs. */
#include "base/nearest.h"
#include "policy/bundle/bundle.h"
#include "policy/bundle/lex.h"

#include <stdio.h>
#include <string.h>

enum { ASKED_SIZE = 128 };

/* Reads a word into @p out (cut at its size). */
static void read_word(struct osm_lex *s, char out[64])
{
    size_t n = 0;
    for (; s->at < s->end && osm_lex_is_word(*s->at); s->at++)
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
static void read_asked(struct osm_lex *s, const struct osm_engine *e, char out[ASKED_SIZE])
{
    char word[64];
    read_word(s, word);
    (void)snprintf(out, ASKED_SIZE, "%s", word);
    if (!is_prefix(e, word) && osm_map_has(&e->names, word))
        return;
    osm_lex_skip_space(s);
    if (osm_lex_peek(s, 0) != '.' || !osm_lex_is_word(osm_lex_peek(s, 1)))
        return;
    s->at++;
    read_word(s, word);
    size_t len = strlen(out);
    (void)snprintf(out + len, ASKED_SIZE - len, ".%s", word);
}

int osm_scan_names(const struct osm_engine *e, struct osm_module *m, struct osm_err *err)
{
    struct osm_lex s = {m->text, m->text + m->text_len, 1};
    const char *start;
    bool field = false; /* what comes next is one */
    char before = 0;    /* the sign there; 0: another piece */
    for (enum osm_lex_piece piece; (piece = osm_lex_next(&s, &start)) != OSM_LEX_END;) {
        bool is_mesh = piece == OSM_LEX_WORD && s.at - start == 4 && !memcmp(start, "mesh", 4);
        bool was_field = field, listed = before == '(' || before == ',';
        before = piece == OSM_LEX_SIGN ? *start : '\0';
        field = piece == OSM_LEX_SIGN && (*start == '.' || *start == ':');
        if (!is_mesh || was_field)
            continue;
        osm_lex_skip_space(&s);
        if (osm_lex_peek(&s, 0) != '.' || osm_lex_peek(&s, 1) == '.') {
            char next = osm_lex_peek(&s, 0);
            bool handed_on = listed && (next == ',' || next == ')');
            m->looks = m->looks || !handed_on;
            continue;
        }
        s.at++;
        osm_lex_skip_space(&s);
        int line = s.line;
        char name[ASKED_SIZE];
        read_asked(&s, e, name);
        m->looks = m->looks || !name[0] || is_prefix(e, name);
        if (!name[0] || !strcmp(name, "reject") || osm_map_has(&e->names, name) ||
            is_prefix(e, name))
            continue;
        const char *near = osm_nearest_in(&e->names, name);
        return osm_fail(err, OSM_ELUA, "%s:%d: mesh.%s: nobody declares it%s%s%s", m->path, line,
                        name, near ? "; do you mean " : "", near ? near : "", near ? "?" : "");
    }
    return 0;
}
