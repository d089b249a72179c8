#include "base/clock.h"

#include <time.h>

uint64_t osm_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t osm_now_us(void)
{
    return osm_now_ns() / 1000u;
}

uint64_t osm_now_ms(void)
{
    return osm_now_us() / 1000u;
}

int64_t osm_wall_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000 + (int64_t)t.tv_nsec / 1000;
}

int64_t osm_wall_s(void)
{
    return osm_wall_us() / 1000000;
}
