/* A session of a console, from its first byte to its last: lines become requests, requests answers.
 *
 *   bytes --framing--> line --> request --(role, schema)--> handler ... answer --> uv_write
 *              ^                                                           |
 *              '------- nothing is read while lines wait, an answer of a text session is under way,
 *                       or too much of what was said has not been read ----'
 */
#include "debug/control_priv.h"
#include "debug/render.h"
#include "debug/words.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"

#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    LOGGED_MAX_BYTES = 1024, /* of a command's arguments, and of a name that is none */
    PENDING_MAX = 64,        /* requests of one session that are not answered yet */
    IDLE_MS = 5 * 60 * 1000,
    TOKEN_MS = 10 * 1000, /* for showing the token */
    DEADLINE_MS = 10 * 1000,
};

/* --- its end --- */

/* A session is freed when its handle is closed and no request points to it any more. */
void osm__session_free_if_done(struct osm__session *s)
{
    if (!s->closed || s->requests_len || s->parsing)
        return;
    if (s->free_kept)
        s->free_kept(s->kept);
    osm_framing_clear(&s->framing);
    osm_buf_clear(&s->begun);
    osm_buf_clear(&s->pages.text);
    osm_free(s);
}

/* Nobody's request is large any more: whoever has waited longest goes on. */
static void next_large(struct osm_control *c)
{
    struct osm__session *next;
    c->large = NULL;
    do {
        next = NULL;
        for (struct osm__session *s = c->sessions; s; s = s->next)
            if (s->waits && !s->closing && (!next || s->waits < next->waits))
                next = s;
        if (next) {
            next->waits = 0;
            osm__session_take(next);
        }
    } while (next && !c->large);
}

static void session_closed(uv_handle_t *handle)
{
    struct osm__session *s = handle->data;
    struct osm_control *c = s->control;
    *s->prev = s->next;
    if (s->next)
        s->next->prev = s->prev;
    c->sessions_len--;
    s->closed = true;
    if (c->large == s)
        next_large(c);
    osm__session_free_if_done(s);
    osm__control_free_if_done(c);
}

/* Tells those who go on until something happens; true: there were some. Their answers take them
 * out of the list. */
static bool cancel_requests(struct osm__session *s)
{
    struct osm_control_request *r = s->requests;
    bool any = false;
    while (r) {
        osm_task_fn *cancel = r->cancel;
        r->cancel = NULL;
        any = any || cancel;
        if (cancel)
            cancel(r->cancel_ud);
        r = cancel ? s->requests : r->next;
    }
    return any;
}

void osm__session_close(struct osm__session *s)
{
    if (s->closing)
        return;
    s->closing = true;
    osm_timer_free(s->due);
    s->due = NULL;
    uv_close(&s->peer.handle, session_closed);
    (void)cancel_requests(s);
}

void osm__session_close_if_done(struct osm__session *s)
{
    if (!s->closing && (s->framing.ended || s->leaving) && !s->requests && !s->parsing &&
        !uv_stream_get_write_queue_size(&s->peer.stream))
        osm__session_close(s);
}

/* --- time --- */

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint32_t patience_of(const struct osm__session *s)
{
    return s->control->config.patience_ms ? s->control->config.patience_ms : OSM__PATIENCE_MS;
}

/* Others wait until its large request is there. */
static bool holds_up(struct osm__session *s)
{
    return s->control->large == s && !s->parsing && !osm_framing_waits(&s->framing);
}

void osm__session_arm(struct osm__session *s)
{
    if (s->closing)
        return;
    uint64_t now = osm_now_ms(), due = UINT64_MAX;
    if (!s->requests)
        due = s->heard_ms + (s->trusted ? IDLE_MS : TOKEN_MS);
    for (const struct osm_control_request *r = s->requests; r; r = r->next)
        if (r->end_ms)
            due = earlier(due, r->end_ms);
    if (osm__session_unread(s))
        due = earlier(due, s->moved_ms + patience_of(s));
    if (holds_up(s))
        due = earlier(due, s->heard_ms + patience_of(s));
    if (due == UINT64_MAX)
        osm_timer_stop(s->due);
    else
        osm_timer_start(s->due, due > now ? due - now : 0, 0);
}

/* --- requests --- */

/* Its time is over: that is said, and what the handler answers later is heard by nobody. */
static void abandon(struct osm_control_request *r)
{
    struct osm_err err;
    osm_task_fn *cancel = r->cancel;
    (void)osm_fail(&err, OSM_ETIMEDOUT,
                   "no answer in %u s: what it asks is busy or stuck; other commands still work",
                   (unsigned)((r->end_ms - r->start_ms) / 1000));
    osm__answer_log(r, &err);
    osm__request_take_out(r);
    r->abandoned = true;
    osm__answer_error(r, &err);
    r->cancel = NULL;
    if (cancel)
        cancel(r->cancel_ud);
}

static void on_due(void *ud)
{
    struct osm__session *s = ud;
    uint64_t now = osm_now_ms();
    for (struct osm_control_request *r = s->requests; r && !s->closing;) {
        bool over = r->end_ms && r->end_ms <= now;
        if (over)
            abandon(r);
        r = over ? s->requests : r->next; /* the list is another one now */
    }
    if (s->closing)
        return;
    if (s->queued - osm__session_unread(s) != s->sent) {
        s->sent = s->queued - osm__session_unread(s);
        s->moved_ms = now;
    }
    bool stalled = osm__session_unread(s) && now - s->moved_ms >= patience_of(s);
    bool idle = !s->requests && now - s->heard_ms >= (s->trusted ? IDLE_MS : TOKEN_MS);
    if (stalled)
        osm_log(OSM_LOG_CONTROL, OSM_LOG_WARN, "session dropped: it does not read",
                OSM_I("uid", s->uid), OSM_I("pid", s->pid),
                OSM_U("unread_bytes", osm__session_unread(s)));
    if (stalled || idle || (holds_up(s) && now - s->heard_ms >= patience_of(s))) {
        osm__session_close(s);
        return;
    }
    osm__session_arm(s);
    osm__session_take(s);
    osm__session_close_if_done(s);
}

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

/* Whether this session may have the request's command with these arguments. */
static int check(struct osm_control_request *r, const json_t *args, struct osm_err *err)
{
    const struct osm__session *s = r->session;
    const struct osm_control_command *command = r->command;
    if (!command->secret && !command->large)
        r->args = beginning(args);
    r->end_ms = command->deadline_ms == OSM_CONTROL_PATIENT
                    ? 0
                    : r->start_ms + (command->deadline_ms ? command->deadline_ms : DEADLINE_MS);
    if (s->requests_len > PENDING_MAX)
        return osm_fail(err, OSM_ELIMIT, "more than %d requests of this session are waiting",
                        PENDING_MAX);
    if (r->large && !command->large)
        return osm_fail(err, OSM_ELIMIT, "a request of %s has at most %d bytes", command->name,
                        OSM_FRAME_MAX_BYTES);
    if (command->role > s->role)
        return osm_fail(err, OSM_EACCES, "refused: %s needs the role %s; this session has %s%s",
                        command->name, osm_role_name(command->role), osm_role_name(s->role),
                        s->role < s->control->config.role ? ", lowered by itself" : "");
    return osm_registry_check(command, args, err);
}

/* Names the request, for the log. */
static void call_it(struct osm_control_request *r, const char *name)
{
    char *copy = osm_strndup(name, strnlen(name, LOGGED_MAX_BYTES));
    osm_free(r->name);
    r->name = copy ? osm_utf8_repair(copy) : NULL;
}

/* {"cmd", "args"}. */
static int find_named(struct osm_control_request *r, const char *name, void **ud,
                      struct osm_err *err)
{
    const struct osm_registry *registry = r->session->control->config.registry;
    call_it(r, name);
    r->command = osm_registry_find(registry, name, ud);
    if (r->command)
        return 0;
    const char *near = osm_registry_nearest(registry, name);
    return osm_fail(err, OSM_ENOENT, "no such command: %.64s%s%s%s", name,
                    near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

/* What was typed. */
static int find_typed(struct osm_control_request *r, const char *line, void **ud, json_t **args,
                      struct osm_err *err)
{
    const struct osm_registry *registry = r->session->control->config.registry;
    const char *rest;
    call_it(r, line);
    r->command = osm_words_command(registry, line, &rest);
    if (r->command) {
        call_it(r, r->command->name);
        (void)osm_registry_find(registry, r->command->name, ud);
        return osm_words_args(r->command, rest, args, err);
    }
    char *near = osm_words_nearest(registry, line);
    (void)osm_fail(err, OSM_ENOENT, "no such command: %.64s%s%s%s", line,
                   near ? "; did you mean " : "; `help` lists them", near ? near : "",
                   near ? "?" : "");
    osm_free(near);
    return OSM_ENOENT;
}

static struct osm_control_request *new_request(struct osm__session *s, const json_t *id)
{
    struct osm_control_request *r = osm_alloc(sizeof *r);
    if (!r) {
        osm__session_close(s);
        return NULL;
    }
    *r = (struct osm_control_request){.session = s,
                                      .id = id ? json_incref((json_t *)(uintptr_t)id) : json_null(),
                                      .start_ms = osm_now_ms(),
                                      .role = s->role};
    r->next = s->requests;
    r->prev = &s->requests;
    if (r->next)
        r->next->prev = &r->next;
    s->requests = r;
    s->requests_len++;
    return r;
}

/* The request is known: its handler, or the error. */
static void carry_out(struct osm_control_request *r, void *ud, const json_t *args,
                      struct osm_err *err)
{
    if (!err->code)
        (void)check(r, args, err);
    if (err->code) {
        osm_control_fail(r, err);
        return;
    }
    osm__session_arm(r->session);
    r->command->handler(ud, r, args);
}

static json_t *parse(const char *text, size_t len)
{
    json_error_t where;
    return json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
}

/* Takes the message; NULL: it is no JSON. */
static void handle_message(struct osm__session *s, json_t *message, bool large)
{
    struct osm_err err = {0};
    void *ud = NULL;
    struct osm_control_request *r = new_request(s, json_object_get(message, "id"));
    if (!r) {
        json_decref(message);
        return;
    }
    r->large = large;
    r->rendered = json_is_true(json_object_get(message, "render"));
    const char *name = json_string_value(json_object_get(message, "cmd"));
    const char *line = json_string_value(json_object_get(message, "line"));
    json_t *args = json_object_get(message, "args"), *own = NULL;
    if (line && !name && !args)
        (void)find_typed(r, line, &ud, &own, &err);
    else if (!name || line || (args && !json_is_object(args)))
        (void)osm_fail(
            &err, OSM_EPARSE,
            "not a request: expected one JSON object per line with \"cmd\" and \"args\", "
            "or with \"line\"");
    else if (!find_named(r, name, &ud, &err) && !args)
        args = own = json_object();
    carry_out(r, ud, own ? own : args, &err);
    json_decref(own);
    json_decref(message);
}

/* --- large requests --- */

struct parsing {
    struct osm__session *session;
    char *text;
    size_t len;
    json_t *message;
};

static void parse_on_pool(void *ud)
{
    struct parsing *p = ud;
    p->message = parse(p->text, p->len);
}

static void parsed(void *ud)
{
    struct parsing *p = ud;
    struct osm__session *s = p->session;
    s->parsing = false;
    if (!s->closed && s->control->large == s) /* else that is done, and the control perhaps gone */
        next_large(s->control);
    if (s->closing) {
        json_decref(p->message);
        osm__session_free_if_done(s);
    } else {
        handle_message(s, p->message, true);
        osm__session_take(s);
        osm__session_close_if_done(s);
    }
    osm_free_secret(p->text, p->len);
    osm_free(p);
}

/* The loop has better to do than to parse it. */
static void parse_large(struct osm__session *s, const struct osm_frame *frame)
{
    struct parsing *p = osm_alloc(sizeof *p);
    char *text = p ? osm_strndup(frame->text, frame->len) : NULL;
    s->parsing = true;
    if (text)
        *p = (struct parsing){s, text, frame->len, NULL};
    if (text && !osm_loop_work(s->control->config.loop, parse_on_pool, parsed, p))
        return;
    s->parsing = false;
    if (text)
        osm_free_secret(text, frame->len);
    osm_free(p);
    osm__session_close(s);
}

/* Whether the session's next line may be large: one at a time; others wait for their turn. */
static bool may_be_large(struct osm__session *s)
{
    struct osm_control *c = s->control;
    if (!c->config.large || s->framing.form != OSM_FORM_JSON || s->framing.large)
        return false;
    if (c->large && c->large != s) {
        s->waits = ++c->waits;
        return false;
    }
    c->large = s;
    s->framing.large = true;
    s->heard_ms = osm_now_ms(); /* it was not listened to while it has waited */
    osm__session_arm(s);
    return true;
}

static void handle_json(struct osm__session *s, const struct osm_frame *frame)
{
    if (frame->len > OSM_FRAME_MAX_BYTES)
        parse_large(s, frame);
    else
        handle_message(s, parse(frame->text, frame->len), false);
}

static void prompt(struct osm__session *s)
{
    struct osm_buf text = OSM_BUF_INIT(64);
    osm__session_add_prompt(&text, s);
    if (text.len)
        osm__session_send(s, &text, false);
}

/* The lines so far with this one behind them. osm_free. NULL: no memory, or too long. */
static char *whole_line(struct osm__session *s, const struct osm_frame *frame)
{
    if (!s->begun.len)
        return osm_strndup(frame->text, frame->len);
    (void)osm_buf_add_char(&s->begun, '\n');
    (void)osm_buf_add(&s->begun, frame->text, frame->len);
    return osm_buf_take(&s->begun);
}

static void handle_text(struct osm__session *s, const struct osm_frame *frame)
{
    struct osm_err err = {0};
    json_t *args = NULL;
    void *ud = NULL;
    if (s->begun.len && !strcmp(frame->text, "."))
        osm_buf_clear(&s->begun);
    else if (s->begun.len || frame->text[strspn(frame->text, " \t")]) {
        char *line = whole_line(s, frame);
        struct osm_control_request *r = new_request(s, NULL);
        if (!r) {
            osm_free(line);
            return;
        }
        r->line = line;
        if (!line || strlen(line) > OSM_FRAME_MAX_BYTES)
            (void)osm_fail(&err, OSM_ELIMIT, "more than %d bytes; end it with a line of one dot",
                           OSM_FRAME_MAX_BYTES);
        else if (strlen(frame->text) != frame->len) /* what is behind it would be lost */
            (void)osm_fail(&err, OSM_EPARSE, "the line holds a zero byte");
        else
            (void)find_typed(r, line, &ud, &args, &err);
        carry_out(r, ud, args, &err);
        json_decref(args);
        return;
    }
    prompt(s);
}

/* --- hearing --- */

/* Says why, then ends the session. Nothing is known of the form yet, or it does not matter. */
static void refuse(struct osm__session *s, int code, const char *why)
{
    struct osm_buf line = OSM_BUF_INIT(4096);
    if (s->framing.form == OSM_FORM_TEXT)
        (void)osm_buf_addf(&line, "error: %s\n", why);
    else
        (void)osm_buf_addf(&line,
                           "{\"id\":null,\"ok\":false,\"err\":{\"code\":\"%s\",\"msg\":\"%s\"}}\n",
                           osm_code_name(code), why);
    s->leaving = true;
    osm__session_send(s, &line, true);
}

/* Takes the same time whatever the difference. */
static bool is_token(const struct osm_control *c, const struct osm_frame *frame)
{
    unsigned char given[OSM_CONTROL_TOKEN_MAX] = {0}, right[OSM_CONTROL_TOKEN_MAX] = {0};
    size_t len = strlen(c->token);
    memcpy(given, frame->text, frame->len < sizeof given ? frame->len : sizeof given);
    memcpy(right, c->token, len);
    unsigned differs = frame->len != len;
    for (size_t i = 0; i < sizeof given; i++)
        differs |= (unsigned)(given[i] ^ right[i]);
    explicit_bzero(given, sizeof given);
    explicit_bzero(right, sizeof right);
    return !differs;
}

static void handle(struct osm__session *s, const struct osm_frame *frame)
{
    if (frame->is_token) {
        s->trusted = is_token(s->control, frame);
        explicit_bzero((char *)(uintptr_t)frame->text, frame->len);
        if (s->trusted)
            return;
        osm_log(OSM_LOG_AUDIT, OSM_LOG_WARN, "session refused: wrong token",
                OSM_S("peer", s->name));
        refuse(s, OSM_EACCES, "the first line must be the console's token, and this is not it");
        return;
    }
    /* What goes on until the session says something; a blank line says nothing else. */
    if (cancel_requests(s) && !frame->len)
        return;
    if (s->framing.form == OSM_FORM_JSON)
        handle_json(s, frame);
    else
        handle_text(s, frame);
}

/* Of text, one line at a time: answers come in its order. What only goes on until the next line
 * does not count. */
static bool may_take(const struct osm__session *s)
{
    if (s->closing || s->leaving || s->parsing || s->waits ||
        osm__session_unread(s) >= OSM__UNREAD_MAX_BYTES)
        return false;
    for (const struct osm_control_request *r = s->requests; r; r = r->next)
        if (s->framing.form == OSM_FORM_TEXT && !r->cancel)
            return false;
    return true;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    struct osm__session *s = handle->data;
    *buf = uv_buf_init(s->chunk, sizeof s->chunk);
}

/* A peer that has only stopped to talk still hears the answers; one that has gone does not. */
static bool has_hung_up(const struct osm__session *s)
{
    uv_os_fd_t fd;
    struct pollfd state = {.events = 0};
    if (uv_fileno(&s->peer.handle, &fd))
        return true;
    state.fd = fd;
    return poll(&state, 1, 0) > 0 && state.revents & (POLLHUP | POLLERR);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct osm__session *s = stream->data;
    if (n < 0 && (n != UV_EOF || has_hung_up(s))) {
        osm__session_close(s);
        return;
    }
    s->heard_ms = osm_now_ms();
    if (n < 0) {
        s->framing.ended = true;
        (void)cancel_requests(s);
    } else if (n > 0 && osm_framing_add(&s->framing, buf->base, (size_t)n)) {
        osm__session_close(s);
        return;
    }
    explicit_bzero(s->chunk, n > 0 ? (size_t)n : 0);
    osm__session_arm(s);
    osm__session_take(s);
    osm__session_close_if_done(s);
}

/* Handles the lines that are there, as long as the session may have them. */
void osm__session_take(struct osm__session *s)
{
    struct osm_frame frame;
    int rc = 0;
    if (s->taking || s->closing)
        return;
    s->taking = true;
    while (may_take(s) && ((rc = osm_framing_next(&s->framing, &frame)) > 0 ||
                           (rc == OSM_ELIMIT && may_be_large(s))))
        if (rc > 0)
            handle(s, &frame);
    s->taking = false;
    if (rc < 0 && !s->closing && !s->waits) {
        osm_log(
            OSM_LOG_CONTROL, OSM_LOG_WARN, "request over the limit", OSM_I("uid", s->uid),
            OSM_I("pid", s->pid),
            OSM_I("max_bytes", s->framing.large ? OSM_FRAME_LARGE_MAX_BYTES : OSM_FRAME_MAX_BYTES));
        refuse(s, OSM_ELIMIT,
               s->framing.large ? "a request of more than 16 MiB"
                                : "a request of more than 64 KiB");
    }
    if (s->closing)
        return;
    if (s->leaving || s->framing.ended || s->parsing || s->waits || osm_framing_waits(&s->framing))
        (void)uv_read_stop(&s->peer.stream);
    else
        (void)uv_read_start(&s->peer.stream, on_alloc, on_read);
}

/* --- its beginning --- */

/* Who it is; false: nobody who may ask. */
static bool identify(struct osm__session *s)
{
    uv_os_fd_t fd;
    struct ucred peer;
    socklen_t len = sizeof peer;
    if (s->control->token) {
        struct sockaddr_storage address;
        char host[INET6_ADDRSTRLEN] = "";
        int size = sizeof address;
        s->uid = s->pid = -1;
        if (uv_tcp_getpeername(&s->peer.tcp, (struct sockaddr *)&address, &size) ||
            uv_ip_name((struct sockaddr *)&address, host, sizeof host))
            return false;
        (void)snprintf(s->name, sizeof s->name, "%s %d", host,
                       ntohs(((struct sockaddr_in *)&address)->sin_port));
        return true;
    }
    if (uv_fileno(&s->peer.handle, &fd) || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len))
        return false;
    s->uid = (long)peer.uid;
    s->pid = (long)peer.pid;
    s->trusted = peer.uid == 0 || peer.uid == geteuid();
    if (!s->trusted)
        osm_log(OSM_LOG_AUDIT, OSM_LOG_WARN, "session refused: neither root nor the daemon's user",
                OSM_I("uid", s->uid), OSM_I("pid", s->pid));
    return s->trusted;
}

void osm__session_start(struct osm_control *c)
{
    struct osm__session *s = osm_alloc(sizeof *s);
    if (!s)
        return;
    s->control = c;
    s->role = c->config.role;
    s->framing = (struct osm_framing)OSM_FRAMING_INIT(c->token != NULL);
    s->peer.handle.data = s;
    if (c->token)
        (void)uv_tcp_init(osm_loop_uv(c->config.loop), &s->peer.tcp);
    else
        (void)uv_pipe_init(osm_loop_uv(c->config.loop), &s->peer.pipe, 0);
    s->next = c->sessions;
    s->prev = &c->sessions;
    if (s->next)
        s->next->prev = &s->next;
    c->sessions = s;
    c->sessions_len++;
    s->heard_ms = osm_now_ms();
    s->due = osm_timer_new(c->config.loop, on_due, s);
    if (!s->due || uv_accept(&c->server.stream, &s->peer.stream) || !identify(s)) {
        osm__session_close(s);
        return;
    }
    osm__session_arm(s);
    if (c->sessions_len > c->config.sessions_max)
        refuse(s, OSM_ELIMIT, "too many sessions on this socket; end one and try again");
    else
        osm__session_take(s);
}
