/*
 * Agreement between ranks, and the checks at start-up, all built from the plain collectives.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "runtime/base/program.h"
#include "runtime/base/strbuf.h"
#include "runtime/comm/comm.h"
#include "runtime/comm/comm_impl.h"

/* Zeroed memory, or NULL with the message recorded. */
static void *allocate(const char *label, size_t bytes)
{
    void *block = calloc(1, bytes ? bytes : 1);
    if (!block) status_fail(STATUS_NO_MEMORY, "'%s': no memory for %zu bytes", label, bytes);
    return block;
}

enum status comm_agree(struct comm *comm, const char *label, int64_t value,
                       struct comm_agreed *agreed)
{
    int64_t *values = allocate(label, (size_t)comm->size * sizeof *values);
    if (!values) return STATUS_NO_MEMORY;
    enum status status = comm_allgather(comm, label, &value, values, 1, NULL, COMM_I64);
    if (status == STATUS_OK) {
        *agreed = (struct comm_agreed){values[0], values[0], 0, 0, -1};
        for (int r = 0; r < comm->size; r++) {
            if (values[r] < agreed->min) agreed->min = values[r];
            if (values[r] > agreed->max) agreed->max = values[r];
            agreed->sum = (int64_t)((uint64_t)agreed->sum + (uint64_t)values[r]);
            agreed->any |= values[r];
            agreed->all &= values[r];
        }
    }
    free(values);
    return status;
}

/*
 * Gathers strings of any length on every rank: `texts` (one block, the caller frees it) is an array
 * of `size` pointers followed by the text.
 */
static enum status gather_strings_everywhere(struct comm *comm, const char *label, const char *text,
                                             int64_t length, char ***texts, int64_t *lengths)
{
    int64_t with_nul = length + 1;
    TRY(comm_allgather(comm, label, &with_nul, lengths, 1, NULL, COMM_I64));
    int64_t total = 0;
    for (int r = 0; r < comm->size; r++) {
        total += lengths[r];
    }
    size_t head = (size_t)comm->size * sizeof **texts;
    char **block = allocate(label, head + (size_t)total);
    if (!block) return STATUS_NO_MEMORY;
    char *at = (char *)block + head;
    enum status status = comm_allgather(comm, label, text, at, 0, lengths, COMM_U8);
    if (status != STATUS_OK) {
        free(block);
        return status;
    }
    for (int r = 0; r < comm->size; r++) {
        block[r] = at;
        at += lengths[r];
    }
    *texts = block;
    return STATUS_OK;
}

enum status comm_gather_strings(struct comm *comm, const char *label, const char *text,
                                char ***texts)
{
    *texts = NULL;
    int64_t length = (int64_t)strlen(text) + 1;
    int64_t *counts = allocate(label, 2 * (size_t)comm->size *
                                          sizeof *counts); /* send counts, then receive counts */
    if (!counts) return STATUS_NO_MEMORY;
    int64_t *lengths = counts + comm->size;
    counts[0] = length;
    char **block = NULL;
    enum status status = STATUS_OK;
    TRY_GOTO(status, comm_exchange_counts(comm, label, counts, lengths), done);
    int64_t total = 0;
    for (int r = 0; r < comm->size; r++) {
        total += lengths[r];
    }
    size_t head = comm->rank == 0 ? (size_t)comm->size * sizeof *block : 0;
    block = allocate(label, head + (size_t)total);
    if (!block) {
        status = STATUS_NO_MEMORY;
        goto done;
    }
    char *at = (char *)block + head;
    TRY_GOTO(status, comm_exchange(comm, label, text, counts, at, lengths, COMM_U8), done);
    if (comm->rank == 0) {
        for (int r = 0; r < comm->size; r++) {
            block[r] = at;
            at += lengths[r];
        }
        *texts = block;
        block = NULL;
    }
done:
    free(block);
    free(counts);
    return status;
}

enum status comm_agree_status(struct comm *comm, const char *label, enum status mine)
{
    if (comm->size == 1) return mine;
    char *message = NULL;
    if (mine != STATUS_OK) {
        message = strdup(status_message());
        CHECK(message, STATUS_NO_MEMORY, "'%s': no memory for a message", label);
    }
    struct comm_agreed agreed;
    int64_t vote = mine == STATUS_OK ? comm->size : comm->rank;
    enum status status = comm_agree(comm, label, vote, &agreed);
    if (status != STATUS_OK || agreed.min == comm->size) goto done;
    /* The lowest failing rank tells its status and message. */
    int root = (int)agreed.min;
    struct {
        int64_t status;
        char text[1016];
    } verdict = {0, ""};
    if (comm->rank == root) {
        verdict.status = mine;
        snprintf(verdict.text, sizeof verdict.text, "%s", message);
    }
    TRY_GOTO(status, comm_broadcast(comm, label, &verdict, sizeof verdict, COMM_U8, root), done);
    verdict.text[sizeof verdict.text - 1] = '\0';
    if (mine != STATUS_OK) {
        status = status_fail(mine, "%s", message);
    } else {
        status = status_fail((enum status)verdict.status, "rank %d: %s", root, verdict.text);
    }
done:
    free(message);
    return status;
}

/* ---- equal bytes ---- */

struct digest {
    uint64_t hash;
    int64_t size;
};

/* Lists the ranks whose digest is not rank 0's, as "1, 3 and 12 more". */
static int list_different(const struct comm *comm, const struct digest *digests,
                          struct strbuf *text)
{
    enum { SHOWN = 8 };
    int different = 0;
    for (int r = 1; r < comm->size; r++) {
        if (digests[r].hash == digests[0].hash && digests[r].size == digests[0].size) continue;
        if (different < SHOWN) strbuf_printf(text, "%s%d", different ? ", " : "", r);
        different++;
    }
    if (different > SHOWN) strbuf_printf(text, " and %d more", different - SHOWN);
    return different;
}

enum status comm_agree_bytes(struct comm *comm, const char *label, const void *bytes, int64_t size)
{
    if (comm->size == 1) return STATUS_OK;
    struct digest mine = {XXH3_64bits(bytes, (size_t)size), size};
    struct digest *digests = allocate(label, (size_t)comm->size * sizeof *digests);
    if (!digests) return STATUS_NO_MEMORY;
    struct strbuf ranks = {0};
    enum status status = STATUS_OK;
    TRY_GOTO(status, comm_allgather(comm, label, &mine, digests, sizeof mine, NULL, COMM_U8), done);
    int different = list_different(comm, digests, &ranks);
    CHECK_GOTO(different == 0, status, done, STATUS_INVALID,
               "'%s' must be the same on all ranks; different from rank 0's on rank%s %s", label,
               different > 1 ? "s" : "", ranks.failed ? "?" : ranks.text);
done:
    strbuf_fini(&ranks);
    free(digests);
    return status;
}

/* ---- start-up ---- */

enum status comm_check_launched_size(int size)
{
    /* The nearest launcher first: it knows best how many it started. */
    static const struct {
        const char *variable;
        const char *remedy;
    } rows[] = {
        {"OMPI_COMM_WORLD_SIZE", "the program and mpirun are of different MPI installations"},
        {"PMI_SIZE", "this build's MPI does not speak the launcher's PMI; try `srun --mpi=pmix` or "
                     "start it with mpirun"},
        {"SLURM_STEP_NUM_TASKS", "start it with `srun --mpi=pmix` or mpirun, or as one task "
                                 "(`srun --ntasks=1`)"},
        {"SLURM_NTASKS", "start it with `srun --mpi=pmix` or mpirun, or ask for one task "
                         "(`--ntasks=1`)"},
    };
    if (size > 1) return STATUS_OK;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *text = getenv(rows[i].variable);
        if (!text) continue;
        long promised = strtol(text, NULL, 10);
        CHECK(promised <= 1, STATUS_INVALID,
              "this process is alone although %s=%ld promises %ld ranks: %s", rows[i].variable,
              promised, promised, rows[i].remedy);
        return STATUS_OK;
    }
    return STATUS_OK;
}

static enum status hash_executable(uint64_t *hash)
{
    const char *path = program_file();
    int file = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(file >= 0, STATUS_IO, "%s: cannot open the running program to identify its build", path);
    struct stat info;
    void *bytes = MAP_FAILED;
    if (fstat(file, &info) == 0 && info.st_size > 0)
        bytes = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    close(file);
    CHECK(bytes != MAP_FAILED, STATUS_IO,
          "%s: cannot read the running program to identify its "
          "build",
          path);
    *hash = XXH3_64bits(bytes, (size_t)info.st_size);
    munmap(bytes, (size_t)info.st_size);
    return STATUS_OK;
}

enum status comm_check_builds(struct comm *comm, const char *build_id)
{
    static const char label[] = "check of builds";
    if (comm->size == 1) return STATUS_OK;
    char mine[160];
    if (build_id) {
        snprintf(mine, sizeof mine, "%s", build_id);
    } else {
        uint64_t hash = 0;
        enum status status = hash_executable(&hash);
        TRY(comm_agree_status(comm, label, status));
        snprintf(mine, sizeof mine, "%016llx", (unsigned long long)hash);
    }
    int64_t *lengths = allocate(label, (size_t)comm->size * sizeof *lengths);
    if (!lengths) return STATUS_NO_MEMORY;
    char **ids = NULL;
    struct strbuf text = {0};
    enum status status;
    char here[256];
    snprintf(here, sizeof here, "%s on %s", mine, comm->host);
    TRY_GOTO(status,
             gather_strings_everywhere(comm, label, here, (int64_t)strlen(here), &ids, lengths),
             done);
    size_t first_length = strcspn(ids[0], " ");
    for (int r = 1; r < comm->size; r++) {
        bool is_same =
            strcspn(ids[r], " ") == first_length && strncmp(ids[r], ids[0], first_length) == 0;
        if (!is_same) strbuf_printf(&text, "; rank %d has %s", r, ids[r]);
    }
    CHECK_GOTO(!text.length, status, done, STATUS_INVALID,
               "the ranks run different builds: rank 0 has %s%s; start the same program everywhere",
               ids[0], text.text);
done:
    strbuf_fini(&text);
    free(ids);
    free(lengths);
    return status;
}
