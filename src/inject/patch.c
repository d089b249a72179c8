/* The patch: additions behind what the pod has, never a rewrite of what is there, so that fields
 * that are unknown here pass untouched. */
#include "inject/admission_priv.h"
#include "inject/files.h"
#include "inject/mesh_config.h"
#include "model/object.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define ENVOY       OSM__ENVOY
#define INIT        "osm-init"
#define HEALTHCHECK OSM__HEALTHCHECK
#define ORIGINALS   "OSM_ORIGINAL_PROBES"

enum {
    TEXT_MAX_BYTES = 256 * 1024,
    POINTER_SIZE = 256,
    VARIABLE_MAX_BYTES = 128 * 1024 - 1, /* what Linux hands to a program, its NUL apart */
    HEALTHCHECK_PORT = 15904,
    SIDECAR_USER = OSM__SIDECAR_USER
};

/* --- operations --- */

static void add_op(struct osm__patch *patch, json_t *op)
{
    if (!op || json_array_append_new(patch->ops, op))
        patch->failed = true;
}

void osm__patch_add(struct osm__patch *patch, const char *op, json_t *value, const char *pointer,
                    ...)
{
    char path[POINTER_SIZE];
    va_list ap;
    va_start(ap, pointer);
    int n = vsnprintf(path, sizeof path, pointer, ap);
    va_end(ap);
    if (!value || n < 0 || (size_t)n >= sizeof path) {
        json_decref(value);
        patch->failed = true;
        return;
    }
    add_op(patch, json_pack("{s:s, s:s, s:o}", "op", op, "path", path, "value", value));
}

void osm__patch_remove(struct osm__patch *patch, const char *pointer, ...)
{
    char path[POINTER_SIZE];
    va_list ap;
    va_start(ap, pointer);
    int n = vsnprintf(path, sizeof path, pointer, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof path)
        patch->failed = true;
    else
        add_op(patch, json_pack("{s:s, s:s}", "op", "remove", "path", path));
}

/* Behind the list's last item; the list is made where there is none. */
static void append(struct osm__patch *patch, const struct osm_admission *a, const char *list,
                   json_t *value)
{
    if (json_is_array(osm_json_at(a->pod, "spec", list, NULL)))
        osm__patch_add(patch, "add", value, "/spec/%s/-", list);
    else
        osm__patch_add(patch, "add", json_pack("[o]", value), "/spec/%s", list);
}

/* A key of a JSON pointer: "~" and "/" have other names in it. */
static void escape(char out[POINTER_SIZE / 2], const char *key)
{
    size_t n = 0;
    for (; *key && n + 3 < POINTER_SIZE / 2; key++) {
        if (*key == '~' || *key == '/') {
            out[n++] = '~';
            out[n++] = *key == '~' ? '0' : '1';
        } else {
            out[n++] = *key;
        }
    }
    out[n] = '\0';
}

/* Members of metadata.labels or metadata.annotations; the map is made where there is none. */
static void add_members(struct osm__patch *patch, const struct osm_admission *a, const char *map,
                        const char *const (*members)[2], size_t n)
{
    char key[POINTER_SIZE / 2];
    if (!json_is_object(osm_json_at(a->pod, "metadata", map, NULL)))
        osm__patch_add(patch, "add", json_object(), "/metadata/%s", map);
    for (size_t i = 0; i < n; i++) {
        escape(key, members[i][0]);
        osm__patch_add(patch, "add", json_string(members[i][1]), "/metadata/%s/%s", map, key);
    }
}

const json_t *osm__named(const json_t *list, const char *name, size_t *index)
{
    size_t i, len = strlen(name);
    const json_t *item;
    json_array_foreach ((json_t *)(uintptr_t)list, i, item) {
        const json_t *own = json_object_get(item, "name");
        if (json_is_string(own) && json_string_length(own) == len &&
            !memcmp(json_string_value(own), name, len)) {
            if (index)
                *index = i;
            return item;
        }
    }
    return NULL;
}

static const json_t *of_spec(const struct osm_admission *a, const char *list, const char *name,
                             size_t *index)
{
    return osm__named(osm_json_at(a->pod, "spec", list, NULL), name, index);
}

/* --- images --- */

struct making {
    struct osm_admission *a;
    const struct osm_injector *injector;
    const json_t *mesh_config;
    struct osm_sidecar_settings settings;
    struct osm__probes probes;
    struct osm__patch patch;
    bool is_windows;
};

static int image(const char **out, const char *configured, const char *given, const char *container,
                 const char *field, const char *variable, struct osm_err *err)
{
    *out = configured && *configured ? configured : given;
    if (*out && **out)
        return 0;
    return osm_fail(err, OSM_EINVAL,
                    "no image is given for container %s: set %s%s%s in the environment of the "
                    "injector",
                    container, field, *field ? " of MeshConfig, or " : "", variable);
}

static int envoy_image(const struct making *m, const char **out, struct osm_err *err)
{
    return m->is_windows
               ? image(out, m->settings.envoy_windows_image, m->injector->envoy_windows_image,
                       ENVOY, "spec.sidecar.envoyWindowsImage", "OSM_DEFAULT_ENVOY_WINDOWS_IMAGE",
                       err)
               : image(out, m->settings.envoy_image, m->injector->envoy_image, ENVOY,
                       "spec.sidecar.envoyImage", "OSM_DEFAULT_ENVOY_IMAGE", err);
}

/* Takes @p container; the policy is left to Kubernetes where none is given. */
static json_t *with_pull_policy(const struct making *m, json_t *container)
{
    const char *policy = m->injector->pull_policy;
    if (container && policy && *policy &&
        json_object_set_new(container, "imagePullPolicy", json_string(policy))) {
        json_decref(container);
        return NULL;
    }
    return container;
}

static json_t *downward(const char *name, const char *field)
{
    return json_pack("{s:s, s:{s:{s:s, s:s}}}", "name", name, "valueFrom", "fieldRef", "apiVersion",
                     "v1", "fieldPath", field);
}

/* --- osm-init --- */

static int add_init(struct making *m, struct osm_err *err)
{
    struct osm_buf script = OSM_BUF_INIT(TEXT_MAX_BYTES);
    const char *from = NULL;
    int rc = image(&from, m->settings.init_image, m->injector->init_image, INIT,
                   "spec.sidecar.initContainerImage", "OSM_DEFAULT_INIT_CONTAINER_IMAGE", err);
    if (!rc)
        rc = osm__admission_coded(m->a, OSM__EXCLUSIONS,
                                  osm_sidecar_init_script(&script, m->mesh_config, m->a->pod, err));
    if (!rc)
        append(&m->patch, m->a, "initContainers",
               with_pull_policy(
                   m, json_pack("{s:s, s:s, s:[s], s:[s, s], s:[o], s:{s:{s:[s]}, s:b, s:b, s:i}}",
                                "name", INIT, "image", from, "command", "/bin/sh", "args", "-c",
                                script.data, "env", downward("POD_IP", "status.podIP"),
                                "securityContext", "capabilities", "add", "NET_ADMIN", "privileged",
                                m->settings.privileged_init, "runAsNonRoot", 0, "runAsUser", 0)));
    osm_buf_clear(&script);
    return rc;
}

/* --- osm-healthcheck --- */

static const char *own_log_level(const json_t *mesh_config)
{
    static const char *const levels[] = {"trace", "debug", "info",    "warn",
                                         "error", "fatal", "disabled"};
    const char *asked = osm_json_str_at(mesh_config, "spec", "observability", "osmLogLevel", NULL);
    if (asked && !strcmp(asked, "panic"))
        return "fatal";
    for (size_t i = 0; asked && i < sizeof levels / sizeof *levels; i++)
        if (!strcmp(asked, levels[i]))
            return levels[i];
    return "info";
}

/* Containers may listen on the pod's address alone where the sidecar calls them by it. */
static json_t *to_pod_ip(const struct making *m, json_t *healthcheck)
{
    const char *mode = osm_json_str_at(m->mesh_config, "spec", "sidecar", "localProxyMode", NULL);
    if (!healthcheck || !mode || strcmp(mode, "PodIP") != 0)
        return healthcheck;
    json_t *args = json_object_get(healthcheck, "args");
    if (json_array_append_new(args, json_string("--host")) ||
        json_array_append_new(args, json_string("$(POD_IP)")) ||
        json_object_set_new(healthcheck, "env",
                            json_pack("[o]", downward("POD_IP", "status.podIP")))) {
        json_decref(healthcheck);
        return NULL;
    }
    return healthcheck;
}

static int add_healthcheck(struct making *m, struct osm_err *err)
{
    const char *from = NULL;
    int rc = image(&from, NULL, m->injector->healthcheck_image, HEALTHCHECK, "",
                   "OSM_DEFAULT_HEALTHCHECK_CONTAINER_IMAGE", err);
    if (!rc)
        append(
            &m->patch, m->a, "containers",
            with_pull_policy(
                m, to_pod_ip(m, json_pack("{s:s, s:s, s:[s], s:[s, s], s:[{s:i}]}", "name",
                                          HEALTHCHECK, "image", from, "command", "/osm-healthcheck",
                                          "args", "--verbosity", own_log_level(m->mesh_config),
                                          "ports", "containerPort", HEALTHCHECK_PORT))));
    return rc;
}

/* --- envoy --- */

static json_t *envoy_args(const struct making *m, struct osm_err *err)
{
    const struct osm_bootstrap_config config = {
        .uuid = m->a->id.uuid,
        .account = m->a->id.account,
        .ns = m->a->id.ns,
        .osm_namespace = m->injector->osm_namespace,
        .trust_domain = m->injector->trust_domain,
        .ads_port = m->injector->ads_port,
        .mount_path = "/etc/envoy",
        .log_level = m->settings.log_level,
        .drain_time_s = m->injector->drain_time_s,
    };
    struct osm_buf text = OSM_BUF_INIT(TEXT_MAX_BYTES);
    json_t *args = NULL;
    if (!osm_bootstrap_args(&text, &config, err))
        args = json_array();
    for (const char *line = text.data; args && *line; line += strcspn(line, "\n") + 1)
        if (json_array_append_new(args, json_stringn(line, strcspn(line, "\n")))) {
            json_decref(args);
            args = NULL;
        }
    osm_buf_clear(&text);
    return args;
}

static json_t *envoy_ports(const struct making *m)
{
    bool used[OSM_PROBE_KIND_COUNT] = {false};
    json_t *ports = json_pack("[{s:s, s:i}, {s:s, s:i}, {s:s, s:i}]", "name", "proxy-admin",
                              "containerPort", 15000, "name", "proxy-inbound", "containerPort",
                              15003, "name", "proxy-metrics", "containerPort", 15010);
    for (size_t i = 0; i < m->a->probes_len; i++)
        used[m->a->probes[i].kind] = true;
    for (int kind = 0; ports && kind < OSM_PROBE_KIND_COUNT; kind++)
        if (used[kind] &&
            json_array_append_new(ports, json_pack("{s:s+, s:i}", "name",
                                                   osm_probe_name((enum osm_probe_kind)kind),
                                                   "-port", "containerPort",
                                                   osm_probe_port((enum osm_probe_kind)kind)))) {
            json_decref(ports);
            return NULL;
        }
    return ports;
}

static json_t *originals(const json_t *made)
{
    struct osm_buf text = OSM_BUF_INIT(TEXT_MAX_BYTES);
    json_t *variable = NULL;
    if (!osm__dump(&text, made))
        variable = json_pack("{s:s, s:s}", "name", ORIGINALS, "value", text.data);
    osm_buf_clear(&text);
    return variable;
}

/* Denied rather than left out: without it a copy of the pod would lose its probes. */
static int check_originals(const struct making *m, struct osm_err *err)
{
    size_t len = json_dumpb(m->probes.originals, NULL, 0, JSON_COMPACT);
    return len + sizeof ORIGINALS <= VARIABLE_MAX_BYTES
               ? 0
               : osm_fail(
                     err, OSM_EINVAL,
                     "the paths of the pod's probes: a variable of the sidecar that keeps them "
                     "would have %zu bytes, and Linux has place for %d: shorten them",
                     len + sizeof ORIGINALS, VARIABLE_MAX_BYTES);
}

static json_t *envoy_env(const struct making *m)
{
    json_t *env = json_pack(
        "[o, o, o, o, o]", downward("POD_UID", "metadata.uid"),
        downward("POD_NAME", "metadata.name"), downward("POD_NAMESPACE", "metadata.namespace"),
        downward("POD_IP", "status.podIP"), downward("SERVICE_ACCOUNT", "spec.serviceAccountName"));
    if (env && json_object_size(m->probes.originals) &&
        json_array_append_new(env, originals(m->probes.originals))) {
        json_decref(env);
        return NULL;
    }
    return env;
}

static json_t *envoy_security(const struct making *m)
{
    return m->is_windows
               ? json_pack("{s:{s:s}}", "windowsOptions", "runAsUserName", "EnvoyUser")
               : json_pack("{s:b, s:i}", "allowPrivilegeEscalation", 0, "runAsUser", SIDECAR_USER);
}

static int add_envoy(struct making *m, struct osm_err *err)
{
    const char *from = NULL;
    int rc = envoy_image(m, &from, err);
    if (rc)
        return rc;
    json_t *args = envoy_args(m, err);
    if (!args)
        return err->code ? err->code : osm_fail(err, OSM_ENOMEM, "sidecar");
    json_t *envoy = json_pack("{s:s, s:s, s:s, s:o, s:o, s:[{s:s, s:b, s:s}], s:[s], s:o, s:o}",
                              "name", ENVOY, "image", from, "imagePullPolicy", "IfNotPresent",
                              "securityContext", envoy_security(m), "ports", envoy_ports(m),
                              "volumeMounts", "name", OSM__VOLUME, "readOnly", 1, "mountPath",
                              "/etc/envoy", "command", ENVOY, "args", args, "env", envoy_env(m));
    if (envoy && m->settings.resources &&
        json_object_set_new(envoy, "resources", json_deep_copy(m->settings.resources))) {
        json_decref(envoy);
        envoy = NULL;
    }
    append(&m->patch, m->a, "containers", envoy);
    return 0;
}

/* --- a pod that has all of it --- */

/* A copy that changed what Envoy answers for: the next copy is to know. */
static void put_originals(struct making *m)
{
    size_t at = 0, i = 0;
    const json_t *env = json_object_get(of_spec(m->a, "containers", ENVOY, &at), "env");
    const json_t *variable = osm__named(env, ORIGINALS, &i);
    bool is_empty = !json_object_size(m->probes.originals);
    if (is_empty ? !variable
                 : m->probes.before && json_equal(m->probes.before, m->probes.originals))
        return;
    if (is_empty)
        osm__patch_remove(&m->patch, "/spec/containers/%zu/env/%zu", at, i);
    else if (variable)
        osm__patch_add(&m->patch, "replace", originals(m->probes.originals),
                       "/spec/containers/%zu/env/%zu", at, i);
    else if (json_is_array(env))
        osm__patch_add(&m->patch, "add", originals(m->probes.originals),
                       "/spec/containers/%zu/env/-", at);
    else
        osm__patch_add(&m->patch, "add", json_pack("[o]", originals(m->probes.originals)),
                       "/spec/containers/%zu/env", at);
}

static json_t *volume(const struct osm_admission *a)
{
    return json_pack("{s:s, s:{s:s+}}", "name", OSM__VOLUME, "secret", "secretName", OSM__SECRET,
                     a->id.uuid);
}

static int change_copy(struct making *m, struct osm_err *err)
{
    size_t at = 0;
    const json_t *had = of_spec(m->a, "volumes", OSM__VOLUME, &at);
    if (json_is_object(json_object_get(had, "secret")))
        osm__patch_add(&m->patch, "add", json_pack("s+", OSM__SECRET, m->a->id.uuid),
                       "/spec/volumes/%zu/secret/secretName", at);
    else
        osm__patch_add(&m->patch, "replace", volume(m->a), "/spec/volumes/%zu", at);
    put_originals(m);
    return m->probes.has_tcp && !of_spec(m->a, "containers", HEALTHCHECK, NULL)
               ? add_healthcheck(m, err)
               : 0;
}

/* --- any other pod --- */

/* Names that are taken would make the pod invalid once the patch is applied, with a word that
 * blames the mesh. */
static int check_names(const struct osm_admission *a, struct osm_err *err)
{
    static const char *const own[] = {ENVOY, INIT, HEALTHCHECK};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (of_spec(a, "containers", own[i], NULL) || of_spec(a, "initContainers", own[i], NULL))
            return osm_fail(err, OSM_EINVAL,
                            "container %s: the name is the sidecar's: give the pod's own another",
                            own[i]);
    if (of_spec(a, "volumes", OSM__VOLUME, NULL))
        return osm_fail(err, OSM_EINVAL,
                        "volume " OSM__VOLUME ": the name is the sidecar's: give the pod's own "
                        "another");
    return 0;
}

static int add_sidecar(struct making *m, struct osm_err *err)
{
    int rc = check_names(m->a, err);
    if (rc)
        return rc;
    append(&m->patch, m->a, "volumes", volume(m->a));
    if (!m->is_windows)
        rc = add_init(m, err);
    if (!rc && m->probes.has_tcp)
        rc = add_healthcheck(m, err);
    if (!rc)
        rc = add_envoy(m, err);
    return rc;
}

/* --- all --- */

static bool is_windows(const struct osm_admission *a)
{
    const json_t *spec = osm_json_at(a->pod, "spec", NULL);
    const char *selected = osm_json_str_at(spec, "nodeSelector", "kubernetes.io/os", NULL);
    const char *own = osm_json_str_at(spec, "os", "name", NULL);
    return (selected && !strcasecmp(selected, "windows")) || (own && !strcasecmp(own, "windows"));
}

/* What the copied sidecar says that the probes were; it may have been edited, and then says
 * nothing. NULL: no memory. */
static json_t *read_originals(const struct osm_admission *a)
{
    const json_t *env = json_object_get(of_spec(a, "containers", ENVOY, NULL), "env");
    const json_t *value = json_object_get(osm__named(env, ORIGINALS, NULL), "value");
    const char *text = json_string_value(value);
    json_error_t where;
    json_t *read =
        text ? json_loadb(text, json_string_length(value), JSON_REJECT_DUPLICATES, &where) : NULL;
    if (read || (text && json_error_code(&where) == json_error_out_of_memory))
        return read;
    return json_object();
}

static int make(struct making *m, bool scrape, struct osm_err *err)
{
    const char *const label[][2] = {{OSM__UUID_LABEL, m->a->id.uuid}};
    static const char *const scraped[][2] = {{"prometheus.io/scrape", "true"},
                                             {"prometheus.io/port", "15010"},
                                             {"prometheus.io/path", "/stats/prometheus"}};
    json_t *before = m->a->is_copy ? read_originals(m->a) : NULL;
    m->probes.before = before;
    int rc = m->a->is_copy && !before ? osm_fail(err, OSM_ENOMEM, "copy of a pod") : 0;
    if (!rc)
        rc = osm__probes_rewrite(&m->probes, m->a, &m->patch, err);
    if (!rc)
        rc = check_originals(m, err);
    if (!rc) {
        add_members(&m->patch, m->a, "labels", label, 1);
        if (scrape)
            add_members(&m->patch, m->a, "annotations", scraped, 3);
        rc = m->a->is_copy ? change_copy(m, err) : add_sidecar(m, err);
    }
    if (!rc && !m->is_windows)
        rc = osm__warn_of_redirection(m->a, m->mesh_config, err);
    if (!rc && m->patch.failed)
        rc = osm_fail(err, OSM_ENOMEM, "patch of a pod");
    json_decref(before);
    return rc;
}

int osm__patch_make(struct osm_admission *a, const struct osm_injector *injector,
                    const json_t *mesh_config, bool scrape, struct osm_err *err)
{
    struct making m = {.a = a, .injector = injector, .mesh_config = mesh_config};
    m.is_windows = is_windows(a);
    a->is_copy = of_spec(a, "containers", ENVOY, NULL) && of_spec(a, "volumes", OSM__VOLUME, NULL);
    m.patch.ops = json_array();
    int rc = osm_sidecar_settings_read(&m.settings, mesh_config, err);
    if (!rc)
        rc = make(&m, scrape, err);
    if (!rc)
        a->patch = osm_take_ptr(&m.patch.ops);
    json_decref(m.patch.ops);
    json_decref(m.probes.originals);
    osm_sidecar_settings_clear(&m.settings);
    return rc;
}
