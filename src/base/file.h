/* Files that must never be half-written: whole under another name first, then renamed. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/** Writes a new file of its own (what has the name is removed, no link is followed) and brings it
 * to the disk, with exactly this mode; who renames it replaces another file whole. @p dir: a
 * directory, or AT_FDCWD. Returns 0, or errno; nothing is left then. Thread: any. */
int osm_file_write(int dir, const char *name, const char *text, size_t len, mode_t mode);

/** As many open files as the process may have: each proxy and each pod that is admitted has a
 * connection, and the usual soft limit, 1,024, is for programs that use select(). */
void osm_files_allow(void);
