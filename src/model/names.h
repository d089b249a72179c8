/* Identities and the names derived from them. Pure. Kubernetes namespaces hold no dot, account
 * names may: parse from the right (trust domain, then namespace), and on the left uuid and kind;
 * what is between is the account. */
#pragma once

#include "base/err.h"

#include <stdbool.h>

enum { OSM_UUID_SIZE = 37, OSM_DNS_NAME_SIZE = 254, OSM_NS_SIZE = 64 };

/* Who a proxy is, as its certificate says: "<uuid>.sidecar.<account>.<namespace>.<trust domain>".
 */
struct osm_proxy_id {
    char uuid[OSM_UUID_SIZE]; /* lower case */
    char account[OSM_DNS_NAME_SIZE];
    char ns[OSM_NS_SIZE];
};

enum { OSM_PROXY_KEY_SIZE = OSM_UUID_SIZE + OSM_NS_SIZE };
/** "<uuid>.<namespace>": how a proxy is known here. A uuid alone is a label that anybody can put on
 * a pod of another namespace. @p uuid of either case. Returns @p out. */
char *osm_proxy_key(char out[OSM_PROXY_KEY_SIZE], const char *uuid, const char *ns);
/** Parses a certificate's common name: exactly what osm_proxy_common_name makes, but for the case
 * of the uuid. Each part is checked as Kubernetes checks it, so no part can hold what belongs to
 * another. Errors: OSM_EINVAL naming the part (uuid, kind, account, namespace, trust domain). */
OSM_MUST_USE int osm_proxy_id_parse(struct osm_proxy_id *out, const char *common_name,
                                    const char *trust_domain, struct osm_err *err);
/** "<uuid>.sidecar.<account>.<namespace>.<trust domain>"; osm_free. */
OSM_MUST_USE char *osm_proxy_common_name(const struct osm_proxy_id *id, const char *trust_domain);
/** "<account>.<namespace>.<trust domain>", the principal of a workload; osm_free. */
OSM_MUST_USE char *osm_principal(const char *account, const char *ns, const char *trust_domain);
/** 8-4-4-4-12 hex digits of either case. */
bool osm_uuid_valid(const char *text);
/** What Kubernetes allows as a service account's name: labels of lower case letters, digits and
 * hyphens, joined by dots. */
bool osm_account_valid(const char *text);
