/*
 * All-reduce of f32 between two ranks of this machine, in GB/s of the buffer, beside MPI_Allreduce
 * of the same buffer. Starts itself again under mpirun. Both give way to other processes while they
 * wait; on a shared machine the one that spins would win over its neighbours.
 */
#include <mpi.h>
#include <unistd.h>

#include "bench/bench.h"
#include "runtime/comm/comm.h"
#include "runtime/comm/comm_mpi.h"

enum { ROUNDS = 7 };

/* Seconds of one all-reduce, the slowest rank's. */
static double measure(struct comm *comm, float *data, int64_t count, int repeats, int is_library)
{
    MPI_Comm world = comm_mpi_communicator(comm);
    bench_must(comm_barrier(comm, "bench"));
    double start = bench_now();
    for (int i = 0; i < repeats; i++) {
        if (is_library) {
            MPI_Allreduce(MPI_IN_PLACE, data, (int)count, MPI_FLOAT, MPI_SUM, world);
        } else {
            bench_must(comm_allreduce(comm, "bench", data, count, COMM_F32, COMM_SUM));
        }
    }
    double seconds = (bench_now() - start) / repeats;
    bench_must(comm_allreduce(comm, "slowest", &seconds, 1, COMM_F64, COMM_MAX));
    return seconds;
}

static void bench_size(struct comm *comm, int64_t bytes, const char *name, int repeats)
{
    float *data = bench_memory((size_t)bytes);
    double ours = 1e30;
    double library = 1e30;
    for (int round = 0; round < ROUNDS; round++) {
        bench_least(&ours, measure(comm, data, bytes / 4, repeats, 0));
        bench_least(&library, measure(comm, data, bytes / 4, repeats, 1));
    }
    if (comm->rank == 0) {
        char row[80];
        char note[80];
        snprintf(row, sizeof row, "all-reduce %s f32, %d ranks", name, comm->size);
        snprintf(note, sizeof note, "%.1f us; ceiling: MPI_Allreduce", ours * 1e6);
        bench_row(row, (double)bytes * 1e-9 / ours, "GB/s", (double)bytes * 1e-9 / library, note);
    }
    free(data);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        execlp("mpirun", "mpirun", "-q", "--oversubscribe", "--mca", "mpi_yield_when_idle", "1",
               "-np", "2", argv[0], "rank", (char *)NULL);
        printf("# bench_comm: no mpirun on this machine\n");
        return 0;
    }
    struct comm *comm;
    bench_must(comm_create(NULL, &comm));
    bench_size(comm, 4096, "4 KiB", 200);
    bench_size(comm, 1 << 20, "1 MiB", 20);
    bench_size(comm, 25 << 20, "25 MiB", 3);
    bench_size(comm, 128 << 20, "128 MiB", 1);
    bench_must(comm_finish(&comm));
    return 0;
}
