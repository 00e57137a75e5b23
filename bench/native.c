/* What the kernel and libc take: one posix_spawn and its wait, in the process of whoever loads it,
 * and so with the same memory and the same descriptors. */
#define _GNU_SOURCE
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

enum { DUP2, CLOSE, CLOSEFROM };

/* Returns the seconds it took to carry out count actions, three numbers each, and to wait for the
 * child; -1 for an error. */
double spawn_and_wait(char *const argv[], int count, const int *action)
{
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);

    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t restored;
    pid_t pid;
    int status;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    for (; count--; action += 3)
        switch (action[0]) {
        case DUP2: posix_spawn_file_actions_adddup2(&actions, action[1], action[2]); break;
        case CLOSE: posix_spawn_file_actions_addclose(&actions, action[1]); break;
        case CLOSEFROM: posix_spawn_file_actions_addclosefrom_np(&actions, action[1]); break;
        }
    sigemptyset(&restored);
    sigaddset(&restored, SIGPIPE);
    sigaddset(&restored, SIGXFSZ);
    posix_spawnattr_setsigdefault(&attributes, &restored);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    if (posix_spawn(&pid, argv[0], &actions, &attributes, argv, environ) ||
        waitpid(pid, &status, 0) != pid || status)
        return -1;
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);

    clock_gettime(CLOCK_MONOTONIC, &after);
    return after.tv_sec - before.tv_sec + (after.tv_nsec - before.tv_nsec) / 1e9;
}
