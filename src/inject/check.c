#include "inject/check.h"

#include <string.h>

int osm__check_name(const char *what, const char *text, bool dots, size_t max, struct osm_err *err)
{
    size_t len = text ? strlen(text) : 0;
    if (!len || len > max)
        return osm_fail(err, OSM_EINVAL, "%s: must have 1 to %zu bytes, has %zu", what, max, len);
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        bool edge = i == 0 || i + 1 == len || text[i - 1] == '.' || text[i + 1] == '.';
        if (!alnum && (edge || (c != '-' && (c != '.' || !dots))))
            return osm_fail(err, OSM_EINVAL, "%s: byte %zu is not allowed in it", what, i + 1);
    }
    return 0;
}
