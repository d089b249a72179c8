/* See re2_shim.h. No exception leaves this file. */
#include "policy/sandbox/re2_shim.h"

#include <new>
#include <re2/re2.h>

struct osm_regex {
    re2::RE2 re;

    explicit osm_regex(const char *pattern) : re(pattern, re2::RE2::Quiet)
    {
    }
};

int osm_regex_new(struct osm_regex **out, const char *pattern, struct osm_err *err)
{
    try {
        osm_regex *regex = new osm_regex(pattern);
        if (!regex->re.ok()) {
            int rc = osm_fail(err, OSM_EINVAL, "not a regular expression: %s",
                              regex->re.error().c_str());
            delete regex;
            return rc;
        }
        *out = regex;
        return 0;
    } catch (...) {
        return osm_fail(err, OSM_ENOMEM, "regular expression: out of memory");
    }
}

void osm_regex_free(struct osm_regex *regex)
{
    delete regex;
}

bool osm_regex_matches(const struct osm_regex *regex, const char *text, size_t len)
{
    try {
        return re2::RE2::PartialMatch(re2::StringPiece(text, len), regex->re);
    } catch (...) {
        return false;
    }
}

int osm_regex_check(const char *pattern, unsigned max_program_size, struct osm_err *err)
{
    struct osm_regex *regex = nullptr;
    int rc = osm_regex_new(&regex, pattern, err);
    if (rc || !regex)
        return rc;
    int size = regex->re.ProgramSize();
    if (max_program_size && size > 0 && static_cast<unsigned>(size) > max_program_size)
        rc = osm_fail(
            err, OSM_ELIMIT,
            "the regular expression needs a program of size %d, and the proxies take %u at most",
            size, max_program_size);
    osm_regex_free(regex);
    return rc;
}
