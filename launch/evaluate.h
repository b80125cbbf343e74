/* Retrieval on held-out sets, during training and by `weft eval`. */
#ifndef WEFT_LAUNCH_EVALUATE_H
#define WEFT_LAUNCH_EVALUATE_H

#include "launch/trainer.h"

/*
 * Evaluates the parameters of `trainer` on its data.eval_sets: recall of text and image retrieval
 * by dual features, then with the first candidates scored again as pairs, and matching accuracy.
 * Logs, and writes RUN/eval/step-%08d.json with examples. Collective.
 */
enum status evaluate_run(struct trainer *trainer);

#endif
