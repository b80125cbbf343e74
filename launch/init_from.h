/* train.init_from: the weights a new run starts from. */
#ifndef WEFT_LAUNCH_INIT_FROM_H
#define WEFT_LAUNCH_INIT_FROM_H

#include "launch/train_config.h"
#include "runtime/checkpoint/checkpoint.h"

struct comm;

/*
 * Loads train->init_from (a safetensors file with our names or other programs', a checkpoint or a
 * run, whose moving average is taken when it has one) into `vector` [elements], laid out as
 * `parameters` say; what is missing and allowed keeps its values. Rank 0 reads and says what
 * was loaded, resized, missing and unused; the others get the result. Collective. Errors, the same
 * on all ranks: those of weights_load.
 */
enum status init_from_load(const struct train_section *train,
                           const struct checkpoint_parameter *parameters, int64_t num_parameters,
                           float *vector, int64_t elements, struct comm *comm);

#endif
