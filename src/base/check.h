/* Three grades of assertion; plain assert is banned.
 *   OSM_REQUIRE(x)        always on, aborts: only where going on would break memory safety
 *   if (!OSM_CHECK(x))    always on, logs, must be handled: a bug that this request can survive
 *   OSM_DCHECK(x)         debug builds only */
#pragma once

#include <stdbool.h>

_Noreturn void osm__require_failed(const char *expr, const char *file, int line);
bool osm__check_failed(const char *expr, const char *file, int line);

#define OSM_REQUIRE(x) ((x) ? (void)0 : osm__require_failed(#x, __FILE__, __LINE__))
#define OSM_CHECK(x)   ((x) ? true : osm__check_failed(#x, __FILE__, __LINE__))
#ifdef OSM_DEBUG
#define OSM_DCHECK(x) OSM_REQUIRE(x)
#else
#define OSM_DCHECK(x) ((void)sizeof(!(x)))
#endif
