/* Random messages of every compiled type: what is encoded and decoded is what was written.
 *
 *   OSM_SEED=N     walks another way; a failure prints the seed of the one message that it is
 * about, which as OSM_SEED gives this message first */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy/encode/proto_priv.h"

#include <inttypes.h>
#include <lauxlib.h>
#include <lua.h>
#include <math.h>

#include "policy/lua_json.h"

enum { MAX = 4 << 20, ROUNDS = 12 };

static uint64_t state_of_random;

static uint32_t pick(uint32_t n)
{
    state_of_random = state_of_random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state_of_random >> 33) % n;
}

static uint64_t first_seed(void)
{
    const char *text = getenv("OSM_SEED");
    return text ? strtoull(text, NULL, 10) : 20250117;
}

/* ---- values, in the form that the decoder prints them in ---- */

static json_t *message_of(const ProtobufCMessageDescriptor *type, int depth);

static json_t *real(double value)
{
    return floor(value) == value && fabs(value) < 0x1p53 ? json_integer((json_int_t)value)
                                                         : json_real(value);
}

static json_t *text_value(void)
{
    static const char *const texts[] = {"",           "a",    "web.blue:80", "\xc3\xa9",
                                        "[redacted]", "a\nb", "true",        "7"};
    return json_string(texts[pick(8)]);
}

/* Only bytes may hold a zero byte. */
static json_t *bytes_value(void)
{
    switch (pick(4)) {
    case 0:
        return json_pack("{s:s}", "base64", pick(2) ? "/wA=" : "gICA");
    case 1:
        return json_stringn("nul\0inside", 10);
    default:
        return text_value();
    }
}

static json_t *signed_value(int64_t low, int64_t high)
{
    switch (pick(4)) {
    case 0:
        return json_integer(low);
    case 1:
        return json_integer(high);
    default:
        return json_integer((json_int_t)pick(2000) - 1000);
    }
}

static json_t *scalar_value(const ProtobufCFieldDescriptor *f)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_BOOL:
        return json_boolean(pick(2));
    case PROTOBUF_C_TYPE_STRING:
        return text_value();
    case PROTOBUF_C_TYPE_BYTES:
        return bytes_value();
    case PROTOBUF_C_TYPE_ENUM: {
        const ProtobufCEnumDescriptor *e =
            f->descriptor; /* an alias comes back as the first name */
        return json_string(osm__proto_enum_value(e, e->values[pick(e->n_values)].value)->name);
    }
    case PROTOBUF_C_TYPE_FLOAT:
        return real((double)pick(4000) / 8 - 250);
    case PROTOBUF_C_TYPE_DOUBLE:
        return real(pick(3) ? (double)pick(100000) / 1000 - 50 : 1e300);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return json_integer(pick(3) ? pick(100000) : UINT32_MAX);
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return signed_value(INT32_MIN, INT32_MAX);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return pick(3) ? json_integer(pick(1000000)) : json_string("18446744073709551615");
    default:
        return signed_value(INT64_MIN, INT64_MAX);
    }
}

static bool is_zero(const json_t *v)
{
    return json_is_false(v) || (json_is_integer(v) && !json_integer_value(v)) ||
           (json_is_string(v) && !json_string_length(v));
}

static json_t *plain_data(int depth)
{
    switch (pick(depth > 8 ? 4 : 6)) {
    case 0:
        return json_null();
    case 1:
        return json_boolean(pick(2));
    case 2:
        return real((double)pick(1000) / 4 - 100);
    case 3:
        return text_value();
    case 4: {
        json_t *list = json_array();
        for (uint32_t n = pick(3); n; n--)
            json_array_append_new(list, plain_data(depth + 1));
        return list;
    }
    default: {
        json_t *map = json_object();
        for (uint32_t n = pick(3); n; n--) {
            char key[8] = {(char)('a' + pick(26)), 0};
            json_object_set_new(map, key, plain_data(depth + 1));
        }
        return map;
    }
    }
}

/* Of a type with a form of its own the content stands in "value". */
static json_t *any_value(int depth)
{
    if (depth > 4)
        return json_object();
    const struct envoy_api_message *row;
    do {
        row = &envoy_api_messages[pick((uint32_t)envoy_api_messages_len)];
    } while (row->is_map_entry || osm__proto_form(row->descriptor) == OSM__FORM_ANY);
    json_t *content = message_of(row->descriptor, depth + 2);
    json_t *any = osm__proto_form(row->descriptor) == OSM__FORM_FIELDS
                      ? json_incref(content)
                      : json_pack("{s:O}", "value", content);
    json_object_set_new(any, "@type", json_sprintf("type.googleapis.com/%s", row->name));
    json_decref(content);
    return any;
}

static json_t *field_value(const ProtobufCFieldDescriptor *f, int depth)
{
    return f->type == PROTOBUF_C_TYPE_MESSAGE ? message_of(f->descriptor, depth + 1)
                                              : scalar_value(f);
}

static json_t *map_value(const ProtobufCMessageDescriptor *entry, int depth)
{
    static const char *const names[] = {"", "a", "b.c", "\xc3\xa9"},
                             *const numbers[] = {"0", "7", "42"},
                             *const signs[] = {"-9", "0", "12"}, *const bools[] = {"false", "true"};
    json_t *map = json_object();
    for (uint32_t n = 1 + pick(3); n; n--) {
        const char *key = names[pick(4)];
        if (entry->fields[0].type == PROTOBUF_C_TYPE_BOOL)
            key = bools[pick(2)];
        else if (entry->fields[0].type == PROTOBUF_C_TYPE_INT64)
            key = signs[pick(3)];
        else if (entry->fields[0].type != PROTOBUF_C_TYPE_STRING)
            key = numbers[pick(3)];
        json_object_set_new(map, key, field_value(&entry->fields[1], depth));
    }
    return map;
}

static json_t *list_value(const ProtobufCFieldDescriptor *f, int depth)
{
    json_t *list = json_array();
    for (uint32_t n = 1 + pick(3); n; n--)
        json_array_append_new(list, field_value(f, depth));
    return list;
}

static bool another_of_its_oneof(const json_t *object, const ProtobufCMessageDescriptor *type,
                                 const ProtobufCFieldDescriptor *f)
{
    for (unsigned i = 0; f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF && i < type->n_fields; i++)
        if (type->fields[i].flags & PROTOBUF_C_FIELD_FLAG_ONEOF &&
            type->fields[i].quantifier_offset == f->quantifier_offset &&
            json_object_get(object, type->fields[i].name))
            return true;
    return false;
}

static json_t *fields_of(const ProtobufCMessageDescriptor *type, int depth)
{
    json_t *object = json_object();
    uint32_t wanted = depth > 6 || !type->n_fields ? 0 : 1 + pick(5);
    while (wanted--) {
        const ProtobufCFieldDescriptor *f = &type->fields[pick(type->n_fields)];
        const ProtobufCMessageDescriptor *entry = osm__proto_map_entry(f);
        if (json_object_get(object, f->name) || another_of_its_oneof(object, type, f))
            continue;
        json_t *value = entry                                   ? map_value(entry, depth)
                        : f->label == PROTOBUF_C_LABEL_REPEATED ? list_value(f, depth)
                                                                : field_value(f, depth);
        bool plain = f->label == PROTOBUF_C_LABEL_NONE &&
                     !(f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) &&
                     f->type != PROTOBUF_C_TYPE_MESSAGE;
        const ProtobufCEnumDescriptor *e = f->type == PROTOBUF_C_TYPE_ENUM ? f->descriptor : NULL;
        bool zero = e ? json_is_string(value) && protobuf_c_enum_descriptor_get_value_by_name(
                                                     e, json_string_value(value))
                                                         ->value == 0
                      : is_zero(value);
        if (plain && zero) /* is not written, and so does not come back */
            json_decref(value);
        else
            json_object_set_new(object, f->name, value);
    }
    return object;
}

static json_t *message_of(const ProtobufCMessageDescriptor *type, int depth)
{
    static const char *const durations[] = {"0s",           "1s",         "-1.500s",
                                            "0.000000001s", "-0.000250s", "315576000000s"},
                             *const times[] = {"1970-01-01T00:00:00Z", "2024-02-29T01:02:03.004Z",
                                               "0001-01-01T00:00:00Z",
                                               "9999-12-31T23:59:59.999999999Z"};
    json_t *value;
    switch (osm__proto_form(type)) {
    case OSM__FORM_ANY:
        return any_value(depth);
    case OSM__FORM_DURATION:
        return json_string(durations[pick(6)]);
    case OSM__FORM_TIMESTAMP:
        return json_string(times[pick(4)]);
    case OSM__FORM_WRAPPER:
        return scalar_value(&type->fields[0]);
    case OSM__FORM_VALUE:
        return plain_data(0);
    case OSM__FORM_STRUCT:
    case OSM__FORM_LIST:
        do {
            value = plain_data(0);
            if (osm__proto_form(type) == OSM__FORM_LIST ? json_is_array(value)
                                                        : json_is_object(value))
                return value;
            json_decref(value);
        } while (true);
    default:
        return fields_of(type, depth);
    }
}

/* ---- there and back ---- */

/* What is sensitive comes back as "[redacted]", whatever it was. */
static bool same(const json_t *wrote, const json_t *read)
{
    if (json_is_string(read) && !strcmp(json_string_value(read), "[redacted]") &&
        (json_is_string(wrote) || json_object_get(wrote, "base64")))
        return true;
    if (json_is_object(wrote) && json_is_object(read)) {
        const char *key;
        json_t *value;
        json_object_foreach ((json_t *)(uintptr_t)wrote, key, value) {
            const json_t *other = json_object_get(read, key);
            if (!other || !same(value, other))
                return false;
        }
        return json_object_size(wrote) == json_object_size(read);
    }
    if (json_is_array(wrote) && json_is_array(read)) {
        for (size_t i = 0; i < json_array_size(wrote) && i < json_array_size(read); i++)
            if (!same(json_array_get(wrote, i), json_array_get(read, i)))
                return false;
        return json_array_size(wrote) == json_array_size(read);
    }
    return json_equal((json_t *)(uintptr_t)wrote, (json_t *)(uintptr_t)read);
}

static void fail_with(const char *what, const char *type, uint64_t seed, const json_t *in,
                      const json_t *out, const char *why)
{
    char *wrote = json_dumps(in, JSON_ENCODE_ANY | JSON_SORT_KEYS),
         *read = out ? json_dumps(out, JSON_ENCODE_ANY | JSON_SORT_KEYS) : NULL;
    fail_msg("%s: %s, OSM_SEED=%" PRIu64 ": %s\nwrote %.4000s\nread  %.4000s", what, type, seed,
             why, wrote, read ? read : "nothing");
}

/* Cut off anywhere it may be refused, but must not be read behind its end (the sanitizer looks). */
static void cut(const ProtobufCMessageDescriptor *type, const struct osm_buf *bytes)
{
    for (size_t len = 0; len < bytes->len; len += 1 + bytes->len / 5) {
        char *exact = osm_alloc(len ? len : 1);
        json_t *ignored = NULL;
        memcpy(exact, bytes->data, len);
        if (!osm_proto_decode(type, exact, len, &ignored, NULL))
            json_decref(ignored);
        osm_free(exact);
    }
}

static size_t there_and_back(const ProtobufCMessageDescriptor *type, uint64_t seed)
{
    struct osm_buf once = OSM_BUF_INIT(MAX), twice = OSM_BUF_INIT(MAX);
    struct osm_err err = {0};
    state_of_random = seed;
    json_t *in = message_of(type, 0), *out = NULL;
    assert_non_null(in);
    if (osm_proto_encode_json(in, type, OSM_PROTO_RULES_IGNORED, &once, NULL, NULL, &err))
        fail_with("is not encoded", type->name, seed, in, NULL, err.msg);
    if (osm_proto_decode(type, once.data ? once.data : "", once.len, &out, &err))
        fail_with("is not decoded", type->name, seed, in, NULL, err.msg);
    if (!same(in, out))
        fail_with("comes back as another", type->name, seed, in, out, "");

    /* Lua tables have no null, and of an empty list nobody knows that it is one. */
    char *text = json_dumps(in, JSON_ENCODE_ANY | JSON_COMPACT);
    if (!strstr(text, "null") && !strstr(text, "[]")) {
        lua_State *L = luaL_newstate();
        push_json(L, in);
        if (osm_proto_encode_lua(L, 1, type, OSM_PROTO_RULES_IGNORED, &twice, NULL, NULL, &err))
            fail_with("is not encoded from Lua", type->name, seed, in, NULL, err.msg);
        if (once.len != twice.len || (once.len && memcmp(once.data, twice.data, once.len) != 0))
            fail_with("has other bytes from Lua", type->name, seed, in, NULL, "");
        lua_close(L);
    }
    free(text);
    cut(type, &once);
    size_t len = once.len;
    json_decref(in);
    json_decref(out);
    osm_buf_clear(&once);
    osm_buf_clear(&twice);
    return len;
}

static void test_messages_of_every_type_come_back(void **state)
{
    (void)state;
    size_t total = 0, types = 0;
    uint64_t seed = first_seed();
    for (size_t i = 0; i < envoy_api_messages_len; i++) {
        if (envoy_api_messages[i].is_map_entry)
            continue;
        types++;
        for (int n = 0; n < ROUNDS; n++)
            total += there_and_back(envoy_api_messages[i].descriptor,
                                    n ? seed * 31 + (uint64_t)n : seed);
    }
    assert_true(types > 1300 && total > 300000); /* the generator does its work */
}

/* Rules decide whether a message is written, never how. */
static void test_rules_never_change_bytes(void **state)
{
    (void)state;
    size_t held = 0, broken = 0;
    uint64_t seed = first_seed();
    for (size_t i = 0; i < envoy_api_messages_len; i++) {
        const ProtobufCMessageDescriptor *type = envoy_api_messages[i].descriptor;
        if (envoy_api_messages[i].is_map_entry)
            continue;
        struct osm_buf with = OSM_BUF_INIT(MAX), without = OSM_BUF_INIT(MAX);
        struct osm_err err = {0};
        state_of_random = seed + i;
        json_t *in = message_of(type, 3);
        if (osm_proto_encode_json(in, type, OSM_PROTO_RULES_IGNORED, &without, NULL, NULL, &err))
            fail_with("is not encoded", type->name, seed, in, NULL, err.msg);
        int rc = osm_proto_encode_json(in, type, OSM_PROTO_RULES_HOLD, &with, NULL, NULL, &err);
        if (!rc && (with.len != without.len ||
                    (with.len && memcmp(with.data, without.data, with.len) != 0)))
            fail_with("has other bytes with the rules", type->name, seed, in, NULL, "");
        if (rc && (rc != OSM_EINVAL || with.len))
            fail_with("is refused for another reason", type->name, seed, in, NULL, err.msg);
        held += !rc;
        broken += rc != 0;
        json_decref(in);
        osm_buf_clear(&with);
        osm_buf_clear(&without);
    }
    assert_true(held > 300 && broken > 100);
}

static int no_allocation_is_left(void **state)
{
    (void)state;
    return osm_mem_live() ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_of_every_type_come_back),
        cmocka_unit_test(test_rules_never_change_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, no_allocation_is_left);
}
