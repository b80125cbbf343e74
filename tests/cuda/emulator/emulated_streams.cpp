/*
 * Streams, events and graphs of the emulator.
 *
 * What is submitted waits in its stream. It runs when the host waits, or asks whether something is
 * done, and now and then when more is submitted. Whose turn it is is drawn: a stream goes on for
 * some pieces of work, then another does, so that each is sometimes far ahead of the others. What
 * orders two streams is events alone. The NULL stream is one like the others: all others are made
 * not to wait for it.
 *
 * A recorded graph keeps what each piece comes after, by its stream and the events it waited for,
 * and runs its pieces in any order that this allows.
 *
 * Collectives are done in the order of their submission, as NCCL does with those of a communicator.
 */
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <vector>

#include "tests/cuda/emulator/emulated_streams.h"

enum outcome { BLOCKED, MOVED, DONE };

struct piece {
    std::function<enum outcome()> work;
};

struct node {
    std::function<bool()> work;
    std::vector<int> before; /* nodes that it comes after */
    bool is_collective;
};

struct emulated_graph {
    std::vector<struct node> nodes;
    int last_collective = -1;
};

struct CUstream_st {
    std::deque<struct piece> queue; /* submitted and not done */
    bool is_recording = false;
    std::vector<int> tail; /* recording: what the next piece comes after */
};

struct event_state {
    double time;
    uint64_t asked, reached; /* how often it was recorded, and how often that was reached */
    int64_t recording;       /* the recording that it was last part of; 0: of none */
    std::vector<int> tail;   /* what it stands for there */
};

/* Work in the queues outlives it. */
struct CUevent_st {
    std::shared_ptr<struct event_state> state = std::make_shared<struct event_state>();
};

static struct {
    struct CUstream_st null;
    std::vector<struct CUstream_st *> streams = {&null};
    struct emulated_graph *graph; /* being recorded */
    struct CUstream_st *origin;
    int64_t recording; /* counts */
    bool is_moving;
    uint64_t random = 1;
    struct CUstream_st *turn; /* whose it is */
    int64_t turns;            /* how long still */
    int64_t tickets, served;  /* of collectives */
    int64_t done;             /* pieces of work */
    bool is_broken;
} s;

void emulated_streams_seed(uint64_t seed)
{
    s.random = seed * 0x9E3779B97F4A7C15u | 1;
}

static uint64_t draw(uint64_t below)
{
    s.random ^= s.random << 13;
    s.random ^= s.random >> 7;
    s.random ^= s.random << 17;
    return (s.random >> 11) % below;
}

static struct CUstream_st *stream_of(cudaStream_t stream)
{
    return stream ? stream : &s.null;
}

/* ---- moving on ---- */

/* WEFT_EMULATED_FAILURE: the device fails after so many pieces of work, or with a kernel of this
 * name. */
static const char *failure(void)
{
    static const char *text;
    static bool is_known;
    if (!is_known) text = emulated_setting("WEFT_EMULATED_FAILURE");
    is_known = true;
    return text;
}

static void count_piece(void)
{
    s.done++;
    if (failure() && s.done == atoll(failure())) s.is_broken = true;
}

void emulated_ran(const char *kernel)
{
    if (failure() && strcmp(failure(), kernel) == 0) s.is_broken = true;
}

/* Runs one piece of the stream, unless it has to wait. */
static bool advance(struct CUstream_st *stream)
{
    if (stream->queue.empty()) return false;
    enum outcome outcome = stream->queue.front().work();
    if (outcome == DONE) stream->queue.pop_front();
    return outcome != BLOCKED;
}

/* Runs one piece of some stream; false when there is none that can run. */
static bool advance_any(void)
{
    if (s.turns-- <= 0) {
        s.turn = s.streams[draw(s.streams.size())];
        s.turns = (int64_t)draw(draw(2) ? 8 : 200);
    }
    if (s.turn && advance(s.turn)) return true;
    s.turns = 0;
    size_t first = draw(s.streams.size());
    for (size_t i = 0; i < s.streams.size(); i++) {
        if (advance(s.streams[(first + i) % s.streams.size()])) return true;
    }
    return false;
}

/* Until something is so, `most` pieces are done, or nothing can go on. */
template <typename F> static void move(F is_reached, int64_t most)
{
    if (s.is_moving || s.is_broken) return;
    s.is_moving = true;
    emulated_enter();
    for (int64_t i = 0; i < most && !is_reached() && advance_any() && !s.is_broken; i++) {
    }
    emulated_leave();
    s.is_moving = false;
    if (!s.is_broken) return;
    emulated_break();
    for (struct CUstream_st *stream : s.streams) {
        stream->queue.clear();
    }
}

template <typename F> static cudaError_t wait_until(F is_reached)
{
    if (s.graph) return emulated_result(cudaErrorStreamCaptureUnsupported);
    for (;;) {
        move(is_reached, INT64_MAX);
        if (s.is_broken || is_reached()) return emulated_result(cudaSuccess);
        usleep(50);
    }
}

cudaError_t emulated_drain(void)
{
    return wait_until([]() {
        return std::all_of(s.streams.begin(), s.streams.end(),
                           [](struct CUstream_st *stream) { return stream->queue.empty(); });
    });
}

cudaError_t cudaDeviceSynchronize(void)
{
    return emulated_drain();
}

/* ---- submitting ---- */

bool emulated_is_recording(void)
{
    return s.graph != NULL;
}

bool emulated_is_capturing(cudaStream_t stream)
{
    return stream_of(stream)->is_recording;
}

static void push(struct CUstream_st *stream, std::function<enum outcome()> work)
{
    stream->queue.push_back({work});
    if (draw(8) == 0) move([]() { return false; }, (int64_t)draw(32));
}

/* Adds a piece to the graph being recorded. */
static void record(struct CUstream_st *stream, std::function<bool()> work, bool is_collective)
{
    int number = (int)s.graph->nodes.size();
    struct node node = {work, stream->tail, is_collective};
    if (is_collective) {
        if (s.graph->last_collective >= 0) node.before.push_back(s.graph->last_collective);
        s.graph->last_collective = number;
    }
    s.graph->nodes.push_back(node);
    stream->tail = {number};
}

static cudaError_t submit(cudaStream_t handle, std::function<bool()> work, bool is_collective)
{
    struct CUstream_st *stream = stream_of(handle);
    if (s.is_broken) return emulated_result(cudaSuccess);
    if (s.graph && !handle) return emulated_result(cudaErrorStreamCaptureUnsupported);
    if (stream->is_recording) {
        record(stream, work, is_collective);
        return cudaSuccess;
    }
    int64_t ticket = is_collective ? s.tickets++ : -1;
    push(stream, [=]() {
        if (ticket > s.served || !work()) return BLOCKED;
        if (is_collective) s.served++;
        count_piece();
        return DONE;
    });
    return cudaSuccess;
}

cudaError_t emulated_submit_collective(cudaStream_t stream, std::function<bool()> work)
{
    return submit(stream, work, true);
}

cudaError_t emulated_submit(cudaStream_t stream, std::function<void()> work)
{
    return submit(
        stream,
        [=]() {
            work();
            return true;
        },
        false);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *user)
{
    return emulated_submit(stream, [=]() {
        emulated_leave();
        function(user);
        emulated_enter();
    });
}

/* ---- streams ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    /* One that waits for the NULL stream is not emulated. */
    if (flags != cudaStreamNonBlocking) return emulated_result(cudaErrorInvalidValue);
    *stream = new struct CUstream_st();
    s.streams.push_back(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority)
{
    (void)priority;
    return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    return wait_until([=]() { return stream_of(stream)->queue.empty(); });
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    cudaStreamSynchronize(stream);
    s.streams.erase(std::find(s.streams.begin(), s.streams.end(), stream));
    if (s.turn == stream) s.turn = NULL;
    delete stream;
    return cudaSuccess;
}

/* ---- events ---- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    (void)flags;
    *event = new struct CUevent_st();
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return cudaSuccess;
}

static double delayed;

void emulated_delay(double seconds)
{
    delayed += seconds;
}

cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream)
{
    std::shared_ptr<struct event_state> event = handle->state;
    if (stream_of(stream)->is_recording) {
        event->recording = s.recording;
        event->tail = stream->tail;
        return cudaSuccess;
    }
    event->recording = 0;
    uint64_t number = ++event->asked;
    return emulated_submit(stream, [=]() {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        event->time = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec + delayed;
        event->reached = number;
    });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned flags)
{
    (void)flags;
    struct CUstream_st *stream = stream_of(handle);
    std::shared_ptr<struct event_state> state = event->state;
    bool is_of_recording = s.graph && state->recording == s.recording;
    if (is_of_recording != stream->is_recording) {
        /* A stream that has nothing recorded joins. */
        if (!is_of_recording) return emulated_result(cudaErrorStreamCaptureIsolation);
        stream->is_recording = true;
        stream->tail.clear();
    }
    if (is_of_recording) {
        stream->tail.insert(stream->tail.end(), state->tail.begin(), state->tail.end());
        return cudaSuccess;
    }
    if (s.is_broken) return emulated_result(cudaSuccess);
    uint64_t number = state->asked;
    push(stream, [=]() { return state->reached >= number ? DONE : BLOCKED; });
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    struct event_state *state = event->state.get();
    auto is_reached = [=]() { return state->reached == state->asked; };
    move(is_reached, INT64_MAX);
    if (s.is_broken) return emulated_result(cudaSuccess);
    return emulated_result(is_reached() ? cudaSuccess : cudaErrorNotReady);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    struct event_state *state = event->state.get();
    return wait_until([=]() { return state->reached == state->asked; });
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end)
{
    *milliseconds = (float)(1e3 * (end->state->time - start->state->time));
    return cudaSuccess;
}

/* ---- graphs ---- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    (void)mode;
    if (!stream || s.graph) return emulated_result(cudaErrorStreamCaptureUnsupported);
    s.graph = new struct emulated_graph();
    s.recording++;
    s.origin = stream;
    stream->is_recording = true;
    stream->tail.clear();
    return cudaSuccess;
}

/* Whether all that was recorded comes before the end of the first stream. */
static bool is_joined(const struct emulated_graph *graph, const std::vector<int> &end)
{
    std::vector<bool> seen(graph->nodes.size());
    std::vector<int> left = end;
    size_t count = 0;
    while (!left.empty()) {
        int number = left.back();
        left.pop_back();
        if (seen[(size_t)number]) continue;
        seen[(size_t)number] = true;
        count++;
        const std::vector<int> &before = graph->nodes[(size_t)number].before;
        left.insert(left.end(), before.begin(), before.end());
    }
    return count == graph->nodes.size();
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    *graph = NULL;
    if (!s.graph || stream != s.origin) return emulated_result(cudaErrorInvalidValue);
    *graph = s.graph;
    s.graph = NULL;
    for (struct CUstream_st *other : s.streams) {
        other->is_recording = false;
    }
    if (is_joined(*graph, stream->tail)) return cudaSuccess;
    delete *graph;
    *graph = NULL;
    return emulated_result(cudaErrorStreamCaptureUnjoined);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags)
{
    (void)flags;
    *exec = new struct emulated_graph(*graph);
    return cudaSuccess;
}

/* A graph under way. */
struct launch {
    std::vector<struct node> nodes;
    std::vector<std::vector<int>> after; /* by node, those that come after it */
    std::vector<size_t> missing;         /* by node, how many before it are not done */
    std::vector<int> ready;
    size_t left;
    int64_t ticket; /* -1: it has no collective */
};

static std::shared_ptr<struct launch> prepare(const struct emulated_graph *graph)
{
    std::shared_ptr<struct launch> l = std::make_shared<struct launch>();
    l->nodes = graph->nodes;
    l->left = l->nodes.size();
    l->after.resize(l->left);
    l->ticket = graph->last_collective >= 0 ? s.tickets++ : -1;
    for (int i = 0; i < (int)l->nodes.size(); i++) {
        const std::vector<int> &before = l->nodes[(size_t)i].before;
        l->missing.push_back(before.size());
        if (before.empty()) l->ready.push_back(i);
        for (int earlier : before) {
            l->after[(size_t)earlier].push_back(i);
        }
    }
    return l;
}

/* Runs a piece that is ready. */
static enum outcome advance_graph(struct launch *l)
{
    size_t first = l->ready.empty() ? 0 : draw(l->ready.size());
    for (size_t i = 0; i < l->ready.size(); i++) {
        size_t at = (first + i) % l->ready.size();
        int number = l->ready[at];
        const struct node &node = l->nodes[(size_t)number];
        if ((node.is_collective && l->ticket > s.served) || !node.work()) continue;
        l->ready.erase(l->ready.begin() + (int64_t)at);
        for (int later : l->after[(size_t)number]) {
            if (--l->missing[(size_t)later] == 0) l->ready.push_back(later);
        }
        l->left--;
        count_piece();
        if (l->left > 0) return MOVED;
        break;
    }
    if (l->left > 0) return BLOCKED;
    if (l->ticket >= 0) s.served++;
    return DONE;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    if (s.is_broken) return emulated_result(cudaSuccess);
    if (stream_of(stream)->is_recording) return emulated_result(cudaErrorStreamCaptureUnsupported);
    std::shared_ptr<struct launch> launch = prepare(exec);
    push(stream_of(stream), [=]() { return advance_graph(launch.get()); });
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete exec;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}
