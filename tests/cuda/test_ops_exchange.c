/* The cases of tests/runtime/ops/test_ops_exchange.c between GPUs.   np=2,3 timeout=180 */
#define CHECK_DEVICE DEVICE_CUDA
#include "tests/runtime/ops/test_ops_exchange.c"
