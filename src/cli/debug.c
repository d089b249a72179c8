/* `osm debug`: the console of the person on call. On a terminal lines are edited, kept and
 * completed, and the prompt says the role; on a pipe there is no prompt, and the exit code is 1
 * where a command has failed. Words behind `debug` are one command. The daemon reads the lines and
 * words the answers: this program knows no command but `quit`. */
#include "cli/commands.h"
#include "cli/console_link.h"
#include "cli/edit.h"
#include "cli/print.h"

#include "base/json.h"
#include "base/utf8.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 64 * 1024, ASK_MS = 10 * 1000, COMPLETE_MS = 2000 };

struct debug {
    struct osm_link link;
    struct osm_buf begun; /* lines that want another one */
    char role[16];
    bool is_interactive;
    bool failed; /* some command has */
    bool lost;   /* the session is */
    char *typed; /* on a terminal, while something went on: the next line */
    /* a pipe's lines */
    struct osm_buf in;
    size_t in_start;
    bool in_ended;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

/* --- lines of a pipe --- */

/* The next line of standard input; NULL at the end. osm_free. */
static char *read_line(struct debug *d)
{
    for (;;) {
        size_t left = d->in.len - d->in_start;
        char *start = left ? d->in.data + d->in_start : NULL;
        const char *end = left ? memchr(start, '\n', left) : NULL;
        if (end || (d->in_ended && left)) {
            size_t len = end ? (size_t)(end - start) : left;
            char *line = osm_strndup(start, len);
            d->in_start += len + (end != NULL);
            if (d->in_start == d->in.len) {
                osm_buf_reset(&d->in);
                d->in_start = 0;
            }
            return line;
        }
        char *at = d->in_ended ? NULL : osm_buf_reserve(&d->in, LINE_MAX_BYTES);
        ssize_t n = at ? read(STDIN_FILENO, at, LINE_MAX_BYTES) : -1;
        if (at && n < 0 && errno == EINTR && !interrupted)
            continue;
        if (d->in_ended || n < 0)
            return NULL;
        d->in_ended = n == 0;
        d->in.len += (size_t)n;
    }
}

/* --- one line --- */

enum outcome { DONE, FAILED, INCOMPLETE, LOST };

static enum outcome say_error(const char *text)
{
    (void)fflush(stdout);
    osm_print_complaint("error", text);
    return FAILED;
}

static enum outcome lose(struct debug *d, const struct osm_err *err)
{
    (void)fflush(stdout);
    osm_print_error(err);
    d->lost = true;
    return LOST;
}

/* Prints what a message says; *more: of a page that others follow. */
static enum outcome take_answer(const json_t *message, bool *more)
{
    const json_t *failed = json_object_get(message, "err");
    *more = json_is_true(json_object_get(message, "more"));
    if (failed)
        return say_error(osm_json_text(failed, "msg"));
    if (json_is_true(json_object_get(json_object_get(message, "data"), "incomplete")))
        return INCOMPLETE;
    (void)fputs(osm_json_text(message, json_object_get(message, "page") ? "page" : "text"), stdout);
    (void)fflush(stdout);
    return DONE;
}

/* Waits for the end of request @p id. What goes on until something is said (events come) ends with
 * the next line, with ^C, and with the end of a pipe. */
static enum outcome wait_for(struct debug *d, int id, bool *more)
{
    struct osm_err err = {0};
    bool events = false, stopped = false;
    for (;;) {
        json_t *message = NULL;
        bool line_waits = d->in.len > d->in_start || d->in_ended;
        bool stop = interrupted || (events && !stopped && !d->is_interactive && line_waits);
        int rc =
            stop ? 1
                 : osm_link_next(&d->link, events && !stopped && !line_waits ? STDIN_FILENO : -1,
                                 -1, &message, &err);
        if (rc < 0)
            return lose(d, &err);
        if (rc > 0) {
            bool again = interrupted;
            interrupted = 0;
            if (again && stopped)
                return FAILED; /* ^C twice: its answer is not waited for */
            if (!again && !events)
                continue;
            if (!again && d->is_interactive)
                d->typed = read_line(d);
            stopped = true;
            if (osm_link_send(&d->link, json_pack("{s:s}", "cmd", "stop"), &err) < 0)
                return lose(d, &err);
            continue;
        }
        const json_t *of = json_object_get(message, "id");
        bool mine = json_integer_value(of) == id, is_end = json_object_get(message, "ok") != NULL;
        enum outcome outcome = DONE;
        if (is_end && json_is_null(of)) {
            (void)osm_fail(&err, OSM_EIO, "%s",
                           osm_json_text(json_object_get(message, "err"), "msg"));
            outcome = lose(d, &err);
        } else if (mine) {
            outcome = take_answer(message, more);
            events = true;
        }
        json_decref(message);
        if (outcome == LOST || (mine && is_end))
            return outcome;
    }
}

static enum outcome run(struct debug *d, const char *line)
{
    struct osm_err err = {0};
    bool more = false;
    if (!osm_utf8_valid(line, strlen(line))) {
        (void)say_error("is no text in UTF-8");
        d->failed = true;
        return FAILED;
    }
    int id = osm_link_send(&d->link, json_pack("{s:s, s:b}", "line", line, "render", 1), &err);
    enum outcome outcome = id > 0 ? wait_for(d, id, &more) : lose(d, &err);
    while (more && outcome == DONE && !d->is_interactive) {
        id = osm_link_send(&d->link, json_pack("{s:s}", "cmd", "more"), &err);
        outcome = id > 0 ? wait_for(d, id, &more) : lose(d, &err);
    }
    if (more && outcome == DONE)
        (void)puts("\n-- `more` says the next page --");
    d->failed = d->failed || outcome == FAILED || outcome == LOST;
    return outcome;
}

static void learn_role(struct debug *d)
{
    struct osm_err err = {0};
    json_t *data = NULL;
    if (osm_link_ask(&d->link, "role", NULL, ASK_MS, &data, &err)) {
        (void)lose(d, &err);
        d->failed = true;
    }
    (void)snprintf(d->role, sizeof d->role, "%.15s", osm_json_text(data, "role"));
    json_decref(data);
}

static bool begins_with(const char *line, const char *word)
{
    size_t n = strlen(word);
    line += strspn(line, " \t");
    return !strncmp(line, word, n) && (!line[n] || strchr(" \t", line[n]));
}

/* Takes a line that was typed; false: the session is over. */
static bool take_line(struct debug *d, const char *line)
{
    bool first = !d->begun.len;
    if (first && !line[strspn(line, " \t")])
        return true;
    if (first && (begins_with(line, "quit") || begins_with(line, "exit")))
        return false;
    if (!first && !strcmp(line, ".")) {
        osm_buf_reset(&d->begun);
        return true;
    }
    if (!first)
        (void)osm_buf_add_char(&d->begun, '\n');
    if (osm_buf_add_str(&d->begun, line)) {
        d->failed = true;
        (void)say_error("longer than 64 KiB");
        osm_buf_reset(&d->begun);
        return true;
    }
    enum outcome outcome = run(d, d->begun.data);
    if (outcome == DONE && begins_with(d->begun.data, "role"))
        learn_role(d);
    if (outcome != INCOMPLETE)
        osm_buf_reset(&d->begun);
    return outcome != LOST && !d->lost;
}

/* --- a pipe --- */

static void run_pipe(struct debug *d)
{
    char *line;
    bool goes_on = true;
    while (goes_on && (line = read_line(d)) != NULL) {
        goes_on = take_line(d, line);
        osm_free(line);
    }
    if (d->begun.len) {
        (void)say_error("the last command is not complete");
        d->failed = true;
    }
}

/* --- a terminal --- */

static bool complete(void *ud, const char *line, struct osm_edit_words *out)
{
    struct debug *d = ud;
    struct osm_err err = {0};
    json_t *data = NULL, *word;
    size_t i, before = d->begun.len ? d->begun.len + 1 : 0;
    char *whole = before ? osm_strf("%s\n%s", d->begun.data, line) : osm_strdup(line);
    if (!whole || osm_link_ask(&d->link, "complete", json_pack("{s:s}", "line", whole), COMPLETE_MS,
                               &data, &err)) {
        osm_free(whole);
        return false;
    }
    osm_free(whole);
    json_int_t start = json_integer_value(json_object_get(data, "start"));
    const json_t *words = json_object_get(data, "words");
    out->list = osm_alloc_array(json_array_size(words) + 1, sizeof *out->list);
    bool ok = out->list && start >= (json_int_t)before;
    json_array_foreach ((json_t *)(uintptr_t)words, i, word)
        if (ok) {
            out->list[i] = osm_strdup(json_string_value(word));
            ok = out->list[i] != NULL;
        }
    out->start = ok ? (size_t)start - before : 0;
    (void)snprintf(out->end, sizeof out->end, "%.1s", osm_json_text(data, "end"));
    json_decref(data);
    return ok;
}

static int make_dirs(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        int rc = mkdir(path, 0700);
        *slash = '/';
        if (rc && errno != EEXIST)
            return -1;
    }
    return 0;
}

/* $XDG_STATE_HOME/osm/debug_history, or below ~/.local/state; NULL: neither. osm_free. */
static char *history_path(void)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char *path = state && state[0] == '/' ? osm_strf("%s/osm/debug_history", state)
                 : home && home[0] == '/' ? osm_strf("%s/.local/state/osm/debug_history", home)
                                          : NULL;
    if (path && make_dirs(path)) {
        osm_free(path);
        return NULL;
    }
    return path;
}

static void run_terminal(struct debug *d)
{
    struct osm_err err = {0};
    struct osm_edit *edit = NULL;
    char prompt[32], *path = history_path();
    learn_role(d);
    if (!d->lost && osm_edit_new(&edit, path, complete, d, &err)) {
        osm_print_error(&err);
        d->failed = true;
    }
    osm_free(path);
    if (edit)
        (void)puts("`help` lists the commands; a tab completes; ^D ends");
    for (bool goes_on = edit != NULL; goes_on;) {
        char *line = NULL;
        (void)snprintf(prompt, sizeof prompt, "%s> ", d->begun.len ? ">" : d->role);
        enum osm_edit_end end = OSM_EDIT_LINE;
        if (d->typed)
            line = osm_take_ptr(&d->typed);
        else
            end = osm_edit_line(edit, prompt, &line);
        interrupted = 0;
        if (end == OSM_EDIT_LINE && line)
            goes_on = take_line(d, line);
        else if (end == OSM_EDIT_ABANDONED || (end == OSM_EDIT_EOF && d->begun.len))
            osm_buf_reset(&d->begun);
        else
            goes_on = false;
        osm_free(line);
    }
    osm_edit_free(edit);
    d->failed = d->lost; /* a person has seen the others */
}

/* --- the command --- */

static int open_link(struct debug *d, const struct osm_cli *cli, struct osm_err *err)
{
    if (!cli->console)
        return osm_link_open(&d->link, cli->socket_path, err);
    if (!cli->token_file)
        return osm_fail(err, OSM_EINVAL,
                        "--console needs --token-file: the daemon's "
                        "--debug-token-file");
    return osm_link_open_tcp(&d->link, cli->console, cli->token_file, err);
}

static char *join(const char *const *words, size_t n)
{
    struct osm_buf line = OSM_BUF_INIT(LINE_MAX_BYTES);
    for (size_t i = 0; i < n; i++)
        (void)osm_buf_add_strs(&line, i ? " " : "", words[i], NULL);
    return osm_buf_take(&line);
}

static void run_words(struct debug *d, const char *const *words, size_t n)
{
    char *line = join(words, n);
    d->failed = !line;
    if (!line) {
        (void)say_error("longer than 64 KiB");
    } else if (run(d, line) == INCOMPLETE) {
        (void)say_error("the command is not complete");
        d->failed = true;
    }
    osm_free(line);
}

int osm_cli_debug_help(void)
{
    static const char text[] =
        "osm debug: a console of the daemon\n\n"
        "  osm debug                       a session; on a pipe each line is a command\n"
        "  osm debug COMMAND...            one command; `osm debug help` lists them, with the role "
        "that each needs\n"
        "  osm debug -- COMMAND --FLAG     one with a flag of its own\n"
        "  --socket PATH                   its --debug-socket, or the control socket\n"
        "  --console HOST:PORT --token-file FILE   its --debug-console\n\n"
        "For programs: osm debug --json, or the socket itself, with one JSON object per line each "
        "way. On\n"
        "--debug-console the first line is the token. (A first byte that is no '{' makes the "
        "session "
        "one of text,\n"
        "as of `nc -U`: lines, answers, prompts.)\n\n"
        "  {\"id\": 1, \"cmd\": \"xds.show\", \"args\": {\"node\": \"blue/shop-1\", \"type\": "
        "\"CDS\"}}\n"
        "  {\"id\": 2, \"line\": \"xds show blue/shop-1 CDS\", \"render\": true}      as typed; "
        "answered "
        "in text\n\n"
        "  {\"id\": 1, \"ok\": true, \"data\": {...}}        \"render\": \"text\" instead of "
        "\"data\"\n"
        "  {\"id\": 1, \"ok\": false, \"err\": {\"code\": \"OSM_EACCES\", \"msg\": \"...\"}}\n"
        "  {\"id\": 1, \"event\": {...}}                   before the answer: of watch\n"
        "  {\"id\": 1, \"ok\": true, \"more\": true, \"page\": \"...\"}   over 1 MiB (debug "
        "consoles only): a "
        "piece of the\n"
        "                                              JSON text of data; {\"cmd\": \"more\"} "
        "gives "
        "the next\n"
        "  {\"id\": 1, \"ok\": true, \"data\": {\"incomplete\": true}}   of eval: ask again with "
        "more "
        "lines\n\n"
        "Answers come in any order; `id`, which may be anything, tells which. What goes on (watch) "
        "ends with the next\n"
        "request; {\"cmd\": \"stop\"} asks for nothing else. {\"cmd\": \"help\"} describes every "
        "command: "
        "role and arguments.\n\n"
        "Limits: 4 sessions of a debug console, 16 of the control socket; 64 KiB of a request; 10 "
        "s "
        "for most answers;\n"
        "5 min without a word; who does not read for 10 s is dropped. eval: 1 s and 16 MiB beyond "
        "the copy.\n";
    (void)fputs(text, stdout);
    return osm_print_end();
}

int osm_cli_debug(const struct osm_cli *cli, const char *const *words, size_t n)
{
    struct debug d = {.begun = OSM_BUF_INIT(LINE_MAX_BYTES), .in = OSM_BUF_INIT(1 << 26)};
    const struct sigaction act = {.sa_handler = on_interrupt};
    struct osm_err err = {0};
    int rc = open_link(&d, cli, &err);
    if (rc) {
        osm_print_error(&err);
        return rc == OSM_EINVAL ? 2 : 1;
    }
    if (cli->json) {
        rc = osm_link_relay(&d.link, STDIN_FILENO, STDOUT_FILENO, &err);
        if (rc)
            osm_print_error(&err);
        osm_link_close(&d.link);
        return rc ? 1 : 0;
    }
    (void)sigaction(SIGINT, &act, NULL); /* ^C ends what goes on, not the session */
    d.is_interactive = !n && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    if (n)
        run_words(&d, words, n);
    else if (d.is_interactive)
        run_terminal(&d);
    else
        run_pipe(&d);
    osm_link_close(&d.link);
    osm_free(d.typed);
    osm_buf_clear(&d.begun);
    osm_buf_clear(&d.in);
    return osm_print_end() || d.failed;
}
