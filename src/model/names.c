#include "model/names.h"

#include <stdio.h>
#include <string.h>

static bool is_lower_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* A DNS label: lower case letters, digits and inner hyphens, 1 to 63. */
static bool is_label(const char *text, size_t len)
{
    if (!len || len >= OSM_NS_SIZE || !is_lower_alnum(text[0]) || !is_lower_alnum(text[len - 1]))
        return false;
    for (size_t i = 0; i < len; i++)
        if (!is_lower_alnum(text[i]) && text[i] != '-')
            return false;
    return true;
}

/* Labels joined by dots, at most 253 characters. */
static bool is_dns_name(const char *text, size_t len)
{
    if (len >= OSM_DNS_NAME_SIZE)
        return false;
    for (const char *label = text, *end = text + len;;) {
        const char *dot = memchr(label, '.', (size_t)(end - label));
        if (!is_label(label, (size_t)((dot ? dot : end) - label)))
            return false;
        if (!dot)
            return true;
        label = dot + 1;
    }
}

static bool is_uuid(const char *text, size_t len)
{
    if (len != OSM_UUID_SIZE - 1)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        bool hyphen = i == 8 || i == 13 || i == 18 || i == 23;
        bool hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
        if (hyphen ? c != '-' : !hex)
            return false;
    }
    return true;
}

bool osm_uuid_valid(const char *text)
{
    return text && is_uuid(text, strnlen(text, OSM_UUID_SIZE));
}

bool osm_account_valid(const char *text)
{
    return text && is_dns_name(text, strnlen(text, OSM_DNS_NAME_SIZE));
}

static const char *last_dot(const char *text, size_t len)
{
    while (len && text[len - 1] != '.')
        len--;
    return len ? text + len - 1 : NULL;
}

int osm_proxy_id_parse(struct osm_proxy_id *out, const char *common_name, const char *trust_domain,
                       struct osm_err *err)
{
    static const char sidecar[] = "sidecar.";
    struct osm_proxy_id id = {0};
    size_t len = strlen(common_name), td_len = strlen(trust_domain);

    if (!td_len || len <= td_len || memcmp(common_name + len - td_len, trust_domain, td_len) != 0 ||
        common_name[len - td_len - 1] != '.')
        return osm_fail(err, OSM_EINVAL, "trust domain: \"%.100s\" does not end in \".%.100s\"",
                        common_name, trust_domain);
    len -= td_len + 1;

    const char *dot = last_dot(common_name, len);
    size_t ns_len = dot ? (size_t)(common_name + len - dot - 1) : 0;
    if (!dot || !is_label(dot + 1, ns_len))
        return osm_fail(err, OSM_EINVAL, "namespace: \"%.100s\" has none before the trust domain",
                        common_name);
    memcpy(id.ns, dot + 1, ns_len);
    len = (size_t)(dot - common_name);

    const char *rest = memchr(common_name, '.', len);
    size_t uuid_len = rest ? (size_t)(rest - common_name) : len;
    if (!is_uuid(common_name, uuid_len))
        return osm_fail(err, OSM_EINVAL, "uuid: \"%.100s\" does not begin with one", common_name);
    for (size_t i = 0; i < uuid_len; i++) {
        char c = common_name[i];
        id.uuid[i] = (char)(c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c);
    }

    size_t rest_len = rest ? len - uuid_len - 1 : 0;
    if (rest_len < sizeof sidecar - 1 || memcmp(rest + 1, sidecar, sizeof sidecar - 1) != 0)
        return osm_fail(err, OSM_EINVAL, "kind: \"%.100s\" is not a sidecar's name", common_name);
    const char *account = rest + sizeof sidecar;
    size_t account_len = rest_len - (sizeof sidecar - 1);
    if (!is_dns_name(account, account_len))
        return osm_fail(err, OSM_EINVAL, "account: \"%.100s\" holds no valid one", common_name);
    memcpy(id.account, account, account_len);
    *out = id;
    return 0;
}

char *osm_proxy_key(char out[OSM_PROXY_KEY_SIZE], const char *uuid, const char *ns)
{
    (void)snprintf(out, OSM_PROXY_KEY_SIZE, "%.36s.%.63s", uuid, ns);
    for (char *c = out; *c && *c != '.'; c++)
        *c = (char)(*c >= 'A' && *c <= 'F' ? *c - 'A' + 'a' : *c);
    return out;
}

char *osm_proxy_common_name(const struct osm_proxy_id *id, const char *trust_domain)
{
    return osm_strf("%s.sidecar.%s.%s.%s", id->uuid, id->account, id->ns, trust_domain);
}

char *osm_principal(const char *account, const char *ns, const char *trust_domain)
{
    return osm_strf("%s.%s.%s", account, ns, trust_domain);
}
