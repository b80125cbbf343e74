/* Weights go out under the public names and come back bit for bit; RoBERTa and Swin files come in.
 * timeout=60 */
#include <sys/wait.h>
#include <unistd.h>

#include "launch/train_config.h"
#include "runtime/base/rng.h"
#include "runtime/checkpoint/safetensors.h"
#include "tests/runtime/checkpoint/fixture.h"

static const char recipe[] = "run: runs/x\n"
                             "model: {family: fiber, image_size: 96, embed_dim: 16,\n"
                             "  depths: [2, 2, 2, 2], heads: [1, 2, 4, 8], text_layers: 3,\n"
                             "  hidden: 48, text_heads: 3, ffn: 96, vocab: 60, max_text_len: 12,\n"
                             "  positions: 14, num_fuse: 2}\n"
                             "data: {sets: [{path: x.h5}], image_size: 96, max_text_len: 12}\n"
                             "tokenizer: {path: vocab.json}\n"
                             "objectives: {list: [{type: mlm}, {type: itc}, {type: itm}]}\n"
                             "batch: {global: 2}\n"
                             "train: {steps: 10}\n";

static char folder[256];
static struct checkpoint_parameter *parameters; /* of the recipe's model */
static int64_t count;
static float *vector;
static struct train_config values;
static struct config *config;
static struct step step;
static char said[8192]; /* by the last program */

static const char *in_folder(const char *name)
{
    static char path[4][512];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
    return path[next];
}

/* Runs weft in the folder; returns its exit code and keeps what it said. */
static int weft(const char *arguments)
{
    const char *build = getenv("WEFT_BUILD");
    char command[2048];
    snprintf(command, sizeof command, "p=$(realpath '%s/weft') && cd '%s' && \"$p\" %s 2>&1",
             build ? build : "build/release", folder, arguments);
    FILE *output = popen(command, "r");
    assert_non_null(output);
    size_t length = fread(said, 1, sizeof said - 1, output);
    said[length] = '\0';
    int status = pclose(output);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void expect_weft(int code, const char *arguments)
{
    int got = weft(arguments);
    if (got != code) fail_msg("weft %s: exit %d and not %d: %s", arguments, got, code, said);
}

static void expect_said(const char *part)
{
    if (!strstr(said, part)) fail_msg("'%s' lacks '%s'", said, part);
}

static void write_text(const char *name, const char *text)
{
    FILE *file = fopen(in_folder(name), "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void save_checkpoint(void)
{
    struct checkpoint_vector state_vector = {.name = "parameters",
                                             .elements = graph_flat_elements(step.graph),
                                             .count = graph_flat_elements(step.graph),
                                             .data = vector};
    struct checkpoint_blob blob = {CHECKPOINT_BLOB_CONFIG, recipe, sizeof recipe - 1};
    struct checkpoint_state state = {.step = 5,
                                     .vectors = &state_vector,
                                     .num_vectors = 1,
                                     .blobs = &blob,
                                     .num_blobs = 1,
                                     .parameters = parameters,
                                     .num_parameters = count};
    struct checkpoint_saver_options options = {0};
    struct checkpoint_saver *saver;
    ASSERT_OK(checkpoint_saver_create(&saver, in_folder("run/checkpoints"), &options, NULL));
    ASSERT_OK(checkpoint_save(saver, &state));
    checkpoint_saver_destroy(&saver);
}

/* A recipe and a run of its model in `folder`. */
static void make_run(void)
{
    write_text("recipe.yaml", recipe);
    ASSERT_OK(config_read(&train_table, in_folder("recipe.yaml"), NULL, 0, &values, &config));
    const struct step_options options = {.config = &values.objectives,
                                         .model = values.model,
                                         .batch = 2,
                                         .world_size = 1,
                                         .parameters_only = true};
    ASSERT_OK(step_init(&step, &options));
    ASSERT_OK(checkpoint_parameters(step.graph, &parameters, &count));
    vector = calloc((size_t)graph_flat_elements(step.graph), sizeof *vector);
    assert_non_null(vector);
    for (int64_t i = 0; i < count; i++) {
        rng_fill_normal(rng_key(1, RNG_TEST, (uint64_t)i), 0, 0, vector + parameters[i].offset,
                        parameters[i].count);
    }
    save_checkpoint();
}

static void end_run(void)
{
    free(vector);
    free(parameters);
    step_fini(&step);
    config_destroy(&config);
}

static int setup(void **state)
{
    (void)state;
    fixture_folder(folder, NULL);
    make_run();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    end_run();
    fixture_remove(folder, NULL);
    return 0;
}

static const struct checkpoint_parameter *find(const char *name)
{
    for (int64_t i = 0; i < count; i++) {
        if (strcmp(parameters[i].name, name) == 0) return &parameters[i];
    }
    fail_msg("no parameter %s", name);
    return NULL;
}

static float *read_tensor(const struct safetensors *file, const char *name, int64_t elements)
{
    const struct safetensors_entry *entry = safetensors_find(file, name);
    if (!entry) fail_msg("no tensor %s", name);
    assert_int_equal(entry->count, elements);
    float *values_read = malloc((size_t)(elements + 1) * sizeof *values_read);
    assert_non_null(values_read);
    ASSERT_OK(safetensors_read(file, entry, values_read));
    return values_read;
}

/* Row 1 of the matching head stands for it. */
static bool is_rank_output(const struct checkpoint_parameter *parameter)
{
    return strncmp(parameter->name, "rank_output.", 12) == 0;
}

static void expect_same(const struct safetensors *file,
                        const struct checkpoint_parameter *parameter)
{
    float *back = read_tensor(file, parameter->name, parameter->count);
    assert_true(shape_equal(&safetensors_find(file, parameter->name)->shape, &parameter->shape));
    assert_memory_equal(back, vector + parameter->offset, (size_t)parameter->count * sizeof *back);
    free(back);
}

static void expect_rank_output(const struct safetensors *file)
{
    float *rank = read_tensor(file, "rank_output.weight", 96);
    assert_memory_equal(rank, vector + find("itm_score.fc.weight")->offset + 96, 96 * sizeof *rank);
    free(rank);
    rank = read_tensor(file, "rank_output.bias", 1);
    assert_true(rank[0] == vector[find("itm_score.fc.bias")->offset + 1]);
    free(rank);
}

static void test_export(void **state)
{
    (void)state;
    expect_weft(0, "export run -o model.safetensors");
    expect_said("from run/checkpoints/step-00000005.h5");
    struct safetensors *file;
    ASSERT_OK(safetensors_open(&file, in_folder("model.safetensors")));
    for (int64_t i = 0; i < count; i++) {
        if (!is_rank_output(&parameters[i])) expect_same(file, &parameters[i]);
    }
    expect_rank_output(file);
    /* Buffers: windows of 3 x 3 on 24 x 24 tokens, rolled by 1 in odd blocks. */
    const struct safetensors_entry *index =
        safetensors_find(file, "vit_model.layers.1.blocks.0.attn.relative_position_index");
    assert_non_null(index);
    assert_true(index->dtype == SAFETENSORS_I64 && index->count == 81);
    assert_non_null(safetensors_find(file, "text_transformer.embeddings.position_ids"));
    assert_null(safetensors_find(file, "vit_model.layers.0.blocks.0.attn_mask"));
    assert_null(safetensors_find(file, "vit_model.layers.3.blocks.1.attn_mask")); /* one window */
    float *mask = read_tensor(file, "vit_model.layers.0.blocks.1.attn_mask", 64 * 81);
    assert_true(mask[0] == 0 && mask[8] == 0); /* the first window is inside the picture */
    const float *last = mask + 63 * 81;        /* its rows and columns are 0, 0 | 1 */
    assert_true(last[1] == 0 && last[2] == -100 && last[8 * 9 + 8] == 0 && last[8 * 9] == -100);
    free(mask);
    safetensors_close(&file);
    char diff[600];
    snprintf(diff, sizeof diff, "cmp '%s/model.yaml' '%s/recipe.yaml'", folder, folder);
    assert_int_equal(system(diff), 0);
}

static void test_comes_back(void **state)
{
    (void)state;
    expect_weft(0, "export run -o model.safetensors");
    expect_weft(0, "import model.safetensors --config model.yaml -o back.safetensors");
    expect_said(" 0 resized, 0 missing, 0 unused, ");
    struct safetensors *file;
    ASSERT_OK(safetensors_open(&file, in_folder("back.safetensors")));
    assert_int_equal(safetensors_count(file), count);
    for (int64_t i = 0; i < count; i++) {
        if (!is_rank_output(&parameters[i])) expect_same(file, &parameters[i]);
    }
    expect_rank_output(file);
    safetensors_close(&file);
    /* A checkpoint is a source as well; another resolution resizes the tables and nothing else. */
    expect_weft(0, "import run -c recipe.yaml -s model.image_size=160 "
                   "-s data.image_size=160 -o larger.safetensors");
    expect_said(" 8 resized, 0 missing, 0 unused");
    expect_said("vit_model.layers.3.blocks.1.attn.relative_position_bias_table [25,8] -> [81,8]");
    ASSERT_OK(safetensors_open(&file, in_folder("larger.safetensors")));
    expect_same(file, find("vit_model.layers.3.blocks.1.attn.qkv.weight"));
    safetensors_close(&file);
}

/* Writes the parameters below `prefix` as another program would call them. */
static void write_part(const char *name, const char *prefix, const char *theirs, bool merge_first)
{
    struct safetensors_tensor *tensors = calloc((size_t)count + 1, sizeof *tensors);
    char(*names)[256] = calloc((size_t)count + 1, sizeof *names);
    assert_true(tensors && names);
    int64_t next = 0;
    for (int64_t i = 0; i < count; i++) {
        const char *ours = parameters[i].name;
        int stage;
        if (strncmp(ours, prefix, strlen(prefix)) != 0 || strstr(ours, "i2t") ||
            strstr(ours, "t2i"))
            continue;
        snprintf(names[next], sizeof names[next], "%s%s", theirs, ours + strlen(prefix));
        const char *rest = strstr(ours, ".downsample.");
        if (merge_first && rest && sscanf(ours, "vit_model.layers.%d.", &stage) == 1) {
            snprintf(names[next], sizeof names[next], "layers.%d%s", stage + 1, rest);
        }
        tensors[next] = (struct safetensors_tensor){
            names[next], SAFETENSORS_F32, parameters[i].shape, vector + parameters[i].offset};
        next++;
    }
    tensors[next] =
        (struct safetensors_tensor){strstr(name, "roberta") ? "lm_head.bias" : "head.fc.bias",
                                    SAFETENSORS_F32, SHAPE(2), vector};
    ASSERT_OK(safetensors_write(in_folder(name), tensors, next + 1));
    free(tensors);
    free(names);
}

static void test_backbones(void **state)
{
    (void)state;
    write_part("roberta.safetensors", "text_transformer.", "roberta.", false);
    write_part("swin.safetensors", "vit_model.", "", true);
    write_part("old_swin.safetensors", "vit_model.", "", false);
    static const char words[] =
        "import roberta.safetensors %s.safetensors -c recipe.yaml "
        "-o %s.out.safetensors --allow '*i2t*' --allow '*t2i*' "
        "--allow 'cross_modal_*' --allow '*_score.*' --allow rank_ --allow 'tem*'";
    const char *const swins[] = {"swin", "old_swin"};
    for (int i = 0; i < 2; i++) {
        char command[512];
        char output[64];
        snprintf(command, sizeof command, words, swins[i], swins[i]);
        expect_weft(0, command);
        expect_said(" 2 buffers and heads dropped");
        expect_said("missing  vit_model.layers.3.blocks.1.attn.alpha_i2t\n");
        snprintf(output, sizeof output, "%s.out.safetensors", swins[i]);
        struct safetensors *file;
        ASSERT_OK(safetensors_open(&file, in_folder(output)));
        expect_same(file, find("vit_model.layers.0.downsample.reduction.weight"));
        expect_same(file, find("vit_model.layers.2.downsample.norm.weight"));
        expect_same(file, find("text_transformer.encoder.layer.2.output.dense.weight"));
        assert_null(safetensors_find(file, "temp"));
        safetensors_close(&file);
    }
    expect_weft(2, "import roberta.safetensors swin.safetensors -c recipe.yaml -o no");
    expect_said("recipe.yaml: the weights do not fit the model: missing '");
    expect_said("allow what is meant to differ by patterns");
    assert_int_not_equal(access(in_folder("no"), F_OK), 0);
    expect_weft(2, "import roberta.safetensors -c recipe.yaml -s model.vocab=61 -o no");
    expect_said("'roberta.embeddings.word_embeddings.weight' is [60,48] there and [61,48] in the "
                "model");
}

static void test_refused(void **state)
{
    (void)state;
    write_text("fiber.ckpt", "PK\003\004 and so on");
    expect_weft(2, "import fiber.ckpt -c recipe.yaml -o out.safetensors");
    expect_said("a PyTorch file; convert it first: python3 launch/ckpt_to_safetensors.py");
    expect_weft(2, "import none.safetensors -c recipe.yaml -o out.safetensors");
    expect_said("none.safetensors: cannot open");
    expect_weft(2, "import recipe.yaml -c recipe.yaml -o out.safetensors");
    expect_said("not a safetensors file");
    expect_weft(2, "import model.safetensors -o out.safetensors");
    expect_said("--config RECIPE is needed");
    expect_weft(2, "import");
    expect_weft(2, "export run -o out.safetensors --ema");
    expect_said("holds no 'ema'; the recipe's optimizer.ema_decay is 0");
    expect_weft(2, "export run -o out.pt");
    expect_said("must end in .safetensors");
    expect_weft(2, "export . -o out.safetensors");
    expect_said("no checkpoint (step-*.h5) there");
    expect_weft(2, "export");
    expect_said("which checkpoint?");
    expect_weft(2, "export run --emma");
    expect_said("no option --emma");
}

/* With --example FOLDER: leaves a recipe and a run there, for test_safetensors.py. */
int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--example") == 0) {
        snprintf(folder, sizeof folder, "%s", argv[2]);
        make_run();
        end_run();
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_export, setup, teardown),
        cmocka_unit_test_setup_teardown(test_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_backbones, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
