/*
 * See binding.h. What a rank knows of itself is gathered, and every rank draws the same conclusions
 * from it, so that a refusal is that of all.
 */
#include "runtime/backend/cuda/binding.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- lists of processors ---- */

bool cpu_list_parse(const char *text, cpu_set_t *set)
{
    CPU_ZERO(set);
    while (isdigit((unsigned char)*text)) {
        char *end = NULL;
        long first = strtol(text, &end, 10);
        long last = first;
        if (*end == '-') last = strtol(end + 1, &end, 10);
        if (first < 0 || last < first || last >= CPU_SETSIZE) return false;
        for (long cpu = first; cpu <= last; cpu++) {
            CPU_SET((size_t)cpu, set);
        }
        text = end + (*end == ',');
    }
    return (*text == '\0' || *text == '\n') && CPU_COUNT(set) > 0;
}

void cpu_list_format(const cpu_set_t *set, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, set)) continue;
        int last = cpu;
        while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, set)) {
            last++;
        }
        char range[32];
        snprintf(range, sizeof range, last > cpu ? "%s%d-%d" : "%s%d", used ? "," : "", cpu, last);
        if (used + strlen(range) >= size) return;
        strcpy(text + used, range);
        used += strlen(range);
        cpu = last;
    }
}

static bool read_list(const char *path, cpu_set_t *set)
{
    char line[1024];
    FILE *file = fopen(path, "r");
    if (!file) return false;
    bool found = fgets(line, sizeof line, file) && cpu_list_parse(line, set);
    fclose(file);
    return found;
}

bool cpu_list_nearest(const char *sysfs, const char *bus, cpu_set_t *set)
{
    char path[512];
    snprintf(path, sizeof path, "%s/bus/pci/devices/%s/local_cpulist", sysfs, bus);
    return read_list(path, set);
}

/* The first hardware thread of the core that `cpu` belongs to. */
static int core_of(const char *sysfs, int cpu)
{
    char path[512];
    cpu_set_t set;
    snprintf(path, sizeof path, "%s/devices/system/cpu/cpu%d/topology/thread_siblings_list", sysfs,
             cpu);
    if (!read_list(path, &set)) return cpu;
    int first = 0;
    while (!CPU_ISSET(first, &set)) {
        first++;
    }
    return first;
}

struct placed {
    int core, cpu;
};

static int by_core(const void *a, const void *b)
{
    const struct placed *p = a;
    const struct placed *q = b;
    return p->core != q->core ? p->core - q->core : p->cpu - q->cpu;
}

bool cpu_list_share(const char *sysfs, const cpu_set_t *set, int index, int count, cpu_set_t *share)
{
    struct placed order[CPU_SETSIZE];
    int total = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, set)) order[total++] = (struct placed){core_of(sysfs, cpu), cpu};
    }
    CPU_ZERO(share);
    if (total < count) return false;
    qsort(order, (size_t)total, sizeof *order, by_core);
    for (int i = total * index / count; i < total * (index + 1) / count; i++) {
        CPU_SET((size_t)order[i].cpu, share);
    }
    return true;
}

#if defined(WEFT_CUDA)

#include "runtime/backend/cuda/device.h"
#include "runtime/comm/comm.h"

static char text[512];

const char *cuda_binding_text(void)
{
    return text;
}

/* What the ranks tell each other. */
struct place {
    char uuid[40];
    char name[256];
    int device;
    cpu_set_t allowed; /* processors before anything was bound here */
    cpu_set_t pool;    /* of these, the nearest to the GPU */
};

/* ---- the GPU ---- */

static enum status choose(const struct comm *comm)
{
    int count = 0;
    if (cuda_device_used(NULL) >= 0) return cuda_device_ready();
    int local_rank = comm ? comm->local_rank : 0;
    TRY(cuda_device_count(&count));
    CHECK(count == 1 || local_rank < count, STATUS_INVALID,
          "%s shows its ranks %d GPUs, but has %d ranks, and each needs its own; start at most %d "
          "on a host, or show it more (CUDA_VISIBLE_DEVICES)",
          comm->host, count, comm->local_size, count);
    return cuda_device_use(count == 1 ? 0 : local_rank);
}

static enum status check_different(const struct comm *comm, const struct place *places)
{
    for (int r = 0; r < comm->size; r++) {
        for (int other = 0; other < r; other++) {
            if (strcmp(places[r].uuid, places[other].uuid) != 0) continue;
            return status_fail(
                STATUS_INVALID,
                "ranks %d and %d on %s have the same GPU (%s, %s), and each needs its own: start "
                "fewer ranks on the host, or show each another one (CUDA_VISIBLE_DEVICES; with "
                "Slurm --gpus-per-task=1)",
                other, r, comm->hosts[r], places[r].name, places[r].uuid);
        }
    }
    return STATUS_OK;
}

/* ---- cores ---- */

static void find_cores(struct place *place, const struct cuda_device *device)
{
    cpu_set_t nearest;
    CPU_ZERO(&place->allowed);
    CPU_ZERO(&place->pool);
    if (sched_getaffinity(0, sizeof place->allowed, &place->allowed) != 0) return;
    if (!cpu_list_nearest("/sys", device->bus, &nearest)) return;
    CPU_AND(&place->pool, &place->allowed, &nearest);
}

/* A launcher that binds gives ranks different cores, or one rank fewer than there are. */
static bool is_bound(const struct comm *comm, const struct place *places, int rank)
{
    if (CPU_COUNT(&places[rank].allowed) >= (int)sysconf(_SC_NPROCESSORS_ONLN)) return false;
    for (int r = 0; comm && r < comm->size; r++) {
        cpu_set_t both;
        if (r == rank || comm->leaders[r] != comm->leader) continue;
        CPU_AND(&both, &places[r].allowed, &places[rank].allowed);
        if (CPU_COUNT(&both) > 0) return false;
    }
    return true;
}

/* Binds this thread; `what` says what was done. */
static void bind_cores(const struct comm *comm, const struct place *places, char *what, size_t size)
{
    int rank = comm ? comm->rank : 0;
    const struct place *own = &places[rank];
    char list[128];
    cpu_set_t share;
    int index = 0;
    int count = 0;
    if (is_bound(comm, places, rank)) {
        cpu_list_format(&own->allowed, list, sizeof list);
        snprintf(what, size, "cores %s as the launcher gave them", list);
        return;
    }
    for (int r = 0; r < (comm ? comm->size : 1); r++) {
        if (comm && comm->leaders[r] != comm->leader) continue;
        if (!CPU_EQUAL(&places[r].pool, &own->pool)) continue;
        index += r < rank;
        count++;
    }
    if (CPU_COUNT(&own->pool) == 0 || !cpu_list_share("/sys", &own->pool, index, count, &share) ||
        sched_setaffinity(0, sizeof share, &share) != 0) {
        snprintf(what, size, "cores as they were: which are near to it is not known");
        if (CPU_COUNT(&own->pool) > 0) snprintf(what, size, "cores as they were: too few for all");
        return;
    }
    cpu_list_format(&share, list, sizeof list);
    snprintf(what, size, "cores %s nearest to it", list);
}

enum status cuda_bind(struct comm *comm, bool cores)
{
    struct place own = {0};
    struct cuda_device device;
    enum status status = choose(comm);
    bool is_many = comm && comm->size > 1;
    if (is_many) status = comm_agree_status(comm, "GPUs", status);
    TRY(status);
    own.device = cuda_device_used(&device);
    snprintf(own.uuid, sizeof own.uuid, "%s", device.uuid);
    snprintf(own.name, sizeof own.name, "%s", device.name);
    find_cores(&own, &device);
    struct place *places = &own;
    if (is_many) {
        places = calloc((size_t)comm->size, sizeof *places);
        status = places ? STATUS_OK : status_fail(STATUS_NO_MEMORY, "out of memory");
        TRY_GOTO(status, comm_agree_status(comm, "GPUs", status), done);
        TRY_GOTO(status,
                 comm_allgather(comm, "GPUs", &own, places, (int64_t)sizeof own, NULL, COMM_U8),
                 done);
        TRY_GOTO(status, check_different(comm, places), done);
    }
    if (cores) {
        char what[256];
        bind_cores(is_many ? comm : NULL, places, what, sizeof what);
        snprintf(text, sizeof text, "GPU %d %.200s (%s), %s", own.device, device.name, device.bus,
                 what);
    }
done:
    if (places != &own) free(places);
    return status;
}

#endif
