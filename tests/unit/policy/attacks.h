/* Attacks on the sandbox, read from tests/unit/policy/attacks/NAME.txt:
 *
 *   == what it tries                    ends the attack before
 *   -> error TEXT                       the rule fails so, and nothing else does
 *   -> answer JSON                      harmless: what the rule answers
 *   -> load TEXT                        the bundle is refused
 *   -> lost TEXT                        the engine says so and must be thrown away
 *   -> state TEXT                       the snapshot's error of a variable that has changed
 *   lines of Lua                        the body of a rule; `...` is mesh. With a first line
 * `--module` the whole module instead, which declares the rule `attack`
 *
 * Line 1 of the Lua is line 1 of attack.lua. TEXT may end with `...`: then only its beginning
 * counts. */
#pragma once

#include "policy/engine_util.h"

struct attack {
    char title[120], kind[16], expected[400], lua[16 * 1024];
};

static inline void attack_add(struct attack *a, const char *line)
{
    size_t len = strlen(a->lua);
    assert_true(len + strlen(line) + 2 < sizeof a->lua);
    (void)snprintf(a->lua + len, sizeof a->lua - len, "%s\n", line);
}

/* Calls run(ud, attack) for each; returns how many. */
static inline size_t attacks_each(const char *name, void (*run)(void *ud, const struct attack *a),
                                  void *ud)
{
    char path[256], line[4096];
    size_t n = 0;
    struct attack *a = osm_alloc(sizeof *a);
    assert_non_null(a);
    (void)snprintf(path, sizeof path, "tests/unit/policy/attacks/%s.txt", name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    bool more = true;
    while (more) {
        more = fgets(line, sizeof line, file) != NULL;
        line[strcspn(line, "\n")] = '\0';
        if (!more || !strncmp(line, "== ", 3)) {
            if (a->title[0]) {
                if (!a->kind[0] || !a->lua[0])
                    fail_msg("%s: %s: says nothing", path, a->title);
                run(ud, a);
                n++;
            }
            *a = (struct attack){0};
            (void)snprintf(a->title, sizeof a->title, "%.100s", line + 3);
        } else if (!strncmp(line, "-> ", 3)) {
            size_t word = strcspn(line + 3, " ");
            (void)snprintf(a->kind, sizeof a->kind, "%.*s", (int)word, line + 3);
            (void)snprintf(a->expected, sizeof a->expected, "%.399s",
                           line[3 + word] ? line + 4 + word : "");
        } else if (a->title[0]) {
            attack_add(a, line);
        }
    }
    assert_int_equal(fclose(file), 0);
    osm_free(a);
    return n;
}

/* The module that holds the attack. */
static inline void attack_module(const struct attack *a, struct osm_buf *out)
{
    if (!strncmp(a->lua, "--raw\n", 6)) {
        assert_int_equal(osm_buf_add_str(out, a->lua + 6), 0);
        return;
    }
    if (!strncmp(a->lua, "--module\n", 9)) {
        assert_int_equal(osm_buf_add_str(out, a->lua), 0);
        return;
    }
    assert_int_equal(osm_buf_addf(out,
                                  "local function attack(mesh, out) %send\n"
                                  "return { api = 1, rules = { attack = attack } }\n",
                                  a->lua),
                     0);
}
