#include "inject/resources.h"

#include <stdlib.h>
#include <string.h>

enum { QUANTITY_BYTES_MAX = 64 };

static const struct {
    const char *suffix;
    double factor;
} suffixes[] = {{"", 1},        {"n", 1e-9},    {"u", 1e-6},    {"m", 1e-3},
                {"k", 1e3},     {"M", 1e6},     {"G", 1e9},     {"T", 1e12},
                {"P", 1e15},    {"E", 1e18},    {"Ki", 0x1p10}, {"Mi", 0x1p20},
                {"Gi", 0x1p30}, {"Ti", 0x1p40}, {"Pi", 0x1p50}, {"Ei", 0x1p60}};

/* "e3", "E-3" */
static bool is_exponent(const char *text)
{
    if (*text != 'e' && *text != 'E')
        return false;
    text += text[1] == '+' || text[1] == '-' ? 2 : 1;
    return *text && !text[strspn(text, "0123456789")];
}

/* Digits, maybe with a point among them, and a suffix or an exponent. */
static bool read_text(const char *text, double *out)
{
    size_t whole, part = 0;
    text += *text == '+';
    if (strlen(text) > QUANTITY_BYTES_MAX)
        return false;
    whole = strspn(text, "0123456789");
    const char *end = text + whole;
    if (*end == '.') {
        part = strspn(end + 1, "0123456789");
        end += 1 + part;
    }
    if (!whole && !part)
        return false;
    if (is_exponent(end)) {
        *out = strtod(text, NULL);
        return true;
    }
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++)
        if (!strcmp(end, suffixes[i].suffix)) {
            char digits[QUANTITY_BYTES_MAX + 1] = "";
            memcpy(digits, text, (size_t)(end - text));
            *out = strtod(digits, NULL) * suffixes[i].factor;
            return true;
        }
    return false;
}

bool osm__quantity_read(const json_t *value, double *out)
{
    const char *text = json_string_value(value);
    if (text)
        return strlen(text) == json_string_length(value) && read_text(text, out);
    *out = json_number_value(value); /* of null, as in Kubernetes, 0 */
    return json_is_null(value) || (json_is_number(value) && *out >= 0);
}

/* Names without a domain are Kubernetes' own. */
static bool is_resource(const char *name)
{
    static const char *const own[] = {"cpu", "memory", "ephemeral-storage"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (!strcmp(name, own[i]))
            return true;
    return strchr(name, '/') || !strncmp(name, "hugepages-", 10);
}

static int check_list(const char *what, const char *list, const json_t *of, struct osm_err *err)
{
    const char *name;
    const json_t *value;
    double number;
    if (of && !json_is_object(of) && !json_is_null(of))
        return osm_fail(err, OSM_EINVAL, "%s.%s: expected an object", what, list);
    json_object_foreach ((json_t *)(uintptr_t)of, name, value) {
        if (!is_resource(name))
            return osm_fail(
                err, OSM_EINVAL,
                "%s.%s.%.64s: expected cpu, memory, ephemeral-storage, hugepages-SIZE or "
                "a name with a domain",
                what, list, name);
        if (!osm__quantity_read(value, &number))
            return osm_fail(err, OSM_EINVAL,
                            "%s.%s.%.64s: '%.64s' is no quantity such as 100m or 64Mi", what, list,
                            name, json_is_string(value) ? json_string_value(value) : "");
    }
    return 0;
}

/* Rounded numbers are compared: what differs by less is left to the API server. */
static int check_order(const char *what, const json_t *resources, struct osm_err *err)
{
    const json_t *limits = json_object_get(resources, "limits");
    const char *name;
    const json_t *value;
    json_object_foreach (json_object_get(resources, "requests"), name, value) {
        double limit, request;
        if (osm__quantity_read(json_object_get(limits, name), &limit) &&
            osm__quantity_read(value, &request) && request > limit * (1 + 1e-9))
            return osm_fail(err, OSM_EINVAL, "%s.requests.%.64s: is more than its limit", what,
                            name);
    }
    return 0;
}

static int check_claims(const char *what, const json_t *claims, struct osm_err *err)
{
    size_t i;
    const json_t *claim;
    if (claims && !json_is_array(claims) && !json_is_null(claims))
        return osm_fail(err, OSM_EINVAL, "%s.claims: expected a list", what);
    json_array_foreach ((json_t *)(uintptr_t)claims, i, claim)
        if (!json_string_length(json_object_get(claim, "name")))
            return osm_fail(err, OSM_EINVAL, "%s.claims[%zu].name: expected a text", what, i);
    return 0;
}

int osm__resources_check(const char *what, const json_t *resources, struct osm_err *err)
{
    if (resources && !json_is_object(resources) && !json_is_null(resources))
        return osm_fail(err, OSM_EINVAL, "%s: expected an object", what);
    int rc = check_list(what, "limits", json_object_get(resources, "limits"), err);
    if (!rc)
        rc = check_list(what, "requests", json_object_get(resources, "requests"), err);
    if (!rc)
        rc = check_order(what, resources, err);
    if (!rc)
        rc = check_claims(what, json_object_get(resources, "claims"), err);
    return rc;
}
