/*
 * One thread, one poll() loop: it wakes every tenth of a second, or at once when the process of a
 * rank on this host ends (pidfd), news of another host arrives (beacon) or SIGTERM is caught.
 *
 * Each tick it advances this rank's heartbeat and clock, reads everyone's and judges (verdict.c).
 *
 * Time is counted in ticks of at most a second, so a machine that was suspended, or a job that was
 * stopped as a whole and continued, does not time out.
 *
 * MPI_Abort from this thread was rejected: the main thread may be inside MPI, and full thread
 * support costs locks in every message. The main thread leaves its polling loop with an error and
 * aborts the job; if it does not come to that, _exit ends this process and the launcher, or the
 * other ranks' watchdogs, end the rest.
 */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/comm/comm_impl.h"
#include "runtime/comm/watchdog_impl.h"

enum { TICK_MS = 100 };
static const double LONGEST_TICK = 1.0; /* more is a suspension */
static const double BEACON_INTERVAL = 0.5;
static const double SIGTERM_DELAY = 0.2; /* to look for the reason of a SIGTERM */
static const double NEWS_TIMEOUT = 5.0;  /* for the first heartbeats of all hosts */

static const struct {
    const char *name;
    double timeout;
} phases[COMM_NUM_PHASES] = {
    [COMM_PHASE_IDLE] = {"between phases", -1},
    [COMM_PHASE_STARTUP] = {"start-up", 300},
    [COMM_PHASE_DATA] = {"data", 600},
    [COMM_PHASE_COMPUTE] = {"compute", 1800},
    [COMM_PHASE_COLLECTIVE] = {"collective", 120},
    [COMM_PHASE_CHECKPOINT] = {"checkpoint", 3600},
    [COMM_PHASE_FILE] = {"file", 300},
    [COMM_PHASE_EVALUATE] = {"evaluate", 7200},
    [COMM_PHASE_FINISH] = {"finish", 120},
};

const char *watchdog_phase_name(int phase)
{
    return phase >= 0 && phase < COMM_NUM_PHASES ? phases[phase].name : "unknown";
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void wake(struct watchdog *w)
{
    uint64_t one = 1;
    ssize_t written = write(w->wake, &one, sizeof one);
    (void)written; /* a full counter wakes as well */
}

/* ---- SIGTERM ---- */

static atomic_int sigterm_wake = -1; /* the wake-up of the watchdog that catches it */
static atomic_bool sigterm_caught;

static void on_sigterm(int number)
{
    (void)number;
    int saved = errno;
    uint64_t one = 1;
    atomic_store(&sigterm_caught, true);
    ssize_t written = write(atomic_load(&sigterm_wake), &one, sizeof one);
    (void)written;
    errno = saved;
}

static void catch_sigterm(const struct watchdog *w)
{
    struct sigaction old;
    int none = -1;
    if (sigaction(SIGTERM, NULL, &old) != 0 || old.sa_handler != SIG_DFL) return;
    if (!atomic_compare_exchange_strong(&sigterm_wake, &none, w->wake)) return;
    struct sigaction action = {.sa_handler = on_sigterm, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
}

static void release_sigterm(const struct watchdog *w)
{
    struct sigaction old;
    if (atomic_load(&sigterm_wake) != w->wake) return;
    if (sigaction(SIGTERM, NULL, &old) == 0 && old.sa_handler == on_sigterm)
        signal(SIGTERM, SIG_DFL);
    atomic_store(&sigterm_wake, -1);
}

/* The signal had no reason among the ranks: end as if it had not been caught. */
static void end_by_sigterm(void)
{
    sigset_t set;
    signal(SIGTERM, SIG_DFL);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    raise(SIGTERM);
}

/* ---- the loop ---- */

/* Advances this rank's clock and heartbeat. */
static void tick(struct watchdog *w)
{
    double time = now();
    double passed = time - w->time;
    double counted = passed < LONGEST_TICK ? passed : LONGEST_TICK;
    unsigned generation = atomic_load(&w->generation);
    struct beat_slot *self = atomic_load(&w->self);
    w->waited = generation == w->seen_generation ? w->waited + counted : 0;
    w->seen_generation = generation;
    w->time = time;
    int phase = atomic_load(&self->phase);
    /* Until the ranks know each other, waiting for one another is part of starting. */
    if (phase == COMM_PHASE_COLLECTIVE && !atomic_load(&w->is_attached)) phase = COMM_PHASE_STARTUP;
    atomic_store(&self->limit_ms, atomic_load(&w->timeouts_ms[phase]));
    atomic_store(&self->waited_ms, (int)fmin(w->waited * 1000, 2e9));
    atomic_fetch_add(&self->count, 1);
    if (!atomic_load(&w->is_attached)) return;
    for (int r = 0; r < w->comm->size; r++) {
        uint64_t count = atomic_load(&w->slots[r].count);
        w->peers[r].heard += passed - counted;
        if (count != w->peers[r].count) w->peers[r].heard = time;
        w->peers[r].count = count;
    }
}

/* Where there are no pidfds: a pid that is gone. (A zombie counts as alive until it is reaped.) */
static void look_for_dead(struct watchdog *w)
{
    for (int r = w->comm->leader; r < w->comm->size; r++) {
        int pid = atomic_load(&w->slots[r].pid);
        bool is_same = atomic_load(&w->slots[r].pid_namespace) ==
                       atomic_load(&atomic_load(&w->self)->pid_namespace);
        if (w->comm->leaders[r] != w->comm->leader || pid <= 0 || !is_same) continue;
        if (w->peers[r].process < 0 && kill(pid, 0) != 0 && errno == ESRCH)
            beat_raise_state(&w->slots[r], BEAT_DEAD);
    }
}

/* Sleeps until the next tick or an event, and takes the events in. */
static void wait_for_events(struct watchdog *w, struct pollfd *entries, bool is_attached)
{
    int n = 0;
    int num_local = 0;
    entries[n++] = (struct pollfd){.fd = w->wake, .events = POLLIN};
    struct beacon *beacon = is_attached ? atomic_load(&w->beacon) : NULL;
    for (int r = 0; is_attached && r < w->comm->size; r++) {
        /* A process that has ended stays readable. */
        if (w->peers[r].process < 0 || atomic_load(&w->slots[r].state) > BEAT_RUNNING) continue;
        entries[n++] = (struct pollfd){.fd = w->peers[r].process, .events = POLLIN};
        num_local++;
    }
    int first_link = n;
    if (beacon) n += beacon_poll_fill(beacon, entries + n);
    if (poll(entries, (nfds_t)n, TICK_MS) < 0) return;
    uint64_t count;
    if (entries[0].revents) {
        ssize_t length = read(w->wake, &count, sizeof count);
        (void)length;
    }
    for (int e = 1; e <= num_local; e++) {
        if (!entries[e].revents) continue;
        for (int r = 0; r < w->comm->size; r++) {
            if (w->peers[r].process == entries[e].fd) beat_raise_state(&w->slots[r], BEAT_DEAD);
        }
    }
    if (beacon) beacon_poll_handle(beacon, entries + first_link, n - first_link);
    if (is_attached) look_for_dead(w);
}

static void send_beacon(struct watchdog *w, bool is_urgent)
{
    struct beacon *beacon = atomic_load(&w->beacon);
    if (!beacon) return;
    is_urgent = is_urgent || beacon_has_new_link(beacon);
    if (!is_urgent && w->time - w->beacon_sent < BEACON_INTERVAL) return;
    beacon_send(beacon);
    w->beacon_sent = w->time;
}

/* Ends the process when the main thread had its moment, or when SIGTERM had no reason. */
static void end_process(struct watchdog *w)
{
    int code = atomic_load(&w->exit_code);
    if (code != 0 && w->deadline == 0) {
        w->deadline = w->time + GRACE_MS / 1000.0;
        send_beacon(w, true);
    }
    if (w->deadline > 0 && w->time > w->deadline) _exit(code ? code : 1);
    if (!atomic_load(&sigterm_caught) || atomic_load(&sigterm_wake) != w->wake) return;
    if (w->terminate_at == 0) w->terminate_at = w->time + SIGTERM_DELAY;
    if (w->time <= w->terminate_at) return;
    if (w->deadline > 0) _exit(code ? code : 1);
    end_by_sigterm();
}

static void *watch(void *argument)
{
    struct watchdog *w = argument;
    struct pollfd alone[1];
    while (!atomic_load(&w->is_stopping)) {
        bool is_attached = atomic_load(&w->is_attached);
        wait_for_events(w, is_attached ? w->entries : alone, is_attached);
        tick(w);
        bool had_given_up = atomic_load(&w->gave_up);
        watchdog_judge(w);
        send_beacon(w, atomic_load(&w->gave_up) && !had_given_up);
        end_process(w);
    }
    send_beacon(w, true); /* tells that this rank has finished */
    return NULL;
}

/* ---- told by the main thread ---- */

static void set_phase(struct watchdog *w, enum comm_phase phase, const char *label)
{
    struct beat_slot *self = atomic_load(&w->self);
    atomic_store(&self->phase, (int)phase);
    beat_set_label(self, label);
    atomic_fetch_add(&w->generation, 1);
}

void watchdog_step(struct watchdog *w, int64_t step)
{
    atomic_store(&atomic_load(&w->self)->step, step);
}

void watchdog_phase(struct watchdog *w, enum comm_phase phase, const char *label)
{
    w->phase = phase;
    snprintf(w->label, sizeof w->label, "%s", label);
    set_phase(w, phase, label);
}

void watchdog_timeout(struct watchdog *w, enum comm_phase phase, double seconds)
{
    if (seconds == 0) seconds = phases[phase].timeout;
    int milliseconds = seconds < 0 ? 0 : (int)fmin(fmax(seconds * 1000, 1), 2e9);
    atomic_store(&w->timeouts_ms[phase], milliseconds);
}

void watchdog_call(struct watchdog *w, uint32_t sequence, const char *label)
{
    uint64_t call = (uint64_t)sequence << 32 | comm_label_hash(label);
    atomic_store(&atomic_load(&w->self)->call, call);
}

void watchdog_wait_begin(struct watchdog *w, uint32_t sequence, const char *label)
{
    set_phase(w, COMM_PHASE_COLLECTIVE, label);
    atomic_store(&w->waiting_for, sequence);
}

void watchdog_wait_end(struct watchdog *w)
{
    if (atomic_load(&w->gave_up)) return; /* the others shall see where it ended */
    atomic_store(&w->waiting_for, 0);
    set_phase(w, w->phase, w->label);
}

const char *watchdog_verdict(struct watchdog *w)
{
    return atomic_load(&w->gave_up) ? w->verdict : NULL;
}

void watchdog_finished(struct watchdog *w)
{
    beat_raise_state(atomic_load(&w->self), BEAT_FINISHED);
    wake(w);
}

void watchdog_aborting(struct watchdog *w, int exit_code)
{
    beat_raise_state(atomic_load(&w->self), BEAT_ABORTED);
    atomic_store(&w->exit_code, exit_code);
    wake(w);
}

/* ---- life ---- */

static enum status start_thread(struct watchdog *w)
{
    /* Signals go to the main thread, except the faults of this one and the last resort. */
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGALRM};
    sigset_t set;
    sigset_t old;
    sigfillset(&set);
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        sigdelset(&set, own[i]);
    }
    pthread_sigmask(SIG_SETMASK, &set, &old);
    int problem = pthread_create(&w->thread, NULL, watch, w);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    CHECK(problem == 0, STATUS_INTERNAL, "cannot start the watchdog's thread: %s",
          strerror(problem));
    return STATUS_OK;
}

enum status watchdog_create(const char *host, const double *timeouts, struct watchdog **created)
{
    struct watchdog *w = aligned_alloc(_Alignof(struct watchdog), sizeof *w);
    CHECK(w, STATUS_NO_MEMORY, "no memory for the watchdog");
    memset(w, 0, sizeof *w);
    snprintf(w->host, sizeof w->host, "%s", host);
    for (int i = 0; i < COMM_NUM_PHASES; i++) {
        watchdog_timeout(w, (enum comm_phase)i, timeouts[i]);
    }
    atomic_store(&w->self, &w->alone);
    beat_raise_state(&w->alone, BEAT_RUNNING);
    watchdog_step(w, -1);
    watchdog_phase(w, COMM_PHASE_STARTUP, "MPI");
    w->time = now();
    w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    enum status status = STATUS_OK;
    CHECK_GOTO(w->wake >= 0, status, fail, STATUS_INTERNAL, "no eventfd for the watchdog: %s",
               strerror(errno));
    TRY_GOTO(status, start_thread(w), fail);
    catch_sigterm(w);
    *created = w;
    return STATUS_OK;
fail:
    if (w->wake >= 0) close(w->wake);
    free(w);
    return status;
}

/* Moves this rank's slot to the shared table. */
static void move_in(struct watchdog *w, struct beat_slot *slot, int rank)
{
    struct beat beat;
    beat_read(&w->alone, rank, &beat);
    beat_set_process(slot);
    beat_write(slot, &beat);
    atomic_store(&w->self, slot);
}

static void find_processes(struct watchdog *w)
{
    const struct comm *comm = w->comm;
    uint64_t namespace = atomic_load(&w->slots[comm->rank].pid_namespace);
    for (int r = 0; r < comm->size; r++) {
        w->peers[r] = (struct peer){.heard = now(), .process = -1};
        int pid = atomic_load(&w->slots[r].pid);
        if (r == comm->rank || comm->leaders[r] != comm->leader ||
            atomic_load(&w->slots[r].pid_namespace) != namespace)
            continue;
        w->peers[r].process = (int)syscall(SYS_pidfd_open, pid, 0);
        if (w->peers[r].process < 0 && errno == ESRCH) beat_raise_state(&w->slots[r], BEAT_DEAD);
    }
}

/* Waits a moment until there is news from every rank. */
static bool has_news_of_all(const struct watchdog *w)
{
    double end = now() + NEWS_TIMEOUT;
    for (int r = 0; r < w->comm->size;) {
        if (atomic_load(&w->slots[r].state) != BEAT_UNKNOWN) {
            r++;
        } else if (now() > end) {
            return false;
        } else {
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        }
    }
    return true;
}

/* Connects the hosts. Where that fails, time-outs still work, but cannot tell a stopped rank from a
 * busy one; that is worth a warning, not an end. */
static enum status connect_hosts(struct watchdog *w, struct comm *comm)
{
    static const char label[] = "heartbeat connections";
    struct beacon_invitation invitation = {.addresses = ""};
    struct beacon *beacon = NULL;
    enum status status = STATUS_OK;
    if (comm->rank == 0) {
        status = beacon_listen(comm, w->slots, &invitation, &beacon);
        atomic_store(&w->beacon, beacon);
        wake(w);
    }
    TRY(comm_broadcast(comm, label, &invitation, sizeof invitation, COMM_U8, 0));
    if (comm->rank != comm->leader) return STATUS_OK;
    if (comm->rank != 0) {
        status = beacon_connect(comm, w->slots, &invitation, &beacon);
        atomic_store(&w->beacon, beacon);
        wake(w);
    }
    if (status != STATUS_OK) {
        log_warning("%s; a stopped rank of another host is noticed only after the time-out of "
                    "compute",
                    status_message());
    } else if (!has_news_of_all(w)) {
        log_warning("rank %d on %s: no heartbeats from some hosts; a stopped rank there is noticed "
                    "only after the time-out of compute",
                    comm->rank, comm->host);
    }
    return STATUS_OK;
}

enum status watchdog_attach(struct watchdog *w, struct comm *comm)
{
    size_t size = (size_t)comm->size;
    w->comm = comm;
    w->peers = calloc(size, sizeof *w->peers);
    w->entries = calloc(3 * size + 16, sizeof *w->entries);
    enum status status = STATUS_OK;
    if (!w->peers || !w->entries)
        status = status_fail(STATUS_NO_MEMORY, "no memory to watch %zu ranks", size);
    TRY(comm_agree_status(comm, "watchdog", status));
    TRY(beat_table_map(comm, &w->slots));
    move_in(w, &w->slots[comm->rank], comm->rank);
    TRY(comm_barrier(comm, "watchdog"));
    find_processes(w);
    atomic_store(&w->is_attached, true);
    return comm->num_hosts > 1 ? connect_hosts(w, comm) : STATUS_OK;
}

void watchdog_destroy(struct watchdog **watchdog)
{
    struct watchdog *w = *watchdog;
    if (!w) return;
    release_sigterm(w);
    atomic_store(&w->is_stopping, true);
    wake(w);
    pthread_join(w->thread, NULL);
    struct beacon *beacon = atomic_load(&w->beacon);
    beacon_destroy(&beacon);
    for (int r = 0; w->peers && w->slots && r < w->comm->size; r++) {
        if (w->peers[r].process >= 0) close(w->peers[r].process);
    }
    if (w->slots) beat_table_unmap(&w->slots, w->comm->size);
    free(w->peers);
    free(w->entries);
    close(w->wake);
    free(w);
    *watchdog = NULL;
}
