/* Finding the numbers; launch/train_plan_print.c prints them. */
#include "launch/train_plan.h"

#include <string.h>

#include "data/loader/loader.h"
#include "runtime/backend/cpu/pack.h"
#include "runtime/backend/executor.h"

static int64_t flat_bytes(const struct train_plan *p)
{
    return graph_flat_elements(p->step.graph) * (int64_t)sizeof(float);
}

/* ---- memory ---- */

static void count_memory(struct train_plan *p)
{
    const struct train_config *values = p->values;
    const struct itc_config *itc = objectives_find(&values->objectives, "itc");
    int64_t *memory = p->memory;
    int64_t slices = values->optimizer.shard ? p->ranks : 1;
    int64_t share = (flat_bytes(p) + slices - 1) / slices;
    memory[TRAIN_MEMORY_PARAMETERS] = (int64_t)p->plan->class_bytes[PLAN_CLASS_PARAMETER];
    memory[TRAIN_MEMORY_GRADIENTS] = (int64_t)p->plan->class_bytes[PLAN_CLASS_GRADIENT];
    memory[TRAIN_MEMORY_MOMENTS] = 2 * share;
    memory[TRAIN_MEMORY_EMA] = values->optimizer.ema_decay > 0 ? share : 0;
    memory[TRAIN_MEMORY_CASTS] = (int64_t)p->plan->class_bytes[PLAN_CLASS_UPDATE];
    memory[TRAIN_MEMORY_PACKED] = (int64_t)pack_cache_bytes(p->plan->packs);
    memory[TRAIN_MEMORY_INPUTS] = (int64_t)p->plan->class_bytes[PLAN_CLASS_INPUT];
    memory[TRAIN_MEMORY_ACTIVATIONS] = (int64_t)p->plan->class_bytes[PLAN_CLASS_STEP];
    if (itc && itc->mode == ITC_FIBER && itc->queue > 0) {
        int64_t row = 2 * p->step.model.facts.hidden * (int64_t)sizeof(float);
        int64_t number = (int64_t)sizeof(uint64_t);
        memory[TRAIN_MEMORY_QUEUE] = itc->queue * number + p->ranks * p->micro * (row + number);
    }
    memory[TRAIN_MEMORY_LOADER] = loader_bytes_of(
        p->micro, values->data.image_size, values->data.max_text_len,
        objectives_find(&values->objectives, "mlm") != NULL, (int)values->data.prefetch);
    /* Those of the next run come while one goes on. */
    if (train_looks_ahead(values)) memory[TRAIN_MEMORY_INPUTS] *= 2;
    for (int i = 0; i < TRAIN_MEMORY_COUNT; i++) {
        p->peak += memory[i];
    }
    if (values->train.device == DEVICE_CUDA) {
        p->host = memory[TRAIN_MEMORY_QUEUE] + memory[TRAIN_MEMORY_LOADER];
        p->peak -= p->host;
    }
    int64_t vectors = 3 + (values->optimizer.ema_decay > 0);
    p->staging = vectors * ((flat_bytes(p) + p->ranks - 1) / p->ranks);
}

/* ---- communication ---- */

/* Bytes that a rank hands to others: a gather or an exchange gives each byte of the result once to
 * whom lacks it; a sum over ranks is a scattered reduction and a gather. */
static void count_communication(struct train_plan *p)
{
    double others = (double)(p->ranks - 1) / p->ranks;
    double reduced = (double)plan_totals(p->plan).reduce_bytes;
    p->gradient_bytes = reduced * others * (p->values->optimizer.shard ? 1 : 2);
    p->parameter_bytes = p->values->optimizer.shard ? (double)flat_bytes(p) * others : 0;
    p->collective_bytes = 0;
    for (int i = 0; i < p->plan->num_steps; i++) {
        const struct plan_step *step = &p->plan->steps[i];
        if (!step->node || !(step->node->op->flags & OP_COLLECTIVE)) continue;
        double bytes = (double)tensor_bytes(p->plan->values[step->out[0]].tensor);
        const char *op = step->node->op->name;
        if (strcmp(op, "all_reduce") == 0) bytes *= 2;
        if (strcmp(op, "reduce_scatter") == 0) bytes *= p->ranks; /* the output is a slice */
        p->collective_bytes += bytes * others * (double)p->accumulate;
    }
}

enum status train_plan_init(struct train_plan *p, const struct train_config *values,
                            struct config *config, int ranks, int num_threads)
{
    *p = (struct train_plan){.values = values, .ranks = ranks, .num_threads = num_threads};
    TRY(train_config_check(values, config));
    TRY(train_batch_divide(&values->batch, config, ranks, &p->micro, &p->accumulate));
    const struct step_options step = train_step_options(values, p->micro, ranks);
    const struct plan_options options =
        train_plan_options(values, p->accumulate, ranks, num_threads);
    TRY(step_init(&p->step, &step));
    TRY(executor_plan_backend(values->train.device, &p->backend));
    TRY(plan_create(&p->plan, p->step.graph, &options, p->backend));
    count_memory(p);
    count_communication(p);
    return STATUS_OK;
}

enum status train_plan_check(const struct train_plan *p)
{
    struct optimizer *optimizer = NULL;
    enum status status =
        optimizer_create(&optimizer, p->step.graph, &p->values->optimizer, NULL, NULL);
    optimizer_destroy(&optimizer);
    return status;
}

void train_plan_fini(struct train_plan *p)
{
    if (p->plan) plan_destroy(&p->plan, p->backend);
    step_fini(&p->step);
}

/* ---- time ---- */

/* The linear layer with the most FLOPs: what a step of this recipe mostly does. */
static void choose_product(struct train_plan *p)
{
    double most = 0;
    p->probe = (struct machine_probe){.m = 512, .n = 512, .k = 512, .dtype = DTYPE_F32};
    for (int i = 0; i < p->plan->num_steps; i++) {
        const struct node *node = p->plan->steps[i].node;
        if (!node || strcmp(node->op->name, "linear") != 0) continue;
        double flops = node_cost(node).flops;
        if (flops <= most) continue;
        most = flops;
        const struct tensor *x = node->inputs[0];
        const struct shape *y = &node->outputs[0].shape;
        p->probe.k = x->shape.dim[x->shape.rank - 1];
        p->probe.n = y->dim[y->rank - 1];
        p->probe.m = shape_count(y) / p->probe.n;
        p->probe.dtype = x->dtype;
    }
}

static double op_seconds(const struct train_plan *p, const struct node *node)
{
    struct op_cost cost = node_cost(node);
    double compute = cost.flops / p->probe.flops;
    double memory = cost.bytes / p->probe.bytes;
    return compute > memory ? compute : memory;
}

enum status train_plan_probe(struct train_plan *p)
{
    choose_product(p);
    TRY(machine_probe_run(&p->probe));
    p->pass_seconds = p->update_seconds = 0;
    for (int i = 0; i < p->plan->num_steps; i++) {
        const struct plan_step *step = &p->plan->steps[i];
        if (!step->node || (step->node->op->flags & OP_VIEW)) continue;
        bool once = step->phase == PLAN_PHASE_UPDATE;
        *(once ? &p->update_seconds : &p->pass_seconds) += op_seconds(p, step->node);
    }
    p->pass_seconds *= (double)p->accumulate;
    /* AdamW reads parameter, gradient and moments and writes all but the gradient; EMA reads and
     * writes once more. */
    double vectors = 7 + (p->values->optimizer.ema_decay > 0 ? 2 : 0);
    double share = p->values->optimizer.shard ? 1.0 / p->ranks : 1;
    p->update_seconds += vectors * share * (double)flat_bytes(p) / p->probe.bytes;
    p->probed = true;
    return STATUS_OK;
}
