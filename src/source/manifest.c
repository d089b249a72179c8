#include "source/manifest.h"

#include "source/dir/manifest.h"

int osm_manifest_parse(struct osm_object ***out, size_t *n, const char *text, size_t len,
                       const char *name, struct osm_err *err)
{
    struct osm__manifest manifest;
    struct osm__manifest_problem problem;
    int rc = osm__manifest_parse(&manifest, text, len, name, &problem);
    if (rc == OSM_ENOMEM)
        return osm_fail(err, rc, "out of memory");
    if (rc && problem.line)
        return osm_fail(err, rc, "%s:%d:%d: %s", name, problem.line, problem.column,
                        problem.message);
    if (rc)
        return osm_fail(err, rc, "%s: %s", name, problem.message);
    *out = manifest.objects;
    *n = manifest.len;
    return 0;
}
