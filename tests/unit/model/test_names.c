#include "model/names.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define UUID "0a1b2c3d-1111-4222-8333-0123456789ab"

static void accept(const char *cn, const char *td, const char *account, const char *ns)
{
    struct osm_proxy_id id;
    struct osm_err err = {0};
    if (osm_proxy_id_parse(&id, cn, td, &err))
        fail_msg("%s: %s", cn, err.msg);
    assert_string_equal(id.uuid, UUID);
    assert_string_equal(id.account, account);
    assert_string_equal(id.ns, ns);
}

/* Refused, and the message begins with the part at fault. */
static void refuse(const char *cn, const char *td, const char *part)
{
    struct osm_proxy_id id;
    struct osm_err err = {0};
    memset(&id, 'x', sizeof id);
    if (osm_proxy_id_parse(&id, cn, td, &err) != OSM_EINVAL)
        fail_msg("\"%s\" was accepted", cn);
    if (strncmp(err.msg, part, strlen(part)) != 0 || err.msg[strlen(part)] != ':')
        fail_msg("\"%s\" for %s does not blame %s", err.msg, cn, part);
    assert_int_equal(id.uuid[0], 'x'); /* written only on success */
}

static void test_parses_what_it_makes(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"bookbuyer", "bookbuyer", "cluster.local"},
        {"a.b.c", "ns-1", "cluster.local"},
        {"sidecar", "sidecar", "local"},
        {"sidecar.sidecar", "a", "a.b.c.d"},
        {"0", "1", "2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct osm_proxy_id id = {.uuid = UUID}, back;
        (void)snprintf(id.account, sizeof id.account, "%s", cases[i][0]);
        (void)snprintf(id.ns, sizeof id.ns, "%s", cases[i][1]);
        char *cn = osm_proxy_common_name(&id, cases[i][2]);
        assert_non_null(cn);
        assert_int_equal(osm_proxy_id_parse(&back, cn, cases[i][2], NULL), 0);
        assert_string_equal(back.uuid, id.uuid);
        assert_string_equal(back.account, id.account);
        assert_string_equal(back.ns, id.ns);
        osm_free(cn);
    }
    char *principal = osm_principal("a.b", "ns", "cluster.local");
    assert_string_equal(principal, "a.b.ns.cluster.local");
    osm_free(principal);
}

static void test_upper_case_uuid_is_lowered(void **state)
{
    (void)state;
    accept("0A1B2C3D-1111-4222-8333-0123456789AB.sidecar.a.ns.cluster.local", "cluster.local", "a",
           "ns");
}

static void test_dots_do_not_move_an_identity(void **state)
{
    (void)state;
    /* The account "victim.prod" of namespace "evil" is not the account "victim" of namespace
     * "prod". */
    accept(UUID ".sidecar.victim.prod.evil.cluster.local", "cluster.local", "victim.prod", "evil");
    accept(UUID ".sidecar.victim.prod.cluster.local.evil.cluster.local", "cluster.local",
           "victim.prod.cluster.local", "evil");
    accept(UUID ".sidecar." UUID ".sidecar.admin.prod.cluster.local", "cluster.local",
           UUID ".sidecar.admin", "prod");
}

static void test_wrong_trust_domain(void **state)
{
    (void)state;
    refuse(UUID ".sidecar.a.ns.cluster.local", "cluster.new", "trust domain");
    refuse(UUID ".sidecar.a.ns.cluster.local", "uster.local", "trust domain");
    refuse(UUID ".sidecar.a.ns.cluster.local.", "cluster.local", "trust domain");
    refuse(UUID ".sidecar.a.ns.cluster.localx", "cluster.local", "trust domain");
    refuse(UUID ".sidecar.a.ns.CLUSTER.LOCAL", "cluster.local", "trust domain");
    refuse("cluster.local", "cluster.local", "trust domain");
    refuse(UUID ".sidecar.a.ns.cluster.local", "", "trust domain");
    refuse("", "cluster.local", "trust domain");
}

static void test_empty_and_malformed_parts(void **state)
{
    (void)state;
    refuse(".cluster.local", "cluster.local", "namespace");
    refuse("..cluster.local", "cluster.local", "namespace");
    refuse(UUID ".sidecar.a..cluster.local", "cluster.local", "namespace");
    refuse(UUID ".sidecar.a.NS.cluster.local", "cluster.local", "namespace");
    refuse(UUID ".sidecar.a.-ns.cluster.local", "cluster.local", "namespace");
    refuse(UUID ".sidecar.a.n_s.cluster.local", "cluster.local", "namespace");
    refuse(UUID ".sidecar..ns.cluster.local", "cluster.local", "account");
    refuse(UUID ".sidecar.a..b.ns.cluster.local", "cluster.local", "account");
    refuse(UUID ".sidecar..a.ns.cluster.local", "cluster.local", "account");
    refuse(UUID ".sidecar.a.b..ns.cluster.local", "cluster.local", "account");
    refuse(UUID ".sidecar.A.ns.cluster.local", "cluster.local", "account");
    refuse(UUID ".sidecar.a b.ns.cluster.local", "cluster.local", "account");
    refuse(UUID ".sidecar.a/b.ns.cluster.local", "cluster.local", "account");
    refuse(UUID ".sidecar.*.ns.cluster.local", "cluster.local", "account");
    refuse(UUID ".sidecar.ns.cluster.local", "cluster.local", "kind");
    refuse(UUID ".sidecarx.a.ns.cluster.local", "cluster.local", "kind");
    refuse(UUID ".Sidecar.a.ns.cluster.local", "cluster.local", "kind");
    refuse(UUID "..a.ns.cluster.local", "cluster.local", "kind");
    refuse(UUID ".gateway.a.ns.cluster.local", "cluster.local", "kind");
    refuse(UUID ".ns.cluster.local", "cluster.local", "kind");
}

static void test_service_and_server_certificates_are_not_proxies(void **state)
{
    (void)state;
    refuse("bookstore.bookstore.cluster.local", "cluster.local", "uuid");
    refuse("ads.cluster.local", "cluster.local", "namespace");
    refuse("sidecar.a.ns.cluster.local", "cluster.local", "uuid");
    refuse("osm-controller.osm-system.cluster.local", "cluster.local", "uuid");
}

static void test_bad_uuids(void **state)
{
    (void)state;
    refuse("0a1b2c3d-1111-4222-8333-0123456789a.sidecar.a.ns.td", "td", "uuid");
    refuse("0a1b2c3d-1111-4222-8333-0123456789abc.sidecar.a.ns.td", "td", "uuid");
    refuse("0a1b2c3d_1111-4222-8333-0123456789ab.sidecar.a.ns.td", "td", "uuid");
    refuse("0a1b2c3g-1111-4222-8333-0123456789ab.sidecar.a.ns.td", "td", "uuid");
    refuse(".sidecar.a.ns.td", "td", "uuid");
    assert_true(osm_uuid_valid(UUID));
    assert_true(osm_uuid_valid("0A1B2C3D-1111-4222-8333-0123456789AB"));
    assert_false(osm_uuid_valid(""));
    assert_false(osm_uuid_valid(NULL));
    assert_false(osm_uuid_valid(UUID "0"));
    assert_false(osm_uuid_valid("0a1b2c3d-1111-4222-83330-123456789ab"));
}

static void test_overlong_parts(void **state)
{
    (void)state;
    char label[64], cn[700];
    memset(label, 'a', 63);
    label[63] = '\0';
    (void)snprintf(cn, sizeof cn, UUID ".sidecar.%s.%s.%s.%.61s.ns.td", label, label, label, label);
    char account[260];
    (void)snprintf(account, sizeof account, "%s.%s.%s.%.61s", label, label, label, label);
    assert_int_equal(strlen(account), 253);
    accept(cn, "td", account, "ns");
    (void)snprintf(cn, sizeof cn, UUID ".sidecar.%s.%s.%s.%.62s.ns.td", label, label, label, label);
    refuse(cn, "td", "account");
    (void)snprintf(cn, sizeof cn, UUID ".sidecar.%sb.ns.td", label);
    refuse(cn, "td", "account");
    (void)snprintf(cn, sizeof cn, UUID ".sidecar.a.%s.td", label);
    accept(cn, "td", "a", label);
    (void)snprintf(cn, sizeof cn, UUID ".sidecar.a.%sb.td", label);
    refuse(cn, "td", "namespace");
}

static void test_account_names(void **state)
{
    (void)state;
    assert_true(osm_account_valid("a"));
    assert_true(osm_account_valid("a-b.c"));
    assert_false(osm_account_valid(""));
    assert_false(osm_account_valid(NULL));
    assert_false(osm_account_valid("a."));
    assert_false(osm_account_valid("A"));
    assert_false(osm_account_valid("a/b"));
}

static int nothing_is_left(void **state)
{
    (void)state;
    assert_int_equal(osm_mem_live(), 0);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parses_what_it_makes),
        cmocka_unit_test(test_upper_case_uuid_is_lowered),
        cmocka_unit_test(test_dots_do_not_move_an_identity),
        cmocka_unit_test(test_wrong_trust_domain),
        cmocka_unit_test(test_empty_and_malformed_parts),
        cmocka_unit_test(test_service_and_server_certificates_are_not_proxies),
        cmocka_unit_test(test_bad_uuids),
        cmocka_unit_test(test_overlong_parts),
        cmocka_unit_test(test_account_names),
    };
    return cmocka_run_group_tests(tests, NULL, nothing_is_left);
}
