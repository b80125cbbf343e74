/*
 * A trial launch: this program starts itself on two ranks through mpirun, as a user would, and the
 * ranks communicate and write a file together. What stops a launch (root, slots, shared memory, a
 * second MPI in the PATH) shows here in seconds and not in a queue.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <mpi.h>

#include "launch/doctor.h"
#include "runtime/base/hdf5_use.h"
#include "runtime/base/program.h"
#include "runtime/comm/comm_mpi.h"

/* ---- the ranks ---- */

static enum status write_together(struct comm *comm, const char *path)
{
    enum status status = STATUS_OK;
    const hsize_t size = (hsize_t)comm->size;
    const hsize_t first = (hsize_t)comm->rank;
    const hsize_t one = 1;
    int64_t value = 100 + comm->rank;
    int64_t back[2] = {0};
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    hid_t transfer = H5Pcreate(H5P_DATASET_XFER);
    hid_t space = H5Screate_simple(1, &size, NULL);
    hid_t memory = H5Screate_simple(1, &one, NULL);
    H5Pset_fapl_mpio(access, comm_mpi_communicator(comm), MPI_INFO_NULL);
    H5Pset_file_locking(access, false, true);
    H5Pset_dxpl_mpio(transfer, H5FD_MPIO_COLLECTIVE);
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    hid_t data = file < 0 ? -1
                          : H5Dcreate2(file, "ranks", H5T_STD_I64LE, space, H5P_DEFAULT,
                                       H5P_DEFAULT, H5P_DEFAULT);
    H5Sselect_hyperslab(space, H5S_SELECT_SET, &first, NULL, &one, NULL);
    if (data < 0 || H5Dwrite(data, H5T_NATIVE_INT64, memory, space, transfer, &value) < 0) {
        status = status_fail(STATUS_IO, "%s: parallel HDF5 cannot write: %s", path, hdf5_reason());
    }
    if (data >= 0) H5Dclose(data);
    if (file >= 0) H5Fclose(file);
    file = status == STATUS_OK ? H5Fopen(path, H5F_ACC_RDONLY, access) : -1;
    data = file < 0 ? -1 : H5Dopen2(file, "ranks", H5P_DEFAULT);
    if (data >= 0) H5Dread(data, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, back);
    if (status == STATUS_OK && (back[0] != 100 || back[comm->size - 1] != 99 + comm->size)) {
        status = status_fail(STATUS_CORRUPT, "%s: parallel HDF5 reads something else than written",
                             path);
    }
    if (data >= 0) H5Dclose(data);
    if (file >= 0) H5Fclose(file);
    H5Sclose(memory);
    H5Sclose(space);
    H5Pclose(transfer);
    H5Pclose(access);
    return status;
}

static enum status probe(struct comm *comm, const char *folder)
{
    char path[4200];
    float sum = (float)(comm->rank + 1);
    CHECK(comm->size == 2, STATUS_COMM, "the launch made a world of %d ranks instead of 2",
          comm->size);
    TRY(comm_allreduce(comm, "doctor", &sum, 1, COMM_F32, COMM_SUM));
    CHECK(sum == 3, STATUS_COMM, "1 + 2 summed over ranks gives %g", (double)sum);
    snprintf(path, sizeof path, "%s/.weft-doctor.h5", folder);
    hdf5_lock();
    enum status status = write_together(comm, path);
    hdf5_unlock();
    status = comm_agree_status(comm, "doctor file", status);
    if (comm->rank == 0) unlink(path);
    if (status == STATUS_OK && comm->rank == 0) {
        printf("probe: ok, %d host%s\n", comm->num_hosts, comm->num_hosts == 1 ? "" : "s");
    }
    return status;
}

enum status doctor_probe(const char *folder)
{
    struct comm *comm = NULL;
    enum status status = comm_create(NULL, &comm);
    if (status == STATUS_OK) status = probe(comm, folder);
    if (status != STATUS_OK) {
        printf("probe: %s\n", status_message());
        fflush(stdout);
    }
    if (comm && comm_finish(&comm) != STATUS_OK && status == STATUS_OK) status = STATUS_COMM;
    return status;
}

/* ---- starting them ---- */

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static pid_t start(const struct doctor_options *options, const char *program, int *output)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return -1;
    pid_t child = fork();
    if (child == 0) {
        setpgid(0, 0);
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        /* Two ranks are tried even where there is one core. */
        execlp("mpirun", "mpirun", "--oversubscribe", "-np", "2", program, "doctor", "--probe",
               options->folder, (char *)NULL);
        dprintf(STDERR_FILENO, "mpirun: %s\n", strerror(errno));
        _exit(127);
    }
    close(ends[1]);
    if (child < 0) close(ends[0]);
    *output = ends[0];
    return child;
}

/* Reads what the launch says until it ends; kills it at the deadline. Returns its wait status. */
static int collect(pid_t child, int output, double deadline, char *text, size_t size, bool *late)
{
    size_t used = 0;
    *late = false;
    for (;;) {
        struct pollfd wait = {.fd = output, .events = POLLIN};
        int left = (int)(1000 * (deadline - now()));
        if (left <= 0) {
            *late = true;
            break;
        }
        int ready = poll(&wait, 1, left);
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) continue;
        char piece[1024];
        ssize_t got = read(output, piece, sizeof piece);
        if (got <= 0) break;
        size_t room = size - 1 - used;
        size_t taken = (size_t)got < room ? (size_t)got : room;
        memcpy(text + used, piece, taken);
        used += taken;
    }
    text[used] = '\0';
    if (*late) kill(-child, SIGKILL);
    close(output);
    int state = 0;
    while (waitpid(child, &state, 0) < 0 && errno == EINTR) {
    }
    return state;
}

/* The first line of what was said that tells something; Open MPI frames its messages. */
static void telling_line(const char *said, char *line, size_t size)
{
    snprintf(line, size, "it said nothing");
    for (const char *at = said; *at;) {
        size_t length = strcspn(at, "\n");
        size_t dashes = strspn(at, "-= ");
        if (length > 0 && dashes < length) {
            snprintf(line, size, "%.*s", (int)(length < 300 ? length : 300), at);
            return;
        }
        at += length + (at[length] == '\n');
    }
}

static void report_failure(struct doctor_finding *finding, const char *said)
{
    const char *probe_line = strstr(said, "probe: ");
    char line[320];
    if (strstr(said, "allow-run-as-root")) {
        doctor_fail(finding,
                    "export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1, or "
                    "do not work as root",
                    "mpirun refuses to run as root");
    } else if (strncmp(said, "mpirun: No such file", 20) == 0) {
        doctor_fail(finding, "install openmpi-bin, or load the MPI module: module load openmpi",
                    "there is no mpirun in the PATH");
    } else if (strstr(said, "a world of 1 rank")) {
        doctor_fail(finding,
                    "use the mpirun of the MPI that weft was built with (see mpi above): "
                    "check `which mpirun`",
                    "mpirun starts two worlds of one rank");
    } else {
        telling_line(probe_line ? probe_line + 7 : said, line, sizeof line);
        doctor_fail(finding, "run it by hand to see all: mpirun -np 2 weft doctor --probe .",
                    "mpirun -np 2 failed: %s", line);
    }
}

static void check_launch(const struct doctor_options *options, struct doctor_finding *finding)
{
    enum { LIMIT = 60, SAID = 1 << 16 };
    char program[4096] = "";
    int output = -1;
    bool late = false;
    if (options->no_launch) {
        doctor_ok(finding, "not tried");
        return;
    }
    if (getenv("OMPI_COMM_WORLD_SIZE") || getenv("PMIX_RANK")) {
        doctor_ok(finding, "not tried: this already runs under a launcher");
        return;
    }
    if (options->program) {
        snprintf(program, sizeof program, "%s", options->program);
    } else if (!program_command(program, sizeof program)) {
        doctor_warn(finding, "mount /proc", "/proc/self/exe: %s", strerror(errno));
        return;
    }
    char *said = calloc(1, SAID);
    double begin = now();
    pid_t child = said ? start(options, program, &output) : -1;
    if (child < 0) {
        doctor_fail(finding, "raise ulimit -u and the memory", "cannot start a process: %s",
                    strerror(errno));
        free(said);
        return;
    }
    int state = collect(child, output, begin + LIMIT, said, SAID, &late);
    double seconds = now() - begin;
    if (late) {
        doctor_fail(finding,
                    "look at the network that MPI chose: try OMPI_MCA_btl=self,vader,tcp "
                    "and OMPI_MCA_btl_tcp_if_include=eth0",
                    "two ranks did not meet within %d s", LIMIT);
    } else if (WIFEXITED(state) && WEXITSTATUS(state) == 0 && strstr(said, "probe: ok")) {
        doctor_ok(finding, "two ranks met, summed and wrote one HDF5 file in %s, %.1f s",
                  options->folder, seconds);
    } else {
        report_failure(finding, said);
    }
    free(said);
}

/* What a Slurm allocation or a launcher around this process promises. */
static void check_scheduler(const struct doctor_options *options, struct doctor_finding *finding)
{
    const char *job = getenv("SLURM_JOB_ID");
    const char *tasks = getenv("SLURM_NTASKS");
    const char *end = getenv("SLURM_JOB_END_TIME");
    (void)options;
    if (job && getenv("SLURM_STEP_ID") && tasks && atoi(tasks) > 1 && !getenv("PMIX_RANK") &&
        !getenv("OMPI_COMM_WORLD_SIZE")) {
        doctor_fail(finding, "srun --mpi=pmix, or mpirun inside sbatch (launch/slurm/weft.sbatch)",
                    "srun started %s tasks without PMIx: each would be a world of its own", tasks);
    } else if (job) {
        doctor_ok(finding, "Slurm job %s, %s task%s%s", job, tasks ? tasks : "1",
                  tasks && atoi(tasks) != 1 ? "s" : "", end ? ", with a time limit" : "");
    } else {
        doctor_ok(finding, "none");
    }
}

const struct doctor_check doctor_launch_checks[] = {
    {"scheduler", check_scheduler},
    {"launch", check_launch},
    {0},
};
