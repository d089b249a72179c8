/* `osm policy init DIR`: a folder of one's own to lie over the shipped policies, small and whole: a
 * module that does something, its spec, and what an editor completes with. The files are those of
 * lua/init/. */
#include "cli/policy_priv.h"
#include "cli/print.h"

#include "policy/sandbox/runtime.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Whether something lies in it; not there is empty too. */
static int look_into(const char *path, bool *empty, struct osm_err *err)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    *empty = true;
    if (!dir)
        return errno == ENOENT ? 0 : osm_fail(err, OSM_EIO, "%s: %s", path, strerror(errno));
    while ((entry = readdir(dir)))
        *empty = *empty && (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."));
    (void)closedir(dir);
    return 0;
}

/* Settings and the like belong to the annotations, which write them. */
static bool is_for_editor(const struct osm_runtime_module *f)
{
    return f->name[0] == '.';
}

static int put_modules(struct osm__written *w, struct osm_err *err)
{
    int rc = 0;
    for (const struct osm_runtime_module *f = osm_runtime_init; f->name && !rc; f++)
        if (!is_for_editor(f))
            rc = osm__written_put(w, f->name, f->text, f->len, err);
    return rc;
}

static int put_all(const struct osm_cli *cli, const struct osm__dirs *dirs, const char *dir,
                   struct osm_err *err)
{
    struct osm__written w = {0};
    json_t *description = NULL;
    int rc = osm__written_open(&w, dir, err);
    if (!rc)
        rc = put_modules(&w, err);
    if (!rc)
        rc = osm__policy_describe(cli, dirs, &description, err);
    if (!rc)
        rc = osm__annotations_put(&w, dirs, description, err);
    if (!rc)
        rc = osm__written_finish(&w, err);
    if (!rc)
        rc = osm__annotations_tell_kept(&w, err);
    osm__written_clear(&w);
    json_decref(description);
    return rc;
}

static void tell_next(const struct osm__dirs *dirs, const char *dir, bool are_named)
{
    struct osm_buf flags = OSM_BUF_INIT(64 * 1024);
    for (size_t i = 0; i + 1 < dirs->len; i++)
        (void)osm_buf_addf(&flags, " --policies %s", dirs->list[i]);
    const char *below = flags.data ? flags.data : "";
    const struct osm_runtime_module *module = osm_runtime_init;
    while (is_for_editor(module))
        module++;
    (void)printf("%s: %s and its spec; .luarc.json and .osm/ are for your editor. Next:\n", dir,
                 module->name);
    (void)printf("  osm policy check%s --policies %s\n", below, dir);
    (void)printf("  osm policy test%s %s\n", are_named ? below : "", dir);
    (void)printf(
        "  osm-controller%s --policies %s ...   (what you save takes over while it runs)\n", below,
        dir);
    osm_buf_clear(&flags);
}

int osm__policy_init(const struct osm_cli *cli, const char *dir)
{
    const char *list[OSM_OPTION_VALUES_MAX + 2] = {0};
    struct osm__dirs dirs = {list, 0};
    struct osm_err err = {0};
    bool empty;
    char *shipped = cli->policies[0] ? NULL : osm__policy_find_shipped();
    int code = OSM_EXIT_USAGE;
    for (const char *const *p = cli->policies; *p; p++)
        list[dirs.len++] = *p;
    if (shipped)
        list[dirs.len++] = shipped;
    if (!dirs.len) {
        (void)fprintf(stderr,
                      "osm: policy init: the shipped policies are not found: say --policies DIR\n");
        goto out;
    }
    for (size_t i = 0; i < dirs.len; i++)
        if (!osm__policy_is_dir(list[i]))
            goto out;
    list[dirs.len++] = dir;
    if (look_into(dir, &empty, &err)) {
        (void)osm__policy_complain(&err);
    } else if (!empty && !cli->force) {
        (void)fprintf(stderr,
                      "osm: policy init: %s: is not empty; --force adds what it lacks and leaves "
                      "every file of yours as it is\n",
                      dir);
    } else if (put_all(cli, &dirs, dir, &err)) {
        code = osm__policy_complain(&err);
    } else {
        tell_next(&dirs, dir, cli->policies[0] != NULL);
        code = osm_print_end() ? OSM_EXIT_POLICIES : OSM_EXIT_FINE;
    }
out:
    osm_free(shipped);
    return code;
}
