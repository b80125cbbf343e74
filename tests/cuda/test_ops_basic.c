/* The cases of tests/runtime/ops/test_ops_basic.c with the kernels of the CUDA backend. timeout=240
 */
#define CHECK_DEVICE DEVICE_CUDA
#include "tests/runtime/ops/cases_basic.h"
#include "tests/runtime/ops/op_check.h"

int main(int argc, char **argv)
{
    (void)argc;
    static const struct op_case *const tables[] = {cases_basic};
    static const size_t counts[] = {CASES(cases_basic)};
    return run_cases(argv, "basic", tables, counts, 1);
}
