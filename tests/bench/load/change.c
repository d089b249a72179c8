#include "change.h"

#include "base/mem.h"
#include "give_up.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FILE_MAX_BYTES = 16 << 20 };

/* Its exit status; -1 where it cannot be run. */
static int run_program(const char *path)
{
    pid_t child;
    int status;
    char *const arguments[] = {(char *)(uintptr_t)path, NULL};
    if (posix_spawn(&child, path, NULL, NULL, arguments, environ) ||
        waitpid(child, &status, 0) != child)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void add(struct changes *c, const char *name, struct change change)
{
    size_t len = strcspn(name, ".");
    if (len >= sizeof change.name || c->len == CHANGE_KINDS_MAX)
        give_up("--change, --swap", "the names are too long or too many");
    memcpy(change.name, name, len);
    c->list[c->len++] = change;
}

void changes_read(struct changes *c, const char *const *programs, const char *const *swaps)
{
    for (size_t i = 0; programs[i]; i++) {
        const char *slash = strrchr(programs[i], '/'), *name = slash ? slash + 1 : programs[i];
        add(c, name, (struct change){.program = programs[i]});
    }
    for (size_t i = 0; swaps[i]; i++) {
        struct osm_err err = {0};
        const char *colon = strchr(swaps[i], ':');
        if (!colon)
            give_up(swaps[i], "expected FILE:OTHER");
        struct change change = {.file = osm_strndup(swaps[i], (size_t)(colon - swaps[i])),
                                .next = osm_strf("%s.next", colon + 1)};
        const char *slash = strrchr(change.file, '/'), *name = slash ? slash + 1 : change.file;
        const char *from[2] = {colon + 1, change.file};
        for (int k = 0; k < 2; k++) {
            change.contents[k] = (struct osm_buf)OSM_BUF_INIT(FILE_MAX_BYTES);
            if (osm_buf_read_file(&change.contents[k], from[k], &err))
                give_up("--swap", err.msg);
        }
        add(c, name, change);
    }
}

void change_prepare(struct change *c)
{
    if (!c->file)
        return;
    const struct osm_buf *contents = &c->contents[c->turn++ % 2];
    FILE *file = fopen(c->next, "w");
    if (!file || fwrite(contents->data, 1, contents->len, file) != contents->len || fclose(file))
        give_up(c->next, strerror(errno));
}

void change_make(const struct change *c)
{
    if (c->program && run_program(c->program))
        give_up(c->program, "failed; it makes the change, so its own words say why");
    if (c->file && rename(c->next, c->file))
        give_up(c->file, strerror(errno));
}

void changes_clear(struct changes *c)
{
    for (size_t i = 0; i < c->len; i++) {
        osm_free(c->list[i].file);
        osm_free(c->list[i].next);
        osm_buf_clear(&c->list[i].contents[0]);
        osm_buf_clear(&c->list[i].contents[1]);
    }
    c->len = 0;
}
