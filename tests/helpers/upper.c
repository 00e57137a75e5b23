/* A program of the C runtime: writes in capitals what it reads, to its end, from the descriptor or,
   after "handle", the handle that its last argument names; without arguments, from 0. */
#include <ctype.h>
#include <fcntl.h>
#include <io.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    char text[4096];
    int length, from = argc > 1 ? atoi(argv[argc - 1]) : 0;
    if (argc > 2 && !strcmp(argv[1], "handle"))
        from = _open_osfhandle((intptr_t)strtoull(argv[2], NULL, 0), _O_RDONLY);
    _setmode(1, _O_BINARY);
    while ((length = _read(from, text, sizeof text)) > 0) {
        for (int i = 0; i < length; i++)
            text[i] = (char)toupper((unsigned char)text[i]);
        if (_write(1, text, length) != length)
            return 2;
    }
    return length != 0;
}
