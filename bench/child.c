/* The program that is started: it ends at once, or after argv[1] milliseconds, and tells when. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int main(int argc, char **argv)
{
    if (argc > 1) {
        long milliseconds = atol(argv[1]);
        struct timespec wait = {milliseconds / 1000, milliseconds % 1000 * 1000000}, now;
        nanosleep(&wait, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
        printf("%.9f\n", now.tv_sec + now.tv_nsec / 1e9);
    }
    return 0;
}
