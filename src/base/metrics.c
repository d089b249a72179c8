#include "base/metrics.h"

#include "base/check.h"
#include "base/map.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

enum type { COUNTER, GAUGE, HISTOGRAM };
enum { BUCKETS_MAX = 12, LABEL_MAX = 256 };

/* Those of Open Service Mesh, and two below them for what takes no time at all. */
static const double BUCKETS[BUCKETS_MAX] = {.001, .01, .1, .25, .5, 1, 2.5, 5, 10, 20, 40, 90};

static const struct {
    enum type type;
    const char *name, *labels, *help;
} metrics[] = {
#define X(id, type, name, labels, help) {type, name, labels, help},
    OSM_METRICS(X)
#undef X
};

struct series {
    char *labels[OSM_METRIC_LABELS_MAX];
    uint64_t count; /* of a counter, or of all observations */
    double sum;
    uint64_t buckets[BUCKETS_MAX]; /* each with those below it */
};

static struct osm_map kept[OSM_METRIC_COUNT]; /* label values -> struct series */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static size_t labels_of(enum osm_metric m)
{
    size_t n = metrics[m].labels[0] != '\0';
    for (const char *p = metrics[m].labels; (p = strchr(p, ',')) != NULL; p++)
        n++;
    return n;
}

/* --- counting --- */

static void series_free(struct series *s)
{
    for (size_t i = 0; i < OSM_METRIC_LABELS_MAX; i++)
        osm_free(s->labels[i]);
    osm_free(s);
}

static struct series *series_new(size_t n, const char *const *labels)
{
    struct series *s = osm_alloc(sizeof *s);
    for (size_t i = 0; s && i < n; i++) {
        s->labels[i] = osm_strndup(labels[i], strnlen(labels[i], LABEL_MAX));
        if (!s->labels[i]) {
            series_free(s);
            return NULL;
        }
    }
    return s;
}

/* Texts one after the other, each with its NUL: no two lists of labels look the same. */
static size_t key_of(char key[OSM_METRIC_LABELS_MAX * (LABEL_MAX + 1)], size_t n,
                     const char *const *labels)
{
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        size_t part = strnlen(labels[i], LABEL_MAX);
        memcpy(key + len, labels[i], part);
        key[len + part] = '\0';
        len += part + 1;
    }
    return len;
}

/* Under the lock; NULL: there is none, or none can be made. */
static struct series *find(enum osm_metric m, const char *const *labels, bool make)
{
    char key[OSM_METRIC_LABELS_MAX * (LABEL_MAX + 1)];
    size_t n = labels ? labels_of(m) : 0, len = key_of(key, n, labels);
    struct series *s = osm_map_getn(&kept[m], key, len);
    if (s || !make || kept[m].count >= OSM_METRIC_SERIES_MAX)
        return s;
    s = series_new(n, labels);
    if (s && osm_map_putn(&kept[m], key, len, s, NULL)) {
        series_free(s);
        return NULL;
    }
    return s;
}

void osm_metric_add(enum osm_metric m, const char *const *labels, uint64_t n)
{
    OSM_DCHECK(metrics[m].type == COUNTER && (labels != NULL) == (labels_of(m) > 0));
    pthread_mutex_lock(&lock);
    struct series *s = find(m, labels, true);
    if (!s)
        s = find(OSM_METRIC_SERIES_LOST, NULL, true);
    if (s)
        s->count += n;
    pthread_mutex_unlock(&lock);
}

void osm_metric_observe(enum osm_metric m, const char *const *labels, double seconds)
{
    OSM_DCHECK(metrics[m].type == HISTOGRAM && (labels != NULL) == (labels_of(m) > 0));
    pthread_mutex_lock(&lock);
    struct series *s = find(m, labels, true);
    if (s) {
        s->sum += seconds;
        for (size_t i = BUCKETS_MAX; i > 0 && seconds <= BUCKETS[i - 1]; i--)
            s->buckets[i - 1]++;
    } else {
        s = find(OSM_METRIC_SERIES_LOST, NULL, true);
    }
    if (s)
        s->count++;
    pthread_mutex_unlock(&lock);
}

uint64_t osm_metric_get(enum osm_metric m, const char *const *labels)
{
    pthread_mutex_lock(&lock);
    const struct series *s = find(m, labels, false);
    uint64_t count = s ? s->count : 0;
    pthread_mutex_unlock(&lock);
    return count;
}

void osm_metrics_clear(void)
{
    pthread_mutex_lock(&lock);
    for (int m = 0; m < OSM_METRIC_COUNT; m++) {
        osm_map_each (&kept[m], e)
            series_free(e->value);
        osm_map_clear(&kept[m]);
    }
    pthread_mutex_unlock(&lock);
}

/* --- writing --- */

/* Backslash and newline are escaped everywhere, quotes in labels only. Invalid UTF-8 is none of a
 * label's: names of objects are checked, texts of peers never become one. */
static void add_escaped(struct osm_buf *out, const char *text, bool quotes)
{
    for (const char *p = text; *p; p++) {
        if (*p == '\\')
            (void)osm_buf_add_str(out, "\\\\");
        else if (*p == '\n')
            (void)osm_buf_add_str(out, "\\n");
        else if (*p == '"' && quotes)
            (void)osm_buf_add_str(out, "\\\"");
        else
            (void)osm_buf_add_char(out, *p);
    }
}

void osm_metrics_begin(struct osm_buf *out, enum osm_metric m)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    (void)osm_buf_add_strs(out, "# HELP ", metrics[m].name, " ", NULL);
    add_escaped(out, metrics[m].help, false);
    (void)osm_buf_add_strs(out, "\n# TYPE ", metrics[m].name, " ", types[metrics[m].type], "\n",
                           NULL);
}

static void add_number(struct osm_buf *out, double value)
{
    if (isnan(value))
        (void)osm_buf_add_str(out, "NaN");
    else if (isinf(value))
        (void)osm_buf_add_str(out, value > 0 ? "+Inf" : "-Inf");
    else
        (void)osm_buf_addf(out, "%.15g", value);
}

/* name_suffix{labels,le="..."} */
static void add_name(struct osm_buf *out, enum osm_metric m, const char *suffix,
                     const char *const *labels, const double *le)
{
    size_t n = labels_of(m);
    const char *name = metrics[m].labels;
    (void)osm_buf_add_strs(out, metrics[m].name, suffix, n || le ? "{" : "", NULL);
    for (size_t i = 0; i < n; i++) {
        size_t len = strcspn(name, ",");
        (void)osm_buf_add_str(out, i ? "," : "");
        (void)osm_buf_add(out, name, len);
        (void)osm_buf_add_str(out, "=\"");
        add_escaped(out, labels[i], true);
        (void)osm_buf_add_char(out, '"');
        name += len + 1;
    }
    if (le) {
        (void)osm_buf_add_str(out, n ? ",le=\"" : "le=\"");
        add_number(out, *le);
        (void)osm_buf_add_char(out, '"');
    }
    (void)osm_buf_add_str(out, n || le ? "} " : " ");
}

void osm_metrics_sample(struct osm_buf *out, enum osm_metric m, const char *const *labels,
                        double value)
{
    add_name(out, m, "", labels, NULL);
    add_number(out, value);
    (void)osm_buf_add_char(out, '\n');
}

static void write_histogram(struct osm_buf *out, enum osm_metric m, const struct series *s)
{
    const char *const *labels = (const char *const *)s->labels;
    const double all = INFINITY;
    for (size_t i = 0; i <= BUCKETS_MAX; i++) {
        add_name(out, m, "_bucket", labels, i < BUCKETS_MAX ? &BUCKETS[i] : &all);
        (void)osm_buf_addf(out, "%llu\n",
                           (unsigned long long)(i < BUCKETS_MAX ? s->buckets[i] : s->count));
    }
    add_name(out, m, "_sum", labels, NULL);
    add_number(out, s->sum);
    (void)osm_buf_add_char(out, '\n');
    add_name(out, m, "_count", labels, NULL);
    (void)osm_buf_addf(out, "%llu\n", (unsigned long long)s->count);
}

void osm_metrics_write(struct osm_buf *out)
{
    pthread_mutex_lock(&lock);
    for (int i = 0; i < OSM_METRIC_COUNT; i++) {
        enum osm_metric m = (enum osm_metric)i;
        if (!kept[m].count)
            continue;
        osm_metrics_begin(out, m);
        osm_map_each (&kept[m], e) {
            const struct series *s = e->value;
            if (metrics[m].type == HISTOGRAM) {
                write_histogram(out, m, s);
                continue;
            }
            add_name(out, m, "", (const char *const *)s->labels, NULL);
            (void)osm_buf_addf(out, "%llu\n", (unsigned long long)s->count);
        }
    }
    pthread_mutex_unlock(&lock);
}
