#include "runtime/comm/heartbeat.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/comm/comm_impl.h"

enum { PATH_SIZE = 256 };

/* Relaxed is enough: each field stands for itself, and the reader looks again at the next tick. */
#define LOAD(field)         atomic_load_explicit(&(field), memory_order_relaxed)
#define STORE(field, value) atomic_store_explicit(&(field), (value), memory_order_relaxed)

void beat_read(const struct beat_slot *slot, int rank, struct beat *beat)
{
    *beat = (struct beat){
        .rank = rank,
        .state = (int16_t)atomic_load_explicit(&slot->state, memory_order_acquire),
        .phase = (int16_t)LOAD(slot->phase),
        .count = LOAD(slot->count),
        .step = LOAD(slot->step),
        .call = LOAD(slot->call),
        .waited_ms = LOAD(slot->waited_ms),
        .limit_ms = LOAD(slot->limit_ms),
        .culprit = LOAD(slot->culprit),
    };
    for (int i = 0; i < BEAT_LABEL_SIZE / 8; i++) {
        uint64_t word = LOAD(slot->label[i]);
        memcpy(beat->label + (size_t)i * 8, &word, 8);
    }
    beat->label[BEAT_LABEL_SIZE - 1] = '\0';
}

void beat_set_label(struct beat_slot *slot, const char *label)
{
    char padded[BEAT_LABEL_SIZE] = "";
    memcpy(padded, label, strnlen(label, sizeof padded - 1));
    for (int i = 0; i < BEAT_LABEL_SIZE / 8; i++) {
        uint64_t word;
        memcpy(&word, padded + (size_t)i * 8, 8);
        STORE(slot->label[i], word);
    }
}

void beat_raise_state(struct beat_slot *slot, enum beat_state state)
{
    int old = LOAD(slot->state);
    while (old < BEAT_FINISHED && old < (int)state &&
           !atomic_compare_exchange_weak(&slot->state, &old, (int)state)) {
    }
}

void beat_write(struct beat_slot *slot, const struct beat *beat)
{
    STORE(slot->phase, beat->phase);
    STORE(slot->count, beat->count);
    STORE(slot->step, beat->step);
    STORE(slot->call, beat->call);
    STORE(slot->waited_ms, beat->waited_ms);
    STORE(slot->limit_ms, beat->limit_ms);
    STORE(slot->culprit, beat->culprit);
    char label[BEAT_LABEL_SIZE];
    memcpy(label, beat->label, sizeof label);
    label[sizeof label - 1] = '\0';
    beat_set_label(slot, label);
    if (beat->state > BEAT_UNKNOWN && beat->state <= BEAT_DEAD)
        beat_raise_state(slot, (enum beat_state)beat->state);
}

void beat_set_process(struct beat_slot *slot)
{
    struct stat info;
    bool is_known = stat("/proc/self/ns/pid", &info) == 0;
    STORE(slot->pid_namespace, is_known ? (uint64_t)info.st_ino : 0);
    STORE(slot->pid, (int)getpid());
}

/* ---- the table ---- */

static size_t table_bytes(int size)
{
    return (size_t)size * sizeof(struct beat_slot);
}

static enum status map_file(int file, const char *path, int size, struct beat_slot **slots)
{
    void *memory = mmap(NULL, table_bytes(size), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    CHECK(memory != MAP_FAILED, STATUS_IO, "%s: cannot map the heartbeat table: %s", path,
          strerror(errno));
    *slots = memory;
    return STATUS_OK;
}

/* Makes the file in the first folder that takes it; memory is preferred to a disk. */
static enum status create_table(int size, char *path, struct beat_slot **slots)
{
    const char *folders[] = {"/dev/shm", getenv("TMPDIR"), "/tmp"};
    int problem = ENOENT;
    path[0] = '\0';
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        if (!folders[i] || strlen(folders[i]) > PATH_SIZE - 32) continue;
        char name[PATH_SIZE];
        snprintf(name, sizeof name, "%s/weft-beat-XXXXXX", folders[i]);
        int file = mkostemp(name, O_CLOEXEC);
        if (file < 0) {
            problem = errno;
            continue;
        }
        /* Reserved now: a full file system must not become a bus error later. */
        problem = posix_fallocate(file, 0, (off_t)table_bytes(size));
        enum status status = problem ? STATUS_IO : map_file(file, name, size, slots);
        close(file);
        if (status == STATUS_OK) {
            memcpy(path, name, sizeof name);
            return STATUS_OK;
        }
        unlink(name);
    }
    return status_fail(STATUS_IO,
                       "cannot make the heartbeat table (%zu bytes) in /dev/shm, TMPDIR or /tmp: "
                       "%s; set TMPDIR to a folder on this host with space",
                       table_bytes(size), strerror(problem));
}

static enum status open_table(const struct comm *comm, const char *path, struct beat_slot **slots)
{
    int file = open(path, O_RDWR | O_CLOEXEC);
    CHECK(file >= 0, STATUS_IO,
          "%s on %s: cannot open the heartbeat table of rank %d: %s; set TMPDIR to a folder that "
          "all ranks of a host share",
          path, comm->host, comm->leader, strerror(errno));
    enum status status = map_file(file, path, comm->size, slots);
    close(file);
    return status;
}

enum status beat_table_map(struct comm *comm, struct beat_slot **slots)
{
    static const char label[] = "heartbeat table";
    *slots = NULL;
    bool is_leader = comm->leader == comm->rank;
    char path[PATH_SIZE] = "";
    char *paths = calloc((size_t)comm->size, PATH_SIZE);
    enum status status = STATUS_OK;
    CHECK_GOTO(paths, status, agree, STATUS_NO_MEMORY, "no memory for %d paths", comm->size);
    if (is_leader) status = create_table(comm->size, path, slots);
agree:
    TRY_GOTO(status, comm_agree_status(comm, label, status), fail);
    TRY_GOTO(status, comm_allgather(comm, label, path, paths, PATH_SIZE, NULL, COMM_U8), fail);
    if (!is_leader) status = open_table(comm, paths + (size_t)comm->leader * PATH_SIZE, slots);
    TRY_GOTO(status, comm_agree_status(comm, label, status), fail);
    if (path[0]) unlink(path);
    free(paths);
    return STATUS_OK;
fail:
    if (path[0]) unlink(path);
    beat_table_unmap(slots, comm->size);
    free(paths);
    return status;
}

void beat_table_unmap(struct beat_slot **slots, int size)
{
    if (!*slots) return;
    munmap(*slots, table_bytes(size));
    *slots = NULL;
}
