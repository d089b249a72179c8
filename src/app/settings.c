#include "app/settings.h"

#include "base/log.h"
#include "ca/ca.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

enum { VALIDITY_S = 24 * 3600 };
static const int64_t VALIDITY_MAX_S = 10LL * 366 * 24 * 3600;

struct osm_host_settings osm_host_settings_default(void)
{
    return (struct osm_host_settings){.service_cert_validity_s = VALIDITY_S};
}

static int integer(const json_t *in, const char *name, int64_t low, int64_t high, int64_t *out,
                   struct osm_err *err)
{
    const json_t *value = json_object_get(in, name);
    int64_t got = json_integer_value(value);
    if (!value)
        return 0;
    if (!json_is_integer(value) || got < low || got > high)
        return osm_fail(err, OSM_EINVAL, "%s: expected an integer from %" PRId64 " to %" PRId64,
                        name, low, high);
    *out = got;
    return 0;
}

static int flag(const json_t *in, const char *name, bool *out, struct osm_err *err)
{
    const json_t *value = json_object_get(in, name);
    if (value && !json_is_boolean(value))
        return osm_fail(err, OSM_EINVAL, "%s: expected true or false", name);
    *out = json_is_true(value);
    return 0;
}

/* Absent: NULL. */
static int text(const json_t *in, const char *name, const char **out, struct osm_err *err)
{
    const json_t *value = json_object_get(in, name);
    if (value && !json_is_string(value))
        return osm_fail(err, OSM_EINVAL, "%s: expected a text", name);
    *out = json_string_value(value);
    return 0;
}

/* Lua's empty table is an empty object. */
static int texts(const json_t *in, const char *name, const json_t **out, struct osm_err *err)
{
    const json_t *value = json_object_get(in, name);
    bool empty = !value || (json_is_object(value) && !json_object_size(value));
    size_t i;
    const json_t *item;
    if (!empty && !json_is_array(value))
        return osm_fail(err, OSM_EINVAL, "tls.%s: expected a list of texts", name);
    json_array_foreach ((json_t *)(uintptr_t)value, i, item)
        if (!json_is_string(item))
            return osm_fail(err, OSM_EINVAL, "tls.%s[%zu]: expected a text", name, i);
    *out = empty ? NULL : value;
    return 0;
}

static bool is_envoy_level(const char *word)
{
    static const char *const words[] = {"trace", "debug",    "info", "warning",
                                        "error", "critical", "off"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(word, words[i]))
            return true;
    return false;
}

/* Empty texts leave the choice to the daemon. */
static int levels(const json_t *answer, struct osm_host_settings *made, struct osm_err *err)
{
    int rc = text(answer, "log_level", &made->log_level, err);
    if (!rc)
        rc = text(answer, "sidecar_log_level", &made->sidecar_log_level, err);
    if (rc)
        return rc;
    if (made->log_level && !*made->log_level)
        made->log_level = NULL;
    if (made->sidecar_log_level && !*made->sidecar_log_level)
        made->sidecar_log_level = NULL;
    if (made->log_level && osm_log_level_parse(made->log_level) < 0)
        return osm_fail(err, OSM_EINVAL, "log_level: there is no level \"%s\"", made->log_level);
    if (made->sidecar_log_level && !is_envoy_level(made->sidecar_log_level))
        return osm_fail(err, OSM_EINVAL, "sidecar_log_level: Envoy has no level \"%s\"",
                        made->sidecar_log_level);
    return 0;
}

int osm_host_settings_take(struct osm_host_settings *settings, json_t *answer, struct osm_err *err)
{
    struct osm_host_settings made = osm_host_settings_default();
    const json_t *tls = json_object_get(answer, "tls");
    int64_t bits = 0, proxies = 0;
    int rc = integer(answer, "service_cert_validity_s", 1, VALIDITY_MAX_S,
                     &made.service_cert_validity_s, err);
    if (!rc)
        rc = integer(answer, "rsa_bits", 0, OSM_RSA_BITS_MAX, &bits, err);
    if (!rc && bits && bits < OSM_RSA_BITS_MIN)
        rc = osm_fail(err, OSM_EINVAL, "rsa_bits: expected 0 or at least %d", OSM_RSA_BITS_MIN);
    if (!rc)
        rc = flag(answer, "rsa_only", &made.rsa_only, err);
    if (!rc)
        rc = flag(answer, "no_rsa", &made.no_rsa, err);
    if (!rc)
        rc = flag(answer, "debug_server", &made.debug_server, err);
    if (!rc)
        rc = integer(answer, "proxies_max", 0, UINT32_MAX, &proxies, err);
    if (!rc)
        rc = text(tls, "minimum", &made.tls_minimum, err);
    if (!rc)
        rc = text(tls, "maximum", &made.tls_maximum, err);
    if (!rc)
        rc = texts(tls, "ciphers", &made.cipher_suites, err);
    if (!rc)
        rc = texts(tls, "curves", &made.ecdh_curves, err);
    if (!rc)
        rc = levels(answer, &made, err);
    if (rc) {
        osm_err_prepend(err, "host_settings: ");
        return rc;
    }
    made.rsa_bits = (int)bits;
    made.proxies_max = (uint32_t)proxies;
    made.owned = json_incref(answer);
    osm_host_settings_free(settings);
    *settings = made;
    return 0;
}

void osm_host_settings_free(struct osm_host_settings *settings)
{
    json_decref(settings->owned);
    *settings = osm_host_settings_default();
}
