/* An answer in JSON that is made of long lists: an object of arrays, whose elements are made one by
 * one while the peer reads. What is listed is decided at the beginning, by name; what has gone by
 * its turn is left out. */
#pragma once

#include "app/app.h"

struct osm_listing {
    const char *name;
    json_t *keys; /* of texts; taken */
    /** NULL: it has gone. */
    json_t *(*element)(const struct osm_app *app, const char *key);
};

/** @p n lists, at most four. */
void osm_listing_reply(struct osm_http_request *request, const struct osm_app *app,
                       const struct osm_listing *lists, size_t n);
