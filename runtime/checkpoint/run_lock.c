/*
 * An open-file-description lock (fcntl F_OFD_SETLK): it works over NFS and on Lustre, another
 * thread closing the same file does not drop it, and it dies with the process. flock() was
 * rejected, because some network file systems keep it on one host without saying so.
 *
 * File systems without any lock fall back on the text of the file: a job of the same host is asked
 * whether it lives; a job of another host counts as alive, unless it is an earlier life of this
 * very job (a requeued Slurm job keeps its number).
 */
#include "runtime/checkpoint/run_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/checkpoint/save_impl.h"
#include "runtime/comm/comm.h"

struct run_lock {
    int file; /* -1 on ranks other than 0 */
    char path[PATH_MAX];
};

/* Who holds a lock: the first line of the file. */
struct holder {
    char host[128];
    int64_t pid;
    char job[64]; /* of Slurm or another batch system, "-" for none */
    char since[32];
};

static const char *job_id(void)
{
    const char *job = getenv("SLURM_JOB_ID");
    if (!job) job = getenv("PBS_JOBID");
    if (!job) job = getenv("LSB_JOBID");
    return job && job[0] && strlen(job) < 64 && !strpbrk(job, " \n") ? job : "-";
}

static void describe_self(struct holder *self)
{
    if (gethostname(self->host, sizeof self->host - 1) != 0) strcpy(self->host, "?");
    self->pid = getpid();
    snprintf(self->job, sizeof self->job, "%s", job_id());
    time_t now = time(NULL);
    struct tm parts;
    strftime(self->since, sizeof self->since, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &parts));
}

/* False for a file that names nobody: new, released, or not written yet. */
static bool read_holder(int file, struct holder *holder)
{
    char text[512];
    ssize_t length = pread(file, text, sizeof text - 1, 0);
    if (length <= 0) return false;
    text[length] = '\0';
    memset(holder, 0, sizeof *holder);
    return sscanf(text, "host %127s pid %" SCNd64 " job %63s since %31s", holder->host,
                  &holder->pid, holder->job, holder->since) == 4;
}

static enum status write_holder(int file, const char *path, const struct holder *self)
{
    char text[512];
    int length = snprintf(text, sizeof text, "host %s pid %" PRId64 " job %s since %s\n",
                          self->host, self->pid, self->job, self->since);
    bool written = ftruncate(file, 0) == 0 && pwrite(file, text, (size_t)length, 0) == length;
    int error = errno;
    if (written) return STATUS_OK;
    status_fail(STATUS_IO, "%s: cannot write: %s", path, strerror(error));
    return save_explain(STATUS_IO, error);
}

static enum status refuse(const char *path, const struct holder *holder, const char *more)
{
    char job[80] = "";
    if (strcmp(holder->job, "-") != 0) snprintf(job, sizeof job, ", job %s", holder->job);
    return status_fail(STATUS_INVALID,
                       "%s: this run is being written by process %" PRId64
                       " on %s%s since %s; wait for it, stop it, or choose another run folder%s",
                       path, holder->pid, holder->host, job, holder->since, more);
}

/* Decides by the text alone. */
static enum status judge_by_text(int file, const char *path, const struct holder *self)
{
    struct holder holder;
    if (!read_holder(file, &holder)) return STATUS_OK;
    if (strcmp(holder.host, self->host) == 0) {
        bool lives = kill((pid_t)holder.pid, 0) == 0 || errno != ESRCH;
        return lives && holder.pid != self->pid ? refuse(path, &holder, "") : STATUS_OK;
    }
    if (strcmp(holder.job, "-") != 0 && strcmp(holder.job, self->job) == 0) return STATUS_OK;
    return refuse(path, &holder,
                  " (this file system has no locks: if that job is dead, remove the file)");
}

static enum status take(int file, const char *path)
{
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct holder self;
    struct holder holder;
    describe_self(&self);
    if (fcntl(file, F_OFD_SETLK, &range) != 0) {
        int error = errno;
        if (error == EAGAIN || error == EACCES) {
            if (read_holder(file, &holder)) return refuse(path, &holder, "");
            return status_fail(STATUS_INVALID,
                               "%s: this run is being written by another job; wait for it, stop "
                               "it, or choose another run folder",
                               path);
        }
        log_warning("%s: this file system has no locks (%s); relying on the text of the file", path,
                    strerror(error));
        TRY(judge_by_text(file, path, &self));
    } else if (read_holder(file, &holder)) {
        log_info("%s: left by process %" PRId64 " on %s, which is gone; taken over", path,
                 holder.pid, holder.host);
    }
    return write_holder(file, path, &self);
}

static enum status open_lock(struct run_lock *lock)
{
    lock->file = open(lock->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (lock->file >= 0) return take(lock->file, lock->path);
    int error = errno;
    status_fail(STATUS_IO, "%s: cannot open: %s", lock->path, strerror(error));
    return save_explain(STATUS_IO, error);
}

enum status run_lock_acquire(struct run_lock **acquired, const char *folder, struct comm *comm)
{
    *acquired = NULL;
    struct run_lock *lock = calloc(1, sizeof *lock);
    enum status status = STATUS_OK;
    if (!lock) status = status_fail(STATUS_NO_MEMORY, "%s: no memory for its lock", folder);
    if (lock) {
        lock->file = -1;
        snprintf(lock->path, sizeof lock->path, "%s/lock", folder);
        if (!comm || comm->rank == 0) status = open_lock(lock);
    }
    if (comm) status = comm_agree_status(comm, "lock of the run", status);
    if (status == STATUS_OK) {
        *acquired = lock;
        return STATUS_OK;
    }
    /* Not released: the text is the holder's. */
    if (lock && lock->file >= 0) close(lock->file);
    free(lock);
    return status;
}

void run_lock_release(struct run_lock **lock)
{
    if (!*lock) return;
    if ((*lock)->file >= 0) {
        /* The file stays: removing it would let a third job lock a file that a second still waits
         * for. Empty means free. */
        if (ftruncate((*lock)->file, 0) != 0) log_warning("%s: cannot clear it", (*lock)->path);
        close((*lock)->file);
    }
    free(*lock);
    *lock = NULL;
}
