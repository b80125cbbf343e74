/*
 * Replay on a GPU. See executor.h, executor_impl.h and cuda_op.h.
 *
 * A run is one stream of work: values and inputs to the device, the kernels of the plan in order,
 * outputs and faults back. The first run launches op by op, which loads the kernels; when the same
 * kind of run comes again it is recorded into a CUDA graph, and from then on replayed with one
 * call. Kinds differ in whether gradients accumulate; what depends on parameters alone (the update
 * phase) is a graph of its own. The host waits only in wait(), for what it wants to read.
 *
 * Several ranks: collectives are part of the stream and of its graphs. With `reduce`, each bucket
 * of the gradient is summed on a second stream as soon as it is complete, beside the kernels of the
 * backward pass; the end of the run waits for both. An op that needs the host in between (rows of
 * other ranks, exchange_ranks.cu) cuts the step into pieces: graph, op, graph. Waits poll, so that
 * a rank or a GPU that fails ends them (device_comm.h).
 *
 * Host memory: inputs and outputs have pinned copies at fixed addresses, because graphs remember
 * addresses. Parameters and gradients have host copies when somebody asks for them; which copy is
 * newer is tracked here.
 *
 * Op by op, with a wait after each, and a message that names the op that failed: with the
 * environment variable WEFT_CUDA_SYNC=1, when looking for values that are not finite, and when
 * profiling.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/backend/cuda/cuda_op.h"
#include "runtime/backend/cuda/device.h"
#include "runtime/backend/cuda/device_comm.h"
#include "runtime/backend/cuda/kernel.cuh"
#include "runtime/backend/cuda/tune.h"
#include "runtime/backend/executor_impl.h"
#include "runtime/comm/comm.h"
#include "runtime/ops/vector/types.h"

extern "C" bool step_is_view(const struct plan_step *step);

/* Kinds of recorded work. */
enum kind {
    KIND_UPDATE,
    KIND_STEP,
    KIND_STEP_ADDING,
    KIND_STEP_REDUCING,
    KIND_STEP_ADDING_REDUCING,
    KIND_COUNT
};

/* A kept value that is not in the memory of inputs or parameters: copied back after each run. */
struct output {
    int value;
    size_t bytes;
    size_t offset; /* in the host copy */
};

struct cuda_state {
    cudaStream_t stream;
    cudaEvent_t start, end; /* of an op, for the profile */
    bool owned[PLAN_CLASS_COUNT];
    struct cuda_values *values;      /* device */
    struct cuda_values *values_host; /* pinned */
    int32_t *fault;                  /* device */
    int32_t *fault_host;             /* pinned */
    struct cuda_host host;
    char *inputs;  /* pinned copy of the class */
    char *outputs; /* pinned */
    struct output *output;
    int num_outputs;
    float *flat[2];           /* host copies of parameters and gradients; NULL until asked for */
    bool parameters_edited;   /* the host's parameters are newer than the device's */
    bool flat_stale[2];       /* the device's are newer than the host's */
    struct device_comm *comm; /* NULL for one rank */
    cudaEvent_t fork, join;   /* between `stream` and that of the buckets */
    bool is_forked;           /* since the last join */
    int *cuts;                /* steps between two pieces */
    int num_cuts;
    cudaGraphExec_t *graph[KIND_COUNT]; /* by piece */
    bool seen[KIND_COUNT];
    uint64_t run_number;
    uint32_t call; /* of this run, to the watchdog */
    bool sync;     /* wait after each op */
    bool running;  /* since the last wait */
    bool tuned;    /* the products' algorithms are chosen */
};

static struct cuda_state *state_of(const struct executor *e)
{
    return (struct cuda_state *)e->state;
}

/* ---- planning ---- */

static enum status cuda_prepare(struct kernel *kernel)
{
    const struct op *op = kernel->node->op;
    const struct cuda_op *cuda = cuda_op_find(op);
    CHECK(cuda, STATUS_UNSUPPORTED,
          "%s%sop '%s' has no CUDA kernel; leave out what needs it, or run on the CPU",
          kernel->node->path, *kernel->node->path ? ": " : "", op->name);
    return cuda->prepare ? cuda->prepare(kernel) : STATUS_OK;
}

static void cuda_release_kernel(struct kernel *kernel)
{
    const struct cuda_op *cuda = cuda_op_find(kernel->node->op);
    if (cuda && cuda->release) cuda->release(kernel);
}

static bool cuda_sums(const struct node *node)
{
    const struct cuda_op *cuda = cuda_op_find(node->op);
    return cuda && cuda->sums;
}

/* ---- memory ---- */

/* What would fit, into `text`: memory grows with the samples, but for what does not. */
static void describe_room(const struct executor *e, size_t room, size_t with_batch, char *text,
                          size_t size)
{
    double share = (double)room / (double)with_batch;
    int64_t samples = (int64_t)(share * (double)e->options.batch);
    if (samples > 0) {
        snprintf(text, size, "about %lld of its %lld samples would fit (batch.micro)",
                 (long long)samples, (long long)e->options.batch);
    } else if (e->options.batch > 0) {
        snprintf(text, size, "not one of its %lld samples would fit", (long long)e->options.batch);
    } else {
        snprintf(text, size, "about %d %% of this micro-batch would fit", (int)(100.0 * share));
    }
}

/* The plan's figure against what is free, before anything is allocated. */
static enum status check_fits(const struct executor *e)
{
    size_t need = e->options.reserve;
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    char fits[96];
    for (int c = 0; c < PLAN_CLASS_COUNT; c++) {
        bool borrowed = (c == PLAN_CLASS_PARAMETER && e->options.parameters) ||
                        (c == PLAN_CLASS_GRADIENT && e->options.gradients);
        if (!borrowed) need += e->plan->class_bytes[c];
    }
    CUDA_TRY(cudaMemGetInfo(&free_bytes, &total_bytes));
    if (need <= free_bytes) return STATUS_OK;
    size_t with_batch =
        e->plan->class_bytes[PLAN_CLASS_STEP] + e->plan->class_bytes[PLAN_CLASS_INPUT];
    size_t fixed = need - with_batch;
    describe_room(e, free_bytes > fixed ? free_bytes - fixed : 0, with_batch, fits, sizeof fits);
    const double gib = 1.0 / (1 << 30);
    return status_fail(STATUS_NO_MEMORY,
                       "the step needs %.3f GiB of GPU memory (%.3f for activations and inputs) "
                       "and %.3f of %.3f GiB are free; %s; see weft plan --device cuda, and "
                       "train.recompute",
                       (double)need * gib, (double)with_batch * gib, (double)free_bytes * gib,
                       (double)total_bytes * gib, fits);
}

static enum status device_memory(void **memory, size_t bytes, const char *what)
{
    if (bytes == 0) bytes = 256;
    enum status status = cuda_status(cudaMalloc(memory, bytes), "cudaMalloc");
    if (status == STATUS_OK) return status;
    return status_prefix(status, "%s, %zu bytes", what, bytes);
}

static enum status allocate_classes(struct executor *e)
{
    static const char *const what[PLAN_CLASS_COUNT] = {"parameters", "gradients", "inputs",
                                                       "cast parameters", "activations"};
    struct cuda_state *s = state_of(e);
    e->memory[PLAN_CLASS_PARAMETER] = e->options.parameters;
    e->memory[PLAN_CLASS_GRADIENT] = e->options.gradients;
    for (int c = 0; c < PLAN_CLASS_COUNT; c++) {
        if (e->memory[c]) continue;
        s->owned[c] = true;
        TRY(device_memory(&e->memory[c], e->plan->class_bytes[c], what[c]));
        if (c <= PLAN_CLASS_GRADIENT) {
            /* cudaMemset is of another stream, for which this one does not wait. */
            CUDA_TRY(cudaMemsetAsync(e->memory[c], 0, e->plan->class_bytes[c], s->stream));
        }
    }
    for (int b = 0; e->separate && b < e->plan->num_buffers; b++) {
        const struct plan_buffer *buffer = &e->plan->buffers[b];
        /* Inputs are copied as one piece. */
        if (buffer->memory_class <= PLAN_CLASS_INPUT) continue;
        TRY(device_memory((void **)&e->separate[b], buffer->size, "a buffer"));
    }
    return STATUS_OK;
}

/* Lists what is copied back after a run. */
static enum status list_outputs(struct executor *e)
{
    struct cuda_state *s = state_of(e);
    int64_t count = graph_num_outputs(e->graph);
    s->output = (struct output *)calloc((size_t)count + 1, sizeof *s->output);
    CHECK(s->output, STATUS_NO_MEMORY, "executor: out of memory");
    size_t total = 0;
    for (int64_t i = 0; i < count; i++) {
        const struct tensor *tensor = graph_output_at(e->graph, i)->tensor;
        int value = plan_value_of(e->plan, tensor);
        if (value < 0) continue;
        enum plan_class c = e->plan->buffers[e->plan->values[value].buffer].memory_class;
        if (c != PLAN_CLASS_STEP && c != PLAN_CLASS_UPDATE) continue;
        s->output[s->num_outputs].value = value;
        s->output[s->num_outputs].bytes = tensor_bytes(tensor);
        s->output[s->num_outputs++].offset = total;
        total += (tensor_bytes(tensor) + 63) / 64 * 64;
    }
    CUDA_TRY(cudaMallocHost((void **)&s->outputs, total + 64));
    return STATUS_OK;
}

/* Where ops wait for the host: among several ranks alone. */
static enum status list_pieces(struct executor *e)
{
    struct cuda_state *s = state_of(e);
    bool is_many = e->options.comm && e->options.comm->size > 1;
    s->cuts = (int *)calloc((size_t)e->plan->num_steps + 1, sizeof *s->cuts);
    CHECK(s->cuts, STATUS_NO_MEMORY, "executor: out of memory");
    for (int i = 0; is_many && i < e->plan->num_steps; i++) {
        const struct node *node = e->plan->steps[i].node;
        if (node && cuda_op_waits(node->op)) s->cuts[s->num_cuts++] = i;
    }
    for (int k = 0; k < KIND_COUNT; k++) {
        s->graph[k] = (cudaGraphExec_t *)calloc((size_t)s->num_cuts + 1, sizeof *s->graph[k]);
        CHECK(s->graph[k], STATUS_NO_MEMORY, "executor: out of memory");
    }
    return STATUS_OK;
}

static enum status allocate_own(struct executor *e)
{
    struct cuda_state *s = state_of(e);
    TRY(check_fits(e));
    CUDA_TRY(cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking));
    CUDA_TRY(cudaEventCreateWithFlags(&s->start, 0));
    CUDA_TRY(cudaEventCreateWithFlags(&s->end, 0));
    CUDA_TRY(cudaEventCreateWithFlags(&s->fork, cudaEventDisableTiming));
    CUDA_TRY(cudaEventCreateWithFlags(&s->join, cudaEventDisableTiming));
    TRY(allocate_classes(e));
    TRY(device_memory((void **)&s->values, sizeof *s->values, "values of a run"));
    TRY(device_memory((void **)&s->fault, sizeof *s->fault, "the fault word"));
    CUDA_TRY(cudaMallocHost((void **)&s->values_host, sizeof *s->values_host));
    CUDA_TRY(cudaMallocHost((void **)&s->fault_host, sizeof *s->fault_host));
    size_t inputs = e->plan->class_bytes[PLAN_CLASS_INPUT];
    CUDA_TRY(cudaMallocHost((void **)&s->inputs, inputs + 64));
    memset(s->inputs, 0, inputs);
    TRY(list_pieces(e));
    return list_outputs(e);
}

static enum status cuda_allocate(struct executor *e)
{
    struct cuda_state *s = (struct cuda_state *)calloc(1, sizeof *s);
    struct comm *comm = e->options.comm;
    e->state = s;
    CHECK(s, STATUS_NO_MEMORY, "executor: out of memory");
    const char *sync = getenv("WEFT_CUDA_SYNC");
    s->sync = sync && strcmp(sync, "0") != 0;
    enum status status = allocate_own(e);
    if (!comm || comm->size == 1) return status;
    /* A rank without memory must not leave the others waiting in NCCL. */
    TRY(comm_agree_status(comm, "GPU memory", status));
    return device_comm_open(&s->comm, comm);
}

static void cuda_release(struct executor *e)
{
    struct cuda_state *s = state_of(e);
    if (!s) return;
    if (s->stream) cudaStreamSynchronize(s->stream);
    for (int k = 0; k < KIND_COUNT; k++) {
        for (int i = 0; s->graph[k] && i <= s->num_cuts; i++) {
            if (s->graph[k][i]) cudaGraphExecDestroy(s->graph[k][i]);
        }
        free(s->graph[k]);
    }
    free(s->cuts);
    device_comm_close(&s->comm);
    for (int c = 0; c < PLAN_CLASS_COUNT; c++) {
        if (s->owned[c]) cudaFree(e->memory[c]);
        e->memory[c] = NULL;
    }
    for (int b = 0; e->separate && b < e->plan->num_buffers; b++) {
        cudaFree(e->separate[b]);
    }
    cudaFree(s->values);
    cudaFree(s->fault);
    cudaFreeHost(s->values_host);
    cudaFreeHost(s->fault_host);
    cudaFreeHost(s->inputs);
    cudaFreeHost(s->outputs);
    cudaFreeHost(s->flat[0]);
    cudaFreeHost(s->flat[1]);
    if (s->start) cudaEventDestroy(s->start);
    if (s->end) cudaEventDestroy(s->end);
    if (s->fork) cudaEventDestroy(s->fork);
    if (s->join) cudaEventDestroy(s->join);
    if (s->stream) cudaStreamDestroy(s->stream);
    free(s->output);
    free(s);
    e->state = NULL;
}

/* ---- waiting ---- */

/* Until all that is on the stream is done. */
static enum status finish(struct executor *e, const char *what)
{
    struct cuda_state *s = state_of(e);
    if (s->comm) return device_comm_wait(s->comm, s->stream, s->call, what);
    return cuda_status(cudaStreamSynchronize(s->stream), what);
}

/* ---- one op ---- */

static __global__ void add_to_kernel(float *to, const float *from, int64_t count)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) to[i] += from[i];
}

/* A final gradient that was computed elsewhere goes to its slot of the flat vector. */
static enum status store_gradient(struct executor *e, const struct plan_step *step, bool accumulate)
{
    cudaStream_t stream = state_of(e)->stream;
    const struct parameter *p = graph_parameter_at(e->graph, step->store);
    const float *from = (const float *)step->kernel.in[0];
    float *to = (float *)e->memory[PLAN_CLASS_GRADIENT] + p->offset;
    if (p->count == 0) return STATUS_OK;
    if (accumulate) {
        return CUDA_LAUNCH(add_to_kernel, (unsigned)ceil_div(p->count, 256), 256, 0, stream, to,
                           from, p->count);
    }
    CUDA_TRY(
        cudaMemcpyAsync(to, from, (size_t)p->count * sizeof *to, cudaMemcpyDeviceToDevice, stream));
    return STATUS_OK;
}

static enum status poison(struct executor *e, int index)
{
    for (int i = e->dying_first[index]; i < e->dying_first[index + 1]; i++) {
        const struct plan_buffer *b = &e->plan->buffers[e->dying[i]];
        CUDA_TRY(cudaMemsetAsync(executor_buffer_address(e, e->dying[i]), 0xFF, b->size,
                                 state_of(e)->stream));
    }
    return STATUS_OK;
}

static enum status enqueue_op(struct executor *e, int index, const struct cuda_run *run)
{
    struct plan_step *step = &e->plan->steps[index];
    if (!step->node) return store_gradient(e, step, run->accumulate);
    if (step_is_view(step)) return STATUS_OK;
    enum status status = cuda_op_find(step->node->op)->run(&step->kernel, run);
    if (status == STATUS_OK) return status;
    const char *path = step->node->path;
    return status_prefix(status, "%s%s%s", path, *path ? ": " : "", step->node->op->name);
}

static enum status describe_fault(const struct executor *e, int number)
{
    CHECK(number >= 0 && number < e->plan->num_steps, STATUS_INTERNAL,
          "executor: the device reports a fault of step %d", number);
    const struct node *node = e->plan->steps[number].node;
    const struct cuda_op *cuda = cuda_op_find(node->op);
    return status_fail(STATUS_INVALID, "%s%s%s: %s", node->path, *node->path ? ": " : "",
                       node->op->name, cuda->fault ? cuda->fault : "bad data");
}

/* Looks at what an op computed, with the CPU's eyes. */
static enum status look_at_outputs(struct executor *e, const struct plan_step *step)
{
    for (int k = 0; k < step->node->num_outputs; k++) {
        const struct tensor *tensor = e->plan->values[step->out[k]].tensor;
        size_t bytes = tensor_bytes(tensor);
        void *copy = malloc(bytes + 1);
        CHECK(copy, STATUS_NO_MEMORY, "executor: out of memory");
        enum status status = cuda_status(
            cudaMemcpy(copy, step->kernel.out[k], bytes, cudaMemcpyDeviceToHost), "cudaMemcpy");
        if (status == STATUS_OK) status = executor_check_finite(step, tensor, k, copy);
        free(copy);
        TRY(status);
    }
    return STATUS_OK;
}

/* Runs an op to its end, and says what went wrong in it. */
static enum status run_op_alone(struct executor *e, int index, const struct cuda_run *run)
{
    struct cuda_state *s = state_of(e);
    struct plan_step *step = &e->plan->steps[index];
    CUDA_TRY(cudaEventRecord(s->start, s->stream));
    TRY(enqueue_op(e, index, run));
    CUDA_TRY(cudaEventRecord(s->end, s->stream));
    enum status status = finish(e, "the kernel");
    if (status != STATUS_OK) {
        if (!step->node) return status;
        return status_prefix(status, "%s%s%s (step %d of the plan)", step->node->path,
                             *step->node->path ? ": " : "", step->node->op->name, index);
    }
    if (e->options.profile) {
        float milliseconds = 0;
        CUDA_TRY(cudaEventElapsedTime(&milliseconds, s->start, s->end));
        e->profile[index].seconds += 1e-3 * (double)milliseconds;
        e->profile[index].runs++;
    }
    if (!step->node || step_is_view(step)) return STATUS_OK;
    int32_t fault = 0;
    CUDA_TRY(cudaMemcpy(&fault, s->fault, sizeof fault, cudaMemcpyDeviceToHost));
    if (fault != CUDA_NO_FAULT) return describe_fault(e, fault);
    if (e->options.check_finite) TRY(look_at_outputs(e, step));
    if (e->found && e->found->step < 0 && look_at_outputs(e, step) != STATUS_OK) {
        e->found->step = index;
        snprintf(e->found->text, sizeof e->found->text, "%s", status_message());
    }
    return STATUS_OK;
}

/* ---- a run ---- */

static bool one_by_one(const struct executor *e)
{
    return state_of(e)->sync || e->options.profile || e->options.check_finite || e->found;
}

static bool is_adding(enum kind kind)
{
    return kind == KIND_STEP_ADDING || kind == KIND_STEP_ADDING_REDUCING;
}

static bool is_reducing(enum kind kind)
{
    return kind == KIND_STEP_REDUCING || kind == KIND_STEP_ADDING_REDUCING;
}

static struct cuda_run run_of(struct executor *e, enum kind kind)
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

static enum status enqueue_inputs(struct executor *e)
{
    struct cuda_state *s = state_of(e);
    CUDA_TRY(cudaMemcpyAsync(s->values, s->values_host, sizeof *s->values, cudaMemcpyHostToDevice,
                             s->stream));
    CUDA_TRY(cudaMemcpyAsync(e->memory[PLAN_CLASS_INPUT], s->inputs,
                             e->plan->class_bytes[PLAN_CLASS_INPUT], cudaMemcpyHostToDevice,
                             s->stream));
    return STATUS_OK;
}

static enum status enqueue_outputs(struct executor *e)
{
    struct cuda_state *s = state_of(e);
    for (int i = 0; i < s->num_outputs; i++) {
        const struct output *o = &s->output[i];
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
static enum status enqueue_steps(struct executor *e, enum kind kind, int begin, int end)
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
        TRY(one_by_one(e) ? run_op_alone(e, i, &run) : enqueue_op(e, i, &run));
        while (reduce && bucket < plan->num_buckets && plan->buckets[bucket].ready <= i) {
            TRY(start_bucket(e, bucket++));
        }
        if (e->options.poison) TRY(poison(e, i));
    }
    while (reduce && end == plan->num_steps && bucket < plan->num_buckets) {
        TRY(start_bucket(e, bucket++));
    }
    return STATUS_OK;
}

/* A piece of a kind, on streams that may be recording. */
static enum status enqueue(struct executor *e, enum kind kind, int piece, int num_pieces)
{
    struct cuda_state *s = state_of(e);
    bool is_last = piece == num_pieces - 1;
    int begin = piece == 0 ? 0 : s->cuts[piece - 1] + 1;
    int end = is_last ? e->plan->num_steps : s->cuts[piece];
    if (piece == 0) {
        if (kind != KIND_UPDATE) TRY(enqueue_inputs(e));
        CUDA_TRY(cudaMemsetAsync(s->fault, CUDA_NO_FAULT & 0xFF, sizeof *s->fault, s->stream));
    }
    TRY(enqueue_steps(e, kind, begin, end));
    if (is_last && kind != KIND_UPDATE) TRY(enqueue_outputs(e));
    return join_buckets(e);
}

static enum status record(struct executor *e, enum kind kind, int piece, int num_pieces)
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
static enum status run_cut(struct executor *e, enum kind kind, int cut)
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

static enum status run_kind(struct executor *e, enum kind kind)
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

static enum status cuda_wait(struct executor *e)
{
    struct cuda_state *s = state_of(e);
    if (!s->running) return STATUS_OK;
    TRY(finish(e, "forward and backward"));
    s->running = false;
    CHECK(s->host.status == STATUS_OK, s->host.status, "%s", s->host.message);
    if (*s->fault_host != CUDA_NO_FAULT) return describe_fault(e, *s->fault_host);
    return STATUS_OK;
}

static enum status upload_parameters(struct executor *e)
{
    struct cuda_state *s = state_of(e);
    if (s->comm) TRY(device_comm_order(s->comm, s->stream));
    if (!s->parameters_edited) return STATUS_OK;
    CUDA_TRY(cudaMemcpyAsync(e->memory[PLAN_CLASS_PARAMETER], s->flat[0],
                             e->plan->class_bytes[PLAN_CLASS_PARAMETER], cudaMemcpyHostToDevice,
                             s->stream));
    TRY(finish(e, "parameters"));
    s->parameters_edited = false;
    return STATUS_OK;
}

/* Says whose GPU it was, where calls fail because of it. */
static enum status name_device(const struct executor *e, enum status status)
{
    struct cuda_device device;
    if (status != STATUS_INTERNAL || !e->options.comm) return status;
    int index = cuda_device_used(&device);
    return status_prefix(status, "rank %d on %s: GPU %d, %s", e->options.comm->rank,
                         e->options.comm->host, index, device.name);
}

static enum status run_step(struct executor *e, const struct executor_run *run)
{
    struct cuda_state *s = state_of(e);
    /* Host copies at fixed addresses are free again when the run before is over. */
    TRY(cuda_wait(e));
    TRY(upload_parameters(e));
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
    if (e->updated != e->version) TRY(run_kind(e, KIND_UPDATE));
    e->updated = e->version;
    TRY(run_kind(e, run->reduce ? run->accumulate ? KIND_STEP_ADDING_REDUCING : KIND_STEP_REDUCING
                    : run->accumulate ? KIND_STEP_ADDING
                                      : KIND_STEP));
    s->flat_stale[1] = true;
    return STATUS_OK;
}

static enum status cuda_run_step(struct executor *e, const struct executor_run *run)
{
    return name_device(e, run_step(e, run));
}

/* ---- host copies ---- */

static float *cuda_flat(struct executor *e, enum plan_class memory_class)
{
    struct cuda_state *s = state_of(e);
    int which = memory_class == PLAN_CLASS_GRADIENT;
    size_t bytes = e->plan->class_bytes[memory_class];
    if (!s->flat[which] && cudaMallocHost((void **)&s->flat[which], bytes + 64) == cudaSuccess) {
        memset(s->flat[which], 0, bytes);
    }
    return s->flat[which];
}

static enum status cuda_fetch(struct executor *e, enum plan_class memory_class)
{
    struct cuda_state *s = state_of(e);
    int which = memory_class == PLAN_CLASS_GRADIENT;
    CHECK(cuda_flat(e, memory_class), STATUS_NO_MEMORY, "no host memory for a copy of the %s",
          which ? "gradients" : "parameters");
    TRY(cuda_wait(e));
    if (!s->flat_stale[which]) return STATUS_OK;
    if (s->comm) TRY(device_comm_order(s->comm, s->stream));
    CUDA_TRY(cudaMemcpyAsync(s->flat[which], e->memory[memory_class],
                             e->plan->class_bytes[memory_class], cudaMemcpyDeviceToHost,
                             s->stream));
    TRY(finish(e, which ? "gradients" : "parameters"));
    s->flat_stale[which] = false;
    return STATUS_OK;
}

static void cuda_stale(struct executor *e, bool host_is_newer)
{
    struct cuda_state *s = state_of(e);
    /* Without a host copy there is nothing that could have been edited. */
    s->parameters_edited = host_is_newer && s->flat[0];
    s->flat_stale[0] = !host_is_newer;
}

static void *cuda_data(struct executor *e, int value)
{
    struct cuda_state *s = state_of(e);
    const struct plan_value *v = &e->plan->values[value];
    const struct plan_buffer *b = &e->plan->buffers[v->buffer];
    if (b->memory_class == PLAN_CLASS_INPUT) return s->inputs + b->offset + v->offset;
    if (b->memory_class <= PLAN_CLASS_GRADIENT) {
        char *flat = (char *)cuda_flat(e, b->memory_class);
        return flat ? flat + b->offset + v->offset : NULL;
    }
    for (int i = 0; i < s->num_outputs; i++) {
        if (s->output[i].value == value) return s->outputs + s->output[i].offset;
    }
    return NULL;
}

static size_t cuda_bytes(const struct executor *e)
{
    (void)e;
    return 0;
}

const struct backend cuda_backend = {
    {cuda_prepare, cuda_release_kernel, NULL, NULL, cuda_sums},
    cuda_allocate,
    cuda_release,
    cuda_run_step,
    cuda_wait,
    cuda_data,
    cuda_flat,
    cuda_fetch,
    cuda_stale,
    upload_parameters,
    cuda_bytes,
};
