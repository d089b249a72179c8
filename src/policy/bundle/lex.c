#include "policy/bundle/lex.h"

#include <ctype.h>

static void step(struct osm_lex *s)
{
    if (*s->at == '\n')
        s->line++;
    s->at++;
}

/* At "[[" or "[==[": its level; -1 where it is no long bracket. */
static int long_bracket(const struct osm_lex *s)
{
    size_t i = 1;
    while (osm_lex_peek(s, i) == '=')
        i++;
    return osm_lex_peek(s, i) == '[' ? (int)i - 1 : -1;
}

static void skip_long(struct osm_lex *s, int level)
{
    while (s->at < s->end) {
        if (*s->at == ']') {
            size_t i = 1;
            while (osm_lex_peek(s, i) == '=')
                i++;
            if (osm_lex_peek(s, i) == ']' && (int)i - 1 == level) {
                s->at += i + 1;
                return;
            }
        }
        step(s);
    }
}

static void skip_string(struct osm_lex *s)
{
    char quote = *s->at;
    for (s->at++; s->at < s->end && *s->at != quote && *s->at != '\n'; step(s))
        if (*s->at == '\\' && s->at + 1 < s->end)
            step(s);
    if (s->at < s->end && *s->at == quote)
        s->at++;
}

static void skip_comment(struct osm_lex *s)
{
    s->at += 2;
    int level = osm_lex_peek(s, 0) == '[' ? long_bracket(s) : -1;
    if (level >= 0) {
        skip_long(s, level);
        return;
    }
    while (s->at < s->end && *s->at != '\n')
        s->at++;
}

bool osm_lex_is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

void osm_lex_skip_space(struct osm_lex *s)
{
    while (s->at < s->end && isspace((unsigned char)*s->at))
        step(s);
}

enum osm_lex_piece osm_lex_next(struct osm_lex *s, const char **start)
{
    osm_lex_skip_space(s);
    while (osm_lex_peek(s, 0) == '-' && osm_lex_peek(s, 1) == '-') {
        skip_comment(s);
        osm_lex_skip_space(s);
    }
    *start = s->at;
    if (s->at >= s->end)
        return OSM_LEX_END;
    char c = *s->at;
    int level = c == '[' ? long_bracket(s) : -1;
    if (level >= 0) {
        skip_long(s, level);
        return OSM_LEX_TEXT;
    }
    if (c == '"' || c == '\'') {
        skip_string(s);
        return OSM_LEX_TEXT;
    }
    if (osm_lex_is_word(c)) {
        while (s->at < s->end && osm_lex_is_word(*s->at))
            s->at++;
        return OSM_LEX_WORD;
    }
    if (c == '.' && osm_lex_peek(s, 1) == '.') {
        s->at += osm_lex_peek(s, 2) == '.' ? 3 : 2;
        return OSM_LEX_CONCAT;
    }
    step(s);
    return OSM_LEX_SIGN;
}
