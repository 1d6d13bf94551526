/* init.c: fills the table's slots with the cpu back end's versions, over those of ref. */
#include "compute/device.h"

void ops_init_cpu(ops *t, unsigned cpu_flags)
{
    (void)t;
    (void)cpu_flags;
}

void cpu_library(char *text, size_t size)
{
    if (size)
        text[0] = 0;
}
