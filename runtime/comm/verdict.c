/*
 * Judging the ranks by their heartbeats, and the words for it.
 *
 *  - A rank is dead, gave up or ended the job: give up now.
 *  - A rank that this one waits for has left, or waits in a collective of another name: it will
 *    never come; give up now.
 *  - This rank's phase is over its time-out: give up. In a collective, name the ranks that are
 *    silent (stopped or unreachable) or have not started it. If all of these are alive and within
 *    their own phase's time-out, waiting goes on: they will time out by themselves.
 *
 * Nothing is allocated before there is a verdict.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/base/strbuf.h"
#include "runtime/comm/watchdog_impl.h"

enum { ALARM_SECONDS = 5, SHOWN_RANKS = 16 };
static const double SILENT_LOCAL = 1.5; /* seconds without a heartbeat */
static const double SILENT_REMOTE = 2.5;
static const double MISMATCH_DELAY = 0.5; /* both sides wait this long before labels are compared */

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
        strbuf_printf(text, "%s%s", watchdog_phase_name(phase), is_named ? " " : "");
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
    w->deadline = w->time + GRACE_MS / 1000.0;
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

/* A rank that has not started our collective, but is within the time-out of what it does; for one
 * that there is no news from at all, of what it may be doing. */
static bool is_excused(const struct watchdog *w, const struct beat *beat)
{
    int limit = beat->limit_ms;
    double waited_ms = beat->waited_ms;
    if (beat->state == BEAT_UNKNOWN) waited_ms = w->waited * 1000;
    if (beat->state == BEAT_UNKNOWN || beat->phase == COMM_PHASE_IDLE)
        limit = atomic_load(&w->timeouts_ms[COMM_PHASE_COMPUTE]);
    return beat->state <= BEAT_RUNNING && (limit == 0 || waited_ms < limit);
}

/* News of other hosts comes through rank 0; while it is silent itself, so are they. */
static bool is_cut_off(const struct watchdog *w, int rank)
{
    return rank != 0 && w->comm->leader != 0 && w->comm->leaders[rank] != w->comm->leader &&
           is_silent(w, 0);
}

/* Why ranks are missing from a collective, the worse reasons first. */
enum reason { LEFT, SILENT, LATE, CUT_OFF, NUM_REASONS, NOT_MISSING = NUM_REASONS };
static const char *const reasons[NUM_REASONS] = {
    [LEFT] = "ranks that have finished:",
    [SILENT] = "ranks not heard from:",
    [LATE] = "ranks not arrived:",
    [CUT_OFF] = "no news, which comes through rank 0, of",
};

static enum reason find_reason(const struct watchdog *w, const struct beat *beat, uint32_t sequence)
{
    bool has_arrived = (int32_t)((uint32_t)(beat->call >> 32) - sequence) >= 0;
    if (!has_arrived && beat->state == BEAT_FINISHED) return LEFT;
    if (is_cut_off(w, beat->rank)) return CUT_OFF;
    if (is_silent(w, beat->rank) && beat->state != BEAT_UNKNOWN) return SILENT;
    return has_arrived ? NOT_MISSING : LATE;
}

static void give_up_collective(struct watchdog *w, uint32_t sequence)
{
    struct rank_list missing[NUM_REASONS] = {0};
    int first[NUM_REASONS] = {0};
    for (int r = 0; r < w->comm->size; r++) {
        struct beat beat;
        beat_read(&w->slots[r], r, &beat);
        enum reason reason = find_reason(w, &beat, sequence);
        if (r == w->comm->rank || reason == NOT_MISSING) continue;
        if (missing[reason].count == 0) first[reason] = r;
        list_add(w, &missing[reason], r);
    }
    struct strbuf text = {0};
    int culprit = -1;
    append_self(w, &text);
    strbuf_printf(&text, " has waited %.1f s", w->waited);
    for (int i = 0; i < NUM_REASONS; i++) {
        if (missing[i].count > 0 && culprit < 0 && i != CUT_OFF) culprit = first[i];
        append_list(&text, reasons[i], &missing[i]);
    }
    if (culprit < 0)
        strbuf_append(&text,
                      "; all other ranks are in this call: the network or the MPI library is "
                      "stuck");
    give_up(w, culprit, &text);
}

/* Gives up on collective `sequence` when a rank will never come, and over the time-out unless all
 * that are missing are excused. */
static void judge_collective(struct watchdog *w, uint32_t sequence, bool is_late)
{
    int count[NUM_REASONS + 1] = {0};
    bool is_any_inexcusable = false;
    for (int r = 0; r < w->comm->size; r++) {
        struct beat beat;
        if (r == w->comm->rank) continue;
        beat_read(&w->slots[r], r, &beat);
        enum reason reason = find_reason(w, &beat, sequence);
        count[reason]++;
        if (reason == SILENT || (reason == LATE && !is_excused(w, &beat)))
            is_any_inexcusable = true;
    }
    bool is_worth_waiting = count[LATE] > 0 && !is_any_inexcusable;
    /* With short time-outs, a stopped rank is not silent for long enough to be named yet. */
    if (count[NOT_MISSING] == w->comm->size - 1 && w->waited < SILENT_REMOTE + 1)
        is_worth_waiting = true;
    if (count[LEFT] > 0 || (is_late && !is_worth_waiting)) give_up_collective(w, sequence);
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
        give_up(w, -1, &text);
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

void watchdog_judge(struct watchdog *w)
{
    int state = atomic_load(&atomic_load(&w->self)->state);
    if (atomic_load(&w->gave_up) || state == BEAT_ABORTED) return;
    bool is_peer_watched = atomic_load(&w->is_attached) && state == BEAT_RUNNING;
    if (!is_peer_watched || !judge_states(w)) judge_phase(w);
}
