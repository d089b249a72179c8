#include "cli/console_link.h"

#include "base/clock.h"
#include "cli/client.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MESSAGE_MAX_BYTES = 256 * 1024 * 1024, CHUNK_BYTES = 64 * 1024, TOKEN_MAX_BYTES = 300 };

/* --- opening --- */

static void take_fd(struct osm_link *link, int fd)
{
    *link = (struct osm_link){.fd = fd, .in = OSM_BUF_INIT(MESSAGE_MAX_BYTES)};
}

int osm_link_open(struct osm_link *link, const char *path, struct osm_err *err)
{
    int fd;
    int rc = osm_client_connect(&fd, path, err);
    if (rc)
        return rc;
    take_fd(link, fd);
    return 0;
}

static int connect_tcp(const char *text, int *out, struct osm_err *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    const char *colon = strrchr(text, ':');
    bool bracketed = colon && text[0] == '[' && colon > text + 1 && colon[-1] == ']';
    char *host =
        colon ? osm_strndup(text + bracketed, (size_t)(colon - text) - 2 * bracketed) : NULL;
    if (!host)
        return osm_fail(err, OSM_EINVAL, "--console %s: expected HOST:PORT", text);
    int fd = -1, why = getaddrinfo(host, colon + 1, &hints, &list);
    osm_free(host);
    if (why)
        return osm_fail(err, OSM_EIO, "%s: %s", text, gai_strerror(why));
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen)) {
            why = errno;
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    if (fd < 0)
        return osm_fail(err, OSM_EIO, "no daemon answers at %s (%s): is this its --debug-console?",
                        text, strerror(why));
    *out = fd;
    return 0;
}

int osm_link_open_tcp(struct osm_link *link, const char *address, const char *token_file,
                      struct osm_err *err)
{
    struct osm_buf token = OSM_BUF_SECRET_INIT(TOKEN_MAX_BYTES);
    int fd = -1;
    int rc = osm_buf_read_file(&token, token_file, err);
    if (!rc)
        rc = connect_tcp(address, &fd, err);
    size_t len = rc || !token.data ? 0 : strcspn(token.data, "\r\n");
    if (!rc)
        rc = osm_client_send(fd, token.data ? token.data : "", len, err);
    if (!rc)
        rc = osm_client_send(fd, "\n", 1, err);
    osm_buf_clear(&token);
    if (!rc)
        take_fd(link, fd);
    else if (fd >= 0)
        close(fd);
    return rc;
}

void osm_link_close(struct osm_link *link)
{
    if (link->fd >= 0)
        close(link->fd);
    link->fd = -1;
    osm_buf_clear(&link->in);
}

/* --- messages --- */

int osm_link_send(struct osm_link *link, json_t *request, struct osm_err *err)
{
    struct osm_buf line = OSM_BUF_INIT(MESSAGE_MAX_BYTES);
    int id = ++link->last_id;
    char *text = NULL;
    if (request && !json_object_set_new(request, "id", json_integer(id)))
        text = json_dumps(request, JSON_COMPACT);
    json_decref(request);
    int rc = text ? 0 : osm_fail(err, OSM_ENOMEM, "request");
    if (!rc && (osm_buf_add_str(&line, text) || osm_buf_add_char(&line, '\n')))
        rc = osm_fail(err, line.failed, "request: %s", osm_code_text(line.failed));
    if (!rc)
        rc = osm_client_send(link->fd, line.data, line.len, err);
    osm_free(text);
    osm_buf_clear(&line);
    return rc ? rc : id;
}

/* A whole line that is there, as JSON; NULL: none is. */
static json_t *parse_line(struct osm_link *link, int *rc, struct osm_err *err)
{
    size_t left = link->in.len - link->start;
    char *line = left ? link->in.data + link->start : NULL;
    const char *end = left ? memchr(line, '\n', left) : NULL;
    json_error_t where;
    if (!end)
        return NULL;
    json_t *message = json_loadb(line, (size_t)(end - line), 0, &where);
    if (!message)
        *rc = osm_fail(err, OSM_EPARSE, "the daemon's answer cannot be read: %s", where.text);
    link->start += (size_t)(end - line) + 1;
    if (link->start == link->in.len) {
        osm_buf_reset(&link->in);
        link->start = 0;
    }
    return message;
}

static int read_more(struct osm_link *link, struct osm_err *err)
{
    char *at = osm_buf_reserve(&link->in, CHUNK_BYTES);
    if (!at)
        return osm_fail(err, link->in.failed, "answer: %s", osm_code_text(link->in.failed));
    ssize_t n = recv(link->fd, at, CHUNK_BYTES, 0);
    if (n < 0 && errno == EINTR)
        return 0;
    if (n <= 0)
        return osm_fail(err, OSM_EIO,
                        "the daemon has closed the session: it is stopping, the session was idle "
                        "for long, or this user may not ask it");
    link->in.len += (size_t)n;
    return 0;
}

int osm_link_next(struct osm_link *link, int other_fd, int timeout_ms, json_t **message,
                  struct osm_err *err)
{
    uint64_t deadline = osm_now_ms() + (uint64_t)(timeout_ms < 0 ? 0 : timeout_ms);
    for (;;) {
        int rc = 0;
        *message = parse_line(link, &rc, err);
        if (*message || rc)
            return rc;
        uint64_t now = osm_now_ms();
        struct pollfd ready[2] = {{.fd = link->fd, .events = POLLIN},
                                  {.fd = other_fd, .events = POLLIN}};
        int n = poll(ready, 2, timeout_ms < 0 ? -1 : now < deadline ? (int)(deadline - now) : 0);
        if (n < 0 && errno == EINTR)
            return 1;
        if (n == 0)
            return osm_fail(err, OSM_ETIMEDOUT, "the daemon has not answered in %d ms", timeout_ms);
        if (ready[0].revents)
            rc = read_more(link, err);
        else if (ready[1].revents)
            return 1;
        if (rc)
            return rc;
    }
}

int osm_link_ask(struct osm_link *link, const char *cmd, json_t *args, int timeout_ms,
                 json_t **data, struct osm_err *err)
{
    int id = osm_link_send(
        link, json_pack("{s:s, s:o}", "cmd", cmd, "args", args ? args : json_object()), err);
    while (id > 0) {
        json_t *message = NULL;
        int rc = osm_link_next(link, -1, timeout_ms, &message, err);
        if (rc < 0)
            return rc;
        const json_t *failed = json_object_get(message, "err"),
                     *of = json_object_get(message, "id");
        bool mine = json_integer_value(of) == id || (failed && json_is_null(of));
        if (mine && failed)
            rc = osm_fail(err, OSM_EREJECTED, "%s",
                          json_string_value(json_object_get(failed, "msg")));
        else if (mine)
            *data = json_incref(json_object_get(message, "data"));
        json_decref(message);
        if (mine)
            return rc;
    }
    return id;
}

/* --- relaying --- */

static int write_all(int fd, const char *data, size_t len, struct osm_err *err)
{
    while (len) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return osm_fail(err, OSM_EIO, "output: %s", strerror(errno));
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

int osm_link_relay(struct osm_link *link, int from_fd, int to_fd, struct osm_err *err)
{
    char chunk[CHUNK_BYTES];
    int rc = 0;
    for (bool open = true; !rc;) {
        struct pollfd ready[2] = {{.fd = link->fd, .events = POLLIN},
                                  {.fd = open ? from_fd : -1, .events = POLLIN}};
        if (poll(ready, 2, -1) < 0 && errno != EINTR)
            return osm_fail(err, OSM_EIO, "poll: %s", strerror(errno));
        if (ready[1].revents) {
            ssize_t n = read(from_fd, chunk, sizeof chunk);
            open = n > 0 || (n < 0 && errno == EINTR);
            if (n > 0)
                rc = osm_client_send(link->fd, chunk, (size_t)n, err);
            if (!open)
                (void)shutdown(link->fd, SHUT_WR);
        }
        if (ready[0].revents) {
            ssize_t n = recv(link->fd, chunk, sizeof chunk, 0);
            if (n == 0 || (n < 0 && errno != EINTR))
                return rc;
            if (n > 0)
                rc = write_all(to_fd, chunk, (size_t)n, err);
        }
    }
    return rc;
}
