/* A program that knows nothing of noinherit: writes to the descriptors whose numbers are its
   arguments, and says how wide its pointers are. Without arguments, it only does the latter. */
#include <io.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    int length, failed = 0;
    char text[40];
    for (int i = 1; i < argc; i++) {
        length = sprintf(text, "written to %d", atoi(argv[i]));
        failed |= _write(atoi(argv[i]), text, length) != length;
    }
    printf("%d", (int)sizeof(void *));
    return failed;
}
