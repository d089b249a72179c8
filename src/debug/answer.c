/* What a session of a console says: answers whole or in pages, errors, prompts, events. */
#include "debug/control_priv.h"
#include "debug/render.h"

#include "base/clock.h"
#include "base/log.h"

#include <string.h>

struct writing {
    uv_write_t req;
    struct osm_buf text;
    bool last; /* the session ends with it */
};

/* --- saying --- */

static void written(uv_write_t *req, int status)
{
    struct writing *w = req->data;
    struct osm__session *s = req->handle->data;
    bool last = w->last;
    osm_buf_clear(&w->text);
    osm_free(w);
    if (status || last) {
        osm__session_close(s);
        return;
    }
    osm__session_take(s);
    osm__session_close_if_done(s);
}

/* Takes the text. */
void osm__session_send(struct osm__session *s, struct osm_buf *text, bool last)
{
    struct writing *w = s->closing || text->failed ? NULL : osm_alloc(sizeof *w);
    if (!w) {
        osm_buf_clear(text);
        osm__session_close(s); /* no memory for an answer: a client must not wait for it */
        return;
    }
    *w = (struct writing){.text = *text, .last = last};
    *text = (struct osm_buf)OSM_BUF_INIT(0);
    w->req.data = w;
    if (!osm__session_unread(s))
        s->moved_ms = osm_now_ms();
    s->queued += w->text.len;
    uv_buf_t buf = uv_buf_init(w->text.data, (unsigned)w->text.len);
    if (!w->text.len || uv_write(&w->req, &s->peer.stream, &buf, 1, written)) {
        osm_buf_clear(&w->text);
        osm_free(w);
        osm__session_close(s);
        return;
    }
    osm__session_arm(s);
}

static int append(const char *data, size_t len, void *buf)
{
    return osm_buf_add(buf, data, len);
}

static int add_json(struct osm_buf *out, const json_t *value)
{
    if (json_dump_callback(value, append, out, JSON_COMPACT | JSON_ENCODE_ANY) && !out->failed)
        out->failed = OSM_ENOMEM;
    return out->failed;
}

void osm__session_add_prompt(struct osm_buf *out, const struct osm__session *s)
{
    if (!s->leaving && !s->framing.ended)
        (void)osm_buf_add_strs(out, s->begun.len ? ">> " : osm_role_name(s->role),
                               s->begun.len ? "" : "> ", NULL);
}

/* The bytes of a JSON string that stand for this one. */
static size_t escaped(unsigned char c)
{
    return c == '"' || c == '\\' ? 2 : c < 0x20 || c == 0x7f ? 6 : 1;
}

/* How much of what is left makes a page, in whole characters. */
static size_t page_len(const struct osm__pages *p, size_t max, bool as_json)
{
    size_t len = 0, left = p->text.len - p->at;
    const char *text = p->text.data + p->at;
    for (size_t cost = 0; len < left; len++) {
        cost += as_json ? escaped((unsigned char)text[len]) : 1;
        if (cost > max)
            break;
    }
    while (len < left && len && ((unsigned char)text[len] & 0xc0) == 0x80)
        len--;
    return len;
}

/* Says the next page of what is kept, as the request's answer. */
static void send_page(struct osm_control_request *r)
{
    struct osm__session *s = r->session;
    struct osm__pages *p = &s->pages;
    struct osm_buf line = OSM_BUF_SECRET_INIT(OSM__ANSWER_MAX_BYTES);
    bool as_json = s->framing.form == OSM_FORM_JSON;
    size_t len = page_len(p, s->control->config.page_bytes, as_json);
    bool is_last = p->at + len == p->text.len;
    if (as_json) {
        char *piece = osm_strndup(p->text.data + p->at, len);
        (void)osm_buf_add_str(&line, "{\"id\":");
        (void)add_json(&line, r->id);
        (void)osm_buf_addf(&line, ",\"ok\":true,\"more\":%s,\"page\":", is_last ? "false" : "true");
        if (piece)
            (void)osm_buf_add_json_string(&line, piece);
        else
            line.failed = OSM_ENOMEM;
        (void)osm_buf_add_str(&line, "}\n");
        if (piece)
            osm_free_secret(piece, len);
    } else {
        (void)osm_buf_add(&line, p->text.data + p->at, len);
        if (!is_last)
            (void)osm_buf_addf(&line, "\n-- %zu of %zu bytes; `more` says the next --\n",
                               p->at + len, p->text.len);
        osm__session_add_prompt(&line, s);
    }
    p->at += len;
    if (is_last)
        osm_buf_clear(&p->text);
    osm__session_send(s, &line, false);
}

void osm__answer_error(struct osm_control_request *r, const struct osm_err *err)
{
    struct osm__session *s = r->session;
    struct osm_buf line = OSM_BUF_INIT(64 * 1024);
    if (s->framing.form == OSM_FORM_JSON) {
        (void)osm_buf_add_str(&line, "{\"id\":");
        (void)add_json(&line, r->id);
        (void)osm_buf_addf(
            &line, ",\"ok\":false,\"err\":{\"code\":\"%s\",\"msg\":", osm_code_name(err->code));
        (void)osm_buf_add_json_string(&line, err->msg);
        (void)osm_buf_add_str(&line, "}}\n");
    } else {
        (void)osm_buf_add_str(&line, "error: ");
        (void)osm_render_text(&line, err->msg);
        (void)osm_buf_add_char(&line, '\n');
        osm__session_add_prompt(&line, s);
    }
    osm__session_send(s, &line, false);
}

static int render(const struct osm_control_request *r, struct osm_buf *out, const json_t *data)
{
    return r->command && r->command->text ? r->command->text(out, data) : osm_render(out, data);
}

/* {"id":1,"ok":true,"data":...}: @p body is that of the last member, a JSON text. */
static void send_whole(struct osm_control_request *r, struct osm_buf *body, const char *before)
{
    struct osm__session *s = r->session;
    struct osm_buf line = OSM_BUF_SECRET_INIT(OSM__ANSWER_MAX_BYTES + 64 * 1024);
    (void)osm_buf_add_str(&line, "{\"id\":");
    (void)add_json(&line, r->id);
    (void)osm_buf_add_str(&line, before);
    if (r->rendered)
        (void)osm_buf_add_json_string(&line, body->data ? body->data : "");
    else
        (void)osm_buf_add(&line, body->data, body->len);
    (void)osm_buf_add_str(&line, "}\n");
    osm__session_send(s, &line, false);
}

/* Remembers a line of a text session that asks for another. */
static void begin_line(struct osm_control_request *r)
{
    struct osm__session *s = r->session;
    osm_buf_clear(&s->begun);
    s->begun = (struct osm_buf)OSM_BUF_INIT(OSM_FRAME_MAX_BYTES);
    (void)osm_buf_add_str(&s->begun, r->line);
}

static void send_data(struct osm_control_request *r, const json_t *data)
{
    struct osm__session *s = r->session;
    struct osm_buf body = OSM_BUF_SECRET_INIT(OSM__ANSWER_MAX_BYTES);
    struct osm_err err;
    bool as_json = s->framing.form == OSM_FORM_JSON;
    bool incomplete =
        r->command && r->command->continues && json_is_true(json_object_get(data, "incomplete"));
    if (incomplete && r->line)
        begin_line(r);
    if (incomplete)
        r->rendered = false;
    int rc = r->rendered  ? render(r, &body, data)
             : as_json    ? add_json(&body, data)
             : incomplete ? 0
                          : render(r, &body, data);
    size_t page = s->control->config.page_bytes;
    if (rc) {
        (void)osm_fail(&err, rc, "the answer: %s; ask for less", osm_code_text(rc));
        osm__answer_error(r, &err);
    } else if (page && body.len > page) {
        osm_buf_clear(&s->pages.text);
        s->pages = (struct osm__pages){body, 0, r->rendered};
        send_page(r);
        return;
    } else if (as_json) {
        send_whole(r, &body, r->rendered ? ",\"ok\":true,\"text\":" : ",\"ok\":true,\"data\":");
    } else {
        struct osm_buf prompt = OSM_BUF_INIT(64);
        osm__session_add_prompt(&prompt, s);
        body.max += 64;
        if (prompt.len)
            (void)osm_buf_add(&body, prompt.data, prompt.len);
        osm_buf_clear(&prompt);
        if (body.len) {
            osm__session_send(s, &body, false);
            return;
        }
    }
    osm_buf_clear(&body);
}

/* --- answers --- */

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

void osm__answer_log(const struct osm_control_request *r, const struct osm_err *err)
{
    const struct osm__session *s = r->session;
    enum osm_log_level level = r->command && r->command->quiet ? OSM_LOG_DEBUG : OSM_LOG_INFO;
    osm_log(OSM_LOG_AUDIT, level, "command", OSM_S("cmd", r->name), OSM_S("args", r->args),
            OSM_S("result", err ? osm_code_name(err->code) : "ok"),
            OSM_S("error", err ? err->msg : NULL), OSM_U("duration_ms", osm_now_ms() - r->start_ms),
            OSM_S("role", osm_role_name(r->role)), OSM_I("uid", s->uid), OSM_I("pid", s->pid),
            OSM_S("peer", s->name[0] ? s->name : NULL));
}

void osm__request_take_out(struct osm_control_request *r)
{
    *r->prev = r->next;
    if (r->next)
        r->next->prev = r->prev;
    r->next = NULL;
    r->prev = NULL;
}

/* The answer has been said, or nobody waits for it: the request goes. */
static void end_request(struct osm_control_request *r)
{
    struct osm__session *s = r->session;
    if (!r->abandoned)
        osm__request_take_out(r);
    s->requests_len--;
    json_decref(r->id);
    osm_free(r->name);
    osm_free(r->args);
    osm_free(r->line);
    osm_free(r);
    if (!s->closing) {
        osm__session_arm(s);
        osm__session_take(s);
        osm__session_close_if_done(s);
    }
    osm__session_free_if_done(s);
}

void osm_control_reply(struct osm_control_request *r, json_t *data)
{
    struct osm__session *s = r->session;
    json_t *answer = data ? data : json_object();
    if (!r->abandoned)
        osm__answer_log(r, NULL);
    if (!s->closing && !r->abandoned && answer)
        send_data(r, answer);
    else if (!answer)
        osm__session_close(s);
    if (r->command && r->command->secret)
        wipe(answer);
    json_decref(answer);
    end_request(r);
}

void osm_control_reply_text(struct osm_control_request *r, char *data, size_t len)
{
    struct osm__session *s = r->session;
    size_t page = s->closing ? 0 : s->control->config.page_bytes; /* it may be gone by then */
    bool whole = s->framing.form == OSM_FORM_JSON && !r->rendered && (!page || len <= page);
    if (whole || r->abandoned || s->closing) {
        struct osm_buf body = OSM_BUF_INIT(OSM__ANSWER_MAX_BYTES);
        body.data = data;
        body.len = len;
        if (!r->abandoned)
            osm__answer_log(r, NULL);
        if (!s->closing && !r->abandoned)
            send_whole(r, &body, ",\"ok\":true,\"data\":");
        osm_free(data);
        end_request(r);
        return;
    }
    json_t *value = json_loadb(data, len, JSON_DECODE_ANY, NULL);
    osm_free(data);
    osm_control_reply(r, value);
}

bool osm__session_next_page(struct osm_control_request *r)
{
    if (!r->session->pages.text.len)
        return false;
    osm__answer_log(r, NULL);
    if (!r->session->closing)
        send_page(r);
    end_request(r);
    return true;
}

void osm_control_fail(struct osm_control_request *r, const struct osm_err *err)
{
    bool was_abandoned = r->abandoned;
    if (!was_abandoned)
        osm__answer_log(r, err);
    if (!r->session->closing && !was_abandoned)
        osm__answer_error(r, err);
    end_request(r);
}

bool osm_control_alive(const struct osm_control_request *r)
{
    return !r->session->closing && !r->abandoned;
}

void osm_control_on_cancel(struct osm_control_request *r, osm_task_fn *fn, void *ud)
{
    r->cancel = fn;
    r->cancel_ud = ud;
}

bool osm_control_tell(struct osm_control_request *r, json_t *data)
{
    struct osm__session *s = r->session;
    struct osm_buf body = OSM_BUF_INIT(1024 * 1024);
    bool can = data && osm_control_alive(r) && osm__session_unread(s) < OSM__UNREAD_MAX_BYTES;
    bool as_json = s->framing.form == OSM_FORM_JSON;
    if (can)
        can =
            !(r->rendered || !as_json ? render(r, &body, data) : add_json(&body, data)) && body.len;
    if (can && as_json) {
        send_whole(r, &body, r->rendered ? ",\"text\":" : ",\"event\":");
    } else if (can) {
        osm__session_send(s, &body, false);
    }
    json_decref(data);
    osm_buf_clear(&body);
    return can;
}

void osm_control_keep(struct osm_control_request *r, void *data, osm_task_fn *free_data)
{
    r->session->kept = data;
    r->session->free_kept = free_data;
}

void *osm_control_kept(const struct osm_control_request *r)
{
    return r->session->kept;
}
