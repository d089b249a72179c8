/* `osm policy test DIR`: the author's specs (*_spec.lua) under busted, against the daemon's own
 * library.
 *
 * busted is a program of its own. It finds what it needs by its environment: osm_spec.so and
 * spec/world.lua lie together, beside `osm` in a build tree, in ../lib/osm where it is installed.
 * The policies that a world takes without being told otherwise are --policies (the shipped ones
 * where there is none) with DIR on top, if DIR holds policies too. */
#include "cli/policy_priv.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LIST_MAX_BYTES = 64 * 1024, DEPTH_MAX = 8 };

/* --- where things are --- */

/* The folder of this program; NULL where the system does not say. */
static char *program_dir(void)
{
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path);
    if (n <= 0 || n == (ssize_t)sizeof path)
        return NULL;
    while (n > 1 && path[n - 1] != '/')
        n--;
    return osm_strndup(path, (size_t)n - 1);
}

/* The folder that has osm_spec.so: $OSM_BUILD, beside the program, or where it is installed. */
static char *find_home(const char *program)
{
    const char *told = getenv("OSM_BUILD");
    char *candidates[] = {osm_strdup(told ? told : ""), osm_strdup(program),
                          osm_strf("%s/../lib/osm", program)};
    char *home = NULL;
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++) {
        if (!home && candidates[i] && osm__policy_has_file(candidates[i], "osm_spec.so"))
            home = osm_take_ptr(&candidates[i]);
        osm_free(candidates[i]);
    }
    return home;
}

char *osm__policy_find_home(void)
{
    char *program = program_dir(), *home = program ? find_home(program) : NULL;
    osm_free(program);
    return home;
}

/* Absolute, without links; NULL where there is nothing. */
static char *full_path(const char *path)
{
    char full[PATH_MAX];
    return realpath(path, full) ? osm_strdup(full) : NULL;
}

static char *find_policies(const char *home, const char *program)
{
    char *candidates[] = {osm_strf("%s/policies", home),
                          osm_strf("%s/../share/osm/policies", program)};
    char *found = NULL;
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++) {
        if (!found && candidates[i] && !access(candidates[i], R_OK | X_OK))
            found = osm_take_ptr(&candidates[i]);
        osm_free(candidates[i]);
    }
    return found;
}

char *osm__policy_find_shipped(void)
{
    char *program = program_dir(), *home = program ? find_home(program) : NULL;
    char *shipped = program ? find_policies(home ? home : program, program) : NULL;
    osm_free(program);
    osm_free(home);
    return shipped;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

/* What lies below a folder: specs, and Lua files that are modules of policies. The engine leaves
 * out the same files. */
static void look_into(const char *path, unsigned depth, bool *specs, bool *modules)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    while (dir && depth < DEPTH_MAX && (entry = readdir(dir))) {
        char *inner = entry->d_name[0] != '.' ? osm_strf("%s/%s", path, entry->d_name) : NULL;
        bool unused;
        if (inner && ends_with(entry->d_name, "_spec.lua"))
            *specs = true;
        else if (inner && ends_with(entry->d_name, ".lua"))
            *modules = true;
        else if (inner && !strcmp(entry->d_name, "spec"))
            look_into(inner, depth + 1, specs, &unused);
        else if (inner)
            look_into(inner, depth + 1, specs, modules); /* a file is no folder: nothing */
        osm_free(inner);
    }
    if (dir)
        closedir(dir);
}

/* The first NAME in $PATH. */
static char *find_program(const char *name)
{
    const char *at = getenv("PATH");
    char *found = NULL;
    while (at && *at && !found) {
        size_t n = strcspn(at, ":");
        char *path = osm_strf("%.*s/%s", (int)n, at, name);
        if (path && n && !access(path, X_OK))
            found = osm_take_ptr(&path);
        osm_free(path);
        at += n + (at[n] == ':');
    }
    return found;
}

/* --- running it --- */

/* A Lua pattern that is this text. */
static char *plain_pattern(const char *text)
{
    struct osm_buf out = OSM_BUF_INIT(PATH_MAX);
    for (; *text; text++) {
        if (strchr("^$()%.[]*+-?", *text))
            (void)osm_buf_add_char(&out, '%');
        (void)osm_buf_add_char(&out, *text);
    }
    return osm_buf_take(&out);
}

/* busted's modules stay where they are found; ours come first. */
static int set_environment(const char *home, const char *dir, const char *policies)
{
    const char *old = getenv("LUA_PATH_5_4");
    old = old ? old : getenv("LUA_PATH");
    char *path = osm_strf("%s/?.lua;%s/?.lua;%s/?/init.lua;%s", home, dir, dir, old ? old : ";");
    int rc = !path || setenv("LUA_PATH_5_4", path, 1) || setenv("OSM_BUILD", home, 1) ||
             setenv("OSM_POLICIES", policies, 1);
    osm_free(path);
    return rc ? OSM_ENOMEM : 0;
}

static int spawn(char *const argv[])
{
    int status;
    (void)fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        execv(argv[0], argv);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* To busted, no test at all is a success; to an author it is a name with a typing error. */
static char count_tests[] =
    "local busted, tests = require('busted'), 0 "
    "busted.subscribe({ 'test', 'start' }, function() tests = tests + 1 return nil, true end) "
    "busted.subscribe({ 'exit' }, function() "
    "if tests == 0 then io.stderr:write('osm: policy test: no test ran\\n') os.exit(1) end "
    "return nil, true end)";

/* busted under Lua 5.4: its own --lua would take words apart at spaces. */
static int run_busted(const char *dir, const char *filter)
{
    char *busted = find_program("busted"), *lua = find_program("lua5.4");
    char *pattern = filter ? plain_pattern(filter) : NULL;
    char *flag = pattern ? osm_strf("--filter=%s", pattern) : NULL;
    int code = 1;
    if (!busted || !lua) {
        (void)fprintf(stderr,
                      "osm: policy test: there is no %s: install the packages lua-busted and "
                      "lua5.4\n",
                      busted ? "lua5.4" : "busted");
    } else if (flag || !filter) {
        char execute[] = "-e";
        char *argv[] = {lua, busted, execute, count_tests, (char *)(uintptr_t)dir, flag, NULL};
        code = spawn(argv) ? 1 : 0;
    }
    osm_free(busted);
    osm_free(lua);
    osm_free(pattern);
    osm_free(flag);
    return code;
}

/* "shipped:mine", absolute, so that a spec may stand anywhere. */
static char *join_policies(const struct osm_cli *cli, const char *shipped, const char *overlay)
{
    struct osm_buf joined = OSM_BUF_INIT(LIST_MAX_BYTES);
    const char *only[] = {shipped, NULL};
    for (const char *const *p = cli->policies[0] ? cli->policies : only; *p; p++) {
        char *full = full_path(*p);
        if (!full || strchr(full, ':'))
            joined.failed = OSM_EINVAL;
        else
            (void)osm_buf_addf(&joined, "%s%s", joined.len ? ":" : "", full);
        if (full && overlay && !strcmp(full, overlay))
            overlay = NULL; /* it is one of them */
        osm_free(full);
    }
    if (overlay)
        (void)osm_buf_addf(&joined, ":%s", overlay);
    return osm_buf_take(&joined);
}

int osm__policy_test(const struct osm_cli *cli, const char *dir)
{
    bool specs = false, modules = false;
    int code = 1;
    char *home = osm__policy_find_home(), *shipped = osm__policy_find_shipped();
    char *policies = NULL;
    char *full = osm__policy_is_dir(dir) ? full_path(dir) : NULL;
    const char *slash = full ? strrchr(full, '/') : NULL;
    if (!full) {
        code = OSM_EXIT_USAGE;
        goto out;
    }
    look_into(full, 0, &specs, &modules);
    for (const char *const *p = cli->policies; *p; p++) {
        if (!osm__policy_is_dir(*p)) {
            code = OSM_EXIT_USAGE;
            goto out;
        }
    }
    if (!specs) {
        (void)fprintf(stderr, "osm: policy test: %s: holds no *_spec.lua\n", dir);
    } else if (!home) {
        (void)fprintf(stderr, "osm: policy test: osm_spec.so is neither beside this program nor in "
                              "../lib/osm; OSM_BUILD may say where it is\n");
    } else if (!shipped && !cli->policies[0]) {
        (void)fprintf(stderr,
                      "osm: policy test: the shipped policies are not found: say --policies DIR\n");
    } else {
        bool own = modules && slash && strcmp(slash, "/spec") != 0;
        policies = join_policies(cli, shipped, own ? full : NULL);
        if (!policies)
            (void)fprintf(stderr, "osm: policy test: a path of --policies holds a colon or is "
                                  "too long\n");
        else if (!set_environment(home, full, policies))
            code = run_busted(full, cli->filter);
    }
out:
    osm_free(home);
    osm_free(shipped);
    osm_free(policies);
    osm_free(full);
    return code;
}
