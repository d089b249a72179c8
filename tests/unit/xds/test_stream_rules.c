/* The rules of the protocol, one row each: who says what, and what must come of it. */
#include "stream_script.h"

struct rule {
    const char *name;
    enum osm_stream_mode mode;
    const char *script;
};

#define SOTW  OSM_STREAM_SOTW
#define DELTA OSM_STREAM_DELTA

static const struct rule rules[] = {
    /* ---- forms of the wildcard ---- */
    {"wildcard: no names, first, means all", SOTW,
     "view CDS a=1 b=1\nfirst CDS\n< CDS a=1 b=1\nack CDS\nview CDS a=1 b=1 c=1\n"
     "< CDS a=1 b=1 c=1\nack CDS\n-\nidle"},
    {"wildcard: no names mean all after a refusal, too", SOTW,
     "view CDS a=1\nfirst CDS\n< CDS a=1\nnack CDS\nview CDS b=1\n< CDS b=1\nack CDS\n-\nidle"},
    {"wildcard: no names mean nothing once names were given", SOTW,
     "view CDS a=1 b=1\nfirst CDS a\n< CDS a=1\nack CDS\n-\nview CDS a=2 b=2\n-\nidle"},
    {"wildcard: no names mean nothing once * was given", SOTW,
     "view CDS a=1\nfirst CDS *\n< CDS a=1\nack CDS\n-\nview CDS a=2\n-\nidle"},
    {"wildcard: * alone means all", SOTW,
     "view LDS a=1\nfirst LDS *\n< LDS a=1\nack LDS *\nview LDS a=1 b=1\n< LDS a=1 b=1\n"
     "ack LDS *\n-\nidle"},
    {"wildcard: * means all beside names", SOTW,
     "view LDS a=1 b=1\nfirst LDS * a ghost\n< LDS a=1 b=1\nack LDS * a ghost\nview LDS a=1 b=2\n"
     "< LDS a=1 b=2\nack LDS * a ghost\n-\nidle"},
    {"wildcard: who leaves out * keeps the names", SOTW,
     "view CDS a=1 b=1\nfirst CDS * a\n< CDS a=1 b=1\nack CDS a\n-\nview CDS a=1 b=2\n-\n"
     "view CDS a=2 b=2\n< CDS a=2\nack CDS a\n-\nidle"},
    {"wildcard: endpoints, routes, secrets have no empty form", SOTW,
     "view EDS a=1 RDS a=1 SDS a=1\nfirst EDS\nfirst RDS\nfirst SDS\n-\nidle"},
    {"wildcard: * means all endpoints", SOTW,
     "view EDS a=1 b=1\nfirst EDS *\n< EDS a=1 b=1\nack EDS *\nview EDS b=1 c=1\n< EDS b=1 c=1\n"
     "ack EDS *\n-\nidle"},
    {"wildcard: unsubscribing from * keeps the names", DELTA,
     "view CDS a=1 b=1\nsub CDS * a\n< CDS a=1 b=1\ndack CDS\nunsub CDS *\n-\nview CDS a=2 b=2\n"
     "< CDS a=2\ndack CDS\n-\nidle"},
    {"wildcard: unsubscribing from * ends the empty form, too", DELTA,
     "view CDS a=1\nsub CDS\n< CDS a=1\ndack CDS\nunsub CDS *\n-\nview CDS a=2 b=1\n-\nidle\n"
     "sub CDS b\n< CDS b=1\n-"},
    {"wildcard: no names are no wildcard after the first request", DELTA,
     "view CDS a=1 b=1\nsub CDS a\n< CDS a=1\ndack CDS\nsub CDS\n-\nview CDS a=1 b=2\n-\nidle"},
    {"wildcard: * that comes and goes in the first request means nothing", DELTA,
     "view CDS a=1\nsub CDS * ! *\n-\nidle\nview CDS a=2\n-\nidle\nsub CDS a\n< CDS a=2\n-"},
    {"wildcard: * that went before the answer is owed none", DELTA,
     "sub CDS *\nunsub CDS *\nview CDS a=1\n-\nidle"},
    {"wildcard: subscribing to * again is answered in full", DELTA,
     "view CDS a=1 b=1\nsub CDS *\n< CDS a=1 b=1\ndack CDS\nsub CDS *\n< CDS a=1 b=1\ndack CDS\n-"
     "\nidle"},
    {"wildcard: a name that is given up under * is sent once more", DELTA,
     "view CDS a=1 b=1\nsub CDS * a\n< CDS a=1 b=1\ndack CDS\nunsub CDS a\n< CDS a=1\ndack CDS\n-\n"
     "unsub CDS a\n-\nidle"},
    {"wildcard: a name that is given up under * and does not exist is told removed", DELTA,
     "view CDS a=1\nsub CDS * ghost\n< CDS a=1 -ghost\ndack CDS\nunsub CDS ghost\n< CDS -ghost\n"
     "dack CDS\n-\nunsub CDS ghost\n-\nidle"},
    {"wildcard: the same in the request that accepts", DELTA,
     "view CDS a=1\nsub CDS * ghost\n< CDS a=1 -ghost\ndack CDS ! ghost\n< CDS -ghost\ndack CDS\n-"
     "\nidle"},
    {"wildcard: a name and * given up together are not answered", DELTA,
     "view CDS a=1\nsub CDS * a ghost\n< CDS a=1 -ghost\ndack CDS\nunsub CDS a ghost *\n-\nidle"},

    /* ---- nonces ---- */
    {"nonce: one of an earlier stream opens a type", SOTW,
     "view CDS a=1 EDS a=1\nforeign CDS\nwas quiet\n< CDS a=1\nforeign EDS a\nwas quiet\n"
     "< EDS a=1\n-"},
    {"nonce: one of an earlier stream opens a type", DELTA,
     "view CDS a=1 EDS a=1\nforeign CDS\nwas quiet\n< CDS a=1\nforeign EDS a\nwas quiet\n"
     "< EDS a=1\n-"},
    {"nonce: one of an earlier stream is stale once this one has answered", SOTW,
     "view EDS a=1 b=1\nfirst EDS a\n< EDS a=1\nforeign EDS a b\nwas stale\n-\ndue\nack EDS a\n-\n"
     "idle"},
    {"nonce: one of an earlier stream is stale once this one has answered", DELTA,
     "view EDS a=1 b=1\nsub EDS a\n< EDS a=1\nforeign EDS\nwas stale\n-\ndue\ndack EDS\n-\nidle"},
    {"nonce: a stale one does not keep names from coming", DELTA,
     "view EDS a=1 b=1\nsub EDS a\n< EDS a=1\nforeign EDS b ! a\nwas stale\n< EDS b=1\n"
     "view EDS a=2 b=1\n-\ndack EDS\ndack EDS\n-\nidle"},
    {"nonce: what is accepted twice is stale the second time", DELTA,
     "view CDS a=1\nsub CDS\n< CDS a=1\ndack CDS\nagain CDS\n-\nidle\naccepted"},
    {"nonce: what was accepted cannot be refused any more", DELTA,
     "view CDS a=1\nsub CDS\n< CDS a=1\ndack CDS\nagain-nack CDS\n-\nidle\naccepted"},
    {"nonce: what was refused cannot be accepted any more", DELTA,
     "view CDS a=1\nsub CDS\n< CDS a=1\ndnack CDS\nagain CDS\n-\nrefused"},
    {"nonce: what was refused cannot be accepted any more", SOTW,
     "view RDS a=1\nfirst RDS a\n< RDS a=1\nnack RDS a\nack RDS a\nwas quiet\n-\nrefused"},
    {"nonce: one of another type answers nothing", SOTW,
     "view CDS a=1 LDS l=1\nfirst CDS\n< CDS a=1\nfirst LDS\n< LDS l=1\ncross CDS LDS\nwas stale\n"
     "cross LDS CDS\nwas stale\n-\ndue\nack LDS\nack CDS\n-\nidle"},
    {"nonce: one of another type answers nothing", DELTA,
     "view CDS a=1 LDS l=1\nsub CDS\n< CDS a=1\nsub LDS\n< LDS l=1\ncross CDS LDS\nwas stale\n"
     "cross LDS CDS\nwas stale\n-\ndue\ndack LDS\ndack CDS\n-\nidle"},
    {"nonce: a refusal without one asks for nothing", SOTW,
     "view CDS a=1\nfirst CDS\n< CDS a=1\nnonceless-nack CDS\nwas stale\n-\ndue\nack CDS\n-\nidle"},
    {"nonce: a refusal without one asks for nothing", DELTA,
     "view CDS a=1\nsub CDS\n< CDS a=1\nnonceless-nack CDS\n-\ndue\ndack CDS\n-\nidle"},
    {"nonce: a first request that refuses is a first request", SOTW,
     "view CDS a=1\nnonceless-nack CDS\n< CDS a=1\nack CDS\n-\nidle\naccepted"},

    /* ---- claims, and changes that race them ---- */
    {"claim: what changes before the first view is sent", DELTA,
     "claim CDS a=1 b=1\nsub CDS\nview CDS a=2 b=1\n< CDS a=2\n-"},
    {"claim: what changes after the claim was good is sent", DELTA,
     "view CDS a=1 b=1\nclaim CDS a=1 b=1\nsub CDS\n-\nview CDS a=2 b=1\n< CDS a=2\ndack CDS\n-\n"
     "idle"},
    {"claim: what changes and changes back is not", DELTA,
     "view CDS a=2\nclaim CDS a=1\nsub CDS\nview CDS a=1\n-\nidle"},
    {"claim: what vanishes before the first view is told", DELTA,
     "claim EDS a=1 b=1\nsub EDS a b\nview EDS b=1\n< EDS -a\ndack EDS\n-\nidle"},
    {"claim: what vanishes and returns is not", DELTA,
     "view EDS a=1\nclaim EDS a=1\nsub EDS a\nview\nview EDS a=1\n-\nidle"},
    {"claim: what vanishes, is told, and returns is sent", DELTA,
     "view EDS a=1\nclaim EDS a=1\nsub EDS a\nview\n< EDS -a\nview EDS a=1\n< EDS a=1\ndack EDS\n"
     "dack EDS\n-\nidle"},
    {"claim: one of a name under * beside others", DELTA,
     "view CDS a=1 b=1 c=1\nclaim CDS a=1 b=0 gone=1\nsub CDS * a\n< CDS b=1 c=1 -gone\ndack CDS\n"
     "-\nidle"},
    {"claim: one without a subscription is nobody's", DELTA,
     "view EDS a=1\nclaim EDS a=1\nsub EDS\n-\nidle\nsub EDS a\n< EDS a=1\ndack EDS\n-\nidle"},
    {"claim: one in a later request is not heard", DELTA,
     "view EDS a=1 b=1\nsub EDS a\n< EDS a=1\ndack EDS\nclaim EDS b=1\nsub EDS b\n< EDS b=1\n-"},
    {"claim: one with the nonce of an earlier stream is good", DELTA,
     "view CDS a=1 b=1\nclaim CDS a=1\nforeign CDS\n< CDS b=1\ndack CDS\n-\nidle"},
    {"claim: one that is unsubscribed from in the same request is forgotten", DELTA,
     "view EDS a=1 b=1\nclaim EDS a=1 b=1\nsub EDS a b ! a\n-\nidle\nview\n< EDS -b\n-"},
    {"claim: the last one of a name counts", DELTA,
     "view EDS a=1\nclaim EDS a=0 a=1\nsub EDS a\n-\nidle"},
    {"claim: no version at all is no version of ours", DELTA,
     "view CDS a=1\nclaim CDS a=\nsub CDS\n< CDS a=1\n-"},
    {"claim: bytes that are no text are no version of ours", DELTA,
     "view CDS a=1\nclaim CDS a=\xff\xfe\x01%s\nsub CDS\n< CDS a=1\n-"},
    {"claim: a version that begins like ours is none of ours", DELTA,
     "view CDS a=1 b=11\nclaim CDS a=11 b=1\nsub CDS\n< CDS a=1 b=11\n-"},

    {"claim: endpoints of a cluster that was sent before they were claimed are sent", DELTA,
     "view CDS a=2 b=1 EDS a=1 b=1\nclaim CDS a=1 b=1\nsub CDS\n< CDS a=2\nclaim EDS a=1 b=1\n"
     "sub EDS a b\n< EDS a=1\ndack EDS\ndack CDS\n-\nidle"},
    {"claim: endpoints of a cluster that is sent after they were claimed are sent", DELTA,
     "view CDS a=2 b=1 EDS a=1 b=1\nclaim EDS a=1 b=1\nsub EDS a b\n-\nclaim CDS a=1 b=1\n"
     "sub CDS\n< CDS a=2\n< EDS a=1\ndack EDS\ndack CDS\n-\nidle"},
    {"claim: of who refused some of it all is sent, and what vanished is told", DELTA,
     "distrust LDS\nview CDS c=1 LDS a=1 b=1\nclaim LDS a=1 b=0 gone=1\nsub LDS\nclaim CDS c=1\n"
     "sub CDS\n< LDS a=1 b=1 -gone\ndack LDS\n-\nidle\naccepted"},

    /* ---- types ---- */
    {"type: one that is not ours leaves the others alone", SOTW,
     "view CDS a=1\nfirst CDS\n< CDS a=1\ntype type.googleapis.com/envoy.service.runtime.v3.Runtime"
     "\n-\ndue\nack CDS\n-\nidle\nview CDS a=2\n< CDS a=2\n-"},
    {"type: one that is not ours leaves the others alone", DELTA,
     "view CDS a=1\nsub CDS\n< CDS a=1\ntype type.googleapis.com/envoy.service.runtime.v3.Runtime"
     "\n-\ndue\ndack CDS\n-\nidle\nview CDS a=2\n< CDS a=2\n-"},
    {"type: one that is not ours does not open a stream", SOTW,
     "view CDS a=1\ntype type.googleapis.com/envoy.api.v2.Cluster\n-\ndue\nfirst CDS\n< CDS a=1\n"
     "-"},
    {"type: almost ours is not ours", DELTA,
     "view CDS a=1\ntype envoy.config.cluster.v3.Cluster\ntype type.googleapis.com/\n"
     "type type.googleapis.com/envoy.config.cluster.v3.Cluster/\n"
     "type type.googleapis.com/envoy.config.cluster.v3.cluster\n"
     "type https://type.googleapis.com/envoy.config.cluster.v3.Cluster\n"
     "type type.googleapis.com/envoy.config.cluster.v3\n-\ndue"},

    /* ---- names that nothing is ever made for ---- */
    {"absent: a cluster that does not exist is left out of an answer", SOTW,
     "view CDS a=1\nfirst CDS ghost\n< CDS\nack CDS ghost\n-\nview CDS a=2\n-\nidle"},
    {"absent: endpoints that do not exist are not answered", SOTW,
     "view EDS a=1\nfirst EDS ghost\n-\nidle\nfirst EDS ghost a\n< EDS a=1\nack EDS ghost a\n-\n"
     "view EDS a=2\n< EDS a=2\nack EDS ghost a\n-\nidle"},
    {"absent: it is told once, and not again when others change", DELTA,
     "view CDS a=1\nsub CDS ghost a\n< CDS a=1 -ghost\ndack CDS\nview CDS a=2\n< CDS a=2\ndack CDS"
     "\n-\nidle"},
    {"absent: it is told to who asks again", DELTA,
     "view\nsub EDS ghost\n< EDS -ghost\ndack EDS ghost\n< EDS -ghost\ndack EDS\n-\nidle"},
    {"absent: a refusal of its absence is not argued with", DELTA,
     "view\nsub EDS ghost\n< EDS -ghost\ndnack EDS\n-\nidle\nview EDS ghost=1\n< EDS ghost=1\n"
     "dack EDS\n-\nidle\naccepted"},
    {"absent: a cluster that is sent does not tell it again", DELTA,
     "view\nsub EDS a\n< EDS -a\ndack EDS\nsub CDS\n< CDS\ndack CDS\nview CDS a=1\n< CDS a=1\n-\n"
     "view CDS a=1 EDS a=1\n< EDS a=1\ndack EDS\ndack CDS\n-\nidle"},

    /* ---- refusals ---- */
    {"refusal: of an older response is not heard", SOTW,
     "view CDS a=1\nfirst CDS\n< CDS a=1\nview CDS a=2\n< CDS a=2\nstale-nack CDS\n-\naccepted\ndue"
     "\nack CDS\n-\nidle"},
    {"refusal: of an older response makes what only that held come once more", DELTA,
     "view CDS a=1\nsub CDS\n< CDS a=1\nview CDS a=1 b=1\n< CDS b=1\ndnack CDS\n< CDS a=1\ndack "
     "CDS\n"
     "dnack CDS\n-\nrefused\nidle\nview CDS a=1 b=2\n< CDS b=2\n< CDS a=1\ndack CDS\ndack CDS\n-"
     "\nidle\naccepted"},
    {"refusal: of an older response does not speak against what was sent since", DELTA,
     "view EDS a=1\nsub EDS a\n< EDS a=1\nview EDS a=2\n< EDS a=2\ndnack EDS\n-\ndack EDS\n-\nidle"
     "\naccepted"},
    {"refusal: of a removal whose name has come back is void", DELTA,
     "view EDS a=1 b=1\nsub EDS a b\n< EDS a=1 b=1\ndack EDS\nview EDS a=1\n< EDS -b\n"
     "view EDS a=1 b=1\n< EDS b=1\ndnack EDS\ndack EDS\n-\nidle\naccepted"},
    {"refusal: new names beside it are answered", SOTW,
     "view RDS a=1 b=1\nfirst RDS a\n< RDS a=1\nnack RDS a b\n< RDS a=1 b=1\nack RDS a b\n-\nidle\n"
     "accepted"},
    {"refusal: new names beside it are answered", DELTA,
     "view RDS a=1 b=1\nsub RDS a\n< RDS a=1\ndnack RDS b\n< RDS b=1\ndack RDS\n-\nrefused\nidle"},
    {"refusal: of routes is void once they are not wanted", DELTA,
     "view RDS a=1\nsub RDS a\n< RDS a=1\ndnack RDS\nrefused\nunsub RDS a\naccepted\n-\nidle"},
    {"refusal: of clusters is void once none are wanted", DELTA,
     "view CDS a=1\nsub CDS a\n< CDS a=1\ndnack CDS\nrefused\nunsub CDS a\naccepted\n-\nidle"},
    {"refusal: of all clusters is void once none are wanted", DELTA,
     "view CDS a=1\nsub CDS\n< CDS a=1\ndnack CDS\nrefused\nunsub CDS *\naccepted\n-\nidle"},
    {"refusal: of clusters is void once none are wanted", SOTW,
     "view CDS a=1\nfirst CDS a\n< CDS a=1\nnack CDS a\nrefused\nack CDS\naccepted\n-\nidle"},

    /* ---- names that come and go beside answers ---- */
    {"names: an acceptance brings one more", SOTW,
     "view EDS a=1 b=1\nfirst EDS a\n< EDS a=1\nack EDS a b\nwas ack\n< EDS a=1 b=1\nack EDS a b\n"
     "-\nidle"},
    {"names: an acceptance brings one more and ends another", DELTA,
     "view EDS a=1 b=1\nsub EDS a\n< EDS a=1\ndack EDS b ! a\nwas ack\n< EDS b=1\ndack EDS\n"
     "view EDS a=2 b=1\n-\nidle"},
    {"names: an acceptance exchanges one for another", SOTW,
     "view EDS a=1 b=1\nfirst EDS a\n< EDS a=1\nack EDS b\n< EDS b=1\nack EDS b\nview EDS a=2 b=1\n"
     "-\nidle"},
    {"names: one given up and taken again is answered", SOTW,
     "view EDS a=1 b=1\nfirst EDS a b\n< EDS a=1 b=1\nack EDS b\nack EDS a b\n< EDS a=1 b=1\n-"},
    {"names: one given up and taken again is answered", DELTA,
     "view EDS a=1\nsub EDS a\n< EDS a=1\ndack EDS\nunsub EDS a\nsub EDS a\n< EDS a=1\n-"},
    {"names: one in both lists is not subscribed to", DELTA,
     "view EDS a=1 b=1\nsub EDS a b ! a\n< EDS b=1\ndack EDS\nview EDS a=2 b=1\n-\nidle"},
    {"names: given up while on the way, it is not told any more", DELTA,
     "view EDS a=1 b=1\nsub EDS a b\n< EDS a=1 b=1\nunsub EDS a\ndack EDS\nview EDS b=1\n-\nidle"},
    {"names: said twice, they are one", SOTW,
     "view EDS a=1 b=1\nfirst EDS b a b a a\n< EDS a=1 b=1\nack EDS a a b b\n-\nack EDS a a\n"
     "view EDS a=1 b=2\n-\nidle"},
    {"names: said twice, they are one", DELTA,
     "view EDS a=1\nsub EDS a ghost a ghost\n< EDS a=1 -ghost\ndack EDS\nunsub EDS a a ghost\n"
     "view EDS a=2\n-\nidle"},
    {"names: * said twice is one", DELTA,
     "view CDS a=1\nsub CDS * * a a\n< CDS a=1\ndack CDS\nunsub CDS * *\nview CDS a=1 "
     "b=1\n-\nidle"},

    /* ---- what goes and comes back between two answers ---- */
    {"return: before its removal was sent, nothing is", SOTW,
     "view CDS a=1 b=1\nfirst CDS\n< CDS a=1 b=1\nview CDS a=1\nview CDS a=1 b=1\n-\nack CDS\n-\n"
     "idle"},
    {"return: before its removal was sent, nothing is", DELTA,
     "view CDS a=1 b=1\nsub CDS\n< CDS a=1 b=1\nview CDS a=1\nview CDS a=1 b=1\n-\ndack CDS\n-\n"
     "idle"},
    {"return: after its removal was sent, it is sent again", SOTW,
     "view CDS a=1 b=1\nfirst CDS\n< CDS a=1 b=1\nack CDS\nview CDS a=1\n< CDS a=1\n"
     "view CDS a=1 b=1\n< CDS a=1 b=1\nack CDS\n-\nidle"},
    {"return: after its removal was sent, it is sent again", DELTA,
     "view CDS a=1 b=1\nsub CDS\n< CDS a=1 b=1\ndack CDS\nview CDS a=1\n< CDS -b\n"
     "view CDS a=1 b=1\n< CDS b=1\ndack CDS\n-\ndack CDS\n-\nidle"},
    {"return: gone, back and gone again, the last counts", DELTA,
     "view CDS a=1 b=1\nsub CDS\n< CDS a=1 b=1\ndack CDS\nview CDS a=1\n< CDS -b\n"
     "view CDS a=1 b=1\n< CDS b=1\nview CDS a=1\n< CDS -b\ndack CDS\ndack CDS\ndack CDS\n-\nidle"},
    {"return: with other content, the newest is sent", DELTA,
     "view EDS a=1\nsub EDS a\n< EDS a=1\ndack EDS\nview\n< EDS -a\nview EDS a=2\nview EDS a=3\n"
     "< EDS a=3\ndack EDS\ndack EDS\n-\nidle"},
    {"return: a secret that was taken away is sent again", DELTA,
     "view SDS s=1\nsub SDS s\n< SDS s=1\ndack SDS\nview\n< SDS -s\nview SDS s=1\n< SDS s=1\n"
     "dack SDS\ndack SDS\n-\nidle"},
};

static void test_rule(void **state)
{
    const struct rule *rule = *state;
    run(rule->mode, rule->script);
}

/* ---- what is too long for a row ---- */

/* Whatever another control plane called its state, the client is told ours. */
static void test_versions_of_another_control_plane(void **state)
{
    (void)state;
    enum { LONG = 1 << 20 };
    char *endless = malloc(LONG + 1);
    assert_non_null(endless);
    memset(endless, 'v', LONG);
    endless[LONG] = '\0';
    const char *versions[] = {"0",    "2026-01-01T00:00:00Z/17", " ", "\xff\xfe\x80", "\n\t\"%s%n",
                              endless};
    char url[128];
    url_of(OSM_XDS_CDS, url, sizeof url);
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++)
        for (int mode = OSM_STREAM_SOTW; mode <= OSM_STREAM_DELTA; mode++) {
            struct client *c = client_new((enum osm_stream_mode)mode);
            struct osm_stream_claim claim = {"a", versions[i]};
            struct osm_stream_request r = {.type_url = url,
                                           .version = versions[i],
                                           .nonce = versions[i],
                                           .error = "",
                                           .claims = &claim,
                                           .claims_len = mode == OSM_STREAM_DELTA};
            char view[] = "view CDS a=1 b=1";
            step(c, view, 0);
            assert_int_equal(0, osm_stream_request(c->stream, &r, NULL, NULL));
            expect_next(c, "< CDS a=1 b=1", (int)i);
            client_free(c);
        }
    free(endless);
}

/* Two streams that have sent the same give different nonces, and take none of each other's. */
static void test_streams_do_not_take_each_others_nonces(void **state)
{
    (void)state;
    char url[128];
    url_of(OSM_XDS_CDS, url, sizeof url);
    for (int mode = OSM_STREAM_SOTW; mode <= OSM_STREAM_DELTA; mode++) {
        struct osm_stream *streams[2];
        char nonces[2][OSM_NONCE_SIZE];
        char text[] = "CDS a=1", *save = NULL;
        char *words[2] = {strtok_r(text, " ", &save), strtok_r(NULL, " ", &save)};
        struct osm_class *cls = class_of(words, 2);
        for (int i = 0; i < 2; i++) {
            streams[i] = osm_stream_new((enum osm_stream_mode)mode, 1U + (unsigned)i);
            assert_non_null(streams[i]);
            assert_int_equal(0, osm_stream_set_view(streams[i], cls, NULL, 0));
            struct osm_stream_request first = {
                .type_url = url, .version = "", .nonce = "", .error = ""};
            assert_int_equal(0, osm_stream_request(streams[i], &first, NULL, NULL));
            struct osm_stream_response r;
            assert_int_equal(1, osm_stream_next(streams[i], &r));
            memcpy(nonces[i], r.nonce, sizeof nonces[i]);
            osm_stream_response_clear(&r);
        }
        for (int i = 0; i < 2; i++) {
            enum osm_stream_verdict verdict;
            struct osm_stream_request r = {
                .type_url = url, .version = "", .nonce = nonces[1 - i], .error = ""};
            assert_int_equal(0, osm_stream_request(streams[i], &r, &verdict, NULL));
            assert_int_equal(OSM_STREAM_STALE, verdict);
            assert_true(osm_stream_due(streams[i]));
            r.nonce = nonces[i];
            assert_int_equal(0, osm_stream_request(streams[i], &r, &verdict, NULL));
            assert_int_equal(OSM_STREAM_ACK, verdict);
            assert_false(osm_stream_due(streams[i]));
            osm_stream_free(streams[i]);
        }
        osm_class_unref(cls);
    }
}

struct crowd {
    struct osm_class *cls;
    char (*texts)[24];
    const char **names;
};

static struct crowd crowd_of(enum osm_xds_type type, size_t n)
{
    struct crowd crowd = {osm_class_new(), calloc(n, sizeof *crowd.texts),
                          calloc(n, sizeof *crowd.names)};
    assert_true(crowd.cls && crowd.texts && crowd.names);
    crowd.cls->types[type].list = osm_alloc_array(n, sizeof *crowd.cls->types[type].list);
    assert_non_null(crowd.cls->types[type].list);
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(crowd.texts[i], sizeof crowd.texts[i], "n%06zu", i);
        crowd.names[i] = crowd.texts[i];
        crowd.cls->types[type].list[i] = resource_of(crowd.names[i], "1");
    }
    crowd.cls->types[type].len = n;
    return crowd;
}

static void crowd_free(struct crowd *crowd)
{
    osm_class_unref(crowd->cls);
    free(crowd->texts);
    free(crowd->names);
}

/* The limit speaks of what a client says in names, not of what it has said before, nor of what it
 * was sent. */
static void test_as_many_names_as_may_be_can_be_repeated(void **state)
{
    (void)state;
    enum { N = 65536 };
    char url[128];
    url_of(OSM_XDS_EDS, url, sizeof url);
    struct crowd crowd = crowd_of(OSM_XDS_EDS, N);
    struct osm_stream *s = osm_stream_new(OSM_STREAM_SOTW, 1);
    assert_int_equal(0, osm_stream_set_view(s, crowd.cls, NULL, 0));
    struct osm_stream_request r = {.type_url = url,
                                   .version = "",
                                   .nonce = "",
                                   .error = "",
                                   .names = crowd.names,
                                   .names_len = N};
    struct osm_stream_response out;
    assert_int_equal(0, osm_stream_request(s, &r, NULL, NULL));
    assert_int_equal(1, osm_stream_next(s, &out));
    assert_int_equal(N, out.resources_len);
    r.nonce = out.nonce;
    assert_int_equal(0, osm_stream_request(s, &r, NULL, NULL));
    assert_false(osm_stream_due(s));
    osm_stream_response_clear(&out);
    osm_stream_free(s);
    crowd_free(&crowd);
}

static void test_names_that_come_one_by_one_have_the_same_limit(void **state)
{
    (void)state;
    enum { N = 65537 };
    char url[128];
    url_of(OSM_XDS_EDS, url, sizeof url);
    struct crowd crowd = crowd_of(OSM_XDS_EDS, N);
    struct osm_stream *s = osm_stream_new(OSM_STREAM_DELTA, 1);
    struct osm_stream_request r = {.type_url = url,
                                   .version = "",
                                   .nonce = "",
                                   .error = "",
                                   .names = crowd.names,
                                   .names_len = N - 1};
    assert_int_equal(0, osm_stream_request(s, &r, NULL, NULL));
    r.names = crowd.names + 7; /* known already */
    r.names_len = 100;
    assert_int_equal(0, osm_stream_request(s, &r, NULL, NULL));
    r.names = crowd.names + N - 1;
    r.names_len = 1;
    struct osm_err err = {0};
    assert_int_equal(OSM_ELIMIT, osm_stream_request(s, &r, NULL, &err));
    osm_stream_free(s);
    crowd_free(&crowd);
}

static void test_a_wildcard_may_hold_more_than_names_may_be_said(void **state)
{
    (void)state;
    enum { N = 70000 };
    char url[128];
    url_of(OSM_XDS_CDS, url, sizeof url);
    struct crowd crowd = crowd_of(OSM_XDS_CDS, N);
    for (int mode = OSM_STREAM_SOTW; mode <= OSM_STREAM_DELTA; mode++) {
        struct osm_stream *s = osm_stream_new((enum osm_stream_mode)mode, 1);
        assert_int_equal(0, osm_stream_set_view(s, crowd.cls, NULL, 0));
        struct osm_stream_request r = {.type_url = url, .version = "", .nonce = "", .error = ""};
        struct osm_stream_response out;
        assert_int_equal(0, osm_stream_request(s, &r, NULL, NULL));
        assert_int_equal(1, osm_stream_next(s, &out));
        assert_int_equal(N, out.resources_len);
        r.nonce = out.nonce;
        assert_int_equal(0, osm_stream_request(s, &r, NULL, NULL));
        assert_false(osm_stream_due(s));
        osm_stream_response_clear(&out);
        osm_stream_free(s);
    }
    crowd_free(&crowd);
}

int main(void)
{
    enum { RULES = sizeof rules / sizeof rules[0] };
    const struct CMUnitTest others[] = {
        cmocka_unit_test(test_versions_of_another_control_plane),
        cmocka_unit_test(test_streams_do_not_take_each_others_nonces),
        cmocka_unit_test(test_as_many_names_as_may_be_can_be_repeated),
        cmocka_unit_test(test_names_that_come_one_by_one_have_the_same_limit),
        cmocka_unit_test(test_a_wildcard_may_hold_more_than_names_may_be_said),
    };
    struct CMUnitTest tests[RULES + sizeof others / sizeof others[0]];
    static char names[RULES][160];
    for (size_t i = 0; i < RULES; i++) {
        (void)snprintf(names[i], sizeof names[i], "%s: %s",
                       rules[i].mode == SOTW ? "state of the world" : "delta", rules[i].name);
        tests[i] = (struct CMUnitTest){
            .name = names[i], .test_func = test_rule, .initial_state = (void *)&rules[i]};
    }
    memcpy(tests + RULES, others, sizeof others);
    return cmocka_run_group_tests(tests, NULL, no_memory_left_behind);
}
