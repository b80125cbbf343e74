/* The cases of tests/runtime/ops/test_ops_norm.c with the kernels of the CUDA backend. timeout=240
 */
#define CHECK_DEVICE DEVICE_CUDA
#include "tests/runtime/ops/cases_norm.h"
#include "tests/runtime/ops/op_check.h"

int main(int argc, char **argv)
{
    (void)argc;
    static const struct op_case *const tables[] = {cases_norm};
    static const size_t counts[] = {CASES(cases_norm)};
    return run_cases(argv, "norm", tables, counts, 1);
}
