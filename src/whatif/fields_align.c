/* Lists whose elements have no names: which element has become which. Of all ways the one that
 * leaves the least to tell, by the number of values in what is added, removed or changed. Long
 * lists are cut at elements that are in both of them once, which a diff would leave in place
 * anyhow. */
#include "whatif/fields_priv.h"

#include "base/hash.h"
#include "base/map.h"
#include "base/mem.h"

#include <stdint.h>
#include <string.h>

/* Pairs of elements that are compared with each other to find the best; beyond, by place. */
enum { PAIRS_MAX = 4096 };

#define APART SIZE_MAX /* no pair: better told as one removed and one added */

/* --- how much there is to tell --- */

static size_t weight(const json_t *value)
{
    size_t sum = 1, i;
    const char *key;
    json_t *item;
    json_object_foreach ((json_t *)(uintptr_t)value, key, item)
        sum += weight(item);
    json_array_foreach (value, i, item)
        sum += weight(item);
    return sum;
}

static size_t cost(const json_t *a, const json_t *b);

static size_t cost_of_both(const json_t *a, const json_t *b)
{
    size_t sum = cost(a, b);
    return sum == APART ? weight(a) + weight(b) : sum;
}

static size_t cost_of_objects(const json_t *a, const json_t *b)
{
    size_t sum = 0;
    bool common = false;
    const char *key;
    json_t *value;
    const json_t *type = json_object_get(a, "@type"), *other_type = json_object_get(b, "@type");
    if ((type || other_type) && !json_equal(type, other_type))
        return APART;
    json_object_foreach ((json_t *)(uintptr_t)a, key, value) {
        const json_t *other = json_object_get(b, key);
        common = common || other;
        sum += other ? cost_of_both(value, other) : weight(value);
    }
    json_object_foreach ((json_t *)(uintptr_t)b, key, value)
        sum += json_object_get(a, key) ? 0 : weight(value);
    return common ? sum : APART;
}

static size_t cost_of_arrays(const json_t *a, const json_t *b)
{
    size_t sum = 0, n = json_array_size(a), m = json_array_size(b);
    for (size_t i = 0; i < n || i < m; i++)
        sum += i >= m   ? weight(json_array_get(a, i))
               : i >= n ? weight(json_array_get(b, i))
                        : cost_of_both(json_array_get(a, i), json_array_get(b, i));
    return sum;
}

/* Of turning the one into the other, as far as it can be said without aligning the lists inside. */
static size_t cost(const json_t *a, const json_t *b)
{
    if (json_equal(a, b))
        return 0;
    if (json_is_object(a) && json_is_object(b))
        return cost_of_objects(a, b);
    if (json_is_array(a) && json_is_array(b))
        return cost_of_arrays(a, b);
    bool simple =
        !json_is_object(a) && !json_is_array(a) && !json_is_object(b) && !json_is_array(b);
    return simple ? 2 : APART;
}

/* --- pieces of the two lists --- */

struct piece {
    const json_t *before, *after;
    size_t a, n, b, m; /* n elements of `before` from a on, m of `after` from b on */
};

static const json_t *before_at(const struct piece *p, size_t i)
{
    return json_array_get(p->before, p->a + i);
}

static const json_t *after_at(const struct piece *p, size_t i)
{
    return json_array_get(p->after, p->b + i);
}

static void put(struct osm__alignment *out, size_t before, size_t after)
{
    out->list[out->len++] = (struct osm__pair){before, after};
}

static void by_place(const struct piece *p, struct osm__alignment *out)
{
    for (size_t i = 0; i < p->n || i < p->m; i++)
        if (i >= p->n || i >= p->m || !json_equal(before_at(p, i), after_at(p, i)))
            put(out, i < p->n ? p->a + i : OSM__NONE, i < p->m ? p->b + i : OSM__NONE);
}

struct best {
    size_t *sums, *costs; /* (n + 1) * (m + 1); n * m */
    size_t width;
};

static size_t *sum_at(const struct best *t, size_t i, size_t k)
{
    return &t->sums[i * t->width + k];
}

static void fill(const struct piece *p, const struct best *t)
{
    for (size_t i = 0; i <= p->n; i++)
        for (size_t k = 0; k <= p->m; k++) {
            size_t least = i || k ? SIZE_MAX : 0;
            if (i && k) {
                size_t both = cost(before_at(p, i - 1), after_at(p, k - 1));
                t->costs[(i - 1) * p->m + k - 1] = both;
                if (both != APART)
                    least = *sum_at(t, i - 1, k - 1) + both;
            }
            if (i && *sum_at(t, i - 1, k) + weight(before_at(p, i - 1)) < least)
                least = *sum_at(t, i - 1, k) + weight(before_at(p, i - 1));
            if (k && *sum_at(t, i, k - 1) + weight(after_at(p, k - 1)) < least)
                least = *sum_at(t, i, k - 1) + weight(after_at(p, k - 1));
            *sum_at(t, i, k) = least;
        }
}

/* From the end; the caller turns it round. */
static void walk_back(const struct piece *p, const struct best *t, struct osm__alignment *out)
{
    for (size_t i = p->n, k = p->m; i || k;) {
        size_t both = i && k ? t->costs[(i - 1) * p->m + k - 1] : APART;
        if (both != APART && *sum_at(t, i - 1, k - 1) + both == *sum_at(t, i, k)) {
            i--;
            k--;
            if (both)
                put(out, p->a + i, p->b + k);
        } else if (k && *sum_at(t, i, k - 1) + weight(after_at(p, k - 1)) == *sum_at(t, i, k)) {
            put(out, OSM__NONE, p->b + --k);
        } else {
            put(out, p->a + --i, OSM__NONE);
        }
    }
}

static int by_cost(const struct piece *p, struct osm__alignment *out)
{
    struct best t = {.sums = osm_alloc_array((p->n + 1) * (p->m + 1), sizeof *t.sums),
                     .costs = osm_alloc_array(p->n * p->m + 1, sizeof *t.costs),
                     .width = p->m + 1};
    size_t first = out->len;
    int rc = t.sums && t.costs ? 0 : OSM_ENOMEM;
    if (!rc) {
        fill(p, &t);
        walk_back(p, &t, out);
        for (size_t i = first, k = out->len; i + 1 < k; i++) {
            struct osm__pair swap = out->list[i];
            out->list[i] = out->list[--k];
            out->list[k] = swap;
        }
    }
    osm_free(t.sums);
    osm_free(t.costs);
    return rc;
}

static int align_small(struct piece p, struct osm__alignment *out)
{
    while (p.n && p.m && json_equal(before_at(&p, 0), after_at(&p, 0))) {
        p.a++;
        p.b++;
        p.n--;
        p.m--;
    }
    while (p.n && p.m && json_equal(before_at(&p, p.n - 1), after_at(&p, p.m - 1))) {
        p.n--;
        p.m--;
    }
    if (p.n && p.m > PAIRS_MAX / p.n) {
        by_place(&p, out);
        return 0;
    }
    return by_cost(&p, out);
}

/* --- long lists --- */

static struct osm_hash hash_of(const json_t *value)
{
    struct osm_hash h = {0, (uint64_t)json_typeof(value)};
    const char *key;
    json_t *item;
    size_t i;
    if (json_is_string(value))
        return osm_hash_fold(h,
                             osm_hash_bytes(json_string_value(value), json_string_length(value)));
    if (json_is_integer(value))
        return osm_hash_fold(h, (struct osm_hash){1, (uint64_t)json_integer_value(value)});
    if (json_is_real(value)) {
        double number = json_real_value(value);
        return osm_hash_fold(h, osm_hash_bytes(&number, sizeof number));
    }
    json_object_foreach ((json_t *)(uintptr_t)value, key, item) { /* in any order */
        struct osm_hash one = osm_hash_fold(osm_hash_bytes(key, strlen(key)), hash_of(item));
        h.hi += one.hi;
        h.lo += one.lo;
    }
    json_array_foreach (value, i, item)
        h = osm_hash_fold(h, hash_of(item));
    return h;
}

/* hash -> place + 1 of the only element that has it, or MANY. */
#define MANY ((void *)UINTPTR_MAX)

static int index_of(const json_t *list, struct osm_map *out)
{
    size_t i;
    json_t *item;
    json_array_foreach (list, i, item) {
        struct osm_hash h = hash_of(item);
        void *at = osm_map_getn(out, &h, sizeof h) ? MANY : (void *)(uintptr_t)(i + 1);
        if (osm_map_putn(out, &h, sizeof h, at, NULL))
            return OSM_ENOMEM;
    }
    return 0;
}

int osm__ascending(const size_t *numbers, size_t n, bool *stays)
{
    /* tails[l]: the place of the least number that ends an ascending row of l + 1 */
    size_t *tails = osm_alloc_array(n + 1, sizeof *tails);
    size_t *before = osm_alloc_array(n + 1, sizeof *before), len = 0;
    int rc = tails && before ? 0 : OSM_ENOMEM;
    for (size_t i = 0; !rc && i < n; i++) {
        size_t low = 0, high = len;
        while (low < high) {
            size_t middle = (low + high) / 2;
            if (numbers[tails[middle]] < numbers[i])
                low = middle + 1;
            else
                high = middle;
        }
        before[i] = low ? tails[low - 1] : OSM__NONE;
        tails[low] = i;
        len += low == len;
        stays[i] = false;
    }
    for (size_t at = !rc && len ? tails[len - 1] : OSM__NONE; at != OSM__NONE; at = before[at])
        stays[at] = true;
    osm_free(tails);
    osm_free(before);
    return rc;
}

/* Cuts at the elements that both lists have once each, as far as their order is the same. */
static int align_long(const json_t *before, const json_t *after, struct osm__alignment *out)
{
    struct osm_map old = OSM_MAP_INIT, now = OSM_MAP_INIT;
    size_t m = json_array_size(after), n = 0, a = 0, b = 0;
    size_t *from = osm_alloc_array(m + 1, sizeof *from), *to = osm_alloc_array(m + 1, sizeof *to);
    bool *stays = osm_alloc_array(m + 1, sizeof *stays);
    int rc = from && to && stays ? 0 : OSM_ENOMEM;
    if (!rc)
        rc = index_of(before, &old);
    if (!rc)
        rc = index_of(after, &now);
    for (size_t i = 0; !rc && i < m; i++) {
        struct osm_hash h = hash_of(json_array_get(after, i));
        void *at = osm_map_getn(&old, &h, sizeof h);
        if (!at || at == MANY || osm_map_getn(&now, &h, sizeof h) == MANY)
            continue;
        from[n] = (uintptr_t)at - 1;
        to[n++] = i;
    }
    if (!rc)
        rc = osm__ascending(from, n, stays);
    for (size_t i = 0; !rc && i <= n; i++) {
        if (i < n && !stays[i])
            continue;
        size_t end_a = i < n ? from[i] : json_array_size(before), end_b = i < n ? to[i] : m;
        rc = align_small((struct piece){before, after, a, end_a - a, b, end_b - b}, out);
        a = end_a + 1;
        b = end_b + 1;
    }
    osm_map_clear(&old);
    osm_map_clear(&now);
    osm_free(from);
    osm_free(to);
    osm_free(stays);
    return rc;
}

int osm__align(const json_t *before, const json_t *after, struct osm__alignment *out)
{
    size_t n = json_array_size(before), m = json_array_size(after);
    *out = (struct osm__alignment){osm_alloc_array(n + m + 1, sizeof *out->list), 0};
    int rc = out->list ? 0 : OSM_ENOMEM;
    if (!rc)
        rc = n && m > PAIRS_MAX / n ? align_long(before, after, out)
                                    : align_small((struct piece){before, after, 0, n, 0, m}, out);
    if (rc) {
        osm_free(out->list);
        *out = (struct osm__alignment){NULL, 0};
    }
    return rc;
}
