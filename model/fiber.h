/*
 * FIBER (Dou et al., "Coarse-to-Fine Vision-Language Pre-training with Fusion in the Backbone",
 * NeurIPS 2022): a Swin image tower and a RoBERTa text tower whose last blocks attend to each other
 * through gates that start at zero.
 */
#ifndef WEFT_MODEL_FIBER_H
#define WEFT_MODEL_FIBER_H

#include "model/model.h"
#include "model/swin.h"

struct fiber_config {
    int64_t image_size;
    int64_t patch_size;
    int64_t embed_dim;
    CONFIG_LIST_OF(int64_t) depths;
    CONFIG_LIST_OF(int64_t) heads;
    int64_t window;
    int64_t text_layers;
    int64_t hidden;
    int64_t text_heads;
    int64_t ffn;
    int64_t vocab;
    int64_t max_text_len;
    int64_t positions;
    int64_t num_fuse;
    double dropout;
    double init_std;
    double gate_init;
    double drop_path;
};

/* Sizes of the image tower, as for evaluation. */
struct swin fiber_swin(const struct fiber_config *config);

extern const struct config_table fiber_table;
extern const struct model_family fiber_family;

#endif
