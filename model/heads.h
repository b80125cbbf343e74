/* Heads on top of a family's outputs: transforms, poolers, masked-LM and matching classifiers.
 * Matrices start from a normal distribution of standard deviation `std`, biases from zero. */
#ifndef WEFT_MODEL_HEADS_H
#define WEFT_MODEL_HEADS_H

#include "model/layers.h"

/* Linear D -> D and tanh; parameters NAME.dense.{weight,bias}. */
struct tensor *head_pooler(struct graph *g, const char *name, struct tensor *x, float std);

/*
 * Masked-LM scores of rows x [N,D] -> [N,vocab]: linear, GELU, LayerNorm (eps 1e-12), decoder with
 * a separate bias. The decoder is not tied to the word embeddings. Parameters mlm_score.*.
 */
struct tensor *head_mlm(struct graph *g, struct tensor *x, int64_t vocab, float std);

/*
 * Matching scores of pairs cls [N,2D] -> [N,2]; class 1 is a match. Parameters itm_score.fc.*, and
 * rank_output.*, which the public code makes a view of row 1 of them: weights written for others
 * hold that row, weights read from others lose it (head_alias).
 */
struct tensor *head_itm(struct graph *g, struct tensor *cls, float std);

/* Whether the parameter is a stored copy of a row of another one: *source and *row then say which.
 */
bool head_alias(const char *name, const char **source, int64_t *row);

#endif
