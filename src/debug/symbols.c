#include "debug/symbols.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct symbol {
    uintptr_t begin, size;
    const char *name; /* in the mapped file */
};

struct osm_symbols {
    uintptr_t base; /* where the program lies */
    void *file;     /* MAP_FAILED: not read */
    size_t file_len;
    struct symbol *list; /* by address */
    size_t len;
    char text[256];
};

static int by_address(const void *a, const void *b)
{
    const struct symbol *x = a, *y = b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

/* Whether the file holds `n` things of `size` bytes at `at`. */
static bool is_inside(const struct osm_symbols *s, uint64_t at, uint64_t n, uint64_t size)
{
    return at <= s->file_len && n <= (s->file_len - at) / size;
}

static int take_table(struct osm_symbols *s, const Elf64_Shdr *table, const Elf64_Shdr *names)
{
    const char *bytes = s->file;
    size_t n = table->sh_size / sizeof(Elf64_Sym);
    if (!is_inside(s, table->sh_offset, n, sizeof(Elf64_Sym)) ||
        !is_inside(s, names->sh_offset, names->sh_size, 1) || !names->sh_size ||
        bytes[names->sh_offset + names->sh_size - 1])
        return 0;
    const Elf64_Sym *symbols = (const Elf64_Sym *)(const void *)(bytes + table->sh_offset);
    s->list = osm_alloc_array(n + 1, sizeof *s->list);
    if (!s->list)
        return OSM_ENOMEM;
    for (size_t i = 0; i < n; i++)
        if (ELF64_ST_TYPE(symbols[i].st_info) == STT_FUNC && symbols[i].st_size &&
            symbols[i].st_name < names->sh_size)
            s->list[s->len++] = (struct symbol){symbols[i].st_value, symbols[i].st_size,
                                                bytes + names->sh_offset + symbols[i].st_name};
    qsort(s->list, s->len, sizeof *s->list, by_address);
    return 0;
}

static int read_tables(struct osm_symbols *s)
{
    const Elf64_Ehdr *head = s->file;
    if (s->file_len < sizeof *head || memcmp(head->e_ident, ELFMAG, SELFMAG) != 0 ||
        head->e_ident[EI_CLASS] != ELFCLASS64 || head->e_shentsize != sizeof(Elf64_Shdr) ||
        !is_inside(s, head->e_shoff, head->e_shnum, sizeof(Elf64_Shdr)))
        return 0;
    const Elf64_Shdr *sections =
        (const Elf64_Shdr *)(const void *)((const char *)s->file + head->e_shoff);
    for (size_t i = 0; i < head->e_shnum; i++)
        if (sections[i].sh_type == SHT_SYMTAB && sections[i].sh_link < head->e_shnum)
            return take_table(s, &sections[i], &sections[sections[i].sh_link]);
    return 0; /* stripped */
}

static void map_program(struct osm_symbols *s)
{
    struct stat st;
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && !fstat(fd, &st) && st.st_size > 0) {
        s->file_len = (size_t)st.st_size;
        s->file = mmap(NULL, s->file_len, PROT_READ, MAP_PRIVATE, fd, 0);
    }
    if (fd >= 0)
        (void)close(fd);
}

/* The program itself is the first. */
static int take_base(struct dl_phdr_info *info, size_t size, void *ud)
{
    struct osm_symbols *s = ud;
    (void)size;
    s->base = info->dlpi_addr;
    return 1;
}

struct osm_symbols *osm_symbols_new(void)
{
    struct osm_symbols *s = osm_alloc(sizeof *s);
    if (!s)
        return NULL;
    s->file = MAP_FAILED;
    (void)dl_iterate_phdr(take_base, s);
    map_program(s);
    if (s->file != MAP_FAILED && read_tables(s)) {
        osm_symbols_free(s);
        return NULL;
    }
    return s;
}

void osm_symbols_free(struct osm_symbols *s)
{
    if (!s)
        return;
    if (s->file != MAP_FAILED)
        (void)munmap(s->file, s->file_len);
    osm_free(s->list);
    osm_free(s);
}

static const char *find(const struct osm_symbols *s, uintptr_t address)
{
    size_t low = 0, high = s->len;
    while (low < high) { /* the first that begins behind it */
        size_t middle = low + (high - low) / 2;
        if (s->list[middle].begin <= address)
            low = middle + 1;
        else
            high = middle;
    }
    const struct symbol *before = low ? &s->list[low - 1] : NULL;
    return before && address - before->begin < before->size ? before->name : NULL;
}

const char *osm_symbols_name(struct osm_symbols *s, uintptr_t address)
{
    Dl_info info;
    const char *name = find(s, address - s->base);
    if (name)
        return name;
    if (!dladdr((const void *)address, &info) || !info.dli_fname) {
        (void)snprintf(s->text, sizeof s->text, "0x%zx", (size_t)address);
        return s->text;
    }
    if (info.dli_sname)
        return info.dli_sname;
    const char *slash = strrchr(info.dli_fname, '/');
    (void)snprintf(s->text, sizeof s->text, "%s+0x%zx", slash ? slash + 1 : info.dli_fname,
                   (size_t)(address - (uintptr_t)info.dli_fbase));
    return s->text;
}
