/* An engine that has run is given other rules, again and again, between changes of the objects.
 * What it says is what a fresh one says of the same rules and objects; bundles that do not load
 * fail in both with the same words. The changes: modules of an operator come and go, and shipped
 * ones have a line more, a word less, another operator or number. Most of these still load, and
 * many are errors only when they run, which must be the same errors. */
#include "property.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WALK = 60 /* runs */, EDITED_MAX = 4, PATH_BYTES = 256 };

/* --- what an operator may add --- */

static const struct {
    const char *path, *text;
} added[] = {
    {"acme/timeout.lua",
     "return { api = 1, extends = { cluster = { run = function(_, cluster, at)\n"
     "  if at.direction == 'outbound' then cluster.connect_timeout = '7s' end\n"
     "end } } }\n"},
    {"acme/hosts.lua",
     "return { api = 1, extends = { virtual_host = {\n"
     "  vary = function(mesh, at)\n"
     "    if at.direction ~= 'outbound' then return nil end\n"
     "    local variants = {}\n"
     "    for _, account in ipairs(mesh.accounts()) do variants[account[1] .. '/' .. account[2]] = "
     "account[2] end\n"
     "    return variants\n"
     "  end,\n"
     "  run = function(_, host, at)\n"
     "    if at.variant then host.request_headers_to_add = { { header = { key = 'x-acme', value = "
     "at.variant } } } end\n"
     "  end } } }\n"},
    {"acme/listener.lua", "return { api = 1, extends = { listener = { run = function(_, listener)\n"
                          "  listener.per_connection_buffer_limit_bytes = 65536\n"
                          "end } } }\n"},
    {"acme/listener_later.lua",
     "return { api = 1, extends = { listener = { after = { 'acme/listener' }, run = function(_, "
     "listener)\n"
     "  listener.per_connection_buffer_limit_bytes = (listener.per_connection_buffer_limit_bytes "
     "or 0) + 1\n"
     "end } } }\n"},
    {"acme/wrap.lua", "return { api = 1, wraps = { backends = function(_, original, ...)\n"
                      "  local out = {}\n"
                      "  for at, backend in ipairs(original(...)) do\n"
                      "    out[at] = {}\n"
                      "    for k, v in pairs(backend) do out[at][k] = v end\n"
                      "    out[at].weight = backend.weight + 1\n"
                      "  end\n"
                      "  return out\n"
                      "end } }\n"},
    {"acme/wrap_later.lua", "return { api = 1, wraps = { backends = { after = { 'acme/wrap' },\n"
                            "  run = function(mesh, original, namespace, name)\n"
                            "    if name == 'cart' then error('no backends for the cart') end\n"
                            "    return original(namespace, name)\n"
                            "  end } } }\n"},
    {"acme/wrap_header.lua",
     "return { api = 1, wraps = { outbound_listener_header = function(_, original, ...)\n"
     "  local out = {}\n"
     "  for k, v in pairs(original(...)) do out[k] = v end\n"
     "  out.stat_prefix = 'acme'\n"
     "  return out\n"
     "end } }\n"},
    {"acme/quota.lua", "local M = { api = 1, rules = {}, emit = {} }\n"
                       "M.rules['acme.quota'] = function(mesh, namespace, name)\n"
                       "  return #mesh.backends(namespace, name)\n"
                       "end\n"
                       "M.emit.quotas = { each = 'Service', run = function(mesh, out, namespace, "
                       "name)\n"
                       "  out.cluster { name = 'quota ' .. namespace .. '/' .. name, audience = "
                       "'everyone',\n"
                       "    message = { alt_stat_name = tostring(mesh.acme.quota(namespace, name)) "
                       "} }\n"
                       "end }\n"
                       "return M\n"},
    {"acme/asks.lua",
     "return { api = 1, emit = { asks = { each = 'Service', run = function(mesh, out, namespace, "
     "name)\n"
     "  local m, word = mesh, 'acme'\n"
     "  local known = pcall(function() return m[word].quota(namespace, name) end)\n"
     "  out.cluster { name = 'asks ' .. namespace .. '/' .. name, audience = 'everyone',\n"
     "    message = { alt_stat_name = tostring(known) } }\n"
     "end } } }\n"},
    /* Writes into another module's table while it is loaded. */
    {"acme/patch.lua", "local common = require('envoy.common')\n"
                       "local is_http = common.is_http\n"
                       "common.is_http = function(protocol) return protocol == 'tcp' or "
                       "is_http(protocol) end\n"
                       "return { api = 1, rules = {} }\n"},
    {"aaaa/patch.lua", "local object = require('kubernetes.object')\n"
                       "object.is_ipv4 = function() return true end\n"
                       "return { api = 1, rules = {} }\n"},
    {"acme/kind.lua", "return { api = 1, kinds = { ['acme.Link'] = { group = 'acme.test', versions "
                      "= { 'v1' } } } }\n"},
    {"acme/index.lua",
     "return { api = 1, indexes = { ['acme.by_name'] = { of = 'Service',\n"
     "  keys = function(service) return { { service.metadata.name } } end } } }\n"},
    {"acme/fails.lua", "return { api = 1, emit = { fails = { each = 'Service', run = function(_, "
                       "out, namespace, name)\n"
                       "  out.cluster { name = 'fails ' .. name, audience = 'everyone', message = "
                       "{} }\n"
                       "  if namespace == 'blue' then error('it is blue') end\n"
                       "end } } }\n"},
    {"acme/no_keys.lua",
     "local M = { api = 1, rules = {}, emit = {} }\n"
     "M.rules['acme.keys'] = function(mesh)\n"
     "  return #mesh.Service() > 2 and 'many' or { { 'a' }, { 'b' } }\n"
     "end\n"
     "M.emit.each_of = { each = 'acme.keys', run = function(_, out, name)\n"
     "  out.cluster { name = 'key ' .. name, audience = 'everyone', message = {} "
     "}\n"
     "end }\n"
     "return M\n"},
    {"acme/host.lua", "return { api = 1, wraps = { host_settings = function(_, original)\n"
                      "  local out = {}\n"
                      "  for k, v in pairs(original()) do out[k] = v end\n"
                      "  return out\n"
                      "end } }\n"},
    {"acme/broken.lua", "return { api = 1, rules = { acme = }\n"},
    {"acme/reads.lua", "return { api = 1, extends = { route = { run = function(mesh, route, at)\n"
                       "  if #mesh.Service() % 2 == 1 then route.name = 'odd' end\n"
                       "end } } }\n"},
    /* What a function depends on, and does not reach: a module that it requires when it runs. */
    {"acme/late.lua", "return { api = 1, extends = { cluster = { run = function(_, cluster)\n"
                      "  local found, words = pcall(require, 'acme.words')\n"
                      "  cluster.alt_stat_name = found and words.word or words\n"
                      "end } } }\n"},
    {"acme/words.lua", "return { word = 'late' }\n"},
    /* A circle of two modules, which one of them leaves. */
    {"acme/circle.lua",
     "local M = { api = 1, rules = {}, emit = {} }\n"
     "M.rules['acme.there'] = function(mesh, name)\n"
     "  local m, word = mesh, 'acme'\n"
     "  return m[word].back(name)\n"
     "end\n"
     "M.emit.circle = { each = 'Service', run = function(mesh, out, namespace, name)\n"
     "  local _, text = pcall(mesh.acme.there, name)\n"
     "  out.cluster { name = 'circle ' .. namespace .. '/' .. name, audience = 'everyone',\n"
     "    message = { alt_stat_name = tostring(text) } }\n"
     "end }\n"
     "return M\n"},
    {"acme/back.lua", "local M = { api = 1, rules = {} }\n"
                      "M.rules['acme.back'] = function(mesh, name)\n"
                      "  local m, word = mesh, 'acme'\n"
                      "  return m[word].there(name)\n"
                      "end\n"
                      "return M\n"},
    {"acme/way_out.lua", "return { api = 1, wraps = { ['acme.back'] = function(_, original, name)\n"
                         "  return #name % 2 == 0 and 'out' or original(name)\n"
                         "end } }\n"},
    /* An answer that is an object, and a kind that gives it another form. */
    {"acme/holds.lua",
     "local M = { api = 1, rules = {}, emit = {} }\n"
     "M.rules['acme.held'] = function(mesh, ...) return { mesh.Service(...) } end\n"
     "M.emit.holds = { each = 'Service', run = function(mesh, out, namespace, name)\n"
     "  local service = mesh.acme.held(namespace, name)[1]\n"
     "  local text = service.metadata.labels and 'labels ' or 'none '\n"
     "  for k in pairs(service.spec or {}) do text = text .. k .. ' ' end\n"
     "  out.cluster { name = 'holds ' .. namespace .. '/' .. name, audience = 'everyone',\n"
     "    message = { alt_stat_name = text } }\n"
     "end }\n"
     "return M\n"},
    {"acme/deep.lua",
     "local M = { api = 1, rules = {}, emit = {} }\n"
     "M.rules['acme.down'] = function(mesh, n)\n"
     "  local m, word = mesh, 'acme'\n"
     "  return n >= 170 and 'end' or m[word].on(n)\n"
     "end\n"
     "M.rules['acme.on'] = function(mesh, n) return mesh.acme.down(n + 1) end\n"
     "M.emit.deep = { each = 'Service', run = function(mesh, out, namespace, name)\n"
     "  local known, text = pcall(mesh.acme.down, #name * 25)\n"
     "  out.cluster { name = 'deep ' .. namespace .. '/' .. name, audience = 'everyone',\n"
     "    message = { alt_stat_name = tostring(known) .. tostring(text) } }\n"
     "end }\n"
     "return M\n"},
    {"acme/short.lua", "return { api = 1, wraps = { ['acme.on'] = function(_, original, n)\n"
                       "  return n > 120 and 'short' or original(n)\n"
                       "end } }\n"},
    {"acme/looks.lua",
     "return { api = 1, emit = { looks = { each = 'Service', run = function(mesh, out, namespace, "
     "name)\n"
     "  local m, word = mesh, 'acme'\n"
     "  local known = pcall(function() return m[word].quota end)\n"
     "  out.cluster { name = 'looks ' .. namespace .. '/' .. name, audience = 'everyone',\n"
     "    message = { alt_stat_name = tostring(known) } }\n"
     "end } } }\n"},
    {"acme/writes.lua", "return { api = 1, wraps = { backends = function(_, original, ...)\n"
                        "  local out = original(...)\n"
                        "  if out[1] then out[1].weight = out[1].weight + 1 end\n"
                        "  return out\n"
                        "end } }\n"},
};
/* The last one is found out, but who is blamed depends on who else ran: what such rules make of the
 * mesh is not compared, what is left of it when they have gone is. */
enum { ADDED = sizeof added / sizeof *added, WRITES = ADDED - 1 };

static const char *const shipped[] = {
    "envoy/authorization.lua", "envoy/clusters.lua",      "envoy/common.lua",
    "envoy/health.lua",        "envoy/listeners.lua",     "envoy/outside.lua",
    "envoy/rbac.lua",          "envoy/routes.lua",        "envoy/secrets.lua",
    "kubernetes/accounts.lua", "kubernetes/services.lua", "osm/host.lua",
    "osm/mesh_config.lua",     "smi/access.lua",          "smi/explain.lua",
    "smi/older.lua",           "smi/routes.lua",          "smi/split.lua",
    "traffic/inbound.lua",     "traffic/outbound.lua",    "osm/duration.lua",
    "kubernetes/object.lua",   "crds/trafficsplit.yaml",  "crds/traffictarget.yaml",
};

/* --- a directory of them, over the shipped ones --- */

struct overlay {
    char dir[PATH_BYTES];
    bool has[ADDED];
    const char *edited[EDITED_MAX]; /* paths of shipped modules; NULL none */
    char last[PATH_BYTES];          /* what was done last, for the report */
};

static void path_of(const struct overlay *o, const char *name, char out[2 * PATH_BYTES])
{
    (void)snprintf(out, (size_t)2 * PATH_BYTES, "%s/%s", o->dir, name);
}

static void write_file(const struct overlay *o, const char *name, const char *text, size_t len)
{
    char path[2 * PATH_BYTES];
    path_of(o, name, path);
    *strrchr(path, '/') = '\0';
    (void)mkdir(path, 0700);
    path_of(o, name, path);
    FILE *file = fopen(path, "w");
    OSM_REQUIRE(file && fwrite(text, 1, len, file) == len && !fclose(file));
}

static void remove_file(const struct overlay *o, const char *name)
{
    char path[2 * PATH_BYTES];
    path_of(o, name, path);
    OSM_REQUIRE(!unlink(path));
    *strrchr(path, '/') = '\0';
    (void)rmdir(path);
}

static void read_file(const char *dir, const char *name, struct osm_buf *out)
{
    char path[2 * PATH_BYTES], part[4096];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "r");
    OSM_REQUIRE(file);
    osm_buf_reset(out);
    for (size_t n; (n = fread(part, 1, sizeof part, file)) > 0;)
        OSM_REQUIRE(!osm_buf_add(out, part, n));
    OSM_REQUIRE(!fclose(file) && !osm_buf_add(out, "", 1));
}

static size_t count(const char *text, const char *word)
{
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, word)); p += strlen(word))
        n++;
    return n;
}

/* Replaces one of the places where the word stands. */
static void replace(struct random *r, const char *text, const char *from, const char *to,
                    struct osm_buf *out)
{
    size_t n = count(text, from);
    const char *at = text;
    osm_buf_reset(out);
    for (size_t left = n ? pick(r, (unsigned)n) + 1 : 0; left; left--)
        at = strstr(at == text ? at : at + 1, from);
    (void)osm_buf_addf(out, "%.*s%s%s", (int)(at - text), text, n ? to : "",
                       n ? at + strlen(from) : at);
    OSM_REQUIRE(!out->failed);
}

/* One small change somewhere in the text. */
static void edit(struct random *r, const char *text, struct osm_buf *out)
{
    static const char *const words[][2] = {{"\n", "\n\n"},       {"\n", "\n-- a remark\n"},
                                           {" == ", " ~= "},     {" and ", " or "},
                                           {"true", "false"},    {" not ", " "},
                                           {" ~= ", " == "},     {"false", "true"},
                                           {"\"1s\"", "\"2s\""}, {"1", "2"},
                                           {"[1]", "[2]"},       {" or ", " and "},
                                           {"\"", "\"x"},        {", ", " , "},
                                           {"nil", "{}"},        {"return ", "return nil, "},
                                           {"integer", "string"}};
    const char *const *word = words[pick(r, sizeof words / sizeof *words)];
    replace(r, text, word[0], word[1], out);
}

static void add_or_remove(struct overlay *o, struct random *r)
{
    unsigned at = pick(r, ADDED);
    o->has[at] = !o->has[at];
    if (o->has[at])
        write_file(o, added[at].path, added[at].text, strlen(added[at].text));
    else
        remove_file(o, added[at].path);
    (void)snprintf(o->last, sizeof o->last, "%s %s", added[at].path, o->has[at] ? "comes" : "goes");
}

static void edit_shipped(struct overlay *o, struct random *r)
{
    struct osm_buf text = OSM_BUF_INIT(TEXT_MAX), changed = OSM_BUF_INIT(TEXT_MAX);
    unsigned at = pick(r, EDITED_MAX);
    if (o->edited[at]) { /* as it was */
        remove_file(o, o->edited[at]);
        (void)snprintf(o->last, sizeof o->last, "%s is the shipped one", o->edited[at]);
        o->edited[at] = NULL;
        return;
    }
    const char *name = PICK(r, shipped);
    for (size_t i = 0; i < EDITED_MAX; i++)
        if (o->edited[i] && !strcmp(o->edited[i], name))
            return;
    read_file("policies", name, &text);
    edit(r, text.data, &changed);
    write_file(o, name, changed.data, changed.len);
    o->edited[at] = name;
    (void)snprintf(o->last, sizeof o->last, "%s is edited", name);
    osm_buf_clear(&text);
    osm_buf_clear(&changed);
}

static void overlay_clear(struct overlay *o)
{
    for (size_t i = 0; i < ADDED; i++)
        if (o->has[i])
            remove_file(o, added[i].path);
    for (size_t i = 0; i < EDITED_MAX; i++)
        if (o->edited[i])
            remove_file(o, o->edited[i]);
    (void)rmdir(o->dir);
}

/* --- engines --- */

static struct osm_policy_files *files_of(const struct overlay *o)
{
    const char *const dirs[] = {"policies", "tests/property/chaos_a", o->dir, NULL};
    struct osm_policy_files *files = NULL;
    struct osm_err err = {0};
    int rc = osm_policy_files_read(&files, dirs, &err);
    if (rc)
        (void)fprintf(stderr, "%s\n", err.msg);
    OSM_REQUIRE(!rc);
    return files;
}

static int engine_of(struct osm_engine **out, struct osm_policy_files *files, struct osm_err *err)
{
    const struct osm_engine_config config = {.files = files,
                                             .mesh_name = "osm",
                                             .osm_namespace = "osm-system",
                                             .trust_domain = "cluster.local",
                                             .roots_pem = "roots",
                                             .thorough = true};
    return osm_engine_new(out, &config, err);
}

struct life {
    struct osm_store *store;
    struct osm_engine *engine;
    struct osm_store_reader *reader;
    struct osm_policy_files *files; /* that it runs */
    struct osm_snapshot *snapshot;
    struct overlay overlay;
    unsigned rebound, refused, broken, runs, errors;
};

/* The same text from both, or none. */
static bool same_failure(int rc, const struct osm_err *err, int fresh_rc,
                         const struct osm_err *fresh, struct osm_buf *why)
{
    if (!rc == !fresh_rc && (!rc || !strcmp(err->msg, fresh->msg)))
        return true;
    (void)osm_buf_addf(why, "the bundle, beside another: %s\nalone: %s\n", rc ? err->msg : "loads",
                       fresh_rc ? fresh->msg : "loads");
    return false;
}

/* What does not load changes nothing. What an engine cannot be given is for another one. */
static bool give(struct life *l, struct osm_buf *why)
{
    struct osm_policy_files *files = files_of(&l->overlay);
    struct osm_engine *fresh = NULL;
    struct osm_err err = {0}, fresh_err = {0};
    bool done = false;
    int fresh_rc = engine_of(&fresh, files, &fresh_err);
    int rc = osm_engine_rebind(l->engine, files, false, &done, &err);
    bool same = same_failure(rc, &err, fresh_rc, &fresh_err, why);
    l->broken += rc != 0;
    l->rebound += done;
    l->refused += !rc && !done;
    if (!rc && !done) {
        osm_engine_free(l->engine);
        l->engine = fresh;
        fresh = NULL;
        OSM_REQUIRE(!osm_store_reader_restart(l->reader));
    }
    osm_engine_free(fresh);
    if (rc) {
        osm_policy_files_unref(files);
    } else {
        osm_policy_files_unref(l->files);
        l->files = files;
    }
    return same;
}

static bool run(struct life *l, struct osm_buf *why)
{
    struct osm_err err = {0};
    struct osm_snapshot *made = NULL;
    struct osm_changes none = {NULL, 0}, *changes = osm_store_reader_take(l->reader);
    osm_engine_begin_anew(l->engine); /* nothing is kept of what fails */
    int rc = osm_engine_run(l->engine, changes ? changes : &none, &made, &err);
    osm_changes_free(changes);
    if (rc)
        (void)osm_buf_addf(why, "the run failed: %s\n", err.msg);
    if (made) {
        osm_snapshot_unref(l->snapshot);
        l->snapshot = made;
    }
    l->runs++;
    l->errors += l->snapshot && json_array_size(l->snapshot->errors) > 0;
    return !rc;
}

static bool equals_fresh(const struct life *l, struct osm_buf *why)
{
    struct osm_engine *fresh = NULL;
    struct osm_snapshot *snapshot = NULL;
    struct osm_err err = {0};
    struct osm_changes *all = osm_store_all(l->store);
    OSM_REQUIRE(all && !engine_of(&fresh, l->files, &err));
    int rc = osm_engine_run(fresh, all, &snapshot, &err);
    bool equal = !rc && snapshots_equal(l->snapshot, snapshot, NULL, why);
    if (rc)
        (void)osm_buf_addf(why, "the fresh run failed: %s\n", err.msg);
    if (equal && l->snapshot->host != snapshot->host &&
        !json_equal(l->snapshot->host, snapshot->host)) {
        char *given = json_dumps(l->snapshot->host, JSON_COMPACT),
             *alone = json_dumps(snapshot->host, JSON_COMPACT);
        (void)osm_buf_addf(why, "settings of the host, given other rules: %s\nfrom scratch: %s\n",
                           given ? given : "none", alone ? alone : "none");
        osm_free(given);
        osm_free(alone);
        equal = false;
    }
    if (equal && !engine_has_cut_chain(fresh) && engine_cells(l->engine) != engine_cells(fresh)) {
        (void)osm_buf_addf(why, "the memo holds %zu cells, from scratch %zu\n",
                           engine_cells(l->engine), engine_cells(fresh));
        equal = false;
    }
    osm_changes_free(all);
    osm_snapshot_unref(snapshot);
    osm_engine_free(fresh);
    return equal;
}

static void life_begin(struct life *l)
{
    struct osm_err err = {0};
    *l = (struct life){.store = osm_store_new()};
    (void)snprintf(l->overlay.dir, sizeof l->overlay.dir, "/tmp/osm-rules-XXXXXX");
    OSM_REQUIRE(l->store && mkdtemp(l->overlay.dir));
    l->reader = osm_store_reader_new(l->store);
    l->files = files_of(&l->overlay);
    OSM_REQUIRE(l->reader && !engine_of(&l->engine, l->files, &err));
}

static void life_end(struct life *l)
{
    overlay_clear(&l->overlay);
    osm_snapshot_unref(l->snapshot);
    osm_engine_free(l->engine);
    osm_policy_files_unref(l->files);
    osm_store_reader_free(l->reader);
    osm_store_free(l->store);
}

/* --- walks --- */

static void apply(struct life *l, const struct op *op)
{
    struct osm_object *object = op->type == OP_PUT ? object_of(op->body) : NULL;
    if (object)
        OSM_REQUIRE(!osm_store_put(l->store, object));
    if (op->type == OP_DELETE)
        (void)osm_store_delete(l->store, op->key);
}

static bool step(struct life *l, struct random *r, struct history *h, struct ops *ops, size_t *told,
                 struct osm_buf *why)
{
    bool fine = true;
    if (pick(r, 4)) {
        if (pick(r, 3))
            add_or_remove(&l->overlay, r);
        else
            edit_shipped(&l->overlay, r);
        fine = give(l, why);
    } else {
        history_step(h, ops);
        for (; *told < ops->len; ++*told)
            apply(l, &ops->list[*told]);
    }
    return fine && run(l, why) && (l->overlay.has[WRITES] || equals_fresh(l, why));
}

static bool walk(uint64_t seed, unsigned runs, struct life *l, struct osm_buf *report)
{
    struct random r = random_of(seed);
    struct history h = history_new(seed);
    struct ops ops = {0};
    struct osm_buf why = OSM_BUF_INIT(TEXT_MAX);
    size_t told = 0;
    bool fine = true;
    objects_anchor(&ops);
    for (unsigned n = 0; n < 60; n++) /* there is something to have rules about */
        history_step(&h, &ops);
    for (; told < ops.len; told++)
        apply(l, &ops.list[told]);
    fine = run(l, &why);
    for (unsigned n = 0; fine && n < runs; n++) {
        fine = step(l, &r, &h, &ops, &told, &why);
        if (!fine)
            (void)osm_buf_addf(report,
                               "-- after the change of rules \"%s\" an engine and a fresh one "
                               "differ, in step %u. Again: OSM_PROPERTY_SEED=%" PRIu64
                               " OSM_PROPERTY_CHANGES=%u %s changed_rules_equal_scratch\n%s",
                               l->overlay.last, n, seed, WALK, property_program,
                               why.data ? why.data : "");
    }
    history_clear(&h);
    ops_clear(&ops);
    osm_buf_clear(&why);
    return fine;
}

bool changed_rules_equal_scratch(const struct task *task)
{
    unsigned rebound = 0, refused = 0, broken = 0, runs = 0, errors = 0;
    bool fine = true;
    for (unsigned i = 0; fine && i * WALK < task->changes; i++) {
        struct life l;
        if (i % task->workers != task->worker)
            continue;
        life_begin(&l);
        fine = walk(task->seed + i, WALK, &l, task->report);
        rebound += l.rebound;
        refused += l.refused;
        broken += l.broken;
        runs += l.runs;
        errors += l.errors;
        life_end(&l);
    }
    if (fine && task->seed == SEED_DEFAULT && runs >= 4 * WALK &&
        (rebound * 5 < runs || refused * 100 < runs || broken * 100 < runs || errors * 8 < runs)) {
        (void)osm_buf_addf(task->report,
                           "-- the walk went nowhere: of %u runs %u were of an engine that was "
                           "given other rules, %u of one that could not be, %u with rules that do "
                           "not load, %u with errors\n",
                           runs, rebound, refused, broken, errors);
        fine = false;
    }
    return fine;
}
