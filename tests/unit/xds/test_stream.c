/* The stream machine: the state of the world, make before break, bookkeeping. */
#include "stream_script.h"

/* ---- state of the world ---- */

static void test_a_xds_01_wildcard_gets_all_in_one_response_then_silence(void **state)
{
    (void)state;
    sotw("view CDS a=1 b=1 LDS l=1\nfirst CDS\n< CDS a=1 b=1\n-\ndue\nack CDS\n-\n"
         "first LDS\n< LDS l=1\n-\nack LDS\n-\nidle");
    sotw("view\nfirst CDS\n< CDS\nack CDS\n-\nidle"); /* a client waits for the answer even if there
                                                         is nothing */
}

static void test_a_xds_02_03_update_and_new_resource_give_one_response(void **state)
{
    (void)state;
    sotw("view CDS a=1\nfirst CDS\n< CDS a=1\nack CDS\nview CDS a=2\n< CDS a=2\n-\nack CDS\n-\n"
         "view CDS a=2 b=1\n< CDS a=2 b=1\n-\nack CDS\n-\nidle");
}

static void test_a_xds_04_named_subscription_hears_of_its_names_only(void **state)
{
    (void)state;
    sotw(
        "view EDS a=1 b=1 c=1\nfirst EDS a c\n< EDS a=1 c=1\nack EDS a c\nview EDS a=1 b=2 c=1\n-\n"
        "view EDS a=1 b=2 c=2\n< EDS a=1 c=2\nack EDS a c\n-");
}

static void test_a_xds_05_grows_and_pushes_a_late_name(void **state)
{
    (void)state;
    sotw("view RDS a=1 b=1\nfirst RDS a\n< RDS a=1\nack RDS a\n-\nack RDS a b\n< RDS a=1 b=1\nack "
         "RDS a b\n-");
    sotw("view\nfirst EDS ghost\n-\nview EDS ghost=1\n< EDS ghost=1\nack EDS ghost\n-\nidle");
}

static void test_name_that_never_exists_does_not_loop(void **state)
{
    (void)state;
    sotw(
        "view EDS a=1\nfirst EDS a ghost\n< EDS a=1\nack EDS a ghost\n-\nack EDS a ghost\n-\nidle");
}

static void test_a_xds_06_unsubscribed_names_are_silent(void **state)
{
    (void)state;
    sotw("view EDS a=1 b=1\nfirst EDS a b\n< EDS a=1 b=1\nack EDS a\n-\nview EDS a=1 b=2\n-\n"
         "ack EDS a b\n< EDS a=1 b=2\nack EDS a b\n-\nack EDS\n-\nview EDS a=2 b=3\n-\nidle");
}

static void test_wildcard_ends_with_names_and_returns_with_star(void **state)
{
    (void)state;
    sotw("view LDS x=1 y=1\nfirst LDS\n< LDS x=1 y=1\nack LDS x\n-\nview LDS x=1 y=2\n-\nack "
         "LDS\n-\n"
         "view LDS x=2 y=2\n-\nack LDS *\n< LDS x=2 y=2\nack LDS *\n-\nview LDS x=2\n< LDS "
         "x=2\nack LDS *\n-");
}

static void test_a_xds_07_types_have_their_own_nonces(void **state)
{
    (void)state;
    sotw("view CDS a=1 EDS a=1\nfirst CDS\n< CDS a=1\nfirst EDS a\n< EDS a=1\nack EDS a\n-\nview "
         "CDS a=2 EDS a=1\n"
         "< CDS a=2\n< EDS a=1\nack CDS\nack EDS a\n-\nidle");
}

static void test_a_xds_08_full_push_goes_in_order(void **state)
{
    (void)state;
    /* The first answers wait for nothing. */
    sotw("first SDS s\nfirst RDS r\nfirst LDS\nfirst EDS c\nfirst CDS\n-\nview CDS c=1 EDS c=1 LDS "
         "l=1 RDS r=1 SDS s=1\n"
         "< CDS c=1\n< EDS c=1\n< LDS l=1\n< RDS r=1\n< SDS s=1\n-\n"
         "ack CDS\nack EDS c\nack LDS\nack RDS r\nack SDS s\nidle\n"
         /* Later ones wait for the answer to the clusters. */
         "view CDS c=2 EDS c=2 LDS l=2 RDS r=2 SDS s=2\n< CDS c=2\n< EDS c=2\n-\nwaits\ndue\nack "
         "EDS c\n-\nack CDS\n"
         "< LDS l=2\n< RDS r=2\n< SDS s=2\n-\nack LDS\nack RDS r\nack SDS s\nidle");
    delta("view CDS c=1 EDS c=1 LDS l=1 RDS r=1 SDS s=1\nsub SDS s\nsub RDS r\nsub LDS\nsub EDS "
          "c\nsub CDS\n"
          "< CDS c=1\n< EDS c=1\n< LDS l=1\n< RDS r=1\n< SDS s=1\n-\ndack CDS\ndack EDS\ndack "
          "LDS\ndack RDS\ndack SDS\nidle\n"
          "view CDS c=2 EDS c=2 LDS l=2 RDS r=2 SDS s=2\n< CDS c=2\n< EDS c=2\n-\nwaits\ndack CDS\n"
          "< LDS l=2\n< RDS r=2\n< SDS s=2\n-");
}

static void test_a_xds_09_refusal_is_silent_until_the_content_changes(void **state)
{
    (void)state;
    sotw(
        "view CDS a=1 b=1\nfirst CDS\n< CDS a=1 b=1\nack CDS\nview CDS a=2 b=1\n< CDS a=2 "
        "b=1\nnack CDS\n-\nrefused\nidle\n"
        "view CDS a=2 b=1 LDS l=1\n-\nview CDS a=2 b=2\n< CDS a=2 b=2\nack CDS\naccepted\n-\nidle");
    /* Back to what it had before: it may not have that any more. */
    sotw("view CDS a=1\nfirst CDS\n< CDS a=1\nack CDS\nview CDS a=2\n< CDS a=2\nnack CDS\n-\nview "
         "CDS a=1\n< CDS a=1\nack CDS\n-");
    /* Another name while refused: answered, in full. */
    sotw("view RDS a=1 b=1\nfirst RDS a\n< RDS a=1\nnack RDS a\n-\nack RDS a b\n< RDS a=1 b=1\n-");
}

static void test_refusal_of_an_older_content_is_answered_with_the_newer(void **state)
{
    (void)state;
    sotw("view CDS a=1\nfirst CDS\n< CDS a=1\nview CDS a=2\nnack CDS\n< CDS a=2\nack "
         "CDS\naccepted\nidle");
    delta("view CDS a=1 b=1\nsub CDS\n< CDS a=1 b=1\nview CDS a=2 b=1\ndnack CDS\n< CDS a=2 "
          "b=1\ndack CDS\naccepted\nidle");
}

static void test_a_xds_10_stale_nonce_is_ignored(void **state)
{
    (void)state;
    sotw("view EDS a=1 b=1\nfirst EDS a\n< EDS a=1\nview EDS a=2 b=1\n< EDS a=2\nstale EDS "
         "a\n-\nstale EDS a b\n-\ndue\n"
         "ack EDS a\n-\nidle");
}

static void test_names_in_odd_ways(void **state)
{
    (void)state;
    /* Twice the same is once. */
    sotw("view EDS a=1\nfirst EDS a a\n< EDS a=1\nack EDS a a\n-\nidle");
    /* An acknowledgement that asks for more, and one that asks for less. */
    sotw("view EDS a=1 b=1\nfirst EDS a\n< EDS a=1\nack EDS a b\n< EDS a=1 b=1\nack EDS a "
         "b\n-\nack EDS b\n-\nidle\nview EDS a=2 b=1\n-\nview EDS a=2 b=2\n< EDS b=2\n-");
    /* Given up and asked for again: the client has let go of it, so it is sent again. */
    sotw("view EDS a=1\nfirst EDS a\n< EDS a=1\nack EDS a\n-\nack EDS b\n-\nack EDS a b\n< EDS "
         "a=1\nack EDS a b\n-");
    /* Gone and back before the client has answered. */
    sotw("view CDS a=1\nfirst CDS\n< CDS a=1\nview CDS b=1\nview CDS a=1\n-\nack CDS\n-\nidle");
}

static void test_a_xds_12_reconnect_gets_the_full_state(void **state)
{
    (void)state;
    sotw("view CDS a=1 EDS a=1\nforeign CDS\n< CDS a=1\nack CDS\n-\nforeign EDS a\n< EDS a=1\nack "
         "EDS a\n-\nidle");
    /* Names that change before the first answer. */
    sotw("foreign EDS a\nforeign EDS a b\nview EDS a=1 b=1\n< EDS a=1 b=1\n-");
    /* An empty nonce asks again. */
    sotw("view CDS a=1\nfirst CDS\n< CDS a=1\nack CDS\n-\nfirst CDS\n< CDS a=1\n-");
}

static void test_a_xds_13_type_urls(void **state)
{
    (void)state;
    struct client *c = client_new(OSM_STREAM_SOTW);
    struct osm_err err = {0};
    enum osm_stream_verdict verdict;
    struct osm_stream_request r = {.type_url = "", .version = "", .nonce = "", .error = ""};
    assert_int_equal(OSM_EINVAL, osm_stream_request(c->stream, &r, &verdict, &err));
    assert_non_null(strstr(err.msg, "type_url"));
    r.type_url = "type.googleapis.com/envoy.config.nonsense.v3.Nonsense";
    assert_int_equal(0, osm_stream_request(c->stream, &r, &verdict, &err));
    assert_int_equal(OSM_STREAM_UNKNOWN_TYPE, verdict);
    client_free(c);
}

static void test_changed_cluster_makes_its_endpoints_due(void **state)
{
    (void)state;
    sotw("view CDS a=1 b=1 EDS a=1 b=1\nfirst CDS\n< CDS a=1 b=1\nack CDS\nfirst EDS a b\n< EDS "
         "a=1 b=1\nack EDS a b\n-\n"
         "view CDS a=2 b=1 EDS a=1 b=1\n< CDS a=2 b=1\n< EDS a=1 b=1\nack EDS a b\nack "
         "CDS\n-\nidle");
    delta("view CDS a=1 b=1 EDS a=1 b=1\nsub CDS\n< CDS a=1 b=1\ndack CDS\nsub EDS a b\n< EDS a=1 "
          "b=1\ndack EDS\n-\n"
          "view CDS a=2 b=1 EDS a=1 b=1\n< CDS a=2\n< EDS a=1\ndack CDS\ndack EDS\n-\nidle");
    /* Whatever the client claimed. */
    delta("view CDS a=2 EDS a=1\nclaim EDS a=1\nsub EDS a\n-\nclaim CDS a=1\nsub CDS\n< CDS a=2\n< "
          "EDS a=1\n-");
    /* A cluster that is not sent leaves its endpoints alone. */
    delta("view CDS a=1 EDS a=1\nclaim EDS a=1\nsub EDS a\n-\nclaim CDS a=1\nsub CDS\n-\nidle");
}

static void test_newest_state_wins_without_a_backlog(void **state)
{
    (void)state;
    sotw("view CDS a=1\nfirst CDS\n< CDS a=1\nack CDS\nview CDS a=2\nview CDS a=3\nview CDS a=4\n< "
         "CDS a=4\n-\nview CDS a=5\n"
         "< CDS a=5\nack CDS\n-\nidle");
    sotw("view CDS a=1\nfirst CDS\n< CDS a=1\nack CDS\nview CDS a=2\nview CDS a=1\n-\nidle");
}

/* ---- make before break ---- */

static void test_vanished_cluster_stays_until_listeners_and_routes_are_answered(void **state)
{
    (void)state;
    sotw("view CDS a=1 LDS l=1 RDS r=1\nfirst CDS\n< CDS a=1\nack CDS\nfirst LDS\n< LDS l=1\nack "
         "LDS\nfirst RDS r\n< RDS r=1\n"
         "ack RDS r\nidle\nview CDS b=1 LDS l=2 RDS r=2\n< CDS a=1 b=1\n-\nack CDS\n< LDS l=2\n< "
         "RDS r=2\n-\nack LDS\n-\ndue\n"
         "ack RDS r\n< CDS b=1\n-\nack CDS\n-\nidle");
    delta("view CDS a=1 EDS a=1 LDS l=1 RDS r=1\nsub CDS\n< CDS a=1\ndack CDS\nsub EDS a\n< EDS "
          "a=1\ndack EDS\nsub LDS\n"
          "< LDS l=1\ndack LDS\nsub RDS r\n< RDS r=1\ndack RDS\nidle\nview CDS b=1 LDS l=2 RDS "
          "r=2\n< CDS b=1\n-\ndack CDS\n"
          "< LDS l=2\n< RDS r=2\n-\ndack LDS\n-\ndack RDS\n< CDS -a\n< EDS -a\n-\ndack CDS\ndack "
          "EDS\nidle");
}

static void test_removal_without_references_goes_at_once(void **state)
{
    (void)state;
    sotw("view CDS a=1 b=1\nfirst CDS\n< CDS a=1 b=1\nack CDS\nview CDS a=1\n< CDS a=1\nack "
         "CDS\n-\nidle");
    delta("view CDS a=1 b=1\nsub CDS\n< CDS a=1 b=1\ndack CDS\nview CDS a=1\n< CDS -b\ndack "
          "CDS\n-\nidle");
}

static void test_refused_routes_hold_the_old_cluster_until_a_good_state(void **state)
{
    (void)state;
    sotw("view CDS a=1 RDS r=1\nfirst CDS\n< CDS a=1\nack CDS\nfirst RDS r\n< RDS r=1\nack RDS "
         "r\nview CDS b=1 RDS r=2\n"
         "< CDS a=1 b=1\nack CDS\n< RDS r=2\nnack RDS r\n-\nrefused\nidle\nview CDS b=2 RDS r=2\n< "
         "CDS a=1 b=2\nack CDS\n-\n"
         "view CDS b=2 RDS r=3\n< RDS r=3\nack RDS r\n< CDS b=2\nack CDS\n-\nidle\naccepted");
    delta("view CDS a=1 RDS r=1\nsub CDS\n< CDS a=1\ndack CDS\nsub RDS r\n< RDS r=1\ndack "
          "RDS\nview CDS b=1 RDS r=2\n"
          "< CDS b=1\ndack CDS\n< RDS r=2\ndnack RDS\n-\nidle\nview CDS b=1 RDS r=3\n< RDS "
          "r=3\ndack RDS\n< CDS -a\n"
          "dack CDS\nidle");
}

static void test_refused_clusters_do_not_hold_back_a_revocation(void **state)
{
    (void)state;
    sotw("view CDS a=1 RDS r=1\nfirst CDS\n< CDS a=1\nack CDS\nfirst RDS r\n< RDS r=1\nack RDS "
         "r\nview CDS a=2 RDS r=2\n"
         "< CDS a=2\n-\nnack CDS\n< RDS r=2\nack RDS r\n-\nrefused\nidle");
}

static void test_unanswered_clusters_hold_listeners_and_routes(void **state)
{
    (void)state;
    sotw("view CDS a=1 LDS l=1\nfirst CDS\n< CDS a=1\nack CDS\nfirst LDS\n< LDS l=1\nack LDS\nview "
         "CDS a=2 LDS l=2\n< CDS a=2\n"
         "-\nwaits\nview CDS a=2 LDS l=3\n-\npatience\n< LDS l=3\n-\nack CDS\nack LDS\nidle");
    /* Two of them: the answer to the newest counts. */
    sotw("view CDS a=1 LDS l=1\nfirst CDS\n< CDS a=1\nack CDS\nfirst LDS\n< LDS l=1\nack LDS\nview "
         "CDS a=2 LDS l=2\n< CDS a=2\n"
         "-\nview CDS a=3 LDS l=3\n< CDS a=3\n-\nstale CDS\n-\nack CDS\n< LDS l=3\n-");
    delta("view CDS a=1 LDS l=1\nsub CDS\n< CDS a=1\ndack CDS\nsub LDS\n< LDS l=1\ndack LDS\nview "
          "CDS a=2 LDS l=2\n< CDS a=2\n"
          "-\nview CDS a=3 LDS l=3\n< CDS a=3\n-\ndack CDS\n-\ndack CDS\n< LDS l=3\n-");
}

static void test_who_never_asks_for_clusters_waits_for_none(void **state)
{
    (void)state;
    sotw("view CDS a=1 RDS r=1\nfirst RDS r\n< RDS r=1\nack RDS r\nview CDS a=2 RDS r=2\n< RDS "
         "r=2\nack RDS r\n-\nidle");
}

static void test_missing_secret_and_endpoints_go_while_clusters_are_unanswered(void **state)
{
    (void)state;
    /* The proxy answers the clusters when they are warm, and they warm on these. */
    sotw("view CDS a=1 LDS l=1 SDS s=1\nforeign CDS\n< CDS a=1\nforeign LDS\n-\nfirst SDS s\n< SDS "
         "s=1\nfirst EDS a\n-\n"
         "view CDS a=1 EDS a=1 LDS l=1 SDS s=1\n< EDS a=1\nack SDS s\nack EDS a\n-\nack CDS\n< LDS "
         "l=1\n-");
}

static void test_reconnect_in_the_middle_of_a_swap(void **state)
{
    (void)state;
    /* The client has cluster a and a route to it; both have changed while it was away. */
    sotw("view CDS b=1 RDS r=2\nforeign CDS\n< CDS b=1\nforeign RDS r\n-\nack CDS\n< RDS r=2\nack "
         "RDS r\nidle");
    delta("view CDS b=1 RDS r=2\nclaim CDS a=1\nclaim RDS r=1\nsub RDS r\n< RDS r=2\nsub CDS\n< "
          "CDS b=1\n-\ndack CDS\n-\n"
          "dack RDS\n< CDS -a\ndack CDS\nidle");
    delta("view CDS b=1 RDS r=2\nclaim CDS a=1\nsub CDS\n< CDS b=1 -a\n-\nclaim RDS r=1\nsub RDS "
          "r\n-\ndack CDS\n< RDS r=2\n-");
}

/* A new cluster that the client refuses, and that has left the view while the response was on its
 * way, was carried by the next one until listeners and routes were answered: and so refused the
 * rest of that once more. */
static void test_cluster_that_nothing_can_refer_to_goes_at_once(void **state)
{
    (void)state;
    const char *before = "view CDS a=1 LDS l=1 RDS r=1\nfirst CDS\n< CDS a=1\nack CDS\nfirst "
                         "LDS\n< LDS l=1\nack LDS\nfirst RDS r\n< RDS r=1\nack RDS r\n";
    char script[1024];
    (void)snprintf(script, sizeof script, "%s%s", before,
                   "view CDS a=2 b=1 LDS l=1 RDS r=2\n< CDS a=2 b=1\n-\nview CDS a=2 LDS l=1 RDS "
                   "r=3\n-\nnack CDS\n< CDS a=2\n-\nack CDS\n< RDS r=3\nack RDS r\n-\nidle");
    sotw(script);
    (void)snprintf(script, sizeof script, "%s%s", before,
                   "view CDS a=2 b=1 LDS l=1 RDS r=2\n< CDS a=2 b=1\n-\nview CDS a=3 LDS l=1 RDS "
                   "r=3\n< CDS a=3\nack CDS\n< RDS r=3\nack RDS r\n-\nidle");
    sotw(script);
    /* Once routes have gone out that may refer to it, it stays until they are answered. */
    (void)snprintf(script, sizeof script, "%s%s", before,
                   "view CDS a=1 b=1 LDS l=1 RDS r=2\n< CDS a=1 b=1\nack CDS\n< RDS r=2\nview CDS "
                   "a=2 LDS l=1 RDS r=3\n< CDS a=2 b=1\nack CDS\n< RDS r=3\nack RDS r\n< CDS a=2\n"
                   "ack CDS\n-\nidle");
    sotw(script);
    /* Who comes again may have routes from before to what this stream has just told. */
    sotw("expect LDS\nview CDS a=1 b=1 LDS l=1\nforeign CDS\n< CDS a=1 b=1\nview CDS a=2 LDS "
         "l=1\n< CDS a=2 "
         "b=1\nforeign LDS\nack CDS\n< LDS l=1\nack LDS\n< CDS a=2\nack CDS\nidle");
}

static void test_cluster_that_comes_back_is_not_removed(void **state)
{
    (void)state;
    delta("view CDS a=1 b=1 RDS r=1\nsub CDS\n< CDS a=1 b=1\ndack CDS\nsub RDS r\n< RDS r=1\ndack "
          "RDS\nview CDS b=1 RDS r=2\n"
          "< RDS r=2\n-\nview CDS a=1 b=1 RDS r=2\ndack RDS\n-\nidle");
}

static void test_vanished_route_and_secret_go_after_what_refers_to_them(void **state)
{
    (void)state;
    delta("view LDS l=1 RDS r=1 s=1\nsub LDS\n< LDS l=1\ndack LDS\nsub RDS r s\n< RDS r=1 "
          "s=1\ndack RDS\n"
          "view LDS l=2 RDS r=1\n< LDS l=2\n-\ndack LDS\n< RDS -s\ndack RDS\n-\nidle");
    delta("view CDS a=1 b=1 SDS s=1 t=1\nsub CDS\n< CDS a=1 b=1\ndack CDS\nsub SDS s t\n< SDS s=1 "
          "t=1\ndack SDS\n"
          "view CDS a=1 SDS s=1\n< CDS -b\n-\ndack CDS\n< SDS -t\ndack SDS\nidle");
}

/* ---- bookkeeping ---- */

static void test_before_the_first_view_all_waits(void **state)
{
    (void)state;
    struct osm_stream *s = osm_stream_new(OSM_STREAM_SOTW, 1);
    char url[128];
    url_of(OSM_XDS_CDS, url, sizeof url);
    struct osm_stream_response r;
    assert_true(osm_stream_due(s)); /* it has said nothing yet */
    struct osm_stream_request request = {.type_url = url, .version = "", .nonce = "", .error = ""};
    assert_int_equal(0, osm_stream_request(s, &request, NULL, NULL));
    assert_int_equal(0, osm_stream_next(s, &r));
    assert_true(osm_stream_due(s));
    osm_stream_free(s);
}

static void test_expected_type_is_due_until_subscribed(void **state)
{
    (void)state;
    struct client *c = client_new(OSM_STREAM_SOTW);
    char a[] = "view CDS a=1", b[] = "first CDS", d[] = "ack CDS", e[] = "first LDS",
         f[] = "ack LDS";
    osm_stream_expect(c->stream, OSM_XDS_LDS);
    step(c, a, 1);
    step(c, b, 2);
    expect_next(c, "< CDS a=1", 3);
    step(c, d, 4);
    assert_true(osm_stream_due(c->stream));
    step(c, e, 5);
    expect_next(c, "< LDS", 6);
    step(c, f, 7);
    assert_false(osm_stream_due(c->stream));
    client_free(c);
}

static void test_type_state_tells_what_was_accepted_and_refused(void **state)
{
    (void)state;
    struct client *c = client_new(OSM_STREAM_SOTW);
    char script[][32] = {"view CDS a=1", "first CDS", "ack CDS",
                         "view CDS a=2", "nack CDS",  "view CDS a=1"};
    step(c, script[0], 0);
    assert_false(osm_stream_type_state(c->stream, OSM_XDS_CDS).subscribed);
    step(c, script[1], 0);
    assert_true(osm_stream_type_state(c->stream, OSM_XDS_CDS).due);
    expect_next(c, "< CDS a=1", 0);
    char v1[OSM_VERSION_SIZE];
    (void)snprintf(v1, sizeof v1, "%s", c->types[OSM_XDS_CDS].version);
    step(c, script[2], 0);
    struct osm_stream_type_state s = osm_stream_type_state(c->stream, OSM_XDS_CDS);
    assert_true(s.subscribed && s.acked && !s.nacked && !s.due);
    assert_string_equal(v1, s.acked_version);
    step(c, script[3], 0);
    expect_next(c, "< CDS a=2", 0);
    assert_string_not_equal(v1, c->types[OSM_XDS_CDS].version);
    step(c, script[4], 0);
    s = osm_stream_type_state(c->stream, OSM_XDS_CDS);
    assert_true(s.acked && s.nacked && !s.due);
    assert_string_equal(v1, s.acked_version);
    assert_string_equal(c->types[OSM_XDS_CDS].version, s.nacked_version);
    assert_string_equal("does not please", s.error);
    step(c, script[5], 0);
    expect_next(c, "< CDS a=1", 0);
    assert_string_equal(v1, c->types[OSM_XDS_CDS].version); /* same content, same version */
    client_free(c);
}

static void test_too_many_names_end_the_stream(void **state)
{
    (void)state;
    struct client *c = client_new(OSM_STREAM_SOTW);
    enum { N = 70000 };
    const char **names = calloc(N, sizeof *names);
    char(*texts)[16] = calloc(N, sizeof *texts);
    for (int i = 0; i < N; i++) {
        (void)snprintf(texts[i], sizeof texts[i], "n%d", i);
        names[i] = texts[i];
    }
    char url[128];
    url_of(OSM_XDS_EDS, url, sizeof url);
    struct osm_stream_request r = {
        .type_url = url, .version = "", .nonce = "", .error = "", .names = names, .names_len = N};
    struct osm_err err = {0};
    assert_int_equal(OSM_ELIMIT, osm_stream_request(c->stream, &r, NULL, &err));
    free(names);
    free(texts);
    client_free(c);
}

/* Any allocation may fail: the stream reports it, nothing leaks, and asking again gives the answer.
 */
static void test_running_out_of_memory_changes_nothing(void **state)
{
    (void)state;
    for (long n = 0; n < 40; n++) {
        struct client *c = client_new(OSM_STREAM_DELTA);
        char a[] = "view CDS a=1 b=1", b[] = "sub CDS", d[] = "view CDS b=2";
        step(c, a, 1);
        step(c, b, 2);
        struct osm_stream_response r;
        osm_mem_fail_at(n);
        int rc = osm_stream_next(c->stream, &r);
        osm_mem_fail_at(-1);
        if (rc == OSM_ENOMEM) {
            expect_next(c, "< CDS a=1 b=1", 3);
        } else {
            assert_int_equal(1, rc);
            osm_stream_response_clear(&r);
        }
        step(c, d, 4);
        osm_mem_fail_at(n);
        rc = osm_stream_next(c->stream, &r);
        osm_mem_fail_at(-1);
        if (rc == OSM_ENOMEM)
            expect_next(c, "< CDS b=2 -a", 5);
        else
            osm_stream_response_clear(&r);
        client_free(c);
    }
    char url[128];
    url_of(OSM_XDS_EDS, url, sizeof url);
    const char *names[] = {"x", "y", "z"};
    struct osm_stream_claim claims[] = {{"x", "1"}, {"y", "2"}};
    for (long n = 0; n < 20; n++) {
        struct osm_stream *s = osm_stream_new(OSM_STREAM_DELTA, 1);
        struct osm_stream_request r = {.type_url = url,
                                       .version = "",
                                       .nonce = "",
                                       .error = "",
                                       .names = names,
                                       .names_len = 3,
                                       .claims = claims,
                                       .claims_len = 2};
        osm_mem_fail_at(n);
        int rc = osm_stream_request(s, &r, NULL, NULL);
        osm_mem_fail_at(-1);
        assert_true(rc == 0 || rc == OSM_ENOMEM);
        osm_stream_free(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_xds_01_wildcard_gets_all_in_one_response_then_silence),
        cmocka_unit_test(test_a_xds_02_03_update_and_new_resource_give_one_response),
        cmocka_unit_test(test_a_xds_04_named_subscription_hears_of_its_names_only),
        cmocka_unit_test(test_a_xds_05_grows_and_pushes_a_late_name),
        cmocka_unit_test(test_name_that_never_exists_does_not_loop),
        cmocka_unit_test(test_a_xds_06_unsubscribed_names_are_silent),
        cmocka_unit_test(test_wildcard_ends_with_names_and_returns_with_star),
        cmocka_unit_test(test_a_xds_07_types_have_their_own_nonces),
        cmocka_unit_test(test_a_xds_08_full_push_goes_in_order),
        cmocka_unit_test(test_a_xds_09_refusal_is_silent_until_the_content_changes),
        cmocka_unit_test(test_refusal_of_an_older_content_is_answered_with_the_newer),
        cmocka_unit_test(test_a_xds_10_stale_nonce_is_ignored),
        cmocka_unit_test(test_names_in_odd_ways),
        cmocka_unit_test(test_a_xds_12_reconnect_gets_the_full_state),
        cmocka_unit_test(test_a_xds_13_type_urls),
        cmocka_unit_test(test_changed_cluster_makes_its_endpoints_due),
        cmocka_unit_test(test_newest_state_wins_without_a_backlog),
        cmocka_unit_test(test_vanished_cluster_stays_until_listeners_and_routes_are_answered),
        cmocka_unit_test(test_removal_without_references_goes_at_once),
        cmocka_unit_test(test_refused_routes_hold_the_old_cluster_until_a_good_state),
        cmocka_unit_test(test_refused_clusters_do_not_hold_back_a_revocation),
        cmocka_unit_test(test_unanswered_clusters_hold_listeners_and_routes),
        cmocka_unit_test(test_who_never_asks_for_clusters_waits_for_none),
        cmocka_unit_test(test_missing_secret_and_endpoints_go_while_clusters_are_unanswered),
        cmocka_unit_test(test_reconnect_in_the_middle_of_a_swap),
        cmocka_unit_test(test_cluster_that_nothing_can_refer_to_goes_at_once),
        cmocka_unit_test(test_cluster_that_comes_back_is_not_removed),
        cmocka_unit_test(test_vanished_route_and_secret_go_after_what_refers_to_them),
        cmocka_unit_test(test_before_the_first_view_all_waits),
        cmocka_unit_test(test_expected_type_is_due_until_subscribed),
        cmocka_unit_test(test_type_state_tells_what_was_accepted_and_refused),
        cmocka_unit_test(test_too_many_names_end_the_stream),
        cmocka_unit_test(test_running_out_of_memory_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, no_memory_left_behind);
}
