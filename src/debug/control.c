/* Where a console listens, and who may come near. */
#include "debug/control_priv.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { PORT_DIGITS_MAX = 5, HOST_MAX_BYTES = 64 };

void osm__control_free_if_done(struct osm_control *c)
{
    if (!c->closed || c->sessions)
        return;
    if (c->token)
        osm_free_secret(c->token, strlen(c->token));
    osm_free(c->path);
    osm_free(c);
}

static void on_connection(uv_stream_t *server, int status)
{
    if (!status)
        osm__session_start(server->data);
}

static void server_closed(uv_handle_t *handle)
{
    struct osm_control *c = handle->data;
    c->closed = true;
    osm__control_free_if_done(c);
}

/* --- a unix socket --- */

/* A socket file that nobody listens on is left over from a daemon that was killed. */
static int remove_stale(const char *path, struct osm_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return osm_fail(err, OSM_EIO, "socket: %s", strerror(errno));
    int connected = connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
    int why = errno;
    close(fd);
    if (connected)
        return osm_fail(err, OSM_EBUSY,
                        "%s: another daemon answers there; stop it or choose another socket", path);
    if (why == ECONNREFUSED && unlink(path))
        return osm_fail(err, OSM_EIO, "%s: %s", path, strerror(errno));
    return 0;
}

/* The directory of @p path is its owner's alone; where it is absent it is made. */
static int own_directory(const char *path, struct osm_err *err)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash == path ? osm_strdup("/")
                : slash       ? osm_strndup(path, (size_t)(slash - path))
                              : osm_strdup(".");
    struct stat info;
    int rc = dir ? 0 : osm_fail(err, OSM_ENOMEM, "out of memory");
    if (!rc && mkdir(dir, 0700) && errno != EEXIST)
        rc = osm_fail(err, OSM_EIO, "%s: %s", dir, strerror(errno));
    if (!rc && stat(dir, &info))
        rc = osm_fail(err, OSM_EIO, "%s: %s", dir, strerror(errno));
    if (!rc && (info.st_mode & 077 || info.st_uid != geteuid()))
        rc = osm_fail(err, OSM_EACCES,
                      "%s must be this user's alone (chown, chmod 700): the console's socket lies "
                      "in it",
                      dir);
    osm_free(dir);
    return rc;
}

static int listen_unix(struct osm_control *c, struct osm_err *err)
{
    struct sockaddr_un limit;
    const char *path = c->config.path;
    if (strlen(path) >= sizeof limit.sun_path)
        return osm_fail(err, OSM_ELIMIT,
                        "%s: longer than the %zu bytes that a socket path may have", path,
                        sizeof limit.sun_path - 1);
    int rc = c->config.private_dir ? own_directory(path, err) : 0;
    if (!rc)
        rc = remove_stale(path, err);
    if (rc)
        return rc;
    mode_t old = umask(0177);
    int status = uv_pipe_bind(&c->server.pipe, path);
    umask(old);
    if (!status) {
        c->path = osm_strdup(path);
        status = c->path ? uv_listen(&c->server.stream, 8, on_connection) : UV_ENOMEM;
    }
    return status ? osm_fail(err, OSM_EIO, "socket %s: %s", path, uv_strerror(status)) : 0;
}

/* --- TCP --- */

static bool is_loopback(const struct sockaddr_storage *address)
{
    static const struct in6_addr loopback = IN6ADDR_LOOPBACK_INIT;
    if (address->ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
    return !memcmp(&((const struct sockaddr_in6 *)address)->sin6_addr, &loopback, sizeof loopback);
}

/* "127.0.0.1:15300", "localhost:15300", "[::1]:15300". */
static int parse_address(const char *text, struct sockaddr_storage *out, struct osm_err *err)
{
    const char *colon = strrchr(text, ':');
    char host[HOST_MAX_BYTES];
    size_t len = colon ? (size_t)(colon - text) : 0;
    size_t digits = colon ? strspn(colon + 1, "0123456789") : 0;
    long port = 0;
    for (size_t i = 1; i <= digits && i <= PORT_DIGITS_MAX; i++)
        port = port * 10 + (colon[i] - '0');
    bool bracketed = len > 2 && text[0] == '[' && text[len - 1] == ']';
    if (!colon || !digits || digits > PORT_DIGITS_MAX || colon[1 + digits] || port > 65535 ||
        len >= sizeof host || !len)
        return osm_fail(err, OSM_EINVAL, "%s: expected HOST:PORT, such as 127.0.0.1:15300", text);
    memcpy(host, text + bracketed, len - 2 * bracketed);
    host[len - 2 * bracketed] = '\0';
    if (!strcmp(host, "localhost"))
        memcpy(host, "127.0.0.1", sizeof "127.0.0.1");
    int status = bracketed ? uv_ip6_addr(host, (int)port, (struct sockaddr_in6 *)out)
                           : uv_ip4_addr(host, (int)port, (struct sockaddr_in *)out);
    if (status || !is_loopback(out))
        return osm_fail(err, OSM_EINVAL,
                        "%s: the console listens on loopback addresses only (127.0.0.1, [::1]); to "
                        "reach it from elsewhere run `osm debug` on this machine, over ssh or "
                        "kubectl exec",
                        text);
    return 0;
}

static int listen_tcp(struct osm_control *c, struct osm_err *err)
{
    struct sockaddr_storage address = {0};
    const char *text = c->config.address, *token = c->config.token;
    if (!token || strlen(token) < OSM_CONTROL_TOKEN_MIN || strlen(token) > OSM_CONTROL_TOKEN_MAX)
        return osm_fail(err, OSM_EINVAL, "the console on %s needs a token of %d to %d bytes", text,
                        OSM_CONTROL_TOKEN_MIN, OSM_CONTROL_TOKEN_MAX);
    int rc = parse_address(text, &address, err);
    if (rc)
        return rc;
    c->token = osm_strdup(token);
    int status = c->token ? uv_tcp_bind(&c->server.tcp, (struct sockaddr *)&address, 0) : UV_ENOMEM;
    if (!status)
        status = uv_listen(&c->server.stream, 8, on_connection);
    if (status)
        return osm_fail(err, OSM_EIO, "console %s: %s", text, uv_strerror(status));
    osm_log(OSM_LOG_CONTROL, OSM_LOG_WARN,
            "the debug console listens on TCP: whoever has its token and reaches this machine's "
            "loopback may use it",
            OSM_S("address", text), OSM_S("role", osm_role_name(c->config.role)));
    return 0;
}

int osm_control_read_token(char **out, const char *path, struct osm_err *err)
{
    char text[OSM_CONTROL_TOKEN_MAX + 3];
    struct stat info;
    int rc = 0, fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info))
        rc = osm_fail(err, OSM_EIO, "%s: %s", path, strerror(errno));
    else if (info.st_mode & 077)
        rc = osm_fail(err, OSM_EACCES, "%s: others may read this token: chmod 600", path);
    ssize_t n = rc ? 0 : read(fd, text, sizeof text - 1);
    if (n < 0)
        rc = osm_fail(err, OSM_EIO, "%s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    if (rc)
        return rc;
    while (n && (text[n - 1] == '\n' || text[n - 1] == '\r'))
        n--;
    text[n] = '\0';
    bool is_word = true;
    for (ssize_t i = 0; i < n; i++)
        is_word = is_word && text[i] > ' ';
    if (!is_word || n < OSM_CONTROL_TOKEN_MIN || n > OSM_CONTROL_TOKEN_MAX)
        rc = osm_fail(err, OSM_EINVAL, "%s: expected one line of %d to %d bytes without spaces",
                      path, OSM_CONTROL_TOKEN_MIN, OSM_CONTROL_TOKEN_MAX);
    char *copy = rc ? NULL : osm_strdup(text);
    if (!rc && !copy)
        rc = osm_fail(err, OSM_ENOMEM, "out of memory");
    explicit_bzero(text, sizeof text);
    if (!rc)
        *out = copy;
    return rc;
}

/* --- life --- */

int osm_control_start(struct osm_control **out, const struct osm_control_config *config,
                      struct osm_err *err)
{
    void *ud;
    int rc = 0;
    if (!osm_registry_find(config->registry, osm__builtins[0].name, &ud))
        rc = osm_registry_add(config->registry, osm__builtins, NULL, err);
    if (rc)
        return rc;
    struct osm_control *c = osm_alloc(sizeof *c);
    if (!c)
        return osm_fail(err, OSM_ENOMEM, "console");
    c->config = *config;
    if (config->path)
        (void)uv_pipe_init(osm_loop_uv(config->loop), &c->server.pipe, 0);
    else
        (void)uv_tcp_init(osm_loop_uv(config->loop), &c->server.tcp);
    c->server.handle.data = c;
    rc = config->path ? listen_unix(c, err) : listen_tcp(c, err);
    c->config.path = c->config.address = c->config.token = NULL; /* the caller's */
    if (rc)
        osm_control_stop(c);
    else
        *out = c;
    return rc;
}

void osm_control_stop(struct osm_control *c)
{
    if (!c)
        return;
    for (struct osm__session *s = c->sessions, *next; s; s = next) {
        next = s->next;
        osm__session_close(s);
    }
    if (c->path)
        (void)unlink(c->path);
    uv_close(&c->server.handle, server_closed);
}
