#include "base/buf.h"

#include "base/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

char *osm_buf_reserve(struct osm_buf *buf, size_t extra)
{
    if (buf->failed)
        return NULL;
    if (extra > buf->max || buf->len > buf->max - extra) {
        buf->failed = OSM_ELIMIT;
        return NULL;
    }
    size_t need = buf->len + extra + 1;
    if (need > buf->cap) {
        size_t cap = buf->cap ? buf->cap : 64;
        while (cap < need)
            cap = cap > SIZE_MAX / 2 ? need : cap * 2;
        char *data;
        if (buf->secret) { /* realloc would leave a copy behind */
            data = osm_alloc(cap);
            if (data && buf->data)
                memcpy(data, buf->data, buf->len);
            if (data)
                osm_free_secret(buf->data, buf->cap);
        } else if (buf->data == buf->lent) {
            data = osm_realloc_array(NULL, cap, 1);
            if (data && buf->data)
                memcpy(data, buf->data, buf->len);
        } else {
            data = osm_realloc_array(buf->data, cap, 1);
        }
        if (!data) {
            buf->failed = OSM_ENOMEM;
            return NULL;
        }
        buf->data = data;
        buf->cap = cap;
    }
    buf->data[buf->len + extra] = '\0';
    return buf->data + buf->len;
}

int osm_buf_add(struct osm_buf *buf, const void *data, size_t len)
{
    char *at = osm_buf_reserve(buf, len);
    if (!at)
        return buf->failed;
    if (len)
        memcpy(at, data, len);
    buf->len += len;
    return 0;
}

int osm_buf_add_str(struct osm_buf *buf, const char *text)
{
    return osm_buf_add(buf, text, strlen(text));
}

int osm_buf_add_char(struct osm_buf *buf, char c)
{
    return osm_buf_add(buf, &c, 1);
}

int osm_buf_add_strs(struct osm_buf *buf, ...)
{
    va_list ap;
    const char *text;
    va_start(ap, buf);
    while ((text = va_arg(ap, const char *)))
        (void)osm_buf_add_str(buf, text);
    va_end(ap);
    return buf->failed;
}

int osm_buf_add_int(struct osm_buf *buf, int64_t number)
{
    char digits[20], *at = digits + sizeof digits;
    uint64_t left = number < 0 ? (uint64_t)0 - (uint64_t)number : (uint64_t)number;
    do {
        *--at = (char)('0' + left % 10);
        left /= 10;
    } while (left);
    if (number < 0)
        *--at = '-';
    return osm_buf_add(buf, at, (size_t)(digits + sizeof digits - at));
}

int osm_buf_addf(struct osm_buf *buf, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *at = n < 0 ? NULL : osm_buf_reserve(buf, (size_t)n);
    if (at) {
        (void)vsnprintf(at, (size_t)n + 1, fmt, again);
        buf->len += (size_t)n;
    }
    va_end(again);
    return buf->failed;
}

int osm_buf_add_json_string(struct osm_buf *buf, const char *text)
{
    (void)osm_buf_add_char(buf, '"');
    size_t left = strlen(text);
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        size_t n = osm_utf8_sequence((const char *)s, left);
        if (*s == '"' || *s == '\\')
            (void)osm_buf_addf(buf, "\\%c", *s);
        else if (*s == '\n')
            (void)osm_buf_add_str(buf, "\\n");
        else if (*s == '\t')
            (void)osm_buf_add_str(buf, "\\t");
        else if (*s < 0x20 || *s == 0x7f)
            (void)osm_buf_addf(buf, "\\u%04x", *s);
        else if (n)
            (void)osm_buf_add(buf, s, n);
        else
            (void)osm_buf_add_str(buf, "\\ufffd");
        s += n ? n : 1;
        left -= n ? n : 1;
    }
    return osm_buf_add_char(buf, '"');
}

void osm_buf_reset(struct osm_buf *buf)
{
    buf->len = 0;
    buf->failed = 0;
    if (buf->data)
        buf->data[0] = '\0';
}

void osm_buf_clear(struct osm_buf *buf)
{
    if (buf->secret)
        osm_free_secret(buf->data, buf->cap);
    else if (buf->data != buf->lent)
        osm_free(buf->data);
    buf->data = NULL;
    buf->len = buf->cap = 0;
    buf->failed = 0;
}

char *osm_buf_take(struct osm_buf *buf)
{
    char *data = !osm_buf_reserve(buf, 0) ? NULL
                 : buf->data == buf->lent ? osm_strndup(buf->data, buf->len)
                                          : osm_take_ptr(&buf->data);
    osm_buf_clear(buf);
    return data;
}

int osm_buf_read_file(struct osm_buf *buf, const char *path, struct osm_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return osm_fail(err, errno == ENOENT ? OSM_ENOENT : OSM_EIO, "%s: %s", path,
                        strerror(errno));
    int rc = 0;
    for (;;) {
        char chunk[16 * 1024];
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = osm_fail(err, OSM_EIO, "%s: %s", path, strerror(errno));
        else if (n > 0 && osm_buf_add(buf, chunk, (size_t)n))
            rc = osm_fail(err, buf->failed, "%s: %s (at most %zu bytes)", path,
                          osm_code_text(buf->failed), buf->max);
        if (buf->secret)
            explicit_bzero(chunk, sizeof chunk);
        if (n <= 0 || rc)
            break;
    }
    close(fd);
    return rc;
}
