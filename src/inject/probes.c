/* The kubelet's probes of a pod's containers. What would meet the mesh's mutual TLS is sent to
 * ports that do not:
 *
 *   httpGet HTTP   -> Envoy, which knows the container by the path
 *   httpGet HTTPS  -> Envoy, which passes it on; it can for one container per kind, and for others
 * it is HTTP that Envoy makes HTTPS of tcpSocket      -> osm-healthcheck, which connects exec, grpc
 * -- as they are; so is what names a host, since that is not the pod
 *
 * A copy of a pod has probes that are rewritten already, and the Secret that says what they were
 * cannot be read here (an injector may only write them). So Envoy's container carries what they
 * were in a variable: unlike an annotation, kubectl copies it whatever it is told to leave out. */
#include "inject/admission_priv.h"
#include "inject/check.h"
#include "model/object.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    PATH_MAX_BYTES = 2048,
    TIMEOUT_MAX_S = 24 * 3600,
    HEALTHCHECK_PORT = 15904,
    PROBES_MAX = 1024,
};

static const char *const fields[] = {"livenessProbe", "readinessProbe", "startupProbe"};

struct place {
    const char *list; /* "containers" */
    size_t index;
    const json_t *container;
    const char *name;
    enum osm_probe_kind kind;
    const json_t *probe;
};

struct rewriting {
    struct osm__probes *probes;
    struct osm_admission *a;
    struct osm__patch *patch;
    bool has_tls[OSM_PROBE_KIND_COUNT]; /* one is passed on */
    size_t rewritten;
    struct osm_err *err;
};

static int wrong(const struct rewriting *w, const struct place *p, const char *what)
{
    return osm_fail(w->err, OSM_EINVAL, "container %s: %s: %s", p->name, fields[p->kind], what);
}

static int no_memory(const struct rewriting *w)
{
    return osm_fail(w->err, OSM_ENOMEM, "probes of a pod");
}

/* --- values --- */

static bool is_reserved(json_int_t port)
{
    return port == 15000 || port == 15001 || port == 15003 || port == 15010 ||
           (port >= osm_probe_port(OSM_PROBE_LIVENESS) && port <= HEALTHCHECK_PORT);
}

/* As a kubelet reads it: the name of a port of the container, else digits. */
static json_int_t port_named(const struct place *p, const char *name)
{
    const json_t *port = osm__named(json_object_get(p->container, "ports"), name, NULL);
    size_t digits = strspn(name, "0123456789");
    if (port)
        return json_integer_value(json_object_get(port, "containerPort"));
    return digits && !name[digits] && digits <= 5 ? (json_int_t)strtoumax(name, NULL, 10) : 0;
}

static int read_port(const struct rewriting *w, const struct place *p, const json_t *handler,
                     uint16_t *out)
{
    const json_t *value = json_object_get(handler, "port");
    const char *name = json_string_value(value);
    json_int_t port = name ? port_named(p, name) : json_integer_value(value);
    if (name && !port)
        return osm_fail(w->err, OSM_EINVAL,
                        "container %s: %s: there is no port named '%.64s' among the container's "
                        "ports",
                        p->name, fields[p->kind], name);
    if (port < 1 || port > 65535)
        return wrong(w, p, "port: expected a port from 1 to 65535");
    if (is_reserved(port))
        return wrong(w, p, "port: is one of the sidecar's own");
    *out = (uint16_t)port;
    return 0;
}

/* A URL's path and query as a kubelet would send them: encoded, and no fragment.
 */
static json_t *encode_path(const char *path)
{
    static const char hex[] = "0123456789ABCDEF";
    struct osm_buf out = OSM_BUF_INIT(PATH_MAX_BYTES);
    json_t *made = NULL;
    if (*path != '/')
        (void)osm_buf_add_char(&out, '/');
    for (; *path && *path != '#'; path++) {
        unsigned char c = (unsigned char)*path;
        if (c > ' ' && c < 0x7f && !strchr("\"<>\\^`{|}", c)) {
            (void)osm_buf_add_char(&out, (char)c);
            continue;
        }
        (void)osm_buf_add_char(&out, '%');
        (void)osm_buf_add_char(&out, hex[c >> 4]);
        (void)osm_buf_add_char(&out, hex[c & 15]);
    }
    if (!out.failed)
        made = json_string(out.data);
    osm_buf_clear(&out);
    return made;
}

/* --- what Envoy is told --- */

/* The text that is added lives as long as the review. */
static int keep_path(const struct rewriting *w, const struct place *p, const json_t *http,
                     const char **out)
{
    const json_t *value = json_object_get(http, "path");
    const char *path = json_string_value(value);
    if (value && !path)
        return wrong(w, p, "httpGet.path: expected a text");
    if (path && strlen(path) > PATH_MAX_BYTES / 3 - 1)
        return wrong(w, p, "httpGet.path: is too long");
    json_t *kept = encode_path(path ? path : "");
    if (!kept || json_array_append_new(w->a->probe_texts, kept))
        return no_memory(w);
    *out = json_string_value(kept);
    return 0;
}

static int add_probe(const struct rewriting *w, const struct osm_bootstrap_probe *probe)
{
    struct osm_admission *a = w->a;
    struct osm_bootstrap_probe *grown =
        osm_realloc_array(a->probes, a->probes_len + 1, sizeof *grown);
    if (!grown)
        return no_memory(w);
    grown[a->probes_len++] = *probe;
    a->probes = grown;
    return 0;
}

/* What the rewriting changes of an httpGet. */
static const char *const changed[] = {"path", "port", "scheme"};

/* Of @p to: as in @p from, and absent where it is there. */
static int take_changed(json_t *to, const json_t *from)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof changed / sizeof *changed; i++) {
        json_t *value = json_object_get(from, changed[i]);
        if (value)
            rc = json_object_set(to, changed[i], value);
        else
            (void)json_object_del(to, changed[i]);
    }
    return rc;
}

static int keep_original(const struct rewriting *w, const struct place *p, const json_t *http)
{
    json_t *of_container = json_object_get(w->probes->originals, p->name);
    if (json_object_get(of_container, fields[p->kind]))
        return wrong(w, p, "there is another container of this name");
    json_t *original = json_object();
    int rc = original ? take_changed(original, http) : -1;
    if (!rc && !of_container) {
        of_container = json_object();
        rc = json_object_set_new(w->probes->originals, p->name, of_container);
    }
    if (!rc)
        rc = json_object_set(of_container, fields[p->kind], original);
    json_decref(original);
    return rc ? no_memory(w) : 0;
}

static json_t *rewritten(const struct place *p, const json_t *now, const json_t *original,
                         enum osm_probe_way way)
{
    struct osm_buf path = OSM_BUF_INIT(PATH_MAX_BYTES);
    json_t *made = json_copy((json_t *)(uintptr_t)now);
    int rc = made ? take_changed(made, original) : -1;
    if (!rc)
        rc = json_object_set_new(made, "port", json_integer(osm_probe_port(p->kind)));
    if (!rc && way != OSM_PROBE_TLS_THROUGH) {
        osm_probe_path(&path, p->kind, p->name);
        rc = path.failed ? -1 : json_object_set_new(made, "path", json_string(path.data));
    }
    if (!rc && way == OSM_PROBE_TLS_FROM_HERE)
        rc = json_object_set_new(made, "scheme", json_string("HTTP"));
    osm_buf_clear(&path);
    if (rc) {
        json_decref(made);
        return NULL;
    }
    return made;
}

/* @p now: what the pod asks for; @p original: what that is to mean, which is the same unless it is
 * a copy's. */
static int rewrite_http(struct rewriting *w, const struct place *p, const json_t *now,
                        const json_t *original)
{
    const char *scheme = json_string_value(json_object_get(original, "scheme"));
    bool is_tls = scheme && !strcmp(scheme, "HTTPS");
    json_int_t timeout_s = json_integer_value(json_object_get(p->probe, "timeoutSeconds"));
    struct osm_bootstrap_probe probe = {
        .kind = p->kind,
        .way = !is_tls               ? OSM_PROBE_HTTP
               : w->has_tls[p->kind] ? OSM_PROBE_TLS_FROM_HERE
                                     : OSM_PROBE_TLS_THROUGH,
        .container = p->name,
        .timeout_s = timeout_s < 1               ? 1
                     : timeout_s > TIMEOUT_MAX_S ? TIMEOUT_MAX_S
                                                 : (int)timeout_s,
    };
    int rc = osm__check_name("name of a container", p->name, false, 63, w->err);
    if (!rc)
        rc = read_port(w, p, original, &probe.port);
    if (!rc)
        rc = keep_path(w, p, original, &probe.path);
    if (!rc)
        rc = add_probe(w, &probe);
    if (!rc)
        rc = keep_original(w, p, original);
    if (rc)
        return rc;
    w->has_tls[p->kind] |= is_tls;
    json_t *made = rewritten(p, now, original, probe.way);
    if (!made)
        return no_memory(w);
    if (json_equal(made, now))
        json_decref(made);
    else
        osm__patch_add(w->patch, "replace", made, "/spec/%s/%zu/%s/httpGet", p->list, p->index,
                       fields[p->kind]);
    return 0;
}

static int rewrite_tcp(struct rewriting *w, const struct place *p, const json_t *socket)
{
    uint16_t port = 0;
    char digits[8];
    int rc = read_port(w, p, socket, &port);
    if (rc)
        return rc;
    (void)snprintf(digits, sizeof digits, "%d", port);
    osm__patch_remove(w->patch, "/spec/%s/%zu/%s/tcpSocket", p->list, p->index, fields[p->kind]);
    osm__patch_add(w->patch, "add",
                   json_pack("{s:s, s:i, s:s, s:[{s:s, s:s}]}", "path", "/osm-healthcheck", "port",
                             HEALTHCHECK_PORT, "scheme", "HTTP", "httpHeaders", "name",
                             "Original-Tcp-Port", "value", digits),
                   "/spec/%s/%zu/%s/httpGet", p->list, p->index, fields[p->kind]);
    w->probes->has_tcp = true;
    return 0;
}

/* --- probes of a copy --- */

static int warn(const struct rewriting *w, const struct place *p, const char *what)
{
    return osm__warn(w->a, p->name, fields[p->kind], what) ? no_memory(w) : 0;
}

static bool is_ours(const struct rewriting *w, const struct place *p, const json_t *http)
{
    return w->a->is_copy &&
           json_integer_value(json_object_get(http, "port")) == osm_probe_port(p->kind);
}

static int restore(struct rewriting *w, const struct place *p, const json_t *http)
{
    const json_t *was = osm_json_at(w->probes->before, p->name, fields[p->kind], NULL);
    if (json_is_object(was))
        return rewrite_http(w, p, http, was);
    osm__patch_remove(w->patch, "/spec/%s/%zu/%s", p->list, p->index, fields[p->kind]);
    return warn(w, p, "left out of this copy: what it was before the sidecar came is not known");
}

/* --- all --- */

static bool has_host(const json_t *handler)
{
    const char *host = json_string_value(json_object_get(handler, "host"));
    return host && *host;
}

static bool is_healthchecked(const json_t *http)
{
    return json_integer_value(json_object_get(http, "port")) == HEALTHCHECK_PORT;
}

static bool is_network(const json_t *probe)
{
    const json_t *http = json_object_get(probe, "httpGet");
    const json_t *socket = json_object_get(probe, "tcpSocket");
    return (json_is_object(http) && !has_host(http)) ||
           (json_is_object(socket) && !has_host(socket));
}

static int rewrite(struct rewriting *w, const struct place *p)
{
    const json_t *http = json_object_get(p->probe, "httpGet");
    const json_t *socket = json_object_get(p->probe, "tcpSocket");
    if (is_network(p->probe) && w->rewritten++ >= PROBES_MAX)
        return osm_fail(w->err, OSM_EINVAL, "the pod has more than %d probes", PROBES_MAX);
    if (json_is_object(http) && !has_host(http)) {
        if (w->a->is_copy && is_healthchecked(http)) {
            w->probes->has_tcp = true;
            return 0;
        }
        return is_ours(w, p, http) ? restore(w, p, http) : rewrite_http(w, p, http, http);
    }
    return json_is_object(socket) && !has_host(socket) ? rewrite_tcp(w, p, socket) : 0;
}

/* An init container with probes stays (restartPolicy Always). Its startupProbe must succeed before
 * osm-init and Envoy start, and so cannot go through them. */
static int rewrite_list(struct rewriting *w, const char *list, bool is_init)
{
    const json_t *containers = osm_json_at(w->a->pod, "spec", list, NULL);
    struct place p = {.list = list};
    json_array_foreach ((json_t *)(uintptr_t)containers, p.index, p.container) {
        p.name = json_string_value(json_object_get(p.container, "name"));
        for (int kind = 0; p.name && kind < OSM_PROBE_KIND_COUNT; kind++) {
            p.kind = (enum osm_probe_kind)kind;
            p.probe = json_object_get(p.container, fields[kind]);
            int rc = 0;
            if (!is_init || p.kind != OSM_PROBE_STARTUP)
                rc = rewrite(w, &p);
            else if (is_network(p.probe))
                rc = warn(w, &p,
                          "stays as it is, since it must succeed before the sidecar starts: "
                          "it fails should the container start again later");
            if (rc)
                return rc;
        }
    }
    return 0;
}

int osm__probes_rewrite(struct osm__probes *probes, struct osm_admission *a,
                        struct osm__patch *patch, struct osm_err *err)
{
    struct rewriting w = {.probes = probes, .a = a, .patch = patch, .err = err};
    probes->originals = json_object();
    a->probe_texts = json_array();
    if (!probes->originals || !a->probe_texts)
        return no_memory(&w);
    int rc = rewrite_list(&w, "initContainers", true);
    return rc ? rc : rewrite_list(&w, "containers", false);
}
