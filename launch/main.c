/* weft: the program. One subcommand a row; each lives in a file of its own. */
#include <stdio.h>

int main(void)
{
    puts("weft");
    return 0;
}
