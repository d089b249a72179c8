/* The redirection script: upstream's rules in upstream's order, nothing that a bad entry could
 * smuggle in, and rules that the real iptables-restore accepts (loaded in a network namespace that
 * ends with its process). */
#include "inject_util.h"

#include "inject/iptables.h"

#define LEN(a) (sizeof(a) / sizeof *(a))

#define HEAD                                                                                       \
    "iptables-restore --noflush <<EOF\n"                                                           \
    "# Redirects the TCP traffic of this pod to its sidecar\n"                                     \
    "*nat\n"                                                                                       \
    ":OSM_PROXY_INBOUND - [0:0]\n"                                                                 \
    ":OSM_PROXY_IN_REDIRECT - [0:0]\n"                                                             \
    ":OSM_PROXY_OUTBOUND - [0:0]\n"                                                                \
    ":OSM_PROXY_OUT_REDIRECT - [0:0]\n"
#define INBOUND                                                                                    \
    "-A OSM_PROXY_IN_REDIRECT -p tcp -j REDIRECT --to-port 15003\n"                                \
    "-A PREROUTING -p tcp -j OSM_PROXY_INBOUND\n"                                                  \
    "-A OSM_PROXY_INBOUND -p tcp --dport 15010 -j RETURN\n"                                        \
    "-A OSM_PROXY_INBOUND -p tcp --dport 15901 -j RETURN\n"                                        \
    "-A OSM_PROXY_INBOUND -p tcp --dport 15902 -j RETURN\n"                                        \
    "-A OSM_PROXY_INBOUND -p tcp --dport 15903 -j RETURN\n"                                        \
    "-A OSM_PROXY_INBOUND -p tcp --dport 15904 -j RETURN\n"                                        \
    "-A OSM_PROXY_INBOUND -p tcp -j OSM_PROXY_IN_REDIRECT\n"
#define OUTBOUND                                                                                   \
    "-A OSM_PROXY_OUT_REDIRECT -p tcp -j REDIRECT --to-port 15001\n"                               \
    "-A OSM_PROXY_OUT_REDIRECT -p tcp --dport 15000 -j ACCEPT\n"                                   \
    "-A OUTPUT -p tcp -j OSM_PROXY_OUTBOUND\n"                                                     \
    "-A OSM_PROXY_OUTBOUND -o lo ! -d 127.0.0.1/32 -m owner --uid-owner 1500 -j "                  \
    "OSM_PROXY_IN_REDIRECT\n"                                                                      \
    "-A OSM_PROXY_OUTBOUND -o lo -m owner ! --uid-owner 1500 -j RETURN\n"                          \
    "-A OSM_PROXY_OUTBOUND -m owner --uid-owner 1500 -j RETURN\n"                                  \
    "-A OSM_PROXY_OUTBOUND -d 127.0.0.1/32 -j RETURN\n"
#define TAIL "COMMIT\nEOF\n"

static const char *const ip_out[] = {"1.1.1.1/32", "2.2.2.2/32"};
static const char *const ip_in[] = {"3.3.3.3/32", "4.4.4.4/32"};
static const uint16_t ports_out[] = {10, 20}, ports_in[] = {30, 40};
static const char *const interfaces[] = {"eth0", "eth1"};

static const struct osm_iptables_config none, pod_ip = {.pod_ip_mode = true};
static const struct osm_iptables_config everything = {
    .outbound_ip_exclusions = ip_out,
    .outbound_ip_exclusions_len = LEN(ip_out),
    .outbound_ip_inclusions = ip_in,
    .outbound_ip_inclusions_len = LEN(ip_in),
    .outbound_port_exclusions = ports_out,
    .outbound_port_exclusions_len = LEN(ports_out),
    .inbound_port_exclusions = ports_in,
    .inbound_port_exclusions_len = LEN(ports_in),
    .interface_exclusions = interfaces,
    .interface_exclusions_len = LEN(interfaces),
};

static void expect(const struct osm_iptables_config *config, const char *text)
{
    struct osm_buf out = OSM_BUF_INIT(65536);
    struct osm_err err = {0};
    if (osm_iptables_script(&out, config, &err))
        fail_msg("%s", err.msg);
    assert_string_equal(out.data, text);
    osm_buf_clear(&out);
}

static void test_a_ipt_01_no_exclusions(void **state)
{
    (void)state;
    expect(&none, HEAD INBOUND OUTBOUND "-A OSM_PROXY_OUTBOUND -j OSM_PROXY_OUT_REDIRECT\n" TAIL);
}

static void test_a_ipt_01_all_lists(void **state)
{
    (void)state;
    expect(&everything, HEAD INBOUND
           "-I OSM_PROXY_INBOUND -i eth0 -j RETURN\n"
           "-I OSM_PROXY_INBOUND -i eth1 -j RETURN\n"
           "-I OSM_PROXY_INBOUND -p tcp --match multiport --dports 30,40 -j RETURN\n" OUTBOUND
           "-A OSM_PROXY_OUTBOUND -o eth0 -j RETURN\n"
           "-A OSM_PROXY_OUTBOUND -o eth1 -j RETURN\n"
           "-A OSM_PROXY_OUTBOUND -d 1.1.1.1/32 -j RETURN\n"
           "-A OSM_PROXY_OUTBOUND -d 2.2.2.2/32 -j RETURN\n"
           "-A OSM_PROXY_OUTBOUND -p tcp --match multiport --dports 10,20 -j RETURN\n"
           "-A OSM_PROXY_OUTBOUND -d 3.3.3.3/32 -j OSM_PROXY_OUT_REDIRECT\n"
           "-A OSM_PROXY_OUTBOUND -d 4.4.4.4/32 -j OSM_PROXY_OUT_REDIRECT\n"
           "-A OSM_PROXY_OUTBOUND -j RETURN\n" TAIL);
}

static void test_a_ipt_01_pod_ip_mode(void **state)
{
    (void)state;
    expect(&pod_ip, HEAD INBOUND OUTBOUND "-I OUTPUT -p tcp -o lo -d 127.0.0.1/32 -m owner "
                                          "--uid-owner 1500 -j DNAT --to-destination $POD_IP\n"
                                          "-A OSM_PROXY_OUTBOUND -j OSM_PROXY_OUT_REDIRECT\n" TAIL);
}

static size_t count(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *at = strstr(text, what); at; at = strstr(at + 1, what))
        n++;
    return n;
}

static void test_port_lists_are_split_at_fifteen(void **state)
{
    (void)state;
    uint16_t ports[31];
    for (size_t i = 0; i < LEN(ports); i++)
        ports[i] = (uint16_t)(1000 + i);
    static const struct {
        size_t ports, rules;
    } rows[] = {{0, 0}, {1, 1}, {15, 1}, {16, 2}, {30, 2}, {31, 3}};
    for (size_t i = 0; i < LEN(rows); i++) {
        struct osm_buf out = OSM_BUF_INIT(65536);
        struct osm_iptables_config c = {.outbound_port_exclusions = ports,
                                        .outbound_port_exclusions_len = rows[i].ports};
        assert_int_equal(osm_iptables_script(&out, &c, NULL), 0);
        assert_int_equal(count(out.data, "multiport"), rows[i].rules);
        for (size_t k = 0; k < rows[i].ports; k++) {
            char port[8];
            (void)snprintf(port, sizeof port, "%u", ports[k]);
            assert_int_equal(count(out.data, port), 1);
        }
        osm_buf_clear(&out);
    }
}

static void refused(const struct osm_iptables_config *c, const char *part)
{
    struct osm_buf out = OSM_BUF_INIT(65536);
    struct osm_err err = {0};
    int rc = osm_iptables_script(&out, c, &err);
    if (rc != OSM_EINVAL || !strstr(err.msg, part))
        fail_msg("expected a refusal with \"%s\", got %d: %s", part, rc, err.msg);
    assert_int_equal(out.len, 0);
    osm_buf_clear(&out);
}

static void test_bad_ranges_are_refused_and_named(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "foobar",
                                      "1.1.1.1",
                                      "1.1.1.1/",
                                      "1.1.1.1/33",
                                      "1.1.1.1/-1",
                                      "1.1.1.1/032",
                                      "01.1.1.1/8",
                                      "1.1.1/8",
                                      "1.1.1.1.1/8",
                                      "256.1.1.1/8",
                                      "1.1.1.1/8 ",
                                      " 1.1.1.1/8",
                                      "1.1.1.1/8\n",
                                      "1.1.1.1/8\n-A OUTPUT -j ACCEPT",
                                      "1.1.1.1/8; id",
                                      "$(id)",
                                      "`id`",
                                      "1.1.1.1/$(id)",
                                      "::/0",
                                      "2001:db8::/32",
                                      "1.1.1.1/8,2.2.2.2/8",
                                      "!1.1.1.1/8",
                                      "+1.1.1.1/8",
                                      "0x1.1.1.1/8",
                                      "99999999999.1.1.1/8",
                                      "1.1.1.1/99999999999",
                                      "EOF",
                                      "1.1.1.1/8\nEOF\nid"};
    for (size_t i = 0; i < LEN(bad); i++) {
        const char *list[] = {"10.0.0.0/8", bad[i]};
        refused(&(struct osm_iptables_config){.outbound_ip_exclusions = list,
                                              .outbound_ip_exclusions_len = 2},
                "outbound IP exclusions[1]: '");
        refused(&(struct osm_iptables_config){.outbound_ip_inclusions = list,
                                              .outbound_ip_inclusions_len = 2},
                "outbound IP inclusions[1]: '");
    }
    const char *null[] = {NULL};
    refused(&(struct osm_iptables_config){.outbound_ip_exclusions = null,
                                          .outbound_ip_exclusions_len = 1},
            "outbound IP exclusions[0]: ''");
}

static void test_bad_interfaces_are_refused_and_named(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "-j",
                                      "eth0 -j ACCEPT",
                                      "eth0\n",
                                      "eth0;id",
                                      "$(id)",
                                      "`id`",
                                      "a/b",
                                      "eth0 ",
                                      "abcdefghijklmnop",
                                      "!eth0",
                                      "e+h0",
                                      ".",
                                      "..",
                                      "\"eth0\"",
                                      "eth0'",
                                      "eth\\0"};
    for (size_t i = 0; i < LEN(bad); i++)
        refused(&(struct osm_iptables_config){.interface_exclusions = &bad[i],
                                              .interface_exclusions_len = 1},
                "interface exclusions[0]: '");
}

static void test_port_zero_is_refused(void **state)
{
    (void)state;
    static const uint16_t ports[] = {1, 0};
    refused(&(struct osm_iptables_config){.inbound_port_exclusions = ports,
                                          .inbound_port_exclusions_len = 2},
            "inbound port exclusions[1]: 0 is not a port");
    refused(&(struct osm_iptables_config){.outbound_port_exclusions = ports,
                                          .outbound_port_exclusions_len = 2},
            "outbound port exclusions[1]: 0 is not a port");
}

static void test_text_over_the_ceiling_is_an_error(void **state)
{
    (void)state;
    struct osm_buf out = OSM_BUF_INIT(500);
    struct osm_err err = {0};
    assert_int_equal(osm_iptables_script(&out, &none, &err), OSM_ELIMIT);
    assert_non_null(strstr(err.msg, "500 bytes"));
    osm_buf_clear(&out);
}

/* --- in a real kernel --- */

/* Loads the script in a namespace of its own and leaves what iptables-save then says in *saved. */
static int load(const struct osm_iptables_config *config, struct osm_buf *saved)
{
    struct osm_buf script = OSM_BUF_INIT(65536);
    assert_int_equal(osm_iptables_script(&script, config, NULL), 0);
    (void)osm_buf_add_str(&script, "rc=$?\niptables-save -t nat || exit 1\nexit $rc\n");
    const char *const argv[] = {"unshare", "--net", "env", "POD_IP=10.244.0.7", "sh", NULL};
    osm_buf_reset(saved);
    int rc = run(argv, script.data, saved);
    osm_buf_clear(&script);
    return rc;
}

static bool can_load(void)
{
    struct osm_buf out = OSM_BUF_INIT(65536);
    const char *const argv[] = {"unshare", "--net", "iptables-save", "-t", "nat", NULL};
    int rc = run(argv, NULL, &out);
    osm_buf_clear(&out);
    return rc == 0;
}

static void must_load(const struct osm_iptables_config *config, const char *const *lines,
                      size_t lines_len)
{
    struct osm_buf saved = OSM_BUF_INIT(1 << 20);
    if (load(config, &saved))
        fail_msg("iptables-restore: %s", saved.data);
    static const char *const always[] = {
        ":OSM_PROXY_INBOUND - ",
        ":OSM_PROXY_IN_REDIRECT - ",
        ":OSM_PROXY_OUTBOUND - ",
        ":OSM_PROXY_OUT_REDIRECT - ",
        "-A PREROUTING -p tcp -j OSM_PROXY_INBOUND\n",
        "-A OUTPUT -p tcp -j OSM_PROXY_OUTBOUND\n",
        "-A OSM_PROXY_INBOUND -p tcp -m tcp --dport 15904 -j RETURN\n-A OSM_PROXY_INBOUND -p tcp "
        "-j OSM_PROXY_IN_REDIRECT\n",
        "-A OSM_PROXY_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15003\n",
        "-A OSM_PROXY_OUT_REDIRECT -p tcp -j REDIRECT --to-ports 15001\n",
    };
    for (size_t i = 0; i < LEN(always) + lines_len; i++) {
        const char *line = i < LEN(always) ? always[i] : lines[i - LEN(always)];
        if (!strstr(saved.data, line))
            fail_msg("not loaded: %s\n%s", line, saved.data);
    }
    osm_buf_clear(&saved);
}

static void test_rules_load_without_lists(void **state)
{
    (void)state;
    if (!can_load())
        skip(); /* needs root and iptables */
    static const char *const lines[] = {"-A OSM_PROXY_OUTBOUND -d 127.0.0.1/32 -j RETURN\n"
                                        "-A OSM_PROXY_OUTBOUND -j OSM_PROXY_OUT_REDIRECT\n"};
    must_load(&none, lines, LEN(lines));
}

static void test_rules_load_with_all_lists(void **state)
{
    (void)state;
    if (!can_load())
        skip();
    /* Inserted rules stand at the head, the last inserted first. */
    static const char *const lines[] = {
        "-A OSM_PROXY_INBOUND -p tcp -m multiport --dports 30,40 -j RETURN\n"
        "-A OSM_PROXY_INBOUND -i eth1 -j RETURN\n"
        "-A OSM_PROXY_INBOUND -i eth0 -j RETURN\n"
        "-A OSM_PROXY_INBOUND -p tcp -m tcp --dport 15010 -j RETURN\n",
        "-A OSM_PROXY_OUTBOUND -d 4.4.4.4/32 -j OSM_PROXY_OUT_REDIRECT\n"
        "-A OSM_PROXY_OUTBOUND -j RETURN\n",
    };
    must_load(&everything, lines, LEN(lines));
}

static void test_rules_load_in_pod_ip_mode_with_the_address_from_the_environment(void **state)
{
    (void)state;
    if (!can_load())
        skip();
    static const char *const lines[] = {"-A OUTPUT -d 127.0.0.1/32 -o lo -p tcp -m owner "
                                        "--uid-owner 1500 -j DNAT --to-destination 10.244.0.7\n"
                                        "-A OUTPUT -p tcp -j OSM_PROXY_OUTBOUND\n"};
    must_load(&pod_ip, lines, LEN(lines));
}

static void test_rules_load_with_every_accepted_kind_of_entry(void **state)
{
    (void)state;
    if (!can_load())
        skip();
    static const char *const ranges[] = {"0.0.0.0/0", "10.1.2.3/8", "255.255.255.255/32"};
    static const char *const names[] = {"veth+", "br-0.1_x", "a", "abcdefghijklmno", "eth0@x"};
    uint16_t ports[40];
    for (size_t i = 0; i < LEN(ports); i++)
        ports[i] = (uint16_t)(65535 - i);
    const struct osm_iptables_config c = {
        .outbound_ip_exclusions = ranges,
        .outbound_ip_exclusions_len = LEN(ranges),
        .outbound_port_exclusions = ports,
        .outbound_port_exclusions_len = LEN(ports),
        .inbound_port_exclusions = ports,
        .inbound_port_exclusions_len = LEN(ports),
        .interface_exclusions = names,
        .interface_exclusions_len = LEN(names),
        .pod_ip_mode = true,
    };
    static const char *const lines[] = {"-A OSM_PROXY_OUTBOUND -o veth+ -j RETURN\n",
                                        "-A OSM_PROXY_OUTBOUND -d 10.0.0.0/8 -j RETURN\n"};
    must_load(&c, lines, LEN(lines));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_ipt_01_no_exclusions),
        cmocka_unit_test(test_a_ipt_01_all_lists),
        cmocka_unit_test(test_a_ipt_01_pod_ip_mode),
        cmocka_unit_test(test_port_lists_are_split_at_fifteen),
        cmocka_unit_test(test_bad_ranges_are_refused_and_named),
        cmocka_unit_test(test_bad_interfaces_are_refused_and_named),
        cmocka_unit_test(test_port_zero_is_refused),
        cmocka_unit_test(test_text_over_the_ceiling_is_an_error),
        cmocka_unit_test(test_rules_load_without_lists),
        cmocka_unit_test(test_rules_load_with_all_lists),
        cmocka_unit_test(test_rules_load_in_pod_ip_mode_with_the_address_from_the_environment),
        cmocka_unit_test(test_rules_load_with_every_accepted_kind_of_entry),
    };
    return cmocka_run_group_tests_name("inject/iptables", tests, NULL, no_leak);
}
