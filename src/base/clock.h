/* Time. Rules and state machines get it passed in; only the runtime asks. */
#pragma once

#include <stdint.h>

/** Monotonic milliseconds since some fixed point. */
uint64_t osm_now_ms(void);
/** Monotonic microseconds. */
uint64_t osm_now_us(void);
/** Monotonic nanoseconds. */
uint64_t osm_now_ns(void);
/** Seconds since 1970 UTC. */
int64_t osm_wall_s(void);
/** Microseconds since 1970 UTC. */
int64_t osm_wall_us(void);
