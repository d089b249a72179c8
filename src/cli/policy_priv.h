/* Shared by policy*.c: the commands for authors of policies, which need no daemon. */
#pragma once

#include "base/buf.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/written.h"
#include "policy/engine.h"

/* The folders of a bundle: the first is the shipped one, later ones lie over it. */
struct osm__dirs {
    const char *const *list; /* NULL-terminated */
    size_t len;
};

/** Says why on stderr; the exit code for it. */
int osm__policy_complain(const struct osm_err *err);
/** Is it a directory? If not, says so on stderr. */
bool osm__policy_is_dir(const char *path);
/** Is there a file DIR/NAME? */
bool osm__policy_has_file(const char *dir, const char *name);
/** Of --mesh-name and --osm-namespace, or as the daemon's. */
const char *osm__policy_mesh_name(const struct osm_cli *cli);
const char *osm__policy_osm_namespace(const struct osm_cli *cli);
/** Loads the bundle as the daemon does. Thread: one with an engine's stack. Errors: as
 * osm_engine_new. */
OSM_MUST_USE int osm__policy_load(const struct osm_cli *cli, const struct osm__dirs *dirs,
                                  struct osm_engine **out, struct osm_err *err);
/** What osm_engine_describe says of the bundle. Errors: as osm_engine_new, with the file's full
 * path. */
OSM_MUST_USE int osm__policy_describe(const struct osm_cli *cli, const struct osm__dirs *dirs,
                                      json_t **out, struct osm_err *err);

/** {"file", "line", "text"} of a message that may begin with "smi/split.lua:12: "; where it does
 * not, of @p module (may be NULL) and @p line. The file is the one below the last folder that has
 * it; without any, the first folder and line 0. */
json_t *osm__policy_finding(const struct osm__dirs *dirs, const char *module, int line,
                            const char *message);

/** The folder that has osm_spec.so, and the one of the shipped policies, by where this program is;
 * NULL where there is none. Caller: osm_free. */
char *osm__policy_find_home(void);
char *osm__policy_find_shipped(void);

/** The annotations and settings of a bundle, for editors. Errors: as osm__written_put. */
OSM_MUST_USE int osm__annotations_put(struct osm__written *w, const struct osm__dirs *dirs,
                                      const json_t *description, struct osm_err *err);
/** Says on stdout what was kept. Errors: OSM_EIO. */
OSM_MUST_USE int osm__annotations_tell_kept(const struct osm__written *w, struct osm_err *err);

int osm__policy_init(const struct osm_cli *cli, const char *dir);
/** @p dirs may be empty: the shipped policies. */
int osm__policy_profile(const struct osm_cli *cli, const struct osm__dirs *dirs);
int osm__policy_check(const struct osm_cli *cli, const struct osm__dirs *dirs);
int osm__policy_test(const struct osm_cli *cli, const char *dir);
int osm__policy_annotations(const struct osm_cli *cli, const struct osm__dirs *dirs);
int osm__policy_docs(const struct osm_cli *cli, const struct osm__dirs *dirs);
