/* Moving elements, sums and broadcasts against f64.   timeout=60 */
#include "tests/runtime/ops/cases_shape.h"
#include "tests/runtime/ops/op_check.h"

int main(int argc, char **argv)
{
    (void)argc;
    static const struct op_case *const tables[] = {cases_shape};
    static const size_t counts[] = {CASES(cases_shape)};
    return run_cases(argv, "shape", tables, counts, 1);
}
