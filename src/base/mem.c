#include "base/mem.h"

#include <fcntl.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static atomic_long fail_at = -1;
static atomic_long live;

void osm_mem_fail_at(long n)
{
    atomic_store(&fail_at, n);
}

bool osm_mem_fail_waits(void)
{
    return atomic_load(&fail_at) >= 0;
}

long osm_mem_live(void)
{
    return atomic_load(&live);
}

static int must_fail(void)
{
    if (atomic_load_explicit(&fail_at, memory_order_relaxed) < 0)
        return 0;
    return atomic_fetch_sub(&fail_at, 1) == 0;
}

/* The C library's calloc does not take from the thread's cache of small blocks, as its malloc does.
 */
enum { SMALL_BLOCK = 1024 };

size_t osm_mem_resident(void)
{
    char text[128];
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        (void)close(fd);
    text[n > 0 ? n : 0] = '\0';
    const char *second = strchr(text, ' ');
    return second ? (size_t)strtoull(second, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

struct osm_mem_heap osm_mem_measure_heap(void)
{
    struct mallinfo2 heap = mallinfo2();
    return (struct osm_mem_heap){heap.uordblks, heap.fordblks, heap.hblkhd};
}

void osm_mem_give_back(void)
{
    (void)malloc_trim(0);
}

/* The C library's arena of a thread that is not the first grows by a page at a time, each by a call
 * of the system. A block in one piece, smaller than those that it maps on their own, makes it grow
 * by that much, and once given back is room for many small ones. */
enum { ROOM_BYTES = 120 * 1024, ROOM_USED_BYTES = 96 * 1024 };
static _Thread_local bool grows;
static _Thread_local size_t room_used;

void osm_mem_grows(bool now)
{
    grows = now;
    room_used = ROOM_USED_BYTES;
}

static void use_room(size_t size)
{
#ifndef __SANITIZE_ADDRESS__ /* it would keep each of them */
    if (!grows || size >= ROOM_USED_BYTES)
        return;
    room_used += size + 16; /* with what the library needs for a block */
    if (room_used < ROOM_USED_BYTES)
        return;
    room_used = 0;
    void *volatile room = malloc(ROOM_BYTES); /* else the two would be left out */
    free(room);
#else
    (void)size;
#endif
}

static void *zeroed(size_t size)
{
    use_room(size);
    if (size > SMALL_BLOCK)
        return calloc(1, size);
    void *p = malloc(size ? size : 1);
    return p ? memset(p, 0, size) : NULL;
}

void *osm_alloc_array(size_t count, size_t size)
{
    size_t total; /* calloc checks too, but a sanitizer's aborts where ours returns NULL */
    if (__builtin_mul_overflow(count, size, &total) || must_fail())
        return NULL;
    void *p = zeroed(total);
    if (p)
        atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
    return p;
}

void *osm_alloc(size_t size)
{
    return osm_alloc_array(1, size);
}

void *osm_realloc_array(void *ptr, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total) || must_fail())
        return NULL;
    use_room(total);
    void *p = realloc(ptr, total ? total : 1);
    if (p && !ptr)
        atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
    return p;
}

void osm_free(void *ptr)
{
    if (ptr)
        atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    free(ptr);
}

void osm_free_secret(void *ptr, size_t size)
{
    if (ptr)
        explicit_bzero(ptr, size);
    osm_free(ptr);
}

void *osm_pages_alloc(size_t size)
{
    if (must_fail())
        return NULL;
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
    return p;
}

void osm_pages_free(void *ptr, size_t size)
{
    if (!ptr)
        return;
    atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    (void)munmap(ptr, size);
}

char *osm_strndup(const char *text, size_t len)
{
    char *p = osm_realloc_array(NULL, len + 1, 1);
    if (p) {
        memcpy(p, text, len);
        p[len] = '\0';
    }
    return p;
}

char *osm_strdup(const char *text)
{
    return osm_strndup(text, strlen(text));
}

char *osm_strf(const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = n < 0 ? NULL : osm_alloc((size_t)n + 1);
    if (p)
        (void)vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return p;
}

void *osm__take_ptr(void **pp)
{
    void *p = *pp;
    *pp = NULL;
    return p;
}
