/*
 * mlxr: the program; a table of verbs.
 * Owner: the process. Lifetime: the process.
 */
#include <stdio.h>

#include "mlxr.h"

int main(void)
{
    printf("mlxr %s\n", mlxr_version());
    return 0;
}
