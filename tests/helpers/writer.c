/* A program that knows nothing of noinherit: writes to the descriptor 5 it was started with. */
#include <io.h>

int main(void) { return _write(5, "written to 5", 12) == 12 ? 0 : 1; }
