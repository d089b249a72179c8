#include "debug/control.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

enum {
    SESSIONS_MAX = 16,
    REQUEST_MAX_BYTES = 64 * 1024,
    REPLY_MAX_BYTES = 256 * 1024 * 1024,
    UNREAD_MAX_BYTES =
        8 * 1024 *
        1024, /* replies that a session has not read: no further request is taken until it does */
    LOGGED_MAX_BYTES = 1024, /* of a command's arguments, and of a name that is none */
    PENDING_MAX = 64,        /* requests of one session that are not answered yet */
    IDLE_MS = 5 * 60 * 1000
};

struct session {
    uv_pipe_t pipe;
    struct osm_control *control;
    struct osm_timer *idle;
    struct session *next, **prev;
    struct osm_buf in;
    size_t requests; /* alive ones that point here */
    long uid, pid;
    bool closing, closed;
    enum osm_role role;
    bool paused; /* does not read its replies */
    char chunk[4096];
};

struct osm_control_request {
    struct session *session;
    json_t *id;
    const struct osm_control_command *command; /* NULL: what was asked for is none */
    char *name, *args;                         /* for the log; args NULL: secret */
    uint64_t start_ms;
    enum osm_role role; /* as it was asked */
};

struct osm_control {
    uv_pipe_t pipe;
    struct osm_loop *loop;
    struct osm_registry *registry;
    enum osm_role role;
    struct session *sessions;
    size_t sessions_len;
    char *path;
    bool stopped;
};

struct reply {
    uv_write_t req;
    struct osm_buf text;
    bool last; /* the session ends with it */
};

/* A session is freed when its handle is closed and no request points to it any more. */
static void session_free_if_done(struct session *s)
{
    if (!s->closed || s->requests)
        return;
    osm_buf_clear(&s->in);
    osm_free(s);
}

static void control_free_if_done(struct osm_control *c)
{
    if (!c->stopped || c->sessions || c->pipe.data)
        return;
    osm_free(c->path);
    osm_free(c);
}

static void session_closed(uv_handle_t *handle)
{
    struct session *s = handle->data;
    struct osm_control *c = s->control;
    *s->prev = s->next;
    if (s->next)
        s->next->prev = s->prev;
    c->sessions_len--;
    s->closed = true;
    session_free_if_done(s);
    control_free_if_done(c);
}

static void session_close(struct session *s)
{
    if (s->closing)
        return;
    s->closing = true;
    osm_timer_free(s->idle);
    s->idle = NULL;
    uv_close((uv_handle_t *)&s->pipe, session_closed);
}

static void session_idle(void *ud)
{
    struct session *s = ud;
    if (s->requests)
        osm_timer_start(s->idle, IDLE_MS, 0);
    else
        session_close(s);
}

static void take_requests(struct session *s);

static void reply_written(uv_write_t *req, int status)
{
    struct reply *r = req->data;
    struct session *s = req->handle->data;
    bool last = r->last;
    osm_buf_clear(&r->text);
    osm_free(r);
    if (status || last)
        session_close(s);
    else if (s->paused &&
             uv_stream_get_write_queue_size((uv_stream_t *)&s->pipe) < UNREAD_MAX_BYTES / 2)
        take_requests(s);
}

static int append(const char *data, size_t len, void *buf)
{
    return osm_buf_add(buf, data, len);
}

/* Overwrites every string of an answer that held a key. */
static void wipe(json_t *value)
{
    const char *name;
    json_t *item;
    size_t i;
    if (json_is_string(value))
        explicit_bzero((char *)(uintptr_t)json_string_value(value), json_string_length(value));
    json_object_foreach (value, name, item)
        wipe(item);
    json_array_foreach (value, i, item)
        wipe(item);
}

static void send_line(struct session *s, const json_t *line, bool secret, bool last)
{
    struct reply *r = osm_alloc(sizeof *r);
    if (!r) {
        session_close(s);
        return;
    }
    r->text = (struct osm_buf)OSM_BUF_INIT(REPLY_MAX_BYTES);
    r->text.secret = secret;
    r->last = last;
    r->req.data = r;
    int status = json_dump_callback(line, append, &r->text, JSON_COMPACT) ||
                 osm_buf_add_char(&r->text, '\n');
    if (!status) {
        uv_buf_t buf = uv_buf_init(r->text.data, (unsigned)r->text.len);
        status = uv_write(&r->req, (uv_stream_t *)&s->pipe, &buf, 1, reply_written);
    }
    if (status) {
        osm_log(OSM_LOG_CONTROL, OSM_LOG_ERROR,
                "reply dropped: no memory, over the limit, or the peer has left");
        osm_buf_clear(&r->text);
        osm_free(r);
        session_close(s);
    }
}

/* Every command leaves one line, whatever has become of it. */
static void log_end(const struct osm_control_request *request, const struct osm_err *err)
{
    const struct session *s = request->session;
    osm_log(OSM_LOG_AUDIT, OSM_LOG_INFO, "command", OSM_S("cmd", request->name),
            OSM_S("args", request->args), OSM_S("result", err ? osm_code_name(err->code) : "ok"),
            OSM_S("error", err ? err->msg : NULL),
            OSM_U("duration_ms", osm_now_ms() - request->start_ms),
            OSM_S("role", osm_role_name(request->role)), OSM_I("uid", s->uid),
            OSM_I("pid", s->pid));
}

/* Takes the line. */
static void finish(struct osm_control_request *request, json_t *line)
{
    struct session *s = request->session;
    bool secret = request->command && request->command->secret;
    s->requests--;
    if (!s->closing && line)
        send_line(s, line, secret, false);
    else
        session_close(s); /* no memory for an answer: a client must not wait for it */
    if (secret)
        wipe(line);
    json_decref(line);
    json_decref(request->id);
    osm_free(request->name);
    osm_free(request->args);
    osm_free(request);
    session_free_if_done(s);
}

void osm_control_reply(struct osm_control_request *request, json_t *data)
{
    log_end(request, NULL);
    finish(request, json_pack("{s:O, s:b, s:o}", "id", request->id, "ok", 1, "data",
                              data ? data : json_object()));
}

void osm_control_fail(struct osm_control_request *request, const struct osm_err *err)
{
    log_end(request, err);
    finish(request, json_pack("{s:O, s:b, s:{s:s, s:s}}", "id", request->id, "ok", 0, "err", "code",
                              osm_code_name(err->code), "msg", err->msg));
}

bool osm_control_alive(const struct osm_control_request *request)
{
    return !request->session->closing;
}

/* --- the commands of every session --- */

static void help(void *ud, struct osm_control_request *request, const json_t *args)
{
    const struct osm_registry *registry = request->session->control->registry;
    const char *name = json_string_value(json_object_get(args, "command"));
    struct osm_err err = {0};
    const struct osm_control_command *command =
        name ? osm_registry_find(registry, name, &ud) : NULL;
    json_t *list = !name     ? osm_registry_describe_all(registry)
                   : command ? json_pack("[o]", osm_registry_describe(command))
                             : NULL;
    if (name && !command)
        (void)osm_fail(&err, OSM_ENOENT, "no such command: %.64s", name);
    else if (!list)
        (void)osm_fail(&err, OSM_ENOMEM, "help");
    if (err.code)
        osm_control_fail(request, &err);
    else
        osm_control_reply(request, json_pack("{s:o}", "commands", list));
}

static void role(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct session *s = request->session;
    const char *wanted = json_string_value(json_object_get(args, "role"));
    int next = wanted ? osm_role_parse(wanted) : (int)s->role;
    struct osm_err err = {0};
    (void)ud;
    if (next > (int)s->role)
        (void)osm_fail(&err, OSM_EACCES, "a session may lower its role, never raise it: it is %s",
                       osm_role_name(s->role));
    if (err.code) {
        osm_control_fail(request, &err);
        return;
    }
    s->role = (enum osm_role)next;
    osm_control_reply(request, json_pack("{s:s, s:s}", "role", osm_role_name(s->role), "socket",
                                         osm_role_name(s->control->role)));
}

static const struct osm_control_arg help_args[] = {
    {.name = "command", .type = OSM_ARG_TEXT, .help = "only this one, such as policy.why"},
    {.name = NULL},
};
static const struct osm_control_arg role_args[] = {
    {.name = "role", .type = OSM_ARG_TEXT, .choices = "view operate", .help = "the lower role"},
    {.name = NULL},
};
static const struct osm_control_command builtins[] = {
    {.name = "help",
     .handler = help,
     .args = help_args,
     .help = "the commands, with roles and arguments"},
    {.name = "role",
     .handler = role,
     .args = role_args,
     .help = "what this session may do; or to do less from now on"},
    {.name = NULL},
};

/* --- requests --- */

/* As much of a piece as goes in. */
static int append_start(const char *data, size_t len, void *ud)
{
    struct osm_buf *buf = ud;
    size_t room = buf->max - buf->len;
    return osm_buf_add(buf, data, len < room ? len : room);
}

/* The arguments as text, cut. */
static char *beginning(const json_t *args)
{
    struct osm_buf text = OSM_BUF_INIT(LOGGED_MAX_BYTES);
    (void)json_dump_callback(args, append_start, &text, JSON_COMPACT);
    char *out = osm_buf_take(&text);
    return out ? osm_utf8_repair(out) : NULL;
}

/* The command that is asked for, if this session may have it with these arguments. */
static int find_command(struct osm_control_request *request, const json_t *args, void **ud,
                        struct osm_err *err)
{
    const struct session *s = request->session;
    const struct osm_control_command *command =
        osm_registry_find(s->control->registry, request->name, ud);
    if (!command) {
        const char *near = osm_registry_nearest(s->control->registry, request->name);
        return osm_fail(err, OSM_ENOENT, "no such command: %.64s%s%s%s", request->name,
                        near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    }
    request->command = command;
    request->args = command->secret ? NULL : beginning(args);
    if (s->requests > PENDING_MAX)
        return osm_fail(err, OSM_ELIMIT, "more than %d requests of this session are waiting",
                        PENDING_MAX);
    if (command->role > s->role)
        return osm_fail(err, OSM_EACCES, "refused: %s needs the role %s; this session has %s%s",
                        command->name, osm_role_name(command->role), osm_role_name(s->role),
                        s->role < s->control->role ? ", lowered by itself" : "");
    return osm_registry_check(command, args, err);
}

static void handle_line(struct session *s, const char *line, size_t len)
{
    struct osm_err err = {0};
    json_error_t where;
    json_t *message = json_loadb(line, len, JSON_REJECT_DUPLICATES, &where);
    struct osm_control_request *request = osm_alloc(sizeof *request);
    const char *name = json_string_value(json_object_get(message, "cmd"));
    char *copy = osm_strndup(name ? name : "?", LOGGED_MAX_BYTES);
    if (!request || !copy) {
        osm_free(request);
        osm_free(copy);
        json_decref(message);
        session_close(s);
        return;
    }
    json_t *id = json_object_get(message, "id");
    *request = (struct osm_control_request){.session = s,
                                            .id = id ? json_incref(id) : json_null(),
                                            .name = copy,
                                            .start_ms = osm_now_ms(),
                                            .role = s->role};
    s->requests++;

    void *ud = NULL;
    json_t *args = json_object_get(message, "args");
    json_t *none = NULL;
    if (!args)
        args = none = json_object();
    if (!json_is_object(message) || !name || !json_is_object(args))
        (void)osm_fail(
            &err, OSM_EPARSE,
            "not a request: expected one JSON object per line with \"cmd\" and \"args\"");
    else
        (void)find_command(request, args, &ud, &err);
    if (err.code)
        osm_control_fail(request, &err);
    else
        request->command->handler(ud, request, args);
    json_decref(none);
    json_decref(message);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    struct session *s = handle->data;
    *buf = uv_buf_init(s->chunk, sizeof s->chunk);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct session *s = stream->data;
    if (n < 0) {
        session_close(s);
        return;
    }
    osm_timer_start(s->idle, IDLE_MS, 0);
    if (osm_buf_add(&s->in, buf->base, (size_t)n)) {
        osm_log(OSM_LOG_CONTROL, OSM_LOG_WARN, "request over the limit", OSM_I("uid", s->uid),
                OSM_I("pid", s->pid), OSM_I("max_bytes", REQUEST_MAX_BYTES));
        session_close(s);
        return;
    }
    take_requests(s);
}

/* Handles the whole lines that are there, as long as the session reads its replies. */
static void take_requests(struct session *s)
{
    size_t start = 0;
    s->paused = false;
    for (char *end; !s->closing && !s->paused && s->in.len > start &&
                    (end = memchr(s->in.data + start, '\n', s->in.len - start)) != NULL;) {
        size_t len = (size_t)(end - s->in.data) - start;
        if (len)
            handle_line(s, s->in.data + start, len);
        start += len + 1;
        s->paused = uv_stream_get_write_queue_size((uv_stream_t *)&s->pipe) >= UNREAD_MAX_BYTES;
    }
    if (start && s->in.data) {
        memmove(s->in.data, s->in.data + start, s->in.len - start);
        s->in.len -= start;
    }
    if (s->closing)
        return;
    if (s->paused)
        (void)uv_read_stop((uv_stream_t *)&s->pipe);
    else
        (void)uv_read_start((uv_stream_t *)&s->pipe, on_alloc, on_read);
}

/* Says why, then ends the session. */
static void refuse(struct session *s, const char *why)
{
    json_t *line = json_pack("{s:n, s:b, s:{s:s, s:s}}", "id", "ok", 0, "err", "code",
                             osm_code_name(OSM_ELIMIT), "msg", why);
    if (line)
        send_line(s, line, false, true);
    else
        session_close(s);
    json_decref(line);
}

static void on_connection(uv_stream_t *server, int status)
{
    struct osm_control *c = server->data;
    if (status)
        return;
    struct session *s = osm_alloc(sizeof *s);
    if (!s)
        return;
    s->control = c;
    s->role = c->role;
    s->in = (struct osm_buf)OSM_BUF_INIT(REQUEST_MAX_BYTES);
    s->pipe.data = s;
    (void)uv_pipe_init(osm_loop_uv(c->loop), &s->pipe, 0);
    s->next = c->sessions;
    s->prev = &c->sessions;
    if (s->next)
        s->next->prev = &s->next;
    c->sessions = s;
    c->sessions_len++;
    s->idle = osm_timer_new(c->loop, session_idle, s);

    uv_os_fd_t fd;
    struct ucred peer;
    socklen_t len = sizeof peer;
    if (!s->idle || uv_accept(server, (uv_stream_t *)&s->pipe) ||
        uv_fileno((uv_handle_t *)&s->pipe, &fd) ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len)) {
        session_close(s);
        return;
    }
    s->uid = (long)peer.uid;
    s->pid = (long)peer.pid;
    if (peer.uid != 0 && peer.uid != geteuid()) {
        osm_log(OSM_LOG_CONTROL, OSM_LOG_WARN, "peer refused", OSM_I("uid", s->uid),
                OSM_I("pid", s->pid));
        session_close(s);
        return;
    }
    osm_timer_start(s->idle, IDLE_MS, 0);
    if (c->sessions_len > SESSIONS_MAX)
        refuse(s, "too many sessions on the control socket; end one and try again");
    else
        take_requests(s);
}

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
        return osm_fail(
            err, OSM_EBUSY,
            "%s: another daemon answers there; stop it or choose another --control-socket", path);
    if (why == ECONNREFUSED && unlink(path))
        return osm_fail(err, OSM_EIO, "%s: %s", path, strerror(errno));
    return 0;
}

static void pipe_closed(uv_handle_t *handle)
{
    struct osm_control *c = handle->data;
    handle->data = NULL;
    control_free_if_done(c);
}

int osm_control_start(struct osm_control **out, const struct osm_control_config *config,
                      struct osm_err *err)
{
    struct sockaddr_un limit;
    const char *path = config->path;
    void *ud;
    if (strlen(path) >= sizeof limit.sun_path)
        return osm_fail(err, OSM_ELIMIT,
                        "%s: longer than the %zu bytes that a socket path may have", path,
                        sizeof limit.sun_path - 1);
    int rc = remove_stale(path, err);
    if (!rc && !osm_registry_find(config->registry, builtins[0].name, &ud))
        rc = osm_registry_add(config->registry, builtins, NULL, err);
    if (rc)
        return rc;
    struct osm_control *c = osm_alloc(sizeof *c);
    char *copy = osm_strdup(path);
    if (!c || !copy) {
        osm_free(c);
        osm_free(copy);
        return osm_fail(err, OSM_ENOMEM, "control socket");
    }
    *c = (struct osm_control){
        .loop = config->loop, .registry = config->registry, .role = config->role, .path = copy};
    (void)uv_pipe_init(osm_loop_uv(c->loop), &c->pipe, 0);
    c->pipe.data = c;
    mode_t old = umask(0177);
    int status = uv_pipe_bind(&c->pipe, path);
    umask(old);
    if (!status)
        status = uv_listen((uv_stream_t *)&c->pipe, 8, on_connection);
    if (status) {
        c->stopped = true;
        uv_close((uv_handle_t *)&c->pipe, pipe_closed);
        return osm_fail(err, OSM_EIO, "control socket %s: %s", path, uv_strerror(status));
    }
    *out = c;
    return 0;
}

void osm_control_stop(struct osm_control *c)
{
    if (!c)
        return;
    c->stopped = true;
    for (struct session *s = c->sessions, *next; s; s = next) {
        next = s->next;
        session_close(s);
    }
    (void)unlink(c->path);
    uv_close((uv_handle_t *)&c->pipe, pipe_closed);
}
