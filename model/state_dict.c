#include "model/state_dict.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/fiber.h"
#include "model/heads.h"

static enum status add(struct state_dict *dict, const char *name, enum safetensors_dtype dtype,
                       struct shape shape, const void *data)
{
    CHECK(name && data, STATUS_NO_MEMORY, "no memory for a state dict");
    if (dict->count % 256 == 0) {
        struct safetensors_tensor *larger =
            realloc(dict->tensors, (size_t)(dict->count + 256) * sizeof *larger);
        CHECK(larger, STATUS_NO_MEMORY, "no memory for a state dict");
        dict->tensors = larger;
    }
    dict->tensors[dict->count++] = (struct safetensors_tensor){name, dtype, shape, data};
    return STATUS_OK;
}

/* ---- parameters ---- */

/* A parameter's values; those of a copy (rank_output) come from what it is a copy of. */
static const float *values_of(const struct checkpoint_parameter *parameter,
                              const struct checkpoint_parameter *parameters, int64_t num_parameters,
                              const float *vector)
{
    const char *source;
    int64_t row;
    if (!head_alias(parameter->name, &source, &row)) return vector + parameter->offset;
    for (int64_t i = 0; i < num_parameters; i++) {
        if (strcmp(parameters[i].name, source) == 0) {
            return vector + parameters[i].offset + row * parameter->count;
        }
    }
    return vector + parameter->offset;
}

/* ---- Swin's buffers ---- */

/* Row of the table of relative positions for tokens a and b of a window. */
static void fill_relative_index(int64_t *index, int64_t window)
{
    int64_t tokens = window * window;
    for (int64_t a = 0; a < tokens; a++) {
        for (int64_t b = 0; b < tokens; b++) {
            int64_t dy = a / window - b / window + window - 1;
            int64_t dx = a % window - b % window + window - 1;
            index[a * tokens + b] = dy * (2 * window - 1) + dx;
        }
    }
}

/* Which of the three bands, that must not see each other, a rolled coordinate lies in. */
static int64_t band(int64_t at, int64_t side, int64_t window, int64_t shift)
{
    return at < side - window ? 0 : at < side - shift ? 1 : 2;
}

/* -100 between tokens that are neighbours only because the picture was rolled. */
static void fill_mask(float *mask, int64_t side, int64_t window, int64_t shift)
{
    int64_t tokens = window * window;
    int64_t across = side / window;
    for (int64_t w = 0; w < across * across; w++) {
        int64_t y = w / across * window;
        int64_t x = w % across * window;
        for (int64_t a = 0; a < tokens; a++) {
            for (int64_t b = 0; b < tokens; b++) {
                bool same = band(y + a / window, side, window, shift) ==
                                band(y + b / window, side, window, shift) &&
                            band(x + a % window, side, window, shift) ==
                                band(x + b % window, side, window, shift);
                mask[(w * tokens + a) * tokens + b] = same ? 0.0f : -100.0f;
            }
        }
    }
}

static enum status add_stage(struct state_dict *dict, const struct swin *swin, int64_t stage)
{
    int64_t side = swin_resolution(swin, stage);
    int64_t window = swin->window < side ? swin->window : side;
    int64_t tokens = window * window;
    int64_t windows = (side / window) * (side / window);
    int64_t *index = arena_alloc(&dict->arena, (size_t)(tokens * tokens) * sizeof *index);
    float *mask = NULL;
    CHECK(index, STATUS_NO_MEMORY, "no memory for a state dict");
    fill_relative_index(index, window);
    if (side > window) {
        mask = arena_alloc(&dict->arena, (size_t)(windows * tokens * tokens) * sizeof *mask);
        CHECK(mask, STATUS_NO_MEMORY, "no memory for a state dict");
        fill_mask(mask, side, window, window / 2);
    }
    for (int64_t b = 0; b < swin->depths[stage]; b++) {
        char block[80];
        snprintf(block, sizeof block, "vit_model.layers.%lld.blocks.%lld", (long long)stage,
                 (long long)b);
        TRY(add(dict, arena_printf(&dict->arena, "%s.attn.relative_position_index", block),
                SAFETENSORS_I64, SHAPE(tokens, tokens), index));
        if (b % 2 == 0 || !mask) continue;
        TRY(add(dict, arena_printf(&dict->arena, "%s.attn_mask", block), SAFETENSORS_F32,
                SHAPE(windows, tokens, tokens), mask));
    }
    return STATUS_OK;
}

static enum status add_fiber_buffers(struct state_dict *dict, const struct fiber_config *config)
{
    struct swin swin = fiber_swin(config);
    for (int64_t stage = 0; stage < SWIN_STAGES; stage++) {
        TRY(add_stage(dict, &swin, stage));
    }
    int64_t *ids = arena_alloc(&dict->arena, (size_t)config->positions * sizeof *ids);
    CHECK(ids, STATUS_NO_MEMORY, "no memory for a state dict");
    for (int64_t i = 0; i < config->positions; i++) {
        ids[i] = i;
    }
    return add(dict, "text_transformer.embeddings.position_ids", SAFETENSORS_I64,
               SHAPE(1, config->positions), ids);
}

/* ---- all of it ---- */

enum status state_dict_init(struct state_dict *dict, const struct config_variant *choice,
                            const struct checkpoint_parameter *parameters, int64_t num_parameters,
                            const float *vector)
{
    memset(dict, 0, sizeof *dict);
    enum status status = STATUS_OK;
    for (int64_t i = 0; i < num_parameters && status == STATUS_OK; i++) {
        status = add(dict, parameters[i].name, SAFETENSORS_F32, parameters[i].shape,
                     values_of(&parameters[i], parameters, num_parameters, vector));
    }
    if (status == STATUS_OK && choice->table == &fiber_table) {
        status = add_fiber_buffers(dict, choice->value);
    }
    if (status != STATUS_OK) state_dict_fini(dict);
    return status;
}

void state_dict_fini(struct state_dict *dict)
{
    free(dict->tensors);
    arena_fini(&dict->arena);
    memset(dict, 0, sizeof *dict);
}
