#include "whatif/match.h"

#include "base/json.h"
#include "base/mem.h"
#include "policy/sandbox/re2_shim.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

enum { DESCRIBED_MAX = 4 };

static bool has_only(const json_t *object, const char *const *names)
{
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)object, key, value) {
        bool known = false;
        for (size_t i = 0; names[i]; i++)
            known = known || !strcmp(names[i], key);
        if (!known)
            return false;
    }
    return true;
}

static const char *text_of(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

/* --- texts --- */

static enum osm_tri matches_whole(const char *pattern, const char *text)
{
    struct osm_regex *regex = NULL;
    char *whole = osm_strf("\\A(?:%s)\\z", pattern);
    enum osm_tri is = OSM_UNKNOWN;
    if (whole && !osm_regex_new(&regex, whole, NULL))
        is = osm_regex_matches(regex, text, strlen(text)) ? OSM_YES : OSM_NO;
    osm_regex_free(regex);
    osm_free(whole);
    return is;
}

static bool begins(const char *text, const char *with, bool any_case)
{
    size_t len = strlen(with);
    return (any_case ? strncasecmp(text, with, len) : strncmp(text, with, len)) == 0;
}

static bool is_same(const char *a, const char *b, bool any_case)
{
    return (any_case ? strcasecmp(a, b) : strcmp(a, b)) == 0;
}

enum osm_tri osm_match_string(const json_t *matcher, const char *text)
{
    static const char *const known[] = {"exact",      "prefix",      "suffix", "contains",
                                        "safe_regex", "ignore_case", NULL};
    const char *exact = text_of(matcher, "exact"), *prefix = text_of(matcher, "prefix"),
               *suffix = text_of(matcher, "suffix"), *contains = text_of(matcher, "contains"),
               *regex = text_of(json_object_get(matcher, "safe_regex"), "regex");
    bool any_case = json_is_true(json_object_get(matcher, "ignore_case"));
    if (!text)
        return OSM_NO;
    if (!has_only(matcher, known))
        return OSM_UNKNOWN;
    if (exact)
        return is_same(text, exact, any_case) ? OSM_YES : OSM_NO;
    if (prefix)
        return begins(text, prefix, any_case) ? OSM_YES : OSM_NO;
    if (suffix)
        return strlen(text) >= strlen(suffix) &&
                       is_same(text + strlen(text) - strlen(suffix), suffix, any_case)
                   ? OSM_YES
                   : OSM_NO;
    if (contains)
        return (any_case ? strcasestr(text, contains) : strstr(text, contains)) ? OSM_YES : OSM_NO;
    return regex ? matches_whole(regex, text) : OSM_UNKNOWN;
}

/* --- requests --- */

static const char *header_of(const struct osm_request *r, const char *name)
{
    if (!strcmp(name, ":method"))
        return r->method;
    if (!strcmp(name, ":path"))
        return r->path;
    if (!strcasecmp(name, ":authority") || !strcasecmp(name, "host"))
        return r->host;
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)(uintptr_t)r->headers, key, value)
        if (!strcasecmp(key, name))
            return json_string_value(value);
    return NULL;
}

/* The forms of before there was string_match. */
static enum osm_tri match_old_form(const json_t *matcher, const char *text)
{
    static const char *const forms[][2] = {{"exact_match", "exact"},
                                           {"prefix_match", "prefix"},
                                           {"suffix_match", "suffix"},
                                           {"contains_match", "contains"},
                                           {"safe_regex_match", "safe_regex"}};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        json_t *value = json_object_get(matcher, forms[i][0]);
        json_t *string = value ? json_pack("{s:O}", forms[i][1], value) : NULL;
        enum osm_tri is = string ? osm_match_string(string, text) : OSM_UNKNOWN;
        json_decref(string);
        if (value)
            return is;
    }
    return OSM_UNKNOWN;
}

enum osm_tri osm_match_header(const json_t *matcher, const struct osm_request *request)
{
    const char *name = osm_json_text(matcher, "name"), *text = header_of(request, name);
    const json_t *string = json_object_get(matcher, "string_match"),
                 *present = json_object_get(matcher, "present_match");
    enum osm_tri is;
    if (!text && json_is_true(json_object_get(matcher, "treat_missing_header_as_empty")))
        text = "";
    if (present)
        is = (text != NULL) == json_is_true(present) ? OSM_YES : OSM_NO;
    else if (!text) /* an absent header matches nothing, also turned round */
        return OSM_NO;
    else
        is = string                           ? osm_match_string(string, text)
             : json_object_size(matcher) == 1 ? OSM_YES
                                              : match_old_form(matcher, text);
    return json_is_true(json_object_get(matcher, "invert_match")) ? osm_tri_not(is) : is;
}

static enum osm_tri match_path(const json_t *match, const char *path)
{
    const char *exact = text_of(match, "path"), *prefix = text_of(match, "prefix"),
               *separated = text_of(match, "path_separated_prefix"),
               *regex = text_of(json_object_get(match, "safe_regex"), "regex");
    const json_t *sensitive = json_object_get(match, "case_sensitive");
    bool any_case = sensitive && !json_is_true(sensitive);
    if (exact)
        return is_same(path, exact, any_case) ? OSM_YES : OSM_NO;
    if (prefix)
        return begins(path, prefix, any_case) ? OSM_YES : OSM_NO;
    if (separated)
        return begins(path, separated, any_case) &&
                       (!path[strlen(separated)] || path[strlen(separated)] == '/')
                   ? OSM_YES
                   : OSM_NO;
    return regex ? matches_whole(regex, path) : OSM_UNKNOWN;
}

enum osm_tri osm_match_route(const json_t *match, const struct osm_request *request)
{
    static const char *const known[] = {
        "path", "prefix", "path_separated_prefix", "safe_regex", "case_sensitive", "headers", NULL};
    enum osm_tri is = match_path(match, request->path);
    size_t i;
    const json_t *header;
    json_array_foreach (json_object_get(match, "headers"), i, header)
        is = osm_tri_and(is, osm_match_header(header, request));
    return has_only(match, known) ? is : osm_tri_and(is, OSM_UNKNOWN);
}

/* How well a domain fits a host: 0 not at all; exact names before suffixes before prefixes, of
 * these the longer, "*" last: as Envoy chooses. */
static size_t fit(const char *domain, const char *host)
{
    enum { EXACT = 3 << 16, SUFFIX = 2 << 16, PREFIX = 1 << 16 };
    size_t len = strlen(domain), host_len = strlen(host);
    if (!strcmp(domain, "*"))
        return 1;
    if (!strcasecmp(domain, host))
        return EXACT;
    if (*domain == '*' && host_len >= len && !strcasecmp(host + host_len - len + 1, domain + 1))
        return SUFFIX + len;
    if (len && domain[len - 1] == '*' && host_len >= len && !strncasecmp(host, domain, len - 1))
        return PREFIX + len;
    return 0;
}

const json_t *osm_match_host(const json_t *configuration, const struct osm_request *request)
{
    const json_t *host, *domain, *best = NULL;
    size_t i, k, best_fit = 0;
    json_array_foreach (json_object_get(configuration, "virtual_hosts"), i, host)
        json_array_foreach (json_object_get(host, "domains"), k, domain) {
            size_t own = json_is_string(domain) ? fit(json_string_value(domain), request->host) : 0;
            if (own > best_fit) {
                best_fit = own;
                best = host;
            }
        }
    return best;
}

/* --- filter chains --- */

static bool in_prefix(const json_t *range, const char *address)
{
    unsigned a[4] = {0}, b[4] = {0};
    json_int_t bits = json_integer_value(json_object_get(range, "prefix_len"));
    const char *texts[] = {address, osm_json_text(range, "address_prefix")};
    for (int k = 0; k < 2; k++) {
        unsigned *out = k ? b : a;
        size_t part = 0;
        for (const char *c = texts[k]; *c && part < 4; c++)
            if (*c == '.')
                part++;
            else if (*c >= '0' && *c <= '9')
                out[part] = out[part] * 10 + (unsigned)(*c - '0');
            else
                return false; /* not IPv4 */
    }
    unsigned x = a[0] << 24 | a[1] << 16 | a[2] << 8 | a[3];
    unsigned y = b[0] << 24 | b[1] << 16 | b[2] << 8 | b[3];
    return bits <= 0 || (bits <= 32 && (x ^ y) >> (32 - (unsigned)bits) == 0);
}

static bool lists(const json_t *list, const char *text)
{
    size_t i;
    const json_t *each;
    json_array_foreach ((json_t *)(uintptr_t)list, i, each)
        if (text && !strcmp(json_string_value(each) ? json_string_value(each) : "", text))
            return true;
    return false;
}

int osm_match_chain(const json_t *match, const struct osm_arrival *a)
{
    const json_t *port = json_object_get(match, "destination_port"),
                 *ranges = json_object_get(match, "prefix_ranges"),
                 *names = json_object_get(match, "server_names"),
                 *protocols = json_object_get(match, "application_protocols"), *each;
    const char *transport = osm_json_text(match, "transport_protocol");
    int n = 0;
    size_t i;
    if (port && json_integer_value(port) != (json_int_t)a->port)
        return -1;
    n += port != NULL;
    if (json_array_size(ranges)) {
        bool any = false;
        json_array_foreach ((json_t *)(uintptr_t)ranges, i, each)
            any = any || !a->address || in_prefix(each, a->address);
        if (!any)
            return -1;
        n++;
    }
    if (json_array_size(names) && !lists(names, a->server_name))
        return -1;
    if (*transport && !strcmp(transport, "tls") != (a->server_name != NULL))
        return -1;
    if (json_array_size(protocols)) {
        bool any = false;
        json_array_foreach ((json_t *)(uintptr_t)a->protocols, i, each)
            any = any || lists(protocols, json_string_value(each));
        if (!any)
            return -1;
    }
    return n + (json_array_size(names) > 0) + (*transport != '\0') +
           (json_array_size(protocols) > 0);
}

/* --- RBAC --- */

static enum osm_tri any_of(const json_t *list, const struct osm_request *request, size_t *first,
                           enum osm_tri (*match)(const json_t *, const struct osm_request *))
{
    enum osm_tri is = OSM_NO;
    size_t i;
    const json_t *each;
    json_array_foreach ((json_t *)(uintptr_t)list, i, each) {
        enum osm_tri own = match(each, request);
        if (own == OSM_YES && is != OSM_YES && first)
            *first = i;
        is = osm_tri_or(is, own);
    }
    return is;
}

static enum osm_tri all_of(const json_t *list, const struct osm_request *request,
                           enum osm_tri (*match)(const json_t *, const struct osm_request *))
{
    enum osm_tri is = OSM_YES;
    size_t i;
    const json_t *each;
    json_array_foreach ((json_t *)(uintptr_t)list, i, each)
        is = osm_tri_and(is, match(each, request));
    return is;
}

static enum osm_tri match_principal(const json_t *principal, const struct osm_request *request)
{
    const json_t *all = json_object_get(json_object_get(principal, "and_ids"), "ids"),
                 *any = json_object_get(json_object_get(principal, "or_ids"), "ids"),
                 *not_id = json_object_get(principal, "not_id"),
                 *authenticated = json_object_get(principal, "authenticated");
    if (json_object_size(principal) != 1)
        return OSM_UNKNOWN;
    if (all)
        return all_of(all, request, match_principal);
    if (any)
        return any_of(any, request, NULL, match_principal);
    if (not_id)
        return osm_tri_not(match_principal(not_id, request));
    if (authenticated) {
        const json_t *name = json_object_get(authenticated, "principal_name");
        return name ? osm_match_string(name, request->principal) : OSM_YES;
    }
    return json_is_true(json_object_get(principal, "any")) ? OSM_YES : OSM_UNKNOWN;
}

enum osm_tri osm_match_principals(const json_t *policy, const struct osm_request *request)
{
    return any_of(json_object_get(policy, "principals"), request, NULL, match_principal);
}

static enum osm_tri match_permission(const json_t *permission, const struct osm_request *request)
{
    const json_t *all = json_object_get(json_object_get(permission, "and_rules"), "rules"),
                 *any = json_object_get(json_object_get(permission, "or_rules"), "rules"),
                 *not_rule = json_object_get(permission, "not_rule"),
                 *header = json_object_get(permission, "header"),
                 *path = json_object_get(json_object_get(permission, "url_path"), "path"),
                 *port = json_object_get(permission, "destination_port");
    if (json_object_size(permission) != 1)
        return OSM_UNKNOWN;
    if (all)
        return all_of(all, request, match_permission);
    if (any)
        return any_of(any, request, NULL, match_permission);
    if (not_rule)
        return osm_tri_not(match_permission(not_rule, request));
    if (port)
        return json_integer_value(port) == (json_int_t)request->port ? OSM_YES : OSM_NO;
    if (path)
        return osm_match_string(path, request->path);
    if (header)
        return osm_match_header(header, request);
    return json_is_true(json_object_get(permission, "any")) ? OSM_YES : OSM_UNKNOWN;
}

struct osm_verdict osm_match_rbac(const json_t *rules, const struct osm_request *request)
{
    struct osm_verdict verdict = {OSM_YES, NULL, 0};
    const char *name, *action = osm_json_text(rules, "action");
    json_t *policy;
    enum osm_tri matched = OSM_NO;
    if (!rules || !strcmp(action, "LOG"))
        return verdict;
    json_object_foreach (json_object_get(rules, "policies"), name, policy) {
        size_t first = 0;
        enum osm_tri is = osm_tri_and(
            osm_match_principals(policy, request),
            any_of(json_object_get(policy, "permissions"), request, &first, match_permission));
        if (json_object_get(policy, "condition") || json_object_get(policy, "checked_condition"))
            is = osm_tri_and(is, OSM_UNKNOWN);
        if (is == OSM_YES && !verdict.policy) {
            verdict.policy = name;
            verdict.permission = first;
        }
        matched = osm_tri_or(matched, is);
    }
    verdict.passes = !strcmp(action, "DENY") ? osm_tri_not(matched) : matched;
    return verdict;
}

/* --- for people --- */

static void describe_string(const json_t *matcher, struct osm_buf *out)
{
    static const char *const forms[] = {"exact", "prefix", "suffix", "contains"};
    const char *regex = text_of(json_object_get(matcher, "safe_regex"), "regex");
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (text_of(matcher, forms[i]))
            (void)osm_buf_add_strs(out, i ? forms[i] : "", i ? " " : "", text_of(matcher, forms[i]),
                                   NULL);
    if (regex)
        (void)osm_buf_add_str(out, regex);
}

static void describe_permission(const json_t *permission, struct osm_buf *out)
{
    size_t i;
    const json_t *each, *header = json_object_get(permission, "header"),
                        *port = json_object_get(permission, "destination_port"),
                        *path = json_object_get(json_object_get(permission, "url_path"), "path");
    json_array_foreach (json_object_get(json_object_get(permission, "and_rules"), "rules"), i,
                        each) {
        (void)osm_buf_add_str(out, i ? " and " : "");
        describe_permission(each, out);
    }
    if (path) {
        (void)osm_buf_add_str(out, "path ");
        describe_string(path, out);
    } else if (header) {
        const char *name = osm_json_text(header, "name");
        (void)osm_buf_add_strs(out, !strcmp(name, ":method") ? "method" : "header ",
                               !strcmp(name, ":method") ? "" : name, " ", NULL);
        describe_string(json_object_get(header, "string_match"), out);
    } else if (port) {
        (void)osm_buf_addf(out, "port %d", (int)json_integer_value(port));
    } else if (json_object_get(permission, "any")) {
        (void)osm_buf_add_str(out, "anything");
    } else if (!json_object_get(permission, "and_rules")) {
        (void)osm_buf_add_str(out, "something else");
    }
}

void osm_match_describe_permissions(const json_t *policy, struct osm_buf *out)
{
    const json_t *list = json_object_get(policy, "permissions"), *each;
    size_t i, n = json_array_size(list);
    json_array_foreach ((json_t *)(uintptr_t)list, i, each) {
        if (i >= DESCRIBED_MAX)
            break;
        (void)osm_buf_add_str(out, i ? "; " : "");
        describe_permission(each, out);
    }
    if (n > DESCRIBED_MAX)
        (void)osm_buf_addf(out, "; and %zu more", n - DESCRIBED_MAX);
}

void osm_match_describe_principals(const json_t *policy, struct osm_buf *out)
{
    const json_t *list = json_object_get(policy, "principals"), *each;
    size_t i, n = json_array_size(list);
    json_array_foreach ((json_t *)(uintptr_t)list, i, each) {
        const json_t *name =
            json_object_get(json_object_get(each, "authenticated"), "principal_name");
        if (i >= DESCRIBED_MAX)
            break;
        (void)osm_buf_add_str(out, i ? ", " : "");
        if (name)
            describe_string(name, out);
        else
            (void)osm_buf_add_str(out, json_object_get(each, "any") ? "anybody" : "somebody else");
    }
    if (n > DESCRIBED_MAX)
        (void)osm_buf_addf(out, " and %zu more", n - DESCRIBED_MAX);
}
