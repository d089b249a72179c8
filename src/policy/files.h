/* The files of a bundle, in memory: read whole from directories that lie one over the other, with
 * limits, immutable and shared. Everything that a load needs is here (the modules, and the YAML
 * files that they name as schemas), so that a bundle can be kept, stored and loaded again after its
 * directories have changed.
 *
 * The bundle is the union of its directories; of a path that several have, the last one's file
 * counts. Files and folders whose name begins with a dot are left out (a mounted ConfigMap keeps
 * its versions in such folders and links to them), and so are an author's tests: *_spec.lua, and
 * folders called spec.
 *
 * A digest (SHA-256) tells bundles apart. */
#pragma once

#include "base/err.h"
#include "base/hash.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct osm_policy_file {
    char *path; /* "smi/split.lua", "crds/udproute.yaml" */
    char *text; /* NUL-terminated; NULL: a YAML file of more than OSM_POLICY_FILE_MAX_BYTES */
    size_t len;
    size_t layer; /* of the directory, from 0 */
    bool below;   /* an earlier directory has this path too, the nearest of them: */
    size_t below_layer;
    char below_hash[OSM_HASH_HEX_SIZE]; /* of its content */
};

enum { OSM_POLICY_FILE_MAX_BYTES = 256 * 1024, OSM_POLICY_DIGEST_SIZE = 65 };

struct osm_policy_files {
    char digest[OSM_POLICY_DIGEST_SIZE]; /* of all paths and contents; hex */
    struct osm_policy_file *list;        /* sorted by path */
    size_t len;
    char **dirs; /* NULL-terminated; by layer */
};

/** Reads the directories (NULL-terminated, at least one). Errors: OSM_EIO, OSM_ELIMIT, OSM_EINVAL
 * what is not UTF-8, OSM_ENOENT where there is no *.lua file; each names the path. Thread: any. */
OSM_MUST_USE int osm_policy_files_read(struct osm_policy_files **out, const char *const *dirs,
                                       struct osm_err *err);
struct osm_policy_files *osm_policy_files_ref(struct osm_policy_files *files);
/** NULL is accepted. */
void osm_policy_files_unref(struct osm_policy_files *files);
/** Borrowed; NULL where absent. */
const struct osm_policy_file *osm_policy_files_find(const struct osm_policy_files *files,
                                                    const char *path);
/** Whether a load of both says the same: the digest, and how the directories lie over each other.
 */
bool osm_policy_files_same(const struct osm_policy_files *a, const struct osm_policy_files *b);
/** For keeping: {"digest", "dirs": [...], "files": [{"path", "text", "layer", "below_layer",
 * "below_hash"}]}. Caller: json_decref. NULL: no memory. */
json_t *osm_policy_files_json(const struct osm_policy_files *files);
/** What osm_policy_files_json made. Errors: OSM_EINVAL, also where the digest is not that of the
 * files. */
OSM_MUST_USE int osm_policy_files_from_json(struct osm_policy_files **out, const json_t *json,
                                            struct osm_err *err);
