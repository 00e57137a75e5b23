/* An independent child that knows nothing of noinherit, of any bitness. Prints, a line each, what it
   holds: "fd NUMBER IDENTITY" for each descriptor of the C runtime, "handle IDENTITY" for each
   inheritable handle (what a parent passed on is, and what a process opens is not). The identity of
   a file is its index; that of a pipe is what can be read from it, which it leaves there. */
#include <io.h>
#include <stdint.h>
#include <stdio.h>
#include <windows.h>

static void identify(char *text, HANDLE handle) {
    BY_HANDLE_FILE_INFORMATION file;
    DWORD length = 0;
    switch (GetFileType(handle)) {
    case FILE_TYPE_DISK:
        if (GetFileInformationByHandle(handle, &file)) {
            sprintf(text, "%llu",
                    (unsigned long long)file.nFileIndexHigh << 32 | file.nFileIndexLow);
            return;
        }
        break;
    case FILE_TYPE_PIPE:
        if (PeekNamedPipe(handle, text, 30, &length, NULL, NULL) && length) {
            text[length] = 0;
            return;
        }
        strcpy(text, "pipe");
        return;
    case FILE_TYPE_CHAR:
        strcpy(text, "device");
        return;
    }
    strcpy(text, "other");
}

int main(void) {
    char text[40];
    DWORD flags;
    for (int number = 0; number < 256; number++) {
        intptr_t handle = _get_osfhandle(number);
        if (handle != -1 && handle != -2) {
            identify(text, (HANDLE)handle);
            printf("fd %d %s\n", number, text);
        }
    }
    /* Handles are multiples of four, the lowest ones that are free. */
    for (intptr_t value = 4; value < 0x4000; value += 4)
        if (GetHandleInformation((HANDLE)value, &flags) && flags & HANDLE_FLAG_INHERIT) {
            identify(text, (HANDLE)value);
            printf("handle %s\n", text);
        }
    return 0;
}
