#include "cli/commands.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/yaml.h"
#include "cli/client.h"
#include "cli/print.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { ASK_TIMEOUT_MS = 30 * 1000, OUTPUT_MAX_BYTES = 256 * 1024 * 1024, TIMEOUT_MAX_S = 3600 };

static int complain(const struct osm_err *err)
{
    osm_print_error(err);
    return 1;
}

int osm_cli_duration_ms(const char *text)
{
    static const struct {
        const char *unit;
        uintmax_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"h", 3600 * 1000}};
    uintmax_t total = 0;
    while (*text) {
        char *end;
        errno = 0;
        if (*text < '0' || *text > '9')
            return 0;
        uintmax_t n = strtoumax(text, &end, 10);
        size_t unit = 0;
        while (unit < 4 && strncmp(end, units[unit].unit, strlen(units[unit].unit)) != 0)
            unit++;
        if (unit == 4 || errno || n > TIMEOUT_MAX_S * 1000)
            return 0;
        total += n * units[unit].ms;
        text = end + strlen(units[unit].unit);
    }
    return total <= (uintmax_t)TIMEOUT_MAX_S * 1000 ? (int)total : 0;
}

int osm_cli_wait(const struct osm_cli *cli)
{
    struct osm_err err = {0};
    json_t *data;
    int timeout_ms = osm_cli_duration_ms(cli->timeout ? cli->timeout : "30s");
    if (!cli->applied && !cli->connected) {
        (void)fprintf(stderr, "osm: wait: say for what: --applied, --connected\n");
        return 2;
    }
    if (!timeout_ms) {
        (void)fprintf(stderr, "osm: --timeout %s: expected a duration such as 30s, at most 1h\n",
                      cli->timeout);
        return 2;
    }
    json_t *args = json_pack("{s:i, s:b}", "timeout_ms", timeout_ms, "connected", cli->connected);
    if (osm_client_ask(cli->socket_path, "wait", args, timeout_ms + ASK_TIMEOUT_MS, &data, &err))
        return complain(&err);
    json_int_t nacked = json_integer_value(json_object_get(data, "nacked"));
    if (cli->output && !strcmp(cli->output, "json"))
        (void)osm_print_json(data);
    else
        (void)printf("snapshot %" JSON_INTEGER_FORMAT " is applied by %" JSON_INTEGER_FORMAT
                     " of %" JSON_INTEGER_FORMAT " proxies\n",
                     json_integer_value(json_object_get(data, "snapshot")),
                     json_integer_value(json_object_get(data, "proxies")) - nacked,
                     json_integer_value(json_object_get(data, "proxies")));
    json_int_t errors = json_integer_value(json_object_get(data, "source_errors"));
    if (errors)
        (void)fprintf(stderr,
                      "osm: %" JSON_INTEGER_FORMAT " errors in the source's files: there the last "
                      "good objects count; `osm status` lists them\n",
                      errors);
    json_decref(data);
    if (nacked) {
        (void)fprintf(stderr,
                      "osm: %" JSON_INTEGER_FORMAT
                      " of them refused a part; `osm status` says which and why\n",
                      nacked);
        return 1;
    }
    return osm_print_end();
}

static void print_root(const char *what, const json_t *root)
{
    char date[32] = "?";
    time_t end = (time_t)json_integer_value(json_object_get(root, "not_after"));
    struct tm tm;
    if (gmtime_r(&end, &tm))
        (void)strftime(date, sizeof date, "%Y-%m-%d", &tm);
    (void)printf("%s %.16s until %s\n", what,
                 json_string_value(json_object_get(root, "fingerprint")), date);
}

int osm_cli_ca_reload(const struct osm_cli *cli)
{
    struct osm_err err = {0};
    json_t *data;
    if (osm_client_ask(cli->socket_path, "ca.reload", json_object(), ASK_TIMEOUT_MS, &data, &err))
        return complain(&err);
    if (cli->output && !strcmp(cli->output, "json")) {
        (void)osm_print_json(data);
    } else {
        size_t i;
        json_t *passive;
        print_root("signs", data);
        json_array_foreach (json_object_get(data, "passive"), i, passive)
            print_root("trusts", passive);
    }
    json_decref(data);
    return osm_print_end();
}

/* Writes one file aside and renames it; 0600 for a secret. */
static int write_file(const char *dir, const char *name, const char *content, bool secret,
                      struct osm_err *err)
{
    if (strchr(name, '/') || name[0] == '.')
        return osm_fail(err, OSM_EINVAL, "the daemon named a file %.64s", name);
    char *path = osm_strf("%s/%s", dir, name), *aside = osm_strf("%s/.%s.new", dir, name);
    int rc = path && aside ? 0 : osm_fail(err, OSM_ENOMEM, "%s", name);
    int error =
        rc ? 0 : osm_file_write(AT_FDCWD, aside, content, strlen(content), secret ? 0600 : 0644);
    if (error)
        rc = osm_fail(err, OSM_EIO, "%s: %s", aside, strerror(error));
    if (!rc && rename(aside, path))
        rc = osm_fail(err, OSM_EIO, "%s: %s", path, strerror(errno));
    if (rc && aside)
        (void)unlink(aside);
    osm_free(path);
    osm_free(aside);
    return rc;
}

int osm_cli_proxy_bootstrap(const struct osm_cli *cli, const char *pod)
{
    struct osm_err err = {0};
    json_t *files;
    if (!cli->out_dir) {
        (void)fprintf(stderr, "osm: proxy bootstrap: --out DIR is missing: where the files go\n");
        return 2;
    }
    json_t *args = json_pack("{s:s, s:s*}", "pod", pod, "mount_path", cli->mount_path);
    if (osm_client_ask(cli->socket_path, "proxy.bootstrap", args, ASK_TIMEOUT_MS, &files, &err))
        return complain(&err);
    int rc = 0;
    if (mkdir(cli->out_dir, 0700) && errno != EEXIST)
        rc = osm_fail(&err, OSM_EIO, "%s: %s", cli->out_dir, strerror(errno));
    const char *name;
    json_t *file;
    json_object_foreach (files, name, file) {
        const char *content = json_string_value(json_object_get(file, "content"));
        if (!rc && content)
            rc = write_file(cli->out_dir, name, content,
                            json_is_true(json_object_get(file, "secret")), &err);
        if (content)
            explicit_bzero((char *)(uintptr_t)content, strlen(content));
    }
    json_decref(files);
    return rc ? complain(&err) : 0;
}

int osm_cli_proxy_config(const struct osm_cli *cli, const char *pod, const char *type)
{
    struct osm_err err = {0};
    json_t *data;
    json_t *args = json_pack("{s:s, s:s*}", "pod", pod, "type", type);
    if (osm_client_ask(cli->socket_path, "proxy.config", args, ASK_TIMEOUT_MS, &data, &err))
        return complain(&err);
    int rc = 0;
    if (cli->output && !strcmp(cli->output, "json")) {
        rc = osm_print_json(data);
    } else {
        struct osm_buf text = OSM_BUF_INIT(OUTPUT_MAX_BYTES);
        if (osm_yaml_write(&text, data)) {
            (void)osm_fail(&err, text.failed, "configuration: %s", osm_code_text(text.failed));
            rc = complain(&err);
        } else {
            (void)fwrite(text.data, 1, text.len, stdout);
            rc = osm_print_end();
        }
        osm_buf_clear(&text);
    }
    json_decref(data);
    return rc;
}
