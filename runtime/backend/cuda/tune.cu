/*
 * Products are timed where they will run: with the addresses, the workspace and the neighbours in
 * memory that they have in the step. Ranks run the same plan, so rank 0's choices answer for all
 * when their GPUs are alike; the others wait for them.
 */
#include "runtime/backend/cuda/tune.h"

#include "runtime/backend/cuda/kernel.cuh"
#include "runtime/backend/cuda/matmul.h"
#include "runtime/backend/cuda/tuning.h"
#include "runtime/base/log.h"
#include "runtime/comm/comm.h"

/* Operands that are small numbers: neither zeros, whose products take less power and time, nor
 * whatever was there. */
static enum status fill_memory(struct executor *e, const struct cuda_run *run)
{
    const enum plan_class classes[] = {PLAN_CLASS_UPDATE, PLAN_CLASS_STEP};
    for (enum plan_class c : classes) {
        CUDA_TRY(cudaMemsetAsync(e->memory[c], 0x3C, e->plan->class_bytes[c], run->stream));
    }
    return STATUS_OK;
}

static enum status tune_steps(struct executor *e, const struct cuda_run *run)
{
    for (int i = 0; i < e->plan->num_steps; i++) {
        struct plan_step *step = &e->plan->steps[i];
        const struct cuda_op *cuda = step->node ? cuda_op_find(step->node->op) : NULL;
        if (!cuda || !cuda->tunes) continue;
        bool adds_too = e->plan->options.accumulate && step->kernel.accumulates;
        for (int add = 0; add <= (adds_too ? 1 : 0); add++) {
            struct cuda_run tuning = *run;
            tuning.tunes = true;
            tuning.accumulate = add != 0;
            enum status status = cuda->run(&step->kernel, &tuning);
            if (status != STATUS_OK) {
                return status_prefix(status, "%s%s%s", step->node->path,
                                     *step->node->path ? ": " : "", step->node->op->name);
            }
        }
    }
    return STATUS_OK;
}

static void tell(const struct tuning *choices, int64_t products, double seconds)
{
    if (products == 0) return;
    log_info("cuBLASLt: %lld products timed in %.1f s; %s%s", (long long)products, seconds,
             choices->path ? "kept in " : "not kept", choices->path ? choices->path : "");
}

extern "C" enum status cuda_tune(struct executor *e, const struct cuda_run *run)
{
    struct comm *comm = e->options.comm;
    struct tuning *choices = NULL;
    int64_t before = 0;
    int64_t products = 0;
    double seconds_before = 0.0;
    double seconds = 0.0;
    bool shared = false;
    if (!tuning_is_on()) return STATUS_OK;
    TRY(cuda_matmul_choices(&choices));
    cuda_matmul_timed(&before, &seconds_before);
    TRY(fill_memory(e, run));
    bool alone = !comm || comm->size == 1;
    enum status status = alone || comm->rank == 0 ? tune_steps(e, run) : STATUS_OK;
    if (!alone) {
        status = comm_agree_status(comm, "algorithms", status);
        if (status == STATUS_OK) status = tuning_share(choices, comm, &shared);
        if (status == STATUS_OK && !shared && comm->rank > 0) status = tune_steps(e, run);
    }
    TRY(status);
    CUDA_TRY(cudaStreamSynchronize(run->stream));
    cuda_matmul_timed(&products, &seconds);
    tell(choices, products - before, seconds - seconds_before);
    if (alone || comm->rank == 0 || !shared) tuning_save(choices);
    return STATUS_OK;
}
