/* What a bundle must not open unseen: each way by which somebody could be let in is told. */
#include "reload/doors.h"

#include "base/mem.h"
#include "policy/encode/proto.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { BODY_MAX_BYTES = 65536 };

#define NET_RBAC  "'@type':'envoy.extensions.filters.network.rbac.v3.RBAC','stat_prefix':'n'"
#define WHO(name) "{'authenticated':{'principal_name':{'exact':'" name "'}}}"
#define POLICY(permissions, principals)                                                            \
    "{'permissions':[" permissions "],'principals':[" principals "]}"
#define L4(action, policy)                                                                         \
    "{'name':'l4_rbac','typed_config':{" NET_RBAC ",'rules':{'action':'" action                    \
    "','policies':{'p':" policy "}}}}"
#define ALLOW(principals) L4("ALLOW", POLICY("{'any':true}", principals))
#define HTTP_RBAC                                                                                  \
    "{'name':'rbac','typed_config':{'@type':'envoy.extensions.filters.http.rbac.v3.RBAC'}}"
#define AUTHZ(more)                                                                                \
    "{'name':'authz','typed_config':{'@type':'envoy.extensions.filters.http.ext_authz.v3."         \
    "ExtAuthz'" more "}}"
#define ROUTER                                                                                     \
    "{'name':'router','typed_config':{'@type':'envoy.extensions.filters.http.router.v3.Router'}}"
#define ROUTES(name) "'rds':{'route_config_name':'" name "'}"
#define HTTP(routes, filters)                                                                      \
    "{'name':'http','typed_config':{'@type':'envoy.extensions.filters.network.http_connection_"    \
    "manager.v3.HttpConnectionManager','stat_prefix':'h'," routes                                  \
    ",'http_filters':[" filters ROUTER "]}}"
#define TCP                                                                                        \
    "{'name':'tcp','typed_config':{'@type':'envoy.extensions.filters.network.tcp_proxy.v3."        \
    "TcpProxy','stat_prefix':'t','cluster':'c'}}"
#define MATCH(port) "'filter_chain_match':{'destination_port':" port "}"
#define CERTIFICATE(require, validation)                                                           \
    "'transport_socket':{'name':'tls','typed_config':{'@type':'envoy.extensions.transport_"        \
    "sockets.tls.v3.DownstreamTlsContext','require_client_certificate':" require                   \
    ",'common_tls_context':{" validation "}}}"
#define ROOTS(name) "'validation_context_sds_secret_config':{'name':'" name "'}"
#define TLS         CERTIFICATE("true", ROOTS("roots"))
#define CHAIN(name, match, socket, filters)                                                        \
    "{'name':'" name "'," match "," socket ",'filters':[" filters "]}"
#define LISTENER(more, chains)                                                                     \
    "{'name':'l','traffic_direction':'INBOUND'" more ",'filter_chains':[" chains "]}"
/* One chain with these filters. */
#define ONE(filters) LISTENER("", CHAIN("in", MATCH("80"), TLS, filters))

static struct osm_resource *resource(enum osm_xds_type type, const char *text)
{
    struct osm_buf out = OSM_BUF_INIT(BODY_MAX_BYTES);
    struct osm_err err = {0};
    json_error_t where;
    char json[BODY_MAX_BYTES];
    (void)snprintf(json, sizeof json, "%s", text);
    for (char *at = json; *at; at++)
        *at = *at == '\'' ? '"' : *at;
    json_t *message = json_loads(json, 0, &where);
    if (!message)
        fail_msg("%s: %s", where.text, json);
    if (osm_proto_encode_json(message, osm_proto_find(osm_xds_type_message(type)),
                              OSM_PROTO_RULES_IGNORED, &out, NULL, NULL, &err))
        fail_msg("%s: %s", err.msg, json);
    json_decref(message);
    struct osm_resource *r = osm_resource_new("r", osm_bytes_new(out.data, out.len));
    osm_buf_clear(&out);
    assert_non_null(r);
    return r;
}

struct told {
    char text[1024];
};

static int take(void *ud, const char *who, const char *door)
{
    struct told *told = ud;
    size_t len = strlen(told->text);
    (void)snprintf(told->text + len, sizeof told->text - len, "%s%s -> %s", len ? "; " : "", who,
                   door);
    return 0;
}

static int compare(enum osm_xds_type type, const struct osm_resource *before,
                   const struct osm_resource *after, struct told *told)
{
    struct osm_err err = {0};
    *told = (struct told){""};
    return type == OSM_XDS_LDS ? osm_doors_of_listener(before, after, take, told, &err)
                               : osm_doors_of_routes(before, after, take, told, &err);
}

struct change {
    const char *before, *after; /* NULL: there was none */
    const char *told;
};

static void expect(enum osm_xds_type type, const struct change *changes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        struct osm_resource *before = changes[i].before ? resource(type, changes[i].before) : NULL;
        struct osm_resource *after = resource(type, changes[i].after);
        struct told told;
        assert_int_equal(compare(type, before, after, &told), 0);
        if (strcmp(told.text, changes[i].told) != 0)
            fail_msg("change %zu: told \"%s\", expected \"%s\"", i, told.text, changes[i].told);
        osm_resource_unref(before);
        osm_resource_unref(after);
    }
}
#define EXPECT(type, changes) expect(type, changes, sizeof(changes) / sizeof *(changes))

static void test_connections(void **state)
{
    (void)state;
    static const struct change changes[] = {
        {ONE(ALLOW(WHO("a"))), ONE(ALLOW(WHO("a"))), ""},
        {ONE(ALLOW(WHO("a") "," WHO("b"))), ONE(ALLOW(WHO("b"))), ""},
        {ONE(ALLOW(WHO("a"))), ONE(ALLOW(WHO("a") "," WHO("b"))), "b -> chain \"in\""},
        {ONE(ALLOW(WHO("a"))), ONE(TCP), "anybody -> chain \"in\""},
        {ONE(TCP), ONE(ALLOW(WHO("a"))), ""},
        {ONE(ALLOW(WHO("a"))), ONE(ALLOW("{'any':true}")), "anybody -> chain \"in\""},
        {ONE(ALLOW(WHO("a"))), ONE(ALLOW("{'authenticated':{}}")), "anybody -> chain \"in\""},
        {ONE(ALLOW(WHO("a"))), ONE(ALLOW("{'not_id':" WHO("a") "}")),
         "{\"not_id\":{\"authenticated\":{\"principal_name\":{\"exact\":\"a\"}}}} -> chain "
         "\"in\""},
        {ONE(ALLOW("{'not_id':" WHO("a") "}")), ONE(ALLOW("{'not_id':" WHO("a") "}," WHO("a"))),
         "a -> chain \"in\""},
        /* only logged any more */
        {ONE(ALLOW(WHO("a"))), ONE(L4("LOG", POLICY("{'any':true}", WHO("a")))),
         "anybody -> chain \"in\""},
        /* two filters let in who passes both */
        {ONE(ALLOW(WHO("a") "," WHO("b")) "," ALLOW(WHO("a"))), ONE(ALLOW(WHO("a") "," WHO("b"))),
         "b -> chain \"in\""},
        {ONE(ALLOW(WHO("a"))), ONE(ALLOW(WHO("a") "," WHO("b")) "," ALLOW(WHO("a"))), ""},
        /* denied by name: by a filter that stays, that comes, that goes */
        {ONE(L4("DENY", POLICY("{'any':true}", WHO("b")))),
         ONE(L4("DENY", POLICY("{'any':true}", WHO("b")))), ""},
        {ONE(ALLOW(WHO("a"))),
         ONE(L4("DENY", POLICY("{'any':true}", WHO("b"))) "," ALLOW(WHO("a"))), ""},
        {ONE(L4("DENY", POLICY("{'any':true}", WHO("b"))) "," ALLOW(WHO("a") "," WHO("b"))),
         ONE(ALLOW(WHO("a") "," WHO("b"))), "b -> chain \"in\""},
        {ONE(L4("DENY", POLICY("{'any':true}", WHO("b")))),
         ONE(L4("DENY", POLICY("{'destination_port':81}", WHO("b")))), "b -> chain \"in\""},
        /* what is for other ports lets nobody in here */
        {ONE(L4("ALLOW", POLICY("{'destination_port':81}", WHO("b")))), ONE(ALLOW(WHO("b"))),
         "b -> chain \"in\""},
        {ONE(L4("ALLOW", POLICY("{'destination_port':80}", WHO("b")))), ONE(ALLOW(WHO("b"))), ""},
        {ONE(ALLOW(WHO("a"))),
         ONE(L4("ALLOW", POLICY("{'destination_port':81}", WHO("b"))) "," ALLOW(WHO("a"))), ""},
    };
    EXPECT(OSM_XDS_LDS, changes);
}

static void test_chains(void **state)
{
    (void)state;
    static const struct change changes[] = {
        /* it takes other connections */
        {ONE(ALLOW(WHO("a"))), LISTENER("", CHAIN("in", MATCH("81"), TLS, ALLOW(WHO("a")))),
         "a -> chain \"in\""},
        /* a second one of the same name */
        {ONE(ALLOW(WHO("a"))),
         LISTENER("", CHAIN("in", MATCH("80"), TLS, ALLOW(WHO("a"))) "," CHAIN("in", MATCH("81"),
                                                                               TLS, TCP)),
         "anybody -> chain \"in\""},
        {ONE(ALLOW(WHO("a"))),
         LISTENER("", CHAIN("in", MATCH("81"), TLS, TCP) "," CHAIN("in", MATCH("80"), TLS,
                                                                   ALLOW(WHO("a")))),
         "anybody -> chain \"in\""},
        /* what no chain takes */
        {ONE(ALLOW(WHO("a"))),
         LISTENER(",'default_filter_chain':{'filters':[" TCP "]}",
                  CHAIN("in", MATCH("80"), TLS, ALLOW(WHO("a")))),
         "anybody -> chain \"of all the rest\""},
        /* without a certificate, or of whomever */
        {ONE(ALLOW(WHO("a"))),
         LISTENER("",
                  CHAIN("in", MATCH("80"), CERTIFICATE("false", ROOTS("roots")), ALLOW(WHO("a")))),
         "whoever has no certificate of the mesh -> chain \"in\""},
        {ONE(ALLOW(WHO("a"))),
         LISTENER("",
                  CHAIN("in", MATCH("80"), CERTIFICATE("true", ROOTS("others")), ALLOW(WHO("a")))),
         "whoever has no certificate of the mesh -> chain \"in\""},
        {ONE(ALLOW(WHO("a"))),
         LISTENER("", CHAIN("in", MATCH("80"), CERTIFICATE("true", ""), ALLOW(WHO("a")))),
         "whoever has no certificate of the mesh -> chain \"in\""},
        /* a new one */
        {NULL, ONE(ALLOW(WHO("a"))), "a -> chain \"in\""},
        {NULL, LISTENER("", CHAIN("in", MATCH("80"), CERTIFICATE("true", ""), ALLOW(WHO("a")))),
         "a -> chain \"in\"; whoever has no certificate of the mesh -> chain \"in\""},
        {NULL, "{'name':'l','filter_chains':[" CHAIN("in", MATCH("80"), TLS, TCP) "]}",
         "anybody -> chain \"in\""},
        {NULL,
         "{'name':'l','traffic_direction':'OUTBOUND','filter_chains':[" CHAIN("out", MATCH("80"),
                                                                              TLS, TCP) "]}",
         ""},
        /* looked at no more the next time, so it is told the first time */
        {ONE(ALLOW(WHO("a"))),
         "{'name':'l','traffic_direction':'OUTBOUND','filter_chains':[" CHAIN("in", MATCH("80"),
                                                                              TLS, TCP) "]}",
         "anybody -> listener \"r\"; anybody -> chain \"in\""},
        {ONE(ALLOW(WHO("a"))),
         LISTENER(",'address':{'socket_address':{'address':'0.0.0.0','port_value':9}}",
                  CHAIN("in", MATCH("80"), TLS, ALLOW(WHO("a")))),
         "anybody -> listener \"r\""},
        /* what opens nothing */
        {ONE(ALLOW(WHO("a"))),
         LISTENER(",'stat_prefix':'x'", CHAIN("in", MATCH("80"), TLS, ALLOW(WHO("a")) "," TCP)),
         ""},
        {ONE(ALLOW(WHO("a"))), LISTENER("", ""), ""},
    };
    EXPECT(OSM_XDS_LDS, changes);
}

static void test_what_requests_pass(void **state)
{
    (void)state;
    static const struct change changes[] = {
        {ONE(HTTP(ROUTES("t"), HTTP_RBAC ",")), ONE(HTTP(ROUTES("t"), HTTP_RBAC ",")), ""},
        {ONE(HTTP(ROUTES("t"), HTTP_RBAC ",")), ONE(HTTP(ROUTES("t"), "")),
         "whom virtual hosts turn away by \"rbac\" -> chain \"in\"; whom its route table turns "
         "away "
         "-> chain \"in\""},
        {ONE(HTTP(ROUTES("t"), HTTP_RBAC ",")), ONE(HTTP(ROUTES("u"), HTTP_RBAC ",")),
         "whom its route table turns away -> chain \"in\""},
        {ONE(HTTP(ROUTES("t"), HTTP_RBAC ",")),
         ONE(HTTP("'route_config':{'virtual_hosts':[{'name':'v','domains':['*']}]}",
                  HTTP_RBAC ",")),
         "whom its route table turns away -> chain \"in\""},
        {ONE(ALLOW(WHO("a")) "," HTTP(ROUTES("t"), HTTP_RBAC ",")), ONE(ALLOW(WHO("a")) "," TCP),
         "whom virtual hosts turn away by \"rbac\" -> chain \"in\"; whom its route table turns "
         "away "
         "-> chain \"in\""},
        {ONE(HTTP(ROUTES("t"), AUTHZ("") ",")), ONE(HTTP(ROUTES("t"), "")),
         "whom filter \"authz\" turns away -> chain \"in\""},
        {ONE(HTTP(ROUTES("t"), AUTHZ("") ",")),
         ONE(HTTP(ROUTES("t"), AUTHZ(",'failure_mode_allow':true") ",")),
         "whom filter \"authz\" turns away -> chain \"in\""},
        {ONE(HTTP(ROUTES("t"), "")), ONE(HTTP(ROUTES("t"), AUTHZ("") ",")), ""},
        {ONE(HTTP(ROUTES("t"), "")), ONE(HTTP(ROUTES("u"), "")), ""},
    };
    EXPECT(OSM_XDS_LDS, changes);
}

#define OVERRIDE(rules)                                                                            \
    "'typed_per_filter_config':{'rbac':{'@type':'envoy.extensions.filters.http.rbac.v3."           \
    "RBACPerRoute','rbac':{" rules "}}}"
#define RULES(permission, who)                                                                     \
    "'rules':{'action':'ALLOW','policies':{'p':" POLICY(permission, who) "}}"
#define HOST(name, domain, routes, more)                                                           \
    "{'name':'" name "','domains':['" domain "'],'routes':[" routes "]" more "}"
#define ROUTE(more)       "{'match':{'prefix':'/'},'route':{'cluster':'c'}" more "}"
#define TABLE(more, host) "{'name':'t','virtual_hosts':[" host "]" more "}"
#define HOST_OF(who)      HOST("h", "d", ROUTE(""), "," OVERRIDE(RULES("{'any':true}", who)))

static void test_virtual_hosts(void **state)
{
    (void)state;
    static const struct change changes[] = {
        {TABLE("", HOST_OF(WHO("a"))), TABLE("", HOST_OF(WHO("a") "," WHO("b"))),
         "b -> virtual host \"h\""},
        {TABLE("", HOST_OF(WHO("a") "," WHO("b"))), TABLE("", HOST_OF(WHO("a"))), ""},
        /* the rules are gone, or ask nothing */
        {TABLE("", HOST_OF(WHO("a"))), TABLE("", HOST("h", "d", ROUTE(""), "")),
         "anybody -> virtual host \"h\""},
        {TABLE("", HOST_OF(WHO("a"))), TABLE("", HOST("h", "d", ROUTE(""), "," OVERRIDE(""))),
         "anybody -> virtual host \"h\""},
        {TABLE("", HOST("h", "d", ROUTE(""), "")), TABLE("", HOST_OF(WHO("a"))), ""},
        /* more requests of a caller who has some are its own */
        {TABLE("", HOST("h", "d", ROUTE(""),
                        "," OVERRIDE(RULES("{'url_path':{'path':{'exact':'/x'}}}", WHO("a"))))),
         TABLE("", HOST_OF(WHO("a"))), ""},
        /* an exception below */
        {TABLE("", HOST_OF(WHO("a"))),
         TABLE("", HOST("h", "d", ROUTE("," OVERRIDE("")),
                        "," OVERRIDE(RULES("{'any':true}", WHO("a"))))),
         "anybody -> virtual host \"h\""},
        {TABLE("", HOST_OF(WHO("a"))),
         TABLE("", HOST("h", "d",
                        "{'match':{'prefix':'/'},'route':{'weighted_clusters':{'clusters':[{'name':"
                        "'c'," OVERRIDE("") "}]}}}",
                        "," OVERRIDE(RULES("{'any':true}", WHO("a"))))),
         "anybody -> virtual host \"h\""},
        {TABLE("", HOST_OF(WHO("a"))),
         TABLE("", HOST("h", "d",
                        ROUTE(",'typed_per_filter_config':{'rbac':{'@type':'envoy.config.route.v3."
                              "FilterConfig','disabled':true}}"),
                        "," OVERRIDE(RULES("{'any':true}", WHO("a"))))),
         "whom filter \"rbac\" turns away -> virtual host \"h\""},
        {TABLE("", HOST("h", "d", ROUTE(""), "")),
         TABLE("", HOST("h", "d",
                        ROUTE(",'typed_per_filter_config':{'authz':{'@type':'envoy.extensions."
                              "filters.http.ext_authz.v3.ExtAuthzPerRoute','disabled':true}}"),
                        "")),
         "whom filter \"authz\" turns away -> virtual host \"h\""},
        {TABLE("", HOST_OF(WHO("a"))),
         TABLE(",'typed_per_filter_config':{'rbac':{'@type':'envoy.config.route.v3.FilterConfig',"
               "'disabled':true}}",
               HOST_OF(WHO("a"))),
         "whom filter \"rbac\" turns away -> route table \"r\""},
        /* other host names, another host, a table that was not there */
        {TABLE("", HOST_OF(WHO("a"))),
         TABLE("", HOST("h", "*", ROUTE(""), "," OVERRIDE(RULES("{'any':true}", WHO("a"))))),
         "a -> virtual host \"h\""},
        {TABLE("", HOST_OF(WHO("a"))),
         TABLE("", HOST_OF(WHO("a")) "," HOST("i", "*", ROUTE(""), "")),
         "anybody -> virtual host \"i\""},
        {NULL, TABLE("", HOST_OF(WHO("a"))), "a -> virtual host \"h\""},
    };
    EXPECT(OSM_XDS_RDS, changes);
}

static size_t count_of(const char *text)
{
    size_t n = 0;
    for (; (text = strstr(text, " -> ")); text++)
        n++;
    return n;
}

/* Any allocation may fail: it is an error then, never a change that is not told. (Jansson prints
 * less of a name then, without a word.) */
static void test_no_memory_is_an_error(void **state)
{
    (void)state;
    static const struct {
        enum osm_xds_type type;
        const char *before, *after;
    } changes[] = {
        {OSM_XDS_LDS,
         ONE(L4("DENY", POLICY("{'any':true}", WHO("d"))) "," ALLOW(WHO("a")) "," HTTP(
             ROUTES("t"), HTTP_RBAC "," AUTHZ("") ",")),
         LISTENER(",'default_filter_chain':{'filters':[" TCP "]}",
                  CHAIN("in", MATCH("80"), CERTIFICATE("true", ""),
                        ALLOW(WHO("a") ",{'not_id':" WHO("b") "}") "," HTTP(ROUTES("u"), "")))},
        {OSM_XDS_RDS, TABLE("", HOST_OF(WHO("a"))),
         TABLE("", HOST("h", "d", ROUTE("," OVERRIDE("")),
                        "," OVERRIDE(RULES("{'any':true}", WHO("a") "," WHO("b")))))},
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct osm_resource *before = resource(changes[i].type, changes[i].before),
                            *after = resource(changes[i].type, changes[i].after);
        struct told all, told;
        assert_int_equal(compare(changes[i].type, before, after, &all), 0);
        long live = osm_mem_live(), failures = 0;
        for (long n = 0; n < 1500; n++) {
            osm_mem_fail_at(n);
            int rc = compare(changes[i].type, before, after, &told);
            osm_mem_fail_at(-1);
            failures += rc != 0;
            if (!rc && count_of(all.text) != count_of(told.text))
                fail_msg("allocation %ld: told \"%s\", not \"%s\"", n, told.text, all.text);
            if (osm_mem_live() != live)
                fail_msg("allocation %ld: something is lost", n);
        }
        assert_true(failures > 50 && failures < 1500);
        osm_resource_unref(before);
        osm_resource_unref(after);
    }
}

int main(void)
{
    json_set_alloc_funcs(osm_alloc, osm_free);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_connections),           cmocka_unit_test(test_chains),
        cmocka_unit_test(test_what_requests_pass),    cmocka_unit_test(test_virtual_hosts),
        cmocka_unit_test(test_no_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
