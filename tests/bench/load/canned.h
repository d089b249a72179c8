/* The floor of the load client: a server on the same transport, gRPC core with the settings of
 * src/xds/ads.c, that answers with bytes recorded from a real one and knows nothing else. */
#pragma once

struct canned_config {
    const char *listen;                          /* "127.0.0.1:1234" */
    const char *record;                          /* of struct load */
    const char *chain_pem, *key_pem, *roots_pem; /* NULL: plain */
};

/** Serves until SIGTERM; SIGUSR1 sends the recorded clusters to every stream once more. Returns the
 * process's exit status. */
int canned_serve(const struct canned_config *config);
