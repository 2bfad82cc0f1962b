/* sem_clockwait by sem_timedwait, for ThreadSanitizer: libtsan of GCC 12 knows the second one only, and would not see
   that who waits for a lock of Python with a time limit reads what its holder wrote before. Loaded by tools/sanitize.py. */
#define _GNU_SOURCE
#include <semaphore.h>
#include <time.h>

int sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *until)
{
    struct timespec now, wall;
    clock_gettime(clock, &now);
    clock_gettime(CLOCK_REALTIME, &wall);
    long long nanoseconds = (until->tv_sec - now.tv_sec) * 1000000000LL + until->tv_nsec - now.tv_nsec;
    nanoseconds += wall.tv_nsec;
    if (nanoseconds < 0)
        nanoseconds = 0;
    wall.tv_sec += nanoseconds / 1000000000;
    wall.tv_nsec = nanoseconds % 1000000000;
    return sem_timedwait(semaphore, &wall);
}
