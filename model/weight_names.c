#include "model/weight_names.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A row: names that begin with `from` begin with `to` here; to NULL: dropped. First match counts.
 */
struct rule {
    const char *from;
    const char *to;
};

/* Swin and RoBERTa of the public FIBER code, as patterns: what is computed, not trained, and the
 * queues, whose contents belong to a run. */
static const char *const dropped[] = {
    "*.relative_position_index",
    "*.attn_mask",
    "*.position_ids",
    "*.token_type_ids",
    "image_queue",
    "text_queue",
    "image_input_queue",
    "text_input_queue",
    "text_input_mask_queue",
    "queue_ptr*",
    "queue_total*",
};

static const struct rule roberta_rules[] = {
    {"lm_head.", NULL},
    {"classifier.", NULL},
    {"qa_outputs.", NULL},
    {"roberta.", "text_transformer."},
    {"embeddings.", "text_transformer.embeddings."},
    {"encoder.", "text_transformer.encoder."},
    {"pooler.", "text_transformer.pooler."},
    {NULL, NULL},
};

static const struct rule swin_rules[] = {
    {"head.", NULL},
    {"patch_embed.", "vit_model.patch_embed."},
    {"layers.", "vit_model.layers."},
    {"norm.", "vit_model.norm."},
    {NULL, NULL},
};

static const struct rule reference_rules[] = {{NULL, NULL}};

static const struct {
    const char *title;
    const struct rule *rules;
} schemes[WEIGHT_NAMES_COUNT] = {
    [WEIGHT_NAMES_REFERENCE] = {"FIBER", reference_rules},
    [WEIGHT_NAMES_ROBERTA] = {"Hugging Face RoBERTa", roberta_rules},
    [WEIGHT_NAMES_SWIN] = {"Swin, merging at the end of a stage", swin_rules},
    [WEIGHT_NAMES_SWIN_MERGE_FIRST] = {"timm Swin, merging at the start of a stage", swin_rules},
};

const char *weight_names_title(enum weight_names_scheme scheme)
{
    return schemes[scheme].title;
}

static bool begins_with(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

enum weight_names_scheme weight_names_detect(const char *const *names, int64_t count)
{
    bool is_roberta = false;
    bool is_swin = false;
    bool merges_in_first_stage = false;
    for (int64_t i = 0; i < count; i++) {
        const char *name = names[i];
        if (begins_with(name, "vit_model.") || begins_with(name, "text_transformer.")) {
            return WEIGHT_NAMES_REFERENCE;
        }
        is_roberta = is_roberta || begins_with(name, "roberta.encoder.") ||
                     begins_with(name, "encoder.layer.");
        is_swin = is_swin || begins_with(name, "patch_embed.proj.");
        merges_in_first_stage = merges_in_first_stage || begins_with(name, "layers.0.downsample.");
    }
    if (is_roberta) return WEIGHT_NAMES_ROBERTA;
    if (!is_swin) return WEIGHT_NAMES_REFERENCE;
    return merges_in_first_stage ? WEIGHT_NAMES_SWIN : WEIGHT_NAMES_SWIN_MERGE_FIRST;
}

/* "layers.2.downsample.x" -> "layers.1.downsample.x": the same merging, told from its other side.
 */
static void move_merging(const char *name, char *moved, size_t size)
{
    int64_t stage;
    int end = 0;
    if (sscanf(name, "layers.%" SCNd64 ".downsample.%n", &stage, &end) == 1 && end > 0 &&
        stage > 0) {
        snprintf(moved, size, "layers.%" PRId64 ".downsample.%s", stage - 1, name + end);
    } else {
        snprintf(moved, size, "%s", name);
    }
}

bool weight_names_map(enum weight_names_scheme scheme, const char *name, char *ours, size_t size)
{
    char moved[512];
    for (size_t i = 0; i < sizeof dropped / sizeof dropped[0]; i++) {
        if (string_matches(name, dropped[i])) return false;
    }
    snprintf(moved, sizeof moved, "%s", name);
    if (scheme == WEIGHT_NAMES_SWIN_MERGE_FIRST) move_merging(name, moved, sizeof moved);
    for (const struct rule *rule = schemes[scheme].rules; rule->from; rule++) {
        if (!begins_with(moved, rule->from)) continue;
        if (!rule->to) return false;
        snprintf(ours, size, "%s%s", rule->to, moved + strlen(rule->from));
        return true;
    }
    snprintf(ours, size, "%s", moved);
    return true;
}

static enum status apply_to_file(struct weights *weights, int64_t begin, int64_t end)
{
    const char **names = calloc((size_t)(end - begin), sizeof *names);
    CHECK(names, STATUS_NO_MEMORY, "no memory for names of weights");
    for (int64_t i = begin; i < end; i++) {
        names[i - begin] = weights_at(weights, i)->original;
    }
    enum weight_names_scheme scheme = weight_names_detect(names, end - begin);
    free(names);
    for (int64_t i = begin; i < end; i++) {
        char ours[512];
        bool takes = weight_names_map(scheme, weights_at(weights, i)->original, ours, sizeof ours);
        TRY(weights_rename(weights, i, takes ? ours : NULL));
    }
    return STATUS_OK;
}

enum status weight_names_apply(struct weights *weights)
{
    int64_t count = weights_count(weights);
    int64_t begin = 0;
    for (int64_t i = 1; i <= count; i++) {
        /* The path is one string per file. */
        if (i < count && weights_at(weights, i)->path == weights_at(weights, begin)->path) continue;
        TRY(apply_to_file(weights, begin, i));
        begin = i;
    }
    return STATUS_OK;
}
