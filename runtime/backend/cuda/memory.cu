/* Memory of an executor on a GPU, from the check that it fits to its release. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/backend/cuda/backend_impl.h"
#include "runtime/backend/cuda/device.h"
#include "runtime/backend/cuda/device_comm.h"
#include "runtime/backend/cuda/kernel.cuh"
#include "runtime/comm/comm.h"

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
    size_t ahead = e->options.ahead ? e->plan->class_bytes[PLAN_CLASS_INPUT] : 0;
    size_t with_batch =
        e->plan->class_bytes[PLAN_CLASS_STEP] + e->plan->class_bytes[PLAN_CLASS_INPUT] + ahead;
    size_t need = e->options.reserve + ahead;
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
    s->output = (struct cuda_output *)calloc((size_t)count + 1, sizeof *s->output);
    CHECK(s->output, STATUS_NO_MEMORY, "executor: out of memory");
    size_t total = 0;
    for (int64_t i = 0; i < count; i++) {
        const struct tensor *tensor = graph_output_at(e->graph, i)->tensor;
        int value = plan_value_of(e->plan, tensor);
        if (value < 0) continue;
        enum plan_class c = e->plan->buffers[e->plan->values[value].buffer].memory_class;
        if (c == PLAN_CLASS_INPUT || c == PLAN_CLASS_GRADIENT) continue;
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
    CUDA_TRY(cudaEventCreateWithFlags(&s->begun, 0));
    CUDA_TRY(cudaEventCreateWithFlags(&s->ran, 0));
    CUDA_TRY(cudaStreamCreateWithFlags(&s->copies, cudaStreamNonBlocking));
    CUDA_TRY(cudaEventCreateWithFlags(&s->inputs_read, cudaEventDisableTiming));
    CUDA_TRY(cudaEventCreateWithFlags(&s->ahead_taken, cudaEventDisableTiming));
    CUDA_TRY(cudaEventCreateWithFlags(&s->fork, cudaEventDisableTiming));
    CUDA_TRY(cudaEventCreateWithFlags(&s->join, cudaEventDisableTiming));
    TRY(allocate_classes(e));
    TRY(device_memory((void **)&s->values, sizeof *s->values, "values of a run"));
    TRY(device_memory((void **)&s->fault, sizeof *s->fault, "the fault word"));
    CUDA_TRY(cudaMallocHost((void **)&s->values_host, sizeof *s->values_host));
    CUDA_TRY(cudaMallocHost((void **)&s->fault_host, sizeof *s->fault_host));
    size_t inputs = e->plan->class_bytes[PLAN_CLASS_INPUT];
    CUDA_TRY(cudaMallocHost((void **)&s->inputs, inputs + 64));
    if (e->options.ahead) {
        TRY(device_memory((void **)&s->ahead, inputs, "inputs of the next run"));
    }
    memset(s->inputs, 0, inputs);
    TRY(list_pieces(e));
    return list_outputs(e);
}

enum status cuda_allocate(struct executor *e)
{
    struct cuda_state *s = (struct cuda_state *)calloc(1, sizeof *s);
    struct comm *comm = e->options.comm;
    e->state = s;
    CHECK(s, STATUS_NO_MEMORY, "executor: out of memory");
    s->sync = cuda_device_is_synchronous();
    enum status status = allocate_own(e);
    if (!comm || comm->size == 1) return status;
    /* A rank without memory must not leave the others waiting in NCCL. */
    TRY(comm_agree_status(comm, "GPU memory", status));
    return device_comm_open(&s->comm, comm);
}

void cuda_release(struct executor *e)
{
    struct cuda_state *s = state_of(e);
    if (!s) return;
    if (s->stream) cudaStreamSynchronize(s->stream);
    if (s->copies) cudaStreamSynchronize(s->copies);
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
    cudaFree(s->ahead);
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
    if (s->begun) cudaEventDestroy(s->begun);
    if (s->ran) cudaEventDestroy(s->ran);
    if (s->inputs_read) cudaEventDestroy(s->inputs_read);
    if (s->ahead_taken) cudaEventDestroy(s->ahead_taken);
    if (s->copies) cudaStreamDestroy(s->copies);
    if (s->fork) cudaEventDestroy(s->fork);
    if (s->join) cudaEventDestroy(s->join);
    if (s->stream) cudaStreamDestroy(s->stream);
    free(s->output);
    free(s);
    e->state = NULL;
}
