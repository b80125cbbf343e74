/*
 * One thread, one poll() loop: it wakes every tenth of a second, or at once when the process of a
 * rank on this host ends (pidfd), news of another host arrives (beacon) or SIGTERM is caught.
 *
 * Each tick it advances this rank's heartbeat and clock, reads everyone's, and judges:
 *  - a rank is dead, gave up or ended the job: give up now;
 *  - this rank's phase is over its time-out: give up, naming the ranks that are silent (stopped or
 *    unreachable) or have not started the collective this rank waits in. If all of these are alive
 *    and within their own phase's time-out, waiting goes on: they will time out by themselves.
 *
 * Time is counted in ticks of at most a second, so a machine that was suspended, or a job that was
 * stopped as a whole and continued, does not time out.
 *
 * MPI_Abort from this thread was rejected: the main thread may be inside MPI, and full thread
 * support costs locks in every message. The main thread leaves its polling loop with an error and
 * aborts the job; if it does not come to that, _exit ends this process and the launcher, or the
 * other ranks' watchdogs, end the rest.
 */
#include "runtime/comm/watchdog.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/base/strbuf.h"
#include "runtime/comm/beacon.h"
#include "runtime/comm/comm_impl.h"
#include "runtime/comm/heartbeat.h"

enum { TICK_MS = 100, ALARM_SECONDS = 5, SHOWN_RANKS = 16, VERDICT_SIZE = 1024 };
static const double LONGEST_TICK = 1.0; /* more is a suspension */
static const double SILENT_LOCAL = 1.5; /* seconds without a heartbeat */
static const double SILENT_REMOTE = 2.5;
static const double BEACON_INTERVAL = 0.5;
static const double GRACE = 1.0;          /* for the main thread to end the job by itself */
static const double SIGTERM_DELAY = 0.2;  /* to look for the reason of a SIGTERM */
static const double MISMATCH_DELAY = 1.0; /* both sides wait this long before labels are compared */

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
    [COMM_PHASE_EVALUATE] = {"evaluate", 7200},
    [COMM_PHASE_FINISH] = {"finish", 120},
};

/* What this rank knows of another. */
struct peer {
    uint64_t count; /* its last heartbeat */
    double heard;   /* when it last grew */
    int process;    /* pidfd, -1 = none */
};

struct watchdog {
    pthread_t thread;
    int wake; /* eventfd */
    atomic_bool is_stopping;
    char host[COMM_HOST_SIZE];

    /* Told by the main thread. */
    atomic_int timeouts_ms[COMM_NUM_PHASES]; /* 0 = never */
    atomic_uint generation;                  /* of the phase; a change restarts the clock */
    atomic_uint waiting_for;                 /* number of the collective, 0 = none */
    atomic_int exit_code;                    /* not 0: aborting with it */
    struct beat_slot alone;                  /* the slot before the table is there */
    _Atomic(struct beat_slot *) self;
    enum comm_phase phase; /* outside of collectives; main thread only */
    char label[BEAT_LABEL_SIZE];

    /* The other ranks; set once by the main thread, read by the thread after is_attached. */
    atomic_bool is_attached;
    const struct comm *comm;
    struct beat_slot *slots;
    struct peer *peers;     /* [size] */
    struct pollfd *entries; /* enough for all processes and connections */
    _Atomic(struct beacon *) beacon;

    /* The thread's own. */
    double time, waited, beacon_sent, deadline, terminate_at;
    unsigned seen_generation;

    atomic_bool gave_up;
    char verdict[VERDICT_SIZE]; /* constant once gave_up */
};

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

/* ---- words ---- */

static void append_step(struct strbuf *text, int64_t step)
{
    if (step >= 0) strbuf_printf(text, "step %lld: ", (long long)step);
}

/* "data 'read batch'", or only the quoted name of a collective. */
static void append_phase(struct strbuf *text, int phase, const char *label)
{
    bool is_named = label[0] != '\0';
    if (phase != COMM_PHASE_COLLECTIVE || !is_named)
        strbuf_printf(text, "%s%s", phases[phase].name, is_named ? " " : "");
    if (is_named) strbuf_printf(text, "'%s'", label);
}

static void append_self(const struct watchdog *w, struct strbuf *text)
{
    struct beat beat;
    beat_read(atomic_load(&w->self), 0, &beat);
    if (atomic_load(&w->is_attached)) strbuf_printf(text, "rank %d on ", w->comm->rank);
    strbuf_printf(text, "%s: ", w->host);
    append_step(text, beat.step);
    append_phase(text, beat.phase, beat.label);
}

static bool is_silent(const struct watchdog *w, int rank)
{
    bool is_local = w->comm->leaders[rank] == w->comm->leader;
    return w->time - w->peers[rank].heard > (is_local ? SILENT_LOCAL : SILENT_REMOTE);
}

/* "2 (hostB, pid 4711, step 11, data 'read batch' for 60.2 s)" */
static void append_peer(const struct watchdog *w, struct strbuf *text, int rank)
{
    struct beat beat;
    beat_read(&w->slots[rank], rank, &beat);
    bool is_gone = beat.state == BEAT_DEAD || is_silent(w, rank);
    strbuf_printf(text, "%d (%s", rank, w->comm->hosts[rank]);
    int pid = atomic_load(&w->slots[rank].pid);
    if (pid > 0) strbuf_printf(text, ", pid %d", pid);
    if (beat.state != BEAT_UNKNOWN) {
        strbuf_append(text, is_gone ? ", last in " : ", ");
        if (beat.step >= 0) strbuf_printf(text, "step %lld, ", (long long)beat.step);
        append_phase(text, beat.phase, beat.label);
        if (!is_gone) strbuf_printf(text, " for %.1f s", beat.waited_ms / 1000.0);
    }
    strbuf_append(text, ")");
}

/* A list of ranks that grows while slots are read. */
struct rank_list {
    struct strbuf text;
    int count;
};

static void list_add(const struct watchdog *w, struct rank_list *list, int rank)
{
    if (list->count++ >= SHOWN_RANKS) return;
    if (list->count > 1) strbuf_append(&list->text, ", ");
    append_peer(w, &list->text, rank);
}

static void append_list(struct strbuf *text, const char *head, struct rank_list *list)
{
    if (list->count > 0) strbuf_printf(text, "; %s %s", head, list->text.text);
    if (list->count > SHOWN_RANKS) strbuf_printf(text, " and %d more", list->count - SHOWN_RANKS);
    strbuf_fini(&list->text);
}

/* ---- giving up ---- */

static void give_up(struct watchdog *w, int culprit, struct strbuf *text)
{
    snprintf(w->verdict, sizeof w->verdict, "%s",
             text->failed ? "the watchdog gave up and has no memory to say why" : text->text);
    strbuf_fini(text);
    struct beat_slot *self = atomic_load(&w->self);
    atomic_store(&self->culprit, culprit);
    beat_raise_state(self, BEAT_GAVE_UP);
    w->deadline = w->time + GRACE;
    /* Printed before the main thread can see it and end the process. Printing can block on a pipe
     * nobody reads; then the alarm's default action ends the process. */
    signal(SIGALRM, SIG_DFL);
    alarm(ALARM_SECONDS);
    log_error("%s", w->verdict);
    atomic_store(&w->gave_up, true);
}

static bool is_dead(const struct watchdog *w, int rank)
{
    return atomic_load(&w->slots[rank].state) == BEAT_DEAD;
}

static void give_up_for_dead(struct watchdog *w, int first)
{
    struct strbuf text = {0};
    struct rank_list dead = {0};
    for (int r = first; r < w->comm->size; r++) {
        if (is_dead(w, r)) list_add(w, &dead, r);
    }
    append_self(w, &text);
    append_list(&text, "lost rank", &dead);
    strbuf_append(&text, dead.count > 1 ? ": the processes are gone (killed or crashed)"
                                        : ": the process is gone (killed or crashed)");
    give_up(w, first, &text);
}

/* Another rank has ended the job; `beat` is its slot. */
static void give_up_with(struct watchdog *w, const struct beat *beat)
{
    struct strbuf text = {0};
    append_self(w, &text);
    if (beat->state == BEAT_ABORTED) {
        strbuf_append(&text, "; the job was ended by rank ");
        append_peer(w, &text, beat->rank);
    } else if (beat->culprit == w->comm->rank) {
        strbuf_append(&text, "; this rank was given up, as stopped or too slow, by rank ");
        append_peer(w, &text, beat->rank);
    } else if (beat->culprit >= 0 && beat->culprit < w->comm->size) {
        strbuf_append(&text, "; ranks not heard from: ");
        append_peer(w, &text, beat->culprit);
        strbuf_printf(&text, ", as rank %d reports", beat->rank);
    } else {
        strbuf_append(&text, "; the job was given up by rank ");
        append_peer(w, &text, beat->rank);
    }
    give_up(w, beat->state == BEAT_GAVE_UP ? beat->culprit : beat->rank, &text);
}

/* ---- judging ---- */

/* Gives up when some other rank did, died or ended the job. */
static bool judge_states(struct watchdog *w)
{
    struct beat other = {.rank = -1};
    for (int r = 0; r < w->comm->size; r++) {
        if (r == w->comm->rank) continue;
        if (is_dead(w, r)) {
            give_up_for_dead(w, r);
            return true;
        }
        struct beat beat;
        beat_read(&w->slots[r], r, &beat);
        if (beat.state != BEAT_GAVE_UP && beat.state != BEAT_ABORTED) continue;
        /* The one that began tells more than those that follow. */
        bool is_follower = beat.state == BEAT_GAVE_UP && beat.culprit == r;
        if (other.rank < 0 || !is_follower) other = beat;
        if (!is_follower) break;
    }
    if (other.rank < 0) return false;
    give_up_with(w, &other);
    return true;
}

/* A rank that has not started our collective, but is within the time-out of what it does. */
static bool is_excused(const struct watchdog *w, const struct beat *beat)
{
    int limit = beat->limit_ms;
    if (beat->phase == COMM_PHASE_IDLE) limit = atomic_load(&w->timeouts_ms[COMM_PHASE_COMPUTE]);
    return beat->state == BEAT_RUNNING && (limit == 0 || beat->waited_ms < limit);
}

/* News of other hosts comes through rank 0; while it is silent itself, so are they. */
static bool is_cut_off(const struct watchdog *w, int rank)
{
    return rank != 0 && w->comm->leader != 0 && w->comm->leaders[rank] != w->comm->leader &&
           is_silent(w, 0);
}

/* Who is missing from collective `sequence`, and whether to give up on them. */
static void judge_collective(struct watchdog *w, uint32_t sequence, bool is_late)
{
    struct rank_list silent = {0};
    struct rank_list late = {0};
    struct rank_list gone = {0};
    struct rank_list unknown = {0};
    int culprit = -1;
    bool is_all_excused = true;
    for (int r = 0; r < w->comm->size; r++) {
        struct beat beat;
        if (r == w->comm->rank) continue;
        beat_read(&w->slots[r], r, &beat);
        bool has_arrived = (int32_t)((uint32_t)(beat.call >> 32) - sequence) >= 0;
        if (!has_arrived && beat.state == BEAT_FINISHED) {
            list_add(w, &gone, r);
        } else if (is_cut_off(w, r)) {
            list_add(w, &unknown, r);
            continue;
        } else if (is_silent(w, r)) {
            list_add(w, &silent, r);
        } else if (!has_arrived) {
            list_add(w, &late, r);
            is_all_excused = is_all_excused && is_excused(w, &beat);
        } else {
            continue;
        }
        if (culprit < 0) culprit = r;
    }
    bool is_excused_wait = late.count > 0 && is_all_excused && silent.count == 0;
    if (gone.count > 0 || (is_late && !is_excused_wait)) {
        struct strbuf text = {0};
        append_self(w, &text);
        strbuf_printf(&text, " has waited %.1f s", w->waited);
        if (culprit < 0)
            strbuf_append(&text, "; all ranks are in this call and heard from: the network or the "
                                 "MPI library is stuck");
        append_list(&text, "ranks not heard from:", &silent);
        append_list(&text, "ranks not arrived:", &late);
        append_list(&text, "ranks that have finished:", &gone);
        append_list(&text, "no news, which comes through rank 0, of", &unknown);
        give_up(w, culprit, &text);
        return;
    }
    strbuf_fini(&silent.text);
    strbuf_fini(&late.text);
    strbuf_fini(&gone.text);
    strbuf_fini(&unknown.text);
}

/* Two ranks that wait in collectives of the same number but of different names wait forever. */
static bool judge_mismatch(struct watchdog *w, uint64_t call)
{
    for (int r = 0; r < w->comm->size; r++) {
        struct beat beat;
        beat_read(&w->slots[r], r, &beat);
        if (r == w->comm->rank || beat.phase != COMM_PHASE_COLLECTIVE || beat.call == call ||
            beat.call >> 32 != call >> 32 || beat.waited_ms < MISMATCH_DELAY * 1000)
            continue;
        struct strbuf text = {0};
        append_self(w, &text);
        strbuf_append(&text, " waits while another collective is called by rank ");
        append_peer(w, &text, r);
        strbuf_append(&text, "; all ranks must make the same calls in the same order");
        give_up(w, r, &text);
        return true;
    }
    return false;
}

static void judge_phase(struct watchdog *w)
{
    struct beat self;
    beat_read(atomic_load(&w->self), 0, &self);
    uint32_t sequence = atomic_load(&w->waiting_for);
    bool is_late = self.limit_ms > 0 && self.waited_ms > self.limit_ms;
    bool is_attached = atomic_load(&w->is_attached);
    if (is_attached && sequence != 0) {
        if (sequence == self.call >> 32 && w->waited > MISMATCH_DELAY &&
            judge_mismatch(w, self.call))
            return;
        judge_collective(w, sequence, is_late);
    } else if (is_late) {
        struct strbuf text = {0};
        append_self(w, &text);
        strbuf_printf(&text, " has taken %.1f s, the time-out of this phase is %.1f s", w->waited,
                      self.limit_ms / 1000.0);
        if (!is_attached)
            strbuf_append(&text, "; have all ranks of the job started, and do their hosts reach "
                                 "each other?");
        give_up(w, -1, &text);
    }
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
    if (!beacon || (!is_urgent && w->time - w->beacon_sent < BEACON_INTERVAL)) return;
    beacon_send(beacon);
    w->beacon_sent = w->time;
}

static void judge(struct watchdog *w)
{
    int state = atomic_load(&atomic_load(&w->self)->state);
    if (atomic_load(&w->gave_up) || state == BEAT_ABORTED) return;
    bool is_peer_watched = atomic_load(&w->is_attached) && state == BEAT_RUNNING;
    if (!is_peer_watched || !judge_states(w)) judge_phase(w);
    if (atomic_load(&w->gave_up)) send_beacon(w, true);
}

/* Ends the process when the main thread had its moment, or when SIGTERM had no reason. */
static void end_process(struct watchdog *w)
{
    int code = atomic_load(&w->exit_code);
    if (code != 0 && w->deadline == 0) {
        w->deadline = w->time + GRACE;
        send_beacon(w, true);
    }
    if (w->deadline > 0 && w->time > w->deadline) _exit(code ? code : 1);
    if (!atomic_load(&sigterm_caught) || atomic_load(&sigterm_wake) != w->wake) return;
    if (w->terminate_at == 0) w->terminate_at = w->time + SIGTERM_DELAY;
    if (w->time > w->terminate_at && w->deadline == 0) end_by_sigterm();
}

static void *watch(void *argument)
{
    struct watchdog *w = argument;
    struct pollfd alone[1];
    while (!atomic_load(&w->is_stopping)) {
        bool is_attached = atomic_load(&w->is_attached);
        wait_for_events(w, is_attached ? w->entries : alone, is_attached);
        tick(w);
        judge(w);
        send_beacon(w, false);
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

enum status watchdog_create(const char *host, const double *timeouts, struct watchdog **out)
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
    *out = w;
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
    if (comm->rank != 0 && comm->rank == comm->leader) {
        status = beacon_connect(comm, w->slots, &invitation, &beacon);
        atomic_store(&w->beacon, beacon);
    }
    if (status != STATUS_OK)
        log_warning("%s; the ranks of this host are watched by time-outs only", status_message());
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
