/* `osm policy`: what an author of policies runs on a laptop or in CI. The bundle is loaded by the
 * daemon's own engine, on a stack like the daemon's, so that what passes here loads there. */
#include "cli/policy_priv.h"

#include "cli/print.h"

#include "base/log.h"
#include "base/utf8.h"
#include "policy/host.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DIRS_MAX = 64 };

/* Public certificates of nobody: what is served is not looked at here. */
static const char ROOTS[] = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";

int osm__policy_complain(const struct osm_err *err)
{
    osm_print_error(err);
    return OSM_EXIT_POLICIES;
}

bool osm__policy_is_dir(const char *path)
{
    struct stat st;
    errno = 0;
    if (!stat(path, &st) && S_ISDIR(st.st_mode))
        return true;
    (void)fprintf(stderr, "osm: %s: %s\n", path, errno ? strerror(errno) : "is not a directory");
    return false;
}

bool osm__policy_has_file(const char *dir, const char *name)
{
    struct stat st;
    char *path = osm_strf("%s/%s", dir, name);
    bool has = path && !stat(path, &st) && S_ISREG(st.st_mode);
    osm_free(path);
    return has;
}

/* --- the bundle --- */

const char *osm__policy_mesh_name(const struct osm_cli *cli)
{
    return cli->mesh_name ? cli->mesh_name : "osm";
}

const char *osm__policy_osm_namespace(const struct osm_cli *cli)
{
    return cli->osm_namespace ? cli->osm_namespace : "osm-system";
}

int osm__policy_load(const struct osm_cli *cli, const struct osm__dirs *dirs,
                     struct osm_engine **out, struct osm_err *err)
{
    struct osm_engine_config config = {
        .policies_dirs = dirs->list,
        .mesh_name = osm__policy_mesh_name(cli),
        .osm_namespace = osm__policy_osm_namespace(cli),
        .trust_domain = "cluster.local",
        .roots_pem = ROOTS,
        .thorough = true,
    };
    return osm_engine_new(out, &config, err);
}

struct description {
    const struct osm_cli *cli;
    const struct osm__dirs *dirs;
    json_t *out;
    struct osm_err err;
    int rc;
};

static void describe(void *ud)
{
    struct description *d = ud;
    struct osm_engine *engine = NULL;
    d->rc = osm__policy_load(d->cli, d->dirs, &engine, &d->err);
    if (!d->rc)
        d->rc = osm_engine_describe(engine, &d->out, &d->err);
    osm_engine_free(engine);
}

int osm__policy_describe(const struct osm_cli *cli, const struct osm__dirs *dirs, json_t **out,
                         struct osm_err *err)
{
    struct description d = {.cli = cli, .dirs = dirs};
    int rc = osm_policy_call(describe, &d, err);
    if (rc)
        return rc;
    if (!d.rc) {
        *out = d.out;
        return 0;
    }
    json_t *finding = osm__policy_finding(dirs, NULL, 0, d.err.msg);
    json_int_t line = json_integer_value(json_object_get(finding, "line"));
    char number[24] = "";
    if (line)
        (void)snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT ":", line);
    rc = osm_fail(err, d.rc, "%s:%s %s", osm_json_text(finding, "file"), number,
                  osm_json_text(finding, "text"));
    json_decref(finding);
    return rc;
}

/* --- places --- */

static const char *dir_of(const struct osm__dirs *dirs, const char *path)
{
    for (size_t i = dirs->len; i > 0; i--)
        if (*path && *path != '/' && osm__policy_has_file(dirs->list[i - 1], path))
            return dirs->list[i - 1];
    return NULL;
}

/* The line number in ":12: text", which is skipped; 0 without one. */
static int take_line(const char **at)
{
    char *end = NULL;
    errno = 0;
    intmax_t line =
        **at == ':' && isdigit((unsigned char)at[0][1]) ? strtoimax(*at + 1, &end, 10) : 0;
    if (!end || *end != ':' || errno || line > 100000000)
        return 0;
    *at = end;
    return (int)line;
}

json_t *osm__policy_finding(const struct osm__dirs *dirs, const char *module, int line,
                            const char *message)
{
    char *said = osm_strndup(message, strcspn(message, ":")), *file = NULL;
    const char *dir = said ? dir_of(dirs, said) : NULL;
    if (dir) {
        message += strlen(said);
        int found = take_line(&message);
        line = found ? found : !module || strcmp(module, said) != 0 || line < 1 ? 1 : line;
        file = osm_strf("%s/%s", dir, said);
        message += strspn(message, ": ");
    } else if (module && *module && (dir = dir_of(dirs, module))) {
        line = line > 0 ? line : 1;
        file = osm_strf("%s/%s", dir, module);
    } else {
        /* "mine/crds: Permission denied" names its own place */
        struct stat st; /* a link to nowhere is a path too */
        bool is_path = said && said[0] && !lstat(said, &st);
        line = 0;
        file = osm_strdup(is_path ? said : dirs->list[0]);
        message += is_path ? strlen(said) + strspn(message + strlen(said), ": ") : 0;
    }
    json_t *finding = file ? json_pack("{s:s, s:i, s:s}", "file", osm_utf8_repair(file), "line",
                                       line, "text", message)
                           : NULL;
    osm_free(said);
    osm_free(file);
    return finding;
}

/* --- words --- */

int osm_cli_policy(const struct osm_cli *cli, const char **words, size_t n)
{
    static const struct {
        const char *name;
        int (*run)(const struct osm_cli *cli, const struct osm__dirs *dirs);
    } commands[] = {
        {"check", osm__policy_check},
        {"annotations", osm__policy_annotations},
        {"docs", osm__policy_docs},
    };
    /* What is printed by a policy is for its author; the rest is told as findings. */
    osm_log_set_level(OSM_LOG_TOPIC_COUNT, OSM_LOG_FATAL);
    osm_log_set_level(OSM_LOG_POLICY, OSM_LOG_INFO);
    if (n == 2 && !strcmp(words[0], "test"))
        return osm__policy_test(cli, words[1]);
    if (n == 2 && !strcmp(words[0], "init"))
        return osm__policy_init(cli, words[1]);
    /* "check --policies SHIPPED MINE" and "check SHIPPED MINE" are one. */
    const char *list[OSM_OPTION_VALUES_MAX + DIRS_MAX + 1] = {0};
    struct osm__dirs dirs = {list, 0};
    for (const char *const *p = cli->policies; *p; p++)
        list[dirs.len++] = *p;
    for (size_t i = 1; i < n && i <= DIRS_MAX; i++)
        list[dirs.len++] = words[i];
    if (n && !strcmp(words[0], "profile"))
        return osm__policy_profile(cli, &dirs);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (!n || !dirs.len || n > DIRS_MAX || strcmp(commands[i].name, words[0]) != 0)
            continue;
        for (size_t k = 0; k < dirs.len; k++)
            if (!osm__policy_is_dir(dirs.list[k]))
                return OSM_EXIT_USAGE;
        return commands[i].run(cli, &dirs);
    }
    return -1;
}
