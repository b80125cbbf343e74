/*
 * Replay on a GPU. See executor.h, executor_impl.h and cuda_op.h.
 *
 * A run is one stream of work: inputs (inputs.cu) and values to the device, the kernels of the plan
 * in order, outputs and faults back. The first run launches op by op, which loads the kernels; when
 * the same kind of run comes again it is recorded into a CUDA graph, and from then on replayed with
 * one call. Kinds differ in whether gradients accumulate; what depends on parameters alone (the
 * update phase) is a graph of its own. The host waits only in wait(), for what it wants to read,
 * and not for the update that the optimiser enqueued behind the run (executor_stream).
 *
 * Several ranks: collectives are part of the stream and of its graphs. With `reduce`, each bucket
 * of the gradient is summed on a second stream as soon as it is complete, beside the kernels of the
 * backward pass; the end of the run waits for both. An op that needs the host in between (rows of
 * other ranks, exchange_ranks.cu) cuts the step into pieces: graph, op, graph. Waits poll, so that
 * a rank or a GPU that fails ends them (device_comm.h).
 *
 * Op by op, with a wait after each, and a message that names the op that failed: with the
 * environment variable WEFT_CUDA_SYNC=1, when looking for values that are not finite, and when
 * profiling.
 */
#include <stdio.h>

#include "runtime/backend/cuda/backend_impl.h"
#include "runtime/backend/cuda/device.h"
#include "runtime/backend/cuda/device_comm.h"
#include "runtime/backend/cuda/kernel.cuh"
#include "runtime/backend/cuda/tune.h"
#include "runtime/comm/comm.h"

/* Until all that is on the stream is done. */
enum status cuda_finish(struct executor *e, const char *what)
{
    struct cuda_state *s = state_of(e);
    if (s->comm) return device_comm_wait(s->comm, s->stream, s->call, what);
    return cuda_device_blame(e->options.comm, cuda_status(cudaStreamSynchronize(s->stream), what));
}

static bool one_by_one(const struct executor *e)
{
    return state_of(e)->sync || e->options.profile || e->options.check_finite || e->found;
}

static bool is_adding(enum cuda_kind kind)
{
    return kind == KIND_STEP_ADDING || kind == KIND_STEP_ADDING_REDUCING;
}

static bool is_reducing(enum cuda_kind kind)
{
    return kind == KIND_STEP_REDUCING || kind == KIND_STEP_ADDING_REDUCING;
}

static struct cuda_run run_of(struct executor *e, enum cuda_kind kind)
{
    struct cuda_state *s = state_of(e);
    struct cuda_run run = {};
    run.stream = s->stream;
    run.values = s->values;
    run.fault = s->fault;
    run.seed = e->options.seed;
    run.rank = e->options.comm ? e->options.comm->rank : 0;
    run.tf32 = e->options.tf32;
    run.accumulate = is_adding(kind);
    run.host = &s->host;
    run.comm = s->comm;
    run.size = e->options.comm ? e->options.comm->size : 1;
    run.run_number = s->run_number;
    run.call = s->call;
    return run;
}

static enum status enqueue_values(struct executor *e)
{
    struct cuda_state *s = state_of(e);
    CUDA_TRY(cudaMemcpyAsync(s->values, s->values_host, sizeof *s->values, cudaMemcpyHostToDevice,
                             s->stream));
    return STATUS_OK;
}

static enum status enqueue_outputs(struct executor *e)
{
    struct cuda_state *s = state_of(e);
    for (int i = 0; i < s->num_outputs; i++) {
        const struct cuda_output *o = &s->output[i];
        CUDA_TRY(cudaMemcpyAsync(s->outputs + o->offset, executor_value_address(e, o->value),
                                 o->bytes, cudaMemcpyDeviceToHost, s->stream));
    }
    CUDA_TRY(cudaMemcpyAsync(s->fault_host, s->fault, sizeof *s->fault, cudaMemcpyDeviceToHost,
                             s->stream));
    return STATUS_OK;
}

/* Sums a bucket over ranks on the second stream, once what is on the first so far is done. */
static enum status start_bucket(struct executor *e, int index)
{
    struct cuda_state *s = state_of(e);
    const struct plan_bucket *bucket = &e->plan->buckets[index];
    float *data = (float *)e->memory[PLAN_CLASS_GRADIENT] + bucket->offset;
    cudaStream_t stream = device_comm_stream(s->comm);
    char label[48];
    snprintf(label, sizeof label, "gradient bucket %d", index);
    if (bucket->count == 0) return STATUS_OK;
    CUDA_TRY(cudaEventRecord(s->fork, s->stream));
    CUDA_TRY(cudaStreamWaitEvent(stream, s->fork, 0));
    s->is_forked = true;
    if (e->plan->options.num_slices > 1) {
        return device_comm_reduce(s->comm, label, data, bucket->count, bucket->slice, stream);
    }
    return device_comm_all_reduce(s->comm, label, data, data, bucket->count, COMM_F32, stream);
}

static enum status join_buckets(struct executor *e)
{
    struct cuda_state *s = state_of(e);
    if (!s->is_forked) return STATUS_OK;
    s->is_forked = false;
    CUDA_TRY(cudaEventRecord(s->join, device_comm_stream(s->comm)));
    CUDA_TRY(cudaStreamWaitEvent(s->stream, s->join, 0));
    return STATUS_OK;
}

/* Steps [begin, end) of a kind, and the buckets that are complete with them. */
static enum status enqueue_steps(struct executor *e, enum cuda_kind kind, int begin, int end)
{
    struct cuda_run run = run_of(e, kind);
    const struct plan *plan = e->plan;
    bool reduce = is_reducing(kind) && run.comm;
    int bucket = 0;
    while (begin > 0 && bucket < plan->num_buckets && plan->buckets[bucket].ready < begin) {
        bucket++;
    }
    for (int i = begin; i < end; i++) {
        if ((plan->steps[i].phase == PLAN_PHASE_UPDATE) != (kind == KIND_UPDATE)) continue;
        run.number = i;
        TRY(one_by_one(e) ? cuda_step_alone(e, i, &run) : cuda_step_enqueue(e, i, &run));
        while (reduce && bucket < plan->num_buckets && plan->buckets[bucket].ready <= i) {
            TRY(start_bucket(e, bucket++));
        }
        if (e->options.poison) TRY(cuda_step_poison(e, i));
    }
    while (reduce && end == plan->num_steps && bucket < plan->num_buckets) {
        TRY(start_bucket(e, bucket++));
    }
    return STATUS_OK;
}

/* A piece of a kind, on streams that may be recording. */
static enum status enqueue(struct executor *e, enum cuda_kind kind, int piece, int num_pieces)
{
    struct cuda_state *s = state_of(e);
    bool is_last = piece == num_pieces - 1;
    int begin = piece == 0 ? 0 : s->cuts[piece - 1] + 1;
    int end = is_last ? e->plan->num_steps : s->cuts[piece];
    if (piece == 0) {
        if (kind != KIND_UPDATE) TRY(enqueue_values(e));
        CUDA_TRY(cudaMemsetAsync(s->fault, CUDA_NO_FAULT & 0xFF, sizeof *s->fault, s->stream));
    }
    TRY(enqueue_steps(e, kind, begin, end));
    if (is_last && kind != KIND_UPDATE) TRY(enqueue_outputs(e));
    return join_buckets(e);
}

static enum status record(struct executor *e, enum cuda_kind kind, int piece, int num_pieces)
{
    struct cuda_state *s = state_of(e);
    cudaGraph_t graph = NULL;
    CUDA_TRY(cudaStreamBeginCapture(s->stream, cudaStreamCaptureModeThreadLocal));
    enum status status = enqueue(e, kind, piece, num_pieces);
    /* Ends the recording also after a failure, which is the one to report. */
    cudaError_t error = cudaStreamEndCapture(s->stream, &graph);
    if (status == STATUS_OK) status = cuda_status(error, "cudaStreamEndCapture");
    if (status == STATUS_OK) {
        status = cuda_status(cudaGraphInstantiate(&s->graph[kind][piece], graph, 0),
                             "cudaGraphInstantiate");
    }
    if (graph) cudaGraphDestroy(graph);
    return status;
}

/* The op between two pieces. Its wait is also that of the cuts after it whose numbers are there. */
static enum status run_cut(struct executor *e, enum cuda_kind kind, int cut)
{
    struct cuda_state *s = state_of(e);
    struct cuda_run run = run_of(e, kind);
    int now = s->cuts[cut];
    for (int i = cut; i < s->num_cuts; i++) {
        struct plan_step *step = &e->plan->steps[s->cuts[i]];
        if (e->plan->values[step->in[1]].def >= now) continue;
        TRY(cuda_op_wait_begin(&step->kernel, &run));
    }
    TRY(enqueue_steps(e, kind, now, now + 1));
    return join_buckets(e); /* what is recorded cannot wait for what is not */
}

static enum status run_kind(struct executor *e, enum cuda_kind kind)
{
    struct cuda_state *s = state_of(e);
    int num_pieces = kind == KIND_UPDATE ? 1 : s->num_cuts + 1;
    /* The first time loads kernels and libraries, which a recording may not do. */
    bool is_launched = one_by_one(e) || !s->seen[kind];
    s->seen[kind] = true;
    for (int piece = 0; piece < num_pieces; piece++) {
        if (piece > 0) TRY(run_cut(e, kind, piece - 1));
        if (is_launched) {
            TRY(enqueue(e, kind, piece, num_pieces));
            continue;
        }
        if (!s->graph[kind][piece]) TRY(record(e, kind, piece, num_pieces));
        CUDA_TRY(cudaGraphLaunch(s->graph[kind][piece], s->stream));
    }
    return STATUS_OK;
}

/* And not for an update that was enqueued since. */
static enum status wait_for_run(struct executor *e)
{
    static const char what[] = "forward and backward";
    struct cuda_state *s = state_of(e);
    if (s->comm) return device_comm_wait_event(s->comm, s->ran, s->call, what);
    return cuda_device_blame(e->options.comm, cuda_status(cudaEventSynchronize(s->ran), what));
}

enum status cuda_wait(struct executor *e)
{
    struct cuda_state *s = state_of(e);
    if (!s->running) return STATUS_OK;
    TRY(wait_for_run(e));
    s->running = false;
    CHECK(s->host.status == STATUS_OK, s->host.status, "%s", s->host.message);
    if (*s->fault_host != CUDA_NO_FAULT) return cuda_fault_describe(e, *s->fault_host);
    return STATUS_OK;
}

enum status cuda_settle(struct executor *e)
{
    struct cuda_state *s = state_of(e);
    if (s->comm) TRY(device_comm_order(s->comm, s->stream));
    if (!s->parameters_edited) return STATUS_OK;
    CUDA_TRY(cudaMemcpyAsync(e->memory[PLAN_CLASS_PARAMETER], s->flat[0],
                             e->plan->class_bytes[PLAN_CLASS_PARAMETER], cudaMemcpyHostToDevice,
                             s->stream));
    TRY(cuda_finish(e, "parameters"));
    s->parameters_edited = false;
    return STATUS_OK;
}

double cuda_seconds(struct executor *e)
{
    float milliseconds = 0;
    cudaError_t error = cudaEventElapsedTime(&milliseconds, state_of(e)->begun, state_of(e)->ran);
    if (error != cudaSuccess) cudaGetLastError(); /* there was no run */
    return error == cudaSuccess ? 1e-3 * (double)milliseconds : 0;
}

/* The work of a run, and the end of it also where that fails. */
static enum status enqueue_run(struct executor *e, const struct executor_run *run)
{
    struct cuda_state *s = state_of(e);
    CUDA_TRY(cudaEventRecord(s->begun, s->stream));
    enum status status = cuda_inputs_take(e);
    if (status == STATUS_OK && e->updated != e->version) status = run_kind(e, KIND_UPDATE);
    e->updated = e->version;
    if (status == STATUS_OK) {
        status = run_kind(e, run->reduce
                                 ? run->accumulate ? KIND_STEP_ADDING_REDUCING : KIND_STEP_REDUCING
                             : run->accumulate ? KIND_STEP_ADDING
                                               : KIND_STEP);
    }
    cudaError_t error = cudaEventRecord(s->ran, s->stream);
    return status == STATUS_OK ? cuda_status(error, "cudaEventRecord") : status;
}

static enum status run_step(struct executor *e, const struct executor_run *run)
{
    struct cuda_state *s = state_of(e);
    /* Host copies at fixed addresses are free again when the run before is over. */
    TRY(cuda_wait(e));
    TRY(cuda_settle(e));
    s->values_host->step = run->step;
    s->values_host->sample_base = run->sample_base;
    s->host.rows = run->host;
    s->host.status = STATUS_OK;
    /* A run that adds to gradients needs what is there. */
    if (!s->tuned && !run->accumulate) {
        struct cuda_run tuning = run_of(e, KIND_STEP);
        TRY(cuda_tune(e, &tuning));
        s->tuned = true;
        e->updated = 0; /* what was made of the parameters is overwritten */
    }
    s->running = true;
    s->run_number++;
    if (s->comm) s->call = comm_outside_started(e->options.comm, "forward and backward");
    TRY(enqueue_run(e, run));
    s->flat_stale[1] = true;
    return STATUS_OK;
}

enum status cuda_run_step(struct executor *e, const struct executor_run *run)
{
    return cuda_device_blame(e->options.comm, run_step(e, run));
}
