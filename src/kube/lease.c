#include "kube/lease.h"

#include "base/json.h"
#include "base/utf8.h"
#include "kube/reflector.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

const struct osm_lease_limits osm_lease_defaults = {
    .duration_ms = 15 * 1000, .renew_ms = 10 * 1000, .retry_ms = 2 * 1000, .denied_ms = 30 * 1000};

enum { OTHERS_MAX_MS = 5 * 60 * 1000, RETRY_AFTER_MAX_S = 60 };

void osm_lease_init(struct osm_lease *l, const struct osm_lease_limits *limits,
                    const char *identity)
{
    *l = (struct osm_lease){.limits = limits, .identity = identity, .step = OSM_LEASE_GET};
}

bool osm_lease_leads(const struct osm_lease *l, uint64_t now_ms)
{
    return l->held && now_ms < l->renewed_ms + l->limits->renew_ms;
}

uint64_t osm_lease_until(const struct osm_lease *l)
{
    return l->renewed_ms + l->limits->renew_ms;
}

uint64_t osm_lease_wait(const struct osm_lease *l, uint64_t now_ms)
{
    return l->not_before_ms > now_ms ? l->not_before_ms - now_ms : 0;
}

/* --- asking --- */

/* As MicroTime of Kubernetes: "2030-01-31T23:59:59.000000Z". */
static void micro_time(int64_t wall_us, char out[40])
{
    time_t seconds = (time_t)(wall_us / 1000000);
    struct tm tm;
    out[0] = '\0';
    if (gmtime_r(&seconds, &tm)) {
        size_t n = strftime(out, 40, "%Y-%m-%dT%H:%M:%S", &tm);
        (void)snprintf(out + n, 40 - n, ".%06dZ", (int)(wall_us % 1000000));
    }
}

static json_t *spec_of(const struct osm_lease *l, int64_t wall_us)
{
    char now[40];
    bool is_new = strcmp(l->holder, l->identity) != 0;
    micro_time(wall_us, now);
    json_t *spec =
        json_pack("{s:s, s:I, s:s}", "holderIdentity", l->identity, "leaseDurationSeconds",
                  (json_int_t)(l->limits->duration_ms / 1000), "renewTime", now);
    if (spec && is_new &&
        (json_object_set_new(spec, "acquireTime", json_string(now)) ||
         json_object_set_new(spec, "leaseTransitions",
                             json_integer(l->step == OSM_LEASE_CREATE ? 0 : l->transitions + 1)))) {
        json_decref(spec);
        return NULL;
    }
    return spec;
}

static int add_text(const char *text, size_t len, void *ud)
{
    return osm_buf_add(ud, text, len) ? -1 : 0;
}

int osm_lease_ask(struct osm_lease *l, const char *ns, const char *name, uint64_t now_ms,
                  int64_t wall_us, struct osm_buf *body)
{
    json_t *object = NULL;
    l->asked_ms = now_ms;
    if (l->step == OSM_LEASE_GET)
        return 0;
    if (l->step == OSM_LEASE_CREATE)
        object = json_pack("{s:s, s:s, s:{s:s, s:s}, s:o}", "apiVersion", "coordination.k8s.io/v1",
                           "kind", "Lease", "metadata", "name", name, "namespace", ns, "spec",
                           spec_of(l, wall_us));
    else
        object =
            json_pack("{s:{s:s}, s:o}", "metadata", "resourceVersion", l->resource_version, "spec",
                      l->step == OSM_LEASE_UPDATE
                          ? spec_of(l, wall_us)
                          : json_pack("{s:n, s:i}", "holderIdentity", "leaseDurationSeconds", 1));
    int rc = object && !json_dump_callback(object, add_text, body, JSON_COMPACT) ? 0 : OSM_ENOMEM;
    json_decref(object);
    return rc;
}

/* --- answers --- */

static uint64_t spread(uint64_t ms, uint32_t random)
{
    return ms + ms * (random % 1024) / 5120; /* up to a fifth more */
}

/* What the server has now. */
static void see(struct osm_lease *l, const json_t *object)
{
    const json_t *spec = json_object_get(object, "spec");
    const char *version = osm_json_text(json_object_get(object, "metadata"), "resourceVersion");
    json_int_t seconds = json_integer_value(json_object_get(spec, "leaseDurationSeconds"));
    bool is_same = !strcmp(version, l->resource_version) && *version;
    uint64_t number = osm_kube_version(version);
    l->set_back = l->set_back || (number && number < l->version);
    l->version = number ? number : l->version;
    (void)snprintf(l->resource_version, sizeof l->resource_version, "%s", version);
    (void)snprintf(l->holder, sizeof l->holder, "%s", osm_json_text(spec, "holderIdentity"));
    json_int_t transitions = json_integer_value(json_object_get(spec, "leaseTransitions"));
    l->transitions = transitions > 0 && transitions < INT32_MAX ? transitions : 0;
    l->others_ms = l->limits->duration_ms;
    if (seconds > 0 && (uint64_t)seconds > l->others_ms / 1000)
        l->others_ms = seconds < OTHERS_MAX_MS / 1000 ? (uint64_t)seconds * 1000 : OTHERS_MAX_MS;
    if (strcmp(l->holder, l->identity) != 0)
        l->held = false;
    if (!is_same)
        l->seen_ms = 0; /* set by the caller, who has the time */
}

static bool is_free(const struct osm_lease *l, uint64_t now_ms)
{
    return !*l->holder || !strcmp(l->holder, l->identity) || now_ms - l->seen_ms >= l->others_ms;
}

static void known(struct osm_lease *l, const json_t *object, uint64_t now_ms, uint32_t random)
{
    bool was_write = l->step != OSM_LEASE_GET;
    see(l, object);
    if (!l->seen_ms)
        l->seen_ms = now_ms;
    l->failure[0] = '\0';
    l->denied = false;
    if (was_write && !strcmp(l->holder, l->identity)) {
        l->held = true;
        l->renewed_ms = l->asked_ms;
        l->conflicts = 0;
    }
    l->step = is_free(l, now_ms) ? OSM_LEASE_UPDATE : OSM_LEASE_GET;
    bool at_once = l->step == OSM_LEASE_UPDATE && !was_write;
    l->not_before_ms = at_once ? now_ms : now_ms + spread(l->limits->retry_ms, random);
}

static void fail(struct osm_lease *l, int status, const char *message, uint64_t wait_ms,
                 uint64_t now_ms, uint32_t random)
{
    if (status)
        (void)snprintf(l->failure, sizeof l->failure, "HTTP %d: %s", status, message);
    else
        (void)snprintf(l->failure, sizeof l->failure, "%s", message);
    (void)osm_utf8_repair(l->failure);
    l->not_before_ms = now_ms + spread(wait_ms, random);
}

/* There is none yet; or it has been deleted, and who held it may not know so for a while. */
static void missing(struct osm_lease *l, uint64_t now_ms)
{
    bool was_others = *l->holder && strcmp(l->holder, l->identity) != 0;
    l->held = false;
    l->holder[0] = l->resource_version[0] = '\0';
    l->step = OSM_LEASE_CREATE;
    l->not_before_ms = now_ms + (was_others ? l->others_ms : 0);
}

void osm_lease_answered(struct osm_lease *l, int status, const json_t *object, const char *message,
                        int64_t retry_after_s, uint64_t now_ms, uint32_t random)
{
    bool is_success = status >= 200 && status < 300;
    if (is_success && *osm_json_text(json_object_get(object, "metadata"), "resourceVersion")) {
        known(l, object, now_ms, random);
        return;
    }
    uint64_t wait_ms = l->limits->retry_ms;
    if (retry_after_s > 0)
        wait_ms =
            (uint64_t)(retry_after_s < RETRY_AFTER_MAX_S ? retry_after_s : RETRY_AFTER_MAX_S) *
            1000;
    l->denied = status == 401 || status == 403;
    if (l->denied)
        wait_ms = l->limits->denied_ms;
    if (status == 404 && l->step != OSM_LEASE_CREATE) {
        missing(l, now_ms);
        return;
    }
    if (status == 409) { /* somebody else was first, or has touched it: how is it now? */
        bool at_once = l->held && !l->conflicts; /* who leads has little time, but no loop */
        l->conflicts++;
        l->step = OSM_LEASE_GET;
        l->not_before_ms = now_ms + (at_once ? 0 : spread(l->limits->retry_ms / 4, random));
        return;
    }
    if (status == 404) /* its namespace is missing */
        wait_ms = l->limits->denied_ms;
    /* Also after a write whose fate is unknown: what is there is looked at first. */
    l->step = OSM_LEASE_GET;
    fail(l, status, is_success ? "the answer is no Lease" : message, wait_ms, now_ms, random);
}

bool osm_lease_release(struct osm_lease *l, uint64_t now_ms)
{
    if (!osm_lease_leads(l, now_ms)) {
        l->held = false;
        return false;
    }
    l->held = false;
    l->step = OSM_LEASE_RELEASE;
    l->not_before_ms = now_ms;
    return true;
}
