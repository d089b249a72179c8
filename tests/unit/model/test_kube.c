/* Wrong types in every field that facts are read from. */
#include "model/world_fixture.h"

/* Every field that facts are read from, with a value of each wrong type: nothing crashes, and what
 * is malformed is as if it were not there. */
static void test_wrong_types_make_an_object_absent(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *yaml; /* with one %s */
        int fine;         /* index of the value of the right type, or -1 */
    } fields[] = {
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: %s}", 2},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: %s}}", 0},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}, deletionTimestamp: "
         "%s}",
         0},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nspec: %s", 2},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nspec: "
         "{serviceAccountName: %s}",
         0},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nspec: {hostname: "
         "%s}",
         0},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nspec: {containers: "
         "%s}",
         -1},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nspec: {containers: "
         "[%s]}",
         2},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nspec: {containers: "
         "[{ports: %s}]}",
         -1},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nspec: {containers: "
         "[{ports: [%s]}]}",
         -1},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nspec: {containers: "
         "[{ports: [{containerPort: %s}]}]}",
         1},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nstatus: %s", 2},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nstatus: {phase: %s}",
         0},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nstatus: {podIP: %s}",
         0},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nstatus: {podIPs: "
         "%s}",
         -1},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nstatus: {podIPs: "
         "[%s]}",
         2},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nstatus: "
         "{conditions: %s}",
         -1},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nstatus: "
         "{conditions: [%s]}",
         2},
        {"kind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: web}}\nstatus: "
         "{conditions: [{type: %s}]}",
         0},
    };
    static const char *const values[] = {"text", "7", "{x: y}", "[[]]", "true"};
    put(f, monitored);
    put(f, web);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        for (size_t j = 0; j < sizeof values / sizeof *values; j++) {
            char yaml[512] = "apiVersion: v1\n";
            (void)snprintf(yaml + strlen(yaml), sizeof yaml - strlen(yaml), fields[i].yaml,
                           values[j]);
            put(f, yaml);
            json_t *accounts = osm_world_accounts_behind(f->world, "shop", "web");
            bool selected = json_array_size(accounts) > 0, labelled = i > 1;
            if (selected != (fields[i].fine == (int)j && labelled))
                fail_msg("%s\nis %s", yaml, selected ? "taken" : "left out");
            json_decref(accounts);
        }
    }
}

static void test_wrong_types_elsewhere_never_crash(void **state)
{
    struct fixture *f = *state;
    static const char *const fields[] = {
        "kind: Service\nmetadata: {name: web, namespace: shop}\nspec: %s",
        "kind: Service\nmetadata: {name: web, namespace: shop}\nspec: {selector: %s}",
        "kind: Service\nmetadata: {name: web, namespace: shop}\nspec: {selector: {app: %s}}",
        "kind: Service\nmetadata: {name: web, namespace: shop}\nspec: {clusterIP: %s}",
        "kind: Service\nmetadata: {name: web, namespace: shop}\nspec: {type: %s}",
        "kind: Service\nmetadata: {name: web, namespace: shop}\nspec: {publishNotReadyAddresses: "
        "%s}",
        "kind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: %s}",
        "kind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [%s]}",
        "kind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{port: %s}]}",
        "kind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{port: 80, "
        "targetPort: %s}]}",
        "kind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{port: 80, name: "
        "%s}]}",
        "kind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{port: 80, "
        "protocol: %s}]}",
        "kind: Endpoints\nmetadata: {name: web, namespace: shop}\nsubsets: %s",
        "kind: Endpoints\nmetadata: {name: web, namespace: shop}\nsubsets: [%s]",
        "kind: Endpoints\nmetadata: {name: web, namespace: shop}\nsubsets: [{addresses: %s}]",
        "kind: Endpoints\nmetadata: {name: web, namespace: shop}\nsubsets: [{addresses: [%s]}]",
        "kind: Endpoints\nmetadata: {name: web, namespace: shop}\nsubsets: [{addresses: [{ip: "
        "%s}]}]",
        "kind: Endpoints\nmetadata: {name: web, namespace: shop}\nsubsets: [{addresses: [{ip: "
        "10.0.0.1, targetRef: %s}]}]",
        "kind: Endpoints\nmetadata: {name: web, namespace: shop}\nsubsets: [{notReadyAddresses: "
        "%s}]",
        "kind: Endpoints\nmetadata: {name: web, namespace: shop}\nsubsets: [{ports: %s}]",
        "kind: Endpoints\nmetadata: {name: web, namespace: shop}\nsubsets: [{ports: [{port: %s}]}]",
        "kind: EndpointSlice\nmetadata: {name: s, namespace: shop, labels: "
        "{kubernetes.io/service-name: %s}}\naddressType: IPv4",
        "kind: EndpointSlice\nmetadata: {name: s, namespace: shop, labels: "
        "{kubernetes.io/service-name: web}}\naddressType: %s",
        "kind: EndpointSlice\nmetadata: {name: s, namespace: shop, labels: "
        "{kubernetes.io/service-name: web}}\n"
        "addressType: IPv4\nendpoints: %s",
        "kind: EndpointSlice\nmetadata: {name: s, namespace: shop, labels: "
        "{kubernetes.io/service-name: web}}\n"
        "addressType: IPv4\nendpoints: [%s]",
        "kind: EndpointSlice\nmetadata: {name: s, namespace: shop, labels: "
        "{kubernetes.io/service-name: web}}\n"
        "addressType: IPv4\nendpoints: [{addresses: %s}]",
        "kind: EndpointSlice\nmetadata: {name: s, namespace: shop, labels: "
        "{kubernetes.io/service-name: web}}\n"
        "addressType: IPv4\nendpoints: [{addresses: [%s]}]",
        "kind: EndpointSlice\nmetadata: {name: s, namespace: shop, labels: "
        "{kubernetes.io/service-name: web}}\n"
        "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1], conditions: %s}]",
        "kind: EndpointSlice\nmetadata: {name: s, namespace: shop, labels: "
        "{kubernetes.io/service-name: web}}\n"
        "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1], conditions: {ready: %s}}]",
        "kind: EndpointSlice\nmetadata: {name: s, namespace: shop, labels: "
        "{kubernetes.io/service-name: web}}\n"
        "addressType: IPv4\nports: %s",
        "kind: EndpointSlice\nmetadata: {name: s, namespace: shop, labels: "
        "{kubernetes.io/service-name: web}}\n"
        "addressType: IPv4\nports: [{name: %s, port: 1}]",
        "kind: Namespace\nmetadata: {name: shop, labels: %s}",
        "kind: Namespace\nmetadata: {name: shop, labels: {openservicemesh.io/monitored-by: %s}}",
    };
    static const char *const values[] = {"text", "7",  "-1", "65536", "1.5",  "{x: y}",
                                         "[[]]", "[]", "{}", "true",  "null", "''"};
    put(f, pod_a);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        for (size_t j = 0; j < sizeof values / sizeof *values; j++) {
            char yaml[512];
            bool is_slice = strstr(fields[i], "EndpointSlice") != NULL;
            (void)snprintf(yaml, sizeof yaml, "apiVersion: %s\n",
                           is_slice ? "discovery.k8s.io/v1" : "v1");
            (void)snprintf(yaml + strlen(yaml), sizeof yaml - strlen(yaml), fields[i], values[j]);
            if (!strstr(fields[i], "Namespace"))
                put(f, monitored);
            put(f, yaml);
            json_t *all =
                json_pack("[oooo]", osm_world_workloads(f->world), osm_world_accounts(f->world),
                          osm_world_members(f->world, "shop", "web"),
                          osm_world_addresses(f->world, "shop", "web"));
            assert_non_null(all);
            json_decref(all);
            (void)endpoints_of(f, "web", 80);
            put(f, monitored);
            put(f, web); /* the next good one counts again */
            assert_int_equal(first_target_port(f->world, "shop", "web", 80), 8080);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_wrong_types_make_an_object_absent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wrong_types_elsewhere_never_crash, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, count_json, nothing_is_left);
}
