#include "model/object.h"

#include "base/buf.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 128, CANONICAL_MAX_BYTES = 256 << 20, NAME_MAX_LEN = 253, LABEL_MAX_LEN = 63 };

/* The caller sees the immutable part; count and storage follow it. */
struct counted {
    struct osm_object object;
    atomic_size_t refs;
    json_t *body;
    char text[]; /* group, version, key, origin */
};

/* --- reading --- */

static const json_t *walk(const json_t *value, va_list ap)
{
    for (const char *step; value && (step = va_arg(ap, const char *));)
        value = json_is_object(value) ? json_object_get(value, step) : NULL;
    return value;
}

const json_t *osm_json_at(const json_t *value, ...)
{
    va_list ap;
    va_start(ap, value);
    const json_t *found = walk(value, ap);
    va_end(ap);
    return found;
}

const char *osm_json_str_at(const json_t *value, ...)
{
    va_list ap;
    va_start(ap, value);
    const json_t *found = walk(value, ap);
    va_end(ap);
    return json_string_value(found);
}

const char *osm_pod_body_account(const json_t *body)
{
    const char *account = osm_json_str_at(body, "spec", "serviceAccountName", NULL);
    if (!account || !*account)
        account = osm_json_str_at(body, "spec", "serviceAccount", NULL);
    return account && *account ? account : "default";
}

const char *osm_pod_account(const struct osm_object *pod)
{
    return osm_pod_body_account(pod->body);
}

/* --- canonical form --- */

static void add_size(struct osm_buf *out, size_t n)
{
    uint64_t wide = n;
    (void)osm_buf_add(out, &wide, sizeof wide);
}

static void add_text(struct osm_buf *out, char tag, const char *text, size_t len)
{
    (void)osm_buf_add_char(out, tag);
    add_size(out, len);
    (void)osm_buf_add(out, text, len);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool is_skipped(const char *const *skip, const char *key)
{
    for (; skip && *skip; skip++)
        if (!strcmp(*skip, key))
            return true;
    return false;
}

static int add_canonical(struct osm_buf *out, const json_t *value, int depth);

/* Keys of @p skip are left out, and the value of "metadata" is written without @p skip_metadata. */
static int add_map(struct osm_buf *out, const json_t *map, int depth, const char *const *skip,
                   const char *const *skip_metadata)
{
    const char **keys = osm_alloc_array(json_object_size(map), sizeof *keys);
    const char *key;
    json_t *value;
    size_t n = 0;
    int rc = 0;
    if (!keys)
        return OSM_ENOMEM;
    json_object_foreach ((json_t *)map, key, value) {
        if (!is_skipped(skip, key))
            keys[n++] = key;
    }
    qsort(keys, n, sizeof *keys, by_text);
    (void)osm_buf_add_char(out, 'o');
    add_size(out, n);
    for (size_t i = 0; i < n && !rc; i++) {
        value = json_object_get(map, keys[i]);
        add_text(out, 'k', keys[i], strlen(keys[i]));
        if (skip_metadata && !strcmp(keys[i], "metadata") && json_is_object(value))
            rc = add_map(out, value, depth + 1, skip_metadata, NULL);
        else
            rc = add_canonical(out, value, depth + 1);
    }
    osm_free(keys);
    return rc ? rc : out->failed;
}

static int add_canonical(struct osm_buf *out, const json_t *value, int depth)
{
    size_t i;
    json_t *each;
    int rc = 0;
    if (depth > DEPTH_MAX)
        return OSM_ELIMIT;
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return add_map(out, value, depth, NULL, NULL);
    case JSON_ARRAY:
        (void)osm_buf_add_char(out, 'a');
        add_size(out, json_array_size(value));
        json_array_foreach (value, i, each) {
            if (!rc)
                rc = add_canonical(out, each, depth + 1);
        }
        return rc ? rc : out->failed;
    case JSON_STRING:
        add_text(out, 's', json_string_value(value), json_string_length(value));
        return out->failed;
    case JSON_INTEGER: {
        json_int_t n = json_integer_value(value);
        (void)osm_buf_add_char(out, 'i');
        return osm_buf_add(out, &n, sizeof n);
    }
    case JSON_REAL: {
        double n = json_real_value(value);
        (void)osm_buf_add_char(out, 'r');
        return osm_buf_add(out, &n, sizeof n);
    }
    case JSON_TRUE:
        return osm_buf_add_char(out, 't');
    case JSON_FALSE:
        return osm_buf_add_char(out, 'f');
    default:
        return osm_buf_add_char(out, 'n');
    }
}

/* What is hashed for the core comes first, so that both are read off one text. */
static int hash_content(const json_t *body, struct osm_hash *core, struct osm_hash *out)
{
    static const char *const skip[] = {"status", NULL};
    static const char *const skip_metadata[] = {"managedFields", "resourceVersion", "generation",
                                                "labels",        "annotations",     NULL};
    struct osm_buf text = OSM_BUF_INIT(CANONICAL_MAX_BYTES);
    int rc = add_map(&text, body, 1, skip, skip_metadata);
    if (!rc)
        *core = osm_hash_bytes(text.data, text.len);
    for (size_t i = 0; i < 2 && !rc; i++) {
        const json_t *part = osm_json_at(body, "metadata", i ? "annotations" : "labels", NULL);
        rc = part ? add_canonical(&text, part, 2) : osm_buf_add_char(&text, '-');
    }
    if (!rc)
        *out = osm_hash_bytes(text.data, text.len);
    osm_buf_clear(&text);
    return rc;
}

static int hash_status(const json_t *body, struct osm_hash *out)
{
    const json_t *status = json_object_get(body, "status");
    struct osm_buf text = OSM_BUF_INIT(CANONICAL_MAX_BYTES);
    int rc = status ? add_canonical(&text, status, 1) : 0;
    if (!rc && status)
        *out = osm_hash_bytes(text.data, text.len);
    osm_buf_clear(&text);
    return rc;
}

static bool is_text_or_absent(const json_t *value)
{
    return !value || json_is_null(value) || json_is_string(value);
}

/* Of the conditions only Ready counts, and its status alone: times and messages change every few
 * seconds. A malformed one counts as it stands, since it makes the whole Pod malformed for facts.
 */
static int add_conditions(struct osm_buf *out, const json_t *conditions)
{
    size_t i;
    json_t *each;
    int rc = 0;
    if (!json_is_array(conditions))
        return add_canonical(out, conditions, 1);
    json_array_foreach (conditions, i, each) {
        const json_t *type = json_object_get(each, "type"),
                     *status = json_object_get(each, "status");
        bool well_formed =
            json_is_object(each) && is_text_or_absent(type) && is_text_or_absent(status);
        bool ready = json_is_string(type) && !strcmp(json_string_value(type), "Ready");
        if (!rc && !well_formed)
            rc = add_canonical(out, each, 1);
        else if (!rc && ready)
            rc = status ? add_canonical(out, status, 1) : osm_buf_add_char(out, '-');
    }
    return rc;
}

static int hash_live(const json_t *body, struct osm_hash *out)
{
    static const char *const fields[] = {"podIP", "podIPs", "phase", "conditions"};
    const json_t *status = json_object_get(body, "status");
    struct osm_buf text = OSM_BUF_INIT(CANONICAL_MAX_BYTES);
    int rc = osm_buf_add_char(&text, '(');
    if (status && !json_is_object(status))
        rc = add_canonical(&text, status, 1);
    for (size_t i = 0; i < sizeof fields / sizeof *fields && !rc; i++) {
        const json_t *part = osm_json_at(status, fields[i], NULL);
        if (!part)
            rc = osm_buf_add_char(&text, '-');
        else
            rc = i == 3 ? add_conditions(&text, part) : add_canonical(&text, part, 1);
    }
    if (!rc)
        *out = osm_hash_bytes(text.data, text.len);
    osm_buf_clear(&text);
    return rc;
}

/* --- construction --- */

static bool is_cluster_scoped(const char *group, const char *kind)
{
    static const char *const table[][2] = {
        {"", "Namespace"},
        {"", "Node"},
        {"", "PersistentVolume"},
        {"", "ComponentStatus"},
        {"admissionregistration.k8s.io", "MutatingWebhookConfiguration"},
        {"admissionregistration.k8s.io", "ValidatingWebhookConfiguration"},
        {"admissionregistration.k8s.io", "ValidatingAdmissionPolicy"},
        {"admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"},
        {"apiextensions.k8s.io", "CustomResourceDefinition"},
        {"apiregistration.k8s.io", "APIService"},
        {"cert-manager.io", "ClusterIssuer"},
        {"certificates.k8s.io", "CertificateSigningRequest"},
        {"flowcontrol.apiserver.k8s.io", "FlowSchema"},
        {"flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"},
        {"networking.k8s.io", "IngressClass"},
        {"node.k8s.io", "RuntimeClass"},
        {"policy", "PodSecurityPolicy"},
        {"rbac.authorization.k8s.io", "ClusterRole"},
        {"rbac.authorization.k8s.io", "ClusterRoleBinding"},
        {"scheduling.k8s.io", "PriorityClass"},
        {"storage.k8s.io", "CSIDriver"},
        {"storage.k8s.io", "CSINode"},
        {"storage.k8s.io", "StorageClass"},
        {"storage.k8s.io", "VolumeAttachment"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (!strcmp(table[i][0], group) && !strcmp(table[i][1], kind))
            return true;
    return false;
}

static bool is_made_of(const char *text, size_t len, size_t max, const char *extra)
{
    if (!len || len > max)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!alnum && (!c || !strchr(extra, c)))
            return false;
    }
    return true;
}

/* A path segment of the Kubernetes API: printable ASCII without slash, percent or space; not "." or
 * "..". */
static bool is_name(const char *text)
{
    return is_made_of(text, strlen(text), NAME_MAX_LEN, "-._:~!$&'()*+,;=@") && strcmp(text, ".") &&
           strcmp(text, "..");
}

/* A namespace's name is part of hosts and identities: a DNS label. */
static bool is_label(const char *text, size_t len)
{
    if (!is_made_of(text, len, LABEL_MAX_LEN, "-") || text[0] == '-' || text[len - 1] == '-')
        return false;
    for (size_t i = 0; i < len; i++)
        if (text[i] >= 'A' && text[i] <= 'Z')
            return false;
    return true;
}

/* A required string of the manifest. */
static int get_text(const json_t *holder, const char *path, const char *field, const char **out,
                    struct osm_err *err)
{
    const json_t *value = osm_json_at(holder, field, NULL);
    if (!value || json_is_null(value))
        return osm_fail(err, OSM_EINVAL, "%s: is missing", path);
    if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value))
        return osm_fail(err, OSM_EINVAL, "%s: must be a string", path);
    if (!json_string_length(value))
        return osm_fail(err, OSM_EINVAL, "%s: is empty", path);
    *out = json_string_value(value);
    return 0;
}

struct identity {
    const char *group, *version, *kind, *ns, *name;
    size_t group_len;
};

static int get_identity(const json_t *body, struct identity *id, struct osm_err *err)
{
    const char *api = NULL;
    if (!json_is_object(body))
        return osm_fail(err, OSM_EINVAL,
                        "the document is not an object: a manifest has apiVersion, kind, metadata");
    int rc = get_text(body, "apiVersion", "apiVersion", &api, err);
    if (!rc)
        rc = get_text(body, "kind", "kind", &id->kind, err);
    if (rc)
        return rc;
    const char *slash = strchr(api, '/');
    id->group = slash ? api : "";
    id->group_len = slash ? (size_t)(slash - api) : 0;
    id->version = slash ? slash + 1 : api;
    if ((slash && !is_made_of(api, id->group_len, NAME_MAX_LEN, "-.")) ||
        !is_made_of(id->version, strlen(id->version), LABEL_MAX_LEN, "-"))
        return osm_fail(err, OSM_EINVAL, "apiVersion: \"%.100s\" is not GROUP/VERSION or VERSION",
                        api);
    if (!is_made_of(id->kind, strlen(id->kind), LABEL_MAX_LEN, ""))
        return osm_fail(err, OSM_EINVAL, "kind: \"%.100s\" is no name of a kind", id->kind);

    const json_t *metadata = osm_json_at(body, "metadata", NULL);
    if (!json_is_object(metadata))
        return osm_fail(err, OSM_EINVAL, "metadata: %s",
                        metadata ? "must be an object" : "is missing");
    rc = get_text(metadata, "metadata.name", "name", &id->name, err);
    if (rc)
        return rc;
    bool is_space = !id->group_len && !strcmp(id->kind, "Namespace");
    if (!is_name(id->name) || (is_space && !is_label(id->name, strlen(id->name))))
        return osm_fail(err, OSM_EINVAL, "metadata.name: \"%.100s\" is no valid name", id->name);
    const json_t *ns = osm_json_at(metadata, "namespace", NULL);
    if (ns && !json_is_null(ns) && !json_is_string(ns))
        return osm_fail(err, OSM_EINVAL, "metadata.namespace: must be a string");
    id->ns = json_string_length(ns) ? json_string_value(ns) : "default";
    if (!is_label(id->ns, json_string_length(ns) ? json_string_length(ns) : strlen(id->ns)))
        return osm_fail(err, OSM_EINVAL, "metadata.namespace: \"%.100s\" is no valid name", id->ns);
    return 0;
}

/* Copies text and a NUL to *at and moves *at behind it. */
static const char *place(char **at, const char *text, size_t len)
{
    char *start = *at;
    memcpy(start, text, len);
    start[len] = '\0';
    *at += len + 1;
    return start;
}

int osm_object_new(struct osm_object **out, json_t *body, const char *origin, struct osm_err *err)
{
    struct counted *made = NULL;
    struct identity id = {0};
    char *key = NULL;
    int rc = get_identity(body, &id, err);
    if (rc)
        goto out;
    if (!origin)
        origin = "";
    key = osm_strf("%.*s/%s/%s/%s", (int)id.group_len, id.group, id.kind, id.ns, id.name);
    if (key)
        made = osm_alloc(sizeof *made + id.group_len + strlen(id.version) + strlen(key) +
                         strlen(origin) + 4);
    if (!made) {
        rc =
            osm_fail(err, OSM_ENOMEM, "%s %.100s: %s", id.kind, id.name, osm_code_text(OSM_ENOMEM));
        goto out;
    }
    struct osm_object *o = &made->object;
    char *at = made->text;
    o->group = place(&at, id.group, id.group_len);
    o->version = place(&at, id.version, strlen(id.version));
    o->origin = place(&at, origin, strlen(origin));
    o->kind = id.kind;
    o->name = id.name;
    o->ns = id.ns;
    if (is_cluster_scoped(o->group, o->kind)) {
        o->ns = "";
        osm_free(key);
        key = osm_strf("%s/%s//%s", o->group, o->kind, o->name);
    }
    rc = key ? hash_content(body, &o->core, &o->content) : OSM_ENOMEM;
    if (!rc)
        rc = hash_status(body, &o->status);
    if (!rc && osm_object_is(o, "", "Pod"))
        rc = hash_live(body, &o->live);
    if (rc) {
        rc = osm_fail(err, rc, "%s %.100s: %s", id.kind, id.name,
                      rc == OSM_ELIMIT ? "nested too deep or too large" : osm_code_text(rc));
        goto out;
    }
    o->key = place(&at, key,
                   strlen(key)); /* never longer than the namespaced form that was allowed for */
    o->body = body;
    made->body = json_incref(body);
    atomic_init(&made->refs, 1);
    *out = o;
    made = NULL;
out:
    osm_free(made);
    osm_free(key);
    json_decref(body);
    return rc;
}

struct osm_object *osm_object_ref(struct osm_object *object)
{
    atomic_fetch_add_explicit(&((struct counted *)object)->refs, 1, memory_order_relaxed);
    return object;
}

void osm_object_unref(struct osm_object *object)
{
    struct counted *counted = (struct counted *)object;
    if (!counted || atomic_fetch_sub_explicit(&counted->refs, 1, memory_order_acq_rel) != 1)
        return;
    json_decref(counted->body);
    osm_free(counted);
}

bool osm_object_same(const struct osm_object *a, const struct osm_object *b)
{
    return osm_hash_equal(a->content, b->content) && osm_hash_equal(a->live, b->live);
}

bool osm_object_is(const struct osm_object *object, const char *group, const char *kind)
{
    return !strcmp(object->kind, kind) && !strcmp(object->group, group);
}

void osm_changes_free(struct osm_changes *changes)
{
    if (!changes)
        return;
    for (size_t i = 0; i < changes->len; i++) {
        osm_object_unref(changes->list[i].now);
        osm_object_unref(changes->list[i].gone);
    }
    osm_free(changes->list);
    osm_free(changes);
}
