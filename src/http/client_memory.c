/* libcurl's memory, wiped when it goes: its buffers hold what was sent last, which may have been a
 * key, long after the request has ended. */
#include "http/client_priv.h"

#include <curl/curl.h>
#include <malloc.h>
#include <string.h>

static void *take(size_t size)
{
    return osm_alloc(size ? size : 1);
}

static void *take_array(size_t count, size_t size)
{
    return osm_alloc_array(count ? count : 1, size ? size : 1);
}

static void give(void *ptr)
{
    if (ptr)
        osm_free_secret(ptr, malloc_usable_size(ptr));
}

static void *retake(void *ptr, size_t size)
{
    size_t had = ptr ? malloc_usable_size(ptr) : 0;
    void *grown = take(size);
    if (!grown)
        return NULL;
    if (had)
        memcpy(grown, ptr, had < size ? had : size);
    give(ptr);
    return grown;
}

static char *copy(const char *text)
{
    return osm_strdup(text);
}

bool osm__http_client_init(void)
{
    return curl_global_init_mem(CURL_GLOBAL_DEFAULT, take, give, retake, copy, take_array) ==
           CURLE_OK;
}
