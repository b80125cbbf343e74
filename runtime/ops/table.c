/* The table of all ops, from ops.def. */
#include <string.h>

#include "runtime/graph/op.h"

#define OP(name) extern const struct op op_row_##name;
#include "runtime/ops/ops.def"
#undef OP

static const struct op *const table[] = {
#define OP(name) &op_row_##name,
#include "runtime/ops/ops.def"
#undef OP
};

int op_count(void)
{
    return (int)(sizeof table / sizeof table[0]);
}

const struct op *op_at(int index)
{
    return table[index];
}

const struct op *op_find(const char *name)
{
    for (int i = 0; i < op_count(); i++) {
        if (strcmp(table[i]->name, name) == 0) return table[i];
    }
    return NULL;
}
