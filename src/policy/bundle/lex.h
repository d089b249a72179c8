/* Lua source, piece by piece, as far as one can tell words from texts and comments without a
 * parser. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct osm_lex {
    const char *at, *end;
    int line; /* of `at`, from 1 */
};

enum osm_lex_piece {
    OSM_LEX_END,
    OSM_LEX_WORD,   /* a name, a keyword or a number */
    OSM_LEX_TEXT,   /* "...", '...', [[...]] */
    OSM_LEX_CONCAT, /* ".." or "..." */
    OSM_LEX_SIGN,   /* any other character that is no space */
};

/** Moves behind the next piece that is no space and no comment; *start is its first character. */
enum osm_lex_piece osm_lex_next(struct osm_lex *lex, const char **start);
/** The character so many ahead; '\0' behind the end. */
static inline char osm_lex_peek(const struct osm_lex *lex, size_t ahead)
{
    return (size_t)(lex->end - lex->at) > ahead ? lex->at[ahead] : '\0';
}
bool osm_lex_is_word(char c);
/** Moves behind spaces (comments stay). */
void osm_lex_skip_space(struct osm_lex *lex);
