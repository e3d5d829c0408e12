/*
 * Names of nodes for profiles: what operations of the plan each one does.
 * Owner: the program's region. Lifetime: the program's.
 */
#include <string.h>

#include "kernels/cpu/program.h"
#include "kernels/plan_check.h"

/* A matrix is known by what it makes of what. */
static const char *matrix_name(const op *o)
{
    switch (o->dst) {
    case SLOT_Q:
        return "q";
    case SLOT_K:
        return "k";
    case SLOT_V:
        return "v";
    case SLOT_G:
        return "gate";
    case SLOT_U:
        return "up";
    case SLOT_LOGITS:
        return "logits";
    default:
        return o->src == SLOT_A ? "o" : o->src == SLOT_G ? "down" : "linear";
    }
}

static const char *op_name(const op *o)
{
    return o->kind == OP_LINEAR ? matrix_name(o) : plan_kind_name(o->kind);
}

bool program_label(program *prog, node *n, const op *ops, uint32_t n_ops)
{
    char label[128] = "";
    size_t length = 0;
    for (uint32_t i = 0; i < n_ops; i++) {
        const char *name = op_name(&ops[i]);
        size_t more = strlen(name);
        if (length + 1 + more >= sizeof label) {
            break;
        }
        if (i > 0) {
            label[length++] = '+';
        }
        memcpy(label + length, name, more + 1);
        length += more;
    }
    for (const node *other = n; other-- > prog->nodes;) { /* most layers are alike */
        if (strcmp(other->label, label) == 0) {
            n->label = other->label;
            return true;
        }
    }
    char *copy = region_array(&prog->memory, length + 1, 1);
    if (copy) {
        memcpy(copy, label, length + 1);
        n->label = copy;
    }
    return copy != NULL;
}
