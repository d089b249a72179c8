/* What this program was built from, made anew by each build that finds another commit. */
#pragma once

extern const char osm_build_commit[]; /* "unknown" outside of a repository */
extern const char osm_build_date[];   /* of the commit */
