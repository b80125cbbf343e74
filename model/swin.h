/*
 * Swin Transformer (Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted
 * Windows", ICCV 2021) with FIBER's optional image-to-text attention inside a block.
 *
 * Tokens stay in image order, [B,Y,X,C]: rolling, windows, the shift mask and the way back are
 * index arithmetic of the attention op. Parameter names are those of the public code.
 */
#ifndef WEFT_MODEL_SWIN_H
#define WEFT_MODEL_SWIN_H

#include "model/layers.h"

enum { SWIN_STAGES = 4 };

struct swin {
    int64_t image_size; /* pixels, square */
    int64_t patch_size;
    int64_t embed_dim;
    int64_t depths[SWIN_STAGES];
    int64_t heads[SWIN_STAGES];
    int64_t window;  /* tokens */
    float init_std;  /* of matrices and tables: truncated normal */
    float drop_path; /* rate of the last block; linear from 0 */
    float gate_init; /* of alpha_i2t */
    int64_t samples; /* see op_dropout */
};

/* Blocks are numbered through all stages: 0 .. swin_num_blocks - 1. */
int64_t swin_num_blocks(const struct swin *swin);
void swin_locate(const struct swin *swin, int64_t block, int64_t *stage, int64_t *index);
int64_t swin_width(const struct swin *swin, int64_t stage);      /* channels */
int64_t swin_resolution(const struct swin *swin, int64_t stage); /* tokens a side */

/* Refuses sizes that do not divide, with a message that names them; *key receives the name of the
 * field to blame. */
enum status swin_check(const struct swin *swin, const char **key);

/* What a block attends to when it is fused: hidden [B,L,D] and mask i32 [B,L] of as many texts as
 * images. */
struct swin_text {
    struct tensor *hidden;
    struct tensor *mask;
};

/* Pixels float [B,3,S,S] -> tokens [B,Y,X,embed_dim]. Under the module `patch_embed`. */
struct tensor *swin_embed(struct graph *g, const struct swin *swin, struct tensor *pixels);

/* Block `block` of tokens x [B,Y,X,C]; `text` NULL: image alone. */
struct tensor *swin_block(struct graph *g, const struct swin *swin, int64_t block, struct tensor *x,
                          const struct swin_text *text);

/* Patch merging if `block` is the last one of a stage that has a next one; x itself otherwise. */
struct tensor *swin_downsample_after(struct graph *g, const struct swin *swin, int64_t block,
                                     struct tensor *x);

#endif
