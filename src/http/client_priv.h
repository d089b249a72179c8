/* What the files of the HTTP client share. */
#pragma once

#include "http/client.h"

/** Of the process; repeatable. False: no memory. */
bool osm__http_client_init(void);
