/* A new run starts from given weights, the same on all ranks.   np=1,2 timeout=30 */
#include "launch/init_from.h"
#include "runtime/base/log.h"
#include "runtime/checkpoint/safetensors.h"
#include "tests/runtime/checkpoint/fixture.h"

static struct comm *comm;
static char folder[256];

static void write_roberta(const char *path)
{
    static const float bias[4] = {1, 2, 3, 4};
    const struct safetensors_tensor tensors[] = {
        {"roberta.embeddings.LayerNorm.bias", SAFETENSORS_F32, {.rank = 1, .dim = {4}}, bias},
        {"roberta.encoder.layer.0.output.dense.bias",
         SAFETENSORS_F32,
         {.rank = 1, .dim = {2}},
         bias},
        {"lm_head.bias", SAFETENSORS_F32, {.rank = 1, .dim = {3}}, bias},
    };
    if (comm->rank == 0) ASSERT_OK(safetensors_write(path, tensors, 3));
}

static void test_other_names(void **state)
{
    (void)state;
    char path[512];
    snprintf(path, sizeof path, "%s/roberta.safetensors", folder);
    write_roberta(path);
    const struct checkpoint_parameter parameters[] = {
        {"text_transformer.embeddings.LayerNorm.bias", SHAPE(4), 0, 4},
        {"text_transformer.encoder.layer.0.output.dense.bias", SHAPE(2), 16, 2},
        {"temp", SHAPE_SCALAR, 32, 1},
    };
    const char *const allow[] = {"temp"};
    struct train_section train = {.init_from = path};
    float vector[48] = {[32] = 0.07f};
    ASSERT_FAILS(init_from_load(&train, parameters, 3, vector, 48, comm), STATUS_INVALID,
                 "train.init_from: the weights do not fit the model: missing 'temp'");
    train.init_allow.items = allow;
    train.init_allow.count = 1;
    ASSERT_OK(init_from_load(&train, parameters, 3, vector, 48, comm));
    assert_true(vector[0] == 1 && vector[3] == 4 && vector[16] == 1 && vector[17] == 2);
    assert_true(vector[32] == 0.07f);
    train.init_from = "none.safetensors";
    ASSERT_FAILS(init_from_load(&train, parameters, 3, vector, 48, comm), STATUS_NOT_FOUND,
                 "train.init_from: none.safetensors: cannot open");
}

static void test_moving_average(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_create(&fixture, 80, false, comm->rank, comm->size);
    struct checkpoint_saver_options options = {0};
    struct checkpoint_saver *saver;
    struct train_section train = {.init_from = folder};
    float vector[80] = {0};
    for (int64_t step = 1; step <= 2; step++) {
        /* The second one has a moving average. */
        if (step == 2) fixture.vectors[1].name = "ema";
        fixture.state.step = step;
        ASSERT_OK(checkpoint_saver_create(&saver, folder, &options, comm));
        ASSERT_OK(checkpoint_save(saver, &fixture.state));
        checkpoint_saver_destroy(&saver);
        ASSERT_OK(init_from_load(&train, fixture.parameters, 3, vector, 80, comm));
        assert_true(vector[3] == fixture_value(step == 2 ? 1 : 0, 3, 0));
    }
    fixture_destroy(&fixture);
}

int main(void)
{
    if (comm_create(NULL, &comm) != STATUS_OK) {
        fprintf(stderr, "comm_create: %s\n", status_message());
        return 1;
    }
    log_set_level(LOG_WARNING);
    fixture_folder(folder, comm);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_other_names),
        cmocka_unit_test(test_moving_average),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fixture_remove(folder, comm);
    if (comm_finish(&comm) != STATUS_OK) failed++;
    return failed;
}
