/* The stream machine: the delta form, and the secrets of the reader. */
#include "stream_script.h"

/* ---- delta ---- */

static void test_a_xds_15_delta_subscribes_one_by_one(void **state)
{
    (void)state;
    delta("view EDS a=1 b=1\nsub EDS a\n< EDS a=1\ndack EDS\n-\nsub EDS b\n< EDS b=1\ndack "
          "EDS\n-\nidle");
}

static void test_a_xds_16_delta_sends_only_what_changed(void **state)
{
    (void)state;
    delta("view CDS a=1 b=1\nsub CDS\n< CDS a=1 b=1\ndack CDS\nview CDS a=1 b=2\n< CDS "
          "b=2\n-\nview CDS a=1 b=2 c=1\n< CDS c=1\n"
          "dack CDS\ndack CDS\n-\nidle");
    delta("view\nsub CDS\n< CDS\n-\ndack CDS\nidle");
}

static void test_a_xds_17_delta_tells_once_what_does_not_exist(void **state)
{
    (void)state;
    delta("view\nsub EDS ghost\n< EDS -ghost\n-\ndack EDS\n-\nview EDS other=1\n-\nview EDS "
          "ghost=1\n< EDS ghost=1\ndack EDS\n-\n"
          "idle");
    delta("view\nsub EDS ghost\n< EDS -ghost\ndack EDS\nsub EDS ghost\n< EDS -ghost\n-");
}

static void test_a_xds_18_delta_deletion(void **state)
{
    (void)state;
    delta("view EDS a=1 b=1\nsub EDS a b\n< EDS a=1 b=1\ndack EDS\nview EDS a=1\n< EDS -b\ndack "
          "EDS\n-\nview EDS a=1 b=1\n"
          "< EDS b=1\ndack EDS\nidle");
}

static void test_a_xds_19_delta_unsubscribe_forgets(void **state)
{
    (void)state;
    delta("view EDS a=1 b=1\nsub EDS a b\n< EDS a=1 b=1\ndack EDS\nunsub EDS a\n-\nview EDS a=2 "
          "b=1\n-\nsub EDS a\n< EDS a=2\n"
          "dack EDS\nunsub EDS a\nsub EDS a\n< EDS a=2\n-");
}

static void test_a_xds_20_delta_several_types(void **state)
{
    (void)state;
    delta("view CDS a=1 EDS a=1\nsub EDS a\n< EDS a=1\nsub CDS\n< CDS a=1\n< EDS a=1\n-\ndack "
          "CDS\ndack EDS\ndack EDS\nidle\n"
          "view CDS a=1 EDS a=2\n< EDS a=2\n-");
}

static void test_delta_subscribing_again_is_answered_though_unchanged(void **state)
{
    (void)state;
    delta("view EDS a=1\nsub EDS a\n< EDS a=1\ndack EDS\n-\nsub EDS a\n< EDS a=1\ndack EDS\n-");
}

static void test_delta_claims_are_skipped_and_vanished_ones_removed(void **state)
{
    (void)state;
    delta("view CDS a=1 b=2 d=1\nclaim CDS a=1 b=1 c=1\nsub CDS\n< CDS b=2 d=1 -c\n-\ndack "
          "CDS\nidle");
    delta("view CDS a=1\nclaim CDS a=1\nsub CDS\n-\nidle");
    delta("view EDS a=1 b=1\nclaim EDS a=1 b=1 stray=1\nsub EDS a b\n-\nidle\nview EDS a=1 b=2\n< "
          "EDS b=2\n-");
    delta("view EDS a=1\nclaim EDS a=1\nsub EDS a\n-\nsub EDS a\n< EDS a=1\n-"); /* only the first
                                                                                    request skips */
    delta("view SDS s=fp.99\nclaim SDS s=fp.99\nsub SDS s\n-\nidle");
}

/* Whatever a client brings from elsewhere, it ends with what this server has. */
static void test_delta_foreign_claims_and_nonces(void **state)
{
    (void)state;
    /* Versions of another control plane: not ours, so not current; what we do not know goes. */
    delta("view CDS a=1\nclaim CDS a=v2/../%n{}; x=1\nsub CDS\n< CDS a=1 -x\ndack CDS\n-\nidle");
    /* A nonce of an earlier stream, with the first request and later. */
    delta("view CDS a=1\nsub CDS\n< CDS a=1\nforeign CDS\n-\ndack CDS\n-\nidle");
    /* What is claimed has changed before the first view was there, and between view and answer. */
    delta("claim CDS a=1\nsub CDS\n-\nview CDS a=2\n< CDS a=2\ndack CDS\nidle");
    delta("view CDS a=1\nclaim CDS a=1\nsub CDS\nview CDS a=2\n< CDS a=2\ndack CDS\nidle");
    delta("view EDS a=1\nclaim EDS a=1\nsub EDS a\nview EDS a=2\nview EDS a=1\n-\nidle");
}

/* One name several times, given up and asked for again before anything was sent. */
static void test_delta_names_in_odd_ways(void **state)
{
    (void)state;
    delta("view EDS a=1\nsub EDS a a a\n< EDS a=1\ndack EDS\n-\nidle");
    delta("view EDS a=1\nsub EDS a\nunsub EDS a\nsub EDS a\n< EDS a=1\ndack EDS\n-\nidle");
    delta("view EDS a=1\nsub EDS a\nunsub EDS a\n-\nidle");
    delta("view EDS a=1\nunsub EDS a b\n-\nsub EDS a\n< EDS a=1\n-");
}

static void test_delta_wildcard_forms(void **state)
{
    (void)state;
    delta("view CDS a=1 b=1\nsub CDS *\n< CDS a=1 b=1\n-");
    delta("view CDS a=1 b=1\nsub CDS a\n< CDS a=1\ndack CDS\nsub CDS *\n< CDS a=1 b=1\ndack "
          "CDS\nunsub CDS *\n-\nview CDS a=2 b=2\n"
          "< CDS a=2\n-");
    /* The empty form stays while names are added, and a name that is given up stays part of it. */
    delta("view CDS a=1 b=1\nsub CDS\n< CDS a=1 b=1\ndack CDS\nsub CDS a\n< CDS a=1\ndack "
          "CDS\nunsub CDS a\n< CDS a=1\ndack CDS\n"
          "view CDS a=2 b=2\n< CDS a=2 b=2\n-");
    delta("view CDS a=1\nsub CDS * ghost\n< CDS a=1 -ghost\ndack CDS\nunsub CDS ghost\n< CDS "
          "-ghost\ndack CDS\nidle");
    /* Other types have no empty form. */
    delta("view EDS a=1\nsub EDS\n-\nidle\nsub EDS *\n< EDS a=1\n-");
}

static void test_delta_refusal_makes_its_resources_unknown(void **state)
{
    (void)state;
    /* Only what the refused response held: by halves, and what is to blame waits for the next
     * change of the type. */
    delta("view CDS a=1 b=1 c=1\nsub CDS\n< CDS a=1 b=1 c=1\ndack CDS\nview CDS a=2 b=2 c=1\n< CDS "
          "a=2 b=2\ndnack CDS\nrefused\n< CDS a=2\n< CDS b=2\n-\ndnack CDS\ndnack CDS\n-\nrefused\n"
          "idle\nview CDS a=2 b=2 c=2\n< CDS c=2\n< CDS a=2\n< CDS b=2\ndack CDS\ndack CDS\n"
          "refused\ndack CDS\naccepted\n-\nidle");
    /* Back to the versions before: sent, since Envoy may have applied some. */
    delta("view CDS a=1 b=1\nsub CDS\n< CDS a=1 b=1\ndack CDS\nview CDS a=2 b=2\n< CDS a=2 "
          "b=2\ndnack CDS\nview CDS a=1 b=1\n"
          "< CDS a=1\n< CDS b=1\n-\ndack CDS\ndack CDS\naccepted\nidle");
    /* Refused and then gone: it may be there. */
    delta("view CDS a=1 b=1\nsub CDS\n< CDS a=1 b=1\ndnack CDS\nview CDS a=1\n< CDS a=1\n< CDS "
          "-b\n-");
    /* A removal that was refused with the rest may be lost with it: it is sent again, alone, and
     * only once if that is refused, too. */
    delta("view CDS a=1 b=1\nsub CDS\n< CDS a=1 b=1\ndack CDS\nview CDS a=2\n< CDS a=2 -b\ndnack "
          "CDS\n< CDS -b\n-\ndack CDS\n-\nidle\nview CDS a=3\n< CDS a=3\ndack CDS\nidle\n"
          "view CDS a=3 b=1\n< CDS b=1\n-");
    delta("view CDS a=1 b=1\nsub CDS\n< CDS a=1 b=1\ndack CDS\nview CDS a=2\n< CDS a=2 -b\ndnack "
          "CDS\n< CDS -b\ndnack CDS\n-\nidle\nview CDS a=3\n< CDS a=3\n< CDS -b\n-");
    /* Two on the way: the refusal of the newer leaves the older alone. */
    delta("view CDS a=1\nsub CDS\n< CDS a=1\nview CDS a=1 b=1\n< CDS b=1\ndnack-last CDS\nview CDS "
          "a=1 b=2\n< CDS b=2\n-");
}

static void test_the_resource_to_blame_is_found_by_halves(void **state)
{
    (void)state;
    /* One bad among five: seven messages in all, and whoever comes later is not spoilt by it. */
    delta("view CDS a=1 b=1 c=1 d=1 e=1\nsub CDS\n< CDS a=1 b=1 c=1 d=1 e=1\ndnack CDS\ndue\n"
          "< CDS a=1 b=1 c=1\n< CDS d=1 e=1\n-\ndnack CDS\ndack CDS\n< CDS a=1 b=1\n< CDS c=1\n-\n"
          "dnack CDS\ndack CDS\n< CDS a=1\n< CDS b=1\n-\ndack CDS\ndnack CDS\n-\nrefused\nidle\n"
          "view CDS a=1 b=1 c=1 d=1 e=1 f=1\n< CDS f=1\n< CDS b=1\n-\ndack CDS\ndnack "
          "CDS\n-\nrefused\n"
          "idle\nview CDS a=1 b=2 c=1 d=1 e=1 f=1\n< CDS b=2\n-\ndack CDS\naccepted\nidle");
    /* Each half pleases: nobody was to blame. */
    delta("view RDS a=1 b=1\nsub RDS a b\n< RDS a=1 b=1\ndnack RDS\n< RDS a=1\n< RDS b=1\n-\ndack "
          "RDS\n"
          "refused\ndack RDS\naccepted\nidle");
    /* What is given up while it is looked for leaves nobody else to blame. */
    delta("view RDS a=1 b=1\nsub RDS a b\n< RDS a=1 b=1\nunsub RDS a\n-\ndnack RDS\n< RDS b=1\n-\n"
          "dack RDS\naccepted\n-\nidle");
    delta("view RDS a=1 b=1\nsub RDS a b\n< RDS a=1 b=1\nsub RDS a\n< RDS a=1\n-\ndnack RDS\n"
          "< RDS b=1\n-\ndnack RDS\n-\ndack RDS\nrefused\n-\nidle");
    /* A change in the middle: what changes is not suspected any more, the rest is. */
    delta("view EDS a=1 b=1 c=1\nsub EDS a b c\n< EDS a=1 b=1 c=1\ndnack EDS\n< EDS a=1 b=1\nview "
          "EDS a=1 "
          "b=2 c=2\n< EDS b=2\n< EDS c=2\n-\ndnack EDS\n< EDS a=1\n-\ndack EDS\ndnack EDS\ndack "
          "EDS\n-\n"
          "refused\nidle");
    /* What is taken away while it is looked for is told so. */
    delta(
        "view LDS a=1 b=1\nsub LDS\n< LDS a=1 b=1\ndnack LDS\n< LDS a=1\ndnack LDS\nview LDS b=1\n"
        "< LDS -a\n< LDS b=1\ndack LDS\ndack LDS\n-\naccepted\nidle");
    /* Listeners wait for clusters, also those that are sent once more. */
    delta("view CDS c=1 LDS a=1 b=1\nsub CDS\n< CDS c=1\ndack CDS\nsub LDS\n< LDS a=1 b=1\nview "
          "CDS c=2 "
          "LDS a=1 b=1\n< CDS c=2\ndnack LDS\n-\nwaits\ndack CDS\n< LDS a=1\n< LDS b=1\n-");
    /* Clusters that are sent once more hold no listener back: a refusal is an answer. */
    delta("view CDS a=1 b=1 LDS l=1\nsub CDS\n< CDS a=1 b=1\nsub LDS\n< LDS l=1\ndack LDS\ndnack "
          "CDS\n"
          "< CDS a=1\n< CDS b=1\nview CDS a=1 b=1 LDS l=2\n< LDS l=2\n-");
}

static void test_delta_unanswered_responses_are_bounded(void **state)
{
    (void)state;
    struct client *c = client_new(OSM_STREAM_DELTA);
    char line[64];
    (void)snprintf(line, sizeof line, "sub EDS a");
    step(c, line, 0);
    int sent = 0;
    for (int i = 0; i < 40; i++) {
        (void)snprintf(line, sizeof line, "view EDS a=%d", i);
        step(c, line, i);
        struct osm_stream_response r;
        int rc = osm_stream_next(c->stream, &r);
        assert_true(rc >= 0);
        if (rc) {
            sent++;
            note_nonce(c, &r);
            osm_stream_response_clear(&r);
        }
    }
    assert_in_range(sent, 2, 16);
    (void)snprintf(line, sizeof line, "dack EDS");
    step(c, line, 0);
    expect_next(c, "< EDS a=39", 0);
    client_free(c);
}

/* ---- secrets ---- */

static void test_leaf_under_both_names(void **state)
{
    (void)state;
    delta("view SDS root=1\nleaf service-cert=1 ~service-cert:red/caller=1\nsub SDS "
          "service-cert:red/caller root\n"
          "< SDS root=1 service-cert:red/caller=1\ndack SDS\n-\nsub SDS service-cert\n< SDS "
          "service-cert=1\ndack SDS\n"
          "leaf service-cert=2 ~service-cert:red/caller=2\n< SDS service-cert=2 "
          "service-cert:red/caller=2\ndack SDS\n-\nidle");
    /* Another identity's name does not exist; a wildcard does not hold the second name. */
    delta("view\nleaf service-cert=1 ~service-cert:red/caller=1\nsub SDS service-cert:red/other\n< "
          "SDS -service-cert:red/other\n"
          "dack SDS\nidle");
    delta("view SDS root=1\nleaf service-cert=1 ~service-cert:red/caller=1\nsub SDS *\n< SDS "
          "root=1 service-cert=1\n-");
    sotw("view SDS root=1\nleaf service-cert=1 ~service-cert:red/caller=1\nfirst SDS "
         "service-cert:red/other\n-\nidle");
}

static void test_leaf_to_come_is_waited_for(void **state)
{
    (void)state;
    delta("view SDS root=1\nleaf service-cert=?\nsub SDS service-cert root\n< SDS root=1\n-\ndack "
          "SDS\ndue\nleaf service-cert=5\n"
          "< SDS service-cert=5\ndack SDS\nidle");
    sotw("view SDS root=1\nleaf service-cert=?\nfirst SDS service-cert root\n< SDS root=1\nack SDS "
         "service-cert root\n-\ndue\n"
         "leaf service-cert=5\n< SDS root=1 service-cert=5\nack SDS service-cert root\n-\nidle");
}

static void test_tells_what_the_client_asks_for_and_has(void **state)
{
    (void)state;
    struct client *c = client_new(OSM_STREAM_DELTA);
    char a[] = "leaf service-cert=?", b[] = "sub SDS service-cert", d[] = "leaf service-cert=1";
    assert_false(osm_stream_asks(c->stream, OSM_XDS_SDS, "service-cert"));
    step(c, a, 1);
    step(c, b, 2);
    assert_true(osm_stream_asks(c->stream, OSM_XDS_SDS, "service-cert"));
    assert_false(osm_stream_asks(c->stream, OSM_XDS_SDS, "other"));
    assert_null(osm_stream_has(c->stream, OSM_XDS_SDS, "service-cert"));
    step(c, d, 3);
    expect_next(c, "< SDS service-cert=1", 4);
    assert_string_equal("1", osm_stream_has(c->stream, OSM_XDS_SDS, "service-cert"));
    client_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_xds_15_delta_subscribes_one_by_one),
        cmocka_unit_test(test_a_xds_16_delta_sends_only_what_changed),
        cmocka_unit_test(test_a_xds_17_delta_tells_once_what_does_not_exist),
        cmocka_unit_test(test_a_xds_18_delta_deletion),
        cmocka_unit_test(test_a_xds_19_delta_unsubscribe_forgets),
        cmocka_unit_test(test_a_xds_20_delta_several_types),
        cmocka_unit_test(test_delta_subscribing_again_is_answered_though_unchanged),
        cmocka_unit_test(test_delta_claims_are_skipped_and_vanished_ones_removed),
        cmocka_unit_test(test_delta_foreign_claims_and_nonces),
        cmocka_unit_test(test_delta_names_in_odd_ways),
        cmocka_unit_test(test_delta_wildcard_forms),
        cmocka_unit_test(test_delta_refusal_makes_its_resources_unknown),
        cmocka_unit_test(test_the_resource_to_blame_is_found_by_halves),
        cmocka_unit_test(test_delta_unanswered_responses_are_bounded),
        cmocka_unit_test(test_leaf_under_both_names),
        cmocka_unit_test(test_leaf_to_come_is_waited_for),
        cmocka_unit_test(test_tells_what_the_client_asks_for_and_has),
    };
    return cmocka_run_group_tests(tests, NULL, no_memory_left_behind);
}
