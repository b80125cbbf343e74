#if defined(__x86_64__)
#define ATTENTION_UNIT_BF16
#define ATTENTION_KERNELS attention_avx512bf16
#include "runtime/ops/attention_item.h"
#else
/* x86 only */
typedef int attention_avx512bf16_is_for_x86;
#endif
