#include "cli/edit.h"

#include "base/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HISTORY_MAX = 1000, COLUMNS = 80, SHOWN_MAX = 200 };

struct osm_edit {
    EditLine *el;
    History *history;
    char *path, *prompt;
    int added; /* lines of this session */
    osm_edit_complete_fn *complete;
    void *ud;
    bool abandoned;
};

static struct osm_edit *edit_of(EditLine *el)
{
    void *ud = NULL;
    (void)el_get(el, EL_CLIENTDATA, &ud);
    return ud;
}

static char *prompt_of(EditLine *el)
{
    return edit_of(el)->prompt;
}

/* ^C: what is typed is given up. */
static unsigned char abandon(EditLine *el, int key)
{
    (void)key;
    edit_of(el)->abandoned = true;
    return CC_NEWLINE;
}

/* ^Z, which is a key like others while a line is edited. */
static unsigned char suspend(EditLine *el, int key)
{
    (void)el;
    (void)key;
    (void)raise(SIGTSTP);
    return CC_REDISPLAY;
}

/* --- completion --- */

static void words_clear(struct osm_edit_words *words)
{
    for (char **w = words->list; w && *w; w++)
        osm_free(*w);
    osm_free(words->list);
    words->list = NULL;
}

/* How many bytes all words have in common at their beginning, in whole characters. */
static size_t common_len(char *const *words)
{
    size_t len = strlen(words[0]);
    for (char *const *w = words + 1; *w; w++) {
        size_t i = 0;
        while (i < len && (*w)[i] == words[0][i])
            i++;
        len = i;
    }
    while (len && ((unsigned char)words[0][len] & 0xc0) == 0x80)
        len--;
    return len;
}

static int characters(const char *text, size_t len)
{
    int n = 0;
    for (size_t i = 0; i < len; i++)
        n += ((unsigned char)text[i] & 0xc0) != 0x80;
    return n;
}

static void show(char *const *words)
{
    struct winsize size;
    size_t widest = 0, shown = 0;
    size_t columns =
        ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : COLUMNS;
    for (char *const *w = words; *w; w++)
        widest = strlen(*w) > widest ? strlen(*w) : widest;
    size_t per_line = columns / (widest + 2) ? columns / (widest + 2) : 1;
    (void)putchar('\n');
    for (; words[shown] && shown < SHOWN_MAX; shown++)
        (void)printf("%-*s%s", (int)widest, words[shown],
                     !words[shown + 1] || (shown + 1) % per_line == 0 ? "\n" : "  ");
    if (words[shown])
        (void)printf("%s...\n", shown % per_line ? "\n" : "");
    (void)fflush(stdout);
}

static unsigned char on_tab(EditLine *el, int key)
{
    struct osm_edit *e = edit_of(el);
    struct osm_edit_words words = {0};
    const LineInfo *info = el_line(el);
    size_t len = (size_t)(info->cursor - info->buffer);
    char *line = osm_strndup(info->buffer, len);
    unsigned char outcome = CC_ERROR;
    (void)key;
    if (line && e->complete && e->complete(e->ud, line, &words) && words.list && words.list[0] &&
        words.start <= len) {
        bool one = !words.list[1];
        size_t common = common_len(words.list), typed = len - words.start;
        char *text = osm_strndup(words.list[0], common);
        if (text && (common > typed || one)) {
            el_deletestr(el, characters(line + words.start, typed));
            (void)el_insertstr(el, text);
            if (one && words.end[0])
                (void)el_insertstr(el, words.end);
            outcome = CC_REFRESH;
        } else {
            show(words.list);
            outcome = CC_REDISPLAY;
        }
        osm_free(text);
    }
    words_clear(&words);
    osm_free(line);
    return outcome;
}

/* --- life --- */

static void load_history(struct osm_edit *e)
{
    HistEvent event;
    (void)history(e->history, &event, H_SETSIZE, HISTORY_MAX);
    (void)history(e->history, &event, H_SETUNIQUE, 1);
    if (e->path)
        (void)history(e->history, &event, H_LOAD, e->path);
}

/* Behind what other sessions have kept meanwhile; a file that has grown long is written anew. */
static void keep_history(struct osm_edit *e)
{
    HistEvent event;
    struct stat info;
    if (!e->path || !e->added)
        return;
    bool is_long = !stat(e->path, &info) && info.st_size > (off_t)HISTORY_MAX * 200;
    int fd = open(e->path, O_WRONLY | O_CREAT | O_CLOEXEC | (is_long ? O_TRUNC : O_APPEND), 0600);
    FILE *file = fd < 0 ? NULL : fdopen(fd, is_long ? "w" : "a");
    if (!file) {
        if (fd >= 0)
            (void)close(fd);
        return;
    }
    (void)fchmod(fd, 0600);
    (void)fseek(file, 0, SEEK_END);
    (void)history(e->history, &event, H_NSAVE_FP, (size_t)(is_long ? HISTORY_MAX : e->added), file);
    (void)fclose(file);
}

void osm_edit_free(struct osm_edit *e)
{
    if (!e)
        return;
    if (e->history) {
        keep_history(e);
        history_end(e->history);
    }
    if (e->el)
        el_end(e->el);
    osm_free(e->path);
    osm_free(e->prompt);
    osm_free(e);
}

int osm_edit_new(struct osm_edit **out, const char *history_path, osm_edit_complete_fn *complete,
                 void *ud, struct osm_err *err)
{
    struct osm_edit *e = osm_alloc(sizeof *e);
    if (!e)
        return osm_fail(err, OSM_ENOMEM, "line editing");
    (void)setlocale(LC_CTYPE, ""); /* what a character is; this process has no Lua by now */
    e->complete = complete;
    e->ud = ud;
    e->path = history_path ? osm_strdup(history_path) : NULL;
    e->history = history_init();
    e->el = el_init("osm", stdin, stdout, stderr);
    if (!e->history || !e->el) {
        osm_edit_free(e);
        return osm_fail(err, OSM_EIO, "no terminal to edit lines on");
    }
    load_history(e);
    (void)el_set(e->el, EL_CLIENTDATA, e);
    (void)el_set(e->el, EL_PROMPT, prompt_of);
    (void)el_set(e->el, EL_EDITOR, "emacs");
    (void)el_set(e->el, EL_SIGNAL, 1);
    (void)el_set(e->el, EL_HIST, history, e->history);
    /* el_set would copy these texts, and never free them. */
    (void)el_wset(e->el, EL_ADDFN, L"osm-complete", L"Complete what is typed", on_tab);
    (void)el_wset(e->el, EL_ADDFN, L"osm-abandon", L"Give up what is typed", abandon);
    (void)el_set(e->el, EL_BIND, "^I", "osm-complete", NULL);
    (void)el_set(e->el, EL_BIND, "^R", "em-inc-search-prev", NULL);
    (void)el_source(e->el, NULL); /* ~/.editrc */
    (void)el_wset(e->el, EL_ADDFN, L"osm-suspend", L"Stop for a while", suspend);
    (void)el_set(e->el, EL_SETTY, "-d", "-isig", NULL);
    (void)el_set(e->el, EL_BIND, "^Z", "osm-suspend", NULL);
    (void)el_set(e->el, EL_BIND, "^C", "osm-abandon", NULL);
    *out = e;
    return 0;
}

/* Where what is typed takes more lines than before, libedit 3.1 writes behind its copy of the
 * screen: it hears of another size between two lines only. */
static const char *get_line(struct osm_edit *e, int *count)
{
    sigset_t resizes, before;
    (void)sigemptyset(&resizes);
    (void)sigaddset(&resizes, SIGWINCH);
    el_resize(e->el);
    (void)sigprocmask(SIG_BLOCK, &resizes, &before);
    errno = 0;
    const char *text = el_gets(e->el, count);
    int error = errno;
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return text;
}

enum osm_edit_end osm_edit_line(struct osm_edit *e, const char *prompt, char **line)
{
    HistEvent event;
    int count = 0;
    *line = NULL;
    char *copy = osm_strdup(prompt);
    osm_free(e->prompt);
    e->prompt = copy;
    e->abandoned = false;
    (void)el_set(e->el, EL_PREP_TERM, 1); /* before the prompt: who sees it may type ^C */
    const char *text = copy ? get_line(e, &count) : NULL;
    if (e->abandoned || (!text && errno == EINTR)) {
        (void)puts("^C");
        return OSM_EDIT_ABANDONED;
    }
    if (!text || count <= 0) {
        (void)putchar('\n');
        return OSM_EDIT_EOF;
    }
    if (text[strspn(text, " \t\n")] && history(e->history, &event, H_ENTER, text) >= 0)
        e->added++;
    size_t len = (size_t)count;
    while (len && (text[len - 1] == '\n' || text[len - 1] == '\r'))
        len--;
    *line = osm_strndup(text, len);
    return OSM_EDIT_LINE;
}
