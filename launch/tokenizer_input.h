/*
 * Texts to train a tokenizer on, from any of the forms they come in.
 */
#ifndef WEFT_LAUNCH_TOKENIZER_INPUT_H
#define WEFT_LAUNCH_TOKENIZER_INPUT_H

#include "data/tokenizer/train.h"
#include "runtime/base/status.h"

/*
 * Adds the texts of `paths` to the trainer:
 *   *.h5             packed sets (quoted globs too): every caption, question, statement, expression
 *   *.jsonl, *.json  JSON lines: the text, or list of texts, under the key `field` of each object
 *   all others       one text a line; "-" is standard input
 * Errors name the file and the line or row; what was added before stays.
 */
enum status tokenizer_input_add(struct bpe_trainer *trainer, const char *const *paths,
                                int num_paths, const char *field);

#endif
