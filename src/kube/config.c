#include "kube/config.h"

#include "base/base64.h"
#include "base/json.h"
#include "base/yaml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_MAX_BYTES = 4 << 20, FILES_MAX = 32, LIST_MAX = 256 };

/* A kubeconfig that has been read. */
struct file {
    char *path, *dir;
    struct osm_yaml_docs docs;
    const json_t *root;
};

struct files {
    struct file list[FILES_MAX];
    size_t len;
};

static void wipe(char *text)
{
    if (text)
        osm_free_secret(text, strlen(text));
}

static void free_list(char **list)
{
    for (char **at = list; at && *at; at++)
        wipe(*at);
    osm_free(list);
}

void osm_kube_config_clear(struct osm_kube_config *c)
{
    osm_free(c->server);
    osm_free(c->about);
    osm_free(c->ca_file);
    osm_free(c->ca);
    osm_free(c->cert_file);
    osm_free(c->cert);
    osm_free(c->key_file);
    wipe(c->key);
    osm_free(c->token_file);
    wipe(c->token);
    osm_free(c->username);
    wipe(c->password);
    osm_free(c->proxy);
    free_list(c->headers);
    osm_free(c->exec.command);
    free_list(c->exec.args);
    free_list(c->exec.env);
    osm_free(c->exec.api_version);
    osm_free(c->exec.hint);
    *c = (struct osm_kube_config){0};
}

/* --- in a pod --- */

int osm_kube_config_in_cluster(struct osm_kube_config *out, const char *dir, struct osm_err *err)
{
    const char *host = getenv("KUBERNETES_SERVICE_HOST"), *port = getenv("KUBERNETES_SERVICE_PORT");
    if (!dir)
        dir = "/var/run/secrets/kubernetes.io/serviceaccount";
    if (!host || !*host || !port || !*port)
        return osm_fail(err, OSM_ENOENT,
                        "KUBERNETES_SERVICE_HOST and _PORT are not set: this is no pod");
    bool is_ipv6 = strchr(host, ':') != NULL;
    struct osm_kube_config c = {
        .server = osm_strf("https://%s%s%s:%s", is_ipv6 ? "[" : "", host, is_ipv6 ? "]" : "", port),
        .about = osm_strdup("in-cluster"),
        .ca_file = osm_strf("%s/ca.crt", dir),
        .token_file = osm_strf("%s/token", dir),
    };
    int rc = c.server && c.about && c.ca_file && c.token_file
                 ? 0
                 : osm_fail(err, OSM_ENOMEM, "service account");
    if (!rc && access(c.token_file, R_OK))
        rc = osm_fail(err, OSM_ENOENT, "%s cannot be read: the pod has no service account's token",
                      c.token_file);
    if (rc)
        osm_kube_config_clear(&c);
    else
        *out = c;
    return rc;
}

/* --- kubeconfig: files --- */

static void files_clear(struct files *files)
{
    for (size_t i = 0; i < files->len; i++) {
        osm_free(files->list[i].path);
        osm_free(files->list[i].dir);
        osm_yaml_docs_clear(&files->list[i].docs);
    }
}

static int read_file(struct file *file, struct osm_err *err)
{
    struct osm_buf text = OSM_BUF_SECRET_INIT(FILE_MAX_BYTES);
    int rc = osm_buf_read_file(&text, file->path, err);
    if (!rc) {
        rc = osm_yaml_parse(text.data ? text.data : "", text.len, &file->docs, NULL, err);
        if (rc)
            osm_err_prepend(err, "%s: ", file->path);
    }
    if (!rc && (file->docs.len != 1 || !json_is_object(file->docs.list[0].value)))
        rc = osm_fail(err, OSM_EPARSE, "%s: is no kubeconfig: expected one document, a map",
                      file->path);
    if (!rc)
        file->root = file->docs.list[0].value;
    osm_buf_clear(&text);
    return rc;
}

/* A file that is missing counts as empty where there are others. */
static int read_files(struct files *files, const char *paths, struct osm_err *err)
{
    int rc = 0;
    bool several = strchr(paths, ':') != NULL;
    for (const char *at = paths; *at && !rc;) {
        size_t n = strcspn(at, ":");
        if (n && files->len == FILES_MAX)
            return osm_fail(err, OSM_ELIMIT, "more than %d kubeconfig files", FILES_MAX);
        if (n) {
            struct file *file = &files->list[files->len++];
            file->path = osm_strndup(at, n);
            const char *slash = file->path ? strrchr(file->path, '/') : NULL;
            file->dir = !file->path ? NULL
                        : slash     ? osm_strndup(file->path, (size_t)(slash - file->path) + 1)
                                    : osm_strdup("./");
            rc = file->dir ? read_file(file, err) : osm_fail(err, OSM_ENOMEM, "kubeconfig");
            if (rc == OSM_ENOENT && several)
                rc = 0;
        }
        at += n + (at[n] == ':');
    }
    return rc;
}

/* The entry of this name in `clusters`, `users` or `contexts`, under @p member. */
static const json_t *find(const struct files *files, const char *list, const char *name,
                          const char *member, const struct file **where)
{
    for (size_t i = 0; i < files->len; i++) {
        const json_t *entries = json_object_get(files->list[i].root, list);
        size_t at;
        const json_t *entry;
        json_array_foreach ((json_t *)(uintptr_t)entries, at, entry) {
            if (strcmp(osm_json_text(entry, "name"), name) != 0)
                continue;
            *where = &files->list[i];
            return json_object_get(entry, member);
        }
    }
    return NULL;
}

/* --- kubeconfig: fields --- */

struct reading {
    const struct file *file;
    const char *entry; /* "users[admin]" */
    struct osm_err *err;
    int rc;
};

static int refuse(struct reading *r, int code, const char *field, const char *what)
{
    if (!r->rc)
        r->rc = osm_fail(r->err, code, "%s: %s.%s: %s", r->file->path, r->entry, field, what);
    return r->rc;
}

static char *text_of(struct reading *r, const json_t *at, const char *field)
{
    const json_t *value = json_object_get(at, field);
    if (!value || json_is_null(value) || r->rc)
        return NULL;
    if (!json_is_string(value)) {
        (void)refuse(r, OSM_EINVAL, field, "must be a string");
        return NULL;
    }
    if (!json_string_length(value))
        return NULL;
    char *text = osm_strdup(json_string_value(value));
    if (!text)
        (void)refuse(r, OSM_ENOMEM, field, osm_code_text(OSM_ENOMEM));
    return text;
}

/* Relative ones begin where the kubeconfig lies. */
static char *path_of(struct reading *r, const json_t *at, const char *field)
{
    char *text = text_of(r, at, field);
    if (!text || *text == '/')
        return text;
    char *path = osm_strf("%s%s", r->file->dir, text);
    osm_free(text);
    if (!path)
        (void)refuse(r, OSM_ENOMEM, field, osm_code_text(OSM_ENOMEM));
    return path;
}

/* "NAME-data": PEM in base64. */
static char *data_of(struct reading *r, const json_t *at, const char *field)
{
    struct osm_buf out = OSM_BUF_SECRET_INIT(FILE_MAX_BYTES);
    char *text = text_of(r, at, field), *data = NULL;
    int rc = text ? osm_base64_decode(&out, text, strlen(text)) : 0;
    if (text && !rc && memchr(out.data ? out.data : "", '\0', out.len))
        rc = OSM_EPARSE;
    if (rc)
        (void)refuse(r, rc, field, rc == OSM_EPARSE ? "is no base64 of a text" : osm_code_text(rc));
    else if (text && !(data = osm_buf_take(&out)))
        (void)refuse(r, OSM_ENOMEM, field, osm_code_text(OSM_ENOMEM));
    wipe(text);
    osm_buf_clear(&out);
    return data;
}

static bool flag_of(struct reading *r, const json_t *at, const char *field)
{
    const json_t *value = json_object_get(at, field);
    if (value && !json_is_boolean(value) && !json_is_null(value))
        (void)refuse(r, OSM_EINVAL, field, "must be true or false");
    return json_is_true(value);
}

/* A list of strings, or of {name, value}. */
static char **list_of(struct reading *r, const json_t *at, const char *field, bool pairs)
{
    const json_t *value = json_object_get(at, field), *item;
    size_t n = json_array_size(value), i;
    char **list = n <= LIST_MAX ? osm_alloc_array(n + 1, sizeof *list) : NULL;
    if (r->rc)
        return list;
    if (value && !json_is_null(value) && !json_is_array(value))
        (void)refuse(r, OSM_EINVAL, field, "must be a list");
    if (!list)
        (void)refuse(r, n > LIST_MAX ? OSM_ELIMIT : OSM_ENOMEM, field,
                     n > LIST_MAX ? "is too long" : osm_code_text(OSM_ENOMEM));
    if (r->rc)
        return list;
    json_array_foreach ((json_t *)(uintptr_t)value, i, item) {
        const char *text = json_string_value(item);
        if (pairs && *osm_json_text(item, "name"))
            list[i] = osm_strf("%s=%s", osm_json_text(item, "name"), osm_json_text(item, "value"));
        else if (!pairs && text)
            list[i] = osm_strdup(text);
        else
            (void)refuse(r, OSM_EINVAL, field,
                         pairs ? "must be pairs of name and value" : "must be strings");
        if (!r->rc && !list[i])
            (void)refuse(r, OSM_ENOMEM, field, osm_code_text(OSM_ENOMEM));
        if (r->rc)
            return list;
    }
    return list;
}

static void read_cluster(struct osm_kube_config *c, struct reading *r, const json_t *cluster)
{
    c->server = text_of(r, cluster, "server");
    c->ca = data_of(r, cluster, "certificate-authority-data");
    c->ca_file = c->ca ? NULL : path_of(r, cluster, "certificate-authority");
    c->insecure = flag_of(r, cluster, "insecure-skip-tls-verify");
    char *server_name = text_of(r, cluster, "tls-server-name");
    c->proxy = text_of(r, cluster, "proxy-url");
    if (server_name) /* better than to verify another name than was asked for */
        (void)refuse(r, OSM_EINVAL, "tls-server-name",
                     "is not supported: let `server` name a host of the server's certificate");
    osm_free(server_name);
    if (!c->server) {
        (void)refuse(r, OSM_EINVAL, "server", "is missing");
        return;
    }
    size_t n = strlen(c->server);
    while (n && c->server[n - 1] == '/')
        c->server[--n] = '\0';
    if (strncmp(c->server, "https://", 8) != 0 && strncmp(c->server, "http://", 7) != 0)
        (void)refuse(r, OSM_EINVAL, "server", "must begin with https:// or http://");
    else if (strpbrk(c->server, "@?#")) /* it is told to whoever asks for the status */
        (void)refuse(r, OSM_EINVAL, "server",
                     "must hold neither credentials, which belong under users, nor ? or #");
    if (c->insecure && (c->ca || c->ca_file))
        (void)refuse(r, OSM_EINVAL, "insecure-skip-tls-verify",
                     "cannot be true beside a certificate authority");
}

static void read_exec(struct osm_kube_config *c, struct reading *r, const json_t *exec)
{
    if (!exec || json_is_null(exec) || r->rc)
        return;
    char *command = text_of(r, exec, "command");
    if (!command) {
        (void)refuse(r, OSM_EINVAL, "exec.command", "is missing");
        return;
    }
    c->exec.command = *command != '/' && strchr(command, '/')
                          ? osm_strf("%s%s", r->file->dir, command)
                          : osm_strdup(command);
    osm_free(command);
    c->exec.args = list_of(r, exec, "args", false);
    c->exec.env = list_of(r, exec, "env", true);
    c->exec.api_version = text_of(r, exec, "apiVersion");
    c->exec.hint = text_of(r, exec, "installHint");
    c->exec.wants_cluster = flag_of(r, exec, "provideClusterInfo");
    if (!c->exec.command)
        (void)refuse(r, OSM_ENOMEM, "exec", osm_code_text(OSM_ENOMEM));
    const char *version = c->exec.api_version ? c->exec.api_version : "";
    if (strcmp(version, "client.authentication.k8s.io/v1") != 0 &&
        strcmp(version, "client.authentication.k8s.io/v1beta1") != 0)
        (void)refuse(r, OSM_ENOTSUP, "exec.apiVersion",
                     "expected client.authentication.k8s.io/v1 or v1beta1");
    if (!strcmp(osm_json_text(exec, "interactiveMode"), "Always"))
        (void)refuse(r, OSM_ENOTSUP, "exec.interactiveMode", "there is nobody to ask: Always");
}

static void add_header(char **headers, size_t *len, const char *name, const char *value,
                       struct reading *r)
{
    if (!value || r->rc)
        return;
    if (strpbrk(value, "\r\n"))
        (void)refuse(r, OSM_EINVAL, "as", "is no header's value");
    else if (!headers || !(headers[*len] = osm_strf("%s: %s", name, value)))
        (void)refuse(r, OSM_ENOMEM, "as", osm_code_text(OSM_ENOMEM));
    *len += !r->rc;
}

/* Impersonation: a header for each. */
static void read_headers(struct osm_kube_config *c, struct reading *r, const json_t *user)
{
    char *as = text_of(r, user, "as"), *uid = text_of(r, user, "as-uid");
    char **groups = list_of(r, user, "as-groups", false);
    size_t n = 0;
    for (char **group = groups; group && *group; group++)
        n++;
    if (!r->rc && (as || uid || n)) {
        c->headers = osm_alloc_array(n + 3, sizeof *c->headers);
        size_t len = 0;
        add_header(c->headers, &len, "Impersonate-User", as, r);
        add_header(c->headers, &len, "Impersonate-Uid", uid, r);
        for (size_t i = 0; i < n; i++)
            add_header(c->headers, &len, "Impersonate-Group", groups[i], r);
    }
    const json_t *extra = json_object_get(user, "as-user-extra");
    if (json_object_size(extra))
        (void)refuse(r, OSM_ENOTSUP, "as-user-extra", "is not supported");
    osm_free(as);
    osm_free(uid);
    free_list(groups);
}

static void read_user(struct osm_kube_config *c, struct reading *r, const json_t *user)
{
    c->cert = data_of(r, user, "client-certificate-data");
    c->cert_file = c->cert ? NULL : path_of(r, user, "client-certificate");
    c->key = data_of(r, user, "client-key-data");
    c->key_file = c->key ? NULL : path_of(r, user, "client-key");
    /* a file that rotates is worth more than what it held once */
    c->token_file = path_of(r, user, "tokenFile");
    c->token = c->token_file ? NULL : text_of(r, user, "token");
    c->username = text_of(r, user, "username");
    c->password = text_of(r, user, "password");
    read_exec(c, r, json_object_get(user, "exec"));
    read_headers(c, r, user);
    if (json_object_get(user, "auth-provider"))
        (void)refuse(r, OSM_ENOTSUP, "auth-provider", "is not supported; an exec plugin is");
    if ((c->cert || c->cert_file) != (c->key || c->key_file))
        (void)refuse(r, OSM_EINVAL, c->cert || c->cert_file ? "client-key" : "client-certificate",
                     "is missing");
    if (c->token && strpbrk(c->token, "\r\n"))
        (void)refuse(r, OSM_EINVAL, "token", "has more than one line");
}

static const char *current_context(const struct files *files)
{
    for (size_t i = 0; i < files->len; i++) {
        const char *name = osm_json_text(files->list[i].root, "current-context");
        if (*name)
            return name;
    }
    return NULL;
}

/* Follows context -> cluster and user. */
static int resolve(struct osm_kube_config *c, const struct files *files, const char *paths,
                   const char *name, struct osm_err *err)
{
    const struct file *where = NULL;
    const json_t *context = find(files, "contexts", name, "context", &where);
    if (!json_is_object(context))
        return osm_fail(err, OSM_ENOENT, "%s: there is no context %s", paths, name);
    c->about = osm_strf("context %s of %s", name, where->path);
    if (!c->about)
        return osm_fail(err, OSM_ENOMEM, "kubeconfig");
    const char *names[2] = {osm_json_text(context, "cluster"), osm_json_text(context, "user")};
    for (size_t i = 0; i < 2; i++) {
        const char *list = i ? "users" : "clusters", *member = i ? "user" : "cluster";
        const json_t *entry = find(files, list, names[i], member, &where);
        if (i && !*names[i])
            return 0; /* nobody in particular */
        if (!json_is_object(entry))
            return osm_fail(err, OSM_ENOENT, "%s: context %s: there is no %s %s", paths, name,
                            member, names[i]);
        char label[128];
        (void)snprintf(label, sizeof label, "%s[%.100s]", list, names[i]);
        struct reading r = {where, label, err, 0};
        if (i)
            read_user(c, &r, entry);
        else
            read_cluster(c, &r, entry);
        if (r.rc)
            return r.rc;
    }
    return 0;
}

int osm_kube_config_load(struct osm_kube_config *out, const char *paths, const char *context,
                         struct osm_err *err)
{
    struct files files = {.len = 0};
    struct osm_kube_config c = {0};
    int rc = read_files(&files, paths, err);
    if (!rc && !context)
        context = current_context(&files);
    if (!rc && !context)
        rc = osm_fail(err, OSM_EINVAL, "%s: current-context is not set; name one", paths);
    if (!rc)
        rc = resolve(&c, &files, paths, context, err);
    files_clear(&files);
    if (rc)
        osm_kube_config_clear(&c);
    else
        *out = c;
    return rc;
}
