/* Quantities as Kubernetes reads them, and which of a container's resources it would refuse. */
#include "admission_util.h"

#include "inject/resources.h"

static bool reads(json_t *value, double *out)
{
    bool is = osm__quantity_read(value, out);
    json_decref(value);
    return is;
}

static void test_quantities_are_numbers_with_a_suffix_or_an_exponent(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double is;
    } good[] = {{"0", 0},
                {"1", 1},
                {"100m", 0.1},
                {"1.5", 1.5},
                {".5", 0.5},
                {"5.", 5},
                {"+2", 2},
                {"3k", 3000},
                {"64Mi", 0x1p26},
                {"1Ei", 0x1p60},
                {"1E", 1e18},
                {"1e3", 1000},
                {"1E+3", 1000},
                {"12E-1", 1.2},
                {"7n", 7e-9},
                {"7u", 7e-6},
                {"1.5Gi", 1.5 * 0x1p30}};
    static const char *const bad[] = {"",      "abc", "-1",   "m",   ".",  "1 ",
                                      " 1",    "1mi", "1K",   "1kk", "1e", "1e+",
                                      "1.2.3", "0x1", "1e3m", "++1", "inf"};
    double number = 0;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (!reads(json_string(good[i].text), &number))
            fail_msg("%s", good[i].text);
        assert_true(number > good[i].is * (1 - 1e-12) - 1e-12);
        assert_true(number < good[i].is * (1 + 1e-12) + 1e-12);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (reads(json_string(bad[i]), &number))
            fail_msg("%s", bad[i]);
    assert_true(reads(json_integer(2), &number) && number == 2);
    assert_true(reads(json_real(0.5), &number));
    assert_false(reads(json_integer(-1), &number));
    assert_false(reads(json_true(), &number));
    assert_false(reads(json_stringn("1\0", 2), &number));
    assert_false(osm__quantity_read(NULL, &number));
}

static void says(const char *resources, const char *part)
{
    struct osm_err err = {0};
    json_t *made = yaml(resources);
    int rc = osm__resources_check("r", made, &err);
    if (part ? !rc || !strstr(err.msg, part) : rc)
        fail_msg("%s: expected %s, got %s", resources, part ? part : "no error", err.msg);
    json_decref(made);
}

static void test_resources_are_named_where_they_are_wrong(void **state)
{
    (void)state;
    assert_int_equal(osm__resources_check("r", NULL, NULL), 0);
    assert_int_equal(osm__resources_check("r", json_null(), NULL), 0);
    says("{}", NULL);
    says("{limits: null, requests: {}, claims: []}", NULL);
    says("{limits: {cpu: 1, memory: 64Mi, hugepages-2Mi: 4Mi, example.com/gpu: 1}, requests: {cpu: "
         "1000m, ephemeral-storage: 1G}, claims: [{name: gpu}]}",
         NULL);
    says("[]", "r: expected an object");
    says("{limits: [1]}", "r.limits: expected an object");
    says("{limits: {cpu: abc}}", "r.limits.cpu: 'abc' is no quantity");
    says("{requests: {memory: 64MiB}}", "r.requests.memory: '64MiB' is no quantity");
    says("{requests: {memory: null}}", NULL);
    says("{requests: {memory: []}}", "r.requests.memory");
    says("{limits: {cpus: 1}}", "r.limits.cpus: expected cpu");
    says("{limits: {cpu: 100m}, requests: {cpu: 1}}", "r.requests.cpu: is more than its limit");
    says("{claims: gpu}", "r.claims: expected a list");
    says("{claims: [{name: a}, {}]}", "r.claims[1].name");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantities_are_numbers_with_a_suffix_or_an_exponent),
        cmocka_unit_test(test_resources_are_named_where_they_are_wrong),
    };
    return cmocka_run_group_tests_name("inject/resources", tests, NULL, no_leak);
}
