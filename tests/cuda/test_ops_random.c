/* The cases of tests/runtime/ops/test_ops_random.c with the kernels of the CUDA backend.
 * timeout=240
 */
#define CHECK_DEVICE DEVICE_CUDA
#include "tests/runtime/ops/cases_random.h"
#include "tests/runtime/ops/op_check.h"

int main(int argc, char **argv)
{
    (void)argc;
    static const struct op_case *const tables[] = {cases_random};
    static const size_t counts[] = {CASES(cases_random)};
    return run_cases(argv, "random", tables, counts, 1);
}
