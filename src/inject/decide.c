/* Which pods get a sidecar. The pod's word comes before its namespace's, and one that is neither
 * yes nor no is an error: whoever wrote it believes in either. */
#include "inject/admission_priv.h"
#include "model/object.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#define INJECTION    "openservicemesh.io/sidecar-injection"
#define MONITORED_BY "openservicemesh.io/monitored-by"
#define IGNORE       "openservicemesh.io/ignore"
#define METRICS      "openservicemesh.io/metrics"

enum { LABEL_MAX_BYTES = 63 };

enum word { ABSENT, YES, NO };

static enum word word_of(const char *text)
{
    static const char *const words[] = {"enabled", "yes", "true", "disabled", "no", "false"};
    for (size_t i = 0; text && i < 6; i++)
        if (!strcasecmp(text, words[i]))
            return i < 3 ? YES : NO;
    return ABSENT;
}

static int read_word(const json_t *body, const char *of, enum word *out, struct osm_err *err)
{
    const json_t *value = osm_json_at(body, "metadata", "annotations", INJECTION, NULL);
    const char *text = json_string_value(value);
    *out = word_of(text);
    if (!value || *out != ABSENT)
        return 0;
    return osm_fail(err, OSM_EINVAL,
                    "Invalid annotation value for key '" INJECTION "' of the %s: '%.64s'; expected "
                    "enabled, yes, true, disabled, no or false",
                    of, text ? text : "");
}

static bool is_of_control(const char *ns, const struct osm_injector *injector)
{
    return !strcmp(ns, "kube-system") || !strcmp(ns, "kube-public") ||
           !strcmp(ns, injector->osm_namespace);
}

/* Why the pod is none of the mesh's; NULL: it is. */
static const char *why_outside(const struct osm_admission *a, const struct osm_injector *injector,
                               const json_t *ns_body)
{
    const char *mesh = osm_json_str_at(ns_body, "metadata", "labels", MONITORED_BY, NULL);
    if (json_is_true(osm_json_at(a->pod, "spec", "hostNetwork", NULL)))
        return "the pod is in the network of its node (hostNetwork)";
    if (is_of_control(a->ns, injector))
        return "its namespace never gets sidecars";
    if (!mesh || strcmp(mesh, injector->mesh_name) != 0)
        return "its namespace has no label " MONITORED_BY " of this mesh";
    if (osm_json_at(ns_body, "metadata", "labels", IGNORE, NULL))
        return "its namespace has the label " IGNORE;
    return NULL;
}

/* Version 4: random. */
static int make_uuid(char out[OSM_UUID_SIZE], struct osm_err *err)
{
    unsigned char b[16];
    size_t at = 0;
    if (getrandom(b, sizeof b, 0) != (ssize_t)sizeof b)
        return osm_fail(err, OSM_EIO, "proxy uuid: the kernel gives no random bytes");
    b[6] = (unsigned char)(0x40 | (b[6] & 0x0f));
    b[8] = (unsigned char)(0x80 | (b[8] & 0x3f));
    for (size_t i = 0; i < sizeof b; i++)
        at += (size_t)snprintf(out + at, OSM_UUID_SIZE - at, "%s%02x",
                               i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", b[i]);
    return 0;
}

/* The identity is a DNS name of the sidecar's certificate, where Kubernetes' names may be longer.
 */
static int check_account(const char *account, struct osm_err *err)
{
    if (osm_account_valid(account))
        return 0;
    for (const char *label = account; *label; label += strspn(label, ".")) {
        size_t len = strcspn(label, ".");
        if (len > LABEL_MAX_BYTES && strlen(account) < OSM_DNS_NAME_SIZE)
            return osm_fail(err, OSM_EINVAL,
                            "spec.serviceAccountName: '%.24s...' has %zu bytes without a dot: it "
                            "becomes a DNS name of the sidecar's certificate, which has at most %d "
                            "between dots: use an account with a shorter name",
                            label, len, LABEL_MAX_BYTES);
        label += len;
    }
    return osm_fail(err, OSM_EINVAL, "spec.serviceAccountName: '%.64s' is no name of one", account);
}

static int identify(struct osm_admission *a, struct osm_err *err)
{
    const char *account = osm_pod_body_account(a->pod);
    int rc = check_account(account, err);
    if (rc)
        return rc;
    (void)snprintf(a->id.account, sizeof a->id.account, "%s", account);
    (void)snprintf(a->id.ns, sizeof a->id.ns, "%s", a->ns);
    return make_uuid(a->id.uuid, err);
}

static int decide(struct osm_admission *a, const struct osm_injector *injector,
                  const json_t *ns_body, const json_t *mesh_config, struct osm_err *err)
{
    const char *outside = why_outside(a, injector, ns_body);
    const char *metrics = osm_json_str_at(ns_body, "metadata", "annotations", METRICS, NULL);
    enum word pods = ABSENT, namespaces = ABSENT;
    int rc = 0;
    if (!outside)
        rc = osm__admission_coded(a, OSM__POD_WORD, read_word(a->pod, "pod", &pods, err));
    if (!outside && !rc && pods == ABSENT)
        rc = osm__admission_coded(a, OSM__NAMESPACE_WORD,
                                  read_word(ns_body, "namespace", &namespaces, err));
    if (!outside && !rc && pods != YES && namespaces != YES)
        outside = pods == NO         ? "its annotation " INJECTION " says no"
                  : namespaces == NO ? "its namespace's annotation " INJECTION " says no"
                                     : "neither it nor its namespace has the annotation " INJECTION;
    if (rc || outside) {
        (void)snprintf(a->reason, sizeof a->reason, "%s", outside ? outside : "");
        return rc;
    }
    rc = identify(a, err);
    if (!rc)
        rc = osm__patch_make(a, injector, mesh_config, word_of(metrics) == YES, err);
    if (!rc)
        a->outcome = OSM_ADMISSION_INJECT;
    return rc;
}

void osm_admission_decide(struct osm_admission *a, const struct osm_injector *injector,
                          const json_t *ns_body, const json_t *mesh_config)
{
    struct osm_err why = {0};
    if (a->outcome == OSM_ADMISSION_DENY || !a->pod)
        return;
    if (decide(a, injector, ns_body, mesh_config, &why))
        osm_admission_deny(a, why.msg);
}
