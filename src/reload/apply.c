/* Bundles of other directories than the daemon's own, applied by command. What is applied stays in
 * force until the daemon's own directories change: a look at them that finds what was there before
 * is no news. */
#include "reload/reload_priv.h"

#include "base/log.h"

#include <string.h>

struct osm__applying {
    struct osm_reload *reload; /* loop thread; NULL: it has been stopped */
    char **dirs;               /* NULL-terminated */
    char *label;
    struct osm_reload_canary canary;
    bool force;
    struct osm_policy_files *files;
    struct osm_err err;
};

static void applying_free(struct osm__applying *a)
{
    if (!a)
        return;
    for (size_t i = 0; a->dirs && a->dirs[i]; i++)
        osm_free(a->dirs[i]);
    osm_free(a->dirs);
    osm_free(a->label);
    osm_policy_files_unref(a->files);
    osm_free(a);
}

static void read_files(void *ud)
{
    struct osm__applying *a = ud;
    if (osm_policy_files_read(&a->files, (const char *const *)a->dirs, &a->err))
        a->files = NULL;
}

/* What the files lead to. */
static void stage(struct osm_reload *r, struct osm__applying *a)
{
    const char *digest = a->files->digest;
    const char *locked = osm__record_quarantined(r, digest);
    if (r->active && !strcmp(digest, osm_generation_files(r->active)->digest)) {
        osm__record_answer(r, r->active, digest, "active", NULL);
    } else if (locked && !a->force) {
        osm__record_answer(r, NULL, digest, "quarantined", locked);
    } else {
        const struct osm__staging how = {
            .forced = a->force, .by_command = true, .canary = &a->canary};
        if (locked)
            osm__record_pardon(r, digest);
        osm__reload_stage(r, osm_take_ptr(&a->files), &how);
    }
}

static void files_read(void *ud)
{
    struct osm__applying *a = ud;
    struct osm_reload *r = a->reload;
    if (!r) {
        applying_free(a);
        return;
    }
    r->applying = NULL;
    osm__record_heard(r, a);
    if (a->files)
        stage(r, a);
    else
        osm__record_answer(r, NULL, NULL, "rejected", a->err.msg);
    applying_free(a);
    r->callbacks.changed(r->callbacks.ud);
}

static struct osm__applying *applying_new(struct osm_reload *r,
                                          const struct osm_reload_application *what)
{
    size_t n = 0;
    while (what->dirs[n])
        n++;
    struct osm__applying *a = osm_alloc(sizeof *a);
    if (!a)
        return NULL;
    *a = (struct osm__applying){.reload = r, .canary = what->canary, .force = what->force};
    a->dirs = osm_alloc_array(n + 2, sizeof *a->dirs);
    a->label = what->canary.label ? osm_strdup(what->canary.label) : NULL;
    a->canary.label = a->label;
    bool ok = a->dirs && (a->label || !what->canary.label);
    for (size_t i = 0; ok && i <= n; i++) {
        a->dirs[i] = osm_strdup(i ? what->dirs[i - 1] : r->config.dirs[0]);
        ok = a->dirs[i];
    }
    if (ok)
        return a;
    applying_free(a);
    return NULL;
}

void osm_reload_apply(struct osm_reload *r, const struct osm_reload_application *what,
                      osm_reload_answer_fn *answer, void *ud)
{
    struct osm__applying *a = r->applying ? NULL : applying_new(r, what);
    if (!a || osm_loop_work(r->config.loop, read_files, files_read, a)) {
        applying_free(a);
        osm__record_refuse(answer, ud,
                           r->applying ? "another bundle is just being read" : "out of memory");
        return;
    }
    r->applying = a;
    osm__record_ask(r, a, answer, ud);
}

bool osm__apply_is_news(struct osm_reload *r, const struct osm_policy_files *files)
{
    bool asked = r->look_asked, same = files && !strcmp(files->digest, r->in_dirs);
    bool by_command = r->candidate ? r->by_command : r->applied;
    r->look_asked = false;
    if (files)
        memcpy(r->in_dirs, files->digest, sizeof r->in_dirs);
    return asked || !by_command || (files && !same);
}

void osm__apply_stop(struct osm_reload *r)
{
    if (r->applying)
        r->applying->reload = NULL;
    r->applying = NULL;
}
