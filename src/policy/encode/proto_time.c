/* Durations and timestamps as text, by the rules of the API's JSON form: "1.5s",
 * "2024-02-29T12:00:00.5Z". */
#include "policy/encode/proto_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DURATION_MAX  315576000000LL
#define TIMESTAMP_MIN (-62135596800LL)
#define TIMESTAMP_MAX 253402300799LL

/* Reads up to @p max digits; false where there is none. */
static bool digits(const char **at, const char *end, size_t max, int64_t *out, size_t *count)
{
    int64_t value = 0;
    size_t n = 0;
    while (*at < end && **at >= '0' && **at <= '9' && n < max) {
        value = value * 10 + (**at - '0');
        (*at)++;
        n++;
    }
    *out = value;
    *count = n;
    return n > 0 && (*at == end || **at < '0' || **at > '9');
}

/* ".5" -> 500000000; nothing there is 0. */
static bool fraction(const char **at, const char *end, int32_t *nanos)
{
    int64_t value;
    size_t n;
    *nanos = 0;
    if (*at == end || **at != '.')
        return true;
    (*at)++;
    if (!digits(at, end, 9, &value, &n))
        return false;
    for (; n < 9; n++)
        value *= 10;
    *nanos = (int32_t)value;
    return true;
}

bool osm__proto_parse_duration(const char *text, size_t len, struct osm__proto_time *out)
{
    const char *at = text, *end = text + len;
    bool negative = at < end && *at == '-';
    at += negative;
    struct osm__proto_time t;
    size_t n;
    if (!digits(&at, end, 12, &t.seconds, &n) || !fraction(&at, end, &t.nanos))
        return false;
    if (end - at != 1 || *at != 's' || t.seconds > DURATION_MAX ||
        (t.seconds == DURATION_MAX && t.nanos))
        return false;
    if (negative) {
        t.seconds = -t.seconds;
        t.nanos = -t.nanos;
    }
    *out = t;
    return true;
}

/* Days since 1970-01-01 of a date in the proleptic Gregorian calendar; years count from March. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400, of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static void date_of(int64_t days, int64_t *year, int64_t *month, int64_t *day)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097, of_era = days - era * 146097;
    int64_t y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * y + y / 4 - y / 100), m = (5 * of_year + 2) / 153;
    *day = of_year - (153 * m + 2) / 5 + 1;
    *month = m < 10 ? m + 3 : m - 9;
    *year = y + era * 400 + (*month <= 2);
}

static bool fixed_digits(const char **at, const char *end, size_t count, char after, int64_t *out)
{
    int64_t value = 0;
    if ((size_t)(end - *at) < count)
        return false;
    for (size_t i = 0; i < count; i++, (*at)++) {
        if (**at < '0' || **at > '9')
            return false;
        value = value * 10 + (**at - '0');
    }
    *out = value;
    if (!after)
        return true;
    if (*at == end || **at != after)
        return false;
    (*at)++;
    return true;
}

bool osm__proto_parse_timestamp(const char *text, size_t len, struct osm__proto_time *out)
{
    const char *at = text, *end = text + len;
    int64_t year, month, day, hour, minute, second, back_month, back_day, back_year, east = 0;
    struct osm__proto_time t;
    if (!fixed_digits(&at, end, 4, '-', &year) || !fixed_digits(&at, end, 2, '-', &month) ||
        !fixed_digits(&at, end, 2, 'T', &day) || !fixed_digits(&at, end, 2, ':', &hour) ||
        !fixed_digits(&at, end, 2, ':', &minute) || !fixed_digits(&at, end, 2, 0, &second) ||
        !fraction(&at, end, &t.nanos) || at == end)
        return false;
    if (*at == '+' || *at == '-') {
        int64_t sign = *at++ == '+' ? 1 : -1, hours, minutes;
        if (!fixed_digits(&at, end, 2, ':', &hours) || !fixed_digits(&at, end, 2, 0, &minutes) ||
            hours > 23 || minutes > 59)
            return false;
        east = sign * (hours * 3600 + minutes * 60);
    } else if (*at++ != 'Z') {
        return false;
    }
    if (at != end || month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 || second > 59)
        return false;
    int64_t days = days_of(year, month, day);
    date_of(days, &back_year, &back_month, &back_day);
    if (back_month != month || back_day != day) /* 30 February */
        return false;
    t.seconds = days * 86400 + hour * 3600 + minute * 60 + second - east;
    if (t.seconds < TIMESTAMP_MIN || t.seconds > TIMESTAMP_MAX)
        return false;
    *out = t;
    return true;
}

/* 0, 3, 6 or 9 digits, with the point. */
static const char *print_fraction(int32_t nanos, char out[16])
{
    if (!nanos)
        return "";
    if (nanos % 1000000 == 0)
        (void)snprintf(out, 16, ".%03" PRId32, nanos / 1000000);
    else if (nanos % 1000 == 0)
        (void)snprintf(out, 16, ".%06" PRId32, nanos / 1000);
    else
        (void)snprintf(out, 16, ".%09" PRId32, nanos);
    return out;
}

bool osm__proto_print_duration(struct osm__proto_time t, char out[OSM__PROTO_TIME_SIZE])
{
    char point[16];
    if (t.seconds > DURATION_MAX || t.seconds < -DURATION_MAX || t.nanos > 999999999 ||
        t.nanos < -999999999 || (t.seconds > 0 && t.nanos < 0) || (t.seconds < 0 && t.nanos > 0) ||
        ((t.seconds == DURATION_MAX || t.seconds == -DURATION_MAX) && t.nanos))
        return false;
    bool negative = t.seconds < 0 || t.nanos < 0;
    (void)snprintf(out, OSM__PROTO_TIME_SIZE, "%s%" PRId64 "%ss", negative ? "-" : "",
                   t.seconds < 0 ? -t.seconds : t.seconds,
                   print_fraction(t.nanos < 0 ? -t.nanos : t.nanos, point));
    return true;
}

bool osm__proto_print_timestamp(struct osm__proto_time t, char out[OSM__PROTO_TIME_SIZE])
{
    char point[16];
    if (t.seconds < TIMESTAMP_MIN || t.seconds > TIMESTAMP_MAX || t.nanos < 0 ||
        t.nanos > 999999999)
        return false;
    int64_t days = t.seconds / 86400, rest = t.seconds % 86400, year, month, day;
    if (rest < 0) {
        rest += 86400;
        days--;
    }
    date_of(days, &year, &month, &day);
    (void)snprintf(
        out, OSM__PROTO_TIME_SIZE,
        "%04" PRId64 "-%02" PRId64 "-%02" PRId64 "T%02" PRId64 ":%02" PRId64 ":%02" PRId64 "%sZ",
        year, month, day, rest / 3600, rest / 60 % 60, rest % 60, print_fraction(t.nanos, point));
    return true;
}
