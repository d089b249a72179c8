/* The mesh's own certificate authority: a root made once in the state directory, and the leaves it
 * signs. Beside the root that signs (active), others may be trusted (passive): so one root follows
 * another without a proxy that trusts only one of them. An osm_ca is what the directory held when
 * it was opened, and does not change; a rotation opens it again and asks osm_ca_may_follow. The
 * only module beside http's TLS that includes OpenSSL. Private keys live in buffers that are wiped,
 * are never logged, and leave only through osm_leaf_key_pem and osm_ca_write. P-256 by default. A
 * common name may be over 64 bytes here. */
#pragma once

#include "base/buf.h"
#include "base/bytes.h"
#include "base/err.h"

#include <stdint.h>

struct osm_ca;

struct osm_ca_config {
    /* Created 0700 where absent (not its parents); holds ca.crt (0644) and private.key (0600), and
     * where an operator has put it, passive.crt: roots that are trusted but do not sign. */
    const char *state_dir;
    const char *trust_domain; /* "cluster.local" */
};

enum { OSM_CA_PASSIVE_MAX = 8 };

/** Loads the roots, or creates one when neither file is there (written aside, fsync, renamed; the
 * key first). Refuses, and never makes a new root: only one of the two files, a key that does not
 * match, not a CA, expired, files readable by others, directory not writable or full. A crash while
 * the root was made is completed, never started anew. A pair of the operator's own is used as it
 * is: self-signed, P-256, P-384 or RSA from 2048 bits. Blocks (files; up to 10 s for another
 * process's lock). Errors: OSM_EACCES, OSM_EIO, OSM_EMISMATCH (half a pair, or not a pair),
 * OSM_EPARSE, OSM_EREJECTED (not a root, expired, weak key), OSM_EBUSY, OSM_EINVAL: what, which
 * file, what to do. */
OSM_MUST_USE int osm_ca_open(struct osm_ca **out, const struct osm_ca_config *config,
                             struct osm_err *err);

/* The same roots kept elsewhere, such as in a Secret; PEM. */
struct osm_ca_texts {
    const struct osm_buf *cert, *key;
    const struct osm_buf *passive; /* NULL: none */
};
/** As osm_ca_open, of texts. Errors: OSM_EPARSE, OSM_EMISMATCH, OSM_EREJECTED, OSM_ELIMIT: which
 * text ("ca.crt: ..."), and what to do. */
OSM_MUST_USE int osm_ca_read(struct osm_ca **out, const struct osm_ca_texts *texts,
                             const char *trust_domain, struct osm_err *err);
/** A new root, kept nowhere yet. Errors: OSM_ECRYPTO, OSM_EINVAL, OSM_ENOMEM. */
OSM_MUST_USE int osm_ca_make(struct osm_ca **out, const char *trust_domain, struct osm_err *err);
/** Appends the root that signs, and its key, in PEM. @p key: a secret buffer. Errors: OSM_ENOMEM.
 */
OSM_MUST_USE int osm_ca_write(const struct osm_ca *ca, struct osm_buf *cert, struct osm_buf *key,
                              struct osm_err *err);
/** References; thread: any. */
struct osm_ca *osm_ca_ref(const struct osm_ca *ca);
void osm_ca_unref(struct osm_ca *ca);
/** All trusted roots in PEM, the signing one first; borrowed for the life of @p ca. */
const char *osm_ca_roots_pem(const struct osm_ca *ca);
/** SHA-256 of the signing root, hex, for logs, status and leaf versions. */
const char *osm_ca_fingerprint(const struct osm_ca *ca);
int64_t osm_ca_not_after(const struct osm_ca *ca);
/** The trusted roots that do not sign; @p i from 0 below osm_ca_passive_count. */
size_t osm_ca_passive_count(const struct osm_ca *ca);
const char *osm_ca_passive_fingerprint(const struct osm_ca *ca, size_t i);
int64_t osm_ca_passive_not_after(const struct osm_ca *ca, size_t i);
/** Whether the same root signs and the same ones are trusted. */
bool osm_ca_same(const struct osm_ca *a, const struct osm_ca *b);
/** Whether proxies that trust what @p before trusts get through while @p next takes over: the root
 * that signs next is trusted already, and the one that has signed stays trusted. Errors:
 * OSM_EREJECTED with what to do first. */
OSM_MUST_USE int osm_ca_may_follow(const struct osm_ca *before, const struct osm_ca *next,
                                   struct osm_err *err);

enum osm_leaf_kind {
    OSM_LEAF_ADS,     /* CN and DNS SAN ads.<trust domain>; EKU server */
    OSM_LEAF_PROXY,   /* CN <uuid>.sidecar.<account>.<ns>.<td>, that name as DNS SAN, URI SAN
                         spiffe://<td>/osm/proxy/<uuid>; EKU client */
    OSM_LEAF_SERVICE, /* CN and DNS SAN <account>.<ns>.<td>; EKU server and client */
    OSM_LEAF_WEBHOOK /* CN and DNS SAN <service>.<ns>.svc, as the API server calls it; EKU server */
};

enum { OSM_RSA_BITS_MIN = 2048, OSM_RSA_BITS_MAX = 4096 };

struct osm_leaf_request {
    enum osm_leaf_kind kind;
    const char *common_name; /* whole; NULL for OSM_LEAF_ADS */
    const char *uuid;        /* OSM_LEAF_PROXY only */
    int64_t validity_s; /* cut to the root's notAfter; negative makes one that has expired already,
                           for tests */
    int rsa_bits; /* 0: a P-256 key; else RSA of so many bits, which takes a hundred times as long
                   */
};

struct osm_leaf;
/** Makes a key and signs. Blocks for about a millisecond. Thread: any (the CA is not changed).
 *  Errors: OSM_EINVAL a name that is not of its kind, or RSA bits out of range; OSM_ELIMIT over 253
 * bytes; OSM_EREJECTED a service account named like a proxy, or the root has expired; OSM_ECRYPTO,
 * OSM_ENOMEM. */
OSM_MUST_USE int osm_ca_issue(const struct osm_ca *ca, const struct osm_leaf_request *request,
                              struct osm_leaf **out, struct osm_err *err);
struct osm_leaf *osm_leaf_ref(struct osm_leaf *leaf);
void osm_leaf_unref(struct osm_leaf *leaf);
const char *osm_leaf_chain_pem(const struct osm_leaf *leaf);
/** The private key, PKCS#8 PEM; in memory that is wiped with the leaf. */
const char *osm_leaf_key_pem(const struct osm_leaf *leaf);
int64_t osm_leaf_not_after(const struct osm_leaf *leaf);
/** In how many seconds it should be replaced, by the wall clock, which may have jumped since it was
 * made: when two thirds of its life are over; 0 now, also when it is not valid yet. */
int64_t osm_leaf_due_s(const struct osm_leaf *leaf, int64_t now_s);
const char *osm_leaf_serial(const struct osm_leaf *leaf); /* hex */
