#include "inject/mesh_config.h"

#include "inject/resources.h"
#include "model/object.h"

#include <string.h>

enum { NAME_BYTES_MAX = 1024 };

/* --- TLS --- */

static const char *const versions[] = {"TLSv1_0", "TLSv1_1", "TLSv1_2", "TLSv1_3"};
enum { VERSIONS = sizeof versions / sizeof *versions, TLS_1_2 = 2, TLS_1_3 = 3 };

struct cipher {
    const char *name, *key; /* kind of the server's key */
    bool in_control_plane;  /* its TLS server, gRPC's, speaks it */
};

/* What BoringSSL knows by name, but for those with pre-shared keys. */
static const struct cipher ciphers[] = {
    {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDSA", true},
    {"ECDHE-RSA-AES128-GCM-SHA256", "RSA", true},
    {"ECDHE-ECDSA-AES256-GCM-SHA384", "ECDSA", true},
    {"ECDHE-RSA-AES256-GCM-SHA384", "RSA", true},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDSA", true},
    {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "RSA", true},
    {"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDSA", true},
    {"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "RSA", true},
    {"ECDHE-ECDSA-CHACHA20-POLY1305", "ECDSA", false},
    {"ECDHE-RSA-CHACHA20-POLY1305", "RSA", false},
    {"ECDHE-ECDSA-AES128-SHA", "ECDSA", false},
    {"ECDHE-RSA-AES128-SHA", "RSA", false},
    {"ECDHE-ECDSA-AES256-SHA", "ECDSA", false},
    {"ECDHE-RSA-AES256-SHA", "RSA", false},
    {"ECDHE-ECDSA-AES128-SHA256", "ECDSA", false},
    {"ECDHE-RSA-AES128-SHA256", "RSA", false},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", "ECDSA", false},
    {"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "RSA", false},
    {"TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", "ECDSA", false},
    {"TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", "RSA", false},
    {"AES128-GCM-SHA256", "RSA", false},
    {"AES256-GCM-SHA384", "RSA", false},
    {"AES128-SHA", "RSA", false},
    {"AES256-SHA", "RSA", false},
    {"TLS_RSA_WITH_AES_128_GCM_SHA256", "RSA", false},
    {"TLS_RSA_WITH_AES_256_GCM_SHA384", "RSA", false},
    {"TLS_RSA_WITH_AES_128_CBC_SHA", "RSA", false},
    {"TLS_RSA_WITH_AES_256_CBC_SHA", "RSA", false},
    {"DES-CBC3-SHA", "RSA", false},
};
enum { CIPHERS = sizeof ciphers / sizeof *ciphers };

/* Two names of a curve are one curve: Envoy takes none twice. */
static const struct {
    const char *name, *curve;
} curves[] = {
    {"X25519", "X25519"}, {"X25519MLKEM768", "X25519MLKEM768"},
    {"P-256", "P-256"},   {"prime256v1", "P-256"},
    {"P-384", "P-384"},   {"secp384r1", "P-384"},
    {"P-521", "P-521"},   {"secp521r1", "P-521"},
};
enum { CURVES = sizeof curves / sizeof *curves };

static const struct cipher *cipher_named(const char *name, size_t len)
{
    for (size_t i = 0; i < CIPHERS; i++)
        if (strlen(ciphers[i].name) == len && !memcmp(ciphers[i].name, name, len))
            return &ciphers[i];
    return NULL;
}

/* A name, or several that are as good as each other: "[A|B]". */
static const char *cipher_taken(const char *name)
{
    size_t len = strlen(name);
    const char *at = name, *end = name + len;
    if (len > NAME_BYTES_MAX)
        return NULL;
    if (len > 2 && name[0] == '[' && name[len - 1] == ']')
        at++, end--;
    while (at < end) {
        const char *bar = memchr(at, '|', (size_t)(end - at));
        size_t n = (size_t)((bar && name[0] == '[' ? bar : end) - at);
        if (!cipher_named(at, n))
            return NULL;
        at += n + 1;
        if (at == end)
            return NULL; /* nothing behind a bar */
    }
    return len ? name : NULL;
}

static const char *curve_taken(const char *name)
{
    for (size_t i = 0; i < CURVES; i++)
        if (!strcmp(curves[i].name, name))
            return curves[i].curve;
    return NULL;
}

static bool has_text(const json_t *list, const char *text)
{
    size_t i;
    const json_t *item;
    json_array_foreach ((json_t *)(uintptr_t)list, i, item)
        if (!strcmp(json_string_value(item), text))
            return true;
    return false;
}

/* What of the field's list is known, each once. */
static int listed(json_t **out, const json_t *sidecar, const char *field,
                  const char *(*taken)(const char *), struct osm_err *err)
{
    const json_t *value = json_object_get(sidecar, field);
    size_t i;
    const json_t *item;
    *out = json_array();
    if (!*out)
        return osm_fail(err, OSM_ENOMEM, "MeshConfig");
    if (value && !json_is_array(value) && !json_is_null(value))
        return osm_fail(err, OSM_EINVAL, "MeshConfig: spec.sidecar.%s: expected a list of texts",
                        field);
    json_array_foreach ((json_t *)(uintptr_t)value, i, item) {
        const char *name = json_string_value(item);
        if (!name)
            return osm_fail(err, OSM_EINVAL, "MeshConfig: spec.sidecar.%s[%zu]: expected a text",
                            field, i);
        name = taken(name);
        if (name && !has_text(*out, name) && json_array_append_new(*out, json_string(name)))
            return osm_fail(err, OSM_ENOMEM, "MeshConfig");
    }
    return 0;
}

/* Whether one that the control plane speaks is among them, for keys of this kind. */
static bool speaks(const json_t *suites, const char *kind)
{
    size_t i;
    const json_t *item;
    json_array_foreach ((json_t *)(uintptr_t)suites, i, item)
        for (size_t c = 0; c < CIPHERS && ciphers[c].in_control_plane; c++)
            if (!strcmp(ciphers[c].key, kind) && strstr(json_string_value(item), ciphers[c].name))
                return true;
    return false;
}

/* Whatever is asked for, a sidecar must find a curve and a cipher that the control plane speaks,
 * for either kind of keys: it starts once, and the keys may change. */
static int complete(struct osm_sidecar_settings *s)
{
    bool is_restricted =
        json_array_size(s->cipher_suites) && strcmp(s->tls_maximum, versions[TLS_1_3]) != 0;
    for (size_t i = 0; is_restricted && i < 2; i++) /* the first two are of one kind each */
        if (!speaks(s->cipher_suites, ciphers[i].key) &&
            json_array_append_new(s->cipher_suites, json_string(ciphers[i].name)))
            return OSM_ENOMEM;
    if (json_array_size(s->ecdh_curves) && !has_text(s->ecdh_curves, "P-256") &&
        json_array_append_new(s->ecdh_curves, json_string("P-256")))
        return OSM_ENOMEM;
    return 0;
}

/* --- single fields --- */

/* "" where it is absent. */
static int text(const json_t *sidecar, const char *field, const char **out, struct osm_err *err)
{
    const json_t *value = json_object_get(sidecar, field);
    if (value && !json_is_string(value) && !json_is_null(value))
        return osm_fail(err, OSM_EINVAL, "MeshConfig: spec.sidecar.%s: expected a text", field);
    *out = json_is_string(value) ? json_string_value(value) : "";
    return 0;
}

static int version(const json_t *sidecar, const char *field, int fallback, int *out,
                   struct osm_err *err)
{
    const char *asked = "";
    int rc = text(sidecar, field, &asked, err);
    *out = fallback;
    if (rc || !*asked || !strcmp(asked, "TLS_AUTO"))
        return rc;
    for (int i = 0; i < VERSIONS; i++)
        if (!strcmp(asked, versions[i])) {
            *out = i;
            return 0;
        }
    return osm_fail(err, OSM_EINVAL,
                    "MeshConfig: spec.sidecar.%s: expected TLS_AUTO or TLSv1_0 to TLSv1_3", field);
}

static int log_level(const json_t *sidecar, const char **out, struct osm_err *err)
{
    static const char *const levels[] = {"trace", "debug",    "info", "warning",
                                         "error", "critical", "off"};
    const char *asked = "";
    int rc = text(sidecar, "logLevel", &asked, err);
    if (rc || !*asked)
        return rc;
    if (!strcmp(asked, "warn"))
        asked = "warning";
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if (!strcmp(asked, levels[i]))
            *out = levels[i];
    return *out ? 0
                : osm_fail(err, OSM_EINVAL,
                           "MeshConfig: spec.sidecar.logLevel: expected trace, debug, info, "
                           "warning, warn, error, critical or off");
}

static int others(struct osm_sidecar_settings *s, const json_t *sidecar, struct osm_err *err)
{
    const json_t *privileged = json_object_get(sidecar, "enablePrivilegedInitContainer");
    const json_t *resources = json_object_get(sidecar, "resources");
    if (privileged && !json_is_boolean(privileged) && !json_is_null(privileged))
        return osm_fail(err, OSM_EINVAL,
                        "MeshConfig: spec.sidecar.enablePrivilegedInitContainer: expected true or "
                        "false");
    s->privileged_init = json_is_true(privileged);
    s->resources = json_is_object(resources) ? resources : NULL;
    return osm__resources_check("MeshConfig: spec.sidecar.resources", resources, err);
}

int osm_sidecar_settings_read(struct osm_sidecar_settings *out, const json_t *mesh_config,
                              struct osm_err *err)
{
    const json_t *sidecar = osm_json_at(mesh_config, "spec", "sidecar", NULL);
    struct osm_sidecar_settings s = {0};
    int minimum = TLS_1_2, maximum = TLS_1_3;
    int rc = text(sidecar, "envoyImage", &s.envoy_image, err);
    if (!rc)
        rc = text(sidecar, "envoyWindowsImage", &s.envoy_windows_image, err);
    if (!rc)
        rc = text(sidecar, "initContainerImage", &s.init_image, err);
    if (!rc)
        rc = log_level(sidecar, &s.log_level, err);
    if (!rc)
        rc = version(sidecar, "tlsMinProtocolVersion", TLS_1_2, &minimum, err);
    if (!rc)
        rc = version(sidecar, "tlsMaxProtocolVersion", TLS_1_3, &maximum, err);
    s.tls_minimum = versions[minimum];
    s.tls_maximum = versions[maximum < minimum ? minimum : maximum];
    if (!rc)
        rc = others(&s, sidecar, err);
    if (!rc)
        rc = listed(&s.cipher_suites, sidecar, "cipherSuites", cipher_taken, err);
    if (!rc)
        rc = listed(&s.ecdh_curves, sidecar, "ecdhCurves", curve_taken, err);
    if (!rc && complete(&s))
        rc = osm_fail(err, OSM_ENOMEM, "MeshConfig");
    if (rc)
        osm_sidecar_settings_clear(&s);
    else
        *out = s;
    return rc;
}

void osm_sidecar_settings_clear(struct osm_sidecar_settings *s)
{
    json_decref(s->cipher_suites);
    json_decref(s->ecdh_curves);
    *s = (struct osm_sidecar_settings){0};
}
