#include "base/base64.h"

static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int osm_base64_decode(struct osm_buf *out, const char *text, size_t len)
{
    unsigned bits = 0, have = 0, digits = 0, padding = 0;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (c == ' ' || c == '\n' || c == '\r' || c == '\t')
            continue;
        int value = value_of(c);
        if (c == '=' && padding < 2) {
            padding++;
            continue;
        }
        if (value < 0 || padding)
            return OSM_EPARSE;
        bits = (bits << 6 | (unsigned)value) & 0xffffff;
        digits++;
        have += 6;
        if (have >= 8) {
            have -= 8;
            int rc = osm_buf_add_char(out, (char)(bits >> have & 0xff));
            if (rc)
                return rc;
        }
    }
    bool whole = digits % 4 != 1 && (!padding || (digits + padding) % 4 == 0);
    return whole && !(bits & ((1u << have) - 1)) ? 0 : OSM_EPARSE;
}

int osm_base64_encode(struct osm_buf *out, const void *bytes, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *in = bytes;
    for (size_t i = 0; i < len; i += 3) {
        size_t n = len - i < 3 ? len - i : 3;
        uint32_t bits = (uint32_t)in[i] << 16 | (n > 1 ? (uint32_t)in[i + 1] << 8 : 0) |
                        (n > 2 ? (uint32_t)in[i + 2] : 0);
        for (unsigned d = 0; d < 4; d++)
            (void)osm_buf_add_char(out, d <= n ? digits[bits >> (18 - 6 * d) & 63] : '=');
    }
    return out->failed;
}
