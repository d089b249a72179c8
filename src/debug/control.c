#include "debug/control.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/log.h"

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
    REPLY_MAX_BYTES = 256 * 1024 * 1024,
    UNREAD_MAX_BYTES =
        8 * 1024 *
        1024, /* replies that a session has not read: no further request is taken until it does */
    PENDING_MAX = 64, /* requests of one session that are not answered yet */
    IDLE_MS = 5 * 60 * 1000
};

struct session {
    uv_pipe_t pipe;
    struct osm_control *control;
    struct osm_timer *idle;
    struct session *next, **prev;
    struct osm_buf in;
    size_t searched; /* of `in`: holds no end of a line */
    size_t requests; /* alive ones that point here */
    long uid, pid;
    bool closing, closed;
    bool paused;  /* does not read its replies */
    bool parsing; /* a large request is on the pool; no other is taken meanwhile */
    char chunk[4096];
};

struct osm_control_request {
    struct session *session;
    json_t *id;
    const struct osm_control_command *command;
};

struct osm_control {
    uv_pipe_t pipe;
    struct osm_loop *loop;
    const struct osm_control_command *commands;
    void *ud;
    struct session *sessions;
    size_t sessions_len;
    struct session *large; /* whose request is over OSM_CONTROL_MAX_BYTES; NULL: nobody's */
    char *path;
    bool stopped;
};

struct reply {
    uv_write_t req;
    struct osm_buf text;
    char *data; /* JSON text that goes between `text` and the end of the line; NULL: none */
    bool last;  /* the session ends with it */
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
    if (c->large == s)
        c->large = NULL;
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
static void refuse(struct session *s, const char *why);

static void reply_free(struct reply *r)
{
    osm_buf_clear(&r->text);
    osm_free(r->data);
    osm_free(r);
}

static void reply_written(uv_write_t *req, int status)
{
    struct reply *r = req->data;
    struct session *s = req->handle->data;
    bool last = r->last;
    reply_free(r);
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

/* @p data (taken): goes into the line as its member "data", which ends it. */
static void send_line(struct session *s, const json_t *line, char *data, size_t data_len,
                      bool secret, bool last)
{
    static char end[] = "}\n";
    struct reply *r = osm_alloc(sizeof *r);
    if (!r) {
        osm_free(data);
        session_close(s);
        return;
    }
    r->data = data;
    r->text = (struct osm_buf)OSM_BUF_INIT(REPLY_MAX_BYTES);
    r->text.secret = secret;
    r->last = last;
    r->req.data = r;
    int status = json_dump_callback(line, append, &r->text, JSON_COMPACT);
    if (!status && data) {
        r->text.len--; /* its closing bracket */
        status = osm_buf_add_str(&r->text, ",\"data\":");
    } else if (!status) {
        status = osm_buf_add_char(&r->text, '\n');
    }
    if (!status) {
        const uv_buf_t bufs[] = {uv_buf_init(r->text.data, (unsigned)r->text.len),
                                 uv_buf_init(data, (unsigned)data_len), uv_buf_init(end, 2)};
        status = uv_write(&r->req, (uv_stream_t *)&s->pipe, bufs, data ? 3 : 1, reply_written);
    }
    if (status) {
        osm_log(OSM_LOG_CONTROL, OSM_LOG_ERROR,
                "reply dropped: no memory, over the limit, or the peer has left");
        reply_free(r);
        session_close(s);
    }
}

/* Takes the line, and the text of its data (NULL: the line has all). */
static void finish(struct osm_control_request *request, json_t *line, char *data, size_t data_len)
{
    struct session *s = request->session;
    bool secret = request->command && request->command->secret;
    s->requests--;
    if (!s->closing && line) {
        send_line(s, line, data, data_len, secret, false);
    } else {
        osm_free(data);
        session_close(s); /* no memory for an answer: a client must not wait for it */
    }
    if (secret)
        wipe(line);
    json_decref(line);
    json_decref(request->id);
    osm_free(request);
    session_free_if_done(s);
}

void osm_control_reply(struct osm_control_request *request, json_t *data)
{
    finish(request,
           json_pack("{s:O, s:b, s:o}", "id", request->id, "ok", 1, "data",
                     data ? data : json_object()),
           NULL, 0);
}

void osm_control_reply_text(struct osm_control_request *request, char *data, size_t len)
{
    finish(request, json_pack("{s:O, s:b}", "id", request->id, "ok", 1), data, len);
}

void osm_control_fail(struct osm_control_request *request, const struct osm_err *err)
{
    finish(request,
           json_pack("{s:O, s:b, s:{s:s, s:s}}", "id", request->id, "ok", 0, "err", "code",
                     osm_code_name(err->code), "msg", err->msg),
           NULL, 0);
}

bool osm_control_alive(const struct osm_control_request *request)
{
    return !request->session->closing;
}

static const struct osm_control_command *find_command(const struct osm_control *c, const char *name)
{
    for (const struct osm_control_command *cmd = c->commands; cmd->name; cmd++)
        if (!strcmp(cmd->name, name))
            return cmd;
    return NULL;
}

/* Takes the message; NULL: it is no JSON. */
static void handle_message(struct session *s, json_t *message, size_t len)
{
    struct osm_control *c = s->control;
    struct osm_err err = {0};
    struct osm_control_request *request = osm_alloc(sizeof *request);
    if (!request) {
        json_decref(message);
        session_close(s);
        return;
    }
    json_t *id = json_object_get(message, "id");
    request->session = s;
    request->id = id ? json_incref(id) : json_null();
    s->requests++;

    const char *name = json_string_value(json_object_get(message, "cmd"));
    json_t *args = json_object_get(message, "args");
    json_t *none = NULL;
    if (!args)
        args = none = json_object();
    if (!json_is_object(message) || !name || !json_is_object(args)) {
        (void)osm_fail(
            &err, OSM_EPARSE,
            "not a request: expected one JSON object per line with \"cmd\" and \"args\"");
    } else if (s->requests > PENDING_MAX) {
        (void)osm_fail(&err, OSM_ELIMIT, "more than %d requests of this session are waiting",
                       PENDING_MAX);
    } else if (!(request->command = find_command(c, name))) {
        (void)osm_fail(&err, OSM_ENOENT, "no such command: %.64s", name);
    } else if (len > OSM_CONTROL_MAX_BYTES && !request->command->large) {
        (void)osm_fail(&err, OSM_ELIMIT, "a request of %s has at most %d bytes", name,
                       OSM_CONTROL_MAX_BYTES);
    } else {
        osm_log(OSM_LOG_CONTROL, OSM_LOG_DEBUG, "command", OSM_S("cmd", request->command->name),
                OSM_I("uid", s->uid), OSM_I("pid", s->pid));
    }
    if (err.code)
        osm_control_fail(request, &err);
    else
        request->command->handler(c->ud, request, args);
    json_decref(none);
    json_decref(message);
}

static json_t *parse(const char *line, size_t len)
{
    json_error_t where;
    return json_loadb(line, len, JSON_REJECT_DUPLICATES, &where);
}

/* --- large requests --- */

struct parsing {
    struct session *session;
    struct osm_buf text;
    size_t line; /* length of the first line; what follows it has come meanwhile */
    json_t *message;
};

static void parse_on_pool(void *ud)
{
    struct parsing *p = ud;
    p->message = parse(p->text.data, p->line);
}

static void parsed(void *ud)
{
    struct parsing *p = ud;
    struct session *s = p->session;
    s->requests--;
    s->parsing = false;
    if (s->control->large == s)
        s->control->large = NULL;
    if (s->closing) {
        json_decref(p->message);
        session_free_if_done(s);
    } else {
        size_t rest = p->text.len - p->line - 1;
        handle_message(s, p->message, p->line);
        if (!s->closing && osm_buf_add(&s->in, p->text.data + p->line + 1, rest))
            session_close(s);
        take_requests(s);
    }
    osm_buf_clear(&p->text);
    osm_free(p);
}

/* A line of this length is there whole, at the beginning. */
static void parse_large(struct session *s, size_t len)
{
    struct parsing *p = osm_alloc(sizeof *p);
    if (p) {
        *p = (struct parsing){s, s->in, len, NULL};
        s->in = (struct osm_buf)OSM_BUF_INIT(OSM_CONTROL_LARGE_MAX_BYTES);
        s->searched = 0;
        s->parsing = true;
        s->requests++;
    }
    if (!p || osm_loop_work(s->control->loop, parse_on_pool, parsed, p)) {
        if (p) {
            s->requests--;
            osm_buf_clear(&p->text);
        }
        osm_free(p);
        session_close(s);
    }
}

/* Whether the session may send as much as this without the end of a line. */
static bool may_be_large(struct session *s)
{
    struct osm_control *c = s->control;
    if (s->in.len <= OSM_CONTROL_MAX_BYTES || c->large == s)
        return true;
    if (c->large)
        return false;
    c->large = s;
    return true;
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
                OSM_I("pid", s->pid), OSM_I("max_bytes", OSM_CONTROL_LARGE_MAX_BYTES));
        session_close(s);
        return;
    }
    take_requests(s);
    if (!s->closing && !may_be_large(s))
        refuse(s, "another large request is being read; again when it is answered");
}

/* The length of the first line behind @p start, if all of it is there. What was searched in vain is
 * not searched again: a large request comes in many pieces. */
static bool find_line(struct session *s, size_t start, size_t *len)
{
    size_t from = start + s->searched;
    const char *end = from < s->in.len ? memchr(s->in.data + from, '\n', s->in.len - from) : NULL;
    s->searched = end ? 0 : s->in.len - start;
    *len = end ? (size_t)(end - s->in.data) - start : 0;
    return end;
}

static void drop_before(struct session *s, size_t start)
{
    if (!start)
        return;
    memmove(s->in.data, s->in.data + start, s->in.len - start);
    s->in.len -= start;
}

/* Handles the whole lines that are there, as long as the session reads its replies. */
static void take_requests(struct session *s)
{
    size_t start = 0, len;
    s->paused = false;
    while (!s->closing && !s->paused && !s->parsing && find_line(s, start, &len)) {
        if (len > OSM_CONTROL_MAX_BYTES) {
            drop_before(s, start);
            start = 0;
            parse_large(s, len);
            break;
        }
        if (len)
            handle_message(s, parse(s->in.data + start, len), len);
        start += len + 1;
        s->paused = uv_stream_get_write_queue_size((uv_stream_t *)&s->pipe) >= UNREAD_MAX_BYTES;
    }
    drop_before(s, start);
    if (s->closing)
        return;
    if (s->paused || s->parsing)
        (void)uv_read_stop((uv_stream_t *)&s->pipe);
    else
        (void)uv_read_start((uv_stream_t *)&s->pipe, on_alloc, on_read);
}

/* Says why, then ends the session. */
static void refuse(struct session *s, const char *why)
{
    json_t *line = json_pack("{s:n, s:b, s:{s:s, s:s}}", "id", "ok", 0, "err", "code",
                             osm_code_name(OSM_ELIMIT), "msg", why);
    (void)uv_read_stop((uv_stream_t *)&s->pipe);
    if (line)
        send_line(s, line, NULL, 0, false, true);
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
    s->in = (struct osm_buf)OSM_BUF_INIT(OSM_CONTROL_LARGE_MAX_BYTES);
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

int osm_control_start(struct osm_control **out, struct osm_loop *loop, const char *path,
                      const struct osm_control_command *commands, void *ud, struct osm_err *err)
{
    struct sockaddr_un limit;
    if (strlen(path) >= sizeof limit.sun_path)
        return osm_fail(err, OSM_ELIMIT,
                        "%s: longer than the %zu bytes that a socket path may have", path,
                        sizeof limit.sun_path - 1);
    int rc = remove_stale(path, err);
    if (rc)
        return rc;
    struct osm_control *c = osm_alloc(sizeof *c);
    char *copy = osm_strdup(path);
    if (!c || !copy) {
        osm_free(c);
        osm_free(copy);
        return osm_fail(err, OSM_ENOMEM, "control socket");
    }
    *c = (struct osm_control){.loop = loop, .commands = commands, .ud = ud, .path = copy};
    (void)uv_pipe_init(osm_loop_uv(loop), &c->pipe, 0);
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
