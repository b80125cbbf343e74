/*
 * Parameters with equal multipliers that lie next to each other are one segment, so an update is a
 * few long loops. Gaps between parameters hold zeros in every vector and stay zero, so a segment
 * runs over them. Parameters without a gradient are in no segment: nothing decays them, as in the
 * reference.
 */
#include "runtime/optim/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/backend/cpu/memory.h"
#include "runtime/comm/comm.h"
#include "runtime/graph/plan.h"
#include "runtime/ops/vector_kernels.h"
#if defined(WEFT_CUDA)
#include "runtime/optim/optimizer_cuda.h"
#endif

/* ---- config ---- */

static const struct config_option group_options[] = {
    CONFIG_STRINGS(struct optimizer_group, match, .length = "[1, inf)",
                   .help = "Texts found in the names; with '*' a pattern for the whole name."),
    CONFIG_DOUBLE(struct optimizer_group, lr, .def = "1", .range = "[0, inf)",
                  .help = "Multiplies the learning rate."),
    CONFIG_DOUBLE(struct optimizer_group, decay, .def = "1", .range = "[0, inf)",
                  .help = "Multiplies the weight decay."),
};

static const struct config_table group_table = {
    CONFIG_TABLE(struct optimizer_group, group_options),
    .name = "group",
    .help = "A rule for parameters by name; every rule that matches multiplies.",
};

static const char *const form_names[] = {"adamw", "adamw_fiber", NULL};

static const struct config_option options[] = {
    CONFIG_ENUM(struct optimizer_config, form, form_names, .def = "adamw",
                .help = "The common AdamW, or the variant of FIBER's coarse stage."),
    CONFIG_DOUBLE(struct optimizer_config, lr, .def = "1e-4", .range = "[0, inf)",
                  .help = "Peak learning rate."),
    CONFIG_DOUBLES(struct optimizer_config, betas, .def = "[0.9, 0.98]", .range = "[0, 1)",
                   .length = "[2, 2]", .help = "Decay of the first and second moment."),
    CONFIG_DOUBLE(struct optimizer_config, eps, .def = "1e-8", .range = "(0, inf)",
                  .help = "Added to the root of the second moment."),
    CONFIG_DOUBLE(struct optimizer_config, weight_decay, .def = "0.01", .range = "[0, inf)",
                  .help = "Decoupled weight decay."),
    CONFIG_DOUBLE(struct optimizer_config, clip_norm, .def = "0", .range = "[0, inf)",
                  .help = "Largest global L2 norm of the gradient; 0: no clipping."),
    CONFIG_DOUBLE(struct optimizer_config, ema_decay, .def = "0", .range = "[0, 1)",
                  .help = "Decay of the moving average of parameters; 0: none."),
    CONFIG_BOOL(struct optimizer_config, shard, .def = "false",
                .help = "Each rank updates its slice alone (ZeRO-1): less memory."),
    CONFIG_SECTIONS(struct optimizer_config, groups, group_table, .def = "[]",
                    .help = "Multipliers by parameter name."),
    CONFIG_SECTION(struct optimizer_config, schedule, schedule_table,
                   .help = "The learning rate over the run."),
};

const struct config_table optimizer_table = {
    CONFIG_TABLE(struct optimizer_config, options),
    .name = "optimizer",
    .help = "The optimiser.",
};

/* ---- groups ---- */

static bool group_matches(const struct optimizer_group *group, const char *name)
{
    for (int64_t i = 0; i < group->match.count; i++) {
        if (string_matches(name, group->match.items[i])) return true;
    }
    return false;
}

void optimizer_multipliers(const struct optimizer_config *config, const char *name, double *lr,
                           double *decay)
{
    *lr = 1.0;
    *decay = 1.0;
    for (int64_t i = 0; i < config->groups.count; i++) {
        const struct optimizer_group *group = &config->groups.items[i];
        if (!group_matches(group, name)) continue;
        *lr *= group->lr;
        *decay *= group->decay;
    }
}

/* A pattern that matches nothing is a typing mistake, not a wish. */
static enum status check_groups(const struct optimizer_config *config, const struct graph *graph)
{
    for (int64_t i = 0; i < config->groups.count; i++) {
        const struct optimizer_group *group = &config->groups.items[i];
        for (int64_t k = 0; k < group->match.count; k++) {
            bool found = false;
            for (int64_t p = 0; p < graph_num_parameters(graph) && !found; p++) {
                found = string_matches(graph_parameter_at(graph, p)->name, group->match.items[k]);
            }
            CHECK(found, STATUS_INVALID,
                  "optimizer.groups.%lld.match: '%s' is found in no parameter name; `weft plan` "
                  "lists the names",
                  (long long)i, group->match.items[k]);
        }
    }
    return STATUS_OK;
}

/* ---- state ---- */

struct segment {
    int64_t begin; /* of the flat vectors */
    int64_t end;
    double lr;
    double decay;
};

struct optimizer {
    const struct optimizer_config *config;
    struct comm *comm;
    int64_t elements;
    int64_t begin; /* this rank's slice */
    int64_t end;
    struct segment *segments; /* cut to the slice */
    int64_t num_segments;
    float *moments[3]; /* first, second, EMA (or NULL): each [end - begin] */
    void *scratch;
    int64_t *counts; /* sharded: elements per rank */
    int64_t applied;
    int64_t skipped;
    struct optimizer_report report; /* of the update that was started */
    struct cuda_update *cuda;       /* the state of which `moments` are copies; NULL on the CPU */
};

static enum status make_segments(struct optimizer *o, const struct graph *graph)
{
    int64_t count = graph_num_parameters(graph);
    o->segments = calloc((size_t)count + 1, sizeof *o->segments);
    CHECK(o->segments, STATUS_NO_MEMORY, "optimizer: out of memory");
    for (int64_t i = 0; i < count; i++) {
        const struct parameter *p = graph_parameter_at(graph, i);
        if (!p->gradient) continue;
        struct segment s = {.begin = p->offset, .end = p->offset + p->count};
        s.end = (s.end + PARAMETER_ALIGN - 1) / PARAMETER_ALIGN * PARAMETER_ALIGN;
        if (s.begin < o->begin) s.begin = o->begin;
        if (s.end > o->end) s.end = o->end;
        if (s.begin >= s.end) continue;
        optimizer_multipliers(o->config, p->name, &s.lr, &s.decay);
        struct segment *last = o->num_segments ? &o->segments[o->num_segments - 1] : NULL;
        if (last && last->end == s.begin && last->lr == s.lr && last->decay == s.decay) {
            last->end = s.end;
        } else {
            o->segments[o->num_segments++] = s;
        }
    }
    return STATUS_OK;
}

static size_t slice_bytes(const struct optimizer *o)
{
    return (size_t)(o->end - o->begin) * sizeof(float);
}

static enum status optimizer_build(struct optimizer *o, const struct graph *graph)
{
    TRY(check_groups(o->config, graph));
    o->elements = graph_flat_elements(graph);
    o->end = o->elements;
    if (o->config->shard && o->comm) {
        int size = o->comm->size;
        o->begin = plan_slice_begin(o->elements, size, o->comm->rank);
        o->end = plan_slice_begin(o->elements, size, o->comm->rank + 1);
        o->counts = calloc((size_t)size, sizeof *o->counts);
        CHECK(o->counts, STATUS_NO_MEMORY, "optimizer: out of memory");
        for (int r = 0; r < size; r++) {
            o->counts[r] =
                plan_slice_begin(o->elements, size, r + 1) - plan_slice_begin(o->elements, size, r);
        }
    }
    TRY(make_segments(o, graph));
    o->scratch = malloc(reduce_scratch());
    CHECK(o->scratch, STATUS_NO_MEMORY, "optimizer: out of memory");
    int vectors = o->config->ema_decay > 0 ? 3 : 2;
    for (int i = 0; i < vectors; i++) {
        TRY(memory_map((void **)&o->moments[i], slice_bytes(o), "optimizer state"));
    }
    return STATUS_OK;
}

/* ---- on a GPU ---- */

#if defined(WEFT_CUDA)

/* Slices, and which of them is this rank's. One rank has all, sharded or not. */
static enum status create_on_device(struct optimizer *o, struct CUstream_st *stream)
{
    int slices = o->comm ? o->comm->size : 1;
    struct cuda_segment *segments = calloc((size_t)o->num_segments + 1, sizeof *segments);
    int64_t *bounds = calloc((size_t)slices + 1, sizeof *bounds);
    enum status status = STATUS_OK;
    CHECK_GOTO(segments && bounds, status, done, STATUS_NO_MEMORY, "optimizer: out of memory");
    for (int64_t i = 0; i < o->num_segments; i++) {
        const struct segment *s = &o->segments[i];
        segments[i] = (struct cuda_segment){s->begin, s->end, s->lr, s->decay};
    }
    for (int i = 0; i <= slices; i++) {
        bounds[i] = plan_slice_begin(o->elements, slices, i);
    }
    const struct cuda_update_options options = {
        .segments = segments,
        .num_segments = o->num_segments,
        .bounds = bounds,
        .slices = slices,
        .own = o->counts && slices > 1 ? o->comm->rank : -1,
        .ema = o->moments[2] != NULL,
        .stream = stream,
        .comm = o->comm,
    };
    status = cuda_update_create(&o->cuda, &options);
done:
    free(segments);
    free(bounds);
    return status;
}

static void destroy_on_device(struct optimizer *o)
{
    cuda_update_destroy(&o->cuda);
}

enum status optimizer_fetch(struct optimizer *o)
{
    for (int i = 0; o->cuda && i < 3; i++) {
        if (o->moments[i]) TRY(cuda_update_read(o->cuda, i, o->moments[i]));
    }
    return STATUS_OK;
}

enum status optimizer_restored(struct optimizer *o)
{
    for (int i = 0; o->cuda && i < 3; i++) {
        if (o->moments[i]) TRY(cuda_update_write(o->cuda, i, o->moments[i]));
    }
    return STATUS_OK;
}

static enum status clamp_on_device(struct optimizer *o, float *element, float low, float high)
{
    return cuda_update_clamp(o->cuda, element, low, high);
}

static enum status start_on_device(struct optimizer *o, float *parameters, const float *gradients,
                                   double scale)
{
    const struct cuda_update_step step = {
        .parameters = parameters,
        .gradients = gradients,
        .step = o->applied + 1,
        .lr = o->report.lr,
        .beta1 = o->config->betas.items[0],
        .beta2 = o->config->betas.items[1],
        .eps = o->config->eps,
        .weight_decay = o->config->weight_decay,
        .gradient_scale = scale,
        .clip = o->config->clip_norm,
        .ema_decay = o->config->ema_decay,
        .fiber = o->config->form == OPTIMIZER_ADAMW_FIBER,
    };
    return cuda_update_start(o->cuda, &step);
}

static enum status finish_on_device(struct optimizer *o)
{
    struct cuda_decision decision;
    TRY(cuda_update_finish(o->cuda, &decision));
    o->report.gradient_norm = decision.norm;
    o->report.clipped = decision.clipped;
    o->report.skipped = decision.skipped;
    return STATUS_OK;
}

#else

static enum status no_device(void)
{
    return status_fail(STATUS_INTERNAL, "optimizer: this weft was built without CUDA");
}

static enum status create_on_device(struct optimizer *o, struct CUstream_st *stream)
{
    (void)o;
    (void)stream;
    return no_device();
}

static void destroy_on_device(struct optimizer *o)
{
    (void)o;
}

enum status optimizer_fetch(struct optimizer *o)
{
    (void)o;
    return STATUS_OK;
}

enum status optimizer_restored(struct optimizer *o)
{
    (void)o;
    return STATUS_OK;
}

static enum status clamp_on_device(struct optimizer *o, float *element, float low, float high)
{
    (void)o;
    (void)element;
    (void)low;
    (void)high;
    return no_device();
}

static enum status start_on_device(struct optimizer *o, float *parameters, const float *gradients,
                                   double scale)
{
    (void)scale;
    return clamp_on_device(o, parameters, gradients[0], 0);
}

static enum status finish_on_device(struct optimizer *o)
{
    (void)o;
    return no_device();
}

#endif

/* ---- life ---- */

enum status optimizer_create(struct optimizer **optimizer, const struct graph *graph,
                             const struct optimizer_config *config, struct comm *comm,
                             struct CUstream_st *stream)
{
    *optimizer = NULL;
    struct optimizer *o = calloc(1, sizeof *o);
    CHECK(o, STATUS_NO_MEMORY, "optimizer: out of memory");
    o->config = config;
    o->comm = comm;
    enum status status = optimizer_build(o, graph);
    if (status == STATUS_OK && stream) status = create_on_device(o, stream);
    if (status != STATUS_OK) {
        optimizer_destroy(&o);
        return status;
    }
    *optimizer = o;
    return STATUS_OK;
}

void optimizer_destroy(struct optimizer **optimizer)
{
    struct optimizer *o = *optimizer;
    if (!o) return;
    destroy_on_device(o);
    for (int i = 0; i < 3; i++) {
        memory_unmap((void **)&o->moments[i], slice_bytes(o));
    }
    free(o->segments);
    free(o->scratch);
    free(o->counts);
    free(o);
    *optimizer = NULL;
}

struct optimizer_state optimizer_state(struct optimizer *optimizer)
{
    return (struct optimizer_state){
        .begin = optimizer->begin,
        .count = optimizer->end - optimizer->begin,
        .first_moment = optimizer->moments[0],
        .second_moment = optimizer->moments[1],
        .ema = optimizer->moments[2],
        .applied = &optimizer->applied,
        .skipped = &optimizer->skipped,
    };
}

void optimizer_ema_start(struct optimizer *optimizer, const float *parameters)
{
    if (!optimizer->moments[2]) return;
    memcpy(optimizer->moments[2], parameters + optimizer->begin, slice_bytes(optimizer));
}

/* ---- update ---- */

/* Sum of squares of the whole reduced gradient, the same bits on every rank. Added up by the slices
 * of sharded state also where state is not sharded, so that sharding changes no bit of a run. */
static enum status gradient_square(struct optimizer *o, const float *gradients, double *square)
{
    if (!o->counts) {
        int slices = o->comm ? o->comm->size : 1;
        *square = 0;
        for (int r = 0; r < slices; r++) {
            int64_t begin = plan_slice_begin(o->elements, slices, r);
            int64_t end = plan_slice_begin(o->elements, slices, r + 1);
            double part = 0;
            sum_squares_cpu(gradients + begin, &part, o->scratch, end - begin);
            *square += part;
        }
        return STATUS_OK;
    }
    sum_squares_cpu(gradients + o->begin, square, o->scratch, o->end - o->begin);
    return comm_allreduce(o->comm, "gradient norm", square, 1, COMM_F64, COMM_SUM);
}

static void update_segment(struct optimizer *o, const struct segment *s, float *parameters,
                           const float *gradients, double lr, double scale)
{
    int64_t at = s->begin - o->begin;
    const struct adamw args = {
        .p = parameters + s->begin,
        .g = gradients + s->begin,
        .m = o->moments[0] + at,
        .v = o->moments[1] + at,
        .count = s->end - s->begin,
        .step = o->applied + 1,
        .lr = lr * s->lr,
        .beta1 = o->config->betas.items[0],
        .beta2 = o->config->betas.items[1],
        .eps = o->config->eps,
        .weight_decay = o->config->weight_decay * s->decay,
        .gradient_scale = scale,
        .form = o->config->form == OPTIMIZER_ADAMW ? ADAMW_DECOUPLED : ADAMW_FIBER,
    };
    adamw_cpu(&args);
}

static enum status update_here(struct optimizer *o, float *parameters, const float *gradients,
                               double scale)
{
    double square = 0;
    TRY(gradient_square(o, gradients, &square));
    double norm = sqrt(square) * scale;
    double clip = o->config->clip_norm;
    o->report.gradient_norm = norm;
    o->report.skipped = !isfinite(norm);
    if (o->report.skipped) return STATUS_OK;
    if (clip > 0 && norm > clip) {
        o->report.clipped = true;
        scale *= clip / (norm + 1e-6);
    }
    for (int64_t i = 0; i < o->num_segments; i++) {
        update_segment(o, &o->segments[i], parameters, gradients, o->report.lr, scale);
    }
    if (o->moments[2]) {
        ema_cpu(o->moments[2], parameters + o->begin, o->config->ema_decay, o->end - o->begin);
    }
    if (!o->counts) return STATUS_OK;
    return comm_allgather(o->comm, "updated parameters", parameters + o->begin, parameters, 0,
                          o->counts, COMM_F32);
}

enum status optimizer_start(struct optimizer *o, float *parameters, float *gradients, double scale,
                            int64_t update, int64_t total)
{
    double lr = o->config->lr * schedule_factor(&o->config->schedule, update, total);
    o->report = (struct optimizer_report){.lr = lr};
    return (o->cuda ? start_on_device : update_here)(o, parameters, gradients, scale);
}

enum status optimizer_finish(struct optimizer *o, struct optimizer_report *report)
{
    if (o->cuda) TRY(finish_on_device(o));
    *(o->report.skipped ? &o->skipped : &o->applied) += 1;
    *report = o->report;
    return STATUS_OK;
}

enum status optimizer_step(struct optimizer *o, float *parameters, float *gradients, double scale,
                           int64_t update, int64_t total, struct optimizer_report *report)
{
    TRY(optimizer_start(o, parameters, gradients, scale, update, total));
    return optimizer_finish(o, report);
}

enum status optimizer_clamp(struct optimizer *o, float *parameters, int64_t offset, float low,
                            float high)
{
    if (o->cuda) return clamp_on_device(o, parameters + offset, low, high);
    parameters[offset] = fminf(fmaxf(parameters[offset], low), high);
    return STATUS_OK;
}
