#include "cli/client.h"

#include "base/buf.h"
#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { ANSWER_MAX_BYTES = 256 * 1024 * 1024, REQUEST_MAX_BYTES = 16 * 1024 * 1024 };

int osm_client_connect(int *out, const char *path, struct osm_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return osm_fail(err, OSM_ELIMIT, "%s: too long for a socket", path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return osm_fail(err, OSM_EIO, "socket: %s", strerror(errno));
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) {
        int why = errno;
        close(fd);
        return osm_fail(err, OSM_EIO,
                        "no daemon answers at %s (%s): is osm-controller running, and is this its "
                        "--control-socket or --debug-socket?",
                        path, strerror(why));
    }
    *out = fd;
    return 0;
}

int osm_client_send(int fd, const char *data, size_t len, struct osm_err *err)
{
    while (len) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EPIPE)
            return 0; /* it has hung up: what it said before tells why */
        if (n <= 0)
            return osm_fail(err, OSM_EIO, "sending to the daemon: %s", strerror(errno));
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

static int read_line(int fd, struct osm_buf *line, int timeout_ms, struct osm_err *err)
{
    uint64_t deadline = osm_now_ms() + (uint64_t)timeout_ms;
    for (;;) {
        uint64_t now = osm_now_ms();
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        int n = now < deadline ? poll(&ready, 1, (int)(deadline - now)) : 0;
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return osm_fail(err, OSM_ETIMEDOUT, "the daemon has not answered in %d ms", timeout_ms);
        char *at = osm_buf_reserve(line, 64 * 1024);
        if (!at)
            return osm_fail(err, line->failed, "answer: %s", osm_code_text(line->failed));
        ssize_t got = recv(fd, at, 64 * 1024, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return osm_fail(
                err, OSM_EIO,
                "the daemon closed the connection: it is stopping, or this user may not ask it");
        line->len += (size_t)got;
        if (line->data[line->len - 1] == '\n')
            return 0;
    }
}

int osm_client_ask(const char *socket_path, const char *cmd, json_t *args, int timeout_ms,
                   json_t **data, struct osm_err *err)
{
    struct osm_buf line = OSM_BUF_SECRET_INIT(ANSWER_MAX_BYTES); /* an answer may hold a key */
    if (!args)
        return osm_fail(err, OSM_EINVAL, "what is asked is no text in UTF-8");
    json_t *request = json_pack("{s:i, s:s, s:o}", "id", 1, "cmd", cmd, "args", args);
    json_t *answer = NULL;
    char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
    int fd = -1;
    int rc =
        text ? osm_client_connect(&fd, socket_path, err) : osm_fail(err, OSM_ENOMEM, "request");
    if (!rc && strlen(text) + 1 >= REQUEST_MAX_BYTES)
        rc = osm_fail(err, OSM_ELIMIT, "request too long");
    if (!rc)
        rc = osm_client_send(fd, text, strlen(text), err);
    if (!rc)
        rc = osm_client_send(fd, "\n", 1, err);
    if (!rc)
        rc = read_line(fd, &line, timeout_ms, err);
    if (!rc) {
        json_error_t where;
        answer = json_loadb(line.data, line.len, 0, &where);
        const json_t *failed = json_object_get(answer, "err");
        json_t *payload = json_object_get(answer, "data");
        if (failed)
            rc = osm_fail(err, OSM_EREJECTED, "%s",
                          json_string_value(json_object_get(failed, "msg")));
        else if (!payload)
            rc = osm_fail(err, OSM_EPARSE, "the daemon's answer cannot be read: %s", where.text);
        else
            *data = json_incref(payload);
    }
    if (fd >= 0)
        close(fd);
    json_decref(answer);
    json_decref(request);
    osm_free(text);
    osm_buf_clear(&line);
    return rc;
}
