#if defined(__x86_64__)
#define ATTENTION_KERNELS attention_avx512
#include "runtime/ops/attention_item.h"
#else
/* x86 only */
typedef int attention_avx512_is_for_x86;
#endif
