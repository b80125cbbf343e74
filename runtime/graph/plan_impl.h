/* The stages of planning, in the order plan_create runs them; nobody else includes this. */
#ifndef WEFT_RUNTIME_GRAPH_PLAN_IMPL_H
#define WEFT_RUNTIME_GRAPH_PLAN_IMPL_H

#include "runtime/graph/plan.h"

/* Working state while a plan is made. */
struct planner {
    struct plan *plan;
    const struct graph *graph;
    const struct plan_backend *backend;
    bool *needed; /* by node id: something kept depends on it */
    bool *stable; /* by node id: depends on parameters alone */
    bool *kept;   /* by tensor id: a graph output, or read outside its recompute block */
    int *clone;   /* by tensor id: the value of its recomputation, -1 */
    int steps_capacity;
    int values_capacity;
    int buffers_capacity;
    int64_t *claim; /* by value: parameter whose gradient slot it is computed in, -1 */
    bool *removed;  /* by step: merged into another */
};

/* Lists the steps in order, with recomputation. */
enum status plan_schedule(struct planner *planner);

/* Merges consumers into kernels that can compute them. */
enum status plan_fuse(struct planner *planner);

/* Decides where final gradients are computed and adds stores for the rest; drops merged steps. */
enum status plan_settle(struct planner *planner);

/* Fills in value lifetimes, then buffers and offsets. Kernels are prepared in between. */
void plan_lifetimes(struct plan *plan);
enum status plan_memory(struct planner *planner);

/* Cuts the gradient vector into buckets and finds when each is complete. */
enum status plan_buckets(struct planner *planner);

/* Appends; returns the index or -1 when memory is out. */
int planner_add_value(struct planner *planner, const struct tensor *tensor);
int planner_add_step(struct planner *planner, const struct plan_step *step);
int planner_add_buffer(struct planner *planner, enum plan_class memory_class, size_t size);

/* The value that `value` is a view of, through any number of views. */
int plan_value_root(const struct plan *plan, int value);

bool step_is_view(const struct plan_step *step);

/* Values that a step writes: those of its node, and the sums of kernel.sums. */
int step_num_outputs(const struct plan_step *step);

#endif
