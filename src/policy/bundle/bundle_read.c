/* Modules from the files of a bundle, and what is to be said of files that lie over others.
 *
 * A file that replaces another says which one it was written against, in a comment of its own:
 * `-- replaces: <hash of that file>`. A release that changes the file below then warns, instead of
 * losing its change in silence. */
#include "policy/bundle/bundle.h"

#include <string.h>

static const char module_end[] = ".lua";

/* --- what a replacing file says of the one below --- */

enum { REPLACES_SIZE = 64, REPLACES_LINES = 20 };

/* The word after "replaces:" in a comment of the first lines; "" where there is none. */
static void written_against(const char *text, char out[REPLACES_SIZE])
{
    static const char marker[] = "replaces:";
    out[0] = '\0';
    for (int line = 0; *text && line < REPLACES_LINES; line++) {
        size_t n = strcspn(text, "\n"), at = strspn(text, " \t");
        size_t dashes = strspn(text + at, "-#");
        at += dashes;
        at += strspn(text + at, " \t");
        if (dashes && !strncmp(text + at, marker, sizeof marker - 1)) {
            const char *word = text + at + sizeof marker - 1;
            word += strspn(word, " \t");
            size_t len = strcspn(word, " \t\r\n");
            if (len >= REPLACES_SIZE)
                len = REPLACES_SIZE - 1;
            memcpy(out, word, len);
            out[len] = '\0';
            return;
        }
        text += n + (text[n] == '\n');
    }
}

int osm_bundle_warn(struct osm_engine *e, const char *module, int line, const char *message)
{
    json_t *warning = json_pack("{s:s, s:s, s:s, s:i}", "where", module, "message", message,
                                "module", module, "line", line);
    if (!e->warnings)
        e->warnings = json_array();
    return json_array_append_new(e->warnings, warning) ? OSM_ENOMEM : 0;
}

int osm_bundle_check_replaced(struct osm_engine *e, const struct osm_policy_file *f,
                              struct osm_err *err)
{
    char said[REPLACES_SIZE], *message = NULL;
    const char *dir = e->files->dirs[f->below ? f->below_layer : f->layer];
    if (!f->text || (!f->below && !f->layer))
        return 0;
    written_against(f->text, said);
    if (!f->below && said[0])
        message = osm_strf("says that it replaces %s, but no directory below has this file any "
                           "more; it is loaded as a file of its own",
                           said);
    else if (f->below && !said[0])
        message = osm_strf("replaces the file of %s; write \"-- replaces: %s\" at its top, so that "
                           "a release that changes that file is noticed",
                           dir, f->below_hash);
    else if (f->below && strcmp(said, f->below_hash) != 0)
        message = osm_strf("was written to replace version %s of the file in %s, which is %s now: "
                           "take over what has changed there, then write the new one down",
                           said, dir, f->below_hash);
    else
        return 0;
    int rc = message ? osm_bundle_warn(e, f->path, 1, message) : OSM_ENOMEM;
    osm_free(message);
    return rc ? osm_fail(err, rc, "out of memory") : 0;
}

/* --- modules --- */

static bool is_module(const char *path)
{
    size_t n = strlen(path), m = sizeof module_end - 1;
    return n > m && !strcmp(path + n - m, module_end);
}

static int make_module(struct osm_engine *e, struct osm_module *m, const struct osm_policy_file *f,
                       struct osm_err *err)
{
    m->ref = LUA_NOREF;
    m->added = f->layer > 0 && !f->below;
    m->text_len = f->len;
    m->text = osm_strndup(f->text, f->len);
    m->path = osm_strdup(f->path);
    m->name = osm_strndup(f->path, strlen(f->path) - (sizeof module_end - 1));
    if (!m->text || !m->path || !m->name || osm_map_put(&e->modules_by_name, m->name, m, NULL))
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    if (strchr(m->name, '.'))
        return osm_fail(err, OSM_ELUA, "%s: a module's path has no dot but that of .lua", f->path);
    if (!strncmp(m->name, "mesh/", 5))
        return osm_fail(err, OSM_ELUA, "%s: the folder mesh/ belongs to the runtime", f->path);
    return osm_bundle_check_replaced(e, f, err);
}

int osm_bundle_read(struct osm_engine *e, struct osm_err *err)
{
    int rc = 0;
    e->modules = osm_alloc_array(e->files->len, sizeof *e->modules);
    if (!e->modules)
        return osm_fail(err, OSM_ENOMEM, "out of memory");
    for (size_t i = 0; i < e->files->len && !rc; i++)
        if (is_module(e->files->list[i].path))
            rc = make_module(e, &e->modules[e->modules_len++], &e->files->list[i], err);
    return rc;
}
