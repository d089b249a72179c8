#include "app/complete_command.h"

#include "base/json.h"
#include "base/log.h"
#include "base/map.h"
#include "debug/complete.h"
#include "debug/words.h"

#include <string.h>
#include <strings.h>

enum { WORDS_MAX = 500, DEADLINE_MS = 1500 };

/* A set of words that begin with a prefix. */
struct words {
    const char *prefix;
    struct osm_map set; /* word -> this */
    bool failed;
};

static void add_n(struct words *w, const char *word, size_t len)
{
    size_t n = strlen(w->prefix);
    if (len < n || strncasecmp(word, w->prefix, n) != 0 || w->set.count >= WORDS_MAX)
        return;
    w->failed = w->failed || osm_map_putn(&w->set, word, len, w, NULL);
}

static void add(struct words *w, const char *word)
{
    add_n(w, word, strlen(word));
}

/* --- where words come from --- */

static void add_commands(struct words *w, const struct osm_registry *registry)
{
    json_t *list = osm_registry_describe_all(registry), *command;
    size_t i;
    json_array_foreach (list, i, command) {
        char *typed = osm_words_typed(osm_json_text(command, "name"));
        if (typed)
            add(w, typed);
        osm_free(typed);
    }
    json_decref(list);
}

static void add_options(struct words *w, const struct osm_control_command *command)
{
    for (const struct osm_control_arg *a = command->args; a && a->name; a++) {
        char *word = osm_strf("--%s", a->name);
        for (char *c = word; c && *c; c++)
            *c = *c == '_' ? '-' : *c;
        if (word)
            add(w, word);
        osm_free(word);
    }
}

static void add_choices(struct words *w, const char *choices)
{
    for (const char *at = choices; at && *at; at += strspn(at, " ")) {
        size_t n = strcspn(at, " ");
        add_n(w, at, n);
        at += n;
    }
}

static void add_pods(struct words *w, const struct osm_snapshot *s)
{
    for (size_t i = 0; s && i < s->proxies_len; i++) {
        char *word = osm_strf("%s/%s", s->proxies[i].ns, s->proxies[i].pod);
        if (word)
            add(w, word);
        osm_free(word);
    }
}

static void add_resources(struct words *w, const struct osm_app *app, const char *pod)
{
    const struct osm_snapshot *s = app->snapshot;
    for (size_t i = 0; s && i < s->proxies_len; i++) {
        const struct osm_snapshot_proxy *p = &s->proxies[i];
        size_t n = strlen(p->ns);
        if (strncmp(pod, p->ns, n) != 0 || pod[n] != '/' || strcmp(pod + n + 1, p->pod) != 0)
            continue;
        for (int t = 0; t < OSM_XDS_TYPE_COUNT; t++)
            for (size_t k = 0; k < p->cls->types[t].len; k++)
                add(w, p->cls->types[t].list[k]->name);
    }
}

/* Keys of objects: namespaces first, then names there; only of the kind that is asked for, where
 * the name is one. */
struct keys {
    struct words *words;
    const char *kind, *ns; /* NULL: namespaces are looked for */
    bool any;              /* there is such a kind */
};

static void add_namespace(void *ud, struct osm_object *o)
{
    struct words *w = ud;
    if (!strcmp(o->kind, "Namespace"))
        add(w, o->name);
    else if (*o->ns)
        add(w, o->ns);
}

static void look_for_kind(void *ud, struct osm_object *o)
{
    struct keys *k = ud;
    k->any = k->any || !strcmp(o->kind, k->kind);
}

static void add_key(void *ud, struct osm_object *o)
{
    const struct keys *k = ud;
    if (!strcmp(o->ns, k->ns) && (!k->any || !strcmp(o->kind, k->kind)))
        add(k->words, o->name);
}

static void add_keys(struct words *w, const struct osm_app *app, const struct osm_completing *c)
{
    struct keys k = {.words = w, .kind = c->name ? c->name : "", .ns = c->before[0]};
    if (!c->before_len) {
        osm_store_each(app->store, add_namespace, w);
    } else if (c->before_len == 1 && k.ns) {
        osm_store_each(app->store, look_for_kind, &k);
        osm_store_each(app->store, add_key, &k);
    }
}

static void add_topics(struct words *w)
{
    for (int i = 0; i < OSM_LOG_TOPIC_COUNT; i++)
        add(w, osm_log_topic_name((enum osm_log_topic)i));
    add(w, "all");
}

/* --- the answer --- */

struct completion {
    struct osm_app *app;
    struct osm_control_request *request;
    struct osm_completing completing;
    char *line;
    json_t *names; /* of what can be asked as mesh.NAME; NULL: not needed, or not known */
};

static void completion_free(struct completion *c)
{
    osm_completing_clear(&c->completing);
    json_decref(c->names);
    osm_free(c->line);
    osm_free(c);
}

static void collect(struct words *w, const struct completion *c)
{
    const struct osm_completing *at = &c->completing;
    size_t i;
    json_t *name;
    if (at->command && !at->arg) {
        add_options(w, at->command);
        return;
    }
    switch (at->source) {
    case OSM_COMPLETE_COMMAND:
        add_commands(w, c->app->commands);
        break;
    case OSM_COMPLETE_NAMESPACE:
        osm_store_each(c->app->store, add_namespace, w);
        break;
    case OSM_COMPLETE_POD:
        add_pods(w, c->app->snapshot);
        break;
    case OSM_COMPLETE_RESOURCE:
        if (at->before_len && at->before[0])
            add_resources(w, c->app, at->before[0]);
        break;
    case OSM_COMPLETE_MESH:
        json_array_foreach (c->names, i, name)
            add(w, json_string_value(name));
        break;
    case OSM_COMPLETE_KEYS:
        add_keys(w, c->app, at);
        break;
    case OSM_COMPLETE_TOPIC:
        add_topics(w);
        break;
    case OSM_COMPLETE_CHOICES:
    case OSM_COMPLETE_LUA:
    default:
        add_choices(w, at->arg ? at->arg->choices : NULL);
        break;
    }
}

/* Takes the completion. */
static void answer(struct completion *c)
{
    struct words w = {.prefix = c->line + c->completing.start, .set = OSM_MAP_INIT};
    char end[2] = {c->completing.end, '\0'};
    struct osm_err err = {0};
    size_t n = 0;
    if (c->completing.any)
        collect(&w, c);
    const char **sorted = osm_map_sorted_keys(&w.set, &n);
    json_t *list = sorted && !w.failed ? json_array() : NULL;
    for (size_t i = 0; list && i < n; i++)
        (void)json_array_append_new(list, json_string(sorted[i]));
    osm_free(sorted);
    osm_map_clear(&w.set);
    if (list) {
        osm_control_reply(c->request,
                          json_pack("{s:I, s:o, s:s}", "start", (json_int_t)c->completing.start,
                                    "words", list, "end", end));
    } else {
        (void)osm_fail(&err, OSM_ENOMEM, "out of memory");
        osm_control_fail(c->request, &err);
    }
    completion_free(c);
}

static void ask_names(void *ud, struct osm_engine *engine)
{
    struct completion *c = ud;
    c->names = engine ? osm_console_names(engine) : NULL;
}

static void names_known(void *ud)
{
    answer(ud);
}

static void complete(void *ud, struct osm_control_request *request, const json_t *args)
{
    struct osm_app *app = ud;
    struct osm_err err = {0};
    struct completion *c = osm_alloc(sizeof *c);
    char *line = osm_strdup(osm_json_text(args, "line"));
    if (!c || !line || osm_complete_parse(&c->completing, app->commands, line)) {
        osm_free(c);
        osm_free(line);
        (void)osm_fail(&err, OSM_ENOMEM, "out of memory");
        osm_control_fail(request, &err);
        return;
    }
    c->app = app;
    c->request = request;
    c->line = line;
    bool names = c->completing.any && c->completing.arg &&
                 c->completing.source == OSM_COMPLETE_MESH && app->reload;
    if (!names || osm_reload_ask(app->reload, ask_names, names_known, c))
        answer(c);
}

static const struct osm_control_arg complete_args[] = {
    {.name = "line",
     .type = OSM_ARG_LINE,
     .required = true,
     .help = "as it is typed, up to the cursor"},
    {.name = NULL},
};
const struct osm_control_command osm_complete_commands[] = {
    {.name = "complete",
     .handler = complete,
     .quiet = true,
     .deadline_ms = DEADLINE_MS,
     .args = complete_args,
     .help =
         "the words that a line may go on with: from byte `start` on, `end` behind a whole one"},
    {.name = NULL},
};
