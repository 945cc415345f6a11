/* A plugin of QEMU (docs/devel/tcg-plugins.rst there) that counts the instructions from an image's entry to the first one of its
 * dom0, a kernel that runs where Linux does; then QEMU ends. Arguments: entry, the address in hexadecimal, and out, the file to which
 * the count goes; blocks, if given, a file for lines as count.c writes them. Time has to count instructions (-icount), so that there is
 * one thread. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct qemu_plugin_tb;
typedef void (*executed)(unsigned cpu, void *data);
extern void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*translated)(uint64_t id, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, executed, int flags, void *data);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);

int qemu_plugin_version = 4;

struct block {
    uint64_t address, instructions, executions;
    struct block *next;
};

/* Where Linux has its image. */
static const uint64_t kernel = 0xffffffff80000000;
static uint64_t entry;
static int begun;
static const char *file_name, *blocks_name;
static struct block *blocks;

static void count(unsigned cpu, void *data)
{
    (void)cpu;
    ((struct block *)data)->executions += begun;
}

static void begin(unsigned cpu, void *data)
{
    begun = 1;
    count(cpu, data);
}

static void end(unsigned cpu, void *data)
{
    (void)cpu;
    (void)data;
    if (!begun)
        return;
    uint64_t total = 0;
    FILE *lines = blocks_name ? fopen(blocks_name, "w") : NULL;
    for (struct block *block = blocks; block; block = block->next) {
        total += block->instructions * block->executions;
        if (lines && block->executions)
            fprintf(lines, "%" PRIx64 " %" PRIu64 " %" PRIu64 "\n", block->address, block->instructions, block->executions);
    }
    if (lines)
        fclose(lines);
    FILE *file = fopen(file_name, "w");
    if (file) {
        fprintf(file, "%" PRIu64 "\n", total);
        fclose(file);
    }
    _exit(0);
}

static void translated(uint64_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    struct block *block = calloc(1, sizeof *block);
    if (!block)
        return;
    block->address = qemu_plugin_tb_vaddr(tb);
    block->instructions = qemu_plugin_tb_n_insns(tb);
    block->next = blocks;
    blocks = block;
    executed then = block->address == entry ? begin : block->address >= kernel ? end : count;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, then, 0, block);
}

int qemu_plugin_install(uint64_t id, const void *info, int count_of_arguments, char **arguments)
{
    (void)info;
    for (int i = 0; i < count_of_arguments; i++) {
        if (!strncmp(arguments[i], "entry=", 6))
            entry = strtoull(arguments[i] + 6, NULL, 16);
        if (!strncmp(arguments[i], "out=", 4))
            file_name = strdup(arguments[i] + 4);
        if (!strncmp(arguments[i], "blocks=", 7))
            blocks_name = strdup(arguments[i] + 7);
    }
    if (!entry || !file_name)
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
