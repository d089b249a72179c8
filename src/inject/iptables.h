/* The redirection of a pod's TCP traffic into its sidecar: the script that the init container runs.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

/* Lists are as validated by the caller's schema; they are validated again here, since they become
 * shell. */
struct osm_iptables_config {
    const char *const *outbound_ip_exclusions; /* CIDRs */
    size_t outbound_ip_exclusions_len;
    const char *const *outbound_ip_inclusions;
    size_t outbound_ip_inclusions_len;
    const uint16_t *outbound_port_exclusions;
    size_t outbound_port_exclusions_len;
    const uint16_t *inbound_port_exclusions;
    size_t inbound_port_exclusions_len;
    const char *const *interface_exclusions;
    size_t interface_exclusions_len;
    bool pod_ip_mode; /* localProxyMode PodIP: $POD_IP is expanded by the shell that runs the script
                       */
};

/** Whether the redirection can name an interface like this; "+" last stands for whatever follows.
 */
bool osm_interface_valid(const char *name);

/** A POSIX shell script: `iptables-restore --noflush <<EOF ... EOF`. Errors: OSM_EINVAL naming the
 * bad entry. */
OSM_MUST_USE int osm_iptables_script(struct osm_buf *out, const struct osm_iptables_config *config,
                                     struct osm_err *err);
