#include "base/check.h"

#include "base/log.h"

#include <stdlib.h>

_Noreturn void osm__require_failed(const char *expr, const char *file, int line)
{
    osm_log(OSM_LOG_CORE, OSM_LOG_FATAL, "requirement failed", OSM_S("expr", expr),
            OSM_S("file", file), OSM_I("line", line));
    abort();
}

bool osm__check_failed(const char *expr, const char *file, int line)
{
    osm_log(OSM_LOG_CORE, OSM_LOG_ERROR, "check failed", OSM_S("expr", expr), OSM_S("file", file),
            OSM_I("line", line));
    return false;
}
