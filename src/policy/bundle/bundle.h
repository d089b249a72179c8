/* A bundle: its files (policy/files.h), of which every *.lua is a module named by its path without
 * the ending. Loading, declaring.
 *
 * Loading runs module-level code only. A module that declares says `api = 1`; what it declares is
 * collected in declare.c after all modules are loaded. A name asked for as `mesh.name` is looked up
 * then, by a scan of the source. */
#pragma once

#include "policy/engine_priv.h"

/** Loads engine->files, declares, checks. Errors: OSM_ELUA "smi/split.lua:12: text"; OSM_ELIMIT. */
OSM_MUST_USE int osm_bundle_load(struct osm_engine *e, struct osm_err *err);
void osm_bundle_free(struct osm_engine *e);

/* --- between the files of the bundle --- */
/** bundle_read.c: fills engine->modules (sorted by path). */
OSM_MUST_USE int osm_bundle_read(struct osm_engine *e, struct osm_err *err);
/** bundle_read.c: what nobody has to fix now but should know, for the snapshot's policy section. */
OSM_MUST_USE int osm_bundle_warn(struct osm_engine *e, const char *module, int line,
                                 const char *message);
/** bundle_read.c: warns where the file lies over another and does not say that it was written
 * against what lies there today. */
OSM_MUST_USE int osm_bundle_check_replaced(struct osm_engine *e, const struct osm_policy_file *file,
                                           struct osm_err *err);
/** declare.c: reads what a loaded module declares. Errors: OSM_ELUA. */
OSM_MUST_USE int osm_bundle_declare_module(struct osm_engine *e, struct osm_module *module,
                                           struct osm_err *err);
/** declare.c: links indexes to kinds, emitters to what they go over. */
OSM_MUST_USE int osm_bundle_link(struct osm_engine *e, struct osm_err *err);
/** A declaration without a name to ask for it by. NULL: no memory. */
struct osm_decl *osm_bundle_add(struct osm_engine *e, enum osm_decl_type type, const char *name,
                                const struct osm_module *module);
/** Registers a name. NULL: taken already (both places in the message) or no memory. */
struct osm_decl *osm_bundle_declare(struct osm_engine *e, enum osm_decl_type type, const char *name,
                                    const struct osm_module *module, struct osm_err *err);
/** scan.c: every `mesh.name` in the source names something; notes whether the module looks further.
 * Errors: OSM_ELUA "file:line: ...". */
OSM_MUST_USE int osm_scan_names(const struct osm_engine *e, struct osm_module *module,
                                struct osm_err *err);
