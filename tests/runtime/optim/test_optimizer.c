/*
 * AdamW in both forms against three hand-computed steps, schedules against closed forms and the
 * reference's rates, groups, clipping, skipped steps, EMA, and sharded state against whole state.
 * np=1,2,3
 */
#include <hdf5.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/comm/comm.h"
#include "runtime/graph/op.h"
#include "runtime/ops/ops.h"
#include "runtime/optim/optimizer.h"

static struct comm *comm;

static void must(enum status status)
{
    if (status != STATUS_OK) fail_msg("%s", status_message());
}

/* ---- schedules ---- */

static void test_schedule_linear(void **state)
{
    (void)state;
    struct schedule s = {.kind = SCHEDULE_LINEAR, .warmup = 3};
    static const double expected[] = {0, 1.0 / 3, 2.0 / 3, 1, 6.0 / 7, 5.0 / 7, 4.0 / 7};
    for (int n = 0; n < 7; n++) {
        assert_true(fabs(schedule_factor(&s, n, 10) - expected[n]) < 1e-12);
    }
    assert_true(schedule_factor(&s, 10, 10) == 0);
    assert_true(schedule_factor(&s, 99, 10) == 0);
    s.warmup = 0.3;
    assert_true(fabs(schedule_factor(&s, 1, 10) - 1.0 / 3) < 1e-12);
}

static void test_schedule_others(void **state)
{
    (void)state;
    struct schedule cosine = {.kind = SCHEDULE_COSINE, .end_factor = 0.1};
    assert_true(schedule_factor(&cosine, 0, 100) == 1.0);
    assert_true(fabs(schedule_factor(&cosine, 50, 100) - 0.55) < 1e-12);
    assert_true(fabs(schedule_factor(&cosine, 100, 100) - 0.1) < 1e-12);
    struct schedule poly = {.kind = SCHEDULE_POLYNOMIAL, .power = 2};
    assert_true(fabs(schedule_factor(&poly, 25, 100) - 0.5625) < 1e-12);
    double stones[] = {0.67, 0.89};
    struct schedule steps = {.kind = SCHEDULE_MULTI_STEP,
                             .gamma = 0.1,
                             .warmup = 10,
                             .warmup_factor = 0.001,
                             .milestones = {stones, 2}};
    assert_true(fabs(schedule_factor(&steps, 0, 100) - 0.001) < 1e-12);
    assert_true(fabs(schedule_factor(&steps, 5, 100) - (0.001 + 0.999 * 0.5)) < 1e-12);
    assert_true(schedule_factor(&steps, 66, 100) == 1.0);
    assert_true(fabs(schedule_factor(&steps, 67, 100) - 0.1) < 1e-12);
    assert_true(fabs(schedule_factor(&steps, 89, 100) - 0.01) < 1e-12);
    struct schedule constant = {.kind = SCHEDULE_CONSTANT};
    assert_true(schedule_factor(&constant, 12345, 10) == 1.0);
}

static void test_schedule_reference(void **state)
{
    (void)state;
    const char *folder = getenv("WEFT_GOLDEN_DIR");
    char path[4096];
    snprintf(path, sizeof path, "%s/fiber_coarse_mini.h5", folder ? folder : "../shared/golden");
    if (access(path, R_OK) != 0) skip(); /* no reference values on this machine */
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    hid_t set = H5Dopen2(file, "/train/lr", H5P_DEFAULT);
    double lr[10];
    assert_true(H5Dread(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, lr) >= 0);
    H5Dclose(set);
    H5Fclose(file);
    /* attrs/train of the file: base rate 1e-3, 3 updates of warm-up, 10 updates, linear to 0. */
    struct schedule s = {.kind = SCHEDULE_LINEAR, .warmup = 3};
    for (int n = 0; n < 10; n++) {
        assert_true(fabs(1e-3 * schedule_factor(&s, n, 10) - lr[n]) <= 1e-12);
    }
}

/* ---- updates ---- */

/* Two parameters of 3 and 20 elements; the loss makes every gradient exist. */
static struct graph *make_graph(void)
{
    struct graph *g = NULL;
    must(graph_create(&g, &(struct graph_options){.world_size = comm->size}));
    struct tensor *a = graph_parameter(g, "layer.weight", SHAPE(3), INIT(INIT_ZEROS, 0));
    struct tensor *b = graph_parameter(g, "layer.bias", SHAPE(20), INIT(INIT_ZEROS, 0));
    graph_parameter(g, "unused", SHAPE(5), INIT(INIT_ZEROS, 0));
    struct tensor *loss = op_add(g, op_sum(g, a, 0, 1), op_sum(g, b, 0, 1));
    must(graph_differentiate(g, loss));
    return g;
}

static double betas[] = {0.9, 0.98};
static const char *bias_pattern[] = {"bias"};
static struct optimizer_group bias_group[] = {{.match = {bias_pattern, 1}, .lr = 2, .decay = 0}};

static struct optimizer_config make_config(enum optimizer_form form)
{
    return (struct optimizer_config){
        .form = form,
        .lr = 0.1,
        .betas = {betas, 2},
        .eps = 1e-2, /* large, so that its place in the formula shows */
        .weight_decay = 0.5,
        .groups = {bias_group, 1},
        .schedule = {.kind = SCHEDULE_CONSTANT},
    };
}

/* The formulas written out in double, independent of the kernels. */
static void step_by_hand(enum optimizer_form form, double *p, double *m, double *v, double g, int t,
                         double lr, double decay)
{
    const double eps = 1e-2;
    *m = 0.9 * *m + 0.1 * g;
    *v = 0.98 * *v + 0.02 * g * g;
    double c1 = 1 - pow(0.9, t);
    double c2 = 1 - pow(0.98, t);
    if (form == OPTIMIZER_ADAMW) {
        *p -= lr * decay * *p;
        *p -= lr * (*m / c1) / (sqrt(*v / c2) + eps);
    } else {
        *p -= lr * sqrt(c2) / c1 * *m / (sqrt(*v) + eps);
        *p -= lr * decay * *p;
    }
}

static void run_three_steps(enum optimizer_form form, bool shard)
{
    struct graph *g = make_graph();
    struct optimizer_config config = make_config(form);
    config.shard = shard;
    config.ema_decay = 0.75;
    struct optimizer *o = NULL;
    must(optimizer_create(&o, g, &config, comm, NULL));
    enum { N = 64 };
    assert_int_equal(graph_flat_elements(g), N);
    float p[N];
    float grad[N];
    double hand[N];
    double m[N] = {0};
    double v[N] = {0};
    double ema[N];
    for (int i = 0; i < N; i++) {
        bool is_value = i < 3 || (i >= 16 && i < 36) || (i >= 48 && i < 53);
        p[i] = is_value ? 0.3f * (float)(i % 7) - 0.8f : 0.0f;
        hand[i] = p[i];
        ema[i] = p[i];
    }
    optimizer_ema_start(o, p);
    for (int t = 1; t <= 3; t++) {
        for (int i = 0; i < N; i++) {
            grad[i] = i < 3 || (i >= 16 && i < 36) ? 2.0f * sinf((float)(i * t)) : 0.0f;
            if (i < 3) step_by_hand(form, &hand[i], &m[i], &v[i], grad[i] * 0.5, t, 0.1, 0.5);
            if (i >= 16 && i < 36) {
                step_by_hand(form, &hand[i], &m[i], &v[i], grad[i] * 0.5, t, 0.2, 0);
            }
            ema[i] = 0.75 * ema[i] + 0.25 * hand[i];
        }
        struct optimizer_report report;
        must(optimizer_step(o, p, grad, 0.5, t - 1, 3, &report));
        assert_false(report.skipped);
        assert_true(report.lr == 0.1);
    }
    struct optimizer_state s = optimizer_state(o);
    assert_int_equal(*s.applied, 3);
    for (int i = 0; i < N; i++) {
        assert_true(fabs(p[i] - hand[i]) <= 2e-6 * (1 + fabs(hand[i])));
        if (i >= s.begin && i < s.begin + s.count) {
            assert_true(fabs(s.first_moment[i - s.begin] - m[i]) <= 1e-6);
            assert_true(fabs(s.ema[i - s.begin] - ema[i]) <= 2e-6);
        }
    }
    optimizer_destroy(&o);
    graph_destroy(&g);
}

static void test_adamw(void **state)
{
    (void)state;
    run_three_steps(OPTIMIZER_ADAMW, false);
    run_three_steps(OPTIMIZER_ADAMW, true);
}

static void test_adamw_fiber(void **state)
{
    (void)state;
    run_three_steps(OPTIMIZER_ADAMW_FIBER, false);
    run_three_steps(OPTIMIZER_ADAMW_FIBER, true);
}

static void test_clipping_and_skipping(void **state)
{
    (void)state;
    struct graph *g = make_graph();
    struct optimizer_config config = make_config(OPTIMIZER_ADAMW);
    config.clip_norm = 1.0;
    config.shard = true;
    struct optimizer *o = NULL;
    must(optimizer_create(&o, g, &config, comm, NULL));
    float p[64] = {0};
    float grad[64] = {0};
    grad[0] = 30;
    grad[20] = 40;
    struct optimizer_report report;
    must(optimizer_step(o, p, grad, 0.1, 0, 10, &report));
    assert_true(fabs(report.gradient_norm - 5) < 1e-5);
    assert_true(report.clipped);
    struct optimizer_state s = optimizer_state(o);
    if (s.begin == 0) assert_true(fabs(s.first_moment[0] - 0.1 * 3 / 5) < 1e-6);
    float before[64];
    memcpy(before, p, sizeof p);
    /* One bad value, in the last slice alone: every rank skips. */
    grad[35] = NAN;
    must(optimizer_step(o, p, grad, 0.1, 1, 10, &report));
    assert_true(report.skipped);
    assert_memory_equal(before, p, sizeof p);
    grad[35] = INFINITY;
    must(optimizer_step(o, p, grad, 0.1, 2, 10, &report));
    assert_true(report.skipped);
    assert_int_equal(*s.skipped, 2);
    assert_int_equal(*s.applied, 1);
    optimizer_destroy(&o);
    graph_destroy(&g);
}

static void test_group_without_parameter(void **state)
{
    (void)state;
    struct graph *g = make_graph();
    struct optimizer_config config = make_config(OPTIMIZER_ADAMW);
    const char *pattern[] = {"bais"};
    struct optimizer_group group[] = {{.match = {pattern, 1}, .lr = 1, .decay = 0}};
    config.groups.items = group;
    struct optimizer *o = NULL;
    assert_int_equal(optimizer_create(&o, g, &config, comm, NULL), STATUS_INVALID);
    assert_non_null(strstr(status_message(), "'bais' is found in no parameter name"));
    graph_destroy(&g);
}

static void test_config(void **state)
{
    (void)state;
    must(config_table_check(&optimizer_table));
    const char text[] = "form: adamw_fiber\nlr: 1e-5\n"
                        "groups:\n- {match: [bias, LayerNorm.weight], decay: 0}\n"
                        "- {match: ['*mlm_score*'], lr: 5}\n"
                        "schedule: {kind: multi_step, milestones: [0.5, 0.4]}\n";
    struct optimizer_config value;
    struct config *config = NULL;
    assert_int_equal(
        config_read_text(&optimizer_table, "t", text, sizeof text - 1, NULL, 0, &value, &config),
        STATUS_INVALID);
    assert_non_null(strstr(status_message(), "must rise"));
    const char *override = "schedule.milestones=[0.4, 0.5]";
    must(config_read_text(&optimizer_table, "t", text, sizeof text - 1, &override, 1, &value,
                          &config));
    double lr = 0;
    double decay = 0;
    optimizer_multipliers(&value, "mlm_score.bias", &lr, &decay);
    assert_true(lr == 5 && decay == 0);
    optimizer_multipliers(&value, "vit_model.norm.weight", &lr, &decay);
    assert_true(lr == 1 && decay == 1);
    config_destroy(&config);
}

int main(void)
{
    if (comm_create(NULL, &comm) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_message());
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedule_linear),
        cmocka_unit_test(test_schedule_others),
        cmocka_unit_test(test_schedule_reference),
        cmocka_unit_test(test_adamw),
        cmocka_unit_test(test_adamw_fiber),
        cmocka_unit_test(test_clipping_and_skipping),
        cmocka_unit_test(test_group_without_parameter),
        cmocka_unit_test(test_config),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (comm_finish(&comm) != STATUS_OK) return 1;
    return failed;
}
