/* The types of plain scalars, as kubectl's reader (YAML 1.1) sees them: words, then numbers with
 * optional underscores in decimal, 0x, 0o, 0b and leading-zero octal; everything else, dates and
 * times of day included, is a string. */
#include "base/yaml_priv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool is_one_of(const char *text, const char *const *words)
{
    for (; *words; words++)
        if (!strcmp(text, *words))
            return true;
    return false;
}

static int digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return 99;
}

/* Digits of one base, at least one. Returns false where it is no such number; *fits says whether 64
 * bits hold it. */
static bool read_digits(const char *s, int base, bool negative, long long *out, bool *fits)
{
    unsigned long long n = 0;
    *fits = true;
    if (!*s)
        return false;
    for (; *s; s++) {
        int d = digit_value(*s);
        if (d >= base)
            return false;
        if (__builtin_mul_overflow(n, (unsigned long long)base, &n) ||
            __builtin_add_overflow(n, (unsigned long long)d, &n))
            *fits = false;
    }
    unsigned long long top = (unsigned long long)__LONG_LONG_MAX__ + (negative ? 1 : 0);
    if (n > top)
        *fits = false;
    if (*fits)
        *out = negative ? (long long)(0 - n) : (long long)n;
    return true;
}

/* [sign] (digits [. digits] | . digits) [e [sign] digits] */
static bool looks_real(const char *s)
{
    size_t whole, part = 0;
    s += *s == '+' || *s == '-';
    whole = strspn(s, "0123456789");
    s += whole;
    if (*s == '.') {
        s++;
        part = strspn(s, "0123456789");
        s += part;
    }
    if (!whole && !part)
        return false;
    if (*s == 'e' || *s == 'E') {
        s++;
        s += *s == '+' || *s == '-';
        size_t power = strspn(s, "0123456789");
        if (!power)
            return false;
        s += power;
    }
    return !*s;
}

static struct osm__yaml_scalar resolve_number(const char *s)
{
    struct osm__yaml_scalar out = {.type = OSM__YAML_STRING};
    bool negative = *s == '-', fits = true, found = false;
    const char *digits = s + (*s == '+' || *s == '-');
    if (digits[0] == '0' && digits[1]) {
        char form = digits[1];
        if (form == 'x' || form == 'X')
            found = read_digits(digits + 2, 16, negative, &out.value.i, &fits);
        else if (form == 'o' || form == 'O')
            found = read_digits(digits + 2, 8, negative, &out.value.i, &fits);
        else if (form == 'b' || form == 'B')
            found = read_digits(digits + 2, 2, negative, &out.value.i, &fits);
        else
            found = read_digits(digits + 1, 8, negative, &out.value.i, &fits);
    }
    if (!found) /* 08 is no octal number, so it is a decimal one */
        found = read_digits(digits, 10, negative, &out.value.i, &fits);
    if (found) {
        out.type = fits ? OSM__YAML_INT : OSM__YAML_INT_RANGE;
    } else if (looks_real(s)) {
        out.value.r = strtod(s, NULL);
        out.type = isfinite(out.value.r) ? OSM__YAML_REAL : OSM__YAML_NOT_FINITE;
    }
    return out;
}

struct osm__yaml_scalar osm__yaml_resolve(const char *text, size_t len)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const yes[] = {"true", "True", "TRUE", "yes", "Yes",
                                      "YES",  "on",   "On",   "ON",  NULL};
    static const char *const no[] = {"false", "False", "FALSE", "no",  "No",
                                     "NO",    "off",   "Off",   "OFF", NULL};
    static const char *const infinite[] = {".inf",  ".Inf",  ".INF",  "+.inf", "+.Inf",
                                           "+.INF", "-.inf", "-.Inf", "-.INF", ".nan",
                                           ".NaN",  ".NAN",  NULL};
    enum { NUMBER_MAX = 512 };
    struct osm__yaml_scalar out = {.type = OSM__YAML_STRING};
    if (strlen(text) != len)
        return out;
    if (is_one_of(text, nulls)) {
        out.type = OSM__YAML_NULL;
    } else if (is_one_of(text, yes) || is_one_of(text, no)) {
        out.type = OSM__YAML_BOOL;
        out.value.b = is_one_of(text, yes);
    } else if (is_one_of(text, infinite)) {
        out.type = OSM__YAML_NOT_FINITE;
    } else if (!strcmp(text, "<<")) {
        out.type = OSM__YAML_MERGE;
    } else if (strchr("+-.0123456789", *text) && len < NUMBER_MAX) {
        char number[NUMBER_MAX];
        size_t n = 0;
        for (size_t i = 0; i < len; i++)
            if (text[i] != '_')
                number[n++] = text[i];
        number[n] = '\0';
        out = resolve_number(number);
    }
    return out;
}
