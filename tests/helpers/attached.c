/* Says, in the file that its first argument names, how it is attached to a console, what its
   standard handles are, and whether it is in the console of the process that its second argument
   names. With a third, prints a line and waits. */
#include <stdio.h>
#include <stdlib.h>
#include <windows.h>

int main(int argc, char **argv) {
    static const DWORD streams[] = {STD_INPUT_HANDLE, STD_OUTPUT_HANDLE, STD_ERROR_HANDLE};
    static const char *const kinds[] = {"other", "file", "device", "pipe"};
    DWORD pids[64], mode, together = 0, parent = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    FILE *file = fopen(argv[1], "w");
    DWORD count = GetConsoleProcessList(pids, 64);
    if (file == NULL)
        return 1;
    for (DWORD i = 0; i < count && i < 64; i++)
        together |= pids[i] == parent;
    fprintf(file, "%s", !count ? "no console" : together ? "its parent's console" : "another console");
    for (int i = 0; i < 3; i++) {
        HANDLE handle = GetStdHandle(streams[i]);
        DWORD kind = GetFileType(handle);
        fprintf(file, ", %s", handle == NULL || handle == INVALID_HANDLE_VALUE ? "none"
                              : GetConsoleMode(handle, &mode)                  ? "console"
                              : kind < 4                                       ? kinds[kind]
                                                                               : "other");
    }
    if (fclose(file))
        return 1;
    if (argc > 3) {
        puts("waits");
        fflush(stdout);
        Sleep(20000);
    }
    return 0;
}
