/* What the machine and its operating system offer. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "launch/doctor.h"
#include "launch/progress.h"
#include "runtime/backend/cpu/isa.h"
#include "runtime/base/file_io.h"
#include "runtime/base/strbuf.h"

#ifdef WEFT_CUDA
#include "runtime/backend/cuda/binding.h"
#include "runtime/backend/cuda/device.h"
#endif

/* ---- small readers ---- */

/* The first line of a file without its end; false when it cannot be read. */
static bool first_line(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "r");
    if (!file) return false;
    bool read = fgets(text, (int)size, file) != NULL;
    fclose(file);
    if (read) text[strcspn(text, "\n")] = '\0';
    return read;
}

/* The value behind "KEY   : " of /proc/cpuinfo or "KEY: " of /proc/meminfo. */
static bool proc_value(const char *path, const char *key, char *text, size_t size)
{
    char line[512];
    bool found = false;
    FILE *file = fopen(path, "r");
    while (file && !found && fgets(line, sizeof line, file)) {
        size_t length = strlen(key);
        if (strncmp(line, key, length) != 0) continue;
        const char *value = line + length + strspn(line + length, " \t:");
        snprintf(text, size, "%.*s", (int)strcspn(value, "\n"), value);
        found = true;
    }
    if (file) fclose(file);
    return found;
}

static int affinity_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return (int)sysconf(_SC_NPROCESSORS_ONLN);
    return CPU_COUNT(&set);
}

static int number_in(const char *variable)
{
    const char *text = getenv(variable);
    return text ? atoi(text) : 0;
}

/* Ranks of this job on this host as the launcher says, 0 when there is none. */
static int local_ranks(void)
{
    int ranks = number_in("OMPI_COMM_WORLD_LOCAL_SIZE");
    return ranks > 0 ? ranks : number_in("MPI_LOCALNRANKS");
}

/* ---- processor and memory ---- */

static void check_cpu(const struct doctor_options *options, struct doctor_finding *finding)
{
    char model[160] = "unknown processor";
    (void)options;
    if (!proc_value("/proc/cpuinfo", "model name", model, sizeof model)) {
        proc_value("/proc/cpuinfo", "CPU part", model, sizeof model);
    }
    enum cpu_isa isa = cpu_isa();
    const char *bf16 = isa >= CPU_ISA_AVX512BF16 ? "bf16 in hardware" : "bf16 by conversion";
    const char *limit = getenv("WEFT_ISA");
    if (limit) {
        doctor_warn(finding, "unset WEFT_ISA, it is for tests", "%s, using %s because WEFT_ISA=%s",
                    model, cpu_isa_name(isa), limit);
    } else if (isa == CPU_ISA_SCALAR) {
        doctor_warn(finding, "train on x86-64 with AVX2 or later (or a GPU); this works, slowly",
                    "%s, no AVX2", model);
    } else {
        doctor_ok(finding, "%s, %s%s, %s", model, cpu_isa_name(isa),
                  isa == CPU_ISA_AMX ? " tiles" : "", bf16);
    }
}

/* Cores that the container's quota allows, 0 for no limit. */
static double quota_cores(void)
{
    char text[80];
    double quota = 0;
    double period = 0;
    if (!first_line("/sys/fs/cgroup/cpu.max", text, sizeof text)) return 0;
    return sscanf(text, "%lf %lf", &quota, &period) == 2 && period > 0 ? quota / period : 0;
}

static void check_cores(const struct doctor_options *options, struct doctor_finding *finding)
{
    int cores = affinity_cores();
    int online = (int)sysconf(_SC_NPROCESSORS_ONLN);
    int threads = number_in("OMP_NUM_THREADS");
    int ranks = local_ranks();
    double quota = quota_cores();
    char text[160];
    (void)options;
    snprintf(text, sizeof text, "%d of %d cores for this process, OMP_NUM_THREADS %s", cores,
             online, threads > 0 ? getenv("OMP_NUM_THREADS") : "not set");
    if (threads > cores) {
        doctor_warn(finding,
                    "set OMP_NUM_THREADS to the cores of a rank, or launch with "
                    "mpirun --map-by slot:PE=CORES --bind-to core",
                    "%s: threads share cores", text);
    } else if (quota > 0 && quota + 0.01 < (threads > 0 ? threads : cores)) {
        doctor_warn(finding, "set OMP_NUM_THREADS to the quota divided by the ranks",
                    "%s, but a quota of %.1f cores: threads will be stopped and started", text,
                    quota);
    } else if (ranks > 1 && threads == 0 && cores == online) {
        doctor_warn(finding,
                    "launch with mpirun --map-by slot:PE=CORES --bind-to core, or set "
                    "OMP_NUM_THREADS",
                    "%s, and %d ranks on this host: each would use all cores", text, ranks);
    } else {
        doctor_ok(finding, "%s", text);
    }
}

static void check_memory(const struct doctor_options *options, struct doctor_finding *finding)
{
    char text[80] = "";
    char shown[2][32];
    (void)options;
    long long total = proc_value("/proc/meminfo", "MemTotal", text, sizeof text) ? atoll(text) : 0;
    long long left =
        proc_value("/proc/meminfo", "MemAvailable", text, sizeof text) ? atoll(text) : 0;
    long long limit = first_line("/sys/fs/cgroup/memory.max", text, sizeof text) ? atoll(text) : 0;
    if (limit > 0 && limit < total * 1024) total = limit / 1024;
    if (left > total) left = total;
    bytes_text(total * 1024, shown[0], sizeof shown[0]);
    bytes_text(left * 1024, shown[1], sizeof shown[1]);
    if (left < 2000000) {
        doctor_warn(finding,
                    "end other programs, or take a machine with more (weft plan tells how "
                    "much a recipe needs)",
                    "%s, only %s free", shown[0], shown[1]);
    } else {
        doctor_ok(finding, "%s, %s free", shown[0], shown[1]);
    }
}

static void check_shared_memory(const struct doctor_options *options,
                                struct doctor_finding *finding)
{
    struct statvfs info;
    char text[2][32];
    (void)options;
    if (statvfs("/dev/shm", &info) != 0) {
        doctor_fail(finding, "mount it: mount -t tmpfs -o size=50% tmpfs /dev/shm",
                    "/dev/shm: %s; ranks of one host talk through it", strerror(errno));
        return;
    }
    int64_t size = (int64_t)(info.f_blocks * info.f_frsize);
    int64_t left = (int64_t)(info.f_bavail * info.f_frsize);
    bytes_text(size, text[0], sizeof text[0]);
    bytes_text(left, text[1], sizeof text[1]);
    if (access("/dev/shm", W_OK | X_OK) != 0) {
        doctor_fail(finding, "chmod 1777 /dev/shm", "/dev/shm cannot be written");
    } else if (left < 256000000) {
        doctor_warn(finding,
                    "docker run --shm-size=2g, or mount -o remount,size=2g /dev/shm; old "
                    "files there may be removed",
                    "/dev/shm has %s, %s free: ranks of one host need some", text[0], text[1]);
    } else {
        doctor_ok(finding, "/dev/shm has %s, %s free", text[0], text[1]);
    }
}

/* ---- limits and names ---- */

static bool has_infiniband(void)
{
    return access("/sys/class/infiniband", F_OK) == 0;
}

static void check_limits(const struct doctor_options *options, struct doctor_finding *finding)
{
    struct rlimit files = {0};
    struct rlimit locked = {0};
    struct rlimit memory = {0};
    struct rlimit size = {0};
    (void)options;
    getrlimit(RLIMIT_NOFILE, &files);
    getrlimit(RLIMIT_MEMLOCK, &locked);
    getrlimit(RLIMIT_AS, &memory);
    getrlimit(RLIMIT_FSIZE, &size);
    if (files.rlim_cur < 1024) {
        doctor_warn(finding, "ulimit -n 4096",
                    "%llu open files: shards, sockets and checkpoints need more",
                    (unsigned long long)files.rlim_cur);
    } else if (memory.rlim_cur != RLIM_INFINITY) {
        doctor_warn(finding, "ulimit -v unlimited", "address space is limited to %llu bytes",
                    (unsigned long long)memory.rlim_cur);
    } else if (size.rlim_cur != RLIM_INFINITY) {
        doctor_warn(finding, "ulimit -f unlimited", "files are limited to %llu bytes",
                    (unsigned long long)size.rlim_cur);
    } else if (has_infiniband() && locked.rlim_cur != RLIM_INFINITY) {
        doctor_warn(finding,
                    "ulimit -l unlimited (in Slurm: PropagateResourceLimitsExcept=MEMLOCK)",
                    "locked memory is limited to %llu bytes, and there is InfiniBand",
                    (unsigned long long)locked.rlim_cur);
    } else {
        doctor_ok(finding, "%llu open files, memory and file size unlimited",
                  (unsigned long long)files.rlim_cur);
    }
}

static void check_host_name(const struct doctor_options *options, struct doctor_finding *finding)
{
    char name[256] = "";
    struct addrinfo *found = NULL;
    (void)options;
    gethostname(name, sizeof name - 1);
    int error = getaddrinfo(name, NULL, NULL, &found);
    if (error != 0) {
        doctor_warn(finding, "add the name to /etc/hosts or DNS; jobs of several hosts need it",
                    "host name %s has no address: %s", name, gai_strerror(error));
        return;
    }
    freeaddrinfo(found);
    doctor_ok(finding, "%s has an address", name);
}

/* ---- the folder of runs ---- */

static const char *file_system_name(const char *folder)
{
    static const struct {
        unsigned long magic;
        const char *name;
    } names[] = {{0x6969, "NFS"},           {0x0BD00BD0, "Lustre"}, {0x01021994, "tmpfs"},
                 {0xEF53, "ext4"},          {0x58465342, "XFS"},    {0x9123683E, "btrfs"},
                 {0x794C7630, "overlayfs"}, {0x47504653, "GPFS"},   {0x19830326, "BeeGFS"},
                 {0x2FC12FC1, "ZFS"},       {0x65735546, "FUSE"},   {0xFE534D42, "SMB"},
                 {0x00C36400, "Ceph"},      {0x01021997, "9p"}};
    struct statfs info;
    if (statfs(folder, &info) != 0) return "unknown file system";
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if ((unsigned long)info.f_type == names[i].magic) return names[i].name;
    }
    return "another file system";
}

/* Opens a new file in the folder that is gone when it is closed; -1. */
static int open_trial(const struct doctor_options *options, struct doctor_finding *finding,
                      char *path, size_t size)
{
    snprintf(path, size, "%s/.weft-doctor-%ld", options->folder, (long)getpid());
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0) {
        doctor_fail(finding, "choose a folder that can be written: weft doctor FOLDER",
                    "%s: cannot make a file: %s", options->folder, strerror(errno));
    }
    return file;
}

static void check_disk(const struct doctor_options *options, struct doctor_finding *finding)
{
    enum { TRIAL = 32 << 20, PIECE = 1 << 20 };
    char path[4200];
    char shown[2][32];
    struct statvfs info;
    struct timespec begin;
    struct timespec end;
    int file = open_trial(options, finding, path, sizeof path);
    if (file < 0) return;
    signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is a finding, not the end */
    char *bytes = calloc(1, PIECE);
    enum status status = bytes ? STATUS_OK : status_fail(STATUS_NO_MEMORY, "out of memory");
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (int i = 0; bytes && i < TRIAL / PIECE && status == STATUS_OK; i++) {
        memset(bytes, i + 1, PIECE); /* nothing that a file system could leave out */
        status = file_write_at(file, path, bytes, PIECE, (int64_t)i * PIECE);
    }
    if (status == STATUS_OK) status = file_sync(file, path);
    clock_gettime(CLOCK_MONOTONIC, &end);
    close(file);
    unlink(path);
    free(bytes);
    if (status != STATUS_OK || statvfs(options->folder, &info) != 0) {
        doctor_fail(finding, "free some space, or choose another folder: weft doctor FOLDER",
                    "cannot write 32 MB: %s", status_message());
        return;
    }
    double seconds =
        (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
    int64_t left = (int64_t)(info.f_bavail * info.f_frsize);
    bytes_text(left, shown[0], sizeof shown[0]);
    bytes_text((int64_t)(TRIAL / seconds), shown[1], sizeof shown[1]);
    if (left < INT64_C(20000000000)) {
        doctor_warn(finding,
                    "free some space: a FIBER-Base checkpoint takes 3.4 GB, and a new one "
                    "is whole before an old one goes",
                    "%s (%s) has only %s free", options->folder, file_system_name(options->folder),
                    shown[0]);
    } else {
        doctor_ok(finding, "%s (%s): %s free, written and flushed at %s/s", options->folder,
                  file_system_name(options->folder), shown[0], shown[1]);
    }
}

/* Whether another process is refused the lock that this one holds on `path`. */
static bool lock_holds(const char *path, int file, int kind)
{
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int result = kind == 0 ? fcntl(file, F_OFD_SETLK, &range) : flock(file, LOCK_EX | LOCK_NB);
    if (result != 0) return false;
    pid_t child = fork();
    if (child == 0) {
        int other = open(path, O_RDWR | O_CLOEXEC);
        range.l_type = F_WRLCK;
        range.l_pid = 0;
        result = kind == 0 ? fcntl(other, F_OFD_SETLK, &range) : flock(other, LOCK_EX | LOCK_NB);
        bool refused = other >= 0 && result != 0 && (errno == EAGAIN || errno == EACCES);
        _exit(refused ? 0 : 1);
    }
    int state = 1;
    if (child > 0) {
        while (waitpid(child, &state, 0) < 0 && errno == EINTR) {
        }
    }
    range.l_type = F_UNLCK;
    if (kind == 0) {
        fcntl(file, F_OFD_SETLK, &range);
    } else {
        flock(file, LOCK_UN);
    }
    return child > 0 && WIFEXITED(state) && WEXITSTATUS(state) == 0;
}

static void check_locks(const struct doctor_options *options, struct doctor_finding *finding)
{
    char path[4200];
    int file = open_trial(options, finding, path, sizeof path);
    if (file < 0) return;
    bool range = lock_holds(path, file, 0);
    bool whole = lock_holds(path, file, 1);
    close(file);
    unlink(path);
    if (!range) {
        doctor_fail(finding,
                    "mount it with locks (Lustre: -o flock; NFS: version 4, or lockd), or "
                    "write runs elsewhere",
                    "%s (%s): fcntl locks do not keep others out; two jobs could write one run",
                    options->folder, file_system_name(options->folder));
    } else if (!whole) {
        doctor_warn(finding,
                    "mount it with locks (Lustre: -o flock), or set "
                    "HDF5_USE_FILE_LOCKING=FALSE; do not pack here from two jobs at once",
                    "%s (%s): fcntl locks hold, flock does not", options->folder,
                    file_system_name(options->folder));
    } else {
        doctor_ok(finding, "fcntl and flock keep others out in %s", options->folder);
    }
}

/* ---- GPUs ---- */

/* A version function of a library that may not be there: int f(int *). */
static bool library_version(const char *library, const char *function, int *version)
{
    void *handle = dlopen(library, RTLD_LAZY | RTLD_LOCAL);
    if (!handle) return false;
    int (*call)(int *) = NULL;
    void *symbol = dlsym(handle, function);
    memcpy(&call, &symbol, sizeof call); /* ISO C has no cast from data to function pointers */
    return call && call(version) == 0;
}

static bool has_gpu(void)
{
    return access("/dev/nvidiactl", F_OK) == 0 || access("/proc/driver/nvidia/version", F_OK) == 0;
}

#ifdef WEFT_CUDA
/* "; nearest cores 0-15 (GPU 0, 1), 16-31 (GPU 2, 3)"; nothing where the machine does not tell. */
static void name_cores(const struct cuda_device *devices, int count, struct strbuf *text)
{
    char lists[16][96] = {""};
    for (int i = 0; i < count; i++) {
        cpu_set_t set;
        if (cpu_list_nearest("/sys", devices[i].bus, &set))
            cpu_list_format(&set, lists[i], sizeof lists[i]);
    }
    for (int i = 0; i < count; i++) {
        bool is_first = lists[i][0] != '\0';
        for (int k = 0; k < i; k++) {
            is_first = is_first && strcmp(lists[i], lists[k]) != 0;
        }
        if (!is_first) continue;
        strbuf_printf(text, "%s%s (GPU %d", text->length ? ", " : "; nearest cores ", lists[i], i);
        for (int k = i + 1; k < count; k++) {
            if (strcmp(lists[i], lists[k]) == 0) strbuf_printf(text, ", %d", k);
        }
        strbuf_append(text, ")");
    }
}

static void check_gpu(const struct doctor_options *options, struct doctor_finding *finding)
{
    struct cuda_device devices[16];
    int count = 0;
    int ranks = local_ranks();
    (void)options;
    if (cuda_device_list(devices, 16, &count) != STATUS_OK || count == 0) {
        if (has_gpu()) {
            doctor_fail(finding, "update the driver, or check CUDA_VISIBLE_DEVICES",
                        "there is a GPU, but: %s", status_message());
        } else {
            doctor_ok(finding, "none; training runs on the CPU");
        }
        return;
    }
    for (int i = 0; i < count; i++) {
        if (devices[i].major < 8 || devices[i].code != CUDA_CODE_NONE) continue;
        doctor_fail(finding, "build weft without FAST=1, or with CUDA_ARCHS of this GPU",
                    "GPU %d, %s, has compute capability %d.%d, which this weft was not built for",
                    i, devices[i].name, devices[i].major, devices[i].minor);
        return;
    }
    if (ranks > count) {
        doctor_warn(finding, "launch as many ranks a host as there are GPUs",
                    "%d ranks on this host share %d GPU%s", ranks, count, count == 1 ? "" : "s");
        return;
    }
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    struct strbuf cores = {0};
    name_cores(devices, count, &cores);
    bool compiled = devices[0].code == CUDA_CODE_DRIVER;
    doctor_ok(finding, "%d x %s, compute capability %d.%d%s, CUDA_VISIBLE_DEVICES %.60s%s", count,
              devices[0].name, devices[0].major, devices[0].minor,
              compiled ? " (its driver compiles the kernels when they first run)" : "",
              visible ? visible : "not set", cores.text ? cores.text : "");
    strbuf_fini(&cores);
}
#else
static void check_gpu(const struct doctor_options *options, struct doctor_finding *finding)
{
    (void)options;
    if (has_gpu()) {
        doctor_warn(finding, "install the CUDA toolkit (nvcc) and run make again",
                    "there is a GPU, but this weft was built without CUDA");
    } else {
        doctor_ok(finding, "none, and built without CUDA; training runs on the CPU");
    }
}
#endif

static void check_gpu_libraries(const struct doctor_options *options,
                                struct doctor_finding *finding)
{
    int driver = 0;
    int nccl = 0;
    (void)options;
    bool has_driver = library_version("libcuda.so.1", "cuDriverGetVersion", &driver);
    bool has_nccl = library_version("libnccl.so.2", "ncclGetVersion", &nccl);
    if (!has_gpu()) {
        doctor_ok(finding, "not needed without a GPU");
    } else if (!has_driver) {
        doctor_fail(finding,
                    "install the NVIDIA driver (in containers: --gpus all, with the NVIDIA "
                    "container toolkit)",
                    "there is a GPU, but libcuda.so.1 cannot be used");
    } else if (!has_nccl) {
        doctor_warn(finding, "install libnccl2; one GPU does without",
                    "driver for CUDA %d.%d, no libnccl.so.2", driver / 1000, driver % 1000 / 10);
    } else {
        doctor_ok(finding, "driver for CUDA %d.%d, NCCL %d.%d.%d", driver / 1000,
                  driver % 1000 / 10, nccl / 10000, nccl / 100 % 100, nccl % 100);
    }
}

const struct doctor_check doctor_system_checks[] = {
    {"cpu", check_cpu},
    {"cores", check_cores},
    {"memory", check_memory},
    {"shared memory", check_shared_memory},
    {"limits", check_limits},
    {"host name", check_host_name},
    {"disk", check_disk},
    {"file locks", check_locks},
    {"gpu", check_gpu},
    {"gpu libraries", check_gpu_libraries},
    {0},
};
