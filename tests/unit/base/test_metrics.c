/* The text that Prometheus reads. */
#include "base/metrics.h"

#include "base/check_left.h"

#include <math.h>
#include <pthread.h>

static void expect_text(const char *expected)
{
    struct osm_buf out = OSM_BUF_INIT(1 << 20);
    osm_metrics_write(&out);
    assert_int_equal(out.failed, 0);
    assert_string_equal(out.data ? out.data : "", expected);
    osm_buf_clear(&out);
}

static void test_nothing_that_was_not_counted_is_written(void **state)
{
    (void)state;
    expect_text("");
}

static void test_counters_with_and_without_labels(void **state)
{
    (void)state;
    osm_metric_add(OSM_METRIC_BROADCASTS, NULL, 1);
    osm_metric_add(OSM_METRIC_BROADCASTS, NULL, 41);
    osm_metric_add(OSM_METRIC_OBJECT_EVENTS, OSM_LABELS("pod-added", "red"), 2);
    osm_metric_add(OSM_METRIC_OBJECT_EVENTS, OSM_LABELS("pod-added", "blue"), 1);
    osm_metric_add(OSM_METRIC_OBJECT_EVENTS, OSM_LABELS("pod-added", "red"), 1);
    expect_text("# HELP osm_k8s_api_event_count Objects that the source has added, updated or "
                "deleted.\n"
                "# TYPE osm_k8s_api_event_count counter\n"
                "osm_k8s_api_event_count{type=\"pod-added\",namespace=\"red\"} 3\n"
                "osm_k8s_api_event_count{type=\"pod-added\",namespace=\"blue\"} 1\n"
                "# HELP osm_proxy_broadcast_event_count Snapshots published to all proxies.\n"
                "# TYPE osm_proxy_broadcast_event_count counter\n"
                "osm_proxy_broadcast_event_count 42\n");
    assert_int_equal(osm_metric_get(OSM_METRIC_BROADCASTS, NULL), 42);
    assert_int_equal(osm_metric_get(OSM_METRIC_OBJECT_EVENTS, OSM_LABELS("no", "no")), 0);
}

static void test_histograms_count_what_is_below(void **state)
{
    (void)state;
    osm_metric_observe(OSM_METRIC_CERT_TIME, NULL, 0);
    osm_metric_observe(OSM_METRIC_CERT_TIME, NULL, 0.5); /* a bound belongs to its bucket */
    osm_metric_observe(OSM_METRIC_CERT_TIME, NULL, 1000);
    expect_text("# HELP osm_cert_issued_time Seconds to make a service certificate, its key "
                "included.\n"
                "# TYPE osm_cert_issued_time histogram\n"
                "osm_cert_issued_time_bucket{le=\"0.001\"} 1\n"
                "osm_cert_issued_time_bucket{le=\"0.01\"} 1\n"
                "osm_cert_issued_time_bucket{le=\"0.1\"} 1\n"
                "osm_cert_issued_time_bucket{le=\"0.25\"} 1\n"
                "osm_cert_issued_time_bucket{le=\"0.5\"} 2\n"
                "osm_cert_issued_time_bucket{le=\"1\"} 2\n"
                "osm_cert_issued_time_bucket{le=\"2.5\"} 2\n"
                "osm_cert_issued_time_bucket{le=\"5\"} 2\n"
                "osm_cert_issued_time_bucket{le=\"10\"} 2\n"
                "osm_cert_issued_time_bucket{le=\"20\"} 2\n"
                "osm_cert_issued_time_bucket{le=\"40\"} 2\n"
                "osm_cert_issued_time_bucket{le=\"90\"} 2\n"
                "osm_cert_issued_time_bucket{le=\"+Inf\"} 3\n"
                "osm_cert_issued_time_sum 1000.5\n"
                "osm_cert_issued_time_count 3\n");
}

static void test_label_values_are_escaped(void **state)
{
    (void)state;
    struct osm_buf out = OSM_BUF_INIT(1 << 16);
    osm_metric_add(OSM_METRIC_ERRORS, OSM_LABELS("a\"b\\c\nd"), 1);
    osm_metrics_write(&out);
    assert_non_null(strstr(out.data, "{err_code=\"a\\\"b\\\\c\\nd\"} 1\n"));
    osm_buf_clear(&out);
}

/* Two lists of labels whose texts are equal when put together are two series all the same. */
static void test_labels_do_not_run_together(void **state)
{
    (void)state;
    osm_metric_add(OSM_METRIC_OBJECT_EVENTS, OSM_LABELS("ab", "c"), 1);
    osm_metric_add(OSM_METRIC_OBJECT_EVENTS, OSM_LABELS("a", "bc"), 5);
    assert_int_equal(osm_metric_get(OSM_METRIC_OBJECT_EVENTS, OSM_LABELS("ab", "c")), 1);
}

static void test_collected_samples(void **state)
{
    (void)state;
    struct osm_buf out = OSM_BUF_INIT(1 << 16);
    osm_metrics_begin(&out, OSM_METRIC_FEATURE_FLAGS);
    osm_metrics_sample(&out, OSM_METRIC_FEATURE_FLAGS, OSM_LABELS("enableRetryPolicy"), 0);
    osm_metrics_begin(&out, OSM_METRIC_RESIDENT);
    osm_metrics_sample(&out, OSM_METRIC_RESIDENT, NULL, 123456789012.0);
    osm_metrics_begin(&out, OSM_METRIC_CPU);
    osm_metrics_sample(&out, OSM_METRIC_CPU, NULL, 0.1);
    osm_metrics_sample(&out, OSM_METRIC_CPU, NULL, INFINITY);
    osm_metrics_sample(&out, OSM_METRIC_CPU, NULL, NAN);
    assert_string_equal(out.data,
                        "# HELP osm_feature_flag_enabled Whether a feature flag of the MeshConfig "
                        "is on.\n# TYPE osm_feature_flag_enabled gauge\n"
                        "osm_feature_flag_enabled{feature_flag=\"enableRetryPolicy\"} 0\n"
                        "# HELP process_resident_memory_bytes Resident memory.\n"
                        "# TYPE process_resident_memory_bytes gauge\n"
                        "process_resident_memory_bytes 123456789012\n"
                        "# HELP process_cpu_seconds_total User and system time.\n"
                        "# TYPE process_cpu_seconds_total counter\n"
                        "process_cpu_seconds_total 0.1\n"
                        "process_cpu_seconds_total +Inf\n"
                        "process_cpu_seconds_total NaN\n");
    osm_buf_clear(&out);
}

static void test_series_have_a_limit(void **state)
{
    (void)state;
    char text[24];
    for (int i = 0; i < OSM_METRIC_SERIES_MAX + 7; i++) {
        (void)snprintf(text, sizeof text, "E%d", i);
        osm_metric_add(OSM_METRIC_ERRORS, OSM_LABELS(text), 1);
    }
    assert_int_equal(osm_metric_get(OSM_METRIC_SERIES_LOST, NULL), 7);
    osm_metric_add(OSM_METRIC_ERRORS, OSM_LABELS("E0"), 1); /* those that are there go on */
    assert_int_equal(osm_metric_get(OSM_METRIC_ERRORS, OSM_LABELS("E0")), 2);
}

static void test_no_memory_loses_counts_and_nothing_else(void **state)
{
    (void)state;
    osm_metric_add(OSM_METRIC_SERIES_LOST, NULL, 1);
    for (long n = 0; n < 4; n++) {
        char text[8];
        (void)snprintf(text, sizeof text, "E%ld", n);
        osm_mem_fail_at(n);
        osm_metric_add(OSM_METRIC_ERRORS, OSM_LABELS(text), 1);
        osm_mem_fail_at(-1);
    }
    uint64_t counted = 0;
    for (long n = 0; n < 4; n++) {
        char text[8];
        (void)snprintf(text, sizeof text, "E%ld", n);
        counted += osm_metric_get(OSM_METRIC_ERRORS, OSM_LABELS(text));
    }
    assert_int_equal(counted + osm_metric_get(OSM_METRIC_SERIES_LOST, NULL), 5);
}

static void *add_many(void *ud)
{
    (void)ud;
    for (int i = 0; i < 10000; i++)
        osm_metric_add(OSM_METRIC_NACKS, OSM_LABELS("CDS"), 1);
    return NULL;
}

static void test_threads_lose_nothing(void **state)
{
    (void)state;
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, NULL), 0);
    for (int i = 0; i < 4; i++)
        (void)pthread_join(threads[i], NULL);
    assert_int_equal(osm_metric_get(OSM_METRIC_NACKS, OSM_LABELS("CDS")), 40000);
}

static int forget(void **state)
{
    osm_metrics_clear();
    return nothing_is_left(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, NULL, forget)
        TEST(test_nothing_that_was_not_counted_is_written),
        TEST(test_counters_with_and_without_labels),
        TEST(test_histograms_count_what_is_below),
        TEST(test_label_values_are_escaped),
        TEST(test_labels_do_not_run_together),
        TEST(test_collected_samples),
        TEST(test_series_have_a_limit),
        TEST(test_no_memory_loses_counts_and_nothing_else),
        TEST(test_threads_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
