/* Events about this replica: what has become of its policies. They are about its own pod; of a
 * daemon that is in none, about the MeshConfig. Every replica tells its own. */
#include "feedback/feedback_priv.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

enum { NOTES_MAX = 64, POD_MS = 30 * 1000 /* until then the source may still tell of it */ };

static const struct osm_outbox_limits limits = {.keys_max = NOTES_MAX,
                                                .burst = 25,
                                                .per_s = 1,
                                                .backoff_ms = 1000,
                                                .backoff_max_ms = 5 * 60 * 1000,
                                                .rest_ms = 1000,
                                                .rest_max_ms = 60 * 1000,
                                                .denied_ms = 30 * 1000,
                                                .denials = 3};

static void note_free(struct osm__note *note)
{
    if (note)
        osm_free(note->text);
    osm_free(note);
}

/* --- what they are about --- */

/* NULL: it is not known; then `kubectl describe pod` does not show what is told. */
static const struct osm_object *own_pod(const struct osm_feedback *f)
{
    char *key = osm_strf("/Pod/%s/%s", f->config.osm_namespace, f->config.pod);
    const struct osm_object *pod = key ? osm_store_get(f->config.store, key) : NULL;
    osm_free(key);
    return pod;
}

static const char *uid_of(const struct osm_object *object)
{
    return object ? osm_json_str_at(object->body, "metadata", "uid", NULL) : NULL;
}

static json_t *subject(const struct osm_feedback *f)
{
    const char *ns = f->config.osm_namespace;
    if (f->config.pod)
        return json_pack("{s:s, s:s, s:s, s:s, s:s*}", "apiVersion", "v1", "kind", "Pod", "name",
                         f->config.pod, "namespace", ns, "uid", uid_of(own_pod(f)));
    char *key = osm_strf("config.openservicemesh.io/MeshConfig/%s/osm-mesh-config", ns);
    const struct osm_object *config = key ? osm_store_get(f->config.store, key) : NULL;
    osm_free(key);
    return json_pack("{s:s, s:s, s:s, s:s, s:s*}", "apiVersion",
                     "config.openservicemesh.io/v1alpha2", "kind", "MeshConfig", "name",
                     "osm-mesh-config", "namespace", ns, "uid", uid_of(config));
}

static bool make(void *ud, const char *key, struct osm_write *out)
{
    const struct osm_feedback *f = ud;
    const struct osm__note *note = osm_map_get(&f->notes, key);
    if (!note)
        return false;
    const struct osm__event event = {.ns = f->config.osm_namespace,
                                     .name = key,
                                     .about = subject(f),
                                     .reason = note->reason,
                                     .type = note->type,
                                     .text = note->text,
                                     .count = note->count,
                                     .first_s = note->first_s,
                                     .last_s = note->last_s};
    return event.about && osm__event_write(f, &event, out);
}

static void done(void *ud, const char *key, enum osm_outbox_outcome outcome)
{
    (void)ud;
    (void)key;
    osm__feedback_count("event", outcome);
}

/* --- telling --- */

static void forget_oldest(struct osm_feedback *f)
{
    struct osm_map_entry *oldest = NULL;
    osm_map_each (&f->notes, e) {
        const struct osm__note *note = e->value, *least = oldest ? oldest->value : NULL;
        if (!least || note->number < least->number)
            oldest = e;
    }
    if (!oldest)
        return;
    struct osm__note *note = oldest->value;
    (void)osm_writer_drop(f->own, oldest->key);
    (void)osm_map_deln(&f->notes, oldest->key, oldest->key_len);
    note_free(note);
}

/* The same of this replica is one Event. */
static void name_of(const struct osm_feedback *f, const char *id, const char *reason, char *out,
                    size_t size)
{
    char hex[OSM_HASH_HEX_SIZE];
    char *identity = osm_strf("%s\n%s\n%s\n%s", f->config.mesh_name, f->instance, id, reason);
    struct osm_hash hash =
        osm_hash_bytes(identity ? identity : "", identity ? strlen(identity) : 0);
    (void)snprintf(out, size, "%.200s.%.16s", f->config.pod ? f->config.pod : "osm-mesh-config",
                   osm_hash_hex(hash, hex));
    osm_free(identity);
}

void osm__notes_add(struct osm_feedback *f, const char *id, const char *reason, const char *type,
                    const char *text)
{
    char name[256];
    name_of(f, id, reason, name, sizeof name);
    struct osm__note *note = osm_map_get(&f->notes, name);
    char *copy =
        osm_strndup(text, strlen(text) < OSM__TEXT_MAX - 1 ? strlen(text) : OSM__TEXT_MAX - 1);
    if (!note && f->notes.count >= NOTES_MAX)
        forget_oldest(f);
    bool is_new = !note;
    note = note ? note : osm_alloc(sizeof *note);
    if (!note || !copy || (is_new && osm_map_put(&f->notes, name, note, NULL))) {
        osm_free(copy);
        if (is_new)
            osm_free(note);
        return; /* the log has it */
    }
    osm_free(note->text);
    note->text = osm_utf8_repair(copy);
    note->reason = reason;
    note->type = type;
    note->count++;
    note->last_s = osm_wall_s();
    note->first_s = note->first_s ? note->first_s : note->last_s;
    note->number = ++f->notes_made;
    osm_writer_put(f->own, name);
}

void osm_feedback_noted(struct osm_feedback *f, const char *digest, const char *state,
                        const char *reason)
{
    static const struct {
        const char *state, *reason, *type, *text;
    } words[] = {
        {"staged", "PolicyReload", "Normal", "changed policies are being checked"},
        {"canary", "PolicyCanary", "Normal", "changed policies serve some proxies first"},
        {"active", "PolicyActivated", "Normal", "policies are in force"},
        {"held", "PolicyHeld", "Warning", "changed policies wait for `osm policy activate`"},
        {"rejected", "PolicyRejected", "Warning", "changed policies are not taken over"},
        {"quarantined", "PolicyRejected", "Warning", "these policies were rolled back before"},
        {"unreadable", "PolicyRejected", "Warning", "the policies cannot be read"},
        {"rolled back", "PolicyRolledBack", "Warning", "policies were rolled back"},
    };
    for (size_t i = 0; f && i < sizeof words / sizeof *words; i++) {
        if (strcmp(words[i].state, state) != 0)
            continue;
        char *text = osm_strf("%s%s%.8s%s%s%s", words[i].text, *digest ? " (" : "", digest,
                              *digest ? ")" : "", reason ? ": " : "", reason ? reason : "");
        if (text)
            osm__notes_add(f, *digest ? digest : state, words[i].reason, words[i].type, text);
        osm_free(text);
    }
}

/* --- life --- */

static bool may(void *ud)
{
    const struct osm_feedback *f = ud;
    bool is_known = !f->config.pod || own_pod(f) || osm_now_ms() - f->began_ms >= POD_MS;
    return !f->stopping && is_known;
}

int osm__notes_init(struct osm_feedback *f, struct osm_err *err)
{
    const struct osm_writer_config config = {.loop = f->config.loop,
                                             .kube = f->kube,
                                             .limits = &limits,
                                             .resource = "events",
                                             .what = "Events about this replica",
                                             .ud = f,
                                             .may = may,
                                             .make = make,
                                             .done = done};
    f->began_ms = osm_now_ms();
    return osm_writer_new(&f->own, &config, err);
}

void osm__notes_clear(struct osm_feedback *f)
{
    osm_writer_free(f->own);
    osm_map_each (&f->notes, e)
        note_free(e->value);
    osm_map_clear(&f->notes);
}
