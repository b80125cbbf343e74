#if defined(__x86_64__)
#define ATTENTION_KERNELS attention_avx2
#include "runtime/ops/attention_item.h"
#else
/* x86 only */
typedef int attention_avx2_is_for_x86;
#endif
