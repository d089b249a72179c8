/* The load client measures or ends: a figure from a run in which something failed is none. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

/** Says what failed and why on stderr, and ends the process with 1. */
_Noreturn static inline void give_up(const char *what, const char *why)
{
    (void)fprintf(stderr, "xds-load: %s: %s\n", what, why);
    exit(1);
}
