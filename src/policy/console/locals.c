#include "policy/console/locals.h"

#include "base/buf.h"
#include "policy/bundle/lex.h"

#include <string.h>

enum { TEXT_MAX_BYTES = 1024 * 1024 };

static bool is(const char *start, const struct osm_lex *at, const char *word)
{
    size_t n = (size_t)(at->at - start);
    return n == strlen(word) && !memcmp(start, word, n);
}

/* How a word changes the depth of blocks. */
static int opens(const char *start, const struct osm_lex *at)
{
    static const char *const openers[] = {"function", "do", "if", "repeat", NULL};
    for (const char *const *o = openers; *o; o++)
        if (is(start, at, *o))
            return 1;
    return is(start, at, "end") || is(start, at, "until") ? -1 : 0;
}

/* Behind `local`: the end of its list of names, NULL where it has attributes or is none; *assigned:
 * a value follows. */
static const char *names_end(struct osm_lex at, bool *assigned)
{
    const char *start, *end = NULL;
    for (;;) {
        if (osm_lex_next(&at, &start) != OSM_LEX_WORD)
            return NULL;
        end = at.at;
        enum osm_lex_piece piece = osm_lex_next(&at, &start);
        if (piece == OSM_LEX_SIGN && *start == ',')
            continue;
        *assigned = piece == OSM_LEX_SIGN && *start == '=';
        return piece == OSM_LEX_SIGN && *start == '<' ? NULL : end;
    }
}

/* The `local` at @p start, which @p at is behind. Text up to *copied is in @p out. */
static void share(struct osm_buf *out, const char *start, const struct osm_lex *at,
                  const char **copied)
{
    struct osm_lex ahead = *at;
    const char *next, *end = NULL;
    bool assigned = true;
    bool is_function = osm_lex_next(&ahead, &next) == OSM_LEX_WORD && is(next, &ahead, "function");
    if (!is_function && !(end = names_end(*at, &assigned)))
        return;
    (void)osm_buf_add(out, *copied, (size_t)(start - *copied));
    (void)osm_buf_add_str(out, "     ");
    *copied = at->at;
    if (assigned)
        return;
    (void)osm_buf_add(out, *copied, (size_t)(end - *copied));
    (void)osm_buf_add_str(out, " = nil");
    *copied = end;
}

char *osm_console_share_locals(const char *text)
{
    struct osm_buf out = OSM_BUF_INIT(TEXT_MAX_BYTES);
    struct osm_lex at = {text, text + strlen(text), 1};
    const char *copied = text, *start;
    bool field = false;
    int depth = 0;
    for (enum osm_lex_piece piece; (piece = osm_lex_next(&at, &start)) != OSM_LEX_END;) {
        bool is_word = piece == OSM_LEX_WORD && !field;
        bool is_label = start > text && start[0] == ':' && (start[-1] == ':' || start[1] == ':');
        field = piece == OSM_LEX_SIGN && (*start == '.' || *start == ':') && !is_label;
        if (is_word && depth == 0 && is(start, &at, "local"))
            share(&out, start, &at, &copied);
        else if (is_word)
            depth += opens(start, &at);
    }
    (void)osm_buf_add_str(&out, copied);
    return osm_buf_take(&out);
}
