#include "kube/stream.h"

#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

enum state {
    START,       /* of the list, or before an event */
    KEY_OR_END,  /* in the envelope, right after { */
    KEY_START,   /* after a comma */
    KEY,         /* in one */
    COLON,       /* after it */
    VALUE_START, /* after the colon */
    VALUE,       /* in a member of the envelope */
    AFTER_VALUE, /* of it */
    ITEM_OR_END, /* right after [ */
    ITEM_START,  /* after a comma */
    ITEM,        /* in an item, or in an event */
    AFTER_ITEM,  /* of the list */
    END,         /* of the list */
};

void osm_kube_stream_init(struct osm_kube_stream *s, enum osm_kube_stream_form form,
                          const struct osm_kube_stream_callbacks *callbacks)
{
    *s = (struct osm_kube_stream){
        .callbacks = *callbacks, .form = form, .text = OSM_BUF_INIT(OSM_KUBE_OBJECT_MAX)};
}

void osm_kube_stream_clear(struct osm_kube_stream *s)
{
    osm_buf_clear(&s->text);
    osm_free(osm_take_ptr(&s->continue_token));
}

/* --- values --- */

static void value_begin(struct osm_kube_stream *s, enum state state)
{
    bool is_member = state == VALUE;
    osm_buf_reset(&s->text);
    s->text.max = is_member ? OSM_KUBE_ENVELOPE_MAX : OSM_KUBE_OBJECT_MAX;
    s->value_len = s->depth = 0;
    s->in_string = s->escaped = false;
    s->state = (int)state;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* How many of these bytes belong to the value; *whole: it ends with them. */
static size_t value_span(struct osm_kube_stream *s, const char *bytes, size_t len, bool *whole)
{
    bool begins = !s->value_len;
    for (size_t i = 0; i < len; i++) {
        char c = bytes[i];
        if (s->in_string) {
            if (s->escaped)
                s->escaped = false;
            else if (c == '\\')
                s->escaped = true;
            else if (c == '"')
                s->in_string = false;
            *whole = !s->in_string && !s->depth;
        } else if (c == '"') {
            s->in_string = true;
        } else if (c == '{' || c == '[') {
            s->depth++;
        } else if (c == '}' || c == ']') {
            if (!s->depth) { /* it ended a number or a word */
                *whole = true;
                return i;
            }
            *whole = !--s->depth;
        } else if (!s->depth && !(begins && !i) && (c == ',' || is_space(c))) {
            *whole = true;
            return i;
        }
        if (*whole)
            return i + 1;
    }
    return len;
}

static int value_add(struct osm_kube_stream *s, const char *bytes, size_t len)
{
    s->value_len += len;
    if (s->text.failed == OSM_ELIMIT)
        return 0; /* its beginning is enough to say what it was */
    size_t room = s->text.max - s->text.len;
    if (len > room) {
        (void)osm_buf_add(&s->text, bytes, room);
        if (!s->text.failed)
            s->text.failed = OSM_ELIMIT;
    } else {
        (void)osm_buf_add(&s->text, bytes, len);
    }
    return s->text.failed == OSM_ELIMIT ? 0 : s->text.failed;
}

/* The text of a member that begins in the first part of an object which was cut. */
static void find_text(const char *from, const char *end, const char *member, char *out, size_t size)
{
    size_t n = strlen(member);
    const char *at = memmem(from, (size_t)(end - from), member, n);
    *out = '\0';
    for (at = at ? at + n : end; at < end && (is_space(*at) || *at == ':'); at++) {
    }
    if (at == end || *at != '"')
        return;
    const char *stop = memchr(at + 1, '"', (size_t)(end - at - 1));
    size_t len = stop ? (size_t)(stop - at - 1) : size;
    if (len < size) {
        memcpy(out, at + 1, len);
        out[len] = '\0';
        (void)osm_utf8_repair(out);
    }
}

static int tell_bad(struct osm_kube_stream *s, const char *reason)
{
    enum { HEAD = 64 * 1024 };
    char name[256] = "", ns[128] = "", both[sizeof name + sizeof ns];
    const char *text = s->text.data ? s->text.data : "";
    size_t len = s->text.len < HEAD ? s->text.len : HEAD;
    const char *metadata = memmem(text, len, "\"metadata\"", 10);
    if (metadata) {
        find_text(metadata, text + len, "\"name\"", name, sizeof name);
        find_text(metadata, text + len, "\"namespace\"", ns, sizeof ns);
    }
    (void)snprintf(both, sizeof both, "%s%s%s", ns, *ns ? "/" : "", name);
    return s->callbacks.bad(s->callbacks.ud, both, reason);
}

/* A text of ours ends at a NUL character. Names and labels cannot hold one, annotations can. */
static int replace_nul(json_t *string)
{
    struct osm_buf out = OSM_BUF_INIT(3 * OSM_KUBE_OBJECT_MAX);
    const char *text = json_string_value(string);
    for (size_t i = 0, len = json_string_length(string); i < len; i++)
        (void)(text[i] ? osm_buf_add_char(&out, text[i]) : osm_buf_add_str(&out, "\xef\xbf\xbd"));
    int rc = out.failed || json_string_setn_nocheck(string, out.data, out.len) ? OSM_ENOMEM : 0;
    osm_buf_clear(&out);
    return rc;
}

static int replace_nuls(json_t *value)
{
    const char *key;
    json_t *each;
    size_t i;
    int rc = 0;
    if (json_is_string(value) && memchr(json_string_value(value), 0, json_string_length(value)))
        return replace_nul(value);
    json_array_foreach (value, i, each)
        rc |= replace_nuls(each);
    json_object_foreach (value, key, each)
        rc |= replace_nuls(each);
    return rc ? OSM_ENOMEM : 0;
}

static int object_end(struct osm_kube_stream *s)
{
    json_error_t error;
    char reason[256];
    if (s->text.failed == OSM_ELIMIT) {
        (void)snprintf(reason, sizeof reason, "an object of %zu bytes; %zu are the most",
                       s->value_len, s->text.max);
        return tell_bad(s, reason);
    }
    bool has_nul = memmem(s->text.data, s->text.len, "\\u0000", 6) != NULL;
    json_t *value =
        json_loadb(s->text.data, s->text.len, has_nul ? (size_t)JSON_ALLOW_NUL : 0, &error);
    if (!value) {
        if (json_error_code(&error) == json_error_out_of_memory)
            return OSM_ENOMEM;
        (void)snprintf(reason, sizeof reason, "not readable: %s", error.text);
        return tell_bad(s, osm_utf8_repair(reason));
    }
    if (has_nul && replace_nuls(value)) {
        json_decref(value);
        return OSM_ENOMEM;
    }
    if (s->form == OSM_KUBE_LIST && json_is_object(value))
        return s->callbacks.object(s->callbacks.ud, NULL, value);
    const char *type = json_string_value(json_object_get(value, "type"));
    json_t *object = json_object_get(value, "object");
    int rc;
    if (s->form == OSM_KUBE_WATCH && type && json_is_object(object))
        rc = s->callbacks.object(s->callbacks.ud, type, json_incref(object));
    else
        rc = tell_bad(s, s->form == OSM_KUBE_WATCH ? "no event: type or object is missing"
                                                   : "an item that is no object");
    json_decref(value);
    return rc;
}

/* A member of the list itself. What is not needed may be anything. */
static int member_end(struct osm_kube_stream *s)
{
    if (strcmp(s->key, "metadata") != 0 || s->text.failed == OSM_ELIMIT)
        return 0;
    json_t *metadata = json_loadb(s->text.data, s->text.len, JSON_DECODE_ANY, NULL);
    const char *version = json_string_value(json_object_get(metadata, "resourceVersion"));
    const char *token = json_string_value(json_object_get(metadata, "continue"));
    int rc = 0;
    if (version && strlen(version) < sizeof s->resource_version)
        memcpy(s->resource_version, version, strlen(version) + 1);
    if (token && *token) {
        osm_free(s->continue_token);
        s->continue_token = osm_strdup(token);
        rc = s->continue_token ? 0 : OSM_ENOMEM;
    }
    json_decref(metadata);
    return rc;
}

/* --- the skeleton --- */

static int garbage(const struct osm_kube_stream *s, struct osm_err *err)
{
    char first[sizeof s->first + 1];
    memcpy(first, s->first, s->first_len);
    first[s->first_len] = '\0';
    for (char *c = first; *c; c++)
        if (*c == '\n' || *c == '\r' || *c == '\t')
            *c = ' ';
    return osm_fail(err, OSM_EPARSE, "the answer is no %s; it begins with: %s",
                    s->form == OSM_KUBE_LIST ? "list" : "stream of events", osm_utf8_repair(first));
}

/* One byte between values. Errors: OSM_EPARSE it does not belong there. */
static int step(struct osm_kube_stream *s, char c)
{
    switch ((enum state)s->state) {
    case KEY:
        if (c == '"')
            s->state = COLON;
        else if (s->key_len + 1 < sizeof s->key)
            s->key[s->key_len++] = c;
        s->key[s->key_len] = '\0';
        return c == '\\' ? OSM_EPARSE : 0;
    case START:
        s->state = KEY_OR_END;
        return c == '{' ? 0 : OSM_EPARSE;
    case KEY_OR_END:
    case KEY_START:
        if (c == '}' && s->state == KEY_OR_END) {
            s->state = END;
            return 0;
        }
        s->state = KEY;
        s->key_len = 0;
        return c == '"' ? 0 : OSM_EPARSE;
    case COLON:
        s->state = VALUE_START;
        return c == ':' ? 0 : OSM_EPARSE;
    case AFTER_VALUE:
        s->state = c == ',' ? KEY_START : END;
        return c == ',' || c == '}' ? 0 : OSM_EPARSE;
    case AFTER_ITEM:
        s->state = c == ',' ? ITEM_START : AFTER_VALUE;
        return c == ',' || c == ']' ? 0 : OSM_EPARSE;
    default:
        return OSM_EPARSE;
    }
}

/* The first byte of a value, or what stands in its place. *taken: it is used up. */
static int value_start(struct osm_kube_stream *s, char c, bool *taken)
{
    *taken = false;
    if (s->state == VALUE_START && !strcmp(s->key, "items") && c == '[') {
        s->state = ITEM_OR_END;
        s->has_items = *taken = true;
    } else if (s->state == ITEM_OR_END && c == ']') {
        s->state = AFTER_VALUE;
        *taken = true;
    } else if (c == '}' || c == ']' || c == ',' || c == ':') {
        return OSM_EPARSE;
    } else {
        s->has_items = s->has_items || (s->state == VALUE_START && !strcmp(s->key, "items") &&
                                        c == 'n'); /* null: none */
        value_begin(s, s->state == VALUE_START ? VALUE : ITEM);
    }
    return 0;
}

static int value_ended(struct osm_kube_stream *s)
{
    bool is_item = s->state == ITEM;
    s->state = !is_item ? AFTER_VALUE : s->form == OSM_KUBE_LIST ? AFTER_ITEM : START;
    return is_item ? object_end(s) : member_end(s);
}

static int feed(struct osm_kube_stream *s, const char *bytes, size_t len)
{
    int rc = 0;
    for (size_t i = 0; i < len && !rc;) {
        char c = bytes[i];
        bool taken = false, whole = false;
        if (s->state == VALUE || s->state == ITEM) {
            size_t n = value_span(s, bytes + i, len - i, &whole);
            rc = value_add(s, bytes + i, n);
            i += n;
            if (!rc && whole)
                rc = value_ended(s);
        } else if (s->state != KEY && is_space(c)) {
            i++;
        } else if (s->state == START && s->form == OSM_KUBE_WATCH) {
            rc = c == '{' ? 0 : OSM_EPARSE;
            value_begin(s, ITEM);
        } else if (s->state == VALUE_START || s->state == ITEM_OR_END || s->state == ITEM_START) {
            rc = value_start(s, c, &taken);
            i += taken;
        } else {
            rc = step(s, c);
            i++;
        }
    }
    return rc;
}

int osm_kube_stream_feed(struct osm_kube_stream *s, const char *bytes, size_t len,
                         struct osm_err *err)
{
    size_t n = sizeof s->first - s->first_len;
    if (n > len)
        n = len;
    if (n)
        memcpy(s->first + s->first_len, bytes, n);
    s->first_len += n;
    int rc = feed(s, bytes, len);
    if (rc == OSM_EPARSE)
        return garbage(s, err);
    return rc ? osm_fail(err, rc, "%s", osm_code_text(rc)) : 0;
}

int osm_kube_stream_end(const struct osm_kube_stream *s, struct osm_err *err)
{
    if (s->form == OSM_KUBE_WATCH)
        return s->state == START
                   ? 0
                   : osm_fail(err, OSM_EPARSE, "the stream ends in the middle of an event");
    if (s->state != END)
        return s->first_len ? osm_fail(err, OSM_EPARSE, "the list ends in its middle")
                            : osm_fail(err, OSM_EPARSE, "the answer is empty");
    if (!s->has_items || !*s->resource_version)
        return garbage(s, err);
    return 0;
}
