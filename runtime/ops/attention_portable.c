/* Attention for any processor: the same code on vectors of four floats. */
#define ATTENTION_KERNELS attention_portable
#include "runtime/ops/attention_item.h"
