/*
 * VQAv2: what counts as the same answer.
 */
#ifndef WEFT_DATA_IMPORT_VQA_TEXT_H
#define WEFT_DATA_IMPORT_VQA_TEXT_H

#include <stdint.h>

#include "runtime/base/strbuf.h"

/*
 * Appends the answer in the form in which the VQA evaluation compares answers: lower case, no
 * punctuation, no articles, numbers up to ten as digits, apostrophes put back into contractions
 * ("Dont" -> "don't"). The same results as the public evaluation code, odd ones included: a comma
 * between digits makes all punctuation vanish instead of becoming spaces. Errors show in
 * out->failed.
 */
void vqa_normalise(const char *text, int64_t length, struct strbuf *out);

/* The soft score of an answer that `count` of the ten people gave: 0, 0.3, 0.6, 0.9, 1. */
float vqa_score(int64_t count);

#endif
