/* The cases of tests/runtime/ops/test_ops_random.c with the kernels of the CUDA backend; those of
 * attention are test_ops_attention.c.   timeout=240 */
#define CHECK_DEVICE DEVICE_CUDA
#include "tests/runtime/ops/cases_random.h"
#include "tests/runtime/ops/op_check.h"

int main(int argc, char **argv)
{
    (void)argc;
    /* Attention is the last of the table. */
    size_t count = 0;
    while (cases_random[count].build != attention_build) {
        count++;
    }
    const struct op_case *const tables[] = {cases_random};
    const size_t counts[] = {count};
    return run_cases(argv, "random", tables, counts, 1);
}
