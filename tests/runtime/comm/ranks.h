/*
 * For tests that start ranks of their own under mpirun, disturb them and look at how they end. The
 * test program is also the rank: it is started again as "PROGRAM rank MODE".
 */
#ifndef WEFT_TESTS_RUNTIME_COMM_RANKS_H
#define WEFT_TESTS_RUNTIME_COMM_RANKS_H

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_RANKS = 8, LONGEST_RUN = 60 };

struct ranks {
    pid_t mpirun;
    FILE *output;
    char text[1 << 16];
    size_t length;
    pid_t pids[MOST_RANKS]; /* from lines "ready RANK PID" */
    double disturbed;       /* when ranks_signal was called, or the start */
};

static inline double ranks_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Lets mpirun work for root and with more ranks than cores. */
static inline void ranks_prepare(void)
{
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 0);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 0);
    setenv("OMPI_MCA_rmaps_base_oversubscribe", "1", 0);
    setenv("OMPI_MCA_hwloc_base_binding_policy", "none", 0);
    setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 0);
    setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
}

/* Runs `command` through the shell with "$0" = this program; "exec" it where there is one. */
static inline struct ranks *ranks_start(const char *command)
{
    struct ranks *ranks = calloc(1, sizeof *ranks);
    int ends[2];
    char program[4096] = "";
    if (!ranks || pipe(ends) != 0 || readlink("/proc/self/exe", program, sizeof program - 1) < 0)
        abort();
    ranks->disturbed = ranks_now();
    ranks->mpirun = fork();
    if (ranks->mpirun < 0) abort();
    if (ranks->mpirun == 0) {
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        alarm(LONGEST_RUN);
        execl("/bin/sh", "sh", "-c", command, program, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    ranks->output = fdopen(ends[0], "r");
    if (!ranks->output) abort();
    return ranks;
}

/* Reads a line of output; false at its end. */
static inline bool ranks_read(struct ranks *ranks)
{
    size_t room = sizeof ranks->text - ranks->length;
    char *line = ranks->text + ranks->length;
    int rank;
    int pid;
    if (room < 2 || !fgets(line, (int)room, ranks->output)) return false;
    ranks->length += strlen(line);
    if (sscanf(line, "ready %d %d", &rank, &pid) == 2 && rank >= 0 && rank < MOST_RANKS)
        ranks->pids[rank] = pid;
    return true;
}

/* Sends a signal to a rank once `size` ranks are ready. */
static inline void ranks_signal(struct ranks *ranks, int size, int rank, int number)
{
    int num_ready = 0;
    while (num_ready < size && ranks_read(ranks)) {
        num_ready = 0;
        for (int r = 0; r < size; r++) {
            num_ready += ranks->pids[r] > 0;
        }
    }
    ranks->disturbed = ranks_now();
    if (num_ready == size) kill(ranks->pids[rank], number);
}

/* Waits for the end: the exit code (128 + signal as a shell says), and the seconds since the
 * disturbance. The text stays; free() the ranks. */
static inline int ranks_finish(struct ranks *ranks, double *seconds)
{
    int state = 0;
    while (ranks_read(ranks)) {
    }
    fclose(ranks->output);
    waitpid(ranks->mpirun, &state, 0);
    *seconds = ranks_now() - ranks->disturbed;
    return WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
}

#endif
