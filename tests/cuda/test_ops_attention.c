/* The attention cases of tests/runtime/ops/test_ops_random.c with the kernels of the CUDA backend.
 * timeout=240 */
#define CHECK_DEVICE DEVICE_CUDA
#include "tests/runtime/ops/cases_random.h"
#include "tests/runtime/ops/op_check.h"

int main(int argc, char **argv)
{
    (void)argc;
    /* They are the last of the table. */
    const struct op_case *first = cases_random;
    while (first->build != attention_build) {
        first++;
    }
    const struct op_case *const tables[] = {first};
    const size_t counts[] = {CASES(cases_random) - (size_t)(first - cases_random)};
    return run_cases(argv, "attention", tables, counts, 1);
}
