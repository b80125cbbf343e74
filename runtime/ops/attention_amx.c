#if defined(__x86_64__)
#define ATTENTION_KERNELS attention_amx
#define ATTENTION_UNIT_BF16
#define ATTENTION_AMX
#include "runtime/ops/attention_item.h"
#else
/* x86 only */
typedef int attention_amx_is_for_x86;
#endif
