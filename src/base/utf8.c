#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

size_t osm_utf8_sequence(const char *text, size_t len)
{
    static const struct {
        unsigned char first, last, second_low, second_high, len;
    } rows[] = {
        {0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4}};
    const unsigned char *s = (const unsigned char *)text;
    for (size_t i = 0; len && i < sizeof rows / sizeof rows[0]; i++) {
        if (s[0] < rows[i].first || s[0] > rows[i].last)
            continue;
        if (rows[i].len > len ||
            (rows[i].len > 1 && (s[1] < rows[i].second_low || s[1] > rows[i].second_high)))
            return 0;
        for (size_t j = 2; j < rows[i].len; j++)
            if ((s[j] & 0xc0) != 0x80)
                return 0;
        return rows[i].len;
    }
    return 0;
}

/* How many of the bytes from the beginning are certainly ASCII; looks at eight at a time. */
static size_t ascii_prefix(const char *text, size_t len)
{
    size_t n = 0;
    for (uint64_t eight; n + sizeof eight <= len; n += sizeof eight) {
        memcpy(&eight, text + n, sizeof eight);
        if (eight & UINT64_C(0x8080808080808080))
            break;
    }
    return n;
}

bool osm_utf8_valid(const char *text, size_t len)
{
    for (size_t i = ascii_prefix(text, len), n; i < len; i += n) {
        n = osm_utf8_sequence(text + i, len - i);
        if (!n)
            return false;
    }
    return true;
}

/* Whether the rest of the text is the beginning of a character and nothing more. */
static bool is_cut_off(const char *text, size_t len)
{
    if (len > 3 || ((unsigned char)text[0] & 0xc0) != 0xc0)
        return false;
    for (size_t i = 1; i < len; i++)
        if (((unsigned char)text[i] & 0xc0) != 0x80)
            return false;
    return true;
}

char *osm_utf8_repair(char *text)
{
    size_t len = strlen(text);
    for (size_t i = 0, n; i < len; i += n ? n : 1) {
        n = osm_utf8_sequence(text + i, len - i);
        if (n)
            continue;
        if (is_cut_off(text + i, len - i)) {
            text[i] = '\0';
            break;
        }
        text[i] = '?';
    }
    return text;
}

/* U+0080 to U+009F are control characters of terminals too. */
static size_t control_character(const char *text)
{
    unsigned char c = (unsigned char)*text;
    if (c == 0xc2 && (unsigned char)text[1] >= 0x80 && (unsigned char)text[1] < 0xa0)
        return 2;
    return c < ' ' || c == 0x7f;
}

int osm_utf8_add_tame(struct osm_buf *out, const char *text, const char *kept)
{
    const char *from = text;
    while (*text) {
        size_t len = strchr(kept, *text) ? 0 : control_character(text);
        if (len) {
            (void)osm_buf_add(out, from, (size_t)(text - from));
            (void)osm_buf_addf(out, len == 2 ? "\\u%04x" : "\\x%02x",
                               (unsigned)(unsigned char)text[len - 1]);
            from = text + len;
        }
        text += len ? len : 1;
    }
    return osm_buf_add(out, from, (size_t)(text - from));
}
