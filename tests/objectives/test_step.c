/*
 * A whole step of the three objectives: sharing changes no number, one rank and several agree,
 * and what is computed once is there once.   np=1,2,4 timeout=120
 */
#include "runtime/comm/comm.h"
#include "tests/model/model_case.h"

enum { SAMPLES = 4, FUSED = 3, BLOCKS = 11, SEED = 5, STEP = 9 };

static struct comm *comm;

#define NO_DROPOUT TINY_FIBER ", num_fuse: 3, dropout: 0, drop_path: 0"
#define DROPOUT    TINY_FIBER ", num_fuse: 3, dropout: 0.2, drop_path: 0.3"
#define SHARED     "share: true, " ALL_OBJECTIVES
#define APART      "share: false, " ALL_OBJECTIVES

/* A step over this rank's part of SAMPLES samples, or all of them without a world. */
struct run {
    struct model_case c;
    struct step step;
    struct executor *e;
    struct comm *world;
    int64_t first; /* sample */
};

/* Every value depends on the number of the sample in the global batch. */
static void fill_sample(struct run *r, int64_t row)
{
    struct step *s = &r->step;
    const struct model_facts *facts = &s->model.facts;
    int64_t sample = r->first + row;
    int64_t pixels = shape_span(&s->pixels->shape, 1, 4);
    int64_t length = facts->max_text_len;
    uint8_t *bytes = (uint8_t *)executor_data(r->e, s->pixels) + row * pixels;
    for (int64_t i = 0; i < pixels; i++) {
        bytes[i] = (uint8_t)(127.5f * (value_at("pixels", sample * pixels + i) + 1));
    }
    int32_t *ids = (int32_t *)executor_data(r->e, s->ids) + row * length;
    int32_t *mask = (int32_t *)executor_data(r->e, s->mask) + row * length;
    int32_t *masked = (int32_t *)executor_data(r->e, s->mlm_ids) + row * length;
    for (int64_t t = 0; t < length; t++) {
        bool is_token = t < length - sample % 3;
        float pick = 0.5f * (value_at("ids", sample * length + t) + 1);
        mask[t] = is_token;
        ids[t] = is_token ? 2 + (int32_t)(pick * (float)(facts->vocab - 2)) : 1;
        masked[t] = ids[t];
    }
}

/* Sample s predicts 1 + s % 2 tokens; the rows behind the last one count nothing. */
static void fill_mlm(struct run *r)
{
    struct step *s = &r->step;
    int64_t length = s->model.facts.max_text_len;
    int64_t rows = s->mlm_index->shape.dim[0];
    int32_t *index = executor_data(r->e, s->mlm_index);
    int32_t *targets = executor_data(r->e, s->mlm_targets);
    float *weights = executor_data(r->e, s->mlm_weights);
    int32_t *ids = executor_data(r->e, s->ids);
    int32_t *masked = executor_data(r->e, s->mlm_ids);
    int64_t used = 0;
    for (int64_t b = 0; b < s->batch; b++) {
        for (int64_t k = 0; k < 1 + (r->first + b) % 2; k++) {
            int64_t at = b * length + 1 + 2 * k;
            assert_true(used < rows);
            index[used] = (int32_t)at;
            targets[used] = ids[at];
            weights[used++] = 1;
            masked[at] = 3;
        }
    }
    for (; used < rows; used++) {
        index[used] = 0;
        targets[used] = -100;
        weights[used] = 0;
    }
}

static void record(struct run *r, const char *model, const char *objectives, struct comm *world)
{
    *r = (struct run){.world = world};
    int size = world ? world->size : 1;
    r->first = world ? world->rank * (SAMPLES / size) : 0;
    model_case_make(&r->c, model, objectives, NULL);
    MUST(step_init(&r->step, &(struct step_options){.config = &r->c.objectives,
                                                    .model = r->c.model,
                                                    .dtype = DTYPE_F32,
                                                    .training = true,
                                                    .batch = SAMPLES / size,
                                                    .world_size = size}));
}

static void run_step(struct run *r)
{
    graph_output(r->step.graph, "negative_image", r->step.negative_image);
    graph_output(r->step.graph, "negative_text", r->step.negative_text);
    MUST(executor_create(&r->e, r->step.graph,
                         &(struct executor_options){.seed = SEED,
                                                    .comm = r->world,
                                                    .poison = true,
                                                    .check_finite = true,
                                                    .plan.bucket_bytes = 4096}));
    init_weights(r->e, r->step.graph, 0.6f);
    for (int64_t b = 0; b < r->step.batch; b++) {
        fill_sample(r, b);
    }
    fill_mlm(r);
    MUST(executor_run(r->e, &(struct executor_run){.step = STEP,
                                                   .sample_base = (uint64_t)r->first,
                                                   .reduce = r->world != NULL}));
}

static void make(struct run *r, const char *model, const char *objectives, struct comm *world)
{
    record(r, model, objectives, world);
    run_step(r);
}

static void release(struct run *r)
{
    executor_destroy(&r->e);
    step_fini(&r->step);
    model_case_free(&r->c);
}

/* The mean over ranks of a number that every rank has. */
static double mean_over_ranks(struct comm *world, double value)
{
    if (!world) return value;
    MUST(comm_allreduce(world, "mean", &value, 1, COMM_F64, COMM_SUM));
    return value / world->size;
}

/* The same losses, gradients and negatives; `b` may be split over ranks. */
static void assert_same(struct run *a, struct run *b, double tolerance)
{
    assert_int_equal(a->step.num_terms, 3);
    for (int i = 0; i < 3; i++) {
        double x = (double)*(float *)executor_data(a->e, a->step.terms[i].loss);
        double y = (double)*(float *)executor_data(b->e, b->step.terms[i].loss);
        y = mean_over_ranks(b->world, y);
        if (!(fabs(x - y) <= 1e-5 * fabs(x)) || !(x > 0.1))
            fail_msg("%s: %.9g and %.9g", a->step.terms[i].name, x, y);
    }
    int64_t rows = b->step.batch;
    assert_memory_equal((int32_t *)executor_data(a->e, a->step.negative_image) + b->first,
                        executor_data(b->e, b->step.negative_image),
                        (size_t)rows * sizeof(int32_t));
    assert_memory_equal((int32_t *)executor_data(a->e, a->step.negative_text) + b->first,
                        executor_data(b->e, b->step.negative_text), (size_t)rows * sizeof(int32_t));
    const struct graph *g = a->step.graph;
    float scale = b->world ? 1.0f / (float)b->world->size : 1.0f;
    double most = 0;
    for (int64_t i = 0; i < graph_flat_elements(g); i++) {
        most = fmax(most, fabs((double)executor_gradients(a->e)[i]));
    }
    for (int64_t k = 0; k < graph_num_parameters(g); k++) {
        const struct parameter *p = graph_parameter_at(g, k);
        const struct parameter *q = graph_parameter_find(b->step.graph, p->name);
        assert_non_null(q);
        assert_int_equal(!p->gradient, !q->gradient);
        double norm = 0;
        double difference = 0;
        for (int64_t i = 0; p->gradient && i < p->count; i++) {
            double x = (double)executor_gradients(a->e)[p->offset + i];
            double y = (double)(scale * executor_gradients(b->e)[q->offset + i]);
            norm += x * x;
            difference += (x - y) * (x - y);
        }
        /* Key biases have a gradient of zero in theory: what rounding leaves has no digits. */
        double floor = 1e-4 * most;
        if (!(sqrt(difference) <= tolerance * fmax(sqrt(norm), floor)))
            fail_msg("%s: gradients differ by %.3g of %.3g", p->name, sqrt(difference), sqrt(norm));
    }
}

/* ---- sharing ---- */

/* Without random parts it makes no difference which prefixes are computed once. */
static void test_sharing_changes_nothing(void **state)
{
    (void)state;
    struct run shared;
    struct run apart;
    make(&shared, NO_DROPOUT, SHARED, NULL);
    make(&apart, NO_DROPOUT, APART, NULL);
    assert_same(&shared, &apart, 1e-4);
    release(&shared);
    release(&apart);
}

/* Attention over windows is what reads a table of relative positions. */
static int64_t window_attentions(const struct run *r)
{
    const struct graph *g = r->step.graph;
    int64_t count = 0;
    for (int64_t k = 0; k < graph_num_parameters(g); k++) {
        const struct parameter *p = graph_parameter_at(g, k);
        if (!strstr(p->name, "relative_position_bias_table")) continue;
        for (int64_t i = 0; i < graph_num_nodes(g); i++) {
            const struct node *node = graph_node_at(g, i);
            for (int n = 0; n < node->num_inputs && !node->is_backward; n++) {
                count += node->inputs[n] == p->tensor;
            }
        }
    }
    return count;
}

/*
 * P blocks below the first fused one, K above. Shared: P once; K for each of MLM, ITC and ITM (on
 * 3 B pairs), less one: the self-attention of the first fused block comes before its text, so MLM
 * and ITC have it in common. Apart, ITM encodes its drawn pictures too: P twice; and with drop-path
 * three times with nothing in common, except the first two blocks: nothing is drawn before them.
 */
static void test_what_is_computed(void **state)
{
    (void)state;
    const int64_t p = BLOCKS - FUSED;
    static const struct {
        const char *model, *objectives;
        int64_t prefixes, less;
    } cases[] = {{NO_DROPOUT, SHARED, 1, 1},
                 {DROPOUT, SHARED, 1, 1},
                 {NO_DROPOUT, APART, 2, 1},
                 {DROPOUT, APART, 3, 2}};
    for (size_t i = 0; i < CASES(cases); i++) {
        struct run r;
        record(&r, cases[i].model, cases[i].objectives, NULL);
        assert_int_equal(window_attentions(&r), cases[i].prefixes * p + 3 * FUSED - cases[i].less);
        release(&r);
    }
}

/* With random parts, sharing draws once and apart draws anew. */
static void test_dropout_apart(void **state)
{
    (void)state;
    struct run shared;
    struct run apart;
    make(&shared, DROPOUT, SHARED, NULL);
    make(&apart, DROPOUT, APART, NULL);
    for (int i = 1; i < 3; i++) {
        float a = *(float *)executor_data(shared.e, shared.step.terms[i].loss);
        float b = *(float *)executor_data(apart.e, apart.step.terms[i].loss);
        assert_true(a != b);
    }
    release(&shared);
    release(&apart);
}

/* ---- rank counts ---- */

static void check_ranks(const char *model, const char *objectives)
{
    struct run whole;
    struct run part;
    make(&whole, model, objectives, NULL);
    make(&part, model, objectives, comm);
    assert_same(&whole, &part, 2e-4);
    release(&whole);
    release(&part);
}

static void test_rank_counts(void **state)
{
    (void)state;
    check_ranks(NO_DROPOUT, SHARED);
    check_ranks(NO_DROPOUT, APART);
    check_ranks(DROPOUT, SHARED);
    check_ranks(DROPOUT, APART);
}

/* Without contrastive learning negatives are drawn evenly from all ranks. */
static void test_matching_alone(void **state)
{
    (void)state;
    struct run r;
    int size = comm->size;
    record(&r, NO_DROPOUT, "list: [{type: mlm}, {type: itm}]", comm);
    run_step(&r);
    const int32_t *image = executor_data(r.e, r.step.negative_image);
    const int32_t *text = executor_data(r.e, r.step.negative_text);
    int elsewhere = 0;
    for (uint64_t step = 0; step < 20; step++) {
        MUST(executor_run(r.e,
                          &(struct executor_run){.step = step, .sample_base = (uint64_t)r.first}));
        for (int64_t b = 0; b < r.step.batch; b++) {
            assert_in_range(image[b], 0, SAMPLES - 1);
            assert_in_range(text[b], 0, SAMPLES - 1);
            assert_int_not_equal(image[b], r.first + b);
            assert_int_not_equal(text[b], r.first + b);
            elsewhere += image[b] / r.step.batch != comm->rank;
        }
    }
    assert_true(size == 1 ? elsewhere == 0 : elsewhere > 0);
    release(&r);
}

/* ---- what is refused ---- */

struct refusal {
    const char *objectives;
    const char *message;
};

static const struct refusal refusals[] = {
    {"list: [{type: itm}, {type: itc}]",
     "case.yaml:2:20: objectives.list: itc comes after itm; itm draws hard negatives from itc's "
     "similarities, so put itc first"},
    {"list: [{type: mlm}, {type: mlm}]", "case.yaml:2:20: objectives.list: 'mlm' is there twice"},
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES(refusals); i++) {
        struct model_case c;
        assert_int_equal(model_case_read(&c, NO_DROPOUT, refusals[i].objectives, NULL),
                         STATUS_INVALID);
        assert_string_equal(status_message(), refusals[i].message);
    }
}

/* Matching takes two pairs in all; a single one is refused with the module's name. */
static void test_single_pair(void **state)
{
    (void)state;
    struct model_case c;
    struct step step;
    model_case_make(&c, NO_DROPOUT, ALL_OBJECTIVES, NULL);
    assert_int_equal(step_init(&step, &(struct step_options){.config = &c.objectives,
                                                             .model = c.model,
                                                             .dtype = DTYPE_F32,
                                                             .training = true,
                                                             .batch = 1,
                                                             .world_size = 1}),
                     STATUS_INVALID);
    assert_string_equal(status_message(), "itm: a single pair has no negative to match against; "
                                          "raise the batch to at least 2");
    assert_null(step.graph);
    model_case_free(&c);
}

int main(int argc, char **argv)
{
    (void)argc;
    wait_passively(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sharing_changes_nothing),
        cmocka_unit_test(test_what_is_computed),
        cmocka_unit_test(test_dropout_apart),
        cmocka_unit_test(test_rank_counts),
        cmocka_unit_test(test_matching_alone),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_single_pair),
    };
    if (comm_create(NULL, &comm) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_message());
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (comm_finish(&comm) != STATUS_OK) failed++;
    return failed;
}
