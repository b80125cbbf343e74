/* The cases of tests/runtime/ops/test_ops_collective.c between GPUs.   np=1,2,3 timeout=120 */
#define CHECK_DEVICE DEVICE_CUDA
#include "tests/runtime/ops/test_ops_collective.c"
