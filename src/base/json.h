/* What jansson has no word for. */
#pragma once

#include <jansson.h>

/** The text of a member; "" where it is absent or none. Borrowed. */
static inline const char *osm_json_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}
