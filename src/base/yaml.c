/* The reader: libyaml's events to json values. One recursive descent per document; every node is
 * counted, and an alias is a copy that counts as many nodes as it stands for, so that no small text
 * becomes a large value. */
#include "base/yaml.h"

#include "base/map.h"
#include "base/yaml_priv.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

struct anchor {
    json_t *value; /* one reference */
    size_t nodes;
    int depth;
};

struct reader {
    yaml_parser_t parser;
    struct osm_map anchors; /* name -> struct anchor *, of the current document */
    size_t nodes;           /* built so far, in all documents */
    struct osm_yaml_doc *doc;
    struct osm_yaml_place *place;
    struct osm_err *err;
    const char *text;
    size_t len;
};

/* A node as its reader hands it up. */
struct node {
    json_t *value; /* one reference */
    int depth;     /* 1 for a scalar */
    bool merge_key;
};

__attribute__((format(printf, 5, 6))) static int fail_at(struct reader *r, int code, size_t line,
                                                         size_t column, const char *fmt, ...)
{
    char what[320];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    if (r->place)
        *r->place = (struct osm_yaml_place){(int)line + 1, (int)column + 1};
    return osm_fail(r->err, code, "%zu:%zu: %s", line + 1, column + 1, what);
}

#define FAIL(r, code, mark, ...) fail_at((r), (code), (mark).line, (mark).column, __VA_ARGS__)

static int no_memory(struct reader *r)
{
    return osm_fail(r->err, OSM_ENOMEM, "reading YAML: %s", osm_code_text(OSM_ENOMEM));
}

static int fail_parser(struct reader *r)
{
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR)
        return no_memory(r);
    const char *problem = p->problem ? p->problem : "malformed";
    if (p->error != YAML_READER_ERROR) {
        const char *context = p->context ? p->context : "";
        return FAIL(r, OSM_EPARSE, p->problem_mark, "%s%s%s", context, *context ? ": " : "",
                    problem);
    }
    /* The reader knows only a byte offset. */
    size_t line = 0, column = 0;
    for (size_t i = 0; i < p->problem_offset && i < r->len; i++) {
        bool newline = r->text[i] == '\n';
        line += newline;
        column = newline ? 0 : column + ((r->text[i] & 0xc0) != 0x80);
    }
    return fail_at(r, OSM_EPARSE, line, column, "%s (the text must be UTF-8)", problem);
}

static int next_event(struct reader *r, yaml_event_t *event)
{
    memset(event, 0, sizeof *event);
    return yaml_parser_parse(&r->parser, event) ? 0 : fail_parser(r);
}

static int count_nodes(struct reader *r, size_t n, yaml_mark_t mark)
{
    if (n > OSM_YAML_NODES_MAX - r->nodes)
        return FAIL(r, OSM_ELIMIT, mark, "more than %d values, aliases expanded",
                    OSM_YAML_NODES_MAX);
    r->nodes += n;
    return 0;
}

static int keep_anchor(struct reader *r, const yaml_char_t *name, const struct node *node,
                       size_t nodes)
{
    if (!name)
        return 0;
    struct anchor *anchor = osm_alloc(sizeof *anchor);
    void *old = NULL;
    if (!anchor || osm_map_put(&r->anchors, (const char *)name, anchor, &old)) {
        osm_free(anchor);
        return no_memory(r);
    }
    *anchor = (struct anchor){json_incref(node->value), nodes, node->depth};
    if (old) {
        json_decref(((struct anchor *)old)->value);
        osm_free(old);
    }
    return 0;
}

static void drop_anchors(struct reader *r)
{
    osm_map_each (&r->anchors, e) {
        struct anchor *anchor = e->value;
        json_decref(anchor->value);
        osm_free(anchor);
    }
    osm_map_clear(&r->anchors);
}

static int read_alias(struct reader *r, const yaml_event_t *event, int depth, struct node *out)
{
    const char *name = (const char *)event->data.alias.anchor;
    const struct anchor *anchor = osm_map_get(&r->anchors, name);
    if (!anchor)
        return FAIL(r, OSM_EPARSE, event->start_mark,
                    "alias *%.100s: no anchor of this name ends before it", name);
    if (depth + anchor->depth - 1 > OSM_YAML_DEPTH_MAX)
        return FAIL(r, OSM_ELIMIT, event->start_mark, "nested deeper than %d", OSM_YAML_DEPTH_MAX);
    int rc = count_nodes(r, anchor->nodes, event->start_mark);
    if (rc)
        return rc;
    json_t *copy = json_deep_copy(anchor->value);
    if (!copy)
        return no_memory(r);
    *out = (struct node){copy, anchor->depth, false};
    return 0;
}

static json_t *json_of(const struct osm__yaml_scalar *scalar)
{
    switch (scalar->type) {
    case OSM__YAML_NULL:
        return json_null();
    case OSM__YAML_BOOL:
        return json_boolean(scalar->value.b);
    case OSM__YAML_INT:
        return json_integer(scalar->value.i);
    default:
        return json_real(scalar->value.r);
    }
}

/* What the tag asks for: OSM__YAML_MERGE stands for "any", a plain scalar's own type. */
static int wanted_type(struct reader *r, const yaml_event_t *event, enum osm__yaml_type *out)
{
    static const struct {
        const char *tag;
        enum osm__yaml_type type;
    } tags[] = {
        {"!", OSM__YAML_STRING},         {YAML_STR_TAG, OSM__YAML_STRING},
        {YAML_INT_TAG, OSM__YAML_INT},   {YAML_BOOL_TAG, OSM__YAML_BOOL},
        {YAML_NULL_TAG, OSM__YAML_NULL}, {YAML_FLOAT_TAG, OSM__YAML_REAL},
    };
    const char *tag = (const char *)event->data.scalar.tag;
    if (!tag) {
        bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
        *out = plain ? OSM__YAML_MERGE : OSM__YAML_STRING;
        return 0;
    }
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++)
        if (!strcmp(tag, tags[i].tag)) {
            *out = tags[i].type;
            return 0;
        }
    return FAIL(r, OSM_EPARSE, event->start_mark, "tag %.100s is not supported", tag);
}

static int read_scalar(struct reader *r, const yaml_event_t *event, struct node *out)
{
    const char *text = (const char *)event->data.scalar.value;
    size_t len = event->data.scalar.length;
    enum osm__yaml_type wanted = OSM__YAML_STRING;
    int rc = wanted_type(r, event, &wanted);
    if (rc)
        return rc;
    if (memchr(text, '\0', len))
        return FAIL(r, OSM_EPARSE, event->start_mark, "a string holds a NUL character");

    struct osm__yaml_scalar scalar = {.type = OSM__YAML_STRING};
    if (wanted != OSM__YAML_STRING)
        scalar = osm__yaml_resolve(text, len);
    if (scalar.type == OSM__YAML_INT_RANGE)
        return FAIL(r, OSM_EPARSE, event->start_mark,
                    "integer %.60s does not fit 64 bits; quote it if it is text", text);
    if (scalar.type == OSM__YAML_NOT_FINITE)
        return FAIL(r, OSM_EPARSE, event->start_mark,
                    "%.60s is no finite number; quote it if it is text", text);
    if (wanted == OSM__YAML_REAL && scalar.type == OSM__YAML_INT)
        scalar =
            (struct osm__yaml_scalar){.type = OSM__YAML_REAL, .value.r = (double)scalar.value.i};
    if (wanted != OSM__YAML_STRING && wanted != OSM__YAML_MERGE && wanted != scalar.type)
        return FAIL(r, OSM_EPARSE, event->start_mark, "\"%.60s\" does not suit the tag %s", text,
                    (const char *)event->data.scalar.tag);

    bool text_like = scalar.type == OSM__YAML_STRING || scalar.type == OSM__YAML_MERGE;
    json_t *value = text_like ? json_stringn(text, len) : json_of(&scalar);
    if (!value)
        return no_memory(r);
    *out = (struct node){value, 1, scalar.type == OSM__YAML_MERGE};
    return 0;
}

static int read_node(struct reader *r, const yaml_event_t *event, int depth, struct node *out);

static int add_item_line(struct reader *r, size_t line)
{
    size_t n = r->doc->item_lines_len;
    if (!(n & (n - 1))) { /* full at every power of two */
        int *lines = osm_realloc_array(r->doc->item_lines, n ? n * 2 : 1, sizeof *lines);
        if (!lines)
            return no_memory(r);
        r->doc->item_lines = lines;
    }
    r->doc->item_lines[r->doc->item_lines_len++] = (int)line + 1;
    return 0;
}

static int check_collection_tag(struct reader *r, const yaml_event_t *event, const yaml_char_t *tag,
                                const char *own)
{
    if (tag && strcmp((const char *)tag, own) && strcmp((const char *)tag, "!"))
        return FAIL(r, OSM_EPARSE, event->start_mark, "tag %.100s is not supported",
                    (const char *)tag);
    return 0;
}

static int read_sequence(struct reader *r, const yaml_event_t *start, int depth, bool is_items,
                         struct node *out)
{
    json_t *list = json_array();
    int deepest = 0;
    int rc = list ? check_collection_tag(r, start, start->data.sequence_start.tag, YAML_SEQ_TAG)
                  : no_memory(r);
    while (!rc) {
        yaml_event_t event;
        struct node item = {0};
        rc = next_event(r, &event);
        if (rc)
            break;
        bool end = event.type == YAML_SEQUENCE_END_EVENT;
        size_t line = event.start_mark.line;
        if (!end)
            rc = read_node(r, &event, depth + 1, &item);
        yaml_event_delete(&event);
        if (end)
            break;
        if (!rc && is_items)
            rc = add_item_line(r, line);
        if (!rc && json_array_append_new(list, osm_take_ptr(&item.value)))
            rc = no_memory(r);
        json_decref(item.value);
        deepest = item.depth > deepest ? item.depth : deepest;
    }
    if (rc)
        json_decref(list);
    else
        *out = (struct node){list, deepest + 1, false};
    return rc;
}

/* The text of a key. Numbers and booleans become their text, as kubectl does; *merge is set for a
 * plain "<<". */
static int read_key(struct reader *r, const yaml_event_t *event, int depth, char **out, bool *merge)
{
    struct node key = {0};
    if (event->type != YAML_SCALAR_EVENT && event->type != YAML_ALIAS_EVENT)
        return FAIL(r, OSM_EPARSE, event->start_mark, "a key must be a string");
    int rc = read_node(r, event, depth, &key);
    if (rc)
        return rc;
    if (!key.value)
        return FAIL(r, OSM_EPARSE, event->start_mark, "a key must be a string");
    *merge = key.merge_key;
    switch (json_typeof(key.value)) {
    case JSON_STRING:
        *out = osm_strdup(json_string_value(key.value));
        break;
    case JSON_INTEGER:
        *out = osm_strf("%lld", (long long)json_integer_value(key.value));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = osm_strdup(json_is_true(key.value) ? "true" : "false");
        break;
    default:
        rc = FAIL(r, OSM_EPARSE, event->start_mark, "a key must be a string");
    }
    if (!rc && !*out)
        rc = no_memory(r);
    json_decref(key.value);
    return rc;
}

/* Keys of merged maps count only where the map has none of its own; of several sources the first
 * wins. */
static int merge_into(struct reader *r, json_t *map, json_t *source, yaml_mark_t mark)
{
    if (json_is_array(source)) {
        size_t i;
        json_t *each;
        int rc = 0;
        json_array_foreach (source, i, each) {
            if (!rc && !json_is_object(each))
                rc = FAIL(r, OSM_EPARSE, mark, "<< needs a map or a list of maps");
            if (!rc)
                rc = merge_into(r, map, each, mark);
        }
        return rc;
    }
    if (!json_is_object(source))
        return FAIL(r, OSM_EPARSE, mark, "<< needs a map or a list of maps");
    return json_object_update_missing(map, source) ? no_memory(r) : 0;
}

static int read_pair(struct reader *r, const yaml_event_t *first, int depth, json_t *map,
                     json_t **merged, int *deepest)
{
    char *key = NULL;
    bool merge = false, have_event = false;
    struct node value = {0};
    yaml_event_t event;
    int rc = read_key(r, first, depth + 1, &key, &merge);
    if (!rc && !merge && json_object_get(map, key))
        rc = FAIL(r, OSM_EPARSE, first->start_mark, "key \"%.100s\" appears twice", key);
    if (!rc && merge && *merged)
        rc = FAIL(r, OSM_EPARSE, first->start_mark, "key << appears twice");
    if (rc)
        goto out;
    rc = next_event(r, &event);
    if (rc)
        goto out;
    have_event = true;
    if (depth == 1 && event.type == YAML_SEQUENCE_START_EVENT && !strcmp(key, "items")) {
        size_t before = r->nodes;
        rc = count_nodes(r, 1, event.start_mark);
        if (!rc)
            rc = read_sequence(r, &event, depth + 1, true, &value);
        if (!rc)
            rc = keep_anchor(r, event.data.sequence_start.anchor, &value, r->nodes - before);
    } else {
        rc = read_node(r, &event, depth + 1, &value);
    }
    if (rc)
        goto out;
    *deepest = value.depth > *deepest ? value.depth : *deepest;
    if (merge)
        *merged = osm_take_ptr(&value.value);
    else if (json_object_set_new(map, key, osm_take_ptr(&value.value)))
        rc = no_memory(r);
out:
    if (have_event)
        yaml_event_delete(&event);
    json_decref(value.value);
    osm_free(key);
    return rc;
}

static int read_mapping(struct reader *r, const yaml_event_t *start, int depth, struct node *out)
{
    json_t *map = json_object(), *merged = NULL;
    int deepest = 0;
    int rc = map ? check_collection_tag(r, start, start->data.mapping_start.tag, YAML_MAP_TAG)
                 : no_memory(r);
    while (!rc) {
        yaml_event_t event;
        rc = next_event(r, &event);
        if (rc)
            break;
        bool end = event.type == YAML_MAPPING_END_EVENT;
        if (!end)
            rc = read_pair(r, &event, depth, map, &merged, &deepest);
        yaml_event_delete(&event);
        if (end)
            break;
    }
    if (!rc && merged)
        rc = merge_into(r, map, merged, start->start_mark);
    json_decref(merged);
    if (rc)
        json_decref(map);
    else
        *out = (struct node){map, deepest + 1, false};
    return rc;
}

/* Reads the node that @p event begins; depth is its own, from 1. */
static int read_node(struct reader *r, const yaml_event_t *event, int depth, struct node *out)
{
    size_t before = r->nodes;
    const yaml_char_t *anchor = NULL;
    if (depth > OSM_YAML_DEPTH_MAX)
        return FAIL(r, OSM_ELIMIT, event->start_mark, "nested deeper than %d", OSM_YAML_DEPTH_MAX);
    if (event->type == YAML_ALIAS_EVENT)
        return read_alias(r, event, depth, out);
    int rc = count_nodes(r, 1, event->start_mark);
    if (rc)
        return rc;
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        rc = read_scalar(r, event, out);
        anchor = event->data.scalar.anchor;
        break;
    case YAML_SEQUENCE_START_EVENT:
        rc = read_sequence(r, event, depth, false, out);
        anchor = event->data.sequence_start.anchor;
        break;
    case YAML_MAPPING_START_EVENT:
        rc = read_mapping(r, event, depth, out);
        anchor = event->data.mapping_start.anchor;
        break;
    default:
        return FAIL(r, OSM_EPARSE, event->start_mark, "a value was expected");
    }
    if (!rc) {
        rc = keep_anchor(r, anchor, out, r->nodes - before);
        if (rc)
            json_decref(osm_take_ptr(&out->value));
    }
    return rc;
}

/* Takes the document's value and lines where it succeeds. */
static int add_document(struct reader *r, struct osm_yaml_docs *docs, struct osm_yaml_doc *doc)
{
    size_t n = docs->len;
    if (n >= OSM_YAML_DOCS_MAX)
        return fail_at(r, OSM_ELIMIT, (size_t)doc->line - 1, 0,
                       "more than %d documents in one file; split it into several",
                       OSM_YAML_DOCS_MAX);
    if (!(n & (n - 1))) { /* full at every power of two */
        struct osm_yaml_doc *list = osm_realloc_array(docs->list, n ? n * 2 : 1, sizeof *list);
        if (!list)
            return no_memory(r);
        docs->list = list;
    }
    docs->list[docs->len++] = *doc;
    *doc = (struct osm_yaml_doc){0};
    return 0;
}

/* Reads the body of a document whose start event is past; adds it to @p docs unless it is null. */
static int read_document(struct reader *r, struct osm_yaml_docs *docs)
{
    struct osm_yaml_doc doc = {0};
    struct node root = {0};
    yaml_event_t event;
    int rc = next_event(r, &event);
    if (rc)
        return rc;
    r->doc = &doc;
    doc.line = (int)event.start_mark.line + 1;
    rc = read_node(r, &event, 1, &root);
    yaml_event_delete(&event);
    drop_anchors(r);
    r->doc = NULL;
    if (!rc) {
        rc = next_event(r, &event); /* the document's end */
        if (!rc)
            yaml_event_delete(&event);
    }
    if (!rc && !json_is_null(root.value)) {
        doc.value = osm_take_ptr(&root.value);
        rc = add_document(r, docs, &doc);
    }
    json_decref(root.value);
    json_decref(doc.value);
    osm_free(doc.item_lines);
    return rc;
}

static int measure(const json_t *value, int depth, size_t *nodes)
{
    int rc = depth > OSM_YAML_DEPTH_MAX || ++*nodes > OSM_YAML_NODES_MAX ? OSM_ELIMIT : 0;
    const char *key;
    json_t *each;
    size_t i;
    if (json_is_object(value)) {
        json_object_foreach ((json_t *)value, key, each) {
            if (!rc)
                rc = measure(each, depth + 1, nodes);
        }
    } else if (json_is_array(value)) {
        json_array_foreach (value, i, each) {
            if (!rc)
                rc = measure(each, depth + 1, nodes);
        }
    }
    return rc;
}

/* JSON allows a few things that YAML 1.1 does not (escaped surrogate pairs, keys over 1024 bytes).
 * Returns whether the text is one JSON value within our limits; then it is the only document,
 * without the lines of its items. */
static bool read_as_json(const char *text, size_t len, struct osm_yaml_docs *docs)
{
    size_t start = 0, nodes = 0;
    int line = 1;
    for (; start < len && strchr(" \t\r\n", text[start]) && text[start]; start++)
        line += text[start] == '\n';
    if (start == len || (text[start] != '{' && text[start] != '['))
        return false;
    json_t *value = json_loadb(text + start, len - start, JSON_REJECT_DUPLICATES, NULL);
    struct osm_yaml_doc *list =
        value && !measure(value, 1, &nodes) ? osm_alloc(sizeof *list) : NULL;
    if (!list) {
        json_decref(value);
        return false;
    }
    *list = (struct osm_yaml_doc){value, line, NULL, 0};
    *docs = (struct osm_yaml_docs){list, 1};
    return true;
}

int osm_yaml_parse(const char *text, size_t len, struct osm_yaml_docs *out,
                   struct osm_yaml_place *place, struct osm_err *err)
{
    struct osm_err problem = {0};
    struct reader r = {.place = place, .err = &problem, .len = len};
    struct osm_yaml_docs docs = {NULL, 0};
    bool more = true;
    int rc = 0;
    if (place)
        *place = (struct osm_yaml_place){0, 0};
    if (!text)
        text = "";
    r.text = text;
    if (len > OSM_YAML_BYTES_MAX)
        return osm_fail(err, OSM_ELIMIT, "%zu bytes; at most %d are read", len, OSM_YAML_BYTES_MAX);
    if (!yaml_parser_initialize(&r.parser))
        return osm_fail(err, OSM_ENOMEM, "reading YAML: %s", osm_code_text(OSM_ENOMEM));
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
    while (!rc && more) {
        yaml_event_t event;
        rc = next_event(&r, &event);
        if (rc)
            break;
        bool starts = event.type == YAML_DOCUMENT_START_EVENT;
        more = event.type != YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
        if (starts)
            rc = read_document(&r, &docs);
    }
    drop_anchors(&r);
    yaml_parser_delete(&r.parser);
    if (rc) {
        osm_yaml_docs_clear(&docs);
        if (rc == OSM_EPARSE && read_as_json(text, len, &docs)) {
            if (place)
                *place = (struct osm_yaml_place){0, 0};
            rc = 0;
        }
    }
    if (rc)
        return osm_fail(err, rc, "%s", problem.msg);
    *out = docs;
    return 0;
}

void osm_yaml_docs_clear(struct osm_yaml_docs *docs)
{
    for (size_t i = 0; i < docs->len; i++) {
        json_decref(docs->list[i].value);
        osm_free(docs->list[i].item_lines);
    }
    osm_free(docs->list);
    *docs = (struct osm_yaml_docs){NULL, 0};
}
