/* A plugin of QEMU (docs/devel/tcg-plugins.rst there) that counts the instructions from an image's entry to the first one of its
 * dom0, a kernel that runs where Linux does; then QEMU ends. Arguments: entry, the address in hexadecimal, and out, the file to which
 * the count goes. Time has to count instructions (-icount), so that there is one thread. */
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

/* Where Linux has its image. */
static const uint64_t kernel = 0xffffffff80000000;
static uint64_t entry, total;
static int begun;
static const char *file_name;

static void count(unsigned cpu, void *data)
{
    (void)cpu;
    total += (uintptr_t)data;
}

static void begin(unsigned cpu, void *data)
{
    count(cpu, data);
    if (begun)
        return;
    begun = 1;
    total = (uintptr_t)data;
}

static void end(unsigned cpu, void *data)
{
    (void)cpu;
    (void)data;
    if (!begun)
        return;
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
    uint64_t address = qemu_plugin_tb_vaddr(tb);
    executed then = address == entry ? begin : address >= kernel ? end : count;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, then, 0, (void *)(uintptr_t)qemu_plugin_tb_n_insns(tb));
}

int qemu_plugin_install(uint64_t id, const void *info, int count_of_arguments, char **arguments)
{
    (void)info;
    for (int i = 0; i < count_of_arguments; i++) {
        if (!strncmp(arguments[i], "entry=", 6))
            entry = strtoull(arguments[i] + 6, NULL, 16);
        if (!strncmp(arguments[i], "out=", 4))
            file_name = strdup(arguments[i] + 4);
    }
    if (!entry || !file_name)
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
