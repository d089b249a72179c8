/* The rules in the order of upstream's, which is part of the contract: OSM_PROXY_OUT_REDIRECT ends
 * with a rule that can never match, and exclusions of interfaces and ports are inserted at the head
 * of their chain.
 *
 *   PREROUTING -> INBOUND  -(not a health or metrics port, not excluded)-> IN_REDIRECT  -> 15003
 *   OUTPUT     -> OUTBOUND -(not the sidecar's own, not loopback, not excluded)-> OUT_REDIRECT ->
 * 15001
 *
 * Every entry is parsed to numbers or held to a character set before it is written: the text passes
 * a shell and iptables-restore, and neither has quotes that would survive both. */
#include "inject/iptables.h"

#include <net/if.h>
#include <string.h>

enum {
    PORT_INBOUND = 15003,
    PORT_OUTBOUND = 15001,
    PORT_ADMIN = 15000,
    SIDECAR_UID = 1500,
    MULTIPORT_MAX = 15 /* what the multiport match takes */
};

/* Metrics, then what the kubelet probes. */
static const int open_ports[] = {15010, 15901, 15902, 15903, 15904};

struct cidr {
    unsigned byte[4], bits;
};

/* Decimal without sign or leading zero, up to @p max; moves *at behind it. */
static bool number(const char **at, unsigned max, unsigned *out)
{
    const char *s = *at;
    unsigned value = 0;
    if (*s < '0' || *s > '9' || (*s == '0' && s[1] >= '0' && s[1] <= '9'))
        return false;
    for (; *s >= '0' && *s <= '9'; s++) {
        value = value * 10 + (unsigned)(*s - '0');
        if (value > max)
            return false;
    }
    *at = s;
    *out = value;
    return true;
}

static bool parse_cidr(const char *text, struct cidr *out)
{
    if (!text)
        return false;
    for (int i = 0; i < 4; i++) {
        if (i && *text++ != '.')
            return false;
        if (!number(&text, 255, &out->byte[i]))
            return false;
    }
    return *text++ == '/' && number(&text, 32, &out->bits) && !*text;
}

bool osm_interface_valid(const char *name)
{
    size_t len = name ? strlen(name) : 0;
    if (!len || len >= IFNAMSIZ || name[0] == '-' || !strcmp(name, ".") || !strcmp(name, ".."))
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        bool wildcard = c == '+' && i + 1 == len; /* as iptables reads it: whatever begins so */
        if (!plain && !wildcard && !strchr("._-@", c))
            return false;
    }
    return true;
}

/* Messages quote at most this much of a bad entry. */
#define SHOWN "%.64s"

static int check_cidrs(const char *what, const char *const *list, size_t len, struct osm_err *err)
{
    struct cidr ignored;
    for (size_t i = 0; i < len; i++)
        if (!parse_cidr(list[i], &ignored))
            return osm_fail(err, OSM_EINVAL,
                            "%s[%zu]: '" SHOWN "' is not an IPv4 range like 10.0.0.0/8", what, i,
                            list[i] ? list[i] : "");
    return 0;
}

static int check_ports(const char *what, const uint16_t *list, size_t len, struct osm_err *err)
{
    for (size_t i = 0; i < len; i++)
        if (!list[i])
            return osm_fail(err, OSM_EINVAL, "%s[%zu]: 0 is not a port", what, i);
    return 0;
}

static int check(const struct osm_iptables_config *c, struct osm_err *err)
{
    int rc = check_cidrs("outbound IP exclusions", c->outbound_ip_exclusions,
                         c->outbound_ip_exclusions_len, err);
    if (!rc)
        rc = check_cidrs("outbound IP inclusions", c->outbound_ip_inclusions,
                         c->outbound_ip_inclusions_len, err);
    if (!rc)
        rc = check_ports("outbound port exclusions", c->outbound_port_exclusions,
                         c->outbound_port_exclusions_len, err);
    if (!rc)
        rc = check_ports("inbound port exclusions", c->inbound_port_exclusions,
                         c->inbound_port_exclusions_len, err);
    for (size_t i = 0; !rc && i < c->interface_exclusions_len; i++)
        if (!osm_interface_valid(c->interface_exclusions[i]))
            rc = osm_fail(err, OSM_EINVAL,
                          "interface exclusions[%zu]: '" SHOWN "' is not a name of an interface", i,
                          c->interface_exclusions[i] ? c->interface_exclusions[i] : "");
    return rc;
}

static void add_cidrs(struct osm_buf *out, const char *const *list, size_t len, const char *target)
{
    for (size_t i = 0; i < len; i++) {
        struct cidr n;
        if (parse_cidr(list[i], &n)) /* check() has seen it */
            (void)osm_buf_addf(out, "-A OSM_PROXY_OUTBOUND -d %u.%u.%u.%u/%u -j %s\n", n.byte[0],
                               n.byte[1], n.byte[2], n.byte[3], n.bits, target);
    }
}

static void add_ports(struct osm_buf *out, const char *rule, const uint16_t *list, size_t len)
{
    for (size_t i = 0; i < len; i += MULTIPORT_MAX) {
        (void)osm_buf_addf(out, "%s -p tcp --match multiport --dports ", rule);
        for (size_t k = i; k < len && k < i + MULTIPORT_MAX; k++)
            (void)osm_buf_addf(out, "%s%u", k > i ? "," : "", list[k]);
        (void)osm_buf_add_str(out, " -j RETURN\n");
    }
}

static void add_inbound(struct osm_buf *out, const struct osm_iptables_config *c)
{
    (void)osm_buf_addf(out,
                       "-A OSM_PROXY_IN_REDIRECT -p tcp -j REDIRECT --to-port %d\n"
                       "-A PREROUTING -p tcp -j OSM_PROXY_INBOUND\n",
                       PORT_INBOUND);
    for (size_t i = 0; i < sizeof open_ports / sizeof *open_ports; i++)
        (void)osm_buf_addf(out, "-A OSM_PROXY_INBOUND -p tcp --dport %d -j RETURN\n",
                           open_ports[i]);
    (void)osm_buf_add_str(out, "-A OSM_PROXY_INBOUND -p tcp -j OSM_PROXY_IN_REDIRECT\n");
    for (size_t i = 0; i < c->interface_exclusions_len; i++)
        (void)osm_buf_addf(out, "-I OSM_PROXY_INBOUND -i %s -j RETURN\n",
                           c->interface_exclusions[i]);
    add_ports(out, "-I OSM_PROXY_INBOUND", c->inbound_port_exclusions,
              c->inbound_port_exclusions_len);
}

static void add_outbound(struct osm_buf *out, const struct osm_iptables_config *c)
{
    (void)osm_buf_addf(out,
                       "-A OSM_PROXY_OUT_REDIRECT -p tcp -j REDIRECT --to-port %d\n"
                       "-A OSM_PROXY_OUT_REDIRECT -p tcp --dport %d -j ACCEPT\n"
                       "-A OUTPUT -p tcp -j OSM_PROXY_OUTBOUND\n"
                       "-A OSM_PROXY_OUTBOUND -o lo ! -d 127.0.0.1/32 -m owner --uid-owner %d -j "
                       "OSM_PROXY_IN_REDIRECT\n"
                       "-A OSM_PROXY_OUTBOUND -o lo -m owner ! --uid-owner %d -j RETURN\n"
                       "-A OSM_PROXY_OUTBOUND -m owner --uid-owner %d -j RETURN\n"
                       "-A OSM_PROXY_OUTBOUND -d 127.0.0.1/32 -j RETURN\n",
                       PORT_OUTBOUND, PORT_ADMIN, SIDECAR_UID, SIDECAR_UID, SIDECAR_UID);
    if (c->pod_ip_mode)
        (void)osm_buf_addf(out,
                           "-I OUTPUT -p tcp -o lo -d 127.0.0.1/32 -m owner --uid-owner %d -j DNAT "
                           "--to-destination $POD_IP\n",
                           SIDECAR_UID);
    for (size_t i = 0; i < c->interface_exclusions_len; i++)
        (void)osm_buf_addf(out, "-A OSM_PROXY_OUTBOUND -o %s -j RETURN\n",
                           c->interface_exclusions[i]);
    add_cidrs(out, c->outbound_ip_exclusions, c->outbound_ip_exclusions_len, "RETURN");
    add_ports(out, "-A OSM_PROXY_OUTBOUND", c->outbound_port_exclusions,
              c->outbound_port_exclusions_len);
    add_cidrs(out, c->outbound_ip_inclusions, c->outbound_ip_inclusions_len,
              "OSM_PROXY_OUT_REDIRECT");
    (void)osm_buf_addf(out, "-A OSM_PROXY_OUTBOUND -j %s\n",
                       c->outbound_ip_inclusions_len ? "RETURN" : "OSM_PROXY_OUT_REDIRECT");
}

int osm_iptables_script(struct osm_buf *out, const struct osm_iptables_config *config,
                        struct osm_err *err)
{
    int rc = check(config, err);
    if (rc)
        return rc;
    (void)osm_buf_add_str(out, "iptables-restore --noflush <<EOF\n"
                               "# Redirects the TCP traffic of this pod to its sidecar\n"
                               "*nat\n"
                               ":OSM_PROXY_INBOUND - [0:0]\n"
                               ":OSM_PROXY_IN_REDIRECT - [0:0]\n"
                               ":OSM_PROXY_OUTBOUND - [0:0]\n"
                               ":OSM_PROXY_OUT_REDIRECT - [0:0]\n");
    add_inbound(out, config);
    add_outbound(out, config);
    (void)osm_buf_add_str(out, "COMMIT\nEOF\n");
    return out->failed ? osm_fail(err, out->failed,
                                  "iptables script: over %zu bytes, or out of memory", out->max)
                       : 0;
}
