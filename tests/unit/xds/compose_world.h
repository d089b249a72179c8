/* A small world for the tests of composition: items in a line, readers, and what they are served.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "xds/compose.h"

struct world {
    struct osm_compose *compose;
    struct osm_reader readers[64];
    size_t readers_len;
    struct osm_snapshot_proxy *proxies;
    size_t proxies_len;
    json_t *errors;
    int header_calls;
    bool header_fails;
    int header_version;
    int headers_live;
};

static inline int make_header(void *ud, const struct osm_item *header, const char *const *tags,
                              size_t len, struct osm_bytes **made, void **token)
{
    struct world *w = ud;
    struct osm_buf out = OSM_BUF_INIT(4096);
    w->header_calls++;
    w->headers_live++;
    *token = w;
    if (w->header_fails)
        return 0;
    (void)osm_buf_addf(&out, "%s%d[", header->header_rule, w->header_version);
    for (size_t i = 0; i < len; i++)
        (void)osm_buf_addf(&out, "%s ", tags[i]);
    (void)osm_buf_add_str(&out, "]");
    int rc = out.failed;
    *made = rc ? NULL : osm_bytes_new(out.data, out.len);
    osm_buf_clear(&out);
    return rc || *made ? rc : OSM_ENOMEM;
}

static inline void header_gone(void *ud, void *token)
{
    struct world *w = ud;
    w->headers_live -= token == w;
}

static inline void setup(struct world *w)
{
    *w = (struct world){0};
    w->compose = osm_compose_new(make_header, header_gone, w);
    assert_non_null(w->compose);
}

static inline void drop_result(struct world *w)
{
    for (size_t i = 0; i < w->proxies_len; i++) {
        osm_free((char *)(uintptr_t)w->proxies[i].key);
        osm_free((char *)(uintptr_t)w->proxies[i].pod);
        osm_free((char *)(uintptr_t)w->proxies[i].ns);
        osm_free((char *)(uintptr_t)w->proxies[i].account);
        osm_class_unref(w->proxies[i].cls);
    }
    osm_free(w->proxies);
    json_decref(w->errors);
    w->proxies = NULL;
    w->proxies_len = 0;
    w->errors = NULL;
}

static inline void teardown(struct world *w)
{
    drop_result(w);
    osm_compose_free(w->compose);
}

static inline void add_reader(struct world *w, const char *uuid, const char *pod, const char *ns,
                              const char *account, const char *const *services, size_t services_len)
{
    w->readers[w->readers_len++] =
        (struct osm_reader){uuid, pod, ns, account, services, services_len};
}

static inline void run(struct world *w)
{
    struct osm_err err = {0};
    drop_result(w);
    w->errors = json_array();
    if (osm_compose_run(w->compose, w->readers, w->readers_len, &w->proxies, w->errors, &err))
        fail_msg("%s", err.msg);
    w->proxies_len = w->readers_len;
}

static inline const char *dup(const char *text)
{
    return text ? osm_strdup(text) : NULL;
}

static const char *const *dup_list(const char *words)
{
    if (!words)
        return NULL;
    const char **list = osm_alloc_array(16, sizeof *list);
    size_t n = 0;
    for (const char *at = words; *at;) {
        size_t len = strcspn(at, " ");
        list[n++] = osm_strndup(at, len);
        at += len + (at[len] == ' ');
    }
    return list;
}

static inline struct osm_item *item(const char *key, enum osm_xds_type type,
                                    enum osm_item_part part, const char *resource,
                                    const char *element, const char *body)
{
    struct osm_item *it = osm_alloc(sizeof *it);
    it->key = dup(key);
    it->type = type;
    it->part = part;
    it->resource = dup(resource);
    it->element = dup(element);
    it->body = body ? osm_bytes_new(body, strlen(body)) : NULL;
    it->place = dup("policies/envoy/x.lua:14");
    return it;
}

/* "account=a/b service=a/c", "everyone"; several calls are ORed. */
static inline struct osm_item *for_whom(struct osm_item *it, const char *words)
{
    struct osm_term *grown = osm_realloc_array(it->audience, it->audience_len + 1, sizeof *grown);
    it->audience = grown;
    struct osm_term *t = &grown[it->audience_len++];
    *t = (struct osm_term){0};
    for (const char *at = words; *at;) {
        size_t len = strcspn(at, " "), tag = strcspn(at, "= ");
        const char **field = !strncmp(at, "pod", tag)       ? &t->pod
                             : !strncmp(at, "service", tag) ? &t->service
                             : !strncmp(at, "account", tag) ? &t->account
                                                            : &t->ns;
        if (at[tag] == '=')
            *field = osm_strndup(at + tag + 1, len - tag - 1);
        at += len + (at[len] == ' ');
    }
    return it;
}

static inline struct osm_item *with_ref(struct osm_item *it, enum osm_ref_kind kind,
                                        const char *name)
{
    struct osm_item_ref *grown = osm_realloc_array(it->refs, it->refs_len + 1, sizeof *grown);
    it->refs = grown;
    grown[it->refs_len++] = (struct osm_item_ref){(int)kind, dup(name)};
    return it;
}

static inline void put(struct world *w, struct osm_item *it)
{
    assert_int_equal(osm_compose_put(w->compose, it), 0);
}

static inline struct osm_item *cluster(const char *key, const char *name, const char *body,
                                       const char *audience)
{
    return for_whom(item(key, OSM_XDS_CDS, OSM_ITEM_WHOLE, name, NULL, body), audience);
}

static inline struct osm_item *header(const char *key, enum osm_xds_type type, const char *name,
                                      const char *body)
{
    return for_whom(item(key, type, OSM_ITEM_HEADER, name, NULL, body), "everyone");
}

static inline struct osm_item *element(const char *key, enum osm_xds_type type, const char *name,
                                       const char *el, const char *body, const char *audience)
{
    return for_whom(item(key, type, OSM_ITEM_ELEMENT, name, el, body), audience);
}

/* The bytes that proxy @p i is served, "" where nothing. */
static inline const char *served(const struct world *w, size_t i, enum osm_xds_type type,
                                 const char *name)
{
    static char text[512];
    const struct osm_resource *r = osm_class_find(w->proxies[i].cls, type, name);
    if (!r)
        return "";
    (void)snprintf(text, sizeof text, "%.*s", (int)osm_bytes_len(r->body),
                   (const char *)osm_bytes_data(r->body));
    return text;
}

static inline void expect_errors(const struct world *w, const char *const *messages, size_t len)
{
    for (size_t i = 0; i < len && i < json_array_size(w->errors); i++)
        assert_string_equal(
            json_string_value(json_object_get(json_array_get(w->errors, i), "message")),
            messages[i]);
    assert_int_equal(json_array_size(w->errors), len);
}
#define EXPECT_ERRORS(w, ...)                                                                      \
    expect_errors(w, (const char *const[]){__VA_ARGS__},                                           \
                  sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static const char *const svc_web[] = {"web"}, *const svc_both[] = {"api", "web"};

static inline void two_readers(struct world *w)
{
    add_reader(w, "u1", "p1", "blue", "shop", svc_web, 1);
    add_reader(w, "u2", "p2", "red", "caller", NULL, 0);
}
