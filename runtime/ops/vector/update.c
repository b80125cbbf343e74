#include "runtime/ops/vector/update.h"

#include <assert.h>
#include <math.h>

#include "runtime/ops/vector/jobs.h"
#include "runtime/ops/vector/reduce.h"

void adamw_cpu(const struct adamw *args)
{
    assert(args->step >= 1);
    const double correction1 = 1 - pow(args->beta1, (double)args->step);
    const double correction2 = sqrt(1 - pow(args->beta2, (double)args->step));
    const double decay = 1 - args->lr * args->weight_decay;
    const bool fiber = args->form == ADAMW_FIBER;
    const double step_size = args->lr / correction1 * (fiber ? correction2 : 1);
    struct adamw_job job = {.p = args->p,
                            .g = args->g,
                            .m = args->m,
                            .v = args->v,
                            .shadow = args->shadow,
                            .gradient_scale = (float)args->gradient_scale,
                            .beta1 = (float)args->beta1,
                            .beta2 = (float)args->beta2,
                            .one_minus_beta1 = (float)(1 - args->beta1),
                            .one_minus_beta2 = (float)(1 - args->beta2),
                            .eps = (float)args->eps,
                            .v_scale = (float)(fiber ? 1 : 1 / correction2),
                            .step_size = (float)step_size,
                            .decay_before = (float)(fiber ? 1 : decay),
                            .decay_after = (float)(fiber ? decay : 1)};
    vector_run_elements(VECTOR_OP_adamw, VECTOR_F32, &job, args->count);
}

void ema_cpu(float *ema, const float *p, double decay, int64_t count)
{
    struct vector_map args = {.a = p, .y = ema, .alpha = (float)decay, .beta = (float)(1 - decay)};
    vector_run_elements(VECTOR_OP_ema, VECTOR_F32, &args, count);
}

void sum_squares_cpu(const float *x, double *out, void *scratch, int64_t count)
{
    struct vector_parts parts = vector_parts_of(count);
    struct vector_map args = {.a = x, .count = count, .part = parts.size, .partial = scratch};
    vector_run(VECTOR_OP_sum_squares, VECTOR_F32, &args, parts.count, 1, 1);
    *out = vector_parts_sum(scratch, parts.count);
}
