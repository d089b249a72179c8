/* What every test of this folder includes: cmocka and the check that nothing stays allocated. */
#pragma once

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static inline int nothing_is_left(void **state)
{
    (void)state;
    assert_int_equal(osm_mem_live(), 0);
    return 0;
}
