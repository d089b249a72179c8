/* Where a request ends: its head, and the framing of its body. Nothing here reads or writes, and
 * what two readers could take in two ways is refused (RFC 9112, 11.2): a line end of one byte, a
 * folded line, two lengths, a length beside a transfer coding. */
#include "http/http_priv.h"

#include <string.h>
#include <strings.h>

enum { CHUNK_LINE_MAX = 256, TRAILERS_MAX = 4096, LENGTH_DIGITS = 15, CHUNK_DIGITS = 8 };

static bool is_token(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static size_t token_len(const char *text, size_t len)
{
    size_t n = 0;
    while (n < len && is_token(text[n]))
        n++;
    return n;
}

/* 1 the head ends at *end; 0 it goes on; -1 a byte that no head has. */
static int find_end(const char *text, size_t len, size_t *end)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c < ' ' && c != '\t' && c != '\r' && c != '\n') || c == 0x7f)
            return -1;
        if ((c == '\n' && (!i || text[i - 1] != '\r')) ||
            (c == '\r' && i + 1 < len && text[i + 1] != '\n'))
            return -1;
        if (c == '\n' && i >= 3 && text[i - 2] == '\n') {
            *end = i + 1;
            return 1;
        }
    }
    return 0;
}

static const char *method_of(const char *text, size_t len)
{
    static const char *const known[] = {"GET", "HEAD", "POST"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i]) == len && !memcmp(known[i], text, len))
            return known[i];
    return "other"; /* the peer's word would make a series of figures each */
}

static int read_version(struct osm__http_head *head, const char *text, size_t len)
{
    if (len != 8 || memcmp(text, "HTTP/", 5) != 0 || text[6] != '.')
        return 400;
    if (text[5] != '1' || (text[7] != '0' && text[7] != '1'))
        return 505;
    head->http_1_0 = text[7] == '0';
    return 0;
}

static int hex_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* A control character behind an escape would end a line to the parser, and hide the Host. */
static bool escapes_control(const char *target, size_t len)
{
    for (size_t i = 0; i + 2 < len; i++) {
        if (target[i] != '%')
            continue;
        int high = hex_of(target[i + 1]), low = hex_of(target[i + 2]);
        if (high == 0 || high == 1 || (high == 7 && low == 15))
            return true;
    }
    return false;
}

/* "GET /path?query HTTP/1.1" */
static int read_request_line(struct osm__http_head *head, const char *line, size_t len)
{
    size_t method = token_len(line, len), target = method + 1, end = target;
    if (!method || method >= len || line[method] != ' ')
        return 400;
    while (end < len && line[end] > ' ' && line[end] < 0x7f)
        end++;
    if (end >= len || line[end] != ' ')
        return 400;
    int status = read_version(head, line + end + 1, len - end - 1);
    if (status)
        return status;
    if (line[target] != '/' || escapes_control(line + target, end - target))
        return 400;
    head->method = method_of(line, method);
    head->target = target;
    head->target_len = end - target;
    return 0;
}

static bool value_is(const char *value, size_t len, const char *text)
{
    return strlen(text) == len && !strncasecmp(value, text, len);
}

static int read_length(struct osm__http_head *head, const char *value, size_t len)
{
    if (head->has_length || !len || len > LENGTH_DIGITS)
        return head->has_length || !len ? 400 : 413;
    head->has_length = true;
    for (size_t i = 0; i < len; i++) {
        if (value[i] < '0' || value[i] > '9')
            return 400;
        head->length = head->length * 10 + (uint64_t)(value[i] - '0');
    }
    return 0;
}

static int read_coding(struct osm__http_head *head, const char *value, size_t len)
{
    if (head->chunked || head->http_1_0)
        return 400;
    head->chunked = true;
    return value_is(value, len, "chunked") ? 0 : 501;
}

static int read_expectation(struct osm__http_head *head, const char *value, size_t len)
{
    head->expects = !head->http_1_0;
    return value_is(value, len, "100-continue") ? 0 : 417;
}

static int pass(struct osm__http_head *head, const char *value, size_t len)
{
    (void)head;
    (void)value;
    (void)len;
    return 0;
}

static int read_host(struct osm__http_head *head, const char *value, size_t len)
{
    bool again = head->has_host;
    (void)value;
    (void)len;
    head->has_host = true;
    return again ? 400 : 0;
}

static int refuse_upgrade(struct osm__http_head *head, const char *value, size_t len)
{
    (void)head;
    (void)value;
    (void)len;
    return 501;
}

static const struct known {
    const char *name;
    int (*read)(struct osm__http_head *head, const char *value, size_t len);
    bool shown; /* to the parser */
} KNOWN[] = {
    {"content-length", read_length, false},
    {"transfer-encoding", read_coding, false},
    {"expect", read_expectation, false},
    {"host", read_host, true},
    {"connection", pass, true},
    {"upgrade", refuse_upgrade, false},
};

static const struct known *find_known(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof KNOWN / sizeof *KNOWN; i++)
        if (value_is(name, len, KNOWN[i].name))
            return &KNOWN[i];
    return NULL;
}

static int read_header(struct osm__http_head *head, const char *line, size_t len)
{
    size_t name = token_len(line, len), from = name + 1, to = len;
    if (!name || name >= len || line[name] != ':')
        return 400;
    while (from < to && (line[from] == ' ' || line[from] == '\t'))
        from++;
    while (to > from && (line[to - 1] == ' ' || line[to - 1] == '\t'))
        to--;
    const struct known *known = find_known(line, name);
    return known ? known->read(head, line + from, to - from) : 0;
}

/* The length of the line at @p text, without its end. */
static size_t line_len(const char *text)
{
    return (size_t)(strchr(text, '\r') - text);
}

int osm__http_head_read(struct osm__http_head *head, const char *text, size_t len)
{
    size_t limit = len < OSM__HTTP_HEADERS_MAX ? len : OSM__HTTP_HEADERS_MAX;
    *head = (struct osm__http_head){.method = "other"};
    int found = find_end(text, limit, &head->len);
    if (found < 0)
        return 400;
    if (!found)
        return len >= OSM__HTTP_HEADERS_MAX ? 431 : 0;
    size_t at = line_len(text);
    int status = read_request_line(head, text, at);
    for (at += 2; !status && at < head->len - 2; at += 2) {
        size_t n = line_len(text + at);
        status = read_header(head, text + at, n);
        at += n;
    }
    if (!status && head->chunked && head->has_length)
        status = 400;
    return status ? status : 200;
}

size_t osm__http_head_show(const struct osm__http_head *head, const char *text,
                           char shown[OSM__HTTP_SHOWN_MAX])
{
    size_t at = line_len(text) + 2, n = 4;
    memcpy(shown, "GET ", n);
    memcpy(shown + n, text + head->target, at - head->target);
    n += at - head->target;
    while (at < head->len) {
        size_t line = line_len(text + at) + 2;
        const struct known *known = find_known(text + at, token_len(text + at, line));
        if (line == 2 || (known && known->shown)) {
            memcpy(shown + n, text + at, line);
            n += line;
        }
        at += line;
    }
    return n;
}

void osm__http_head_split(char *text, size_t len)
{
    for (size_t i = len; i > 0; i--) {
        char c = text[i - 1];
        bool is_end = c == '\n' || c == '\r' || c == ' ' || c == '\t';
        if (is_end && (i == len || !text[i]))
            text[i - 1] = '\0';
        else if (c == '\n')
            text[i - 1] = '\0';
    }
}

const char *osm__http_head_find(const char *split, size_t len, const char *name)
{
    size_t n = strlen(name);
    for (const char *line = split; line < split + len; line += strlen(line) + 1) {
        if (strncasecmp(line, name, n) != 0 || line[n] != ':')
            continue;
        line += n + 1;
        return line + strspn(line, " \t");
    }
    return NULL;
}

/* --- bodies --- */

enum { SIZE, EXTENSION, SIZE_END, DATA, DATA_CR, DATA_LF, TRAILER, TRAILER_END };

void osm__http_framing_init(struct osm__http_framing *f, const struct osm__http_head *head)
{
    *f = (struct osm__http_framing){
        .chunked = head->chunked,
        .state = head->chunked ? SIZE : DATA,
        .left = head->chunked ? 0 : head->length,
        .done = !head->chunked && !head->length,
    };
}

static bool end_size(struct osm__http_framing *f, char c)
{
    if (c != '\n')
        return false;
    f->state = f->left ? DATA : TRAILER;
    f->line = 0;
    return true;
}

static bool take_size(struct osm__http_framing *f, char c)
{
    int digit = hex_of(c);
    if (digit >= 0) {
        f->left = f->left * 16 + (uint64_t)digit;
        return ++f->line <= CHUNK_DIGITS;
    }
    f->state = c == '\r' ? SIZE_END : EXTENSION;
    return f->line && (c == '\r' || c == ';' || c == ' ' || c == '\t');
}

/* The trailers are not looked at, only where they end: at an empty line. */
static bool take_trailer(struct osm__http_framing *f, char c)
{
    if (f->state == TRAILER_END) {
        f->done = c == '\n' && !f->line;
        f->line = 0;
        f->state = TRAILER;
        return c == '\n';
    }
    if (c == '\r')
        f->state = TRAILER_END;
    else
        f->line++;
    return c != '\n' && ++f->trailers <= TRAILERS_MAX;
}

/* A byte of what is around the data; false: it may not be there. */
static bool take_mark(struct osm__http_framing *f, char c)
{
    switch (f->state) {
    case SIZE:
        return take_size(f, c);
    case EXTENSION:
        if (c == '\r')
            f->state = SIZE_END;
        return c != '\n' && ++f->line <= CHUNK_LINE_MAX;
    case SIZE_END:
        return end_size(f, c);
    case DATA_CR:
        f->state = DATA_LF;
        return c == '\r';
    case DATA_LF:
        f->state = SIZE;
        f->line = 0;
        return c == '\n';
    default:
        return take_trailer(f, c);
    }
}

size_t osm__http_framing_next(struct osm__http_framing *f, const char *in, size_t len,
                              size_t *data_len)
{
    size_t used = 0;
    *data_len = 0;
    while (used < len && !f->done && !f->bad && f->state != DATA)
        f->bad = !take_mark(f, in[used++]);
    if (f->done || f->bad || f->state != DATA)
        return used;
    *data_len = f->left < len - used ? (size_t)f->left : len - used;
    f->left -= *data_len;
    if (!f->left) {
        f->done = !f->chunked;
        f->state = DATA_CR;
    }
    return used;
}
