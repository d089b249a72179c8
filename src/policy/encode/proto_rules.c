/* The rules that the API lays down for its fields (`validate.rules`; which there are is written in
 * proto/envoy_rules.py), made by the encoder while it has the value in hand. They hold as in the
 * validator that Envoy is built with:
 *   - a scalar that is left out has its zero, and is checked as such;
 *   - a scalar in a oneof or with `optional`, and a wrapper, is checked only where it is set;
 *   - "required" asks for presence, an empty message will do;
 *   - inside an Any the rules of its message hold: Envoy checks them when it unpacks it.
 * Envoy is stricter in places (names of extensions, what a filter makes of its settings); what it
 * refuses beyond this comes back as a NACK. Lengths of strings count characters, not bytes. */
#include "base/utf8.h"
#include "policy/encode/proto_encode_priv.h"
#include "policy/sandbox/re2_shim.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN_BYTES = 60, SAID_BYTES = 300, PATTERNS_MAX = 64 };

/* What a check looks at. */
struct subject {
    enum {
        SUBJECT_BOOL,
        SUBJECT_INT,
        SUBJECT_UINT,
        SUBJECT_DOUBLE,
        SUBJECT_ENUM,
        SUBJECT_DURATION,
        SUBJECT_TEXT,
        SUBJECT_COUNT
    } type;
    int64_t i; /* boolean, integer, enum; nanoseconds */
    uint64_t u;
    double d;
    const char *s; /* text and bytes */
    size_t len;
    const ProtobufCEnumDescriptor *names;
};

/* ---- texts ---- */

/* Compiled by the first who needs it, and kept until the process ends. NULL: no memory. */
static const struct osm_regex *pattern(uint64_t index)
{
    static _Atomic(struct osm_regex *) compiled[PATTERNS_MAX];
    if (index >= PATTERNS_MAX)
        return NULL;
    struct osm_regex *regex = atomic_load(&compiled[index]), *known = NULL;
    if (regex)
        return regex;
    if (osm_regex_new(&regex, envoy_api_patterns[index], NULL))
        return NULL;
    if (atomic_compare_exchange_strong(&compiled[index], &known, regex))
        return regex;
    osm_regex_free(regex); /* another thread was faster */
    return known;
}

static uint64_t characters(const struct subject *v)
{
    uint64_t n = 0;
    for (size_t i = 0; i < v->len; i++)
        n += ((unsigned char)v->s[i] & 0xc0) != 0x80; /* the text is valid UTF-8 */
    return n;
}

/* The first byte that may not be there; -1: none. */
static int bad_byte(enum envoy_api_check_kind kind, const struct subject *v)
{
    for (size_t i = 0; i < v->len; i++) {
        unsigned char c = (unsigned char)v->s[i];
        bool bad = kind == ENVOY_API_HEADER_TEXT ? !c || c == '\n' || c == '\r'
                                                 : (c < 0x20 && c != '\t') || c == 0x7f;
        if (bad)
            return c;
    }
    return -1;
}

static bool is_header_name(const struct subject *v)
{
    size_t start = v->len && v->s[0] == ':';
    for (size_t i = start; i < v->len; i++) {
        char c = v->s[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              (c && strchr("!#$%&'*+,-.^_|~`", c))))
            return false;
    }
    return v->len > start;
}

static bool has_prefix(const struct subject *v, const char *text)
{
    size_t len = strlen(text);
    return len <= v->len && (!len || !memcmp(v->s, text, len));
}

static bool has_suffix(const struct subject *v, const char *text)
{
    size_t len = strlen(text);
    return len <= v->len && (!len || !memcmp(v->s + v->len - len, text, len));
}

static bool is_in(const struct subject *v, const char *const *list)
{
    for (; *list; list++)
        if (v->len == strlen(*list) && !memcmp(v->s, *list, v->len))
            return true;
    return false;
}

/* ---- one check ---- */

static int compare(const struct envoy_api_check *check, const struct subject *v)
{
    switch (v->type) {
    case SUBJECT_UINT:
        return (v->u > check->at.u) - (v->u < check->at.u);
    case SUBJECT_DOUBLE:
        return (v->d > check->at.d) - (v->d < check->at.d);
    default:
        return (v->i > check->at.i) - (v->i < check->at.i);
    }
}

/* Whether the value breaks the check. What is not about a value is kept. */
static bool breaks(const struct envoy_api_check *check, const struct subject *v)
{
    const struct osm_regex *regex;
    switch (check->kind) {
    case ENVOY_API_TRUE:
        return !v->i;
    case ENVOY_API_LT:
        return compare(check, v) >= 0;
    case ENVOY_API_LTE:
        return compare(check, v) > 0;
    case ENVOY_API_GT:
        return compare(check, v) <= 0;
    case ENVOY_API_GTE:
        return compare(check, v) < 0;
    case ENVOY_API_EITHER:
        return breaks(&check->at.checks[0], v) && breaks(&check->at.checks[1], v);
    case ENVOY_API_ENUM_NOT_IN:
        return v->i == check->at.i;
    case ENVOY_API_IN:
        return !is_in(v, check->at.list);
    case ENVOY_API_MIN_LEN:
        return characters(v) < check->at.u;
    case ENVOY_API_MAX_LEN:
        return characters(v) > check->at.u;
    case ENVOY_API_MIN_BYTES:
        return v->len < check->at.u;
    case ENVOY_API_MAX_BYTES:
        return v->len > check->at.u;
    case ENVOY_API_PREFIX:
        return !has_prefix(v, check->at.text);
    case ENVOY_API_SUFFIX:
        return !has_suffix(v, check->at.text);
    case ENVOY_API_PATTERN:
        regex = pattern(check->at.u);
        return !regex || !osm_regex_matches(regex, v->s, v->len);
    case ENVOY_API_HEADER_NAME:
        return !is_header_name(v);
    case ENVOY_API_HEADER_VALUE:
    case ENVOY_API_HEADER_TEXT:
        return bad_byte(check->kind, v) >= 0;
    case ENVOY_API_MIN_ITEMS:
    case ENVOY_API_MIN_PAIRS:
        return v->u < check->at.u;
    case ENVOY_API_MAX_ITEMS:
        return v->u > check->at.u;
    default:
        return false;
    }
}

/* ---- what is said of it ---- */

static void say_duration(struct osm_buf *out, int64_t ns)
{
    char text[OSM__PROTO_TIME_SIZE] = "";
    struct osm__proto_time time = {ns / 1000000000, (int32_t)(ns % 1000000000)};
    (void)osm__proto_print_duration(time, text);
    (void)osm_buf_add_str(out, text);
}

static void say_bound(struct osm_buf *out, const char *how, const struct envoy_api_check *check,
                      const struct subject *v)
{
    (void)osm_buf_add_str(out, how);
    if (v->type == SUBJECT_DURATION)
        say_duration(out, check->at.i);
    else if (v->type == SUBJECT_UINT)
        (void)osm_buf_addf(out, "%" PRIu64, check->at.u);
    else if (v->type == SUBJECT_DOUBLE)
        (void)osm_buf_addf(out, "%.15g", check->at.d);
    else
        (void)osm_buf_addf(out, "%" PRId64, check->at.i);
}

/* In quotes, cut, and with control characters escaped: a message is one line. */
static void say_text(struct osm_buf *out, const struct subject *v)
{
    (void)osm_buf_add_char(out, '"');
    size_t i = 0, n;
    for (; i < v->len && i < SHOWN_BYTES; i += n) {
        unsigned char c = (unsigned char)v->s[i];
        n = osm_utf8_sequence(v->s + i, v->len - i);
        if (!n || c < 0x20 || c == 0x7f) {
            n = 1;
            (void)osm_buf_addf(out, "\\x%02x", c);
        } else {
            (void)osm_buf_add(out, v->s + i, n);
        }
    }
    (void)osm_buf_add_str(out, i < v->len ? "...\"" : "\"");
}

static void say_got(struct osm_buf *out, const struct subject *v)
{
    (void)osm_buf_add_str(out, ", got ");
    switch (v->type) {
    case SUBJECT_BOOL:
        (void)osm_buf_add_str(out, v->i ? "true" : "false");
        break;
    case SUBJECT_UINT:
    case SUBJECT_COUNT:
        (void)osm_buf_addf(out, "%" PRIu64, v->u);
        break;
    case SUBJECT_DOUBLE:
        (void)osm_buf_addf(out, "%.15g", v->d);
        break;
    case SUBJECT_DURATION:
        (void)osm_buf_add_char(out, '"');
        say_duration(out, v->i);
        (void)osm_buf_add_char(out, '"');
        break;
    case SUBJECT_TEXT:
        say_text(out, v);
        break;
    default:
        (void)osm_buf_addf(out, "%" PRId64, v->i);
        break;
    }
}

static void say_count(struct osm_buf *out, const char *how, uint64_t n, const char *one,
                      const char *more)
{
    (void)osm_buf_addf(out, "%s %" PRIu64 " %s", how, n, n == 1 ? one : more);
}

/* "must be less than 5, got 7" */
static void say(struct osm_buf *out, const struct envoy_api_check *check, const struct subject *v,
                bool got)
{
    const ProtobufCEnumValue *value;
    switch (check->kind) {
    case ENVOY_API_TRUE:
        (void)osm_buf_add_str(out, "must be true");
        break;
    case ENVOY_API_LT:
        say_bound(out, "must be less than ", check, v);
        break;
    case ENVOY_API_LTE:
        say_bound(out, "must be at most ", check, v);
        break;
    case ENVOY_API_GT:
        say_bound(out, "must be greater than ", check, v);
        break;
    case ENVOY_API_GTE:
        say_bound(out, "must be at least ", check, v);
        break;
    case ENVOY_API_EITHER:
        say(out, &check->at.checks[0], v, false);
        (void)osm_buf_add_str(out, ", or it ");
        say(out, &check->at.checks[1], v, false);
        break;
    case ENVOY_API_ENUM_NOT_IN:
        value = osm__proto_enum_value(v->names, (int)check->at.i);
        (void)osm_buf_addf(out, "must not be \"%s\"", value ? value->name : "?");
        return;
    case ENVOY_API_IN:
        for (size_t i = 0; check->at.list[i]; i++)
            (void)osm_buf_addf(out, "%s\"%s\"", i ? ", " : "must be one of ", check->at.list[i]);
        break;
    case ENVOY_API_MIN_LEN:
        say_count(out, "must be at least", check->at.u, "character long", "characters long");
        break;
    case ENVOY_API_MAX_LEN:
        say_count(out, "must be at most", check->at.u, "character long", "characters long");
        if (got)
            (void)osm_buf_addf(out, ", got %" PRIu64, characters(v));
        return;
    case ENVOY_API_MIN_BYTES:
    case ENVOY_API_MAX_BYTES:
        say_count(out, check->kind == ENVOY_API_MIN_BYTES ? "must be at least" : "must be at most",
                  check->at.u, "byte long", "bytes long");
        if (got)
            (void)osm_buf_addf(out, ", got %zu", v->len);
        return;
    case ENVOY_API_PREFIX:
        (void)osm_buf_addf(out, "must start with \"%s\"", check->at.text);
        break;
    case ENVOY_API_SUFFIX:
        (void)osm_buf_addf(out, "must end with \"%s\"", check->at.text);
        break;
    case ENVOY_API_PATTERN:
        (void)osm_buf_addf(out, "must match %s", envoy_api_patterns[check->at.u]);
        break;
    case ENVOY_API_HEADER_NAME:
        (void)osm_buf_add_str(out, "must be the name of an HTTP header");
        break;
    case ENVOY_API_HEADER_VALUE: /* the value may be a secret: only what is wrong in it is shown */
    case ENVOY_API_HEADER_TEXT:
        (void)osm_buf_addf(out, "must hold no %s, got \\x%02x",
                           check->kind == ENVOY_API_HEADER_TEXT
                               ? "zero byte or line break"
                               : "control characters other than the tab",
                           (unsigned)bad_byte(check->kind, v));
        return;
    case ENVOY_API_MIN_ITEMS:
        say_count(out, "must hold at least", check->at.u, "item", "items");
        break;
    case ENVOY_API_MAX_ITEMS:
        say_count(out, "must hold at most", check->at.u, "item", "items");
        break;
    case ENVOY_API_MIN_PAIRS:
        say_count(out, "must hold at least", check->at.u, "entry", "entries");
        break;
    default:
        break;
    }
    if (got)
        say_got(out, v);
}

static int refuse(struct osm__proto_encoder *e, const struct osm__proto_node *node,
                  const struct envoy_api_check *check, const struct subject *v, bool absent)
{
    struct osm_buf out = OSM_BUF_INIT(SAID_BYTES * 8);
    bool just_one = (check->kind == ENVOY_API_MIN_LEN || check->kind == ENVOY_API_MIN_BYTES ||
                     check->kind == ENVOY_API_MIN_ITEMS || check->kind == ENVOY_API_MIN_PAIRS) &&
                    check->at.u == 1;
    if (absent)
        (void)osm_buf_add_str(&out, just_one ? "is required" : "is required: ");
    if (!absent || !just_one)
        say(&out, check, v, !absent);
    int rc = out.failed ? osm__proto_refuse(e, node, out.failed, "%s", osm_code_text(out.failed))
                        : osm__proto_refuse(e, node, OSM_EINVAL, "%s", out.data);
    osm_buf_clear(&out);
    return rc;
}

static int hold(struct osm__proto_encoder *e, const struct osm__proto_node *node,
                const struct envoy_api_check *checks, const struct subject *v, bool absent)
{
    for (; checks->kind != ENVOY_API_END; checks++) {
        if (checks->kind == ENVOY_API_IGNORE_EMPTY && !v->len)
            return 0;
        if (breaks(checks, v))
            return refuse(e, node, checks, v, absent);
    }
    return 0;
}

/* ---- values of fields ---- */

static struct subject number(const ProtobufCFieldDescriptor *f, uint64_t bits)
{
    struct subject v = {.type = SUBJECT_INT, .i = (int64_t)bits, .u = bits, .s = ""};
    uint32_t low = (uint32_t)bits;
    float narrow;
    switch (f->type) {
    case PROTOBUF_C_TYPE_BOOL:
        v.type = SUBJECT_BOOL;
        break;
    case PROTOBUF_C_TYPE_ENUM:
        v.type = SUBJECT_ENUM;
        v.names = f->descriptor;
        break;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FIXED64:
        v.type = SUBJECT_UINT;
        break;
    case PROTOBUF_C_TYPE_FLOAT:
        v.type = SUBJECT_DOUBLE;
        memcpy(&narrow, &low, sizeof narrow);
        v.d = (double)narrow;
        break;
    case PROTOBUF_C_TYPE_DOUBLE:
        v.type = SUBJECT_DOUBLE;
        memcpy(&v.d, &bits, sizeof v.d);
        break;
    default:
        break;
    }
    return v;
}

int osm__proto_check_number(struct osm__proto_encoder *e, const struct osm__proto_node *node,
                            const ProtobufCFieldDescriptor *f, uint64_t bits)
{
    if (!node->checks)
        return 0;
    struct subject v = number(f, bits);
    return hold(e, node, node->checks, &v, false);
}

int osm__proto_check_text(struct osm__proto_encoder *e, const struct osm__proto_node *node,
                          const char *s, size_t len)
{
    if (!node->checks)
        return 0;
    struct subject v = {.type = SUBJECT_TEXT, .s = len ? s : "", .len = len};
    return hold(e, node, node->checks, &v, false);
}

int osm__proto_check_duration(struct osm__proto_encoder *e, const struct osm__proto_node *node,
                              struct osm__proto_time time)
{
    struct subject v = {.type = SUBJECT_DURATION, .s = ""};
    if (!node->checks)
        return 0;
    /* No bound is as long as 64 bits of nanoseconds: what is longer may stand at their ends. */
    if (__builtin_mul_overflow(time.seconds, 1000000000, &v.i) ||
        __builtin_add_overflow(v.i, time.nanos, &v.i))
        v.i = time.seconds < 0 ? INT64_MIN : INT64_MAX;
    return hold(e, node, node->checks, &v, false);
}

int osm__proto_check_count(struct osm__proto_encoder *e, const struct osm__proto_node *node,
                           size_t n)
{
    struct subject v = {.type = SUBJECT_COUNT, .u = n, .s = ""};
    return node->checks ? hold(e, node, node->checks, &v, false) : 0;
}

const struct envoy_api_check *osm__proto_checks_below(const struct envoy_api_check *checks,
                                                      enum envoy_api_check_kind kind)
{
    for (; checks && checks->kind != ENVOY_API_END; checks++)
        if (checks->kind == kind)
            return checks->at.checks;
    return NULL;
}

bool osm__proto_has_check(const struct envoy_api_check *checks, enum envoy_api_check_kind kind)
{
    for (; checks && checks->kind != ENVOY_API_END; checks++)
        if (checks->kind == kind)
            return true;
    return false;
}

/* ---- lists without equals ---- */

struct item {
    struct subject v;
    size_t index;
};

static int by_value(const void *a, const void *b)
{
    const struct subject *x = &((const struct item *)a)->v, *y = &((const struct item *)b)->v;
    if (x->type == SUBJECT_DOUBLE)
        return (x->d > y->d) - (x->d < y->d);
    if (x->type != SUBJECT_TEXT)
        return (x->u > y->u) - (x->u < y->u);
    size_t n = x->len < y->len ? x->len : y->len;
    int order = n ? memcmp(x->s, y->s, n) : 0;
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

static int by_value_and_index(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    int order = by_value(a, b);
    return order ? order : (x->index > y->index) - (x->index < y->index);
}

int osm__proto_check_unique(struct osm__proto_encoder *e, struct osm__proto_node *node,
                            const ProtobufCFieldDescriptor *f, const struct osm__proto_value *list,
                            size_t n)
{
    if (n < 2)
        return 0;
    int rc = 0;
    struct item *items = osm_alloc_array(n, sizeof *items);
    if (!items)
        return osm__proto_refuse(e, node, OSM_ENOMEM, "%s", osm_code_text(OSM_ENOMEM));
    for (size_t i = 0; i < n && !rc; i++) {
        int level = e->source->mark(e->source->ctx);
        struct osm__proto_value value;
        uint64_t bits = 0;
        rc = e->source->item(e->source->ctx, list, (long)i, &value);
        items[i] = (struct item){{.type = SUBJECT_TEXT, .s = "", .len = 0}, i};
        if (!rc && value.type == OSM__VALUE_STRING && f->type == PROTOBUF_C_TYPE_STRING) {
            items[i].v.s = value.s; /* stays while the list does */
            items[i].v.len = value.len;
        } else if (!rc) {
            rc = osm__proto_read_bits(e, node, f, &value, &bits);
            items[i].v = number(f, bits);
        }
        e->source->release(e->source->ctx, level);
    }
    if (!rc)
        qsort(items, n, sizeof *items, by_value_and_index);
    for (size_t i = 1; i < n && !rc; i++)
        if (!by_value(&items[i - 1], &items[i])) {
            node->index = (long)items[i].index;
            rc = osm__proto_refuse(e, node, OSM_EINVAL, "is the same as item %zu",
                                   items[i - 1].index);
        }
    osm_free(items);
    return rc;
}

/* ---- what is left out ---- */

static int check_absent(struct osm__proto_encoder *e, struct osm__proto_node *node,
                        const ProtobufCFieldDescriptor *f, const struct envoy_api_check *checks)
{
    struct subject v = {.type = SUBJECT_COUNT, .s = ""};
    node->field = f->name;
    node->field_len = (int)strlen(f->name);
    if (osm__proto_has_check(checks, ENVOY_API_REQUIRED))
        return osm__proto_refuse(e, node, OSM_EINVAL, "is required");
    if (f->label == PROTOBUF_C_LABEL_REPEATED)
        v.type = SUBJECT_COUNT;
    else if (f->type == PROTOBUF_C_TYPE_STRING || f->type == PROTOBUF_C_TYPE_BYTES)
        v.type = SUBJECT_TEXT;
    else
        v = number(f, 0);
    return hold(e, node, checks, &v, true);
}

static int check_oneof(struct osm__proto_encoder *e, struct osm__proto_node *node,
                       const struct envoy_api_oneof *oneof, size_t base)
{
    const ProtobufCMessageDescriptor *m = node->message;
    unsigned which = m->fields[oneof->member].quantifier_offset;
    for (size_t i = base; i < e->entries_len; i++)
        if (e->entries[i].field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF &&
            e->entries[i].field->quantifier_offset == which)
            return 0;
    struct osm_buf names = OSM_BUF_INIT(SAID_BYTES * 8);
    for (unsigned i = 0; i < m->n_fields; i++)
        if (m->fields[i].flags & PROTOBUF_C_FIELD_FLAG_ONEOF &&
            m->fields[i].quantifier_offset == which)
            (void)osm_buf_addf(&names, "%s\"%s\"", names.len ? ", " : "", m->fields[i].name);
    node->field = NULL;
    int rc =
        osm__proto_refuse(e, node, names.failed ? names.failed : OSM_EINVAL,
                          "%s is required: one of %s", oneof->name, names.data ? names.data : "");
    osm_buf_clear(&names);
    return rc;
}

int osm__proto_check_complete(struct osm__proto_encoder *e, struct osm__proto_node *node,
                              size_t base)
{
    const struct envoy_api_rules *rules = e->checked ? osm__proto_rules(node->message) : NULL;
    if (!rules)
        return 0;
    size_t at = base;
    for (size_t i = 0; i < rules->wanted_len; i++) {
        const ProtobufCFieldDescriptor *f = &node->message->fields[rules->wanted[i]];
        while (at < e->entries_len && e->entries[at].field < f)
            at++;
        if (at < e->entries_len && e->entries[at].field == f)
            continue;
        int rc = check_absent(e, node, f, rules->of_field[rules->wanted[i]]);
        if (rc)
            return rc;
    }
    for (size_t i = 0; i < rules->oneofs_len; i++) {
        int rc = check_oneof(e, node, &rules->oneofs[i], base);
        if (rc)
            return rc;
    }
    return 0;
}
