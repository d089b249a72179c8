/* The steps of a run, in order, and what each has measured. */
#pragma once

#include "change.h"
#include "sidecar.h"

#include <sys/types.h>

struct steps_config {
    const char *target, *server_name; /* "127.0.0.1:15128"; in the server's certificate */
    SSL_CTX *tls;                     /* NULL: plain */
    bool delta;
    struct sidecar *sidecars;
    size_t count;
    size_t singles, connecting, timeout_s, quiet_ms;
    struct changes *changes;
    size_t repeats;     /* of each change */
    pid_t pid;          /* of the server; 0: nobody's memory and time are measured */
    bool canned;        /* it is canned.c: a change is a SIGUSR1 to pid */
    const char *record; /* NULL; else what the first sidecar is sent goes to this file */
};

struct kind_result {
    double first_p50_ms, first_max_ms; /* until the first has accepted something */
    double all_p50_s, all_max_s;       /* until all have accepted all */
    double updates_per_s, cpu_us_per_update;
    uint64_t updates;
};

struct results {
    double alone_p50_ms, alone_p99_ms, among_p50_ms, among_p99_ms;
    double all_s, all_cpu_s, client_cpu_s, again_s, again_cpu_s;
    double rss_kb;
    uint64_t again_bytes, responses, bytes;
    struct kind_result kinds[CHANGE_KINDS_MAX];
};

/** Ends the process where anything fails, or anybody was left with what is out of date. */
struct results steps_run(const struct steps_config *config);
/** Connects all, says so by a line, and goes on as they are told by the lines of stdin, to its end:
 *   "count"        answers with what has come so far
 *   "round"        forgets the times
 *   "refuse TEXT"  from now on responses that hold TEXT are refused; without a TEXT: none
 *   "singles N"    N times one comes as if for the first time
 * Each line is answered by one line of JSON. Times are of CLOCK_MONOTONIC. */
void steps_stay(const struct steps_config *config);
