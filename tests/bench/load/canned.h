/* The floor of the load client: a server on the same transport, gRPC core with the settings of
 * src/xds/ads.c, that answers with bytes recorded from a real one and knows nothing else. */
#pragma once

struct canned_config {
    const char *listen;                          /* "127.0.0.1:1234" */
    const char *record;                          /* of one sidecar: struct load_record */
    const char *chain_pem, *key_pem, *roots_pem; /* NULL: plain */
};

/** Says on stdout where it listens and serves until SIGTERM; the n-th SIGUSR1 sends to every stream
 * what was recorded of the n-th change. Returns the process's exit status. */
int canned_serve(const struct canned_config *config);
