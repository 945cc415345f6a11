/* A plugin of QEMU (docs/devel/tcg-plugins.rst there) that counts how often blocks of instructions run. Arguments: log, the serial
 * log to watch, and out, the folder of the results. When the log has the line "profile: begin", "profile: end", and when
 * QEMU ends, the counts so far go to files named begin, end and exit, in lines: address in hexadecimal, instructions,
 * executions. Counts of several threads at once would be wrong, so time has to count instructions (-icount). */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct qemu_plugin_tb;
typedef void (*executed)(unsigned cpu, void *data);
extern void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*translated)(uint64_t id, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, executed, int flags, void *data);
extern void qemu_plugin_register_atexit_cb(uint64_t id, void (*ended)(uint64_t id, void *data), void *data);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);

int qemu_plugin_version = 4;

struct block {
    uint64_t address, instructions, executions;
    struct block *next;
};

static struct block *_Atomic blocks;
static const char *log_file, *folder;

static void count(unsigned cpu, void *data)
{
    (void)cpu;
    ++((struct block *)data)->executions;
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
    qemu_plugin_register_vcpu_tb_exec_cb(tb, count, 0, block);
}

static void write_counts(const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    if (!file)
        return;
    for (struct block *block = blocks; block; block = block->next)
        if (block->executions)
            fprintf(file, "%" PRIx64 " %" PRIu64 " %" PRIu64 "\n", block->address, block->instructions, block->executions);
    fclose(file);
}

/* Writes the counts once the log has this line. */
static void await(const char *line, const char *name)
{
    char text[4096];
    for (;;) {
        FILE *file = fopen(log_file, "r");
        while (file && fgets(text, sizeof text, file))
            if (strstr(text, line)) {
                fclose(file);
                write_counts(name);
                return;
            }
        if (file)
            fclose(file);
        usleep(20000);
    }
}

static void *watch(void *data)
{
    (void)data;
    await("profile: begin", "begin");
    await("profile: end", "end");
    return NULL;
}

static void ended(uint64_t id, void *data)
{
    (void)id;
    (void)data;
    write_counts("exit");
}

int qemu_plugin_install(uint64_t id, const void *info, int count_of_arguments, char **arguments)
{
    (void)info;
    for (int i = 0; i < count_of_arguments; i++) {
        if (!strncmp(arguments[i], "log=", 4))
            log_file = strdup(arguments[i] + 4);
        if (!strncmp(arguments[i], "out=", 4))
            folder = strdup(arguments[i] + 4);
    }
    if (!log_file || !folder)
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    pthread_t thread;
    return pthread_create(&thread, NULL, watch, NULL);
}
