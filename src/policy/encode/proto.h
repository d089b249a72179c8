/* Lua tables and JSON to Envoy messages and back, driven by the compiled descriptors of the whole
 * v3 API.
 *
 * A message is a table with the API's own snake_case field names. Durations "1.5s", timestamps RFC
 * 3339, enums by name (or number), wrappers as the plain value, Any as a table with ["@type"] =
 * full message name, Struct/Value/ListValue as plain data, bytes as a string (or {base64 = text}),
 * maps as string-keyed tables, repeated fields as lists. Bytes come out in field order: equal
 * tables, equal bytes. */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "xds/compose.h"

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>

struct lua_State;

/** By full name ("envoy.config.cluster.v3.Cluster", a leading "type.googleapis.com/" is dropped);
 * NULL where not compiled in. */
const ProtobufCMessageDescriptor *osm_proto_find(const char *name);
bool osm_proto_is_map_entry(const ProtobufCMessageDescriptor *descriptor);

/* What one message says about others (kinds: xds/compose.h), collected while encoding, for the
 * checks of composition. The name is borrowed for the call. OSM_REF_EDS has the name "" where
 * neither the message nor its EDS config names one. */
typedef void osm_proto_ref_fn(void *ud, enum osm_ref_kind kind, const char *name);

/* Whether the rules of the API (`validate.rules`: bounds, lengths, what is required) are asked for:
 * always where a proxy is to take the message. Without, any value that has a form is written. */
enum osm_proto_rules { OSM_PROTO_RULES_HOLD, OSM_PROTO_RULES_IGNORED };

/** Encodes the table at stack index @p index as @p descriptor, appending to @p out. Does not raise:
 * safe outside pcall apart from the stack growth it needs, which it checks. [-0, +0, -] Errors:
 * OSM_EINVAL "filter_chains[0].filters[2].name: expected a string, got number" (path from the
 * message's root; indexes from 0; an unknown field names its nearest neighbour; "connect_timeout:
 * must be greater than 0s, got \"0s\"", "address: is required"). OSM_ELIMIT: over out->max or 64
 * deep. */
OSM_MUST_USE int osm_proto_encode_lua(struct lua_State *L, int index,
                                      const ProtobufCMessageDescriptor *descriptor,
                                      enum osm_proto_rules rules, struct osm_buf *out,
                                      osm_proto_ref_fn *on_ref, void *ud, struct osm_err *err);
/** The same from a JSON value, which osm_proto_decode gives; null is absent. Errors: the same. */
OSM_MUST_USE int osm_proto_encode_json(const json_t *json,
                                       const ProtobufCMessageDescriptor *descriptor,
                                       enum osm_proto_rules rules, struct osm_buf *out,
                                       osm_proto_ref_fn *on_ref, void *ud, struct osm_err *err);
/** Bytes to a JSON object in the form that osm_proto_encode_json reads and Envoy prints: snake_case
 * names, enums by name, Any with
 *  "@type" where its type is compiled in, else base64 in "value"; bytes as text, or {"base64": ...}
 * where they are none; numbers over 63 bits as text. A map's key or a number may thus come back in
 * another form than it was written in, with the same bytes. What the API marks as sensitive
 * (private keys, passwords, session ticket keys, generic secrets) is "[redacted]", always. Errors:
 * OSM_EPARSE. Thread: any. */
OSM_MUST_USE int osm_proto_decode(const ProtobufCMessageDescriptor *descriptor, const void *data,
                                  size_t len, json_t **out, struct osm_err *err);
